"""What a process that reads ahead does, as seen from the one it reads for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from attrs import define, field

from duramen.events.feed.reader import FeedReader
from duramen.events.prefetch.client import PrefetchClient

__all__ = ["Spy", "spy_on"]


@define(eq=False)
class Spy:
    """`at` are to be called when so many windows have been handed over, with the process that read them."""

    started: list[PrefetchClient] = field(factory=list)
    windows: int = 0
    events: int = 0
    at: dict[int, Callable[[PrefetchClient], object]] = field(factory=dict)


def spy_on(put: Callable[[Any, str, Any], None]) -> Spy:
    """Look from now on; `put` sets an attribute."""
    spy = Spy()
    start, give = PrefetchClient.start.__func__, FeedReader.hand_over  # type: ignore[attr-defined]

    def started(cls: Any, *about: Any) -> PrefetchClient | None:
        near: PrefetchClient | None = start(cls, *about)
        if near is not None:
            spy.started.append(near)
        return near

    def given(reader: FeedReader, window: Any, end: int) -> None:
        give(reader, window, end)
        spy.windows += 1
        spy.events += window.count
        spy.at.pop(spy.windows, lambda near: None)(spy.started[-1])

    put(PrefetchClient, "start", classmethod(started))
    put(FeedReader, "hand_over", given)
    return spy
