"""State is the fold of the log: whatever commands come in whatever order, live state, full replay, snapshot plus
replay and the projection are one, and a plain model of a few lines says the same.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from copy import deepcopy
from datetime import UTC, datetime, timedelta, timezone
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, note, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from duramen.actors import (
    AgentHandle,
    AgentSystem,
    Append,
    Batch,
    Delete,
    Get,
    Merge,
    Outcome,
    Record,
    Set,
    SetGranularity,
    Settings,
)
from duramen.events import (
    AgentAlreadyRunning,
    AgentNotFound,
    AgentNotRunning,
    AgentPaused,
    CheckpointNotFound,
    DuramenError,
    Granularity,
    InvalidPath,
    Limits,
    MemoryLog,
    TooLarge,
)
from duramen.events.model.values import same_value
from duramen.projections import AgentState, WorkingMemory, fold
from duramen.projections.recovery import AgentLog, rebuild

PATH = "p/a"

# -- what is written ---------------------------------------------------------------------------------------------------

zones = st.integers(-86_399, 86_399).map(lambda seconds: timezone(timedelta(seconds=seconds)))
instants = st.datetimes(min_value=datetime(2, 1, 1), max_value=datetime(9998, 1, 1), timezones=zones | st.just(UTC))
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.sampled_from([-(2**63), 2**63 - 1, 2**63, 2**64 - 1, 0, 1, -1])
    | st.floats()
    | st.sampled_from([0.0, -0.0, 1.0, math.nan, math.inf])
    | texts
    | st.binary(max_size=12)
    | instants
)


def trees(keys: st.SearchStrategy[str], leaves: int) -> st.SearchStrategy[Any]:
    return st.recursive(
        scalars,
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=4),
        max_leaves=leaves,
    )


anything = trees(texts, 30)
segments = st.sampled_from(["a", "b", "c", "0", "1", "2"])
values = trees(segments, 6)
paths = st.lists(segments, min_size=1, max_size=3)


# -- the model ---------------------------------------------------------------------------------------------------------


class Refused(Exception):
    """The path leads nowhere."""


MISSING: Any = object()


def child(node: Any, segment: str) -> Any:
    if isinstance(node, dict):
        return node.get(segment, MISSING)
    if isinstance(node, list) and segment in [str(position) for position in range(len(node))]:
        return node[int(segment)]
    return MISSING


def put(node: Any, path: list[str], value: Any) -> None:
    """Write at a path; missing dicts are made on the way, and nothing is changed if that cannot be."""
    below = child(node, path[0])
    if below is MISSING and not isinstance(node, dict):
        raise Refused
    if len(path) > 1:
        if below is MISSING:
            below = {}
        elif not isinstance(below, (dict, list)):
            raise Refused
        put(below, path[1:], value)
        value = below
    if isinstance(node, list):
        node[int(path[0])] = value
    else:
        node[path[0]] = value


def find(node: Any, path: list[str]) -> Any:
    for segment in path:
        node = child(node, segment)
    return node


def patched(target: Any, patch: Any) -> Any:
    """RFC 7386, as it is printed there."""
    if not isinstance(patch, dict):
        return deepcopy(patch)
    target = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            target.pop(key, None)
        else:
            target[key] = patched(target.get(key), value)
    return target


def after(memory: dict[str, Any], operation: Any) -> dict[str, Any]:
    """Working memory after one operation. Raises Refused."""
    memory = deepcopy(memory)
    path = operation.path.split("/") if operation.path else []
    match operation:
        case Set(value=value):
            put(memory, path, deepcopy(value))
        case Delete():
            parent = find(memory, path[:-1])
            if child(parent, path[-1]) is MISSING:
                raise Refused
            del parent[path[-1] if isinstance(parent, dict) else int(path[-1])]
        case Append(value=value):
            there = find(memory, path)
            if there is not MISSING and not isinstance(there, list):
                raise Refused
            put(memory, path, [*([] if there is MISSING else there), deepcopy(value)])
        case Merge(patch=patch):
            if not path:
                if not isinstance(patch, dict):
                    raise Refused
                return patched(memory, patch)
            there = find(memory, path)
            put(memory, path, patched(None if there is MISSING else there, patch))
    return memory


texts_of_paths = paths.map("/".join)
operations = st.one_of(
    st.builds(Set, texts_of_paths, values),
    st.builds(Set, segments, values),  # one segment alone is never refused: so that there is something to work on
    st.builds(Delete, texts_of_paths),
    st.builds(Append, texts_of_paths, values),
    st.builds(Merge, st.just("") | texts_of_paths, values),
    st.builds(Merge, st.just(""), st.dictionaries(segments, values, max_size=3)),
)
kinds = st.sampled_from(["note", "tool_output", "completion"])
levels = st.sampled_from([Granularity.ACTIVITY, Granularity.TRACE])


class Model:
    """One agent, in plain Python."""

    def __init__(self) -> None:
        self.status = "absent"
        self.memory: dict[str, Any] = {}
        self.checkpoints: dict[str, dict[str, Any]] = {}
        self.level = Granularity.ACTIVITY
        self.levels: dict[str, Granularity] = {}
        self.session: str | None = None
        self.sessions = 0
        self.seq = 0
        self.episodes = 0

    def refuses(self) -> type[DuramenError] | None:
        """Why a mutation is refused."""
        return {
            "absent": AgentNotFound,
            "running": None,
            "paused": AgentPaused,
            "terminated": AgentNotRunning,
        }[self.status]

    def ended(self) -> type[DuramenError] | None:
        """Why there is no session."""
        return None if self.status == "paused" else self.refuses()

    def logs(self, kind: str, level: Granularity) -> bool:
        return level <= self.levels.get(kind, self.level)


# -- the machine -------------------------------------------------------------------------------------------------------


class Machine(RuleBasedStateMachine):
    """Commands to one agent, which moves between two systems on one log and is restarted now and then."""

    def __init__(self) -> None:
        super().__init__()
        self.log = MemoryLog()
        self.model = Model()
        self.systems: list[AgentSystem] = []
        self.sent: dict[str, tuple[Any, Any]] = {}
        self.number = 0

    @initialize(every=st.sampled_from([1, 2, 5, 1_000]))
    def open(self, every: int) -> None:
        self.settings = Settings(snapshot_every=every)
        self.systems = [self.fresh(), self.fresh()]
        self.current = 0

    def fresh(self) -> AgentSystem:
        return AgentSystem.open(log=self.log, settings=self.settings)

    @property
    def agent(self) -> AgentHandle:
        return self.systems[self.current].agent(PATH)

    # -- mutations

    @rule(operation=operations, named=st.booleans())
    def mutate(self, operation: Any, named: bool) -> None:
        self.carry_out(operation, [operation], named)

    @rule(many=st.lists(operations | st.builds(Record, kinds, values, levels), min_size=1, max_size=4))
    def mutate_in_a_batch(self, many: list[Any]) -> None:
        self.carry_out(Batch(many), many, named=False)

    def carry_out(self, message: Any, parts: list[Any], named: bool) -> None:
        model = self.model
        command = self.next_id() if named else None
        if named:
            message = type(message)(*self.fields_of(message), command_id=command)
        refusal = model.refuses()
        if refusal is not None:
            with pytest.raises(refusal):
                self.agent.ask(message)
            self.agree()
            return
        memory, events = model.memory, 0
        try:
            for part in parts:
                if isinstance(part, Record):
                    events += model.logs(part.kind, part.level)
                else:
                    memory, events = after(memory, part), events + 1
        except Refused:
            with pytest.raises(InvalidPath):
                self.agent.ask(message)
            self.agree()
            return
        receipt = self.agent.ask(message)
        assert (receipt.first_seq, receipt.seq) == (model.seq + 1, model.seq + events)
        model.memory, model.seq = memory, model.seq + events
        if command is not None:
            self.sent[command] = (message, receipt)
        self.agree()

    def fields_of(self, message: Any) -> list[Any]:
        return [
            getattr(message, name) for name in type(message).__match_args__ if name not in {"command_id", "durability"}
        ]

    def next_id(self) -> str:
        self.number += 1
        return f"c-{self.number}"

    @precondition(lambda self: self.sent)
    @rule(data=st.data())
    def send_a_command_again(self, data: st.DataObject) -> None:
        message, receipt = data.draw(st.sampled_from(list(self.sent.values())))
        assert self.agent.ask(message) == receipt
        self.agree()

    @rule(kind=kinds, data=values, level=levels)
    def record(self, kind: str, data: Any, level: Granularity) -> None:
        refusal = self.model.refuses()
        if refusal is not None:
            with pytest.raises(refusal):
                self.agent.record(kind, data, level=level)
        else:
            self.agent.record(kind, data, level=level)
            self.model.seq += self.model.logs(kind, level)
        self.agree()

    @rule(
        level=st.none() | st.sampled_from(list(Granularity)),
        changed=st.dictionaries(kinds, st.none() | st.sampled_from(list(Granularity)), max_size=2),
    )
    def set_granularity(self, level: Granularity | None, changed: dict[str, Granularity | None]) -> None:
        model = self.model
        if level is None and not changed:
            return
        refusal = model.refuses()
        if refusal is not None:
            with pytest.raises(refusal):
                self.agent.ask(SetGranularity(level=level, levels=changed))
        else:
            self.agent.ask(SetGranularity(level=level, levels=changed))
            model.level = level or model.level
            merged = {**model.levels, **changed}
            model.levels = {kind: found for kind, found in merged.items() if found is not None}
            model.seq += 1
        self.agree()

    # -- lifecycle

    @rule(state=st.dictionaries(segments, values, max_size=4), level=st.sampled_from(list(Granularity)))
    def spawn(self, state: dict[str, Any], level: Granularity) -> None:
        model = self.model
        if model.status in ("running", "paused"):
            with pytest.raises(AgentAlreadyRunning):
                self.systems[self.current].spawn(PATH, initial_state=state)
        else:
            model.sessions += 1
            model.session = f"s-{model.sessions}"
            self.systems[self.current].spawn(PATH, initial_state=state, granularity=level, session_id=model.session)
            model.status, model.level, model.levels = "running", level, {}
            model.memory = {**model.memory, **deepcopy(state)}
            model.seq += 1
        self.agree()

    @rule(name=st.sampled_from(["x", "y", "__checkpoint__x"]))
    def pause(self, name: str) -> None:
        model = self.model
        result = self.agent.pause(name)
        refusal = model.refuses()
        assert result.success == (refusal is None)
        if refusal is None:
            model.checkpoints.pop(name, None)
            model.checkpoints[name] = deepcopy(model.memory)
            model.status = "paused"
            model.seq += 1
            assert result.data["items_saved"] == len(model.memory)
        else:
            assert isinstance(result.error, refusal)
        self.agree()

    @rule(name=st.sampled_from(["x", "y", "__checkpoint__x", "nope"]) | st.none(), clear=st.booleans())
    def resume(self, name: str | None, clear: bool) -> None:
        model = self.model
        result = self.agent.resume(name, clear_current=clear)
        refusal = model.ended()
        wanted = name or next(reversed(model.checkpoints), None)
        if refusal is None and wanted not in model.checkpoints:
            refusal = CheckpointNotFound
        assert result.success == (refusal is None), (result, refusal)
        if refusal is not None:
            assert isinstance(result.error, refusal)
        else:
            assert wanted is not None
            saved = deepcopy(model.checkpoints[wanted])
            model.memory = saved if clear else {**model.memory, **saved}
            model.status = "running"
            assert result.data["checkpoint_id"] == wanted
            assert result.data["items_restored"] == len(saved)
            assert result.data["seq"] > model.seq
            model.seq = result.data["seq"]
        self.agree()

    @rule(keep=st.booleans(), clean=st.booleans())
    def terminate(self, keep: bool, clean: bool) -> None:
        model = self.model
        result = self.agent.terminate(Outcome.PARTIAL, consolidate_to_episodic=keep, cleanup_working=clean)
        refusal = model.ended()
        assert result.success == (refusal is None)
        if refusal is not None:
            assert isinstance(result.error, refusal)
        else:
            assert result.data["items_cleared"] == (len(model.memory) if clean else 0)
            model.status = "terminated"
            model.memory = {} if clean else model.memory
            model.seq += 1 + keep
            model.episodes += keep
        self.agree()

    # -- processes

    @rule()
    def restart(self) -> None:
        note("restart")
        self.systems[self.current].close()
        self.systems[self.current] = self.fresh()
        self.agree()

    @rule()
    def take_over(self) -> None:
        note("take over")
        self.current = 1 - self.current
        self.agree()

    # -- the laws

    def agree(self) -> None:
        """The live agent is what the model says."""
        model = self.model
        if model.status == "absent":
            with pytest.raises(AgentNotFound):
                self.agent.ask(Get())
            return
        found = self.agent.get()
        assert same_value(found, model.memory), (found, model.memory)
        status = self.agent.status()
        assert (status.status, status.session_id, status.seq) == (model.status, model.session, model.seq)
        assert (status.granularity, status.items) == (model.level, len(model.memory))
        assert [one.checkpoint_id for one in self.agent.checkpoints()] == list(reversed(model.checkpoints))

    def teardown(self) -> None:
        try:
            if self.model.status != "absent":
                self.replays_agree()
        finally:
            for system in self.systems:
                system.close()

    def replays_agree(self) -> None:
        system = self.systems[self.current]
        full, quick = self.rebuilt(use_snapshot=False), self.rebuilt(use_snapshot=True)
        folded = fold(WorkingMemory(), system.events(PATH))
        assert same_value(full.memory, self.model.memory)
        assert same_value(full.dump(), quick.dump())
        assert same_value(comparable_state(full), comparable_state(folded))
        assert full.nodes == count(full.memory)
        assert full.levels == self.model.levels
        assert [event.seq for event in system.events(PATH)] == list(range(1, self.model.seq + 1))
        assert len(system.episodes.list()) == self.model.episodes
        # A fresh process sees what the last one saw, whatever snapshots it was left.
        with self.fresh() as fresh:
            assert same_value(fresh.agent(PATH).get(), self.model.memory)
            assert fresh.agent(PATH).status() == system.agent(PATH).status()

    def rebuilt(self, *, use_snapshot: bool) -> AgentState:
        return rebuild(AgentLog(self.log, PATH, Limits()), use_snapshot=use_snapshot).state


def comparable_state(state: AgentState) -> dict[str, Any]:
    """A state without the fingerprints of its commands, which a projection does not know."""
    commands = {command: entry[:3] for command, entry in state.commands.items()}
    return {**state.dump(), "commands": commands, "granularity": int(state.granularity)}


def count(value: Any) -> int:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return 1 + sum(map(count, inner))


TestReplay = Machine.TestCase
TestReplay.settings = settings(stateful_step_count=30, deadline=None)


# -- values ------------------------------------------------------------------------------------------------------------


@given(value=anything)
def test_what_is_accepted_is_read_back_unchanged(value: Any) -> None:
    log = MemoryLog()
    with AgentSystem.open(log=log) as system:
        agent = system.spawn(PATH, initial_state={"spawned": value}, metadata={"m": value})
        agent.set("set", value)
        agent.append("appended", value)
        agent.record("note", value)
        agent.pause("p", metadata={"m": value})
        agent.resume("p")
        agent.delete("set")
        agent.resume("p")
        wanted = {"spawned": value, "set": value, "appended": [value]}
        assert same_value(agent.get(), wanted)
        assert same_value(agent.checkpoints()[0].metadata, {"m": value})
        [noted] = [event for event in system.events(PATH) if event.type == "activity_recorded"]
        assert same_value(noted.data["data"], value)
    with AgentSystem.open(log=log) as system:
        agent = system.agent(PATH)
        assert same_value(agent.get(), wanted)
        assert same_value(agent.status().metadata, {"m": value})
        agent.terminate(outcome_details=value)
        assert same_value(system.episodes.list()[0].outcome_details, value)


@given(value=anything)
def test_what_is_read_back_is_nobody_elses(value: Any) -> None:
    with AgentSystem.open("memory://") as system:
        agent = system.spawn(PATH)
        agent.set("v", value)
        first, second = agent.get("v"), agent.get("v")
        spoil(first)
        spoil(value)
        assert same_value(agent.get("v"), second)


def spoil(value: Any) -> None:
    """Change every container of a value."""
    if isinstance(value, dict):
        for inner in value.values():
            spoil(inner)
        value["spoilt"] = True
    elif isinstance(value, list):
        for inner in value:
            spoil(inner)
        value.append("spoilt")


# -- batch boundaries --------------------------------------------------------------------------------------------------


@given(many=st.lists(operations, max_size=12), cuts=st.sets(st.integers(0, 12)))
def test_where_a_batch_ends_does_not_matter(many: list[Any], cuts: set[int]) -> None:
    accepted = allowed(many)
    bounds = [0, *sorted(cut for cut in cuts if 0 < cut < len(accepted)), len(accepted)]
    ways: dict[str, Callable[[AgentHandle], object]] = {
        "alone": lambda agent: [agent.ask(operation) for operation in accepted] and None,
        "together": lambda agent: agent.ask(Batch(accepted)),
        "cut": lambda agent: [agent.ask(Batch(accepted[a:b])) for a, b in pairwise(bounds)] and None,
    }
    states = []
    for way in ways.values():
        log = MemoryLog()
        with AgentSystem.open(log=log, settings=Settings(snapshot_every=2)) as system:
            agent = system.spawn(PATH, session_id="s")
            if accepted:
                way(agent)
            events = [(event.seq, event.type, event.data) for event in system.events(PATH)]
            replayed = rebuild(AgentLog(log, PATH, Limits())).state
            states.append([list(map(list, events)), agent.get(), replayed.memory, replayed.nodes])
    assert same_value(states[0], states[1])
    assert same_value(states[0], states[2])


def allowed(many: list[Any]) -> list[Any]:
    memory: dict[str, Any] = {}
    kept = []
    for operation in many:
        try:
            memory = after(memory, operation)
        except Refused:
            continue
        kept.append(operation)
    return kept


def test_the_model_itself_notices_a_difference() -> None:
    """A control: were the strict comparison a loose one, all of the above would say little."""
    assert not same_value({"a": 1}, {"a": True})
    assert not same_value({"a": 0.0}, {"a": -0.0})
    with AgentSystem.open("memory://") as system:
        agent = system.spawn(PATH, initial_state={"a": 1})
        assert same_value(agent.get(), {"a": 1})
        assert not same_value(agent.get(), {"a": 1.0})
        with pytest.raises(TooLarge):
            agent.set("a", [list(range(60_000))] * 3)
