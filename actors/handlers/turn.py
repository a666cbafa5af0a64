"""One turn of an agent: the messages it handles and the events they gave, to be committed as one append."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import partial
from operator import attrgetter
from typing import Any, Final, Protocol, cast

from duramen.events import CommandConflict, DuramenError, Granularity, NewEvent, Receipt, TooLarge
from duramen.events.codec import DIGEST_SIZE, Codec, RawEvent, SnapshotRecord, pack_snapshot
from duramen.events.log import Answer, Durability
from duramen.events.model import EXTERNAL, SPAWNED, Cause, Handling
from duramen.projections import AgentState
from duramen.projections.state import SCHEMA, Undo, advance, roll_back

from ..commands import (
    Decide,
    Span,
    TracedAgent,
    fingerprint,
    former_fingerprints,
    may_hold_content,
    plain_id,
    require_seq,
    with_metadata,
)
from ..dispatch import Commit, Envelope, Inbox, current_cause
from ..hosts import Forwarded
from .agent_timers import AgentTimers
from .agent_types import AgentCode
from .services import Services

_LIFECYCLE: Final = int(Granularity.LIFECYCLE)
_ALWAYS_SENT: Final = 256
"""Bytes of an event up to which each append sends it once more, to be compared with the stored one."""
_AT_REST: Final = 1_000_000
"""µs after which the next append sends a larger one, too."""
_LEVEL: Final = tuple(bytes((level,)) for level in range(1 + max(Granularity)))

_receipt: Final[Callable[[tuple[Any, ...]], Receipt]] = partial(cast("Any", tuple).__new__, Receipt)
"""As `Receipt._make`, without its checks."""


class NeedsWorker(Exception):
    """Raised for a message that a worker thread has to handle, where the core did not expect it. Nothing was changed.

    It is an answer that the waiting handler checks, or too large for an event.
    """


class ActiveAgent(Protocol):
    """The agent in memory, as its turns, their handlers and its own code see it."""

    custom: Any
    """The state that `apply` folds from the agent's own events."""

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

    @property
    def last_event(self) -> bytes:
        """The last event as it was stored from here; empty if it was not, or is too large to be kept."""
        ...

    @property
    def needs_class(self) -> bool:
        """Whether the agent is of a class of the user's: only hosts that have it can run the agent."""
        ...

    def inbox(self) -> Inbox:
        """The agent's mailbox as Pykka's references see it."""
        ...

    def begin_session(self) -> None:
        """Note that a spawn was handled: the next session needs an agent object of its own."""
        ...

    def note_accepted(self, work: int, item: bytes) -> None:
        """Keep the event of a durable message, as it will be stored, until its handler begins."""
        ...

    def finish(self, turn: Turn) -> None:
        """Hand a turn to the journal; in the core."""
        ...

    def settle(self, turn: Turn, answer: Answer | DuramenError) -> None:
        """Go on with the log's answer to a turn; in the core."""
        ...

    def release(self) -> None:
        """End a hold; in the core."""
        ...


class Turn(Commit):
    """The events, replies and effects of one turn, and the append that commits them.

    It is one object with its append, because the collector's work counts. Events change the agent's state at once, so
    that the next message of the turn sees them; nobody outside does before the commit. If the append fails, the state
    is dropped.
    """

    __slots__ = (
        "awaited",
        "before_commit",
        "cause",
        "codec",
        "command",
        "contents",
        "effects",
        "envelopes",
        "hold",
        "messages",
        "runtime",
        "services",
        "span",
        "state",
        "unconfirmed",
        "undo",
    )

    def __init__(self, runtime: ActiveAgent, codec: Codec) -> None:
        self.runtime = runtime
        self.services = services = runtime.services
        self.state = state = runtime.state
        self.codec = codec
        self.agent = runtime.path
        self.log_key = runtime.log_key
        self.partition = runtime.partition
        self.fence = runtime.fence
        self.expected = state.seq
        self.previous = state.digest
        self.items = []
        self.levels = b""
        self.updated_at = now = services.now()
        last = runtime.last_event
        # A larger event is sent once more only if it has stood for a while: an agent that is busy does not pay for it.
        self.last = last if len(last) <= _ALWAYS_SENT or not 0 <= now - state.updated_at < _AT_REST else b""
        self.create = False
        self.entry = None
        self.puts = ()
        self.requires = ()
        self.due_ms = None
        self.size = 0
        self.envelopes: list[Envelope] = []
        """The handled messages, whose staged replies leave after the commit."""
        self.effects: tuple[Callable[[], object], ...] = ()
        """Calls for a worker thread, after the commit."""
        self.messages: tuple[tuple[str, Envelope], ...] = ()
        """Messages and the paths of their agents, sent in order after the commit."""
        self.before_commit: Callable[[], object] | None = None
        """What a worker thread does after the handler and before the commit, which an error prevents."""
        self.contents: dict[bytes, bytes] | None = None
        """What the events refer to and is stored before the commit, by its digest; it is replaced, never changed."""
        self.hold = False
        """Whether the agent is held after the commit, for a cascade."""
        self.command: list[Any] | None = None
        """Id and fingerprint of the command whose events are emitted now."""
        self.cause = EXTERNAL
        """The cause that events emitted now are stored with."""
        self.undo: list[Undo] | None = None
        """The changes of the state since the open savepoint."""
        self.span: Span | None = None
        """The span of the commit, where messages are traced."""
        self.unconfirmed: Durability | None = None
        """What the reply of the message that is handled now waits for after the commit; None: for nothing."""
        self.awaited: tuple[tuple[Envelope, Durability], ...] = ()
        """The handled messages whose replies wait for more than the commit."""

    @property
    def now(self) -> int:
        """The time of the events that are emitted now, in µs since the epoch."""
        return self.updated_at

    def traced_agent(self) -> TracedAgent:
        """The agent, for a span that is about it."""
        state = self.state
        return TracedAgent(self.agent, state.agent_type, state.session_id, state.seq)

    @property
    def position(self) -> int:
        """The seq of the last event so far."""
        return self.state.seq

    def settle(self, answer: Answer | DuramenError) -> None:
        self.runtime.settle(self, answer)

    def update_time(self) -> None:
        """Read the clock again, for the events of a handler that takes its time."""
        self.updated_at = self.services.now()

    def handle(self, envelope: Envelope, handler: Callable[[Turn, Any], Any]) -> None:
        """Handle one message with a handler that refuses by a typed error before it has changed anything.

        Raises NeedsWorker, in the core alone, for a message that is refused for its size: a worker stores what is too
        large in it.
        """
        if envelope.cause is not EXTERNAL:
            self.set_cause(envelope.cause)
        try:
            envelope.result = handler(self, envelope.message)  # as `stage`, which each message would call
            envelope.error = None
            if self.unconfirmed is not None:
                self.awaited += ((envelope, self.unconfirmed),)
                self.unconfirmed = None
        except DuramenError as error:
            if self.runs_in_core and self._may_hold_content(envelope.message, error):
                raise NeedsWorker from None
            envelope.stage_error(error)
            self.unconfirmed = None
        self.envelopes.append(envelope)
        self.command = None
        self.cause = EXTERNAL

    @property
    def runs_in_core(self) -> bool:
        """Whether the messages of the turn are handled in the core, which must not take long."""
        return self.codec is self.services.codec

    def _may_hold_content(self, message: Any, refused: DuramenError) -> bool:
        """Whether a message that was refused may be taken once its large texts and bytes are stored beside the log."""
        if not isinstance(refused, (TooLarge, CommandConflict)):  # the latter where it was replaced the first time
            return False
        handled: object = message.message if isinstance(message, Forwarded) else message
        return may_hold_content(handled) or self.services.registry.is_durable(type(handled))

    def add_contents(self, found: dict[bytes, bytes]) -> None:
        """Have this stored before the commit, by its digest: the events of the turn refer to it."""
        self.contents = found if self.contents is None else {**self.contents, **found}

    def set_cause(self, cause: Cause) -> Handling:
        """Store the events that follow with the cause of the message that is handled."""
        handling = Handling(self.agent, self.position, cause)
        self.cause = handling.event_cause()
        return handling

    def stage(self, envelope: Envelope, value: Any) -> None:
        """Stage a message's reply, to be delivered after the commit and what else it waits for."""
        envelope.stage(value)
        if self.unconfirmed is not None:
            self.awaited += ((envelope, self.unconfirmed),)
            self.unconfirmed = None
        self.envelopes.append(envelope)

    def stage_error(self, envelope: Envelope, error: BaseException) -> None:
        """Stage an error in place of a message's reply, to be delivered after the commit."""
        envelope.stage_error(error)
        self.envelopes.append(envelope)

    def emit(self, event: NewEvent) -> RawEvent:
        """Encode an event, check that it reads back equal, and apply it to the state. Raises ValueRefused, TooLarge."""
        state, services, cause = self.state, self.services, self.cause
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
        digest = services.digest_of(state.digest, body)
        advance(state, raw, digest, services.limits.commands_remembered, self.undo)
        self.items.append(digest + body)
        self.levels += _LEVEL[level]
        self.size += len(body) + DIGEST_SIZE
        if level == _LIFECYCLE:
            self.entry = state.directory_line(self.codec, needs_class=self.runtime.needs_class)
        return raw

    def send(self, path: str, message: object) -> Envelope:
        """Send a message after the commit; nobody waits for its reply. Its cause is the last event so far."""
        envelope = Envelope(message, wanted=False)
        envelope.cause = current_cause()
        if self.services.tracing is not None:
            self.services.tracing.send(path, envelope)
        self.messages += ((path, envelope),)
        return envelope

    def annotate(self, metadata: dict[str, Any]) -> None:
        """Add metadata to the last event of this turn. Raises TooLarge; then nothing has changed."""
        state, services = self.state, self.services
        last = self.items[-1]
        raw = self.codec.unpack(last[DIGEST_SIZE:])
        raw[9] = {**(raw[9] or {}), **metadata}
        body, _ = self.codec.encode(raw)
        digest = services.digest_of(self.items[-2][:DIGEST_SIZE] if len(self.items) > 1 else self.previous, body)
        self.items[-1] = digest + body
        self.size += len(body) + DIGEST_SIZE - len(last)
        state.digest = digest
        entry = None if self.command is None else state.commands.get(self.command[0])
        if entry is not None:
            entry[2] = digest

    def choose_durability(self, asked: str | None) -> str:
        """Have the reply of the message that is handled now wait for a durability; returns what its receipt says.

        Raises InvalidMessage, DurabilityUnavailable.
        """
        if asked is None:
            self.unconfirmed = self.services.unconfirmed
            return self.services.durability
        reached, self.unconfirmed = self.services.find_durability(asked)
        return reached

    def mutate(self, message: Any, decide: Decide) -> Receipt:
        """Emit the events that `decide` makes of a message; a known command id gives its first receipt instead."""
        services = self.services
        if message.durability is None:  # as `choose_durability`, without a call: every mutation comes by here
            durability, self.unconfirmed = services.durability, services.unconfirmed
        else:
            durability = self.choose_durability(message.durability)
        if message.command_id is not None:
            known = self.find_command(message.command_id, message)
            if known is not None:
                return known._replace(durability=durability)
        state = self.state
        if message.expected_seq is not None:
            require_seq(state, message.expected_seq, self.agent)
        first = state.seq + 1
        events = decide(state, message, services.limits, self.agent)
        if message.metadata is not None:
            events = with_metadata(events, message.metadata, services.limits)
        for event in events:
            self.emit(event)
        return _receipt((self.agent, first, state.seq, state.digest, durability))

    def find_command(self, command_id: object, message: object) -> Receipt | None:
        """The first receipt of a known command id; None marks the events that follow as this command's.

        Raises CommandConflict when the id was used with another payload.
        """
        command_id = plain_id(command_id, "command_id") or ""
        print_ = fingerprint(message, self.codec, self.services.registry)
        path = self.agent
        entry = self.state.commands.get(command_id)
        if entry is None:
            self.command = [command_id, print_]
            return None
        first, last, digest, known = entry
        if known != print_ and known not in former_fingerprints(message, self.codec, self.services.registry):
            raise CommandConflict(
                f"command id {command_id[:80]!r} of {path} was used for another payload (seq {first}); use a new id",
                agent=path,
                seq=first,
            )
        return Receipt(path, first, last, digest, self.services.durability)

    @contextmanager
    def savepoint(self, *, limited: bool = True) -> Generator[None]:
        """Roll back to here if the block raises, or if it emits more than a batch may hold (unless not `limited`)."""
        outer = self.undo
        saved = Savepoint(self)
        try:
            yield
            if limited:
                saved.check_size(self)
        except BaseException:
            saved.restore(self)
            raise
        finally:
            if outer is not None:
                outer += saved.undo
            self.undo = outer

    def snapshot(self) -> bytes:
        """The agent's state at this point, as bytes. Raises TooLarge, ValueRefused."""
        runtime, state, services = self.runtime, self.state, self.services
        fields = {"agent": state.dump(), "custom": runtime.custom, "custom_version": runtime.agent.actor_fold_version()}
        record = SnapshotRecord(runtime.path, state.seq, state.digest, self.updated_at, SCHEMA, fields)
        return pack_snapshot(record, self.codec, services.limits, services.log.chain)


_REPLACED: Final = ("status", "paused_at", "when_paused", "checkpoints", "children", "memory", "work")
"""Fields of the state that lifecycle events replace, and do not change in place."""

_session_of: Final[Callable[[AgentState], tuple[Any, ...]]] = attrgetter(*_REPLACED)


class Savepoint:
    """What a turn and its agent's state were at one moment; what changed in place since is in the turn's undo list."""

    def __init__(self, turn: Turn) -> None:
        state = turn.state
        self._turn = len(turn.items), turn.size, len(turn.effects)
        self._contents = turn.contents
        self._append = turn.entry, turn.puts, turn.requires, turn.due_ms, turn.messages, turn.before_commit
        self._state = state.seq, state.digest, state.updated_at, state.nodes, state.granularity, state.levels
        self._session = _session_of(state)
        self._commands = None if turn.command is None else dict(state.commands)  # an id can push an old one out
        self._custom = turn.runtime.custom
        self.undo: list[Undo] = []
        """How to undo what changed since; a savepoint around this one takes it over."""
        turn.undo = self.undo

    def check_size(self, turn: Turn) -> None:
        """Raise TooLarge for more events or bytes since then than one message may give."""
        limits, (count, size, _) = turn.services.limits, self._turn
        for what, actual, most in (
            ("events", len(turn.items) - count, limits.batch_events),
            ("bytes", turn.size - size, limits.batch_bytes),
        ):
            if actual > most:
                raise TooLarge(
                    f"one message gave {actual} {what}, over the limit of {most}; split it",
                    agent=turn.agent,
                    expected=most,
                    actual=actual,
                )

    def restore(self, turn: Turn) -> None:
        """Bring turn and state back to that moment."""
        state, (count, turn.size, effects) = turn.state, self._turn
        roll_back(self.undo)
        turn.entry, turn.puts, turn.requires, turn.due_ms, turn.messages, turn.before_commit = self._append
        for name, value in zip(_REPLACED, self._session, strict=True):
            setattr(state, name, value)
        state.seq, state.digest, state.updated_at, state.nodes, state.granularity, state.levels = self._state
        if self._commands is not None:
            state.commands = self._commands
        turn.runtime.custom = self._custom
        del turn.items[count:]
        turn.levels = turn.levels[:count]
        turn.effects = turn.effects[:effects]
        turn.contents = self._contents
