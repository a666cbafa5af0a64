"""A clock frozen at another time, for the code of one subject."""

from __future__ import annotations

import datetime as datetime_module
import sys
import time as time_module
from collections.abc import Callable, Generator, Iterable, MutableMapping
from contextlib import contextmanager
from datetime import UTC, date, datetime, tzinfo
from types import FunctionType
from typing import Any, Final

EARLIER: Final = datetime(2001, 2, 3, 4, 5, 6, 700_001, tzinfo=UTC)
LATER: Final = datetime(2043, 11, 28, 21, 43, 54, 300_002, tzinfo=UTC)
"""The two moments differ in year, month, day, weekday and hour."""


@contextmanager
def freeze_clock(moment: datetime, classes: Iterable[type[Any]]) -> Generator[None]:
    """Make `time.time`, `time.time_ns`, `datetime.now`, `utcnow` and `today` return `moment` for these classes' code.

    Every module that looks the functions up at the call is affected; in the packages of the classes also modules that
    imported them by name. Not thread-safe: other threads may see the wrong time too. Clocks that only measure
    (`time.monotonic` and others) go on.
    """
    changes = _replacements(moment)
    undo: list[tuple[MutableMapping[str, Any], str, Any]] = []
    try:
        for names in _namespaces(classes):
            for name, value in list(names.items()):
                new = changes.get(id(value))
                if new is not None:
                    undo.append((names, name, value))
                    names[name] = new
        yield
    finally:
        for names, name, value in undo:
            names[name] = value


def _namespaces(classes: Iterable[type[Any]]) -> list[MutableMapping[str, Any]]:
    found: dict[int, MutableMapping[str, Any]] = {}
    packages: set[str] = set()
    for cls in classes:
        package = cls.__module__.partition(".")[0]
        if package in ("builtins", "duramen", "abc", "typing", "pykka"):
            continue
        packages.add(package)
        for member in vars(cls).values():
            if isinstance(member, FunctionType):
                found[id(member.__globals__)] = member.__globals__
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] in packages:
            found[id(vars(module))] = vars(module)
    for module in (time_module, datetime_module):
        found[id(vars(module))] = vars(module)
    return list(found.values())


def _replacements(moment: datetime) -> dict[int, Any]:
    seconds, local = moment.timestamp(), moment.astimezone().replace(tzinfo=None)
    nanoseconds = int(seconds) * 1_000_000_000 + moment.microsecond * 1_000
    changes: list[tuple[Callable[..., Any], Any]] = [
        (time_module.time, lambda: seconds),
        (time_module.time_ns, lambda: nanoseconds),
        (datetime, _standing_datetime(moment, local)),
        (date, _standing_date(local)),
    ]
    return {id(old): new for old, new in changes}


class _StandIn(type):
    """The metaclass of a class that replaces another: instances of that one are instances of this one."""

    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, cls.__mro__[1])

    def __subclasscheck__(cls, subclass: type[Any]) -> bool:
        return issubclass(subclass, cls.__mro__[1])


def _standing_datetime(moment: datetime, local: datetime) -> type[datetime]:
    class Standing(datetime, metaclass=_StandIn):
        def __new__(cls, *arguments: Any, **named: Any) -> Any:
            return datetime(*arguments, **named)

        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Any:
            return local if tz is None else moment.astimezone(tz)

        @classmethod
        def utcnow(cls) -> Any:
            return moment.replace(tzinfo=None)

        @classmethod
        def today(cls) -> Any:
            return local

    return Standing


def _standing_date(local: datetime) -> type[date]:
    class Standing(date, metaclass=_StandIn):
        def __new__(cls, *arguments: Any, **named: Any) -> Any:
            return date(*arguments, **named)

        @classmethod
        def today(cls) -> Any:
            return local.date()

    return Standing
