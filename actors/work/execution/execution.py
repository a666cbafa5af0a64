"""One run of a durable handler: its coroutine, the call that its writes belong to, and what it has begun."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from contextlib import suppress
from hashlib import sha256
from typing import Any, Final, cast

from attrs import frozen

from duramen.events import DuramenError, InvalidMessage, NewEvent, ValueRefused, WaitExpired
from duramen.events.logging import get_logger
from duramen.events.model import EXTERNAL, WORK_BEGUN, WORK_GIVEN_UP, Cause, event_id, log_id
from duramen.projections.state import ASK, WAIT

from ...commands import Serializer, renamed
from ...handlers import HandlerCall, Services, Turn
from .loop import DurableLoop, Pending, WorkCancelled
from .step import Begun, Outcome, check_result, error_of

START: Final = 0
"""The number of what a handler goes on after when it begins, or is cancelled."""
EXPIRED: Final = "WaitExpired"
CANCELLED: Final = "WorkCancelled"
TOO_LATE: Final = "CancelledTooLate"
"""The error after which a handler that was cancelled ends, whatever it still waits for."""
_KEY: Final = 32
_PLAIN: Final = "reply"
_PACKED: Final = "packed"


@frozen
class Identity:
    """The identity of one piece of work: no other has the same for as long as its log exists."""

    agent: str
    work: int
    """The seq of its message."""
    before: bytes
    """The digest of the event before the message."""
    log: str
    version: int
    """The version of the message."""
    correlation_id: str
    command_id: str | None

    @property
    def seed(self) -> int:
        """A number for hashes: the same in each run, and another for other work, since one set has all tasks."""
        return int.from_bytes(self.before[:8], "big") ^ self.work

    def derive(self, *names: object) -> bytes:
        """32 bytes that are made of this identity and the names, and of nothing else."""
        text = "\0".join((self.log, str(self.work), *map(str, names)))
        return sha256(self.before + text.encode(errors="surrogatepass")).digest()


class WorkCall(HandlerCall):
    """The call of a durable handler: it has another turn in each stretch, and none between two of them."""

    __slots__ = ("execution",)

    def __init__(self, turn: Turn, execution: Execution) -> None:
        super().__init__(turn, EXTERNAL, execution.identity.command_id)
        self.execution = execution


class Execution:
    """One run of a durable handler. Used by one thread at a time."""

    def __init__(
        self, identity: Identity, turn: Turn, start: Callable[[Turn], Any], *, is_exclusive: bool = False
    ) -> None:
        """`start` calls the handler, in the turn of the first stretch; it returns the coroutine."""
        self.identity = identity
        self._start = start
        self.is_exclusive = is_exclusive
        """Whether the agent handles no other message meanwhile."""
        self.call = WorkCall(turn, self)
        self.begun: dict[int, Begun] = {}
        """What the handler has begun, and did not get a result of."""
        self.held: dict[int, Outcome] = {}
        """Results that are logged, and that the handler did not get yet, by number."""
        self.background: list[Pending] = []
        """What the handler has begun without waiting for it: the end of its work does."""
        self.now = 0
        """The time of the event that began the stretch, in µs."""
        self.carried: Mapping[str, str] = {}
        """The trace that the stretch lies in, where messages are traced."""
        self._counts: dict[str, int] = {}
        self._loop: DurableLoop | None = None

    @property
    def loop(self) -> DurableLoop:
        loop = self._loop
        assert loop is not None, "the handler has begun"
        return loop

    @property
    def has_begun(self) -> bool:
        return self._loop is not None

    @property
    def has_ended(self) -> bool:
        return self._loop is not None and self._loop.ended

    def cause_of(self, seq: int) -> Cause:
        """The cause of what follows from the agent's event at `seq`, as part of this work."""
        return Cause(event_id(self.identity.agent, seq), self.identity.correlation_id)

    def go_on(
        self, number: int, result: Any, error: Mapping[str, Any] | None, *, turn: Turn, seq: int, now: int
    ) -> None:
        """Run one stretch in a turn, from the event at `seq` of time `now`, in µs. It raises nothing of the handler's.

        `loop` has what it raised.
        """
        identity, self.now = self.identity, now
        self.call.begin(turn, self.cause_of(seq))
        try:
            if number == START and self.has_begun:
                self.loop.cancel(_cancelled(identity), final=error is not None and error["kind"] == TOO_LATE)
                return
            if number == START:
                with self.call.running():
                    self._loop = DurableLoop.start(
                        self._whole(_call(self._start, turn)), self._report, seed=identity.seed
                    )
                    self._loop.run()
                return
            begun = self.begun.pop(number, None)
            if error is None:
                if begun is not None and begun.kind == ASK:
                    result = unpack_reply(result, turn.services.serializer, begun.name)
                self.loop.hand(number, result)
            elif begun is not None:
                self.loop.fail(number, self._exception(begun, error))
        finally:
            self.call.end()

    async def _whole(self, handler: Coroutine[Any, Any, Any]) -> Any:
        """The handler, and then what it has begun without waiting for it."""
        try:
            value = await handler
        except Exception:
            await self._wait_for_background()
            raise
        await self._wait_for_background()
        return value

    async def _wait_for_background(self) -> None:
        for pending in self.background:
            with suppress(DuramenError):  # a sub-agent that is there already, say
                await pending

    def _exception(self, begun: Begun, error: Mapping[str, Any]) -> DuramenError:
        agent = self.identity.agent
        if begun.kind == WAIT:
            return WaitExpired(f"{agent} got no answer to {begun.name} in time", agent=agent, seq=begun.seq)
        if begun.kind == ASK:
            shown = renamed(error, log_id(begun.name), begun.name)
            return self.call.turn.services.serializer.error_from_data(shown)
        return error_of(begun.name, agent, error)

    def begin(
        self,
        begun: Begun,
        *,
        digest: bytes,
        due: int | None = None,
        about: Any = None,
        arguments: Any = None,
    ) -> Pending:
        """Begin something for the handler: record it, and return the future of its result."""
        with self.call as turn:
            pending = self.loop.pending(begun.name)
            self.loop.take_begun()
            begun.number = number = pending.number
            if not number:
                return pending
            begun.key = self.identity.derive("key", begun.name, number).hex()[:_KEY]
            data = {
                "work": self.identity.work,
                "number": number,
                "kind": begun.kind,
                "name": begun.logged_name,
                "key": begun.key,
                "digest": digest,
                "due": due,
                "about": about,
                "once": begun.once,
                "checked": begun.accepts is not None,
                "durable": begun.is_work,
                "arguments": arguments,
            }
            try:
                recorded = turn.emit(NewEvent(WORK_BEGUN, data))
            except BaseException:
                pending.cancel()
                raise
            begun.seq = turn.position
            begun.is_told_at_once = begun.is_work and "durable" not in recorded[4]
            self.begun[number] = begun
        return pending

    def log_given_up(self, turn: Turn) -> list[Begun]:
        """Cancel and log what the handler does not wait for any more, and return it."""
        found = [self.begun.pop(number, None) for number in self.loop.take_given_up()]
        given_up = [begun for begun in found if begun is not None]
        for begun in given_up:
            begun.cancel()
            turn.emit(NewEvent(WORK_GIVEN_UP, {"work": self.identity.work, "number": begun.number}))
        return given_up

    def draw(self, kind: str, name: str) -> bytes:
        """32 bytes for one use of a name: the same in each run, others each time."""
        count = self._counts[name] = self._counts.get(name, 0) + 1
        return self.identity.derive(kind, name, count)

    def stop(self) -> None:
        """Raise WorkCancelled where the handler waits, and end it there. It writes nothing more."""
        self._cancel_begun()
        if self._loop is not None:
            with suppress(Exception):  # of the handler's own code
                self._loop.cancel(_cancelled(self.identity), final=True)

    def discard(self) -> None:
        """Forget this run: it begins nothing more. Steps run on, for another run to get their outcomes."""
        if self._loop is not None:
            with suppress(Exception):  # of the handler's own code
                self._loop.discard()

    def _cancel_begun(self) -> None:
        for begun in self.begun.values():
            begun.cancel()

    def _report(self, context: Mapping[str, Any]) -> None:
        error = context.get("exception")
        get_logger("work").warning(
            "task_failed", agent=self.identity.agent, seq=self.identity.work, error=type(error).__name__
        )


def pack_reply(reply: Any, services: Services, agent: str, seq: int) -> Any:
    """A reply as plain data, for the log: as it is, or what `unpack_reply` takes. Raises ReplyRefused, TooLarge.

    What duramen itself says of the agent has the id of its log in place of its path.
    """
    try:
        check_result(reply, services.limits, "the reply")
    except ValueRefused:
        packed = services.serializer.rename(services.serializer.pack_reply(reply, agent, seq), agent, log_id(agent))
        check_result(packed, services.limits, "the reply")
        return {_PACKED: packed}
    return {_PLAIN: reply}


def unpack_reply(data: Any, serializer: Serializer, agent: str) -> Any:
    """The reply of an agent that `pack_reply` has packed."""
    if _PLAIN in data:
        return data[_PLAIN]
    return serializer.unpack_reply(serializer.rename(data[_PACKED], log_id(agent), agent), "", 0)


def _cancelled(identity: Identity) -> WorkCancelled:
    return WorkCancelled(f"work {identity.work} of {identity.agent} was cancelled")


def _call(start: Callable[[Turn], Any], turn: Turn) -> Coroutine[Any, Any, Any]:
    """The coroutine of the handler; one that raises, where it is none."""

    async def refuse(error: BaseException) -> Any:
        raise error

    try:
        found = start(turn)
    except BaseException as error:
        return refuse(error)
    if not hasattr(found, "send") or not hasattr(found, "throw"):
        return refuse(InvalidMessage("a durable message needs an `async def on_receive`: its handler is no coroutine"))
    return cast("Coroutine[Any, Any, Any]", found)
