"""A queue that embeds texts in a thread of its own."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import CancelledError, Future
from concurrent.futures import TimeoutError as NotDone
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, ClassVar, Final, TypeVar

from duramen.events import AskTimeout, Cursor, Event, Granularity, InvalidMessage, SystemClosed
from duramen.events.feed import end_marks
from duramen.events.log import EventLog, check_name
from duramen.events.model import EPISODE_RECORDED
from duramen.projections import Consumers, Runner
from duramen.projections.episodes import EpisodeIndex, EpisodeReader
from duramen.projections.notifications import EventFilter
from duramen.projections.projection import Reactor

from ..dispatch import EventLoop, ThreadPool

if TYPE_CHECKING:
    from duramen.projections.episodes import Embedding, Vector

R = TypeVar("R")

_BEGIN_SECONDS: Final = 2.0
_REACTION_SECONDS: Final = 30.0
_LONGEST_PAUSE: Final = 60.0


class EmbeddingQueue:
    """Runs one embedding for an index. Thread-safe; its one thread ends when it is idle.

    A user's function cannot be stopped: one that hangs keeps the thread, and every caller gets AskTimeout.
    """

    def __init__(
        self, index: EpisodeIndex, reader: EpisodeReader, embedding: Embedding, thread_pool: ThreadPool
    ) -> None:
        self._index = index
        self._reader = reader
        self._embedding = embedding
        self._thread_pool = thread_pool

    def embed_query(self, text: str, timeout: float) -> Vector:
        """Embed a text, after all texts that are pending now. Raises EmbeddingFailed, AskTimeout.

        What was embedded before an error or time-out stays, and work that has begun goes on.
        """
        return self._run(lambda: self._embedding.embed_query(text), timeout)

    def embed_episodes(self, timeout: float) -> None:
        """Embed all episodes that there are. Raises as `embed_query`, and what reading them raises."""
        self._reader.catch_up()
        self._run(lambda: None, timeout)

    def _run(self, last: Callable[[], R], timeout: float) -> R:
        """Embed all texts that are pending now, and return what `last` does after that."""
        answer: Future[R] = Future()
        up_to = self._index.stamp

        def work() -> None:
            if not answer.set_running_or_notify_cancel():
                return  # the caller timed out before this began
            try:
                self._embed_pending(up_to)
                answer.set_result(last())
            except BaseException as error:
                answer.set_exception(error)

        self._thread_pool.submit(work)
        try:
            return answer.result(timeout)
        except NotDone:
            if answer.done():
                raise
            answer.cancel()
            raise AskTimeout(
                f"not all episodes were embedded within {timeout} s; ask again, which goes on from there, or search by "
                "words meanwhile",
                expected=timeout,
            ) from None
        except CancelledError:
            raise SystemClosed("the system was closed before this search was done; open a new one") from None

    def _embed_pending(self, up_to: int) -> None:
        while True:
            erasures, stored = self._reader.erasures, self._embedding.stored
            pending = self._index.pending_texts(self._embedding.batch, up_to)
            if not pending:
                return
            texts = [each.text for each in pending]
            self._index.put_vectors(pending, self._embedding.embed_texts(texts))
            if self._embedding.stored != stored:
                self._forget_erased(texts, erasures)

    def _forget_erased(self, texts: Sequence[str], erasures: Sequence[int]) -> None:
        """Remove the vectors of texts whose episodes were erased before these were stored, from the cache too."""
        self._reader.catch_up()
        if self._reader.erasures != erasures:
            self._embedding.forget_texts(self._index.missing_texts(texts))


class EmbeddingReactor(Reactor):
    """Has episodes embedded soon after their sessions have ended. It tries again for as long as that fails."""

    version: ClassVar[int] = 1
    types: ClassVar[frozenset[str] | None] = frozenset({EPISODE_RECORDED})

    def __init__(self, queue: EmbeddingQueue) -> None:
        self._queue = queue

    def begin(self) -> None:
        """Embed all episodes that there are: the events of older ones may never come here.

        Where that takes long it goes on beside the thread of the consumer, which is not kept from ending by it.
        """
        self._queue.embed_episodes(_BEGIN_SECONDS)

    def react(self, event: Event) -> None:
        """Embed all episodes that there are, this event's with them."""
        self._queue.embed_episodes(_REACTION_SECONDS)

    def pause_after(self, times: int, error: Exception) -> float:
        return min(_LONGEST_PAUSE, 2.0 ** min(times, 20) / 32)


def attach_embedding(queue: EmbeddingQueue, model: str, log: EventLog, consumers: Consumers) -> Runner[Any]:
    """Attach the durable consumer that embeds for a model; it stands by where another host that lives has it.

    One that is new begins at the present end of the log: whoever claims it embeds first what there is by then. Raises
    what `Consumers.attach` raises.
    """
    marks = end_marks(log, range(log.partitions))
    after = Cursor(log.identity, {at: mark for at, mark in marks.items() if mark.position})
    event_filter = EventFilter.parse("**", Granularity.TRACE, None, None)
    return consumers.attach(EmbeddingReactor(queue), consumer_of(model), event_filter, after=after, standby=True)


def consumer_of(model: str) -> str:
    """The name of the consumer that embeds for a model: `embedding.` and the model's name, or the hash of that."""
    try:
        return check_name(f"embedding.{model}")
    except InvalidMessage:
        return f"embedding.{blake2b(model.encode(), digest_size=16).hexdigest()}"


def waiting_on(loop: EventLoop, timeout: float) -> Callable[[Awaitable[Any]], Any]:
    """A function that runs an awaitable on a loop, for at most `timeout` seconds. Raises TimeoutError."""

    async def outcome(awaitable: Awaitable[Any]) -> Any:
        return await awaitable

    def wait(awaitable: Awaitable[Any]) -> Any:
        future = loop.start(outcome(awaitable))
        try:
            return future.result(timeout)
        finally:
            future.cancel()

    return wait
