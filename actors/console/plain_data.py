"""Checks on plain data of unknown shape."""

from __future__ import annotations

from typing import Any, cast


def as_dict(value: object) -> dict[str, Any] | None:
    """The value if it is a dict, else None."""
    return cast("dict[str, Any]", value) if type(value) is dict else None


def as_list(value: object) -> list[Any] | None:
    """The value if it is a list, else None."""
    return cast("list[Any]", value) if type(value) is list else None


def as_text(value: object) -> str | None:
    """The value if it is a text, else None."""
    return value if type(value) is str else None
