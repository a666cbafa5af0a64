"""Loggers of the library: structlog over the standard library's logging."""

from __future__ import annotations

import logging
import re
import sys
import traceback
from typing import TYPE_CHECKING, Any, Final, cast

if TYPE_CHECKING:
    import structlog
    from structlog.typing import EventDict

__all__ = ["get_logger", "raised_at", "redact"]

_SECRET: Final = re.compile(r"password|passwd|token|secret|authorization|credential|api[_-]?key", re.IGNORECASE)


def redact(logger: object, method: str, event: EventDict) -> EventDict:
    """Hide the values of fields whose names look like secrets: a structlog processor."""
    for name in event:
        if _SECRET.search(name):
            event[name] = "[redacted]"
    return event


def get_logger(name: str, **bound: Any) -> structlog.stdlib.BoundLogger:
    """Return a logger below `duramen` in the standard library's tree, with structlog's bound fields.

    It is silent below WARNING unless the program sets a level. A program that has set up no logging gets whole lines on
    stderr; a `NullHandler` at the logger `duramen` silences them. Fields are facts about events (agent, seq, session
    id, type, bytes, digest), never their payloads.
    """
    import structlog  # takes a quarter of all our imports' time, and most programs log nothing

    _write_readably(logging.getLogger("duramen"))
    wrapped = structlog.wrap_logger(
        logging.getLogger(f"duramen.{name}"),
        processors=[
            structlog.stdlib.filter_by_level,
            redact,
            structlog.processors.KeyValueRenderer(key_order=["event"], drop_missing=True),
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    return cast("structlog.stdlib.BoundLogger", wrapped.bind(**bound) if bound else wrapped)


class _Unconfigured(logging.Handler):
    """Writes to stderr where the program has no handler; Python's last resort would write the message alone."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s %(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        logger: logging.Logger | None = logging.getLogger(record.name)
        while logger is not None:
            if any(not isinstance(handler, _Unconfigured) for handler in logger.handlers):
                return
            logger = logger.parent if logger.propagate else None
        if sys.stderr is not None:
            sys.stderr.write(f"{self.format(record)}\n")


def _write_readably(logger: logging.Logger) -> None:
    if not any(isinstance(handler, _Unconfigured) for handler in logger.handlers):
        logger.addHandler(_Unconfigured())


def raised_at(error: BaseException) -> str:
    """Return the file and line where an error was raised, without its text, which may quote a payload."""
    last = None
    for frame, line in traceback.walk_tb(error.__traceback__):
        last = f"{frame.f_code.co_filename}:{line} in {frame.f_code.co_name}"
    return last or "unknown"
