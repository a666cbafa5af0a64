"""The exit codes of the command, and the errors that lead to them."""

from __future__ import annotations

from enum import IntEnum
from typing import Final

from duramen.events import (
    AskTimeout,
    CorruptEvent,
    DataLoss,
    Diverged,
    DuramenError,
    HandlerRaised,
    InvalidMessage,
    InvalidPath,
    NotPermitted,
    PathNotFound,
    SystemClosed,
    TooLarge,
    Unavailable,
    Unconfirmed,
    UnknownEventType,
    UnknownMessageType,
    UnsafeServer,
    ValueRefused,
    WrongKey,
)

from .errors import CannotShow, InvalidRecording, UnusableCode, UnusableFile


class ExitCode(IntEnum):
    """An exit code of the `duramen` command."""

    OK = 0
    FAILED = 1
    USAGE = 2
    SERVER = 3
    CORRUPT = 4
    INTERRUPTED = 130


EXPLAINED: Final = """\
exit codes:
  0    done
  1    what was asked for could not be done: no such agent, not running ...
  2    an argument, a value or a file cannot be used; nothing was done
  3    the server cannot be reached, refuses this user, or is not safe to use
  4    stored data is damaged, lost or not understood
  130  interrupted (Ctrl-C)
"""

# The first match counts: PathNotFound is an InvalidPath, and HandlerRaised may be of any class.
_CODES: Final[tuple[tuple[tuple[type[DuramenError], ...], ExitCode], ...]] = (
    ((PathNotFound, HandlerRaised), ExitCode.FAILED),
    (
        (
            InvalidPath,
            InvalidMessage,
            ValueRefused,
            TooLarge,
            UnknownMessageType,
            WrongKey,
            InvalidRecording,
            UnusableFile,
            UnusableCode,
            CannotShow,
        ),
        ExitCode.USAGE,
    ),
    ((Unavailable, NotPermitted, UnsafeServer, AskTimeout, Unconfirmed, SystemClosed), ExitCode.SERVER),
    ((CorruptEvent, DataLoss, Diverged, UnknownEventType), ExitCode.CORRUPT),
)


def exit_code_of(error: DuramenError) -> ExitCode:
    """The exit code for an error that ends the command."""
    return next((code for types, code in _CODES if isinstance(error, types)), ExitCode.FAILED)
