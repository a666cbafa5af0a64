"""Attributes that are made when they are first looked at."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeVar, cast

__all__ = ["lazily"]

T = TypeVar("T")


def lazily(make: Callable[[Any], T]) -> T:
    """A class attribute that becomes the instance's own at the first look, as `make(instance)`; then it costs nothing.

    Two threads that look at once get the same object. To type checkers it is what `make` returns.
    """
    return cast("T", _Lazily(make))


class _Lazily:
    def __init__(self, make: Callable[[Any], Any]) -> None:
        self._make: Final = make
        self._name = ""

    def __set_name__(self, owner: type[Any], name: str) -> None:
        self._name = name

    def __get__(self, instance: Any, owner: type[Any]) -> Any:
        if instance is None:
            return self
        own = cast("dict[str, Any]", instance.__dict__)
        return own.setdefault(self._name, self._make(instance))
