"""One turn of an agent: the messages it handles and the events they gave, to be committed as one append."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, Final, Protocol, cast

from duramen.events import CommandConflict, DuramenError, Granularity, Limits, NewEvent, Receipt, TooLarge
from duramen.events.codec import DIGEST_SIZE, Codec, RawEvent, SnapshotRecord, pack_snapshot
from duramen.events.log import Answer
from duramen.events.model import EXTERNAL, SPAWNED, Handling
from duramen.projections import AgentState
from duramen.projections.state import SCHEMA, Undo, advance, roll_back

from ..agent_types import AgentCode
from ..commands import fingerprint, plain_id
from ..dispatch import Commit, Envelope, Inbox
from .agent_timers import AgentTimers
from .services import Services

__all__ = ["ActiveAgent", "Decide", "Turn"]

_LIFECYCLE: Final = int(Granularity.LIFECYCLE)
_LEVEL: Final = tuple(bytes((level,)) for level in range(1 + max(Granularity)))

_receipt: Final[Callable[[tuple[Any, ...]], Receipt]] = partial(cast("Any", tuple).__new__, Receipt)
"""As `Receipt._make`, without its checks."""

Decide = Callable[[AgentState, Any, Limits, str], Sequence[NewEvent]]


class ActiveAgent(Protocol):
    """The agent in memory, as its turns, their handlers and its own code see it."""

    custom: Any
    """What the agent's own events have made."""

    @property
    def services(self) -> Services: ...

    @property
    def path(self) -> str: ...

    @property
    def log_key(self) -> str: ...

    @property
    def partition(self) -> int: ...

    @property
    def fence(self) -> str: ...

    @property
    def state(self) -> AgentState: ...

    @property
    def agent(self) -> AgentCode: ...

    @property
    def timers(self) -> AgentTimers: ...

    def inbox(self) -> Inbox:
        """The agent's mailbox as Pykka's references see it."""
        ...

    def begin_session(self) -> None:
        """A spawn is handled: the next one needs an object of its own."""
        ...

    def finish(self, turn: Turn) -> None:
        """Hand a turn to the journal; in the core."""
        ...

    def settle(self, turn: Turn, answer: Answer | DuramenError) -> None:
        """Go on with the log's answer to a turn; in the core."""
        ...

    def release(self) -> None:
        """Go on after having been held; in the core."""
        ...


class Turn(Commit):
    """What becomes of the messages of one turn, and the append that commits it: one object, for the collector's sake.

    Events change the agent's state at once, so that the next message of the turn sees them; nobody outside does
    before the append is committed. If it is not, the state is forgotten.
    """

    __slots__ = (
        "after",
        "answers",
        "cause",
        "codec",
        "command",
        "digest_of",
        "durability",
        "hold",
        "limits",
        "runtime",
        "state",
        "undo",
    )

    def __init__(self, runtime: ActiveAgent, codec: Codec) -> None:
        services = runtime.services
        self.runtime = runtime
        self.limits = services.limits
        self.durability = services.durability
        self.state = state = runtime.state
        self.codec = codec
        self.digest_of = services.digest_of
        self.agent = runtime.path
        self.log_key = runtime.log_key
        self.partition = runtime.partition
        self.fence = runtime.fence
        self.expected = state.seq
        self.previous = state.digest
        self.items = []
        self.levels = b""
        self.updated_at = services.now()
        self.create = False
        self.entry = None
        self.puts = ()
        self.size = 0
        self.answers: list[Envelope] = []
        self.after: tuple[Callable[[], object], ...] = ()
        self.command: list[Any] | None = None
        self.cause = EXTERNAL
        self.undo: list[Undo] | None = None
        self.hold = False

    @property
    def now(self) -> int:
        """The time of what happens in this turn, in µs."""
        return self.updated_at

    def has_room(self) -> bool:
        """Whether another message fits into this turn's append."""
        return self.size < self.limits.batch_bytes // 2 and len(self.items) < self.limits.batch_events

    def settle(self, answer: Answer | DuramenError) -> None:
        self.runtime.settle(self, answer)

    def look_at_the_clock(self) -> None:
        """Let what follows be of this moment, in a turn that has taken its time."""
        self.updated_at = self.runtime.services.now()

    def handle(self, envelope: Envelope, handler: Callable[[Turn, Any], Any]) -> None:
        """Handle one message with a handler that refuses by a typed error before it has changed anything."""
        if envelope.cause is not EXTERNAL:
            self.handling(envelope)
        try:
            envelope.stage(handler(self, envelope.message))
        except DuramenError as error:
            envelope.stage_error(error)
        self.answers.append(envelope)
        self.command = None
        self.cause = EXTERNAL

    def handling(self, envelope: Envelope) -> Handling:
        """Begin to handle a message: what happens now is stored with where it comes from."""
        handling = Handling(self.agent, self.state.seq, envelope.cause)
        self.cause = handling.event_cause()
        return handling

    def stage(self, envelope: Envelope, value: Any) -> None:
        """Let this be a message's reply when the turn is committed."""
        envelope.stage(value)
        self.answers.append(envelope)

    def stage_error(self, envelope: Envelope, error: BaseException) -> None:
        """Let a message be refused when the turn is committed."""
        envelope.stage_error(error)
        self.answers.append(envelope)

    def emit(self, event: NewEvent) -> RawEvent:
        """Let an event happen: encode it, check that it reads back equal, and let it change the state."""
        state, cause = self.state, self.cause
        kind, data, version, level, metadata = event
        raw: RawEvent = [
            kind,
            version,
            level,
            self.updated_at,
            data,
            data["session_id"] if kind == SPAWNED else state.session_id,
            self.command,
            cause.causation_id,
            cause.correlation_id,
            metadata,
        ]
        body, raw[4] = self.codec.encode(raw)
        digest = self.digest_of(state.digest, body)
        advance(state, raw, digest, self.limits.commands_remembered, self.undo)
        self.items.append(digest + body)
        self.levels += _LEVEL[level]
        self.size += len(body) + DIGEST_SIZE
        if level == _LIFECYCLE:
            self.entry = self.codec.pack([state.status, state.agent_type, state.session_id])
        return raw

    def mutate(self, message: Any, decide: Decide) -> Receipt:
        """Let the events happen that `decide` makes of a message; or give the first receipt of its command id again."""
        if message.command_id is not None:
            known = self.recognise(message.command_id, message)
            if known is not None:
                return known
        state = self.state
        first = state.seq + 1
        for event in decide(state, message, self.limits, self.agent):
            self.emit(event)
        return _receipt((self.agent, first, state.seq, state.digest, self.durability))

    def recognise(self, command_id: object, message: object) -> Receipt | None:
        """The receipt of a command seen before; None marks what happens next as this command's.

        Raises CommandConflict when the id was used with another payload.
        """
        command_id = plain_id(command_id, "command_id") or ""
        print_ = fingerprint(message, self.codec)
        path = self.agent
        entry = self.state.commands.get(command_id)
        if entry is None:
            self.command = [command_id, print_]
            return None
        first, last, digest, known = entry
        if known != print_:
            raise CommandConflict(
                f"command id {command_id[:80]!r} of {path} was used for another payload (seq {first}); use a new id",
                agent=path,
                seq=first,
            )
        return Receipt(path, first, last, digest, self.durability)

    @contextmanager
    def all_or_nothing(self, *, limited: bool = True) -> Generator[None]:
        """Several events of one message: an exception leaves no trace of them; nor do more than a batch may have."""
        state, runtime = self.state, self.runtime
        count, size, after = len(self.items), self.size, len(self.after)
        seq, digest, updated_at, nodes = state.seq, state.digest, state.updated_at, state.nodes
        granularity, levels, custom = state.granularity, state.levels, runtime.custom
        commands = None if self.command is None else dict(state.commands)  # an id can push an old one out
        undo = self.undo = []
        try:
            yield
            if limited:
                self._check_batch(len(self.items) - count, self.size - size)
        except BaseException:
            roll_back(undo)
            state.seq, state.digest, state.updated_at, state.nodes = seq, digest, updated_at, nodes
            state.granularity, state.levels, runtime.custom = granularity, levels, custom
            if commands is not None:
                state.commands = commands
            del self.items[count:]
            self.levels = self.levels[:count]
            self.after = self.after[:after]
            self.size = size
            raise
        finally:
            self.undo = None

    def _check_batch(self, events: int, size: int) -> None:
        limits = self.limits
        for what, actual, most in (
            ("events", events, limits.batch_events),
            ("bytes", size, limits.batch_bytes),
        ):
            if actual > most:
                raise TooLarge(
                    f"one message gave {actual} {what}, over the limit of {most}; split it",
                    agent=self.runtime.path,
                    expected=most,
                    actual=actual,
                )

    def snapshot(self) -> bytes:
        """The agent's state at this point, as bytes. Raises TooLarge, ValueRefused."""
        runtime, state = self.runtime, self.state
        fields = {"agent": state.dump(), "custom": runtime.custom, "custom_version": runtime.agent.custom_version()}
        record = SnapshotRecord(runtime.path, state.seq, state.digest, self.updated_at, SCHEMA, fields)
        return pack_snapshot(record, self.codec, runtime.services.limits, runtime.services.log.chain)
