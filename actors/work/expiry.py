"""Agents that are erased when neither they nor an agent below them have changed for a given time.

The index of unfinished work has when each of them is due: each of its appends writes that.
"""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

from duramen.events import AgentNotFound, Granularity, NewEvent, SystemClosed
from duramen.events.model import EXPIRED
from duramen.projections.state import expiry_of, has_expired

from ..dispatch import Envelope
from .messages import Expire

if TYPE_CHECKING:
    from ..handlers import Services, Turn


def expire_if_due(turn: Turn) -> None:
    """Begin to erase an agent that has not changed for as long as it was spawned for; leave any other alone."""
    if has_expired(turn.state):
        turn.effects += (partial(_erase, turn.services, turn.agent),)
    elif _is_due(turn):
        unchanged_since = turn.state.updated_at + turn.now - (expiry_of(turn.state) or 0)
        turn.effects += (partial(_expire, turn.services, turn.agent, unchanged_since),)


def expire(turn: Turn, _message: object) -> None:
    """Log the end of an agent that has still not changed, and erase it after the commit."""
    if _is_due(turn) and not has_expired(turn.state):
        turn.emit(NewEvent(EXPIRED, {}, granularity=int(Granularity.LIFECYCLE)))
        turn.effects += (partial(_erase, turn.services, turn.agent),)


def _is_due(turn: Turn) -> bool:
    expiry = expiry_of(turn.state)
    return expiry is not None and expiry <= turn.now


def _expire(services: Services, agent: str, since: int) -> None:
    """Have an agent expire, unless one below it has changed after that time, in µs. In a worker thread."""
    entries = services.log.directory(services.log.partition_of(agent))
    if any(entry.head.updated_at > since for entry in entries if entry.agent.startswith(f"{agent}/")):
        return  # the next look finds out how that went on
    with suppress(SystemClosed):
        services.actors.send(agent, Envelope(Expire(), wanted=False))


def _erase(services: Services, agent: str) -> None:
    with suppress(AgentNotFound):
        services.system().erase(agent, rewrite=False)
