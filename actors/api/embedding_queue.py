"""Embedding what waits for it, in a thread that no caller has to be."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from concurrent.futures import CancelledError, Future
from concurrent.futures import TimeoutError as NotDone
from time import monotonic
from typing import TYPE_CHECKING, Any

from duramen.events import AskTimeout, SystemClosed
from duramen.projections.episodes import EpisodeIndex

from ..dispatch import EventLoop, ThreadPool

if TYPE_CHECKING:
    from duramen.projections.episodes.embeddings import Embedding
    from duramen.projections.episodes.vector_index import Vector

__all__ = ["EmbeddingQueue", "waiting_on"]


class EmbeddingQueue:
    """Runs one embedding for an index. Thread-safe; its one thread ends when it is idle.

    A function of the user's cannot be stopped: one that hangs keeps the thread, and every caller gets AskTimeout.
    """

    def __init__(self, index: EpisodeIndex, embedding: Embedding, workers: ThreadPool) -> None:
        self._index = index
        self._embedding = embedding
        self._thread_pool = workers

    def question(self, text: str, timeout: float) -> Vector:
        """The vector of a text, once everything that waits now has one. Raises EmbeddingFailed, AskTimeout.

        What was embedded before the error or the time-out stays so, and work that has begun goes on.
        """
        answer: Future[Vector] = Future()
        up_to = self._index.stamp

        def work() -> None:
            if not answer.set_running_or_notify_cancel():
                return  # whoever asked has left, before this began
            try:
                self._embed_waiting(up_to)
                answer.set_result(self._embedding.question(text))
            except BaseException as error:
                answer.set_exception(error)

        self._thread_pool.submit(work)
        deadline = monotonic() + timeout
        try:
            return answer.result(max(0.0, deadline - monotonic()))
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

    def _embed_waiting(self, up_to: int) -> None:
        while waiting := self._index.waiting(self._embedding.batch, up_to):
            self._index.put_vectors(waiting, self._embedding.vectors([each.text for each in waiting]))


def waiting_on(loop: EventLoop, timeout: float) -> Callable[[Awaitable[Any]], Any]:
    """A function that waits for an awaitable on a loop, at most `timeout` seconds. Raises TimeoutError."""

    async def outcome(awaitable: Awaitable[Any]) -> Any:
        return await awaitable

    def wait(awaitable: Awaitable[Any]) -> Any:
        future = loop.start(outcome(awaitable))
        try:
            return future.result(timeout)
        finally:
            future.cancel()

    return wait
