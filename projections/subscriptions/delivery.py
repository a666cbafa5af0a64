"""How changes reach a callback or an iterator: the options of `subscribe` that change nothing about which."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from attrs import field, frozen

from duramen.events import InvalidMessage
from duramen.events.model import Seconds, parse_seconds

from .change import Change

OnError = Callable[[BaseException, Change | None], object]
"""Called with what a callback raised and for which change, or, with None, why the subscription has ended."""

_DAY: Final = 86_400
_LEAST: Final = 0.001


def _seconds(every: Seconds | None) -> float:
    if every is None:
        return 0.0
    seconds = parse_seconds("every", every, least=_LEAST)
    if seconds >= _DAY:
        raise InvalidMessage("every takes less than a day", actual=every)
    return seconds


@frozen(kw_only=True, eq=False, repr=False)
class Delivery:
    """As `AgentSystem.subscribe`, which says what each option means. Raises InvalidMessage."""

    values: bool = False
    latest_only: bool = False
    every: float = field(default=None, converter=_seconds)
    batches: bool = False
    buffer: int = 1_000
    on_error: OnError | None = None
    stop_on_failure: bool = False

    def __attrs_post_init__(self) -> None:
        if type(self.buffer) is not int or self.buffer < 1:
            raise InvalidMessage("buffer is how many changes may wait, at least 1", actual=self.buffer)
