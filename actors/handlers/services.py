"""The settings of a system, and what its agents share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from time import time_ns
from typing import TYPE_CHECKING, Final

from attrs import define, field, frozen

from duramen.events import EventRegistry, Limits
from duramen.events.codec import Codec
from duramen.events.feed import LastDigests
from duramen.events.log import EventLog

from ..agent_types import AgentFactory
from ..commands import Retention, Supervisor
from ..dispatch import Dispatcher, EventLoop, ThreadPool, Timers
from ..trimmer import Trimmer
from .hooks import LifecycleHooks

if TYPE_CHECKING:
    from ..dispatch import ActorRegistry

__all__ = ["Services", "Settings"]

_MOST_KNOWN: Final = 16_384


@frozen(kw_only=True)
class Settings:
    """How a system treats its agents. Times are in seconds."""

    snapshot_every: int = 1_000
    """Events between automatic snapshots of one agent."""
    hook_timeout: float = 10.0
    passivate_after: float | None = 600.0
    """Seconds without a message after which an agent leaves memory; None: never."""
    most_active: int | None = None
    """More agents than this in memory, and those idle longest leave; None: no limit."""
    fenced_tries: int = 8
    """How often one message may lose its agent to another process before its caller gets `Fenced`."""
    retention: Retention | None = None
    """How much of a log is kept if its agent has no retention of its own; None: everything."""


def _now() -> int:
    return time_ns() // 1000


@define(eq=False)
class Services:
    """What agents and their turns use. `codec` belongs to the core's thread; worker threads make their own."""

    log: EventLog
    owner: str
    """This system's id: the second half of every fence that it holds."""
    dispatcher: Dispatcher
    actors: ActorRegistry
    thread_pool: ThreadPool
    activations: ThreadPool
    loop: EventLoop
    timers: Timers
    hooks: LifecycleHooks
    supervisor: Supervisor
    trimmer: Trimmer
    registry: EventRegistry
    agents: Mapping[str, AgentFactory]
    limits: Limits
    settings: Settings
    codec: Codec
    durability: str
    digest_of: Callable[[bytes, bytes], bytes]
    """The log's digest function: previous digest and body to the event's digest."""
    activated: Callable[[], None]
    """Called in the core after each activation."""
    known: LastDigests = field(factory=lambda: LastDigests(_MOST_KNOWN))
    """The last event that the log is known to have of agents that left memory. Changed in the core only."""
    now: Callable[[], int] = field(default=_now)
    """The clock: µs since the epoch."""
