"""What a reader of feeds asks of a log."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from .chain import Chain
from .feed_page import FeedPage

if TYPE_CHECKING:
    from .ahead import Ahead
    from .log import Span, Stretch

__all__ = ["FeedSource"]


class FeedSource(Protocol):
    """The part of `EventLog` that a `FeedReader` needs."""

    @property
    def chain(self) -> Chain: ...

    def feed_page(self, partition: int, position: int, limit: int) -> FeedPage: ...

    def gather(self, partition: int, spans: Sequence[Span], most_bytes: int) -> list[Stretch]: ...

    def ahead(self, partition: int) -> Ahead: ...
