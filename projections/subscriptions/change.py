"""What a subscription delivers: an event, and which properties of its agent it changed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attrs import frozen

from duramen.events import Event


@frozen
class Change:
    """One event, as it concerns a subscription. The event is the subscription's own.

    `paths` are the property paths, as text, that the event names and that match the pattern; a path stands for
    everything below it. It is empty for an event that changes no property: one of lifecycle, of activity, of your
    own. "" is the whole working memory.

    `values` has the value before and after the event of each of `paths`, where the subscription was made with
    `values=True`: a read-only view of a dict or list (`plain()` copies it), and `MISSING` where there is none.
    """

    agent: str
    seq: int
    event: Event
    paths: tuple[str, ...] = ()
    values: Mapping[str, tuple[Any, Any]] | None = None
