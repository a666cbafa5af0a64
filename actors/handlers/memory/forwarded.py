"""Mutations that another host has sent on: their events are marked, so that a repetition is recognised in the log."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from duramen.events import Limits, NewEvent, OutcomeUnknown, Receipt, Trimmed
from duramen.events.codec import NO_DIGEST
from duramen.events.log import digest_at, raw_events
from duramen.projections import AgentState

from ...commands import DECIDERS, Append, Decide, Delete, Pop, Set
from ...hosts import Forwarded, Repeated
from ..turn import Turn
from .mutations import OWN_MEMORY_HANDLERS, handle_pop, warn_of_dots
from .stored_reply import annotate_reply, reply_of

_HANDLERS: Final = {**OWN_MEMORY_HANDLERS, Pop: handle_pop}
_MARK: Final = "asked_by"
"""In the metadata of the last event of a forwarded mutation: [asking host, its number for the message, events]."""


def _mutation_of_one_event(decide: Decide) -> Callable[[Turn, Any, list[Any]], Receipt]:
    """The handler of a forwarded mutation that gives one event: it is made with its mark, and not made again for it."""

    def mutate(turn: Turn, message: Any, mark: list[Any]) -> Receipt:
        def decide_marked(state: AgentState, message: Any, limits: Limits, agent: str) -> list[NewEvent]:
            (event,) = decide(state, message, limits, agent)
            return [event._replace(metadata={_MARK: mark})]

        path = message.path
        if type(path) is not str or "." in path:
            warn_of_dots(turn, path)
        return turn.mutate(message, decide_marked)

    return mutate


_type_of: Callable[[object], type[Any]] = type
_OF_ONE_EVENT: Final[Mapping[type[Any], Callable[..., Any]]] = {
    kind: _mutation_of_one_event(DECIDERS[kind]) for kind in (Set, Delete, Append)
}


def handle_forwarded(turn: Turn, message: Forwarded) -> Any:
    """Carry out a forwarded mutation, and mark its last event."""
    mutate = _OF_ONE_EVENT.get(_type_of(message.message))
    if mutate is not None:
        return mutate(turn, message.message, [message.asker, message.number, 1])
    before = len(turn.items)
    handler = _HANDLERS[type(message.message)]
    with turn.savepoint():
        reply = handler(turn, message.message)
        added = len(turn.items) - before
        if added:
            turn.annotate({_MARK: [message.asker, message.number, added]})
            if type(message.message) is Pop:
                annotate_reply(turn, reply)
            else:
                reply = reply._replace(digest=turn.state.digest)
    return reply


def handle_repeated(turn: Turn, message: Repeated) -> Any:
    """Return the reply of the first time, if the log has the mark; else carry the mutation out. Blocks."""
    found = _find(turn, message)
    if found is None:
        return handle_forwarded(turn, message)
    receipt, metadata = found
    return reply_of(metadata, receipt) if type(message.message) is Pop else receipt


def _find(turn: Turn, message: Repeated) -> tuple[Receipt, dict[str, Any]] | None:
    log, agent, after = turn.services.log, turn.agent, message.known_seq
    try:
        digest = (digest_at(log, agent, after) if after else NO_DIGEST) or NO_DIGEST
        for seq, raw, own in raw_events(log, agent, turn.codec, after=after, digest=digest, to_seq=turn.expected):
            metadata: dict[str, Any] = raw[9] or {}
            mark = metadata.get(_MARK)
            if type(mark) is list and mark[:2] == [message.asker, message.number]:
                return Receipt(agent, seq - mark[2] + 1, seq, own, turn.services.durability), metadata
    except Trimmed:
        raise OutcomeUnknown(
            f"the host of {agent} died, and its log is trimmed where the outcome would be; look at its state",
            agent=agent,
            seq=after,
        ) from None
    return None


MEMORY_HANDLERS: Final[Mapping[type[Any], Callable[[Turn, Any], Any]]] = {
    **OWN_MEMORY_HANDLERS,
    Forwarded: handle_forwarded,
}
"""Handlers that need nothing but the state, of messages from here and from other hosts."""
