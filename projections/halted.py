"""Why a consumer stands still."""

from __future__ import annotations

from time import time_ns

from duramen.events import DuramenError
from duramen.events.logs import where
from duramen.events.views import Failure

__all__ = ["Halted", "halt"]


class Halted(Exception):
    """The build stands still until somebody tells it to go on. `cause` is what was raised."""

    def __init__(self, failure: Failure, cause: BaseException) -> None:
        super().__init__(failure.error)
        self.failure = failure
        self.cause = cause


def halt(error: BaseException, agent: str | None = None, seq: int | None = None, *, can_skip: bool = False) -> Halted:
    own = isinstance(error, DuramenError)
    advice = str(error) if own else "correct the code and retry, or skip the event"
    place = None if own else where(error)
    return Halted(Failure(type(error).__name__, agent, seq, advice, place, can_skip, time_ns() // 1000), error)
