"""The handlers of lifecycle messages."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate
from typing import Any, Final, cast
from uuid import uuid4

from attrs import evolve

from duramen.events import (
    AgentAlreadyRunning,
    AgentFailed,
    AgentNotFound,
    AgentNotRunning,
    AgentPaused,
    CheckpointNotFound,
    DuramenError,
    InvalidMessage,
    Limits,
    NewEvent,
    Receipt,
    TooLarge,
    VersionConflict,
)
from duramen.events.codec import NO_DIGEST, RawEvent, to_datetime
from duramen.events.log import NOTHING_UNFINISHED, Put, digest_at, raw_events
from duramen.events.logging import get_logger
from duramen.events.model import EPISODE_RECORDED, PAUSED, RESUMED, SPAWNED, TERMINATED, check_value, parse_seconds
from duramen.projections import AgentState
from duramen.projections.episodes import episode_put
from duramen.projections.state import PAUSED_STATUS, has_expired

from ...commands import (
    AdoptChild,
    Checkpoint,
    Hold,
    LifecycleResult,
    ListCheckpoints,
    Pause,
    Pop,
    Restart,
    Resume,
    Spawn,
    Terminate,
    decide_adopt,
    decide_pause,
    decide_restart,
    decide_resume,
    decide_spawn,
    decide_terminate,
    outcome_of,
    require_alive,
    require_seq,
)
from ...dispatch import Envelope
from ...hosts import Repeated
from ..memory import READS, drop_expired, handle_pop, handle_repeated, replace_contents
from ..turn import Turn
from .cascade import children_of, held_tree, hold
from .checkpoints import IN_PLACE, find_checkpoint, find_paused, require_one_cut
from .episode import consolidate
from .transition import Transition, reply_to

_REFUSALS: Final = (
    AgentFailed,
    AgentAlreadyRunning,
    AgentNotFound,
    AgentNotRunning,
    AgentPaused,
    CheckpointNotFound,
    VersionConflict,
)
"""Expected failures, returned as results. Misuse and lost servers are raised."""


def _spawn(turn: Turn, message: Spawn) -> Transition:
    runtime = turn.runtime
    if has_expired(turn.state):  # the append then finds that, and the spawn is handled on an empty log
        runtime.services.system().erase(runtime.path, rewrite=False)
    events = decide_spawn(turn.state, message, runtime.services.limits, runtime.path, session_id=str(uuid4()))
    expired = turn.state.expires_after is not None and message.expires_after is None
    spawned = turn.emit(events[0])  # first: one that is too large is refused before anything has changed
    runtime.begin_session()
    turn.requires = _living_parent(runtime.path, message.parent)
    if expired:
        turn.due_ms = NOTHING_UNFINISHED
    return _transition(turn, spawned)


def _living_parent(path: str, parent: str | None) -> tuple[tuple[str, bool], ...]:
    """A parent must live when its sub-agent is spawned; without a parent no agent above may, nearest first."""
    if parent is not None:
        return ((str(parent), True),) if path.startswith(f"{parent}/") else ()
    above = list(accumulate(path.split("/"), "{}/{}".format))
    return tuple((agent, False) for agent in above[-2:0:-1])


def _pause(turn: Turn, message: Pause) -> Transition:
    if not message.cascade:
        return _pause_one(turn, message)
    named = evolve(message, cascade=False, checkpoint_id=message.checkpoint_id or _checkpoint_id(turn.now))
    operation, depth = uuid4().hex, turn.agent.count("/")

    def pause_member(member: Turn, message: Pause) -> Transition:
        return _pause_one(member, message, [operation, member.agent.count("/") - depth])

    _require_storable(turn, _decide_pause(turn, named, [operation, 0]))
    with held_tree(turn.runtime) as tree:
        turn.snapshot()  # a state that is refused or too large must not pause the others
        others = tree.handle(evolve(named, command_id=None, expected_seq=None), _with_refusals("pause", pause_member))
        turn.update_time()
        return _with_others(_pause_one(turn, named, [operation, 0]), others)


def _decide_pause(turn: Turn, message: Pause, cascade: list[Any] | None) -> list[NewEvent]:
    made_up, limits = _checkpoint_id(turn.now), turn.services.limits
    return decide_pause(turn.state, message, limits, turn.agent, now=turn.now, checkpoint_id=made_up, cascade=cascade)


def _checkpoint_id(now: int) -> str:
    return f"{to_datetime(now):%Y%m%dT%H%M%SZ}-{uuid4().hex[:8]}"


def _require_storable(turn: Turn, events: Sequence[NewEvent]) -> None:
    """Raise what emitting these events would raise."""
    for kind, data, version, level, metadata in events:
        turn.codec.encode(
            [kind, version, level, turn.now, data, turn.state.session_id, turn.command, None, None, metadata]
        )


def _with_others(done: Transition, others: Mapping[str, LifecycleResult]) -> Transition:
    """The transition with the number of agents that have made it, and the messages of those that did not."""
    refused = {path: result.message for path, result in others.items() if not result.success}
    unconfirmed = {path: result.message for path, result in others.items() if result.success and result.error}
    data = {**done.data, "agents": 1 + len(others) - len(refused)}
    if refused:
        data["refused"] = refused
    if unconfirmed:
        data["unconfirmed"] = unconfirmed
    return evolve(done, data=data)


def _pause_one(turn: Turn, message: Pause, cascade: list[Any] | None = None) -> Transition:
    events = _decide_pause(turn, message, cascade)
    memory = turn.snapshot()  # before the event: a state that is refused must leave no trace
    raw = turn.emit(events[0])
    key = turn.services.log.checkpoint_key(turn.agent, raw[4]["checkpoint_id"])
    ttl_ms = 0 if message.ttl is None else int(parse_seconds("ttl", message.ttl) * 1000)
    turn.puts += (Put(key, memory, ttl_ms),)
    turn.size += len(memory)
    return _transition(turn, raw)


def _resume(turn: Turn, message: Resume) -> Transition:
    if type(message.clear_current) is not bool:
        raise InvalidMessage("clear_current is True or False")
    if not message.cascade:
        return _resume_one(turn, message)
    require_alive(turn.state, turn.agent)
    one = evolve(message, cascade=False)
    with held_tree(turn.runtime) as tree:
        paused = None if message.checkpoint_id is not None else find_paused(turn.state, turn.agent, tree.states)
        if paused is None:  # a restore: every agent to its checkpoint of the same cut
            one = evolve(one, checkpoint_id=find_checkpoint(turn, one).checkpoint_id)
            require_one_cut(turn.state, turn.agent, tree.states, one.checkpoint_id)
        member = evolve(one, command_id=None, expected_seq=None)
        others = tree.handle(member, _with_refusals("resume", _resume_one), only=paused)
        turn.update_time()
        return _with_others(_resume_one(turn, one, in_place=paused is not None), others)


def _resume_one(turn: Turn, message: Resume, *, in_place: bool = False) -> Transition:
    """`in_place` ends a pause, if there is one, and restores nothing."""
    require_alive(turn.state, turn.agent)
    found = IN_PLACE if in_place and turn.state.status != PAUSED_STATUS else find_checkpoint(turn, message)
    raw: RawEvent = []
    with turn.savepoint(limited=False):
        for event in decide_resume(turn.state, message, found, turn.agent):
            raw = turn.emit(event)
    return _transition(turn, raw)


def _terminate(turn: Turn, message: Terminate) -> Transition:
    require_alive(turn.state, turn.agent)
    _check_terminate(turn, message)
    events = _decide_terminate(turn, message)
    if not message.cascade or not turn.state.children:
        return _emit_transition(turn, events)
    _require_storable(turn, events)
    with held_tree(turn.runtime, all_children=False) as tree:
        others = tree.handle(_for_child(message), _with_refusals("terminate", _terminate_member), children_first=True)
        turn.update_time()
        _require_ended_children(turn)
        return _with_others(_emit_transition(turn, events), others)


def _terminate_member(turn: Turn, message: Terminate) -> Transition:
    _require_ended_children(turn)
    return _terminate(turn, message)


def _require_ended_children(turn: Turn) -> None:
    """Let the log refuse the end if a sub-agent lives that was not there when the tree was held."""
    turn.requires = tuple((path, False) for path in children_of(turn.runtime, all_children=False))


def _decide_terminate(turn: Turn, message: Terminate) -> list[NewEvent]:
    outcome_of(message.outcome)
    episode = consolidate(turn, message) if message.consolidate_to_episodic else None
    return decide_terminate(turn.state, message, turn.agent, episode=episode)


def _emit_transition(turn: Turn, events: Sequence[NewEvent]) -> Transition:
    raw: RawEvent = []
    for event in events:
        raw = turn.emit(event)
        if raw[0] == EPISODE_RECORDED:
            put = episode_put(turn.runtime.services.log, turn.agent, turn.state.seq, raw[4]["episode"], turn.codec)
            turn.puts += (put,)
            turn.size += len(put.value)
    return _transition(turn, raw)


# -- within the turn of a user's handler -------------------------------------------------------------------------------


def pause_self(turn: Turn, message: Pause) -> None:
    """Pause the agent as part of a handler's turn; its hooks run after the commit."""
    _run_hooks_later(turn, _pause_one(turn, message))


def terminate_self(turn: Turn, message: Terminate) -> None:
    """End the session as part of a handler's turn; sub-agents end before the commit, and hooks run after it."""
    require_alive(turn.state, turn.agent)
    _check_terminate(turn, message)
    events = _decide_terminate(turn, message)
    if message.cascade and turn.state.children:
        turn.before_commit = lambda: _terminate_children(turn, message)
    _run_hooks_later(turn, _emit_transition(turn, events))


def _terminate_children(turn: Turn, message: Terminate) -> None:
    with held_tree(turn.runtime, all_children=False) as tree:
        tree.handle(_for_child(message), _with_refusals("terminate", _terminate_member), children_first=True)
    _require_ended_children(turn)


def check_spawn(message: Spawn, limits: Limits, path: str) -> None:
    """Raise the error that spawning a new agent with this message would raise."""
    try:
        decide_spawn(AgentState(), message, limits, path, session_id="-")
    except TooLarge as refused:
        replaced, _ = replace_contents(limits, path, message, refused)
        decide_spawn(AgentState(), replaced, limits, path, session_id="-")


def announce_child(turn: Turn, message: AdoptChild, spawn: Spawn, *, send: bool = True) -> None:
    """Record a sub-agent as part of a handler's turn; it is spawned after the commit, unless `send` is False."""
    limits = turn.services.limits
    check_spawn(spawn, limits, message.path)  # what is refused is refused here
    if spawn.durability is not None:
        turn.services.find_durability(spawn.durability)
    for event in decide_adopt(turn.state, message, limits, turn.agent):
        turn.emit(event)
    if not send:
        return
    envelope = turn.send(message.path, spawn)

    def check() -> None:
        result = envelope.result
        if envelope.error is not None or not result.success:
            kind = type(envelope.error or result.error).__name__
            get_logger("agent").warning("child_not_spawned", agent=turn.agent, child=message.path, error=kind)

    envelope.add_done_callback(check)


def _run_hooks_later(turn: Turn, done: Transition) -> None:
    services = turn.services
    turn.effects += (lambda: reply_to(services, Envelope(wanted=False), done),)


def _for_child(message: Terminate) -> Terminate:
    """The message for sub-agents: the parent's outcome, without the description of its session."""
    return Terminate(
        outcome=message.outcome,
        importance_score=message.importance_score,
        reason="ended with its parent",
        consolidate_to_episodic=message.consolidate_to_episodic,
        cleanup_working=message.cleanup_working,
        cascade=False,
        durability=message.durability,
    )


def _check_terminate(turn: Turn, message: Terminate) -> None:
    score = message.importance_score
    if type(score) not in (int, float) or not 0 <= score <= 1:
        raise InvalidMessage("importance_score is a number from 0 to 1")
    texts = [message.task_description, message.context_summary]
    if any(text is not None and type(text) is not str for text in texts):
        raise InvalidMessage("task_description and context_summary are text")
    lessons = cast("object", message.lessons_learned)
    if not isinstance(lessons, (list, tuple)) or any(type(lesson) is not str for lesson in message.lessons_learned):
        raise InvalidMessage("lessons_learned is a list of texts")
    check_value(message.outcome_details, turn.runtime.services.limits, "outcome_details")


def _on_list_checkpoints(turn: Turn, message: ListCheckpoints) -> list[Checkpoint]:
    found = READS[ListCheckpoints](turn.state, message, turn.agent, turn.codec)
    return drop_expired(turn.services.log, turn.agent, found)


def _on_restart(turn: Turn, message: Restart) -> Receipt:
    return turn.mutate(message, decide_restart)


def _on_adopt(turn: Turn, message: AdoptChild) -> Receipt:
    return turn.mutate(message, decide_adopt)


# -- results -----------------------------------------------------------------------------------------------------------


def _transition(turn: Turn, raw: RawEvent) -> Transition:
    """The transition of the lifecycle event that was just emitted."""
    state = turn.state
    event_type, message, data = _describe(raw, state.seq)
    agent, session_id, agent_type = turn.agent, state.session_id, state.agent_type
    return Transition(event_type, message, data, agent, state.seq, raw[3], session_id, agent_type, state.metadata)


def _describe(raw: RawEvent, seq: int) -> tuple[str, str, dict[str, Any]]:
    """Type, message and data of a result: a function of the event alone, so that it can be repeated from the log."""
    kind, data = raw[0], raw[4]
    checkpoint_id = data.get("checkpoint_id")
    if kind == SPAWNED:
        name, message = "spawn", f"session {data['session_id']} started"
        details = {"session_id": data["session_id"], "initial_items": len(data["memory"])}
    elif kind == PAUSED:
        name, message = "pause", f"paused at checkpoint {checkpoint_id}"
        details = {
            "checkpoint_id": checkpoint_id,
            "items_saved": data["keys_count"],
            "timestamp": to_datetime(raw[3]),
        }
    elif kind == RESUMED:
        name = "resume"
        message = "resumed in place" if checkpoint_id is None else f"resumed from checkpoint {checkpoint_id}"
        details = {
            "checkpoint_id": checkpoint_id,
            "items_restored": data["items_restored"],
            "checkpoint_timestamp": data["checkpoint_timestamp"],
        }
    else:
        name, message = "terminate", f"session ended in {data['outcome']}"
        details = {
            "episode_id": data["episode_id"],
            "state_items_consolidated": data["items_consolidated"],
            "items_cleared": data["items_cleared"],
            "outcome": data["outcome"],
        }
    return name, message, {**details, "seq": seq}


def _repeat_result(turn: Turn, receipt: Receipt) -> LifecycleResult:
    """The result of a command that was handled before, from its events in the log."""
    services = turn.runtime.services
    digest = digest_at(services.log, receipt.agent, receipt.first_seq - 1) or NO_DIGEST
    for seq, raw, _ in raw_events(
        services.log,
        receipt.agent,
        turn.codec,
        after=receipt.first_seq - 1,
        digest=digest,
        to_seq=receipt.seq,
    ):
        if raw[0] in (SPAWNED, PAUSED, RESUMED, TERMINATED):
            event_type, text, data = _describe(raw, seq)
            return LifecycleResult(success=True, event_type=event_type, message=text, data=data)
    raise CheckpointNotFound(f"the events of this command are no longer in the log of {receipt.agent}")


def _with_refusals(name: str, handler: Callable[[Turn, Any], Transition]) -> Callable[[Turn, Any], Any]:
    """The handler with expected failures returned as results, and a repeated command id answered from the log."""

    def handle(turn: Turn, message: Any) -> Transition | LifecycleResult:
        try:
            turn.choose_durability(message.durability)
            if message.command_id is not None:
                known = turn.find_command(message.command_id, message)
                if known is not None:
                    return _repeat_result(turn, known)
            if type(message) is not Spawn and message.expected_seq is not None:
                require_seq(turn.state, message.expected_seq, turn.agent)
            return handler(turn, message)
        except DuramenError as error:
            turn.unconfirmed = None
            if isinstance(error, _REFUSALS):
                return LifecycleResult(success=False, event_type=name, message=str(error), error=error)
            raise

    return handle


LIFECYCLE: Final = frozenset((Spawn, Pause, Resume, Terminate))
MAY_BLOCK: Final = LIFECYCLE | {Pop}
"""Messages whose first result, of a command id, may have to be read from the log."""

QUICK_HANDLERS: Final[Mapping[type[Any], Callable[[Turn, Any], Any]]] = {
    Spawn: _with_refusals("spawn", _spawn),
    Pause: _with_refusals("pause", _pause),
    AdoptChild: _on_adopt,
    Hold: hold,
    Pop: handle_pop,
    Restart: _on_restart,
}
"""Handlers that need only the state, unless a repeated command id makes them read the log."""

BLOCKING_HANDLERS: Final[Mapping[type[Any], Callable[[Turn, Any], Any]]] = {
    **QUICK_HANDLERS,
    Resume: _with_refusals("resume", _resume),
    Terminate: _with_refusals("terminate", _terminate),
    ListCheckpoints: _on_list_checkpoints,
    Repeated: handle_repeated,
}
"""Handlers that a worker thread runs, since they read from the server."""
