"""The strategies draw what they promise, the laws say why, and what cannot be checked is said, too."""

from __future__ import annotations

import itertools
import subprocess
import sys
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from enum import IntEnum
from pathlib import Path
from typing import Any, Literal

import pytest
from attrs import field, frozen, validators
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from duramen.events import (
    AgentPath,
    Event,
    EventRegistry,
    InvalidMessage,
    Limits,
    PlainData,
    PropertyPath,
    UnknownEventType,
    event_type,
    upcaster,
)
from duramen.events.model.values import check_value
from duramen.events.model.vocabulary import OWN_TYPES
from duramen.projections import Episodes, Projection, Timeline, WorkingMemory, fold
from duramen.projections.projection import KeyedProjection
from duramen.projections.recorded import log_of, portrait, same
from duramen.projections.recorded.as_code import format_rows, items_of, rows_of
from duramen.projections.verification import (
    AgreesWith,
    Law,
    LawBroken,
    StoredLog,
    Subject,
    TakesEveryEvent,
    agent_paths,
    check,
    check_subject,
    check_upcaster,
    events,
    instances,
    logs,
    near_values,
    paths,
    property_paths,
    stored_logs,
    subject_of,
    values,
    verified,
)

REGISTRY = EventRegistry()


class Mood(IntEnum):
    GOOD = 1


@event_type("claim", version=3, registry=REGISTRY)
@frozen
class Claim:
    text: str
    kind: Literal["fact", "guess"]
    score: float | None
    tags: list[str]
    counts: dict[str, int]
    seen: datetime
    anything: Any
    plain: PlainData
    positive: int = field(validator=validators.ge(0))
    private: bytes = field(alias="secret", default=b"")


@upcaster("claim", from_version=1, registry=REGISTRY)
def second(data: dict[str, Any]) -> dict[str, Any]:
    return {**data, "counts": {}}


@upcaster("claim", from_version=2, registry=REGISTRY)
def third(data: dict[str, Any]) -> dict[str, Any]:
    return {**data, "secret": b""}


class Counts(Projection[Mapping[str, int]]):
    def initial(self) -> Mapping[str, int]:
        return {}

    def apply(self, state: Mapping[str, int], event: Event) -> Mapping[str, int]:
        return {**state, event.type: state.get(event.type, 0) + 1}


class ByType(KeyedProjection[int]):
    def key(self, event: Event) -> str | None:
        return event.type

    def apply(self, entry: int | None, event: Event) -> int | None:
        return (entry or 0) + 1


def drawn(strategy: Any, many: int) -> list[Any]:
    """The same examples each time: whether they are of all kinds is no matter of luck."""
    found: list[Any] = []
    how = settings(max_examples=many, database=None, derandomize=True, phases=[Phase.generate], deadline=None)
    how(given(strategy)(lambda example: found.append(example)))()
    return found


# -- strategies --------------------------------------------------------------------------------------------------------


@given(value=values())
def test_values_can_be_stored(value: Any) -> None:
    check_value(value, Limits())


def inside(value: Any) -> Iterator[Any]:
    """A value, and all that is in it."""
    yield value
    held = value.values() if type(value) is dict else value if type(value) is list else ()
    for each in held:
        yield from inside(each)


def test_values_have_odd_shapes() -> None:
    found = [each for value in drawn(values(), 1_500) for each in inside(value)]
    assert any(type(value) is float and value != value for value in found)
    assert any(portrait(value) == "-0.0" for value in found)
    assert any(type(value) is int and value > 2**63 for value in found)
    assert any(type(value) is dict and "" in value for value in found)
    assert any(type(value) is list and [] in value for value in found)
    assert any(type(value) is datetime and value.utcoffset().seconds % 60 for value in found)
    assert {type(value) for value in found} == {bool, int, float, str, bytes, datetime, list, dict, type(None)}


def test_near_values_are_also_what_is_refused() -> None:
    found = {type(value) for value in drawn(near_values(), 1_500)}
    assert {tuple, set, frozenset, bytearray, complex, str, int} <= found
    assert any(issubclass(kind, IntEnum) for kind in found)


@given(path=agent_paths(), other=property_paths(), text=paths())
def test_paths_are_valid(path: AgentPath, other: PropertyPath, text: str) -> None:
    assert AgentPath.parse(path.text) == path
    assert PropertyPath.parse(other.text) == other
    assert PropertyPath.parse(text).segments


@given(event=instances(REGISTRY))
def test_instances_are_of_registered_classes_and_can_be_stored(event: Any) -> None:
    assert type(event) is Claim
    name, version, data = REGISTRY.dump(event)
    check_value(data, Limits())
    assert event.positive >= 0
    assert event.kind in ("fact", "guess")
    assert portrait(REGISTRY.load(name, version, data)) == portrait(event)


@given(event=events(REGISTRY, ["claim"], fields={Claim: {"text": st.just("mine"), "secret": st.just(b"!")}}))
def test_single_events_are_as_a_reader_gets_them(event: Event) -> None:
    assert (event.type, event.version) == ("claim", 3)
    assert (event.data["text"], event.data["secret"]) == ("mine", b"!")


def test_a_field_that_cannot_be_told_is_named() -> None:
    registry = EventRegistry()

    @event_type("odd", registry=registry)
    @frozen
    class Odd:
        mood: Mood

    with pytest.raises(InvalidMessage, match=r"Odd\.mood"):
        instances(registry)
    with pytest.raises(InvalidMessage, match="no field 'nope'"):
        instances(registry, fields={Odd: {"mood": st.none(), "nope": st.none()}})
    with pytest.raises(InvalidMessage, match="not registered"):
        instances(registry, ["other"])
    assert drawn(instances(registry, [Odd], fields={Odd: {"mood": st.just(1)}}), 1) == [Odd(1)]


@given(found=logs(REGISTRY))
def test_logs_fit_together(found: list[Event]) -> None:
    assert [event.seq for event in found] == list(range(1, len(found) + 1))
    assert found[0].type == "spawned"
    fold(WorkingMemory(), found)


WORK = {kind for kind in OWN_TYPES if kind.startswith(("work_", "reminder_"))}
WRITTEN = OWN_TYPES - WORK - {"forked", "retention_set"} | {"claim"}


def test_logs_have_every_type_of_event() -> None:
    found = {raw[0] for log in drawn(stored_logs(REGISTRY), 400) for raw in log.raws()}
    assert found == WRITTEN


@given(log=stored_logs(REGISTRY))
def test_a_log_is_shown_as_python_that_makes_it_again(log: StoredLog) -> None:
    again = StoredLog(tuple(items_of(rows_of(log.raws()))), log.agent, REGISTRY)
    assert same(again.raws(), log.raws())
    shown = eval(log.code().removeprefix("events = "), {"log_of": lambda *rows: rows, "datetime": datetime})
    assert same(list(shown), rows_of(log.raws()))


def test_a_short_row_is_filled_in() -> None:
    spawned, changed, claim = log_of(
        ("spawned", {"memory": {"a": 1}}),
        ("memory_set", {"path": "a", "value": 2}),
        ("claim", {}, {"session_id": None}),
    )
    assert spawned.data["agent_type"] is None
    assert (changed.seq, changed.session_id, claim.session_id) == (2, "s-1", None)
    with pytest.raises(InvalidMessage, match="no 'tme'"):
        log_of(("spawned", {}, {"tme": 1}))
    assert format_rows([("spawned", {})]) == "events = log_of(\n    ('spawned', {}),\n)"


# -- portraits ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("a", "b"),
    [(1, True), (1, 1.0), (0.0, -0.0), ((1,), [1]), ({1}, frozenset({1})), (Mood.GOOD, 1), ("1", b"1"), (Claim, None)],
)
def test_portraits_tell_apart_what_equality_does_not(a: Any, b: Any) -> None:
    assert not same(a, b)


def test_portraits_do_not_depend_on_order_or_address() -> None:
    class Thing:
        def __init__(self, **held: Any) -> None:
            self.__dict__.update(held)

    assert same({"a": {1, 2}, "b": float("nan")}, {"b": float("nan"), "a": {2, 1}})
    assert same(Thing(a=1, b=[Thing()]), Thing(b=[Thing()], a=1))
    assert not same(Thing(a=1), Thing(a=2))
    assert portrait(object()) == "object()"
    looped: list[Any] = []
    looped.append(looped)
    assert portrait(looped) == "[...]"


# -- checks ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("projection", [Counts, ByType, WorkingMemory, Episodes, Timeline])
def test_what_is_sound_passes_every_law_that_can_be_checked(projection: Any) -> None:
    report = check(projection, registry=REGISTRY, examples=25)
    assert report.subject == projection.__qualname__
    assert report.examples == 25
    assert set(report.not_checked) <= {
        "events of other types than it names change nothing",
        "stored state plus the rest gives the same",
    }


def test_of_an_instance_some_laws_cannot_be_checked_and_that_is_said() -> None:
    report = check(Counts(), registry=REGISTRY, examples=5)
    assert {"batch boundaries do not matter", "another process comes to the same"} <= set(report.not_checked)
    assert "give the class" in report.not_checked["batch boundaries do not matter"]


def test_a_class_inside_a_function_is_checked_but_for_the_other_process() -> None:
    class Local(Counts):
        pass

    report = check(Local, registry=REGISTRY, examples=5)
    assert "at the top of a module" in report.not_checked["another process comes to the same"]
    assert "batch boundaries do not matter" in report.held


def test_a_keyed_projection_that_changes_its_entry_is_found() -> None:
    class Changes(KeyedProjection[list[int]]):
        def key(self, event: Event) -> str | None:
            return event.type

        def apply(self, entry: list[int] | None, event: Event) -> list[int] | None:
            entry = [] if entry is None else entry
            entry.append(event.seq)
            return entry

    with pytest.raises(LawBroken) as broken:
        check(Changes, seed=1)
    assert broken.value.law == "apply changes neither state nor event"


def test_what_breaks_a_law_is_shown_with_its_example() -> None:
    class Bad(Counts):
        def apply(self, state: Any, event: Event) -> Any:
            raise LookupError("no")

    with pytest.raises(LawBroken) as raised:
        check(Bad)
    broken = raised.value
    assert (broken.law, broken.subject) == ("every event is taken", Bad.__qualname__)
    assert isinstance(broken, AssertionError)
    assert "events = log_of(\n    ('spawned', {}),\n)" in str(broken)
    assert isinstance(broken.__cause__, LookupError)


def test_the_same_seed_shows_the_same_example() -> None:
    calls = itertools.count(1_000)

    class Bad(Counts):
        def apply(self, state: Any, event: Event) -> Any:
            return {"at": event.seq} if event.type != "memory_set" else {"at": next(calls)}

    found = []
    for _ in range(2):
        with pytest.raises(LawBroken) as broken:
            check(Bad, seed=7)
        found.append(broken.value.example)
    assert found[0] == found[1]


def test_a_decorator_checks_where_a_class_is_made() -> None:
    @verified(examples=5)
    class Sound(Counts):
        pass

    assert issubclass(Sound, Counts)
    with pytest.raises(LawBroken):

        @verified(examples=5)
        class Bad(Counts):
            def apply(self, state: Any, event: Event) -> Any:
                state["n"] = 1
                return state


def test_a_law_and_a_model_of_ones_own_can_be_checked() -> None:
    class NoMoreThanThree(Law):
        name = "no more than three events"

        def check(self, subject: Subject, log: StoredLog) -> None:
            if len(log) > 3:
                raise self.broken("there are more", "3", str(len(log)))

    with pytest.raises(LawBroken) as broken:
        check(Counts, laws=[TakesEveryEvent(), NoMoreThanThree()], seed=1)
    assert len(broken.value.log or ()) == 4
    check_subject(subject_of(Counts), [AgreesWith(subject_of(lambda: Counts()))], stored_logs(REGISTRY), 5)


@pytest.mark.parametrize("given", [42, "Counts", None])
def test_what_is_no_projection_is_refused(given: Any) -> None:
    with pytest.raises(InvalidMessage):
        check(given)
    with pytest.raises(InvalidMessage):
        check(dict)


@pytest.mark.parametrize("examples", ["0", "many", "-1", ""])
def test_a_number_of_examples_that_is_none_is_refused(examples: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DURAMEN_VERIFY_EXAMPLES", examples)
    with pytest.raises(InvalidMessage, match="DURAMEN_VERIFY_EXAMPLES"):
        check(Counts)


def test_the_environment_says_how_many_examples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DURAMEN_VERIFY_EXAMPLES", "7")
    assert check(Counts).examples == 7
    assert check(Counts, examples=3).examples == 3


# -- upcasters ---------------------------------------------------------------------------------------------------------

OLD: dict[str, Any] = {
    "text": st.text(max_size=3),
    "kind": st.just("fact"),
    "score": st.none(),
    "tags": st.just([]),
    "seen": st.datetimes(datetime(2000, 1, 1), datetime(2030, 1, 1), timezones=st.just(UTC)),
    "anything": st.none(),
    "plain": st.none(),
    "positive": st.integers(0, 3),
}


def native(old: dict[str, Any]) -> Claim:
    return Claim(**old, counts={})


def test_a_sound_chain_of_upcasters_passes() -> None:
    check_upcaster("claim", 1, OLD, registry=REGISTRY, examples=20)
    check_upcaster(Claim, 1, OLD, native=native, projection=Counts, registry=REGISTRY, examples=20)


@pytest.mark.parametrize("version", [0, 3, 4, "1"])
def test_a_version_that_is_not_old_is_refused(version: Any) -> None:
    with pytest.raises(InvalidMessage, match="version 3"):
        check_upcaster("claim", version, OLD, registry=REGISTRY)
    with pytest.raises(InvalidMessage, match="not registered"):
        check_upcaster("other", 1, OLD, registry=REGISTRY)


COUNTER = map(str, itertools.count())


@pytest.mark.parametrize(
    ("upcasts", "told"),
    [
        (lambda data: {"text": data["text"]}, "'source' lost its value"),
        (lambda data: {"text": data["text"][:1], "source": data["source"]}, "'text' lost its value"),
        (lambda data: data.update(source="x") or data, "'source' lost its value"),
        (lambda data: {**data, "source": data["source"] + next(COUNTER)}, "second time"),
        (lambda data: {**data, "new": 1}, "UnknownEventType"),
        (lambda data: None, "UnknownEventType"),
        (lambda data: data["gone"], "UnknownEventType"),
    ],
)
def test_an_upcaster_with_a_fault_is_found(upcasts: Any, told: str) -> None:
    registry = EventRegistry()

    @event_type("claim", version=2, registry=registry)
    @frozen
    class Now:
        text: str
        source: str = ""

    @frozen
    class Then:
        text: str
        source: str

    registry.add_upcaster("claim", 1, upcasts)
    with pytest.raises(LawBroken, match=told):
        check_upcaster(Now, 1, Then, registry=registry, seed=1)


def test_a_step_that_is_missing_is_found() -> None:
    registry = EventRegistry()

    @event_type("claim", version=2, registry=registry)
    @frozen
    class Now:
        text: str

    with pytest.raises(LawBroken, match="no upcaster from version 1") as broken:
        check_upcaster(Now, 1, {"text": st.text()}, registry=registry)
    assert isinstance(broken.value.__cause__, UnknownEventType)


# -- without hypothesis ------------------------------------------------------------------------------------------------


_SCRIPT = """
import time
from attrs import frozen
from duramen.actors import Agent
from duramen.actors.verification import check as check_agent
from duramen.events import event_type
from duramen.projections import Projection
from duramen.projections.verification import check, check_values, verified

print("begins")
open(__file__ + ".runs", "a").write("x")

STEP = (1, 2)

@event_type("seen")
@frozen
class Seen:
    n: int

@verified(examples=3)
class Count(Projection):
    def initial(self):
        return 0

    def apply(self, state, event):
        return state + STEP[event.type == "seen"]

checked = check(Count, examples=5)
print(len(checked.held))

class Hashed(Count):
    def apply(self, state, event):
        return state + hash(event.type) % 7

try:
    check(Hashed, examples=5)
except AssertionError as error:
    print("another process" in str(error))

class Idle(Agent):
    def on_receive(self, message):
        return None

with open(__file__) as file:
    print(check_agent(Idle, examples=5).held[-1])
check_values(examples=5)
print("ends")
"""


def test_a_plain_script_is_checked_and_runs_once(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(_SCRIPT)
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=100)
    assert done.stdout.splitlines() == ["begins", "10", "True", "every life keeps the laws", "ends"], done.stderr
    assert (tmp_path / "script.py.runs").read_text() == "x"
    assert not list(tmp_path.glob("__pycache__/*")), "no bytecode of half a script"


def test_a_definition_that_another_process_does_not_find_breaks_no_law(tmp_path: Path) -> None:
    """What a script does in a loop is not done again, so a name that is made there is missing in the other process."""
    script = tmp_path / "script.py"
    script.write_text(
        """
from duramen.projections import Projection
from duramen.projections.verification import check

for step in (1, 2):
    STEP = step

class Count(Projection):
    def initial(self):
        return 0

    def apply(self, state, event):
        return state + STEP

print(check(Count, examples=5).not_checked)
"""
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=100)
    assert "another process comes to the same" in done.stdout and "STEP" in done.stdout, done.stderr


def test_without_hypothesis_the_import_says_what_to_install(tmp_path: Path) -> None:
    program = """
import sys
class Gone:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "hypothesis":
            raise ModuleNotFoundError(name=name)
import importlib.util as util
found = util.find_spec
util.find_spec = lambda name, package=None: None if name == "hypothesis" else found(name, package)
sys.meta_path.insert(0, Gone())
import duramen.actors, duramen.projections.recorded, duramen.actors.specification
for name in ("duramen.projections.verification", "duramen.actors.verification"):
    try:
        __import__(name)
    except ImportError as error:
        print(type(error).__name__, error)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    said = "NotInstalled the verification kit needs hypothesis; install it with: pip install 'duramen[verify]'\n"
    assert done.stdout == said * 2, done.stderr


def test_the_library_does_not_import_hypothesis() -> None:
    program = (
        "import sys, duramen.actors, duramen.actors.console, duramen.projections.recorded, duramen.projections;"
        "import duramen.actors.specification, duramen.projections.pytest_plugin;"
        "print('hypothesis' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.stdout == "False\n", done.stderr
