"""Read-only views of plain data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, cast, overload

from .tree import copy_tree

_SHOWN: Final = 500


class _View:
    """A view of a value: equal to it, and not hashable."""

    __slots__ = ("_held",)

    _held: Any

    @staticmethod
    def inside(value: Any) -> Any:
        """The value that a view shows; any other value itself."""
        return value._held if isinstance(value, _View) else value

    def __eq__(self, other: object) -> bool:
        return bool(self._held == _View.inside(other))

    def __hash__(self) -> int:
        raise TypeError(f"a {type(self).__name__} is not hashable, as what it shows")

    def __repr__(self) -> str:
        text = repr(self._held)
        return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


class ReadOnlyDict(_View, Mapping[str, Any]):
    """A dict that cannot be changed, nor can anything in it. Equal to a dict with the same content; not hashable."""

    __slots__ = ()

    def __init__(self, held: dict[str, Any]) -> None:
        self._held = held

    def __getitem__(self, key: str) -> Any:
        return read_only(self._held[key])

    def __iter__(self) -> Iterator[str]:
        return iter(self._held)

    def __len__(self) -> int:
        return len(self._held)

    def __contains__(self, key: object) -> bool:
        return key in self._held

    def plain(self) -> dict[str, Any]:
        """A copy as plain data, which may be changed."""
        return cast("dict[str, Any]", copy_tree(self._held))


class ReadOnlyList(_View, Sequence[Any]):
    """A list that cannot be changed, nor can anything in it. Equal to a list with the same content; not hashable."""

    __slots__ = ()

    def __init__(self, held: list[Any]) -> None:
        self._held = held

    @overload
    def __getitem__(self, index: int) -> Any: ...

    @overload
    def __getitem__(self, index: slice) -> ReadOnlyList: ...

    def __getitem__(self, index: int | slice) -> Any:
        return read_only(self._held[index])

    def __len__(self) -> int:
        return len(self._held)

    def __iter__(self) -> Iterator[Any]:
        return map(read_only, self._held)

    def __contains__(self, value: object) -> bool:
        return _View.inside(value) in self._held

    def plain(self) -> list[Any]:
        """A copy as plain data, which may be changed."""
        return cast("list[Any]", copy_tree(self._held))


def read_only(value: Any) -> Any:
    """The value, in a view if it is a dict or list. Nothing is copied: inner containers are wrapped on access."""
    if type(value) is dict:
        return ReadOnlyDict(cast("dict[str, Any]", value))
    if type(value) is list:
        return ReadOnlyList(cast("list[Any]", value))
    return value


def plain(value: Any) -> Any:
    """A copy as plain data of a value or of a view of one."""
    return copy_tree(_View.inside(value))
