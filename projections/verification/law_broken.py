"""What is raised when a law does not hold: the law, and the smallest log that was found to break it."""

from __future__ import annotations

from typing import Final

from ..recorded import StoredLog

__all__ = ["LawBroken"]

_SHOWN: Final = 2_000


class LawBroken(AssertionError):
    """A law of replay does not hold.

    A verdict on somebody's code, so no `DuramenError`: no handler of those takes it for a failure at run time. And it
    shows data, the events that a test has made up, as Python that makes them again. `law` names the law, `log` is the
    example, if it is one; `expected` and `actual` are portraits, see `duramen.projections.recorded`.
    """

    def __init__(
        self,
        law: str,
        why: str,
        *,
        subject: str = "",
        log: StoredLog | None = None,
        example: str | None = None,
        expected: str | None = None,
        actual: str | None = None,
    ) -> None:
        self.law = law
        self.why = why
        self.subject = subject
        self.log = log
        self.example = example if log is None else log.code()
        self.expected = expected
        self.actual = actual
        super().__init__(self._message(expected, actual))

    def of(self, subject: str, log: StoredLog) -> LawBroken:
        """The same, with whom and what it is about."""
        found = LawBroken(self.law, self.why, subject=subject, log=log, expected=self.expected, actual=self.actual)
        found.__cause__ = self.__cause__
        return found

    def _message(self, expected: str | None, actual: str | None) -> str:
        lines = [f"{self.subject or 'this'} breaks the law '{self.law}': {self.why}"]
        if self.example:
            lines += ["", self.example]
        if expected is not None or actual is not None:
            lines += ["", f"expected: {_cut(expected)}", f"actual:   {_cut(actual)}"]
        return "\n".join(lines)


def _cut(text: str | None) -> str:
    shown = str(text)
    return shown if len(shown) <= _SHOWN else f"{shown[:_SHOWN]}… ({len(shown)} characters)"
