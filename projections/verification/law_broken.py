"""The error for a broken law, with the smallest log that was found to break it."""

from __future__ import annotations

from typing import Final

from ..recorded import StoredLog

_SHOWN: Final = 2_000


class LawBroken(AssertionError):
    """A law of replay does not hold.

    It is a test's verdict on code and no `DuramenError`, so that no handler takes it for a failure at run time. The
    message shows the generated events as Python code. `law` names the law, `log` is the example where it is a log;
    `expected` and `actual` are portraits, see `duramen.projections.recorded`.
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
        """A copy that names the subject and the log."""
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
