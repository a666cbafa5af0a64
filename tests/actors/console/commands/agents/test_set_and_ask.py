"""`duramen set` and `duramen ask`: changing an agent, and sending it a message of its own."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from command_line import Duramen
from duramen.events.embedded.server import EmbeddedServer

MODULE = """
from attrs import frozen
from duramen.actors import Agent
from duramen.events import message_type

@message_type("console_order", version=3)
@frozen
class Order:
    item: str
    count: int = 1

@message_type("console_return", durable=True)
@frozen
class Return:
    item: str

class Shop(Agent):
    def on_receive(self, message):
        if message.item == "nothing":
            raise LookupError("nothing is not for sale")
        self.append("orders", message.item)
        return {"text": message.item, "order": message, "set": {1}, "text only": "sold"}.get(
            message.item, {"sold": message.item, "total": len(self.get("orders"))}
        )

class Returns(Agent):
    async def on_receive(self, message):
        return {"back": message.item, "by": await self.wait_for("approval")}

AGENTS = {"shop": Shop, "returns": Returns}
NUMBER = 5
"""
ASK = ["ask", "acme/shop", "console_order"]


@pytest.fixture
def shop(duramen: Duramen, data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Duramen]:
    """With a running agent acme/shop, whose class is in a module of the working directory."""
    (tmp_path / "console_shop.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.delitem(sys.modules, "console_shop", raising=False)
    with EmbeddedServer.open(data_dir):
        assert duramen("spawn", "acme/shop", "--agent-type", "shop").code == 0
        yield duramen
    sys.modules.pop("console_shop", None)


# -- set ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "value"), [("1", 1), ('"x"', "x"), ("null", None), ('{"a": [true, 1.5]}', {"a": [True, 1.5]}), ("[]", [])]
)
def test_a_value_is_set_as_json_says(shop: Duramen, text: str, value: Any) -> None:
    ran = shop("set", "acme/shop", "plan/steps", text)
    assert (ran.code, ran.out, ran.err) == (0, "acme/shop: plan/steps is set (seq 2)\n", "")
    assert shop("show", "acme/shop", "plan/steps", "--json").data == value


def test_programs_get_the_receipt_and_a_repeated_command_the_first_one(shop: Duramen) -> None:
    words = ["set", "acme/shop", "goal", "1", "--command-id", "c-1", "--json"]
    first = shop(*words).data
    assert (first["agent"], first["first_seq"], first["seq"]) == ("acme/shop", 2, 2)
    assert len(bytes.fromhex(first["digest"])) == 16
    assert shop(*words).data == first
    assert shop("set", "acme/shop", "goal", "2", "--command-id", "c-1").code == 1


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["acme/shop", "goal", "hello"], 2, "a text needs quotes: '\"hello\"'"),
        (["acme/shop", "goal", "[" * 100_000], 2, "this is not JSON"),
        (["acme/shop", "goal"], 2, "required: JSON"),
        (["acme/shop", "a//b", "1"], 2, "property path"),
        (["nobody", "goal", "1"], 2, "agent path"),
        (["acme/nobody", "goal", "1"], 1, "there is no agent"),
        (["acme/shop", "goal", str(2**64)], 2, "int outside"),
    ],
    ids=lambda value: " ".join(value)[:30] if isinstance(value, list) else "",
)
def test_what_cannot_be_set_is_refused_and_nothing_is_written(
    shop: Duramen, words: list[str], code: int, said: str
) -> None:
    ran = shop("set", *words)
    assert (ran.code, ran.out) == (code, "")
    assert said in ran.err
    assert shop("show", "acme/shop", "--json").data["seq"] == 1


# -- ask ---------------------------------------------------------------------------------------------------------------


def test_a_message_is_made_of_json_and_the_reply_is_printed(shop: Duramen) -> None:
    ran = shop(*ASK, '{"item": "tea"}', "--import", "console_shop:AGENTS")
    assert (ran.code, ran.err) == (0, "")
    assert ran.out == '{\n  "sold": "tea",\n  "total": 1\n}\n'
    assert shop(*ASK, '{"item": "tea"}', "--import", "console_shop:AGENTS", "--json").data == {
        "sold": "tea",
        "total": 2,
    }


@pytest.mark.parametrize(
    ("item", "data"),
    [
        ("text", "text"),
        ("order", {"item": "order", "count": 2}),
        ("set", "<set>"),
        ("text only", "sold"),
    ],
)
def test_a_reply_of_any_kind_is_shown(shop: Duramen, item: str, data: Any) -> None:
    ran = shop(*ASK, f'{{"item": "{item}", "count": 2}}', "--import", "console_shop:AGENTS", "--json")
    assert (ran.code, ran.data) == (0, data)


def test_a_repeated_command_is_handled_once(shop: Duramen) -> None:
    words = [*ASK, '{"item": "tea"}', "--import", "console_shop:AGENTS", "--command-id", "c-1", "--json"]
    assert shop(*words).data == shop(*words).data == {"sold": "tea", "total": 1}


def test_a_command_without_a_reply_says_how_it_is_repeated_and_is_done_once(shop: Duramen) -> None:
    assert shop("spawn", "acme/returns", "--agent-type", "returns").code == 0
    words = ["ask", "acme/returns", "console_return", '{"item": "tea"}', "--import", "console_shop:AGENTS"]
    ran = shop(*words, "--timeout", "0.01")
    assert (ran.code, ran.out) == (3, "")
    told = re.search(r"with (--command-id [-0-9a-f]{36}) does it once$", ran.err)
    assert told is not None, ran.err
    assert shop("answer", "acme/returns", "approval", '"kim"').code == 0
    again = shop(*words, *told[1].split(), "--json")
    assert again.code == 0, again.err
    assert again.data == {"back": "tea", "by": "kim"}
    assert shop("unfinished", "acme/returns", "--json").data == []


def test_a_handler_that_raises_is_exit_code_1_with_its_text(shop: Duramen) -> None:
    ran = shop(*ASK, '{"item": "nothing"}', "--import", "console_shop:AGENTS")
    assert (ran.code, ran.out) == (1, "")
    assert ran.err == "duramen: a handler of acme/shop raised LookupError: nothing is not for sale\n"


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ([*ASK, '{"item": "tea"}', "--import", "console_shop"], 1, "agent type 'shop' of acme/shop is not registered"),
        (["ask", "acme/shop", "no_such", "--import", "console_shop"], 2, "no message type 'no_such' is declared"),
        ([*ASK, "--import", "console_shop"], 2, "does not take the fields"),
        ([*ASK, '{"items": 1}', "--import", "console_shop"], 2, "does not take the fields"),
        ([*ASK, "[1]", "--import", "console_shop"], 2, "are a JSON object, not [1]"),
        ([*ASK, "tea", "--import", "console_shop"], 2, "this is not JSON"),
        ([*ASK, "{}", "--import", "console_shop:NUMBER"], 2, "console_shop:NUMBER is a int"),
        ([*ASK, "{}", "--import", "console_shop:nothing"], 2, "has no 'nothing'"),
        ([*ASK, "{}", "--import", "no_such_module"], 2, "cannot import 'no_such_module'"),
        ([*ASK, "{}", "--timeout", "0"], 2, "number of seconds above 0"),
    ],
    ids=lambda value: " ".join(value)[:60] if isinstance(value, list) else "",
)
def test_what_cannot_be_asked_is_refused_and_nothing_is_written(
    shop: Duramen, words: list[str], code: int, said: str
) -> None:
    ran = shop(*words)
    assert (ran.code, ran.out) == (code, "")
    assert said in ran.err
    assert shop("show", "acme/shop", "--json").data["seq"] == 1
