"""The settings of a system, and what its agents share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, cast

from attrs import define, field, frozen

from duramen.events import EventRegistry, InvalidMessage, Limits
from duramen.events.codec import Codec
from duramen.events.log import Durability, EventLog
from duramen.events.measures import Counts
from duramen.events.model import Seconds, parse_seconds
from duramen.projections.recovery import FoldCache, LogNames

from ..commands import Retention, Serializer, Supervisor, Tracing, retention_to_data
from ..dispatch import ActorRegistry, Confirmer, Dispatcher, EventLoop, ThreadPool, Timers
from ..hosts import Hosting
from .agent_types import AgentFactory
from .hooks import LifecycleHooks
from .output_writer import OutputSender
from .trimmer import Trimmer


def _to_hook_timeout(value: Seconds) -> float:
    return parse_seconds("hook_timeout", value)


def _to_passivate_after(value: Seconds | None) -> float | None:
    return None if value is None else parse_seconds("passivate_after", value)


def _check_count(_settings: object, attribute: Any, value: object) -> None:
    if type(value) is not int or value < 0:
        raise InvalidMessage(f"{attribute.name} takes a whole number, from 0 on", actual=value)


def _check_count_or_none(settings: object, attribute: Any, value: object) -> None:
    if value is not None:
        _check_count(settings, attribute, value)


def _check_retention(_settings: object, _attribute: Any, value: object) -> None:
    retention_to_data(value)


def _check_bool(_settings: object, attribute: Any, value: object) -> None:
    if type(value) is not bool:
        raise InvalidMessage(f"{attribute.name} is True or False", actual=value)


def _check_tracing(_settings: object, _attribute: Any, value: object) -> None:
    if value is not None and not callable(getattr(value, "begin_handler", None)):
        raise InvalidMessage("tracing takes a Tracing, such as OpenTelemetryTracing()", actual=type(value).__name__)


@frozen(kw_only=True)
class Settings:
    """How a system treats its agents. Times are in seconds, or timedeltas. Raises InvalidMessage for wrong types."""

    snapshot_every: int = field(default=1_000, validator=_check_count)
    """Events between automatic snapshots of one agent."""
    hook_timeout: float = field(default=10.0, converter=_to_hook_timeout)
    passivate_after: float | None = field(default=600.0, converter=_to_passivate_after)
    """Seconds without a message after which an agent leaves memory; None: never."""
    most_active: int | None = field(default=None, validator=_check_count_or_none)
    """More agents than this in memory, and those idle longest leave; None: no limit."""
    fenced_tries: int = field(default=8, validator=_check_count)
    """How often one message may lose its agent to another process before its caller gets `Fenced`."""
    retention: Retention | None = field(default=None, validator=_check_retention)
    """How much of a log is kept if its agent has no retention of its own; None: everything."""
    tracing: Tracing | None = field(default=None, validator=_check_tracing)
    """The tracing of messages, such as `duramen.adapters.opentelemetry.OpenTelemetryTracing()`."""
    copy_messages: bool = field(default=False, validator=_check_bool)
    """Whether messages and the replies of handlers are copied as if they went to another process, for tests: what
    could not cross to one is refused."""


@define(eq=False)
class Services:
    """What agents and their turns use. `codec` belongs to the core's thread; worker threads make their own."""

    log: EventLog
    hosting: Hosting
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
    loop_codec: Codec
    """Belongs to the event loop's thread."""
    confirmer: Confirmer
    durability: str
    """What a receipt says that does not ask for another durability."""
    unconfirmed: Durability | None
    """What a commit has to be confirmed to, to reach it; None: it has reached it."""
    serializer: Serializer
    """What crosses to another process, as bytes and back."""
    digest_of: Callable[[bytes, bytes], bytes]
    """The log's digest function: previous digest and body to the event's digest."""
    outputs: OutputSender
    """Sends live output."""
    folds: FoldCache
    """States of agents that are not in memory here, and the last known event of those that were."""
    log_names: LogNames
    """The paths of agents that events name by the ids of their logs."""
    now: Callable[[], int]
    """The server's clock: µs since the epoch."""
    activated: Callable[[], None]
    """Called in the core after each activation."""
    attempts: dict[str, Any] = field(factory=dict[str, Any])
    """The attempts of steps in this process whose outcomes are not logged yet, by key. Used in the core."""
    expiring: set[str] = field(factory=set[str])
    """The agents in memory that are erased when they have not changed for long enough."""
    work_left: Callable[[float], None] = field(default=lambda seconds: None)
    """Called where an agent with unfinished work has left memory, with the seconds until it is due."""
    system: Callable[[], Any] = field(default=lambda: None)
    """The `AgentSystem`, for handlers; None once it is gone."""
    tracing: Tracing | None = None
    """The tracing of messages; None: they are not traced."""
    counts: Counts = field(factory=Counts)
    """What has happened to agents, for metrics."""

    _asked: dict[str, tuple[str, Durability | None]] = field(factory=dict[str, "tuple[str, Durability | None]"])

    def find_durability(self, asked: str) -> tuple[str, Durability | None]:
        """What a receipt says that asks for a durability, and what its commit has to be confirmed to.

        Raises InvalidMessage, and DurabilityUnavailable where this log cannot reach it.
        """
        known = self._asked.get(asked) if type(cast("object", asked)) is str else None
        if known is None:
            parsed = Durability.parse(asked)
            needed = self.log.require_durability(parsed)
            known = (self.log.committed_durability if needed is None else str(parsed), needed)
            self._asked[asked] = known  # there are about a hundred
        return known
