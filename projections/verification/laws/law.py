"""The base class of laws: a name, and a check of one subject on one log."""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import AbstractContextManager, nullcontext
from typing import ClassVar

from duramen.events import Event

from ...projection import fold
from ...recorded import StoredLog, portrait
from ..law_broken import LawBroken
from ..subject import Subject


class NotChecked(Exception):
    """Raised by a law that cannot be checked on this subject; the message says why."""


class Law(ABC):
    """A property that holds for every log. Subclass it for a law of your own."""

    name: ClassVar[str]
    """A sentence without a full stop, for messages and tables."""

    @abstractmethod
    def check(self, subject: Subject, log: StoredLog) -> None:
        """Return if the law holds for this log; else raise `self.broken(...)`, or what the subject raises."""

    def opened(self, subject: Subject) -> AbstractContextManager[object]:
        """A context for a run: entered before the first check, left after the last one. May raise NotChecked."""
        return nullcontext()

    def verdict(self, subject: Subject, log: StoredLog) -> LawBroken | None:
        """How the law is broken; None if it holds. An error of the subject breaks it as well. Raises NotChecked."""
        try:
            self.check(subject, log)
        except LawBroken as broken:
            return broken.of(subject.name, log)
        except NotChecked:
            raise
        except Exception as error:
            raised = self.broken(f"it raised {type(error).__name__}: {error}").of(subject.name, log)
            raised.__cause__ = error
            return raised
        return None

    def broken(self, why: str, expected: str | None = None, actual: str | None = None) -> LawBroken:
        """The error for `check` to raise."""
        return LawBroken(self.name, why, expected=expected, actual=actual)

    def compare(self, why: str, expected: str, actual: str) -> None:
        """Raise unless two portraits are the same."""
        if expected != actual:
            raise self.broken(why, expected, actual)


def folded(subject: Subject, events: list[Event]) -> str:
    """The portrait of the state that a fresh subject folds events to."""
    return portrait(fold(subject.make(), events))
