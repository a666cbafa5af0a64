"""Messages to one process, from its own channel."""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from time import monotonic
from typing import Final

import redis

from ..client import RedisClient, Subscriber

_LARGEST: Final = 2 * 1024 * 1024
"""Bytes of a message; what a sender may have unheard is half of it. Larger ones are dropped as they arrive."""
_LONGEST_BEAT: Final = 9
"""Bytes of a number in msgpack. A frame is longer: its seal alone has 16."""
_PATIENCE: Final = 2.0
"""Seconds after a beat was published within which it has to be heard."""


class RedisMessages(Subscriber[str]):
    """A `MessageStream` with a connection of its own.

    A connection can be alive and its subscription be lost. So the host's own beats are published on its channel: one
    that is not heard in time makes the stream subscribe on a new connection.
    """

    _lost_event = "messages_interrupted"

    def __init__(self, server: RedisClient, host: str, channel: str, on_close: Callable[[RedisMessages], None]) -> None:
        super().__init__(server, "messages", _LARGEST)
        self._on_close = on_close
        self._messages: list[bytes] = []
        self._subscriptions = 0
        self._reported = 0
        """Subscriptions after which a `receive` has returned."""
        self._is_subscribed = False
        self._overdue_at = inf
        self._want({channel.encode(): host})

    @property
    def subscriptions(self) -> int:
        return self._subscriptions

    def receive(self, timeout: float | None) -> list[bytes]:
        try:
            with self._using:
                self._run(inf if timeout is None else monotonic() + timeout)
                messages, self._messages = self._messages, []
                self._reported = self._subscriptions
                return messages
        finally:
            if self._closed:
                self._release()

    def close(self) -> None:
        super().close()
        self._on_close(self)

    def expect_beat(self) -> None:
        """Expect a beat that is about to be published. Called by the thread that publishes it."""
        if self._is_subscribed and self._overdue_at == inf:
            self._overdue_at = monotonic() + _PATIENCE

    def expect_no_beat(self) -> None:
        """Forget a beat that could not be published."""
        self._overdue_at = inf

    # -- what the connection says ------------------------------------------------------------------------------------

    def _has_result(self) -> bool:
        return bool(self._messages) or self._subscriptions > self._reported

    def _handle_message(self, channel: bytes, place: str | None, payload: bytes) -> None:
        self._overdue_at = inf
        if _LONGEST_BEAT < len(payload) < _LARGEST:
            self._messages.append(payload)

    def _handle_change(self, place: str | None) -> None:
        self._is_subscribed = self._has_channels
        self._subscriptions += self._is_subscribed

    def _forget_connection(self) -> None:
        self._is_subscribed = False
        self._overdue_at = inf

    def _due_at(self) -> float:
        return self._overdue_at

    def _check(self) -> None:
        if monotonic() >= self._overdue_at:
            raise redis.TimeoutError("a beat was published and not heard")
