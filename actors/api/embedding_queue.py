"""A queue that embeds texts in a thread of its own."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from concurrent.futures import CancelledError, Future
from concurrent.futures import TimeoutError as NotDone
from typing import TYPE_CHECKING, Any

from duramen.events import AskTimeout, SystemClosed
from duramen.projections.episodes import EpisodeIndex

from ..dispatch import EventLoop, ThreadPool

if TYPE_CHECKING:
    from duramen.projections.episodes import Embedding, Vector


class EmbeddingQueue:
    """Runs one embedding for an index. Thread-safe; its one thread ends when it is idle.

    A user's function cannot be stopped: one that hangs keeps the thread, and every caller gets AskTimeout.
    """

    def __init__(self, index: EpisodeIndex, embedding: Embedding, thread_pool: ThreadPool) -> None:
        self._index = index
        self._embedding = embedding
        self._thread_pool = thread_pool

    def embed_query(self, text: str, timeout: float) -> Vector:
        """Embed a text, after all texts that are pending now. Raises EmbeddingFailed, AskTimeout.

        What was embedded before an error or time-out stays, and work that has begun goes on.
        """
        answer: Future[Vector] = Future()
        up_to = self._index.stamp

        def work() -> None:
            if not answer.set_running_or_notify_cancel():
                return  # the caller timed out before this began
            try:
                self._embed_pending(up_to)
                answer.set_result(self._embedding.embed_query(text))
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
        while pending := self._index.pending_texts(self._embedding.batch, up_to):
            self._index.put_vectors(pending, self._embedding.embed_texts([each.text for each in pending]))


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
