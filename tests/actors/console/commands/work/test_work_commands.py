"""`duramen unfinished`, `answer`, `retry`, `cancel` and `reminders`, beside the process that runs the agent."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from attrs import frozen

from command_line import Duramen
from duramen.actors import Agent, AgentSystem
from duramen.events import EventRegistry, WorkStopped, message_type
from waiting import eventually

REGISTRY = EventRegistry()


@message_type("console_refund", durable=True, registry=REGISTRY)
@frozen
class Refund:
    order: str


class Support(Agent):
    waits_for = "approval"

    async def on_receive(self, message: Any) -> Any:
        return await self.wait_for(type(self).waits_for, about=message.order)


def open_with(data_dir: Path, waits_for: str) -> AgentSystem:
    """Open the store with a handler that waits for an answer of this name."""
    kinds = {"support": type("Support", (Support,), {"waits_for": waits_for})}
    return AgentSystem.open(data_dir=data_dir, registry=REGISTRY, agents=kinds)


@pytest.fixture
def system(data_dir: Path) -> Iterator[AgentSystem]:
    """The process that runs acme/support and acme/other, on the store that the command uses."""
    with open_with(data_dir, "approval") as system:
        for name in ("support", "other"):
            system.spawn(f"acme/{name}", agent_type="support")
        yield system


def refund(system: AgentSystem, name: str = "support") -> int:
    """The seq of a message that waits for its answer."""
    receipt = system.agent(f"acme/{name}").send(Refund("o-17"))
    eventually(lambda: [each.waits_for for each in system.unfinished() if each.work == receipt.seq])
    return receipt.seq


def test_what_is_unfinished_is_listed_with_what_it_waits_for(duramen: Duramen, system: AgentSystem) -> None:
    assert duramen("unfinished").out.strip() == "nothing is unfinished"
    first, other = refund(system), refund(system, "other")
    rows = duramen("unfinished", "--json").data
    assert sorted((row["agent"], row["work"], row["message_type"]) for row in rows) == [
        ("acme/other", other, "console_refund"),
        ("acme/support", first, "console_refund"),
    ]
    [row] = duramen("unfinished", "acme/support", "--json").data
    assert [(item["kind"], item["name"], item["about"]) for item in row["waits_for"]] == [("wait", "approval", "o-17")]
    assert (row["tries"], row["parked"]) == (0, None)
    assert len(duramen("unfinished", "--limit", "1", "--json").data) == 1
    shown = duramen("unfinished", "acme/other").out
    assert "console_refund" in shown
    assert "needs approval" in shown


def test_an_answer_is_given_to_the_work_that_is_named(duramen: Duramen, system: AgentSystem) -> None:
    first, second = refund(system), refund(system)
    ran = duramen("answer", "acme/support", "approval", '{"by": "kim"}', "--work", str(second), "--command-id", "a-1")
    assert (ran.code, ran.err) == (0, "")
    assert "approval is answered" in ran.out
    support = system.agent("acme/support")
    assert support.result(second) == {"by": "kim"}
    again = duramen(
        "answer", "acme/support", "approval", '{"by": "kim"}', "--work", str(second), "--command-id", "a-1", "--json"
    )
    assert again.data["agent"] == "acme/support"
    assert duramen("answer", "acme/support", "approval").code == 0
    assert support.result(first) is None
    assert duramen("answer", "acme/support", "approval", "--work", str(first)).code == 1


@pytest.mark.slow
def test_parked_work_is_shown_and_goes_on_with_the_right_code(duramen: Duramen, data_dir: Path) -> None:
    with open_with(data_dir, "approval") as system:
        system.spawn("acme/support", agent_type="support")
        work = refund(system)
    with open_with(data_dir, "another") as system:
        duramen("answer", "acme/support", "approval", '"yes"')
        eventually(lambda: system.unfinished()[0].parked)
        [row] = duramen("unfinished", "--json").data
        assert row["parked"]["kind"] == "ReplayDiverged"
        assert "parked:" in duramen("unfinished").out
    with open_with(data_dir, "approval") as system:
        assert "goes on" in duramen("retry", "acme/support", str(work)).out
        assert system.agent("acme/support").result(work) == "yes"


def test_cancelled_work_ends(duramen: Duramen, system: AgentSystem) -> None:
    work = refund(system)
    ran = duramen("cancel", "acme/support", str(work), "--seconds", "1")
    assert (ran.code, ran.err) == (0, "")
    with pytest.raises(WorkStopped):
        system.agent("acme/support").result(work)
    assert duramen("cancel", "acme/support", str(work)).code == 2


@pytest.mark.parametrize("words", [["retry", "acme/support", "x"], ["answer", "acme/support", "approval", "{"]])
def test_what_is_no_seq_or_no_json_is_refused(duramen: Duramen, words: list[str]) -> None:
    assert duramen(*words).code == 2


def test_without_a_host_that_has_the_class_an_answer_is_refused(duramen: Duramen, system: AgentSystem) -> None:
    refund(system)
    system.close()
    ran = duramen("answer", "acme/support", "approval")
    assert ran.code == 1
    assert "no host" in ran.err


def test_a_fork_goes_on_with_work_where_it_is_told_to(duramen: Duramen, system: AgentSystem) -> None:
    seq = refund(system)
    assert duramen("fork", "acme/support", "--to", "acme/left").code == 0
    assert duramen("unfinished", "acme/left").out.strip() == "nothing is unfinished"
    carried = ("fork", "acme/support", "--continue-work", "--to", "acme/carried")
    wrong = duramen(*carried, "--instead", 'approval="kim"')  # a wait takes an answer
    assert (wrong.code, "no step or ask 'approval'" in wrong.err) == (2, True)
    assert duramen(*carried, "--instead", "approval").code == 2
    assert duramen(*carried).code == 0
    assert duramen("answer", "acme/carried", "approval", '"kim"').code == 0
    assert system.agent("acme/carried").result(seq) == "kim"
    assert [row["agent"] for row in duramen("unfinished", "--json").data] == ["acme/support"]


MODULE = """
from attrs import frozen
from duramen.actors import Agent
from duramen.events import message_type

@message_type("console_checked", durable=True)
@frozen
class Checked:
    order: str

class Support(Agent):
    async def on_receive(self, message):
        return await self.wait_for("approval", about=message.order)

class Changed(Agent):
    async def on_receive(self, message):
        return await self.wait_for("another")

RIGHT = {"support": Support}
WRONG = {"support": Changed}
"""


@pytest.mark.slow
def test_unfinished_work_is_checked_against_other_code(
    duramen: Duramen, data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "console_checked.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    module = import_module("console_checked")
    try:
        with AgentSystem.open(data_dir=data_dir, agents=module.RIGHT) as system:
            support = system.spawn("acme/support", agent_type="support")
            support.send(module.Checked("o-17"))
            eventually(lambda: support.unfinished()[0].waits_for)
        ran = duramen("check-work", "console_checked:RIGHT")
        assert (ran.code, ran.out.strip()) == (0, "this code carries all unfinished work on")
        ran = duramen("check-work", "console_checked:WRONG", "--json")
        assert (ran.code, [(row["agent"], row["kind"]) for row in ran.data]) == (
            1,
            [("acme/support", "ReplayDiverged")],
        )
        assert "another" in duramen("check-work", "console_checked:WRONG").out
        assert duramen("check-work", "console_checked:MODULE").code == 2
        [work] = duramen("unfinished", "--json").data
        assert work["parked"] is None
    finally:
        sys.modules.pop("console_checked", None)


def test_reminders_are_listed_with_when_they_are_due(duramen: Duramen, system: AgentSystem) -> None:
    assert duramen("reminders").out.strip() == "there are no reminders"
    support, at = system.agent("acme/support"), datetime(2100, 1, 1, 3, tzinfo=UTC)
    support.remind("nightly", Refund("all"), at=at, every=timedelta(days=1))
    system.agent("acme/other").remind("once", Refund("o-17"), at=at)
    rows = {row["name"]: row for row in duramen("reminders", "--json").data}
    assert [(row["agent"], row["every"]) for row in (rows["nightly"], rows["once"])] == [
        ("acme/support", 86_400.0),
        ("acme/other", None),
    ]
    assert rows["nightly"]["due"].startswith("2100-01-01T03:00:00")
    shown = duramen("reminders", "acme/support").out
    assert "nightly" in shown
    assert "console_refund" in shown
    assert "acme/other" not in shown
    assert len(duramen("reminders", "--limit", "1", "--json").data) == 1
