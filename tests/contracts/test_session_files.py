"""A session as a file: it comes back with equal digests wherever it is taken, or does not come at all."""

from __future__ import annotations

import gzip
import json
import random
from base64 import b64decode
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from attrs import frozen

from contracts.places import MemoryPlace, Place, ServerPlace
from duramen.actors import Agent, AgentSystem, Settings
from duramen.events import (
    AgentExists,
    AgentNotFound,
    CorruptEvent,
    DuramenError,
    EventRegistry,
    InvalidMessage,
    InvalidPath,
    MemoryLog,
    Unavailable,
    event_type,
)
from duramen.events.codec.session_file import SessionReader
from duramen.events.log.records import Base
from duramen.projections.recovery import AgentLog, state_for_base
from duramen.projections.recovery.trim_base import pack_base

ALICE = "acme/alice"
CHILD = "acme/alice/child"
REGISTRY = EventRegistry()


@event_type("noted", registry=REGISTRY)
@frozen
class Noted:
    n: int


class Noter(Agent):
    def initial(self) -> Any:
        return []

    def apply(self, state: Any, event: Any) -> Any:
        return [*state, event.n]

    def on_receive(self, message: Any) -> None:
        self.emit(Noted(message))


def opened(log: Any, **options: Any) -> AgentSystem:
    return AgentSystem.open(log=log, agents={"noter": Noter}, registry=REGISTRY, **options)


@pytest.fixture
def source() -> Iterator[AgentSystem]:
    """An agent of 160 events with a checkpoint, records and own events, and a child of it."""
    with opened(MemoryLog(), settings=Settings(snapshot_every=50)) as system:
        agent = system.spawn(
            ALICE, agent_type="noter", initial_state={"b": b"\x00", "t": datetime(2026, 1, 1, tzinfo=UTC)}
        )
        child = agent.spawn_child("child", initial_state={"x": float("inf")})
        for number in range(50):
            agent.set(f"k{number % 7}", "v" * number, command_id=f"c-{number}")
            agent.ask(number)
            agent.record("tool_output", {"tool": "search", "n": number})
        agent.pause("lunch")
        agent.resume("lunch")
        agent.pause("for ever", ttl=None)
        agent.resume("for ever")
        child.set("y", 1)
        yield system


@pytest.fixture
def elsewhere(place: Place) -> Iterator[AgentSystem]:
    with opened(place.open()) as system:
        yield system


def exported(system: AgentSystem, **options: Any) -> bytes:
    file = BytesIO()
    system.export_session(ALICE, file, **options)
    return file.getvalue()


def heads(system: AgentSystem) -> dict[str, Any]:
    return {
        entry.agent: (
            entry.head.seq,
            entry.head.base,
            entry.head.digest,
            entry.status,
            entry.agent_type,
            entry.session_id,
        )
        for entry in system.agents()
    }


def leftovers(place: Place) -> int:
    """Keys of any agent on the place."""
    if isinstance(place, MemoryPlace):
        return len(place.log._logs) + len(place.log._values)
    assert isinstance(place, ServerPlace)
    return len([key for key in place.client.scan_iter(f"duramen:{{{place.namespace}:*") if b"staged" not in key])


# -- there and back ----------------------------------------------------------------------------------------------------


def test_an_imported_agent_is_the_same_in_everything(source: AgentSystem, elsewhere: AgentSystem) -> None:
    session = elsewhere.import_session(BytesIO(exported(source)))
    assert (session.agent, session.events) == (ALICE, source.peek(ALICE).seq)
    assert heads(elsewhere)[ALICE] == heads(source)[ALICE]
    assert list(elsewhere.events(ALICE)) == list(source.events(ALICE))
    assert elsewhere.state_at(ALICE) == source.state_at(ALICE)
    assert elsewhere.state_at(ALICE).custom == list(range(50))
    assert elsewhere.verify().ok


def test_it_goes_on_where_it_came_to(source: AgentSystem, elsewhere: AgentSystem) -> None:
    before = source.agent(ALICE).checkpoints()
    elsewhere.import_session(BytesIO(exported(source)))
    agent = elsewhere.agent(ALICE)
    seq = source.peek(ALICE).seq
    first = agent.set("k1", "v" * 1, command_id="c-1")
    assert first.seq < seq, "its command ids are known here too"
    assert agent.set("more", 1).seq == seq + 1
    assert agent.checkpoints() == before
    assert (agent.resume("lunch").success and agent.get("more", None) is None) or agent.get("more") == 1
    assert agent.terminate("success").success
    assert [episode.agent_instance_id for episode in elsewhere.episodes.list()] == ["alice"]
    assert elsewhere.verify().ok


def test_who_reads_the_feed_hears_of_it(source: AgentSystem, elsewhere: AgentSystem) -> None:
    elsewhere.import_session(BytesIO(exported(source, tree=True)))
    partition = elsewhere.log.partition_of(ALICE)
    entries = elsewhere.log.feed_page(partition, 0, 10).entries
    assert [(entry.agent, entry.first_seq, entry.count) for entry in entries] == [
        (ALICE, 1, source.peek(ALICE).seq),
        (CHILD, 1, source.peek(CHILD).seq),
    ]
    assert entries[0].levels == sum(1 << level for level in (1, 2, 3))
    assert set(elsewhere.tree_at(ALICE)) == {ALICE, CHILD}


def test_a_tree_comes_whole_and_under_another_name(source: AgentSystem, elsewhere: AgentSystem) -> None:
    file = exported(source, tree=True)
    session = elsewhere.import_session(BytesIO(file), "other/place/deep")
    assert [carried.agent for carried in session.agents] == ["other/place/deep", "other/place/deep/child"]
    assert elsewhere.state_at("other/place/deep").memory == source.state_at(ALICE).memory
    assert elsewhere.state_at("other/place/deep/child").memory == source.state_at(CHILD).memory
    assert elsewhere.agent("other/place/deep").resume("lunch").success
    elsewhere.import_session(BytesIO(file))
    assert elsewhere.verify().agents == 4 and elsewhere.verify().ok


def test_a_second_import_is_refused_and_changes_nothing(source: AgentSystem, elsewhere: AgentSystem) -> None:
    file = exported(source, tree=True)
    elsewhere.import_session(BytesIO(file))
    elsewhere.agent(ALICE).set("more", 1)
    before = heads(elsewhere)
    with pytest.raises(AgentExists) as caught:
        elsewhere.import_session(BytesIO(file))
    assert caught.value.agent == ALICE and heads(elsewhere) == before
    elsewhere.spawn("acme/bob/child")
    with pytest.raises(AgentExists) as caught:
        elsewhere.import_session(BytesIO(file), "acme/bob")
    assert caught.value.agent == "acme/bob/child"
    assert "acme/bob" not in heads(elsewhere), "all of a tree, or none of it"


def test_an_agent_that_comes_to_be_meanwhile_is_not_overwritten(source: AgentSystem, elsewhere: AgentSystem) -> None:
    def spawn(events: int) -> None:
        elsewhere.spawn(ALICE, initial_state={"mine": 1})

    with pytest.raises(AgentExists):
        elsewhere.import_session(BytesIO(exported(source)), progress=spawn)
    assert elsewhere.agent(ALICE).get() == {"mine": 1} and elsewhere.verify().ok


def test_an_import_that_was_interrupted_leaves_no_agent_and_can_be_done_again(
    source: AgentSystem, elsewhere: AgentSystem, place: Place
) -> None:
    def stop(events: int) -> None:
        raise KeyboardInterrupt

    file = exported(source, tree=True)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            elsewhere.import_session(BytesIO(file), progress=stop)
        assert heads(elsewhere) == {}
    elsewhere.import_session(BytesIO(file))
    assert heads(elsewhere).keys() == {ALICE, CHILD} and elsewhere.verify().ok


def test_what_another_import_of_another_history_has_staged_is_not_taken_for_this_one(
    source: AgentSystem, elsewhere: AgentSystem
) -> None:
    """Two files that claim to be the same: the first fails half-way, and the second is whole or refused."""
    file = exported(source)
    archive = elsewhere.log.archive
    header = next(SessionReader(BytesIO(file), source._limits).records())[1][0]
    foreign = [bytes(16) + b"x", bytes(16) + b"y"]
    assert archive.stage(ALICE, header["id"], 0, bytes(16), foreign) == 2
    with pytest.raises((Unavailable, CorruptEvent)):
        elsewhere.import_session(BytesIO(file))
    assert heads(elsewhere) == {}
    elsewhere.import_session(BytesIO(file))
    assert heads(elsewhere)[ALICE] == heads(source)[ALICE] and elsewhere.verify().ok


def test_portions_are_written_once_whatever_comes_twice(elsewhere: AgentSystem) -> None:
    archive = elsewhere.log.archive
    one, two = bytes([1]) * 16 + b"a", bytes([2]) * 16 + b"b"
    assert archive.stage(ALICE, "t", 0, bytes(16), [one]) == 1
    assert archive.stage(ALICE, "t", 0, bytes(16), [one]) == 1
    assert archive.stage(ALICE, "t", 1, one[:16], [two]) == 2
    assert archive.stage(ALICE, "t", 0, bytes(16), [one]) == 2
    assert archive.stage(ALICE, "t", 1, one[:16], [two]) == 2
    assert archive.stage(ALICE, "t", 5, two[:16], [one]) == 0, "a gap: all is removed"
    assert archive.stage(ALICE, "t", 0, bytes(16), [one]) == 1
    assert archive.stage(ALICE, "t", 1, two[:16], [two]) == 0, "it continues something else"


def test_checkpoints_that_have_expired_stay_behind(source: AgentSystem) -> None:
    file = exported(source)
    late = MemoryLog()
    with opened(late) as system:
        import duramen.actors.api.history as history

        far = (datetime.now(UTC) + timedelta(days=365)).timestamp()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(history, "time_ns", lambda: int(far * 1_000_000_000))
            system.import_session(BytesIO(file))
        assert [checkpoint.checkpoint_id for checkpoint in system.agent(ALICE).checkpoints()] == ["for ever"]


def test_a_trimmed_agent_is_carried_with_its_base(source: AgentSystem, elsewhere: AgentSystem) -> None:
    agent_log = AgentLog(source.log, ALICE, source._limits, REGISTRY)
    base = state_for_base(agent_log, to_seq=40, fold_of=source._fold_of())
    source.log.trim(ALICE, Base(40, base.state.digest), pack_base(agent_log, base))
    file = exported(source)
    session = elsewhere.import_session(BytesIO(file), "acme/bob")
    assert session.agents[0].base == 40 and elsewhere.verify().ok
    assert elsewhere.state_at("acme/bob").memory == source.state_at(ALICE).memory
    assert elsewhere.state_at("acme/bob").custom == list(range(50))
    agent = elsewhere.agent("acme/bob")
    agent.ask(50)
    assert agent.set("x", 1).seq == source.peek(ALICE).seq + 2
    assert elsewhere.state_at("acme/bob").custom == list(range(51))
    elsewhere.import_session(BytesIO(file))
    assert heads(elsewhere)[ALICE] == heads(source)[ALICE]


def test_classes_that_are_not_here_are_not_needed(source: AgentSystem) -> None:
    with AgentSystem.open("memory://", registry=EventRegistry()) as stranger:
        stranger.import_session(BytesIO(exported(source)))
        assert stranger.verify().ok
        assert stranger.state_at(ALICE).memory == source.state_at(ALICE).memory


# -- files -------------------------------------------------------------------------------------------------------------


def test_a_path_is_there_whole_or_unchanged(source: AgentSystem, tmp_path: Path) -> None:
    target = tmp_path / "alice.session"
    source.export_session(ALICE, target)
    whole = target.read_bytes()
    log: Any = source.log
    items = log._logs[log.log_key(ALICE)]
    sound = items[30]
    items[30] = sound[:-1] + bytes([sound[-1] ^ 1])
    with pytest.raises(CorruptEvent) as caught:
        source.export_session(ALICE, str(target))
    assert caught.value.seq == 31
    items[30] = sound
    with pytest.raises(AgentNotFound):
        source.export_session("acme/nobody", target)
    assert target.read_bytes() == whole
    assert [path.name for path in tmp_path.iterdir()] == ["alice.session"]
    with opened(MemoryLog()) as other:
        assert other.import_session(target).agent == ALICE
        with pytest.raises(FileNotFoundError):
            other.import_session(tmp_path / "nothing")


def test_a_file_is_small_and_can_be_looked_into(source: AgentSystem) -> None:
    file = exported(source, tree=True)
    stored = sum(len(item) for path in (ALICE, CHILD) for item in _items(source, path))
    assert len(file) < stored
    plain = gzip.decompress(file)
    assert plain.startswith(b"duramen session\n")
    records = list(SessionReader(BytesIO(file), source._limits).records())
    kinds = [kind for kind, _ in records]
    assert kinds[:2] == ["session", "agent"] and kinds.count("agent") == 2 and kinds.count("checkpoint") == 2
    types = next(fields[0] for kind, fields in records if kind == "types")
    assert types["noted"] == [1] and types["spawned"] == [1]


def _items(system: AgentSystem, path: str) -> list[bytes]:
    log: Any = system.log
    return list(log._logs[log.log_key(path)])


def test_no_single_flipped_byte_gets_in(source: AgentSystem) -> None:
    file, chance = exported(source), random.Random(4)
    refused = harmless = 0
    with opened(MemoryLog()) as system:
        for number in range(150):
            at = chance.randrange(len(file))
            bad = file[:at] + bytes([file[at] ^ (1 << chance.randrange(8))]) + file[at + 1 :]
            before = heads(system)
            try:
                system.import_session(BytesIO(bad), f"acme/bob-{number}")
            except (CorruptEvent, InvalidMessage):
                refused += 1
                assert heads(system) == before
            else:  # a bit that says nothing of the content: of gzip's header, or behind the end of the last block
                harmless += 1
                assert gzip.decompress(bad) == gzip.decompress(file)
                assert heads(system)[f"acme/bob-{number}"][2] == heads(source)[ALICE][2]
    assert refused + harmless == 150
    assert harmless <= 10


@pytest.mark.parametrize("size", [0, 5, 30, 200, -1, -9])
def test_a_file_that_was_cut_is_refused(source: AgentSystem, elsewhere: AgentSystem, size: int) -> None:
    with pytest.raises((CorruptEvent, InvalidMessage)):
        elsewhere.import_session(BytesIO(exported(source)[:size]))
    assert heads(elsewhere) == {}


@pytest.mark.parametrize("text", [b"", b"{}", gzip.compress(b"something else", mtime=0), b"\x1f\x8b" + b"\x00" * 40])
def test_what_is_no_session_file_is_refused(text: bytes) -> None:
    with opened(MemoryLog()) as system, pytest.raises(InvalidMessage):
        system.import_session(BytesIO(text))


def rewritten(file: bytes, change: Any) -> bytes:
    """The file with other records, its sum made right again."""
    from duramen.events.codec.session_file import SessionWriter
    from duramen.events.model.limits import Limits

    out = BytesIO()
    writer = SessionWriter(out, Limits())
    for kind, fields in change(list(SessionReader(BytesIO(file), Limits()).records())):
        writer.write(kind, *fields)
    writer.finish()
    return out.getvalue()


def _meta(records: list[Any], **changes: Any) -> list[Any]:
    return [(kind, [{**fields[0], **changes}] if kind == "agent" else fields) for kind, fields in records]


FORGERIES: dict[str, Any] = {
    "events dropped": lambda records: [r for r in records if r[0] != "events"],
    "events twice": lambda records: [r for r in records for _ in range(2 if r[0] == "events" else 1)],
    "another digest": lambda records: _meta(records, digest=bytes(16)),
    "another seq": lambda records: _meta(records, seq=3),
    "a base": lambda records: _meta(records, base=2),
    "negative": lambda records: _meta(records, base=-1),
    "no agent": lambda records: records[:1],
    "agent of no tree": lambda records: [("session", [{**records[0][1][0], "agents": ["a/b"]}]), *records[1:]],
    "paths that are none": lambda records: [("session", [{**records[0][1][0], "agents": [7]}]), *records[1:]],
    "events of nobody": lambda records: [records[0], *[r for r in records if r[0] == "events"]],
    "foreign checkpoint": lambda records: [*records, ("checkpoint", ["lunch", b"x" * 100])],
    "unknown checkpoint": lambda records: [*records, ("checkpoint", ["dinner", b"x" * 100])],
    "items that are none": lambda records: [(k, [f[0], ["x"]] if k == "events" else f) for k, f in records],
    "no items": lambda records: [(k, [f[0], []] if k == "events" else f) for k, f in records],
    "starts elsewhere": lambda records: records[1:],
}


@pytest.mark.parametrize("forgery", FORGERIES)
def test_a_file_that_contradicts_itself_is_refused(source: AgentSystem, elsewhere: AgentSystem, forgery: str) -> None:
    bad = rewritten(exported(source), FORGERIES[forgery])
    with pytest.raises((CorruptEvent, InvalidMessage, InvalidPath)):
        elsewhere.import_session(BytesIO(bad))
    assert heads(elsewhere) == {}


def test_a_file_that_was_only_rewritten_is_taken(source: AgentSystem, elsewhere: AgentSystem) -> None:
    """Control: nothing else is wrong with those above; and records of kinds to come are passed over."""
    elsewhere.import_session(BytesIO(rewritten(exported(source), lambda records: [*records, ("remark", ["hello"])])))
    assert heads(elsewhere)[ALICE] == heads(source)[ALICE]


def test_a_newer_format_is_told_apart(source: AgentSystem) -> None:
    def newer(records: list[Any]) -> list[Any]:
        return [("session", [{**records[0][1][0], "format": 2}]), *records[1:]]

    with opened(MemoryLog()) as system, pytest.raises(InvalidMessage) as caught:
        system.import_session(BytesIO(rewritten(exported(source), newer)))
    assert (caught.value.expected, caught.value.actual) == (1, 2)


def test_an_agent_that_runs_meanwhile_is_exported_as_it_stood(source: AgentSystem) -> None:
    class Busy(BytesIO):
        def write(self, data: Any) -> int:
            source.agent(ALICE).set("busy", len(data))
            return super().write(data)

    seq = source.peek(ALICE).seq
    file = Busy()
    session = source.export_session(ALICE, file)
    assert session.agents[0].seq == seq < source.peek(ALICE).seq
    with opened(MemoryLog()) as system:
        system.import_session(BytesIO(file.getvalue()))
        assert system.verify().ok and system.peek(ALICE).seq == seq


def test_bad_arguments_are_refused(elsewhere: AgentSystem) -> None:
    for call in (
        lambda: elsewhere.import_session(BytesIO(b""), "no path"),
        lambda: elsewhere.export_session("no path", BytesIO()),
        lambda: elsewhere.export_jsonl("acme/nobody", BytesIO()),
    ):
        with pytest.raises(DuramenError):
            call()


# -- JSON Lines --------------------------------------------------------------------------------------------------------


def from_json(value: Any) -> Any:
    """What docs/reference/session-file.md says, read back."""
    if isinstance(value, list):
        return [from_json(held) for held in value]
    if not isinstance(value, dict):
        return value
    if len(value) == 1:
        ((key, held),) = value.items()
        if key == "$time":
            return datetime.fromisoformat(held)
        if key == "$bytes":
            return b64decode(held)
        if key == "$float":
            return float(held)
        if key == "$dict":
            return {name: from_json(inside) for name, inside in held.items()}
    return {name: from_json(inside) for name, inside in value.items()}


def test_every_event_is_a_line_that_can_be_read_back(source: AgentSystem, tmp_path: Path) -> None:
    source.agent(ALICE).set("odd", [{"$bytes": "no"}, {"$x": 1, "y": 2}, b"\xff", float("-inf"), {"$dict": {}}])
    target = tmp_path / "events.jsonl"
    count = source.export_jsonl(ALICE, target, tree=True)
    lines = [json.loads(line) for line in target.read_text(encoding="ascii").splitlines()]
    events = [*source.events(ALICE), *source.events(CHILD)]
    assert count == len(lines) == len(events)
    for line, event in zip(lines, events, strict=True):
        assert (line["agent"], line["seq"], line["type"]) == (event.agent, event.seq, event.type)
        assert from_json(line["data"]) == event.data
        assert (datetime.fromisoformat(line["time"]), bytes.fromhex(line["digest"])) == (event.time, event.digest)
        assert line["granularity"] == event.granularity.name.lower()
    out = BytesIO()
    assert source.export_jsonl(ALICE, out, from_seq=100) == source.peek(ALICE).seq - 99
