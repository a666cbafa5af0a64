"""One name has one meaning and one form, in public types and in the console's JSON: those of the page of fields."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Iterable, Iterator
from contextlib import redirect_stdout
from datetime import datetime
from io import StringIO
from pathlib import Path
from typing import Any

import attrs
import pytest

import duramen.actors
import duramen.events
import duramen.projections
from docs.test_reference import all_named
from duramen.actors import Agent, AgentStatus, AgentSystem, Checkpoint
from duramen.actors.commands import Message
from duramen.actors.console import main
from duramen.events import Granularity, NewEvent, message_type
from duramen.events.log import Entry
from duramen.events.model import vocabulary as v
from duramen.events.model.vocabulary import OWN_TYPES
from duramen.projections import AgentState, AgentView, Projection
from waiting import eventually

AGENT = "acme/alice"


@message_type("fields_check", durable=True)
@attrs.frozen
class Check:
    """A durable message."""


class Careful(Agent):
    """Waits for somebody."""

    async def on_receive(self, message: object) -> Any:
        return await self.wait_for("approval", about={"sum": 1}, timeout=3_600)


class Count(Projection[int]):
    version = 1

    def initial(self) -> int:
        return 0

    def apply(self, state: int, event: Any) -> int:
        return state + 1


ROWS = all_named("fields.md")


# -- in Python ---------------------------------------------------------------------------------------------------------


def public_results() -> set[type[Any]]:
    """Public types but for messages, and for the two that the page says are of the stored form."""
    doors = (duramen.actors, duramen.events, duramen.projections)
    found = {getattr(door, name) for door in doors for name in door.__all__} | {Entry}
    return {cls for cls in found - {AgentState, NewEvent} if isinstance(cls, type) and not issubclass(cls, Message)}


def fields_of(cls: type[Any]) -> dict[str, str]:
    """The fields and properties of a class, each with its type as text; one that may be None as it is else."""
    found = {field.name: field.type for field in attrs.fields(cls)} if attrs.has(cls) else {}
    if hasattr(cls, "_fields"):
        found |= {name: cls.__annotations__[name] for name in cls._fields}
    for name in dir(cls):
        value = inspect.getattr_static(cls, name)
        if isinstance(value, property) and value.fget is not None and not name.startswith("_"):
            found[name] = value.fget.__annotations__["return"]
    texts = {name: getattr(kind, "__forward_arg__", kind) for name, kind in found.items()}
    return {name: str(kind).removesuffix(" | None") for name, kind in texts.items()}


def other_forms(cls: type[Any]) -> dict[str, str]:
    """The fields of a class whose type is not that of the page."""
    forms = {name: re.findall(r"`([^`]+)`", row[2]) for name, row in ROWS.items()}
    return {name: kind for name, kind in fields_of(cls).items() if name in forms and not is_a(kind, forms[name])}


def is_a(kind: str, forms: list[str]) -> bool:
    mappings = ("ReadOnlyDict", "dict[str, Any]")
    return kind in forms or (kind in mappings and "Mapping[str, Any]" in forms)


EXCEPT = {
    ("Blame", "path"): "a property path: a value's origin is asked for by one",
    ("AgentPath", "parent"): "a path of its own type",
    ("PropertyPath", "parent"): "a path of its own type",
    ("Comparison", "memory"): "what differs in it",
}


@pytest.mark.parametrize("cls", sorted(public_results(), key=repr))
def test_a_field_of_a_public_type_has_the_form_of_its_name(cls: type[Any]) -> None:
    assert {name for name in other_forms(cls) if (cls.__name__, name) not in EXCEPT} == set()


def test_the_stored_form_is_found_to_be_another() -> None:
    assert {"updated_at", "started_at", "granularity", "levels", "checkpoints"} <= set(other_forms(AgentState))
    assert other_forms(NewEvent) == {"granularity": "int"}


def test_what_describes_an_agent_stands_in_the_table() -> None:
    for cls in (Entry, AgentStatus, AgentView, Checkpoint):
        assert set(fields_of(cls)) - set(ROWS) <= {"head"}, cls


def test_an_agent_is_described_alike_everywhere() -> None:
    with AgentSystem.open("memory://") as system:
        alice = system.spawn(AGENT, agent_type="t", session_id="s", metadata={"m": 1}, granularity=Granularity.TRACE)
        alice.set("a", 1)
        alice.pause("lunch")
        [entry], status, view, past = system.agents(), alice.status(), system.peek(AGENT), system.state_at(AGENT)
        [*_, last] = system.events(AGENT)
    descriptions: list[Any] = [entry, status, view, past]
    for name in (
        "agent",
        "status",
        "agent_type",
        "session_id",
        "seq",
        "digest",
        "updated_at",
        "granularity",
        "metadata",
    ):
        values = [getattr(each, name) for each in descriptions if hasattr(each, name)]
        assert len(values) >= 3, name
        assert all(value == values[0] and type(value) in (type(values[0]), type(values[-1])) for value in values), name
    assert view.updated_at == last.time == past.time
    assert view.updated_at.tzinfo is not None


# -- as JSON -----------------------------------------------------------------------------------------------------------


def is_time(value: Any) -> bool:
    return isinstance(value, str) and datetime.fromisoformat(value).tzinfo is not None


FORMS = {
    "–": lambda value: False,
    "text": lambda value: isinstance(value, str),
    "texts": lambda value: isinstance(value, list) and all(isinstance(each, str) for each in value),
    "number": lambda value: type(value) is int,
    "object": lambda value: isinstance(value, dict),
    "objects": lambda value: isinstance(value, list) and all(isinstance(each, dict) for each in value),
    "true or false": lambda value: type(value) is bool,
    "time": is_time,
    "32 hexadecimal digits": lambda value: isinstance(value, str) and re.fullmatch("[0-9a-f]{32}", value) is not None,
    "its name in lower case": lambda value: value in [level.name.lower() for level in Granularity],
}
OF_USERS = {"memory", "metadata", "data", "value", "values", "changes", "custom", "actions", "outcome_details"}
OF_USERS |= {"leaves", "added", "removed", "changed"}
AGENT_PATHS = {"agents", "show"}
"""Commands whose rows are agents."""
EVENTS = {"log", "watch", "replay"}
"""Commands that print events, in whose data `path` is what the call had that they are of."""

COMMANDS = [
    ["agents"],
    ["show", AGENT],
    ["show", AGENT, "--at", "3"],
    ["log", AGENT],
    ["watch", "--from-start", "--limit", "3", "--values"],
    ["checkpoints", AGENT],
    ["episodes"],
    ["replay", AGENT],
    ["diff", AGENT, "1"],
    ["blame", AGENT, "a"],
    ["fork", AGENT, "--to", "acme/forked"],
    ["export", AGENT, "FOLDER/alice.duramen"],
    ["spawn", "acme/bob"],
    ["pause", "acme/bob"],
    ["set", AGENT, "b", "1"],
    ["resume", "acme/bob"],
    ["unfinished"],
    ["reminders"],
    ["projections"],
    ["verify"],
    ["doctor"],
    ["import", "FOLDER/alice.duramen", "--to", "other/alice"],
    ["erase", "acme/forked", "--yes"],
]
TWO_FORMS = {"agents": "how many were verified; which were exported, imported or erased"}


@pytest.fixture(scope="module")
def printed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Any]]:
    """What each command prints as JSON, by its words."""
    folder = tmp_path_factory.mktemp("fields")
    store = folder / "store"
    with AgentSystem.open(data_dir=store, agents={"careful": Careful}) as system:
        alice = system.spawn(AGENT, agent_type="t", initial_state={"a": 0}, metadata={"m": 1})
        alice.set("a", 1)
        alice.record("tool_output", {"tool": "t"})
        alice.set_granularity(Granularity.TRACE)
        alice.pause("lunch")
        alice.resume()
        system.spawn("acme/ended").terminate()
        careful = system.spawn("acme/careful", agent_type="careful")
        careful.send(Check())
        careful.remind("later", Check(), every=3_600)
        eventually(lambda: [len(work.waits_for) for work in careful.unfinished()] == [1])
        system.attach(Count(), name="count").wait_for(alice.set("c", 1), timeout=30)
        return {
            " ".join(words): json_of([word.replace("FOLDER", str(folder)) for word in words], store)
            for words in COMMANDS
        }


def json_of(words: list[str], store: Path) -> list[Any]:
    """All that a command prints; some print a list or an object, others an object a line."""
    with redirect_stdout(StringIO()) as out:
        assert main([*words, "--json", "--data-dir", str(store)]) == 0
    found, rest = [], out.getvalue().strip()
    while rest:
        value, end = json.JSONDecoder().raw_decode(rest)
        found.append(value)
        rest = rest[end:].strip()
    return found


def named_values(value: Any) -> Iterator[tuple[str, Any]]:
    """The names in JSON and what they have, but for what is of users."""
    if isinstance(value, list):
        for each in value:
            yield from named_values(each)
    elif isinstance(value, dict):
        for name, inside in value.items():
            yield name, inside
            if name == "lifecycle":  # of a comparison: old and new by name
                yield from ((of, each) for of, pair in inside.items() for each in pair)
            elif name not in OF_USERS or is_our_data(name, value):
                yield from named_values(inside)


def is_our_data(name: str, value: dict[str, Any]) -> bool:
    """Whether a name's value is the data of a lifecycle result, or of an event that is not of a user's own type."""
    return name == "data" and ("event_type" in value or value.get("type") in OWN_TYPES - {v.EPISODE_RECORDED})


def wrong_forms(value: Any) -> set[str]:
    forms = {name: row[3] for name, row in ROWS.items()}
    return {
        name
        for name, inside in named_values(value)
        if name in forms and inside is not None and not FORMS[forms[name]](inside)
    }


@pytest.mark.slow
@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_a_name_in_the_console_s_json_has_the_form_of_the_page(words: list[str], printed: dict[str, list[Any]]) -> None:
    items = printed[" ".join(words)]
    names = {name for name, _ in named_values(items)}
    assert names & set(ROWS) or words[0] in ("verify", "doctor")
    assert wrong_forms(items) == ({"checkpoints"} if words[0] == "erase" else set())  # it counts them
    assert ("path" in names) == (words[0] in AGENT_PATHS | EVENTS)


def json_kind(value: Any) -> str:
    """Of a list with what is in it; `time` of texts that are one."""
    if isinstance(value, list):
        return f"list of {' or '.join(sorted({json_kind(each) for each in value}))}".removesuffix(" of ")
    if isinstance(value, bool) or not isinstance(value, (int, float, str, dict)):
        return type(value).__name__
    if isinstance(value, str):
        return "time" if re.match(r"\d{4}-\d\d-\d\dT", value) else "text"
    return "object" if isinstance(value, dict) else "number"


def kinds_by_name(items: Iterable[Any]) -> dict[str, set[str]]:
    """What each name in JSON has, but for null, and for what names of users have in comparisons."""
    found: dict[str, set[str]] = {}
    for name, value in named_values(list(items)):
        if value is not None:
            found.setdefault(name, set()).add(json_kind(value))
    return {name: kinds - {"list"} or kinds for name, kinds in found.items()}


@pytest.mark.slow
def test_a_name_has_one_form_in_the_json_of_all_commands(printed: dict[str, list[Any]]) -> None:
    items = [item for words, printed_items in printed.items() if words.split()[0] != "diff" for item in printed_items]
    kinds = kinds_by_name(items)
    assert len(kinds) > 80, "all commands have printed something"
    assert {name: found for name, found in kinds.items() if len(found) > 1 and name not in TWO_FORMS} == {}
    assert all(len(kinds[name]) > 1 for name in TWO_FORMS), "these are still two"


def test_two_forms_of_a_name_are_noticed() -> None:
    items = [{"since": "2025-01-31T12:00:00+00:00", "waits_for": [{"since": 5}]}, {"a": None}, {"list": []}]
    assert kinds_by_name(items)["since"] == {"time", "number"}
    assert kinds_by_name([{"list": []}, {"list": ["a"]}]) == {"list": {"list of text"}}


def test_another_form_is_noticed() -> None:
    right = {"agent": "a/b", "updated_at": "2025-01-31T12:00:00+00:00", "granularity": "state", "digest": "0" * 32}
    assert wrong_forms([right]) == set()
    spawned = {"type": "spawned", "data": {"granularity": "state", "memory": {"seq": "of a user"}}}
    assert wrong_forms([spawned]) == set()
    assert wrong_forms([{**spawned, "data": {"granularity": 2}}]) == {"granularity"}
    assert wrong_forms([{"type": "claim_found", "data": {"granularity": 2}}]) == set()
    wrong = {"agent": ["a", "b"], "updated_at": 1738324800000000, "granularity": 2, "digest": {"$bytes": "AA=="}}
    assert wrong_forms({"event": wrong}) == set(wrong)
    assert wrong_forms({"lifecycle": {"granularity": [2, 3]}}) == {"granularity"}
    assert wrong_forms({"updated_at": "2025-01-31T12:00:00"}) == {"updated_at"}
    assert wrong_forms({"data": wrong, "memory": wrong}) == set()
