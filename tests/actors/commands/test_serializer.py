"""What crosses to another process: equal in value and type there, or refused with a typed error here."""

from __future__ import annotations

import os
import sys
import threading
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from enum import Enum
from pathlib import Path
from typing import Any
from uuid import UUID

import attrs
import pytest
from attrs import field, frozen
from hypothesis import example, given
from hypothesis import strategies as st

import duramen.events
from duramen.actors import (
    AgentStatus,
    Append,
    Batch,
    Checkpoint,
    Delete,
    Extend,
    Get,
    GetMany,
    GetStatus,
    Keys,
    Length,
    LifecycleEvent,
    LifecycleResult,
    ListCheckpoints,
    Merge,
    Outcome,
    Pause,
    Pop,
    Record,
    Restart,
    Resume,
    Retention,
    Set,
    SetGranularity,
    SetRetention,
    Slice,
    Spawn,
    Terminate,
    TrimResult,
)
from duramen.actors.commands import AdoptChild, ChildFailed, Hold, Serializer, to_caller_error
from duramen.events import (
    AgentPath,
    CheckpointNotFound,
    DuramenError,
    Event,
    EventRegistry,
    Fenced,
    Granularity,
    HandlerRaised,
    InvalidMessage,
    Limits,
    OutcomeUnknown,
    PropertyPath,
    Receipt,
    ReplyRefused,
    TooLarge,
    UnknownMessageType,
    ValueRefused,
    message_type,
)
from duramen.events.codec import Codec
from duramen.events.model import copy_plain, same_value
from duramen.projections import Episode
from duramen.projections.state import MISSING, ReadOnlyDict, ReadOnlyList, read_only
from duramen.projections.verification.strategies import values

TYPES = EventRegistry()


@message_type("find", registry=TYPES)
@frozen
class Find:
    question: Any
    limit: int = 5
    _hidden: Any = None


@message_type("plan", version=3, registry=TYPES)
@frozen
class Plan:
    steps: Any = ()


SERIALIZER = Serializer(Limits(), TYPES)
ERRORS = [
    cls
    for cls in vars(duramen.events).values()
    if isinstance(cls, type) and issubclass(cls, DuramenError) and cls is not HandlerRaised
]


def is_same(one: Any, other: Any) -> bool:
    """Whether two values are the same in value and type, inside too."""
    if type(one) is not type(other):
        return False
    if isinstance(one, BaseException):
        return is_same([str(one), vars(one)], [str(other), vars(other)]) and is_same(one.__cause__, other.__cause__)
    if attrs.has(type(one)) and not isinstance(one, (AgentPath, PropertyPath)):
        return all(is_same(getattr(one, name.name), getattr(other, name.name)) for name in attrs.fields(type(one)))
    if isinstance(one, (list, tuple, ReadOnlyList)):
        return len(one) == len(other) and all(map(is_same, one, other))
    if isinstance(one, (dict, ReadOnlyDict)):
        return list(one) == list(other) and all(is_same(one[key], other[key]) for key in one)
    return bool(one == other) or same_value(one, other)


# -- strategies --------------------------------------------------------------------------------------------------------

PLAIN = values(max_leaves=4)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
IDS = st.none() | st.sampled_from(["c-1", "", "ü"])
PATHS = st.sampled_from(["", "a/b", "a~1"]) | st.builds(PropertyPath, st.just(("a", "b/c")))
LEVELS = st.sampled_from(Granularity)
DICTS = st.dictionaries(TEXTS, PLAIN, max_size=2)
NUMBERS = st.integers(0, 2**63 - 1)
TIMES = st.datetimes(datetime(2, 1, 1), datetime(9998, 1, 1), timezones=st.just(UTC))
OPERATIONS = st.one_of(
    st.builds(Set, PATHS, PLAIN, IDS, expected_seq=st.none() | NUMBERS, metadata=st.none() | DICTS),
    st.builds(Delete, PATHS),
    st.builds(Append, PATHS, PLAIN),
    st.builds(Extend, PATHS, st.lists(PLAIN, max_size=3) | st.lists(PLAIN, max_size=3).map(tuple)),
    st.builds(Merge, PATHS, PLAIN),
    st.builds(Record, TEXTS, PLAIN, LEVELS, IDS),
)
RETENTIONS = st.builds(Retention, events=st.none() | st.integers(1, 9), days=st.none() | st.floats(0.5, 9))
OWN_MESSAGES = st.one_of(
    OPERATIONS,
    st.builds(Batch, st.lists(OPERATIONS, max_size=3) | st.lists(OPERATIONS, max_size=3).map(tuple), IDS),
    st.builds(
        Spawn,
        session_id=IDS | st.uuids(),
        agent_type=IDS | st.uuids(),
        initial_state=DICTS,
        metadata=DICTS,
        granularity=LEVELS,
        levels=st.dictionaries(TEXTS, LEVELS, max_size=2),
        parent=IDS,
        command_id=IDS,
    ),
    st.builds(
        Pause,
        checkpoint_id=IDS,
        ttl=st.none() | st.floats(1, 9) | st.timedeltas(timedelta(0), timedelta(days=99)),
        metadata=DICTS,
        when_paused=st.sampled_from(["refuse", "stash"]),
        reason=IDS,
        cascade=st.booleans(),
    ),
    st.builds(
        Resume,
        checkpoint_id=IDS,
        clear_current=st.booleans(),
        cascade=st.booleans(),
        command_id=IDS,
        expected_seq=st.none() | NUMBERS,
    ),
    st.builds(
        Terminate,
        outcome=st.sampled_from(Outcome) | st.sampled_from(["success", "failure"]),
        task_description=IDS,
        outcome_details=PLAIN,
        lessons_learned=st.lists(TEXTS, max_size=2) | st.lists(TEXTS, max_size=2).map(tuple),
        importance_score=st.floats(0, 1),
        cleanup_working=st.booleans(),
        cascade=st.booleans(),
    ),
    st.just(ListCheckpoints()),
    st.builds(Restart, IDS),
    st.builds(ChildFailed, TEXTS, TEXTS),
    st.builds(AdoptChild, TEXTS, st.booleans(), IDS),
    st.builds(Get, PATHS),
    st.builds(Get, PATHS, PLAIN | st.just(MISSING)),
    st.builds(GetMany, st.lists(PATHS, max_size=3)),
    st.builds(GetMany, st.lists(PATHS, max_size=3).map(tuple), PLAIN | st.just(MISSING)),
    st.builds(Keys, PATHS),
    st.builds(Length, PATHS),
    st.builds(Slice, PATHS, st.none() | NUMBERS, st.none() | NUMBERS),
    st.builds(Pop, PATHS, st.integers(-9, 9) | TEXTS, command_id=IDS),
    st.builds(Pop, PATHS, st.integers(-9, 9) | TEXTS, PLAIN | st.just(MISSING), metadata=DICTS),
    st.builds(
        SetGranularity,
        level=st.none() | LEVELS,
        levels=st.dictionaries(TEXTS, LEVELS | st.none(), max_size=2),
    ),
    st.builds(SetRetention, st.none() | RETENTIONS, IDS),
    st.just(GetStatus()),
)
FACTS = st.none() | st.integers(0, 9) | TEXTS | LEVELS | DICTS


@st.composite
def typed_errors(draw: st.DrawFn, causes: int = 2) -> DuramenError:
    error: DuramenError = draw(st.sampled_from(ERRORS))(
        draw(TEXTS),
        agent=draw(st.none() | st.just("p/a")),
        seq=draw(st.none() | st.integers(0, 9)),
        expected=draw(FACTS),
        actual=draw(FACTS),
    )
    if causes and draw(st.booleans()):
        error.__cause__ = draw(typed_errors(causes - 1) | raised_errors())
    return error


@st.composite
def raised_errors(draw: st.DrawFn) -> DuramenError:
    """What callers get for exceptions of handlers, as in another process: without the exception itself."""
    cls = draw(st.sampled_from([ValueError, KeyError, OSError, TimeoutError, RuntimeError, ExceptionGroup, Own, Odd]))
    error = to_caller_error(cls("text", [ValueError()]) if cls is ExceptionGroup else cls(draw(TEXTS)), "p/a")
    error.__cause__ = None
    return error


class Own(CheckpointNotFound):
    """A typed error of a user's own."""


class Odd(Exception):
    """An exception of a user's own."""


RESULTS = st.one_of(
    st.builds(Receipt, TEXTS, NUMBERS, NUMBERS, st.binary(max_size=16), st.just("fsync")),
    st.builds(
        LifecycleResult,
        success=st.booleans(),
        event_type=TEXTS,
        message=TEXTS,
        data=st.dictionaries(TEXTS, PLAIN | st.sampled_from(Outcome) | TIMES, max_size=2),
        duration_ms=st.floats(0, 9),
        error=st.none() | typed_errors(),
    ),
    st.builds(
        Checkpoint,
        checkpoint_id=TEXTS,
        timestamp=TIMES,
        keys_count=NUMBERS,
        seq=NUMBERS,
        expires_at=st.none() | TIMES,
        metadata=DICTS | DICTS.map(read_only),
    ),
    st.builds(
        AgentStatus,
        agent=TEXTS,
        status=TEXTS,
        agent_type=IDS,
        session_id=IDS,
        seq=NUMBERS,
        digest=st.binary(max_size=16),
        updated_at=TIMES,
        items=NUMBERS,
        granularity=LEVELS,
        metadata=DICTS | DICTS.map(read_only),
    ),
    st.builds(
        LifecycleEvent,
        event_type=TEXTS,
        agent=TEXTS,
        session_id=IDS,
        agent_type=IDS,
        seq=NUMBERS,
        time=TIMES,
        data=DICTS,
        metadata=DICTS,
    ),
    st.builds(TrimResult, TEXTS, NUMBERS, NUMBERS, IDS),
    RETENTIONS,
    st.builds(
        Event, TEXTS, NUMBERS, TIMES, TEXTS, NUMBERS, DICTS, IDS, IDS, IDS, IDS, LEVELS, st.none() | DICTS, st.binary()
    ),
    st.builds(
        Episode,
        id=TEXTS,
        project_id=TEXTS,
        agent_instance_id=TEXTS,
        session_id=IDS,
        task_type=TEXTS,
        task_description=TEXTS,
        outcome=TEXTS,
        outcome_details=PLAIN,
        actions=st.lists(DICTS, max_size=2),
        context_summary=TEXTS,
        lessons_learned=st.lists(TEXTS, max_size=2),
        duration_seconds=st.floats(0, 9),
        tokens_used=NUMBERS,
        importance_score=st.floats(0, 1),
        first_seq=NUMBERS,
        last_seq=NUMBERS,
        created_at=TIMES,
    ),
)
SCALARS = st.one_of(
    st.uuids(),
    st.timedeltas(),
    LEVELS,
    st.sampled_from(Outcome),
    st.just(MISSING),
    st.just(AgentPath.parse("p/a/b")),
    PATHS,
    (st.lists(PLAIN, max_size=2) | DICTS).map(read_only),
)


def around(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    lists = st.lists(inner, max_size=3)
    return st.one_of(
        lists,
        lists.map(tuple),
        st.dictionaries(TEXTS, inner, max_size=3),
        st.builds(Find, inner, st.integers(0, 9), inner),
        st.builds(Plan, lists.map(tuple)),
    )


ANYTHING = st.recursive(PLAIN | SCALARS | RESULTS | typed_errors(), around, max_leaves=6)
"""All that crosses, in any combination."""


# -- there and back ----------------------------------------------------------------------------------------------------


@pytest.mark.slow
@given(OWN_MESSAGES)
def test_a_message_of_ours_arrives_equal_in_value_and_type(message: Any) -> None:
    assert is_same(SERIALIZER.unpack_message(SERIALIZER.pack_message(message)), message)


@pytest.mark.slow
@given(ANYTHING)
@example([])
@example({"a": [(), {}]})
@example(
    Checkpoint(
        checkpoint_id="c",
        timestamp=datetime(2000, 1, 1, tzinfo=UTC),
        keys_count=0,
        seq=0,
        expires_at=None,
        metadata={"": [float("nan")]},
    )
)
def test_whatever_crosses_arrives_equal_in_value_and_type(value: Any) -> None:
    assert is_same(SERIALIZER.unpack_message(SERIALIZER.pack_message(value)), value)
    assert is_same(SERIALIZER.unpack_reply(SERIALIZER.pack_reply(value, "p/a", 1), "p/a", 1), value)


@given(typed_errors() | raised_errors())
def test_an_error_arrives_with_its_type_its_facts_and_its_causes(error: DuramenError) -> None:
    arrived = SERIALIZER.unpack_error(SERIALIZER.pack_error(error, "p/a"))
    assert is_same(arrived, error)
    assert arrived is not error


def test_every_class_of_ours_that_agents_are_sent_or_reply_with_crosses() -> None:
    """A message or result that is added has to be added to what crosses, or here."""
    from duramen.actors.commands import messages, results

    stay = {Hold, messages.Message}
    for module in (messages, results):
        for cls in vars(module).values():
            if isinstance(cls, type) and cls.__module__ == module.__name__ and attrs.has(cls) and cls not in stay:
                assert cls in CROSSING, cls
    with pytest.raises(UnknownMessageType, match="Hold"):
        SERIALIZER.pack_message(Hold())


CROSSING = {
    Spawn, Pause, Resume, Terminate, ListCheckpoints, Restart, ChildFailed, AdoptChild, Get, Keys, Set, Delete, Append,
    Merge, Record, Batch, SetGranularity, SetRetention, GetStatus, LifecycleResult, LifecycleEvent, Checkpoint,
    AgentStatus, Extend, Pop, GetMany, Length, Slice,
}  # fmt: skip
"""Those that the strategies above draw."""


def test_a_message_of_another_process_is_handled_once_and_shares_nothing_with_the_one_sent() -> None:
    question = {"words": ["a"]}
    arrived = SERIALIZER.unpack_message(SERIALIZER.pack_message(Find(question)))
    question["words"].append("b")
    assert arrived == Find({"words": ["a"]})


# -- the same bytes for ever -------------------------------------------------------------------------------------------

TIME = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
FACTS_OF = {"agent": "p/a", "seq": 7}
GOLDEN: list[Any] = [
    "why?",
    {"a": [None, True, 1.5, b"z", TIME]},
    [Delete("a"), (1,)],
    {"status": GetStatus()},
    read_only({"a": 1}),
    Set("plan/steps", ["read"], command_id="c-1"),
    Batch([Set("a", 1), Record("tool_output", {"n": 1}, Granularity.TRACE)]),
    Spawn(session_id=UUID(int=7), initial_state={"goal": "x"}, levels={"chat": Granularity.TRACE}),
    Pause(checkpoint_id="lunch", ttl=timedelta(hours=1)),
    Resume(checkpoint_id="lunch"),
    Terminate(outcome=Outcome.FAILURE, lessons_learned=("a",)),
    Get(PropertyPath.parse("a/b"), MISSING),
    Get(),
    SetRetention(Retention(events=5)),
    AgentPath.parse("p/a"),
    Find("why?"),
    Plan(("a", Find("b"))),
    Receipt("p/a", 2, 3, b"digest", "fsync"),
    LifecycleResult(success=False, event_type="pause", message="no", error=CheckpointNotFound("none", **FACTS_OF)),
    Checkpoint(checkpoint_id="c", timestamp=TIME, keys_count=1, seq=2, expires_at=None, metadata={}),
    Extend("plan/steps", ["read", "think"], expected_seq=7, metadata={"user": "kim"}),
    Pop("queue", 0, None, "c-2"),
    GetMany(["a", PropertyPath.parse("b/0")]),
    Length("queue"),
    Slice("queue", -2),
]
PACKED = (Path(__file__).parent / "packed_values.txt").read_text().split()
"""The values above as bytes, in hexadecimal; written once by the release that packed them first."""


@pytest.mark.parametrize(("value", "packed"), [*zip(GOLDEN, PACKED, strict=True)])
def test_what_a_release_has_packed_is_packed_and_read_alike_by_those_after_it(value: Any, packed: str) -> None:
    assert SERIALIZER.pack_message(value).hex() == packed
    assert is_same(SERIALIZER.unpack_message(bytes.fromhex(packed)), value)


def test_every_code_stands_among_those_bytes() -> None:
    codes = {code for packed in PACKED for code in _codes(Codec(Limits()).unpack(bytes.fromhex(packed)))}
    assert codes == set(range(15))


def _codes(packed: Any) -> Any:
    if isinstance(packed, list) and len(packed) == 2 and type(packed[0]) is int:
        yield packed[0]
    if isinstance(packed, (list, dict)):
        for part in packed.values() if isinstance(packed, dict) else packed:
            yield from _codes(part)


# -- refused before it is sent -----------------------------------------------------------------------------------------


class Colour(Enum):
    RED = 1


@frozen
class Undeclared:
    text: str = ""


@frozen
class Special(Find):
    """Of a declared class, and not declared itself."""


CANNOT: dict[str, tuple[Any, type[DuramenError], str]] = {
    "an object": (object(), UnknownMessageType, "object"),
    "a class": (Find, UnknownMessageType, "type"),
    "a function": (print, UnknownMessageType, "builtin_function_or_method"),
    "a lock": (threading.Lock(), UnknownMessageType, "lock"),
    "an undeclared class": (Undeclared(), UnknownMessageType, "Undeclared"),
    "a subclass of a declared class": (Special("x"), UnknownMessageType, "Special"),
    "an undeclared class within": (Find([Undeclared()]), UnknownMessageType, "question/0 .*Undeclared"),
    "a set": (Find({1, 2}), ValueRefused, "use a list"),
    "an enum of the user's": (Find(Colour.RED), ValueRefused, "value.value"),
    "a path of files": ({"path": Path("x")}, ValueRefused, "message/path"),
    "a large integer": ([2**64], ValueRefused, "message/0"),
    "a large integer in a field": (Find(2**64), ValueRefused, "question is an int"),
    "a lone surrogate": (Find("\ud800"), ValueRefused, "question has a lone surrogate"),
    "a key that is no text": (Find({1: Find("x")}), ValueRefused, "keys must be"),
    "a text that is too long": (Set("a", "x" * 1_100_000), TooLarge, "value"),
    "bytes in many places": (Set("a", ["x" * 500_000] * 3), TooLarge, "a message of"),
    "an exception": (Find(ValueError("x")), ValueRefused, "is of type ValueError"),
    "a typed error of the user's": (Find(Own("x")), ValueRefused, "Own"),
}


@pytest.mark.parametrize("name", CANNOT)
def test_what_does_not_cross_is_refused_with_its_type_and_a_reply_was_handled(name: str) -> None:
    value, error, match = CANNOT[name]
    with pytest.raises(error, match=match):
        SERIALIZER.pack_message(value)
    reply = ["x" * 1_000_000] * 16 if name == "bytes in many places" else value
    with pytest.raises(ReplyRefused, match="p/a has handled the message") as caught:
        SERIALIZER.pack_reply(reply, "p/a", 7)
    assert (caught.value.agent, caught.value.seq) == ("p/a", 7)
    assert isinstance(caught.value.__cause__, DuramenError)


def nested(depth: int, inner: Any) -> Any:
    for _ in range(depth):
        inner = [inner]
    return inner


@pytest.mark.parametrize("inner", [0, Find("x")], ids=["plain", "an object"])
def test_depth_is_bounded(inner: Any) -> None:
    SERIALIZER.pack_message(nested(40, inner))
    for depth in (100, 5_000):
        with pytest.raises(TooLarge):
            SERIALIZER.pack_message(nested(depth, inner))


@pytest.mark.parametrize("inner", [0, Find("x")], ids=["plain", "an object"])
def test_what_holds_itself_is_refused_at_once(inner: Any) -> None:
    loop: list[Any] = [inner]
    loop += [loop, loop, loop]
    with pytest.raises(TooLarge):
        SERIALIZER.pack_message(loop)
    with pytest.raises(ReplyRefused):
        SERIALIZER.pack_reply({"loop": loop}, "p/a", 1)


def test_a_field_that_cannot_be_read_is_refused_with_a_typed_error() -> None:
    registry = EventRegistry()

    @message_type("half", registry=registry)
    @attrs.define(init=False)
    class Half:
        text: str

    with pytest.raises(InvalidMessage, match="cannot be read: AttributeError"):
        Serializer(Limits(), registry).pack_message(Half())


@pytest.mark.slow
def test_a_whole_working_memory_crosses_as_a_reply() -> None:
    memory = {f"k{number}": nested(60, number) for number in range(1_000)}
    with pytest.raises(TooLarge):
        SERIALIZER.pack_message({"deeper": nested(4, memory)})
    assert SERIALIZER.unpack_reply(SERIALIZER.pack_reply({"deeper": nested(4, memory)}, "p/a", 1), "p/a", 1)


# -- bytes of somebody else --------------------------------------------------------------------------------------------


@given(st.binary(max_size=60))
def test_foreign_bytes_give_typed_errors(data: bytes) -> None:
    check_hostile(data)


@st.composite
def tampered(draw: st.DrawFn) -> bytes:
    """Packed values, in which parts of the structure were replaced."""
    value = draw(ANYTHING | OWN_MESSAGES)
    packed = Codec(Limits()).unpack(SERIALIZER.pack_message(value))
    parts = list(_containers(packed))
    for _ in range(draw(st.integers(1, 3))):
        part = draw(st.sampled_from(parts))
        key = draw(st.sampled_from(list(part) if isinstance(part, dict) else list(range(len(part))) or [None]))
        if key is not None:
            part[key] = draw(PLAIN | st.integers(0, 20) | st.just(part) | st.sampled_from(["eval", "os.system", "set"]))
    try:
        return Codec(Limits()).pack(copy_plain(packed))
    except (ValueRefused, RecursionError):
        return b""


def _containers(value: Any) -> Any:
    if isinstance(value, (list, dict)) and value:
        yield value
        for item in value.values() if isinstance(value, dict) else value:
            yield from _containers(item)


@given(tampered())
def test_changed_bytes_give_a_value_or_typed_errors(data: bytes) -> None:
    check_hostile(data)


def check_hostile(data: bytes) -> None:
    with suppress(UnknownMessageType):
        SERIALIZER.unpack_message(data)
    with suppress(ReplyRefused):
        SERIALIZER.unpack_reply(data, "p/a", 7)
    assert isinstance(SERIALIZER.unpack_error(data), DuramenError)


@pytest.mark.parametrize(
    "packed",
    [
        [6, ["os.system", 1, {"command": "touch executed"}]],
        [6, ["builtins.eval", 1, {"source": "executed"}]],
        [6, ["test_serializer.Find", 1, {}]],
        [6, ["__class__", 1, {}]],
        [5, ["__import__", {"name": "executed"}]],
        [5, ["Set", {"path": "a", "value": 1}]],
        [5, ["hold", {}]],
        [99, "executed"],
        [0],
        [0, 1, 2],
        None,
        {},
        [7, {"types": ["SystemExit"], "text": "x"}],
    ],
)
def test_bytes_name_nothing_but_what_is_registered(packed: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    executed: list[Any] = []
    monkeypatch.setattr(os, "system", executed.append)
    before = set(sys.modules)
    data = Codec(Limits()).pack(packed)
    arrived: Any = None
    with suppress(UnknownMessageType):
        arrived = SERIALIZER.unpack_message(data)
    assert arrived is None or type(arrived) is DuramenError
    assert executed == []
    assert set(sys.modules) == before


@pytest.mark.parametrize("base", ["SystemExit", "KeyboardInterrupt", "eval", "StopIteration", "object", "Hold", ""])
def test_an_error_can_be_of_no_class_but_an_exception_to_catch(base: str) -> None:
    packed = {"types": ["HandlerRaised"], "text": "t", "base": base, "kind": "k", "raised": "r"}
    arrived = SERIALIZER.unpack_error(Codec(Limits()).pack(packed))
    assert type(arrived) is HandlerRaised
    assert (arrived.kind, arrived.text) == ("k", "r")


def test_a_user_class_that_raises_while_it_is_made_gives_a_typed_error() -> None:
    registry = EventRegistry()

    def explode(_: Any) -> Any:
        raise ZeroDivisionError("executed")

    @message_type("bomb", registry=registry)
    @frozen
    class Bomb:
        text: str = field(converter=explode)

    data = Codec(Limits()).pack([6, ["bomb", 1, {"text": "x"}]])
    serializer = Serializer(Limits(), registry)
    with pytest.raises(UnknownMessageType, match="ZeroDivisionError"):
        serializer.unpack_message(data)
    with pytest.raises(ReplyRefused):
        serializer.unpack_reply(data, "p/a", 1)


# -- other releases ----------------------------------------------------------------------------------------------------


def test_a_message_type_that_is_not_imported_here_is_refused_by_its_name() -> None:
    data = SERIALIZER.pack_message(Find("x"))
    elsewhere = Serializer(Limits(), EventRegistry())
    with pytest.raises(UnknownMessageType, match="'find' is not registered here"):
        elsewhere.unpack_message(data)
    with pytest.raises(ReplyRefused, match="'find' is not registered here") as caught:
        elsewhere.unpack_reply(data, "p/a", 7)
    assert caught.value.seq == 7


def test_a_newer_version_is_refused_by_older_code() -> None:
    older = EventRegistry()
    older.register_message(Plan, "plan", 2)
    with pytest.raises(UnknownMessageType, match="version 3 is newer"):
        Serializer(Limits(), older).unpack_message(SERIALIZER.pack_message(Plan()))


def test_an_error_of_a_newer_release_arrives_as_the_nearest_class_that_is_known() -> None:
    packed = {"types": ["NotYetThought", "OutcomeUnknown", "Unavailable"], "text": "t", "agent": [0, "p/a"]}
    arrived = SERIALIZER.unpack_error(Codec(Limits()).pack(packed))
    assert type(arrived) is OutcomeUnknown
    assert arrived.agent == "p/a"
    assert type(SERIALIZER.unpack_error(Codec(Limits()).pack(packed | {"types": ["New"]}))) is DuramenError


def test_facts_that_cannot_cross_are_named_by_their_type() -> None:
    arrived = SERIALIZER.unpack_error(SERIALIZER.pack_error(Fenced("t", expected=object(), actual={1}), "p/a"))
    assert (arrived.expected, arrived.actual) == ("object", "set")


def test_causes_end_after_three() -> None:
    error = Fenced("0")
    last: DuramenError = error
    for number in range(1, 6):
        last.__cause__ = last = Fenced(str(number))
    found, texts = SERIALIZER.unpack_error(SERIALIZER.pack_error(error, "p/a")), []
    while found is not None:
        texts.append(str(found))
        found = found.__cause__  # type: ignore[assignment]
    assert texts == ["0", "1", "2", "3"]


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt()])
def test_what_ends_programs_ends_none_elsewhere(error: BaseException) -> None:
    assert type(SERIALIZER.unpack_error(SERIALIZER.pack_error(error, "p/a"))) is DuramenError


def test_it_may_be_used_by_many_threads() -> None:
    failures: list[BaseException] = []

    def run(number: int) -> None:
        try:
            for index in range(300):
                message = Find({"n": [number, index] * 20})
                assert SERIALIZER.unpack_message(SERIALIZER.pack_message(message)) == message
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
