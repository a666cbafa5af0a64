"""The names other programs are written against, and what every public call says to bad input.

Bad input is refused with the documented type, before anything is logged, and at once.
"""

from __future__ import annotations

import asyncio
import importlib
import inspect
import os
import pkgutil
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from enum import IntEnum
from functools import partial
from io import BytesIO, StringIO
from pathlib import Path
from types import ModuleType
from typing import Any, cast, get_type_hints
from uuid import UUID, uuid4

import attrs
import pytest
import redis

import duramen.actors
import duramen.events
import duramen.projections
from duramen.actors import (
    Agent,
    AgentHandle,
    AgentSystem,
    Append,
    Batch,
    Delete,
    Get,
    GetStatus,
    Keys,
    ListCheckpoints,
    Merge,
    Pause,
    Record,
    Restart,
    Resume,
    Set,
    SetGranularity,
    Settings,
    Spawn,
    Supervision,
    Terminate,
)
from duramen.actors.api.calls.history import History
from duramen.actors.api.calls.reading import Reading
from duramen.actors.specification import spec
from duramen.events import (
    AgentAlreadyRunning,
    AgentExists,
    AgentNotFound,
    AgentNotRunning,
    AgentPath,
    AgentPaused,
    CheckpointNotFound,
    Content,
    CorruptEvent,
    DuramenError,
    Granularity,
    InvalidMessage,
    InvalidPath,
    Limits,
    MemoryLog,
    PathNotFound,
    SystemClosed,
    TooLarge,
    Unavailable,
    ValueRefused,
)
from naming import shown

PATH = "acme/alice"
ROOMS = (duramen.events, duramen.projections, duramen.actors)

# -- names -------------------------------------------------------------------------------------------------------------

CONTRACT: dict[str, str] = {
    "duramen.actors": """
        AgentSystem Agent AgentHandle Spawn Pause Resume Terminate ListCheckpoints Get Set Delete Append Merge Batch
        Record LifecycleEvent LifecycleHooks LifecycleResult Outcome Receipt
    """,
    "duramen.events": """
        Event Granularity AgentPath PropertyPath PathPattern event_type upcaster DuramenError InvalidPath ValueRefused
        TooLarge AgentNotFound AgentNotRunning AgentPaused CheckpointNotFound CommandConflict VersionConflict Fenced
        Unconfirmed Unavailable MailboxFull CorruptEvent UnknownEventType Trimmed DataLoss Diverged Receipt
    """,
    "duramen.projections": "Projection WorkingMemory Episodes Timeline Episode fold",
}


def modules() -> list[str]:
    """Every module of the three rooms, but for programs, and for adapters whose frameworks this run is without."""
    absent = {f"duramen.actors.adapters.{name}" for name in os.environ.get("DURAMEN_TEST_WITHOUT", "").split()}
    found = [room.__name__ for room in ROOMS]
    for room in ROOMS:
        found += [info.name for info in pkgutil.walk_packages(room.__path__, f"{room.__name__}.")]
    return sorted(name for name in found if not name.endswith("__main__") and name not in absent)


def order(name: str) -> tuple[int, str]:
    """Constants, classes, the rest; each by name: as ruff sorts them."""
    return (0 if name.isupper() else 1 if name[0].isupper() else 2, name)


@pytest.mark.parametrize(
    ("package", "name"), [(room, name) for room, all_ in CONTRACT.items() for name in all_.split()]
)
def test_a_name_of_the_contract_is_there_and_is_public(package: str, name: str) -> None:
    module = importlib.import_module(package)
    assert getattr(module, name, None) is not None
    assert name in module.__all__


def says_what_is_public(name: str) -> bool:
    """Whether it is a door, or a file of a room, which has no door."""
    return name.count(".") < 3 or hasattr(importlib.import_module(name), "__path__")


@pytest.mark.parametrize("name", [name for name in modules() if not says_what_is_public(name)])
def test_what_is_public_is_said_once_by_the_door(name: str) -> None:
    assert not hasattr(importlib.import_module(name), "__all__")


@pytest.mark.parametrize("name", [name for name in modules() if says_what_is_public(name)])
def test_all_is_sorted_and_true(name: str) -> None:
    module = importlib.import_module(name)
    public: list[str] = module.__all__
    assert public == sorted(set(public), key=order)
    assert [word for word in public if not hasattr(module, word)] == []
    assert [word for word in public if word.startswith("_")] == []


@pytest.mark.parametrize("name", [name for name in modules() if says_what_is_public(name)])
def test_all_names_every_class_and_function_of_the_module(name: str) -> None:
    module = importlib.import_module(name)
    own = [
        word
        for word, found in vars(module).items()
        if not word.startswith("_") and callable(found) and getattr(found, "__module__", None) == name
    ]
    assert sorted(set(own) - set(module.__all__)) == []


@pytest.mark.parametrize("room", ROOMS)
def test_a_star_import_of_a_room_gives_its_public_names(room: ModuleType) -> None:
    scope: dict[str, Any] = {}
    exec(f"from {room.__name__} import *", scope)
    assert set(scope) - {"__builtins__"} == set(room.__all__)


@pytest.mark.parametrize("room", ROOMS)
def test_every_public_class_and_function_says_what_it_is(room: ModuleType) -> None:
    named = {name: getattr(room, name) for name in room.__all__}
    assert [name for name, found in named.items() if callable(found) and not (found.__doc__ or "").strip()] == []


def calls_of(room: ModuleType) -> Iterator[tuple[str, Any]]:
    """The classes and functions of ours that a room exports, and their methods and properties, by name."""
    for name in room.__all__:
        found = getattr(room, name)
        members = (
            {} if not inspect.isclass(found) else {each: inspect.getattr_static(found, each) for each in dir(found)}
        )
        public = {f"{name}.{each}": member for each, member in members.items() if not each.startswith("_")}
        for called, member in {name: found, **public}.items():
            call = getattr(member, "__func__", None) or getattr(member, "fget", None) or member
            is_ours = str(getattr(call, "__module__", "")).startswith("duramen.")
            if is_ours and (inspect.isfunction(call) or inspect.isclass(call)):
                yield called, call


@pytest.mark.parametrize("room", ROOMS)
def test_the_types_of_every_public_call_are_found_at_run_time(room: ModuleType) -> None:
    unresolved: dict[str, str] = {}
    calls = dict(calls_of(room))
    for name, call in calls.items():
        try:
            get_type_hints(call)
        except (NameError, TypeError) as error:
            unresolved[name] = str(error)
    assert len(calls) > len(room.__all__) / 2 and unresolved == {}


def test_every_error_is_a_duramen_error_and_is_public() -> None:
    from duramen.events import errors

    for name in errors.__all__:
        assert issubclass(getattr(errors, name), DuramenError)
        assert name in duramen.events.__all__


def test_every_call_of_a_handle_is_tried_below() -> None:
    calls = {name for name, found in vars(AgentHandle).items() if not name.startswith("_") and callable(found)}
    assert calls - {name.split()[0] for name, _, _ in BAD} == set()


def test_every_call_that_looks_back_is_tried_below() -> None:
    calls = {name for kind in (History, Reading) for name, found in vars(kind).items() if inspect.isfunction(found)}
    tried = {name.split()[0] for name, _, _ in BAD}
    assert {name for name in calls if not name.startswith("_")} - tried == set()


# -- systems to be asked -----------------------------------------------------------------------------------------------


@pytest.fixture
def promptly() -> Callable[..., Any]:
    """Call something in a thread of its own; fail if it has not ended in time."""

    def call(work: Callable[[], Any], seconds: float = 30.0) -> Any:
        outcome: list[tuple[Any, BaseException | None]] = []

        def run() -> None:
            try:
                outcome.append((work(), None))
            except BaseException as error:
                outcome.append((None, error))

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        thread.join(seconds)
        assert not thread.is_alive(), f"still not done after {seconds} s"
        [(value, error)] = outcome
        if error is not None:
            raise error
        return value

    return call


@pytest.fixture(scope="module")
def shared(valkey_url: str) -> Iterator[dict[str, AgentSystem]]:
    """A system in memory and one on a server; each test has a project of its own in them."""
    with (
        AgentSystem.open("memory://", settings=Settings(hook_timeout=30)) as memory,
        AgentSystem.open(valkey_url, namespace=f"t{uuid4().hex}") as server,
    ):
        yield {"memory": memory, "valkey": server}


@pytest.fixture(params=["memory", "valkey"])
def system(shared: dict[str, AgentSystem], request: pytest.FixtureRequest) -> AgentSystem:
    return shared[request.param]


@pytest.fixture
def alice(system: AgentSystem) -> AgentHandle:
    """A running agent with something in its memory."""
    return system.spawn(f"p{uuid4().hex}/alice", initial_state={"n": 1, "l": [1], "d": {"x": {"y": 1}}, "none": None})


def seq(system: AgentSystem, agent: AgentHandle) -> int:
    head = system.log.head(str(agent.path))
    return head.seq if head else 0


def everything(system: AgentSystem) -> dict[str, int]:
    return {entry.agent: entry.head.seq for entry in system.agents()}


def positions(system: AgentSystem) -> list[int]:
    """Where the feeds of all partitions end: any event of any agent moves one. For systems of many agents."""
    return system.log.positions()


# -- hostile values ----------------------------------------------------------------------------------------------------


class Text(str):
    """A subclass is not plain data."""


class Number(IntEnum):
    ONE = 1


def deep(levels: int) -> Any:
    value: Any = None
    for _ in range(levels):
        value = [value]
    return value


def endless() -> Any:
    value: list[Any] = []
    value.append(value)
    return value


NO_TEXT: list[Any] = [None, 7, 1.5, True, b"a/b", ["a", "b"], ("a", "b"), {"a": 1}, object(), Path("a/b")]

AGENT_PATHS: list[Any] = [
    "",
    "acme",
    "/",
    "acme/",
    "/alice",
    "acme//alice",
    "acme/alice/",
    "acme/../alice",
    "./alice",
    "acme/alice\n",
    "acme/alice\x00",
    "acme/*",
    "acme/**",
    "acme/\u202ealice",
    "acme/\ud800",
    "acme/" + "x" * 129,
    "/".join(["x"] * 33),
    "/".join(["x" * 100] * 11),
    "x" * 1_000_000,
    "acme/alice\r\nDEL x",
    *NO_TEXT,
]

PROPERTY_PATHS: list[Any] = [
    "/",
    "a/",
    "/a",
    "a//b",
    "a/../b",
    ".",
    "a/.",
    "a\x00b",
    "a\x1fb",
    "a\x7fb",
    "a\x85b",
    "a\u202eb",
    "a\u2066b",
    "a\ud800b",
    "e\u0301",
    "*",
    "a/*",
    "**",
    "a~2b",
    "a~",
    "/".join(["a"] * 33),
    "x" * (2 * 1024 * 1024 + 1),
    *NO_TEXT,
]

REFUSED: list[Any] = [
    {1, 2},
    (1, 2),
    object(),
    1 + 2j,
    2**64,
    -(2**63) - 1,
    "\ud800",
    {1: 2},
    {b"a": 1},
    {None: 1},
    {"a": {"b": {3: 1}}},
    bytearray(b"x"),
    Text("x"),
    Number.ONE,
    UUID(int=1),
    timedelta(seconds=1),
    Path("x"),
    [lambda: None],
    Exception("x"),
]

TOO_MANY: list[Any] = [
    list(range(70_000)),
    {str(number): 1 for number in range(70_000)},
    deep(65),
    deep(10_000),
    endless(),
]
"""Values that are too large however their texts and bytes are kept."""

TOO_LARGE: list[Any] = ["x" * (1024 * 1024 + 1), b"x" * (256 * 1024 + 1), *TOO_MANY]

NO_SECONDS: list[Any] = [
    -1,
    -1e-9,
    float("nan"),
    float("inf"),
    -float("inf"),
    2**70,
    "1",
    b"1",
    True,
    [],
    timedelta(-1),
    timedelta.max,
    object(),
]

IDS: list[Any] = ["", "x" * 201, "a\nb", "a\x00b", "\u202eb", "\ud800", 7, b"x", ["x"], {"a": 1}, 1.5, True, object()]

NO_MAPPING: list[Any] = [7, "text", [1], (("a", 1),), {1}, object(), b"x"]

NO_LEVEL: list[Any] = [0, 5, -1, "ACTIVITY", 2.5, [], {}, object(), b"3"]

KINDS: list[Any] = ["", "Kind", "a b", "a/b", "9a", "a\n", "x" * 65, "é", "a\ud800", None, 7, b"a", ["a"], object()]

Call = Callable[[AgentSystem, AgentHandle, Any], Any]


def spawned(**fixed: Any) -> Call:
    """A spawn of a new agent with one bad argument."""
    [name] = [name for name, value in fixed.items() if value is ...]

    def call(system: AgentSystem, agent: AgentHandle, bad: Any) -> Any:
        return system.spawn(agent.path.child("new"), **{**fixed, name: bad})

    return call


REFUSED_OR_LARGE = (ValueRefused, TooLarge)

NO_SEQ: list[Any] = [-1, -(2**70), 1_000, 2**70, 1.5, True, b"1", [1], {}, object()]

NO_TIME: list[Any] = [datetime(2026, 1, 1), date(2026, 1, 1), "2026-01-01", "", 7, 1.5, True, b"", []]

NO_FILE: list[Any] = ["", "a\x00b", None, 7, b"x", [], object(), StringIO()]


def session_of(system: AgentSystem, agent: AgentHandle) -> BytesIO:
    """What an export of an agent wrote, to be read."""
    file = BytesIO()
    system.export_session(agent.path, file)
    file.seek(0)
    return file


NAMED_TWICE: list[Any] = [
    {"project_id": "acme", "agent_instance_id": "alice"},
    {"project_id": "acme"},
    {"agent_instance_id": "alice"},
]
"""What names an agent by ids, and is given beside a path."""


CONTENT = Content(bytes(32), 1, is_text=True)
BAD: list[tuple[str, Call, list[tuple[list[Any], type[Exception] | tuple[type[Exception], ...]]]]] = [
    # -- the system
    ("agent path", lambda s, a, x: s.agent(x), [(AGENT_PATHS, InvalidPath)]),
    (
        "agent project",
        lambda s, a, x: s.agent(project_id=x, agent_instance_id="a"),
        [(["", "a\ud800", *NO_TEXT], InvalidPath)],
    ),
    (
        "agent instance",
        lambda s, a, x: s.agent(project_id="a", agent_instance_id=x),
        [(["", "a" * 129, *NO_TEXT], InvalidPath)],
    ),
    ("agent named twice", lambda s, a, x: s.agent(a.path, **x), [(NAMED_TWICE, InvalidPath)]),
    ("agent aio named twice", lambda s, a, x: s.aio.agent(a.path, **x), [(NAMED_TWICE, InvalidPath)]),
    ("agent half named", lambda s, a, x: s.agent(**x), [([{}, *NAMED_TWICE[1:]], InvalidPath)]),
    ("spawn named twice", lambda s, a, x: s.spawn(a.path.child("new"), **x), [(NAMED_TWICE, InvalidPath)]),
    ("spawn aio", lambda s, a, x: asyncio.run(s.aio.spawn("acme/new", **x)), [(NAMED_TWICE, InvalidPath)]),
    ("register", lambda s, a, x: s.register("k", x), [([dict, object, AgentSystem, "k", 7, None], InvalidMessage)]),
    ("spawn path", lambda s, a, x: s.spawn(x), [(AGENT_PATHS, InvalidPath)]),
    ("spawn session_id", spawned(session_id=...), [(IDS, InvalidMessage)]),
    ("spawn agent_type", spawned(agent_type=...), [(IDS, InvalidMessage)]),
    ("spawn initial_state", spawned(initial_state=...), [(NO_MAPPING, InvalidMessage)]),
    (
        "spawn initial_state value",
        lambda s, a, x: s.spawn(a.path.child("new"), initial_state={"a": x}),
        [(REFUSED, ValueRefused), (TOO_MANY, TooLarge)],
    ),
    (
        "spawn initial_state key",
        lambda s, a, x: s.spawn(a.path.child("new"), initial_state={x: 1}),
        [([1, None, b"a", "\ud800", ("a",), Text("a")], ValueRefused)],
    ),
    ("spawn metadata", spawned(metadata=...), [(NO_MAPPING, InvalidMessage)]),
    (
        "spawn metadata value",
        lambda s, a, x: s.spawn(a.path.child("new"), metadata={"a": x}),
        [(REFUSED, ValueRefused), (TOO_LARGE, TooLarge)],
    ),
    ("spawn granularity", spawned(granularity=...), [([*NO_LEVEL, None], InvalidMessage)]),
    ("spawn levels", spawned(levels=...), [(NO_MAPPING, InvalidMessage)]),
    (
        "spawn levels kind",
        lambda s, a, x: s.spawn(a.path.child("new"), levels={x: 1}),
        [([kind for kind in KINDS if not isinstance(kind, list)], InvalidMessage)],
    ),
    (
        "spawn levels level",
        lambda s, a, x: s.spawn(a.path.child("new"), levels={"a": x}),
        [([*NO_LEVEL, None], InvalidMessage)],
    ),
    ("spawn parent", spawned(parent=...), [([path for path in AGENT_PATHS if path is not None], InvalidPath)]),
    ("spawn command_id", spawned(command_id=...), [(IDS, InvalidMessage)]),
    ("events path", lambda s, a, x: list(s.events(x)), [(AGENT_PATHS, InvalidPath)]),
    (
        "events nobody",
        lambda s, a, x: list(s.events(x)),
        [(["acme/nobody", AgentPath.parse("acme/nobody")], AgentNotFound)],
    ),
    (
        "events from_seq",
        lambda s, a, x: list(s.events(a.path, from_seq=x)),
        [([0, -1, -(2**70), 1.5, "1", None, b"1", [1]], InvalidMessage)],
    ),
    (
        "events to_seq",
        lambda s, a, x: list(s.events(a.path, to_seq=x)),
        [([1.5, "1", b"1", [1]], InvalidMessage)],
    ),
    ("peek path", lambda s, a, x: s.peek(x), [(AGENT_PATHS, InvalidPath)]),
    ("load_content path", lambda s, a, x: s.load_content(x, CONTENT), [(AGENT_PATHS, InvalidPath)]),
    ("load_content content", lambda s, a, x: s.load_content(PATH, x), [([None, 1, "a", b"a" * 32], InvalidMessage)]),
    ("load_content unknown", lambda s, a, x: s.load_content(x, CONTENT), [([PATH, "acme/nobody"], CorruptEvent)]),
    ("peek nobody", lambda s, a, x: s.peek(x), [(["acme/nobody"], AgentNotFound)]),
    # -- the past
    ("state_at path", lambda s, a, x: s.state_at(x), [(AGENT_PATHS, InvalidPath)]),
    ("state_at seq", lambda s, a, x: s.state_at(a.path, x), [(NO_SEQ, InvalidMessage)]),
    ("state_at time", lambda s, a, x: s.state_at(a.path, time=x), [(NO_TIME, InvalidMessage)]),
    (
        "state_at checkpoint",
        lambda s, a, x: s.state_at(a.path, checkpoint=x),
        [([7, True, b"x", [], datetime.now(UTC)], InvalidMessage), (["", "none", "x" * 1_000], CheckpointNotFound)],
    ),
    ("state_at two moments", lambda s, a, x: s.state_at(a.path, 1, checkpoint=x), [(["none"], InvalidMessage)]),
    ("replay path", lambda s, a, x: s.replay(x), [(AGENT_PATHS, InvalidPath), (["acme/nobody"], AgentNotFound)]),
    ("replay from_seq", lambda s, a, x: s.replay(a.path, x), [([*NO_SEQ, 0, 3, "1"], InvalidMessage)]),
    ("replay to_seq", lambda s, a, x: s.replay(a.path, 1, x), [([*NO_SEQ, "1"], InvalidMessage)]),
    ("replay seek", lambda s, a, x: s.replay(a.path).seek(x), [([*NO_SEQ, "1", None], InvalidMessage)]),
    ("replay seek time", lambda s, a, x: s.replay(a.path).seek(time=x), [([*NO_TIME, None], InvalidMessage)]),
    ("keep_keyframes", lambda s, a, x: s.keep_keyframes(x), [(AGENT_PATHS, InvalidPath)]),
    ("tree_at path", lambda s, a, x: s.tree_at(x), [(AGENT_PATHS, InvalidPath), (["acme/nobody"], AgentNotFound)]),
    ("tree_at seq", lambda s, a, x: s.tree_at(a.path, x), [(NO_SEQ, InvalidMessage)]),
    ("tree_at time", lambda s, a, x: s.tree_at(a.path, time=x), [(NO_TIME, InvalidMessage)]),
    (
        "history path",
        lambda s, a, x: list(s.history(x, "n")),
        [(AGENT_PATHS, InvalidPath), (["acme/nobody"], AgentNotFound)],
    ),
    ("history property", lambda s, a, x: list(s.history(a.path, x)), [(PROPERTY_PATHS, InvalidPath)]),
    ("diff path", lambda s, a, x: s.diff(x), [(AGENT_PATHS, InvalidPath)]),
    ("diff a", lambda s, a, x: s.diff(a.path, x), [(NO_SEQ, InvalidMessage), (["none"], CheckpointNotFound)]),
    ("diff b", lambda s, a, x: s.diff(a.path, 1, x), [(NO_SEQ, InvalidMessage), (["none"], CheckpointNotFound)]),
    (
        "diff other",
        lambda s, a, x: s.diff(a.path, other=x),
        [([path for path in AGENT_PATHS if path is not None], InvalidPath), (["acme/nobody"], AgentNotFound)],
    ),
    ("blame path", lambda s, a, x: s.blame(x), [(AGENT_PATHS, InvalidPath)]),
    (
        "blame property",
        lambda s, a, x: s.blame(a.path, x),
        [(PROPERTY_PATHS, InvalidPath), (["x", "l/9"], PathNotFound)],
    ),
    ("blame at", lambda s, a, x: s.blame(a.path, "n", x), [(NO_SEQ, InvalidMessage)]),
    ("blame most", lambda s, a, x: s.blame(a.path, most=x), [([0, -1, 1.5, "9", None, True, [], 1], InvalidMessage)]),
    ("verify path", lambda s, a, x: s.verify(x), [([path for path in AGENT_PATHS if path is not None], InvalidPath)]),
    ("verify nobody", lambda s, a, x: s.verify(x, tree=True), [(["acme/nobody"], AgentNotFound)]),
    (
        "verify workers",
        lambda s, a, x: s.verify(a.path, workers=x),
        [([0, -1, 65, 1.5, "4", None, True, []], InvalidMessage)],
    ),
    ("verify progress", lambda s, a, x: s.verify(progress=x), [([7, "x", [], object()], InvalidMessage)]),
    ("trim path", lambda s, a, x: s.trim(x), [(AGENT_PATHS, InvalidPath), (["acme/nobody"], AgentNotFound)]),
    ("erase path", lambda s, a, x: s.erase(x), [(AGENT_PATHS, InvalidPath), (["acme/nobody"], AgentNotFound)]),
    ("agents prefix", lambda s, a, x: s.agents(x), [([7, b"a", ["a"]], InvalidMessage)]),
    ("agents status", lambda s, a, x: s.agents(status=x), [(["asleep", 7, ["running", "x"]], InvalidMessage)]),
    ("agents limit", lambda s, a, x: s.agents(limit=x), [([0, -1, 1.5, "9", True], InvalidMessage)]),
    (
        "trim keep_events",
        lambda s, a, x: s.trim(a.path, keep_events=x),
        [([-1, 1.5, "9", True, []], InvalidMessage)],
    ),
    (
        "trim keep_days",
        lambda s, a, x: s.trim(a.path, keep_days=x),
        [([-1, "9", True, [], float("nan"), float("inf")], InvalidMessage)],
    ),
    ("fork path", lambda s, a, x: s.fork(x, to=f"{a.path}2"), [(AGENT_PATHS, InvalidPath)]),
    (
        "fork at",
        lambda s, a, x: s.fork(a.path, x, to=f"{a.path}2"),
        [(NO_SEQ, InvalidMessage), (["none"], CheckpointNotFound), ([0], AgentNotFound)],
    ),
    ("fork to", lambda s, a, x: s.fork(a.path, to=x), [(AGENT_PATHS, InvalidPath)]),
    ("fork to one that is there", lambda s, a, x: s.fork(a.path, to=a.path), [([None], AgentExists)]),
    ("fork session_id", lambda s, a, x: s.fork(a.path, to=f"{a.path}2", session_id=x), [(IDS, InvalidMessage)]),
    ("origin", lambda s, a, x: s.origin(x), [(AGENT_PATHS, InvalidPath), (["acme/nobody"], AgentNotFound)]),
    ("export_session path", lambda s, a, x: s.export_session(x, BytesIO()), [(AGENT_PATHS, InvalidPath)]),
    ("export_session file", lambda s, a, x: s.export_session(a.path, x), [(NO_FILE, InvalidMessage)]),
    ("import_session file", lambda s, a, x: s.import_session(x), [(NO_FILE, InvalidMessage)]),
    ("import_session content", lambda s, a, x: s.import_session(BytesIO(x)), [([b"", b"x" * 500], InvalidMessage)]),
    (
        "import_session to",
        lambda s, a, x: s.import_session(session_of(s, a), x),
        [([path for path in AGENT_PATHS if path is not None], InvalidPath), ([None], AgentExists)],
    ),
    (
        "import_session progress",
        lambda s, a, x: s.import_session(session_of(s, a), f"{a.path}2", progress=x),
        [([7, "x", [], object()], InvalidMessage)],
    ),
    (
        "export_session progress",
        lambda s, a, x: s.export_session(a.path, BytesIO(), progress=x),
        [([7, "x", [], object()], InvalidMessage)],
    ),
    (
        "export_jsonl progress",
        lambda s, a, x: s.export_jsonl(a.path, BytesIO(), progress=x),
        [([7, "x", [], object()], InvalidMessage)],
    ),
    (
        "export_jsonl path",
        lambda s, a, x: s.export_jsonl(x, BytesIO(), tree=True),
        [(AGENT_PATHS, InvalidPath), (["acme/nobody"], AgentNotFound)],
    ),
    ("export_jsonl file", lambda s, a, x: s.export_jsonl(a.path, x), [(NO_FILE, InvalidMessage)]),
    (
        "export_jsonl from_seq",
        lambda s, a, x: s.export_jsonl(a.path, BytesIO(), from_seq=x),
        [([0, -1, 1.5, "1", None], InvalidMessage)],
    ),
    ("register type", lambda s, a, x: s.register(x, duramen.actors.Agent), [([None, *IDS], InvalidMessage)]),
    ("register factory", lambda s, a, x: s.register("k", x), [([None, 7, "x", [], {}], InvalidMessage)]),
    # -- working memory
    ("get path", lambda s, a, x: a.get(x), [(PROPERTY_PATHS, InvalidPath)]),
    ("get path with a default", lambda s, a, x: a.get(x, "d"), [(PROPERTY_PATHS, InvalidPath)]),
    (
        "get nothing there",
        lambda s, a, x: a.get(x),
        [(["x", "n/x", "l/1", "l/-1", "l/01", "l/x", "d/x/y/z"], PathNotFound)],
    ),
    ("keys path", lambda s, a, x: a.keys(x), [([*PROPERTY_PATHS, "n", "l", "none", "l/0"], InvalidPath)]),
    ("keys nothing there", lambda s, a, x: a.keys(x), [(["x", "d/y"], PathNotFound)]),
    (
        "set path",
        lambda s, a, x: a.set(x, 1),
        [([*PROPERTY_PATHS, "", "n/x", "l/1", "l/x", "none/x", "l/01"], InvalidPath)],
    ),
    ("set value", lambda s, a, x: a.set("v", x), [(REFUSED, ValueRefused), (TOO_MANY, TooLarge)]),
    ("set command_id", lambda s, a, x: a.set("v", 1, command_id=x), [(IDS, InvalidMessage)]),
    ("delete path", lambda s, a, x: a.delete(x), [([*PROPERTY_PATHS, ""], InvalidPath)]),
    ("delete nothing there", lambda s, a, x: a.delete(x), [(["x", "n/x", "l/1", "d/y"], InvalidPath)]),
    ("delete command_id", lambda s, a, x: a.delete("n", command_id=x), [(IDS, InvalidMessage)]),
    (
        "append path",
        lambda s, a, x: a.append(x, 1),
        [([*PROPERTY_PATHS, "", "n", "d", "none", "n/x", "l/0"], InvalidPath)],
    ),
    ("append value", lambda s, a, x: a.append("l", x), [(REFUSED, ValueRefused), (TOO_MANY, TooLarge)]),
    ("extend values", lambda s, a, x: a.extend("l", [x]), [(REFUSED, ValueRefused), (TOO_MANY, TooLarge)]),
    ("extend expected_seq", lambda s, a, x: a.extend("l", [1], expected_seq=x), [(["1", 1.5, -1], InvalidMessage)]),
    ("pop key", lambda s, a, x: a.pop("l", x), [(["0", 1.5, None, True], InvalidPath), ([99], PathNotFound)]),
    ("append command_id", lambda s, a, x: a.append("l", 1, command_id=x), [(IDS, InvalidMessage)]),
    ("merge path", lambda s, a, x: a.merge(x, {}), [([*PROPERTY_PATHS, "n/x", "l/1", "none/x"], InvalidPath)]),
    ("merge the root", lambda s, a, x: a.merge("", x), [([None, 1, "x", [1], b""], InvalidPath)]),
    ("merge patch", lambda s, a, x: a.merge("d", x), [(REFUSED, ValueRefused), (TOO_MANY, TooLarge)]),
    ("merge command_id", lambda s, a, x: a.merge("d", {}, command_id=x), [(IDS, InvalidMessage)]),
    ("record kind", lambda s, a, x: a.record(x), [(KINDS, InvalidMessage)]),
    ("record data", lambda s, a, x: a.record("k", x), [(REFUSED, ValueRefused), (TOO_MANY, TooLarge)]),
    (
        "record level",
        lambda s, a, x: a.record("k", level=x),
        [([*NO_LEVEL, None, 1, 2, Granularity.STATE], InvalidMessage)],
    ),
    ("record command_id", lambda s, a, x: a.record("k", command_id=x), [(IDS, InvalidMessage)]),
    ("set_granularity level", lambda s, a, x: a.set_granularity(x), [([*NO_LEVEL, None], InvalidMessage)]),
    ("set_granularity levels", lambda s, a, x: a.set_granularity(3, levels=x), [(NO_MAPPING, InvalidMessage)]),
    (
        "set_granularity kind",
        lambda s, a, x: a.set_granularity(levels={x: 3}),
        [([kind for kind in KINDS if not isinstance(kind, list)], InvalidMessage)],
    ),
    (
        "set_granularity level of a kind",
        lambda s, a, x: a.set_granularity(levels={"k": x}),
        [(NO_LEVEL, InvalidMessage)],
    ),
    ("set_granularity command_id", lambda s, a, x: a.set_granularity(3, command_id=x), [(IDS, InvalidMessage)]),
    ("set_retention", lambda s, a, x: a.set_retention(x), [([1, "all", {"events": 3}, object()], InvalidMessage)]),
    ("set_retention command_id", lambda s, a, x: a.set_retention(None, command_id=x), [(IDS, InvalidMessage)]),
    # -- lifecycle
    ("pause checkpoint_id", lambda s, a, x: a.pause(x), [(IDS, InvalidMessage)]),
    (
        "pause ttl",
        lambda s, a, x: a.pause(ttl=x),
        [
            (
                [*NO_SECONDS, 0, 0.5, timedelta(0), timedelta(microseconds=1), timedelta(days=40_000)],
                InvalidMessage,
            )
        ],
    ),
    ("pause metadata", lambda s, a, x: a.pause(metadata=x), [(NO_MAPPING, InvalidMessage)]),
    (
        "pause metadata value",
        lambda s, a, x: a.pause(metadata={"a": x}),
        [(REFUSED, ValueRefused), (TOO_LARGE, TooLarge)],
    ),
    (
        "pause when_paused",
        lambda s, a, x: a.pause(when_paused=x),
        [(["", "REFUSE", None, 7, b"stash", [], {}], InvalidMessage)],
    ),
    ("pause reason", lambda s, a, x: a.pause(reason=x), [(IDS, InvalidMessage)]),
    ("pause command_id", lambda s, a, x: a.pause(command_id=x), [(IDS, InvalidMessage)]),
    ("resume checkpoint_id", lambda s, a, x: a.resume(x), [(IDS, InvalidMessage)]),
    ("resume nothing there", lambda s, a, x: a.resume(x).raise_for_failure(), [(["none", None], CheckpointNotFound)]),
    ("resume clear_current", lambda s, a, x: a.resume(clear_current=x), [([None, 1, 0, "yes", []], InvalidMessage)]),
    ("resume command_id", lambda s, a, x: a.resume(command_id=x), [(IDS, InvalidMessage)]),
    (
        "terminate outcome",
        lambda s, a, x: a.terminate(x),
        [(["", "SUCCESS", "ok", None, 7, True, b"success", [], {}], InvalidMessage)],
    ),
    (
        "terminate task_description",
        lambda s, a, x: a.terminate(task_description=x),
        [([7, b"x", [], {}, True, "\ud800"], (InvalidMessage, ValueRefused))],
    ),
    (
        "terminate context_summary",
        lambda s, a, x: a.terminate(context_summary=x),
        [([7, b"x", [], {}, True, "\ud800"], (InvalidMessage, ValueRefused))],
    ),
    (
        "terminate lessons_learned",
        lambda s, a, x: a.terminate(lessons_learned=x),
        [([7, "text", [1], [None], [["x"]], {"a": 1}, None, b"x", ["\ud800"]], (InvalidMessage, ValueRefused))],
    ),
    (
        "terminate importance_score",
        lambda s, a, x: a.terminate(importance_score=x),
        [([-0.1, 1.1, float("nan"), float("inf"), "1", None, True, [], b"1", 2**70], InvalidMessage)],
    ),
    (
        "terminate outcome_details",
        lambda s, a, x: a.terminate(outcome_details=x),
        [(REFUSED, ValueRefused), (TOO_LARGE, TooLarge)],
    ),
    ("terminate reason", lambda s, a, x: a.terminate(reason=x), [(IDS, InvalidMessage)]),
    ("terminate command_id", lambda s, a, x: a.terminate(command_id=x), [(IDS, InvalidMessage)]),
    ("restart command_id", lambda s, a, x: a.restart(command_id=x), [(IDS, InvalidMessage)]),
    (
        "spawn_child name",
        lambda s, a, x: a.spawn_child(x),
        [(["", "x" * 129, "\ud800", *NO_TEXT], InvalidPath)],
    ),
    # -- messages
    ("ask message", lambda s, a, x: a.ask(x), [([None, 7, "x", b"x", object(), [], {}, Set, Get], InvalidMessage)]),
    (
        "ask batch",
        lambda s, a, x: a.ask(Batch(x)),
        [
            (
                [None, 7, "text", {"a": 1}, [1], [None], [Get("n")], [Pause()], [Batch([])], [Set("a", 1, "c")], [Set]],
                InvalidMessage,
            )
        ],
    ),
    ("ask batch path", lambda s, a, x: a.ask(Batch([Set("ok", 1), Set(x, 1)])), [(PROPERTY_PATHS, InvalidPath)]),
    (
        "ask batch value",
        lambda s, a, x: a.ask(Batch([Set("ok", 1), Append("l", x)])),
        [(REFUSED, ValueRefused), (TOO_MANY, TooLarge)],
    ),
    ("ask batch too long", lambda s, a, x: a.ask(Batch([Set("a", 1)] * x)), [([257], TooLarge)]),
    (
        "ask batch too large",
        lambda s, a, x: a.ask(Batch([Set(f"k{n}", ["v" * 100] * 2_000) for n in range(x)])),
        [([6], TooLarge)],
    ),
    ("ask batch command_id", lambda s, a, x: a.ask(Batch([Set("a", 1)], x)), [(IDS, InvalidMessage)]),
    ("ask timeout", lambda s, a, x: a.ask(Get(), timeout=x), [(NO_SECONDS, InvalidMessage)]),
    ("ask room", lambda s, a, x: a.ask(Get(), room=x), [([*NO_SECONDS, None], InvalidMessage)]),
    ("ask later", lambda s, a, x: a.ask(Get(), block=False, timeout=x), [(NO_SECONDS, InvalidMessage)]),
    ("ask and get", lambda s, a, x: a.ask(Get(), block=False).get(timeout=x), [(NO_SECONDS, InvalidMessage)]),
    ("ask aio", lambda s, a, x: asyncio.run(a.aio.ask(Get(), timeout=x)), [(NO_SECONDS, InvalidMessage)]),
    ("tell room", lambda s, a, x: a.tell(Get(), room=x), [([*NO_SECONDS, None], InvalidMessage)]),
    ("tell aio", lambda s, a, x: asyncio.run(a.aio.tell(Get(), room=x)), [([*NO_SECONDS, None], InvalidMessage)]),
    ("close", lambda s, a, x: s.close(timeout=x), [([*NO_SECONDS, None], InvalidMessage)]),
    (
        "subscribe every",
        lambda s, a, x: s.subscribe("**", print, every=x),
        [([*NO_SECONDS, 0, 1e-9, 90_000, timedelta(days=1)], InvalidMessage)],
    ),
    (
        "subscription close",
        lambda s, a, x: s.subscribe("**", print).close(timeout=x),
        [([*NO_SECONDS, None], InvalidMessage)],
    ),
    ("subscription take", lambda s, a, x: s.subscribe("**").take(timeout=x), [(NO_SECONDS, InvalidMessage)]),
    ("ask command_id", lambda s, a, x: a.ask("mine", command_id=x), [(IDS, InvalidMessage)]),
    (
        "ask spawn",
        lambda s, a, x: s.agent(a.path.child("new")).ask(Spawn(initial_state=x)),
        [(NO_MAPPING, InvalidMessage)],
    ),
    (
        "batch path",
        lambda s, a, x: in_a_batch(a, lambda batch: (batch.set("ok", 1), batch.delete(x))),
        [(PROPERTY_PATHS, InvalidPath)],
    ),
    (
        "batch value",
        lambda s, a, x: in_a_batch(a, lambda batch: (batch.set("ok", 1), batch.merge("d", x))),
        [(REFUSED, ValueRefused), (TOO_MANY, TooLarge)],
    ),
    (
        "batch kind",
        lambda s, a, x: in_a_batch(a, lambda batch: (batch.set("ok", 1), batch.record(x))),
        [(KINDS, InvalidMessage)],
    ),
    (
        "tell message",
        lambda s, a, x: told(a, x),
        [([Set("a//b", 1), Set("v", {1}), Delete("x"), None, 7, "x"], PathNotFound)],
    ),
    ("status nobody", lambda s, a, x: s.agent(x).status(), [(["acme/nobody"], AgentNotFound)]),
    ("checkpoints nobody", lambda s, a, x: s.agent(x).checkpoints(), [(["acme/nobody"], AgentNotFound)]),
]


def in_a_batch(agent: AgentHandle, fill: Callable[[Any], object]) -> None:
    with agent.batch() as batch:
        fill(batch)


def told(agent: AgentHandle, message: Any) -> None:
    """A message that fails only logs; the next call finds nothing changed, and raises by itself."""
    agent.tell(message)
    agent.get("not/there")


GROUPS = [
    pytest.param(call, values, error, id=f"{name} {group}" if group else name)
    for name, call, groups in BAD
    for group, (values, error) in enumerate(groups)
]
MEMORY: dict[str, Any] = {"n": 1, "l": [1], "d": {"x": {"y": 1}}, "none": None}


def answer(call: Callable[[], Any]) -> BaseException | None:
    try:
        call()
    except BaseException as error:
        return error
    return None


def problem(error: BaseException | None, wanted: Any) -> str | None:
    """What is wrong with the way a bad input was answered."""
    if error is None:
        return "taken"
    if not isinstance(error, DuramenError) or not isinstance(error, wanted):
        return f"raised {type(error).__name__}: {str(error)[:200]!r}"
    if not 0 < len(str(error)) < 1_000 or not str(error).isprintable():
        return f"said {str(error)[:200]!r}"
    return None


@pytest.mark.parametrize(("call", "values", "error"), GROUPS)
def test_bad_input_is_refused_with_its_type_and_nothing_is_logged(
    promptly: Callable[..., Any], call: Call, values: list[Any], error: Any
) -> None:
    problems: list[str] = []
    with AgentSystem.open("memory://") as system:
        agent = system.spawn(PATH, initial_state=MEMORY)
        before = everything(system)
        for bad in values:
            said = promptly(partial(answer, partial(call, system, agent, bad)))
            found = problem(said, error)
            if found is None and everything(system) != before:
                found = f"logged: {everything(system)}"
            if found is None and agent.get() != MEMORY:
                found = "changed the state"
            if found is not None:
                problems.append(f"{name_of(bad)}: {found}")
        assert problems == []
        assert agent.set("after", 1).seq == 2


def name_of(value: Any) -> str:
    try:
        return ascii(value)[:60]
    except RecursionError:
        return type(value).__name__


@pytest.mark.parametrize(("call", "values", "error"), GROUPS)
def test_a_server_gives_the_same_answer(
    shared: dict[str, AgentSystem], promptly: Callable[..., Any], call: Call, values: list[Any], error: Any
) -> None:
    """Once for each group: that the answer does not depend on where the log is."""
    system = shared["valkey"]
    agent = system.spawn(f"p{uuid4().hex}/alice", initial_state=MEMORY)
    before = positions(system)
    assert problem(promptly(lambda: answer(lambda: call(system, agent, values[0]))), error) is None
    assert positions(system) == before
    assert agent.set("after", 1).seq == 2


def test_a_refusal_does_not_quote_the_value(alice: AgentHandle) -> None:
    secret = "hunter2-Zx9"
    for bad in ({secret}, [secret, object()], {"a": (secret,)}, {1: secret}, [secret] * 70_000):
        for call in (alice.set, alice.append, alice.merge):
            with pytest.raises(DuramenError) as caught:
                call("d", bad)
            assert secret not in str(caught.value)
            assert secret not in repr(vars(caught.value))


@pytest.mark.parametrize(
    "limit", ["event_bytes", "depth", "container_items", "text_bytes", "state_nodes", "batch_events"]
)
def test_what_is_just_within_a_limit_is_taken_and_one_more_is_not(limit: str) -> None:
    def message(amount: int) -> Any:
        match limit:
            case "event_bytes":
                return Set("v", [1] * amount)  # a byte each, and no text that could be stored beside the log
            case "depth":
                return Set("v", deep(amount))
            case "container_items":
                return Set("v", [None] * amount)
            case "text_bytes":
                return Set("v", "é" * (amount // 2) + "x" * (amount % 2))
            case "state_nodes":
                return Set("v", [None] * amount)
            case _:
                return Batch([Append("v", 1)] * amount)

    with AgentSystem.open("memory://", limits=Limits(**{limit: 50 if limit != "event_bytes" else 500})) as system:
        agent = system.spawn(PATH)
        taken = []
        for amount in range(1, 520 if limit == "event_bytes" else 55):
            try:
                agent.ask(message(amount))
            except TooLarge:
                continue
            taken.append(amount)
            agent.delete("v")
        assert taken == list(range(1, len(taken) + 1))
        assert 40 < len(taken) < 515


@pytest.mark.parametrize("from_seq", [2, 1_000, 2**63 - 1, 2**64])
def test_reading_from_past_the_head_gives_nothing(system: AgentSystem, alice: AgentHandle, from_seq: int) -> None:
    assert list(system.events(alice.path, from_seq=from_seq)) == []
    assert len(list(system.events(alice.path, to_seq=from_seq))) == 1


# -- agents that do not take it ----------------------------------------------------------------------------------------

MUTATIONS: dict[str, Callable[[AgentHandle], Any]] = {
    "set": lambda agent: agent.set("a", 1),
    "delete": lambda agent: agent.delete("n"),
    "append": lambda agent: agent.append("l", 1),
    "merge": lambda agent: agent.merge("d", {"a": 1}),
    "record": lambda agent: agent.record("note"),
    "set_granularity": lambda agent: agent.set_granularity(Granularity.STATE),
    "batch": lambda agent: in_a_batch(agent, lambda batch: batch.set("a", 1)),
    "spawn_child": lambda agent: agent.spawn_child("helper"),
    "set with a command id": lambda agent: agent.set("a", 1, command_id="c-1"),
    "batch with a command id": lambda agent: agent.ask(Batch([Set("a", 1)], "c-2")),
    "nothing to log": lambda agent: agent.record("note", level=Granularity.TRACE),
}

READS: dict[str, Callable[[AgentHandle], Any]] = {
    "get": lambda agent: agent.get("n"),
    "keys": lambda agent: agent.keys(),
    "status": lambda agent: agent.status(),
    "checkpoints": lambda agent: agent.checkpoints(),
}

LIFECYCLE: dict[str, Callable[[AgentHandle], Any]] = {
    "pause": lambda agent: agent.pause("p").raise_for_failure(),
    "pause a tree": lambda agent: agent.pause("p", cascade=True).raise_for_failure(),
    "resume": lambda agent: agent.resume().raise_for_failure(),
    "resume a tree": lambda agent: agent.resume(cascade=True).raise_for_failure(),
    "terminate": lambda agent: agent.terminate().raise_for_failure(),
    "restart": lambda agent: agent.restart(),
}


@pytest.mark.parametrize("call", [*MUTATIONS, *READS, *LIFECYCLE])
def test_an_agent_that_never_was_is_not_found_and_not_made(
    system: AgentSystem, promptly: Callable[..., Any], call: str
) -> None:
    nobody = system.agent(f"p{uuid4().hex}/nobody")
    for _ in range(2):
        with pytest.raises(AgentNotFound) as caught:
            promptly(lambda: {**MUTATIONS, **READS, **LIFECYCLE}[call](nobody))
        assert caught.value.agent == str(nobody.path)
        assert system.log.head(str(nobody.path)) is None
    assert str(nobody.path) not in everything(system)


@pytest.mark.parametrize("call", MUTATIONS)
def test_a_paused_agent_takes_no_mutation(
    system: AgentSystem, alice: AgentHandle, promptly: Callable[..., Any], call: str
) -> None:
    alice.pause("p")
    with pytest.raises(AgentPaused) as caught:
        promptly(lambda: MUTATIONS[call](alice))
    assert (caught.value.agent, caught.value.seq) == (str(alice.path), 2)
    assert seq(system, alice) == 2
    for read in READS.values():
        promptly(lambda read=read: read(alice))
    assert seq(system, alice) == 2


def test_a_paused_agent_is_not_paused_or_spawned_again(system: AgentSystem, alice: AgentHandle) -> None:
    alice.pause("p")
    with pytest.raises(AgentPaused):
        alice.pause("q").raise_for_failure()
    with pytest.raises(AgentAlreadyRunning):
        system.spawn(alice.path)
    assert seq(system, alice) == 2
    assert [checkpoint.checkpoint_id for checkpoint in alice.checkpoints()] == ["p"]


@pytest.mark.parametrize("call", [*MUTATIONS, *LIFECYCLE])
def test_a_terminated_agent_takes_nothing_but_a_spawn(
    system: AgentSystem, alice: AgentHandle, promptly: Callable[..., Any], call: str
) -> None:
    alice.pause("p")
    alice.terminate()
    before = seq(system, alice)
    with pytest.raises(AgentNotRunning) as caught:
        promptly(lambda: {**MUTATIONS, **LIFECYCLE}[call](alice))
    assert caught.value.agent == str(alice.path)
    assert seq(system, alice) == before
    assert alice.get() == {}
    assert alice.status().status == "terminated"
    assert system.spawn(alice.path).status().seq == before + 1


def test_a_running_agent_is_not_spawned_again(system: AgentSystem, alice: AgentHandle) -> None:
    for agent in (alice, alice.spawn_child("helper")):
        before = positions(system)
        with pytest.raises(AgentAlreadyRunning):
            system.spawn(agent.path, initial_state={"other": 1})
        with pytest.raises(AgentAlreadyRunning):
            agent.ask(Spawn()).raise_for_failure()
        assert positions(system) == before


def test_a_child_that_runs_is_not_spawned_again_by_its_parent(system: AgentSystem, alice: AgentHandle) -> None:
    alice.spawn_child("helper")
    before = positions(system)
    with pytest.raises(AgentAlreadyRunning):
        alice.spawn_child("helper")
    assert positions(system) == before


@pytest.mark.parametrize(
    ("argument", "bad"),
    [
        ("session_id", ""),
        ("initial_state", {"a": {1}}),
        ("initial_state", 7),
        ("metadata", 7),
        ("granularity", 9),
        ("levels", {"A B": 1}),
    ],
)
def test_a_child_with_bad_arguments_leaves_no_trace_in_its_parent(
    system: AgentSystem, alice: AgentHandle, argument: str, bad: Any
) -> None:
    """The parent's log says first that there is a child: not of one that cannot be."""
    before = positions(system)
    with pytest.raises(DuramenError):
        alice.spawn_child("helper", **{argument: bad})
    assert positions(system) == before


@pytest.mark.parametrize("call", [*MUTATIONS, *READS, *LIFECYCLE])
def test_a_closed_system_says_so_at_once(promptly: Callable[..., Any], call: str) -> None:
    system = AgentSystem.open("memory://")
    agent = system.spawn(PATH, initial_state={"n": 1})
    system.close()
    with pytest.raises(SystemClosed):
        promptly(lambda: {**MUTATIONS, **READS, **LIFECYCLE}[call](agent))
    with pytest.raises(SystemClosed):
        promptly(lambda: system.spawn("acme/bob"))
    with pytest.raises(SystemClosed), system:
        pytest.fail("a closed system was entered")
    system.close()  # once more does no harm


@pytest.mark.parametrize(
    "message",
    [
        Get(),
        Keys(),
        GetStatus(),
        ListCheckpoints(),
        Set("a", 1),
        Delete("n"),
        Append("l", 1),
        Merge("d", {}),
        Record("k"),
        Batch([]),
        SetGranularity(level=Granularity.STATE),
        Pause(),
        Resume(),
        Terminate(),
        Restart(),
    ],
)
def test_a_message_to_nobody_is_answered_and_one_told_is_not_kept(
    system: AgentSystem, promptly: Callable[..., Any], message: Any
) -> None:
    nobody = system.agent(f"p{uuid4().hex}/nobody")
    nobody.tell(message)
    reply = promptly(lambda: nobody.ask(message, block=False))
    with pytest.raises(AgentNotFound):
        result = reply.get(timeout=30)
        result.raise_for_failure()
    assert system.log.head(str(nobody.path)) is None


# -- opening -----------------------------------------------------------------------------------------------------------

OPENED_BADLY: list[Any] = [
    ({"url": ""}, InvalidMessage),
    ({"url": "alice"}, InvalidMessage),
    ({"url": "http://127.0.0.1"}, InvalidMessage),
    ({"url": "memory:"}, InvalidMessage),
    ({"url": "memory://x"}, InvalidMessage),
    ({"url": "redis://[::1"}, InvalidMessage),
    ({"url": "redis://127.0.0.1:notaport"}, InvalidMessage),
    ({"url": "redis://127.0.0.1:99999"}, (InvalidMessage, Unavailable)),
    ({"url": "redis://example.invalid:6379"}, (DuramenError,)),
    pytest.param({"url": "redis://127.0.0.1:1"}, Unavailable, marks=pytest.mark.slow),
    pytest.param({"url": "unix:///nowhere/server.sock"}, Unavailable, marks=pytest.mark.slow),
    ({"url": "unix://"}, (InvalidMessage, Unavailable)),
    ({"url": "\x00"}, InvalidMessage),
    ({"url": 7}, InvalidMessage),
    ({"url": b"memory://"}, InvalidMessage),
    ({"url": Path("memory://")}, InvalidMessage),
    ({"url": "memory://", "data_dir": "x"}, InvalidMessage),
    ({"url": "memory://", "durability": "fsync"}, InvalidMessage),
    ({"url": "memory://", "durability": "often"}, InvalidMessage),
    ({"url": "memory://", "durability": 7}, InvalidMessage),
    ({"url": "memory://", "partitions": 0}, InvalidMessage),
    ({"url": "memory://", "partitions": 4_097}, InvalidMessage),
    ({"url": "memory://", "partitions": "16"}, InvalidMessage),
    ({"url": "memory://", "partitions": 1.5}, InvalidMessage),
    ({"url": "memory://", "partitions": None}, InvalidMessage),
    ({"data_dir": 7}, InvalidMessage),
    ({"data_dir": b"\x00"}, (InvalidMessage, Unavailable)),
    ({"data_dir": "a\x00b"}, (InvalidMessage, Unavailable)),
    ({"data_dir": "/dev/null/x"}, (InvalidMessage, Unavailable)),
    ({"data_dir": "/proc/x"}, (InvalidMessage, Unavailable)),
    ({"client": "redis"}, InvalidMessage),
    ({"client": 7}, InvalidMessage),
    ({"log": "log"}, InvalidMessage),
    ({"log": MemoryLog(), "url": "memory://"}, InvalidMessage),
    ({"log": MemoryLog(), "data_dir": "x"}, InvalidMessage),
    ({"log": MemoryLog(), "durability": "fsync"}, InvalidMessage),
    ({"log": MemoryLog(), "client": redis.Redis()}, InvalidMessage),
    ({"client": redis.Redis(), "url": "redis://127.0.0.1:1"}, InvalidMessage),
    ({"url": "memory://", "agents": {"k": dict}}, InvalidMessage),
    ({"url": "memory://", "agents": 7}, InvalidMessage),
    ({"url": "memory://", "agents": {"k": 7}}, InvalidMessage),
    ({"url": "memory://", "agents": {7: duramen.actors.Agent}}, InvalidMessage),
    ({"url": "memory://", "limits": 7}, InvalidMessage),
    ({"url": "memory://", "settings": 7}, InvalidMessage),
    ({"url": "memory://", "settings": {"snapshot_every": 1}}, InvalidMessage),
    ({"url": "memory://", "registry": 7}, InvalidMessage),
]


@pytest.mark.parametrize(("options", "error"), OPENED_BADLY, ids=shown)
def test_a_system_is_not_opened_on_what_is_none(
    promptly: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], error: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    before = set(threading.enumerate())

    def call() -> None:
        AgentSystem.open(**options).close()

    with pytest.raises(error) as caught:
        promptly(call, 15)
    assert isinstance(caught.value, DuramenError)
    assert list(tmp_path.iterdir()) == []
    left = [found.name for found in set(threading.enumerate()) - before if found.name.startswith("duramen")]
    assert left == []


@pytest.mark.parametrize(
    "namespace", ["", "a b", "a{b}", "a:b", "a\n", "a\x00", "x" * 1_000, "\ud800", None, 7, b"a", "*"]
)
def test_a_namespace_is_a_name(valkey_url: str, promptly: Callable[..., Any], namespace: Any) -> None:
    with pytest.raises((InvalidPath, InvalidMessage)):
        promptly(lambda: AgentSystem.open(valkey_url, namespace=namespace).close())


@pytest.mark.parametrize("partitions", [0, -1, 4_097, 1.5, "16", None, True])
def test_partitions_are_a_number_within_bounds(valkey_url: str, promptly: Callable[..., Any], partitions: Any) -> None:
    with pytest.raises(InvalidMessage):
        promptly(lambda: AgentSystem.open(valkey_url, namespace=f"t{uuid4().hex}", partitions=partitions).close())


@pytest.mark.parametrize(
    "durability", ["", "often", "replicas:", "replicas:0", "replicas:x", "FSYNC", 7, b"fsync", True]
)
def test_durability_is_one_of_three(valkey_url: str, promptly: Callable[..., Any], durability: Any) -> None:
    with pytest.raises(InvalidMessage):
        promptly(lambda: AgentSystem.open(valkey_url, namespace=f"t{uuid4().hex}", durability=durability).close())


@pytest.mark.slow
def test_a_password_in_a_url_is_in_no_error(promptly: Callable[..., Any]) -> None:
    for url in ("redis://user:hunter2@127.0.0.1:1", "redis://:hunter2@127.0.0.1:notaport", "http://:hunter2@x"):
        with pytest.raises(DuramenError) as caught:
            promptly(lambda url=url: AgentSystem.open(url).close(), 15)
        assert "hunter2" not in str(caught.value)
        assert "hunter2" not in repr(vars(caught.value))


SPANS: dict[str, Callable[[AgentSystem, AgentHandle, Any], Any]] = {
    "ask": lambda s, a, x: a.ask(Get(), timeout=x, room=x),
    "get": lambda s, a, x: a.ask(Get(), block=False).get(timeout=x),
    "aio": lambda s, a, x: asyncio.run(a.aio.ask(Get(), timeout=x)),
    "tell": lambda s, a, x: a.tell(Get(), room=x),
    "pause": lambda s, a, x: a.pause(ttl=x).raise_for_failure(),
    "subscribe": lambda s, a, x: s.subscribe("**", print, every=x).close(timeout=x),
    "settings": lambda s, a, x: Settings(hook_timeout=x, passivate_after=x),
    "wait_for": lambda s, a, x: s.attach(duramen.projections.Episodes(), "episodes").wait_for(a.set("a", 1), timeout=x),
    "specification": lambda s, a, x: spec(Agent, timeout=x).when(Get("")).replies({}),
    "supervision": lambda s, a, x: Supervision(within=x, first_pause=x, longest_pause=x),
    "close": lambda s, a, x: s.close(timeout=x),
}


@pytest.mark.parametrize("call", SPANS.values(), ids=list(SPANS))
@pytest.mark.parametrize("span", [5, 5.0, timedelta(seconds=5)], ids=repr)
def test_a_time_is_a_number_of_seconds_or_a_timedelta(call: Callable[..., Any], span: Any) -> None:
    with AgentSystem.open("memory://") as system:
        call(system, system.spawn(PATH), span)


@pytest.mark.parametrize("value", NO_SECONDS, ids=shown)
def test_a_specification_refuses_what_is_no_time(value: Any) -> None:
    with pytest.raises(InvalidMessage):
        spec(Agent, timeout=value)


@pytest.mark.parametrize("name", ["hook_timeout", "passivate_after"])
@pytest.mark.parametrize("value", NO_SECONDS, ids=shown)
def test_settings_refuse_what_is_no_time(name: str, value: Any) -> None:
    with pytest.raises(InvalidMessage, match=name):
        Settings(**{name: value})


@pytest.mark.parametrize("name", ["snapshot_every", "most_active", "fenced_tries"])
@pytest.mark.parametrize("value", [-1, 1.5, "5", True, [], object()], ids=shown)
def test_settings_refuse_what_is_no_count(name: str, value: Any) -> None:
    with pytest.raises(InvalidMessage, match=name):
        Settings(**{name: value})


def test_settings_refuse_what_is_no_retention() -> None:
    with pytest.raises(InvalidMessage, match="retention"):
        Settings(retention=cast("Any", 7))


@pytest.mark.parametrize("name", [field.name for field in attrs.fields(Limits)])
@pytest.mark.parametrize("value", [0, -1, 1.5, "5", True, None, [], object()], ids=shown)
def test_limits_refuse_what_is_no_count(name: str, value: Any) -> None:
    with pytest.raises(InvalidMessage, match=name):
        Limits(**{name: value})
