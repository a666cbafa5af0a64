"""Confirmation that committed appends have reached a disk or replicas."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, cast

from ..errors import DataLoss, DuramenError, Unconfirmed
from ..log import CommittedAppend, Durability, Keys
from .client import RedisClient, Script, pack_for_lua

_MOST_AT_ONCE: Final = 512
"""Most appends in one script call: more would block the server for longer than a few ms."""
_THERE: Final = 1
_LACKING: Final = 0


class RedisConfirmer:
    """Asks WAIT or WAITAOF about appends that other connections have committed. Thread-safe.

    Both commands answer for what their own connection has written, and block that connection. So a script looks for
    the appends on the server that answers, and writes something behind them, on the connection that then waits.
    """

    def __init__(self, server: RedisClient, keys: Keys) -> None:
        self._server = server
        self._keys = keys
        self._script = Script("feed/confirm")

    def confirm(
        self, durability: Durability, appends: Sequence[CommittedAppend], partition_of: Callable[[str], int]
    ) -> list[DuramenError | None]:
        """See `LogAppender.confirm`. Those of one server are confirmed together, by one WAIT or WAITAOF."""
        parts: dict[int, list[CommittedAppend]] = {}
        for append in appends:
            parts.setdefault(partition_of(append.agent), []).append(append)
        calls: list[tuple[list[str], list[bytes]]] = []
        order: list[CommittedAppend] = []
        for partition, members in parts.items():
            for start in range(0, len(members), _MOST_AT_ONCE):
                some = members[start : start + _MOST_AT_ONCE]
                keys = [self._keys.heads(partition), *[self._keys.log(partition, append.agent) for append in some]]
                rows = [[append.agent, append.seq, append.digest] for append in some]
                calls.append((keys, [pack_for_lua(rows)]))
                order += some
        if not calls:
            return []
        wait = _wait_command(durability, int(self._server.reply_timeout * 500))
        try:
            answers = self._server.run_scripts_then(self._script, calls, wait, "confirm appends")
        except DuramenError as error:
            return [_unasked(append, durability, error) for append in appends]
        found = [(state, _count_of(reached)) for states, reached in answers for state in states]
        states = dict(zip(order, found, strict=True))
        return [_problem(append, *states[append], durability) for append in appends]


def _problem(append: CommittedAppend, state: int, count: int, durability: Durability) -> DuramenError | None:
    if state == _LACKING:
        return DataLoss(
            f"the server lacks an event of {append.agent} that was acknowledged; check its persistence and failovers",
            agent=append.agent,
            seq=append.seq,
        )
    if state == _THERE and count >= (durability.replicas or 1):
        return None
    return _unconfirmed(append, durability, count if state == _THERE else None)


def _unasked(append: CommittedAppend, durability: Durability, cause: DuramenError) -> Unconfirmed:
    problem = _unconfirmed(append, durability, None)
    problem.__cause__ = cause
    return problem


def _unconfirmed(append: CommittedAppend, durability: Durability, count: int | None) -> Unconfirmed:
    return Unconfirmed(
        f"the append is committed, but was not confirmed to durability {durability}; do not send it as a new command",
        agent=append.agent,
        seq=append.seq,
        expected=durability.replicas or 1,
        actual=count,
    )


def _count_of(reached: Any) -> int:
    """How many confirm: WAITAOF counts the server itself, then its replicas."""
    return int(cast("list[Any]", reached)[0] if type(reached) is list else reached)


def _wait_command(durability: Durability, timeout_ms: int) -> tuple[bytes, ...]:
    if durability.level == "replicas":
        return (b"WAIT", b"%d" % durability.replicas, b"%d" % timeout_ms)
    return (b"WAITAOF", b"1", b"0", b"%d" % timeout_ms)
