"""What set a value is known at any seq from what is stored beside keyframes, and is what the whole log says."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from io import BytesIO
from typing import Any, ClassVar
from zlib import crc32

import pytest
from attrs import evolve
from hypothesis import example, given, settings
from hypothesis import strategies as st

from duramen.actors import AgentSystem
from duramen.events import DuramenError, Limits, NotPermitted, Trimmed
from duramen.events.codec import Codec, RawEvent, pack_snapshot
from duramen.events.log.records import Base
from duramen.projections.history import stored_marks
from duramen.projections.history.blame import Trace, trace
from duramen.projections.history.marks import Marks
from duramen.projections.history.stored_marks import MarkedState, MarkReader
from duramen.projections.integrity.damage import Kind
from duramen.projections.recovery import SETTERS_SCHEMA, AgentLog, BaseState, pack_base, rebuild
from following import OpenSystem
from projections.history.whole_log import Answer, Path, answers_of_whole_log, leaves_of

PATH = "acme/alice"
KEYS = st.sampled_from(["a", "b", "l"])
VALUES = st.recursive(
    st.none() | st.integers(0, 3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=5,
)
PATHS = st.lists(st.sampled_from(["a", "b", "l", "0", "1"]), min_size=1, max_size=3).map("/".join)
NUMBERS = st.integers(0, 5)
STEPS = st.one_of(
    st.tuples(st.just("set"), PATHS, VALUES),
    st.tuples(st.just("append"), PATHS, VALUES),
    st.tuples(st.just("extend"), PATHS, st.lists(VALUES, max_size=3)),
    st.tuples(st.just("merge"), PATHS, st.dictionaries(KEYS, VALUES, max_size=3)),
    st.tuples(st.just("delete"), PATHS, st.none()),
    st.tuples(st.just("delete"), st.sampled_from(["l/0", "l/1", "a", "a/l/0"]), st.none()),
    st.tuples(st.just("pause"), NUMBERS, st.none()),
    st.tuples(st.just("resume"), NUMBERS, st.booleans()),
    st.tuples(st.just("again"), st.none(), st.booleans()),
    st.tuples(st.just("fork"), NUMBERS, st.none()),
    st.tuples(st.just("import"), st.none(), st.none()),
)
LIFE: list[tuple[Any, ...]] = [
    ("set", "b", {"a": [], "b": 1}),
    ("append", "l", {"a": 1, "b": 2}),
    ("pause", 1, None),
    ("delete", "l/0", None),
    ("set", "b", 3),
    ("resume", 1, True),
    ("extend", "l", [1, {}, 2]),
    ("delete", "l/0", None),
    ("pause", 2, None),
    ("delete", "l", None),
    ("resume", 1, False),
    ("resume", 2, True),
    ("merge", "b", {"a": None, "l": {"a": 1}}),
    ("fork", 0, None),
    ("delete", "l/0", None),
    ("pause", 1, None),
    ("merge", "l/0", {"a": None}),
    ("set", "own", 1),
    ("resume", 1, True),
    ("import", None, None),
    ("set", "l/0", []),
]


class Life:
    """An agent that steps lead through; a fork or an import takes its place."""

    def __init__(self, system: AgentSystem) -> None:
        self.system = system
        self.paths = [PATH]
        self.agent = system.spawn(PATH, initial_state={"a": {"b": [1, 2]}, "l": [0, {"a": 1}, []]})

    def act(self, kind: str, what: Any, value: Any) -> None:
        try:
            match kind:
                case "pause":
                    self.agent.pause(f"c{what}", ttl=None)
                    self.agent.resume()
                case "resume":
                    self.agent.resume(f"c{what}", clear_current=value)
                case "again":
                    self.agent.terminate(cleanup_working=value, consolidate_to_episodic=False)
                    self.agent = self.system.spawn(self.paths[-1], initial_state={"b": {}})
                case "fork":
                    head = log_of(self.system, self.paths[-1]).head()
                    at = max(1, head.base, head.seq - what)
                    self._go_on_as(self.system.fork(self.paths[-1], at, to=self._next()).path.text)
                case "import":
                    file = BytesIO()
                    self.system.export_session(self.paths[-1], file)
                    file.seek(0)
                    self.system.import_session(file, self._next())
                    self._go_on_as(self._next())
                case "delete":
                    self.agent.delete(what)
                case _:
                    getattr(self.agent, kind)(what, value)
        except DuramenError:
            pass  # it does not fit what is there, or the session has ended

    def _next(self) -> str:
        return f"acme/next-{len(self.paths)}"

    def _go_on_as(self, path: str) -> None:
        self.paths.append(path)
        self.agent = self.system.agent(path)


def lived(system: AgentSystem, steps: Sequence[tuple[Any, ...]]) -> list[str]:
    """The paths of the agents that these steps have led through."""
    life = Life(system)
    for step in steps:
        life.act(*step)
    return life.paths


def log_of(system: AgentSystem, path: str = PATH) -> AgentLog:
    return AgentLog(system.log, path, system.limits, system.registry)


def keep_keyframe(agent_log: AgentLog, seq: int) -> None:
    state = rebuild(agent_log, to_seq=seq).state
    stored = agent_log.pack_state(state, {"custom": None, "custom_version": ""})
    agent_log.log.archive.keep_keyframe(agent_log.agent, seq, stored)


def trim(agent_log: AgentLog, seq: int) -> None:
    """Trim a log as the library would if no checkpoint held it."""
    base = rebuild(agent_log, to_seq=seq).state
    log = agent_log.log
    log.trim(agent_log.agent, Base(seq, base.digest), pack_base(agent_log, BaseState(base)))
    log.archive.drop_keyframes(agent_log.agent, [at for at in log.archive.keyframes(agent_log.agent) if at < seq])


def answers(agent_log: AgentLog, seq: int) -> dict[Path, Answer]:
    """What is told of each value at a seq, from what is stored."""
    traced = trace(agent_log, seq)
    setters = traced.setters([path for path, _ in leaves_of((), traced.memory)])
    return {path: (found.agent, found.seq, list(found.carried_by)) for path, found in setters.items()}


@pytest.fixture
def any_system(open_any: OpenSystem) -> AgentSystem:
    return open_any()


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keyframes may be as close as they like."""
    monkeypatch.setattr(stored_marks, "EVERY", 1)


def differences(system: AgentSystem, paths: Sequence[str], chance: random.Random) -> list[tuple[str, int]]:
    """The moments at which the two ways differ. What is stored grows with each look."""
    found: list[tuple[str, int]] = []
    for path in paths:
        agent_log = log_of(system, path)
        head = agent_log.head()
        seqs = list(range(head.base, head.seq + 1))
        for seq in chance.sample(seqs, len(seqs) // 2):
            if seq > head.base:
                keep_keyframe(agent_log, seq)
        for seq in chance.sample(seqs, len(seqs)):
            if answers(agent_log, seq) != answers_of_whole_log(agent_log, seq):
                found.append((path, seq))
    return found


@pytest.mark.slow
@pytest.mark.usefixtures("eager")
@settings(max_examples=20)
@example(LIFE, 1)
@given(st.lists(STEPS, max_size=14), st.integers(0, 99))
def test_what_is_stored_says_what_the_whole_log_says(steps: list[tuple[Any, ...]], seed: int) -> None:
    chance = random.Random(seed)
    with AgentSystem.open("memory://") as system:
        paths = lived(system, steps)
        assert differences(system, paths, chance) == []
        for path in chance.sample(paths, len(paths)):
            agent_log = log_of(system, path)
            head = agent_log.head()
            trim(agent_log, chance.randint(max(head.base + 1, head.seq - 8), head.seq))
            assert differences(system, paths, chance) == [], "after a trim of " + path


@pytest.mark.usefixtures("eager")
def test_a_resume_that_carried_nothing_would_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """The control of the property above."""
    with AgentSystem.open("memory://") as system:
        paths = lived(system, LIFE)
        assert len(paths) == 3, "a fork and an import are among them"
        monkeypatch.setattr(Marks, "carry", lambda *_: None)
        assert differences(system, paths, random.Random(1)) != []


@pytest.mark.usefixtures("eager")
def test_what_is_stored_is_what_is_told() -> None:
    """Were the whole log read each time, what is stored could say anything."""
    with AgentSystem.open("memory://") as system:
        agent = system.spawn(PATH, initial_state={"goal": "x"})
        agent.set("goal", "y")
        agent.set("other", {"a": 1, "b": []})
        agent_log = log_of(system)
        keep_keyframe(agent_log, 2)
        assert system.blame(PATH, "goal").seq == 2
        stored = system.log.archive.setters(PATH, 2)
        assert stored is not None
        fields = agent_log.unpack_snapshot(stored).state
        state = rebuild(agent_log, to_seq=2).state
        forged = agent_log.pack_setters(state, {**fields, "tree": 1})
        assert system.log.archive.keep_setters(PATH, 2, forged)
        assert system.blame(PATH, "goal").seq == 1
        assert system.blame(PATH, "goal", 1).seq == 1, "control: nothing is stored before"
        for bad in (
            forged[:-1],
            b"",
            agent_log.pack_setters(state, {**fields, "tree": 3}),
            agent_log.pack_setters(state, {**fields, "tree": "0"}),
            agent_log.pack_setters(state, {**fields, "tree": [1, 1]}),
            agent_log.pack_setters(state, {**fields, "of_fork": True}),
            agent_log.pack_setters(state, {"of_fork": False}),
            agent_log.pack_setters(evolve(state, digest=b"another history!"), {**fields, "tree": 1}),
            evolve_schema(agent_log, forged),
        ):
            assert system.log.archive.keep_setters(PATH, 2, bad)
            assert system.blame(PATH, "goal").seq == 2, "what cannot be believed is not used"


def evolve_schema(agent_log: AgentLog, stored: bytes) -> bytes:
    """What other code has stored in another form."""
    record = evolve(agent_log.unpack_snapshot(stored), schema=f"{SETTERS_SCHEMA}-of-tomorrow")
    return pack_snapshot(record, agent_log.codec, agent_log.limits, agent_log.log.chain)


class CountedLog(AgentLog):
    """Counts the events that are read of it."""

    read: ClassVar[list[int]] = []

    def raw_events(self, after: int, digest: bytes, to_seq: int | None) -> Iterator[tuple[int, RawEvent, bytes]]:
        for each in super().raw_events(after, digest, to_seq):
            self.read.append(each[0])
            yield each


@pytest.mark.usefixtures("eager")
def test_the_second_look_reads_the_events_after_a_keyframe() -> None:
    with AgentSystem.open("memory://") as system:
        agent = system.spawn(PATH, initial_state={"goal": "x"})
        for number in range(40):
            agent.set(f"k{number % 3}", number)
        agent_log = CountedLog(system.log, PATH, system.limits, system.registry)
        for seq in (10, 20, 30):
            keep_keyframe(log_of(system), seq)

        def read_for(seq: int) -> tuple[int, set[int]]:
            agent_log.read.clear()
            return trace(agent_log, seq).setters([("goal",)])["goal",].seq, set(agent_log.read)

        assert read_for(25) == (1, set(range(1, 26))), "nothing is stored yet"
        assert read_for(25) == (1, set(range(21, 26)))
        assert read_for(19) == (1, set(range(11, 20)))
        assert read_for(20) == (1, set())
        assert read_for(41) == (1, set(range(21, 42))), "the keyframe at 30 was not passed before"
        assert read_for(41) == (1, set(range(31, 42)))
        system.log.archive.drop_keyframes(PATH, [20])
        assert read_for(25) == (1, set(range(11, 26)))


@pytest.mark.usefixtures("eager")
def test_marks_that_cannot_be_used_hide_no_earlier_ones() -> None:
    with AgentSystem.open("memory://") as system:
        agent = system.spawn(PATH, initial_state={"goal": "x"})
        for number in range(24):
            agent.set("k", number)
        agent_log = CountedLog(system.log, PATH, system.limits, system.registry)
        for seq in (10, 20):
            keep_keyframe(log_of(system), seq)
        expected = answers(agent_log, 25)
        other = evolve(rebuild(agent_log, to_seq=20).state, digest=b"another history!")
        stored = system.log.archive.setters(PATH, 20)
        assert stored is not None
        fields = agent_log.unpack_snapshot(stored).state
        assert system.log.archive.keep_setters(PATH, 20, agent_log.pack_setters(other, fields))
        agent_log.read.clear()
        assert answers(agent_log, 25) == expected
        assert set(agent_log.read) == set(range(11, 26))


def of_twenty_events(system: AgentSystem) -> AgentLog:
    agent = system.spawn(PATH, initial_state={"goal": "x"})
    for number in range(19):
        agent.set("k", number)
    return log_of(system)


def test_what_had_set_a_value_before_a_trim_is_refused() -> None:
    with AgentSystem.open("memory://") as system:
        agent_log = of_twenty_events(system)
        fork = log_of(system, system.fork(PATH, 15, to="acme/fork").path.text)
        assert trace(agent_log, 5).memory == trace(fork, 5).memory == {"goal": "x", "k": 3}
        trim(agent_log, 8)
        for each in (agent_log, fork):
            with pytest.raises(Trimmed, match="up to 8") as refused:
                trace(each, 5)
            assert (refused.value.agent, refused.value.expected, refused.value.actual) == (PATH, 5, 9)
            assert trace(each, 8).memory == {"goal": "x", "k": 6}


def test_a_trim_after_the_head_was_read_leaves_no_seq_from_before_it() -> None:
    with AgentSystem.open("memory://") as system:
        agent_log = of_twenty_events(system)
        reader = MarkReader(agent_log)
        trim(agent_log, 8)
        marked = reader.read(20)
        traced = Trace(agent_log, reader, marked.state.memory, marked.marks)
        assert {path: found.seq for path, found in traced.setters([("goal",), ("k",)]).items()} == {
            ("goal",): 8,
            ("k",): 20,
        }
        with pytest.raises(Trimmed):
            reader.read(5)


@pytest.mark.usefixtures("eager")
def test_a_keyframe_that_goes_while_it_is_folded_from_changes_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    def resumed(name: str) -> list[tuple[Any, ...]]:
        return [("set", name, 1), ("pause", name, None), ("set", name, 2), ("resume", name, True)]

    with AgentSystem.open("memory://") as system:
        life, agent_log = Life(system), log_of(system)
        for step in resumed("a"):
            life.act(*step)
        keyframe = agent_log.head().seq
        keep_keyframe(agent_log, keyframe)
        answers(agent_log, keyframe)
        assert system.log.archive.setters(PATH, keyframe) is not None
        for step in resumed("b"):
            life.act(*step)
        head = agent_log.head().seq
        load, loaded = MarkReader._load, list[int]()

        def drop_and_load(self: MarkReader, latest: int) -> MarkedState | None:
            loaded.append(latest)
            if loaded == [head, keyframe]:
                system.log.archive.drop_keyframes(PATH, [keyframe])
            return load(self, latest)

        monkeypatch.setattr(MarkReader, "_load", drop_and_load)
        found = answers(agent_log, head)
        assert loaded[:2] == [head, keyframe]
        assert found == answers_of_whole_log(agent_log, head)


@pytest.mark.usefixtures("eager")
def test_where_nothing_may_be_stored_looking_takes_longer_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    with AgentSystem.open("memory://") as system:
        agent = system.spawn(PATH, initial_state={"goal": "x"})
        for number in range(9):
            agent.set("k", number)
        tried: list[int] = []

        def refuse(agent: str, seq: int, stored: bytes) -> bool:
            tried.append(seq)
            raise NotPermitted("this user may not write")

        monkeypatch.setattr(system.log.archive, "keep_setters", refuse)
        for seq in (2, 4, 6):
            keep_keyframe(log_of(system), seq)
        assert (system.blame(PATH, "goal").seq, system.blame(PATH, "k").seq) == (1, 10)
        assert tried == [2, 2], "after a refusal no more are made for the same question"


@pytest.mark.slow
def test_keeping_keyframes_keeps_what_set_their_values() -> None:
    with AgentSystem.open("memory://") as system:
        agent = system.spawn(PATH, initial_state={"goal": "x"})
        for _ in range(22):
            with agent.batch() as batch:
                for number in range(100):
                    batch.set(f"k{number % 3}", number)
        file, copy, archive = BytesIO(), "acme/copy", system.log.archive
        system.export_session(PATH, file)
        file.seek(0)
        system.import_session(file, copy)  # no running agent keeps keyframes of this one
        archive.drop_keyframes(copy, archive.keyframes(copy))
        assert system.keep_keyframes(copy) == 2
        assert [archive.setters(copy, seq) is not None for seq in archive.keyframes(copy)] == [True, True]
        assert system.verify(copy).ok
        assert (system.blame(copy, "goal").seq, system.blame(copy, "k1", 2_150).seq) == (1, 2_148)


def test_setters_stay_as_long_as_their_keyframe(any_system: AgentSystem) -> None:
    agent = any_system.spawn(PATH, initial_state={"goal": "x"})
    agent.set("goal", "y")
    archive = any_system.log.archive
    for seq in (3, 5, 9):
        archive.keep_keyframe(PATH, seq, b"keyframe at %d" % seq)
    assert [archive.keep_setters(PATH, seq, b"at %d" % seq) for seq in (3, 4, 9)] == [True, False, True]
    assert not archive.keep_setters(PATH, 5, b"larger than its keyframe"), "they would take more room than the log"
    assert archive.setters_before(PATH, 2) is None
    assert archive.setters_before(PATH, 8) == (3, b"keyframe at 3", b"at 3")
    assert archive.setters_before(PATH, 1 << 40) == (9, b"keyframe at 9", b"at 9")
    assert [archive.setters(PATH, seq) for seq in (3, 5, 9)] == [b"at 3", None, b"at 9"]
    archive.drop_keyframes(PATH, [3])
    assert (archive.setters_before(PATH, 8), archive.setters(PATH, 3)) == (None, None)
    archive.keep_keyframe(PATH, 3, b"keyframe at 3")
    assert archive.setters_before(PATH, 8) is None, "they went with it"
    archive.keep_keyframe(PATH, 9, b"another")
    assert (archive.setters(PATH, 9), archive.setters_before(PATH, 1 << 40)) == (None, None), "they were of the former"
    assert archive.keep_setters(PATH, 9, b"at 9")
    any_system.erase(PATH)
    assert (archive.setters_before(PATH, 1 << 40), archive.setters(PATH, 9)) == (None, None)
    assert not archive.keep_setters(PATH, 9, b"late"), "who is late leaves nothing behind"


@pytest.mark.usefixtures("eager")
def test_damaged_setters_are_told_by_verify_and_not_used(any_system: AgentSystem) -> None:
    agent = any_system.spawn(PATH, initial_state={"goal": "x"})
    agent.set("goal", "y")
    agent_log = log_of(any_system)
    keep_keyframe(agent_log, 2)
    assert any_system.blame(PATH, "goal").seq == 2
    assert any_system.verify(PATH).ok
    stored = any_system.log.archive.setters(PATH, 2)
    assert stored is not None
    other = evolve(rebuild(agent_log, to_seq=2).state, digest=b"another history!")
    fields = agent_log.unpack_snapshot(stored).state
    for bad in (bytes([stored[0] ^ 1]) + stored[1:], agent_log.pack_setters(other, fields)):
        assert any_system.log.archive.keep_setters(PATH, 2, bad)
        (problem,) = any_system.verify(PATH).problems
        assert (problem.seq, problem.kind) == (2, Kind.SNAPSHOT) and "keyframe's setters" in problem.detail
        assert any_system.blame(PATH, "goal").seq == 2
        assert any_system.verify(PATH).ok, "whole ones took their place"


@pytest.mark.slow
def test_marks_of_a_long_list_take_a_byte_or_two_for_each() -> None:
    count = 4_000
    messages = [{"role": "user", "content": f"message {number}", "parts": [1, 2]} for number in range(count)]
    memory: dict[str, Any] = {"messages": messages, "goal": "x"}

    def mark_of(path: Path) -> int:
        return 3 * int(path[1]) + 2 if len(path) > 1 else 1

    marks = Marks.of_values(PATH, memory, mark_of)
    dumped = marks.dump()
    assert len(Codec(Limits()).pack(dumped)) < 1.1 * count
    loaded = Marks.load(PATH, dumped, memory, 3 * count)
    assert loaded.find(("messages", "777", "parts", "1")) == 3 * 777 + 2
    assert loaded.freeze().tree == marks.freeze().tree
    scattered = Marks.of_values(PATH, memory, lambda path: hash_of(path) % 50_000)
    assert len(Codec(Limits()).pack(scattered.dump())) > 5 * count, "control: where each value has another"


def hash_of(path: Path) -> int:
    return crc32("/".join(path).encode())


def test_an_empty_container_is_followed_as_other_elements_are(any_system: AgentSystem) -> None:
    agent = any_system.spawn(PATH, initial_state={"l": [[]], "d": {}})
    agent.append("l", [])
    agent.delete("l/0")
    agent.set("d", {})
    assert any_system.blame(PATH, "l/0").seq == 2
    assert any_system.blame(PATH, "d").seq == 4
    agent.merge("d", {"x": None})
    assert any_system.blame(PATH, "d").seq == 4, "nothing was taken out of it"
