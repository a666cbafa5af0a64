"""A client that sends each command to the node of a cluster that has its slot."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import partial
from time import monotonic
from typing import Any, Final

import redis
from attrs import define
from redis.exceptions import AskError, MovedError, NoScriptError, TryAgainError

from .cluster_nodes import Address, ClusterNodes, slot_of
from .errors import Retry, classify_error, retry_pause, translate_error
from .requests import SCAN_COUNT, RedisClient, RunCommand, read_replies
from .script import Script, encode_command
from .wire import CONNECTION_ERRORS, Wire

ASKING: Final = encode_command((b"ASKING",))
"""Lets the next command on a connection run on the node to which a slot is being moved."""
_KEYLESS: Final = frozenset((b"ACL", b"CLUSTER", b"CONFIG", b"HELLO", b"INFO", b"PING", b"SCRIPT", b"TIME"))
_MOST_REDIRECTS: Final = 8
_SILENCE: Final = 1.0
"""Seconds without a reply after which others are asked whether the node still has its slots."""
_REDIRECTS: Final = (AskError, NoScriptError)
"""Answers after which a call is sent again at once; MovedError is an AskError."""


@define(eq=False)
class _Call:
    number: int
    """Of its reply among all replies."""
    sent: bytes
    script: Script | None
    answered_by: Address | None = None


@define(eq=False)
class _Unit:
    """Calls on keys of one slot, which are answered in order also while the slot moves. `slot` None: of any node."""

    slot: int | None
    calls: list[_Call]
    is_moved: bool = False
    """Whether another node was said to have the slot since."""
    is_alone: bool = False
    """Whether its calls are sent one by one, since not all were answered when they were sent together."""


class ClusterClient(RedisClient):
    """As `RedisClient`, for a cluster. Commands for several slots go to their nodes at the same time.

    A node that does not have a slot any more says who has it, and one that cannot be reached is a reason to ask
    others, within `retry_seconds`. While the keys of a slot are on their way, a call on several of them is refused
    until all have arrived.
    """

    publish_command = b"SPUBLISH"

    def __init__(self, nodes: ClusterNodes, *, retry_seconds: float = 10.0) -> None:
        super().__init__(nodes.settings, retry_seconds=retry_seconds)
        self._nodes = nodes

    @property
    def nodes(self) -> ClusterNodes:
        return self._nodes

    def connect(self, key: bytes) -> Wire:
        try:
            return self._nodes.connect(self._nodes.owner_of(slot_of(key)))
        except CONNECTION_ERRORS as error:
            if classify_error(error) is Retry.FATAL:
                raise
            self._nodes.refresh()
            return self._nodes.connect(self._nodes.owner_of(slot_of(key)))

    def connect_to(self, node: Address | None) -> Wire:
        return self._nodes.connect(self._nodes.owner_of(None) if node is None else node)

    def node_of(self, key: str) -> Address | None:
        return self._nodes.known_owner(slot_of(key.encode()))

    def execute(self, doing: str, *command: bytes) -> Any:
        return self._run(doing, [_Unit(_slot_of(command), [_Call(0, encode_command(command), None)])], 1)[0]

    def execute_all(self, doing: str, commands: Sequence[Sequence[bytes]]) -> list[Any]:
        calls = [_Call(number, encode_command(command), None) for number, command in enumerate(commands)]
        return self._run(doing, _units(map(_slot_of, commands), calls), len(calls))

    def execute_encoded(self, doing: str, key: str, commands: Sequence[bytes]) -> list[Any]:
        calls = [_Call(number, command, None) for number, command in enumerate(commands)]
        return self._run(doing, [_Unit(slot_of(key.encode()), calls)], len(calls))

    def run_script(self, script: Script, keys: Sequence[str], arguments: Sequence[bytes], doing: str) -> Any:
        return self.run_scripts(script, [(keys, arguments)], doing)[0]

    def run_scripts(
        self, script: Script, calls: Sequence[tuple[Sequence[str], Sequence[bytes]]], doing: str
    ) -> list[Any]:
        return self._run(doing, _script_units(script, calls), len(calls))

    def run_scripts_then(
        self,
        script: Script,
        calls: Sequence[tuple[Sequence[str], Sequence[bytes]]],
        then: Sequence[bytes],
        doing: str,
    ) -> list[tuple[Any, Any]]:
        # The command behind them speaks of its own connection: so it goes behind the calls to each node, and once,
        # since one that waits for what does not come would take its time for each slot again.
        return self._run(doing, _script_units(script, calls), len(calls), encode_command(then))

    def scan_hash(self, key: str, doing: str) -> Iterator[dict[bytes, bytes]]:
        """As in `RedisClient`; from the start on another node, since a cursor is worth nothing there."""
        slot, cursor = slot_of(key.encode()), b"0"
        before: Address | None = None
        while True:
            call = _Call(0, encode_command((b"HSCAN", key.encode(), cursor, b"COUNT", SCAN_COUNT)), None)
            following, fields = self._run(doing, [_Unit(slot, [call])], 1)[0]
            if cursor != b"0" and call.answered_by != before:
                cursor = b"0"
                continue
            yield dict(zip(fields[::2], fields[1::2], strict=True))
            cursor, before = following, call.answered_by
            if cursor == b"0":
                return

    def runners(self) -> list[RunCommand]:
        return [partial(self._execute_at, slot) for slot in self._representatives("look at the cluster")]

    def run_script_on_each(self, script: Script, arguments: Sequence[bytes], doing: str) -> list[Any]:
        sent = script.call([], arguments)
        return [
            self._run(doing, [_Unit(slot, [_Call(0, sent, script)])], 1)[0] for slot in self._representatives(doing)
        ]

    def close(self) -> None:
        super().close()
        self._nodes.disconnect()

    # -- trying ------------------------------------------------------------------------------------------------------

    def _representatives(self, doing: str) -> list[int]:
        """Return a slot of each primary: whoever has the slot stands for it, also after a failover."""
        give_up_at = monotonic() + self.retry_seconds
        failures = 0
        while not self._nodes.version:
            failures += 1
            try:
                self._nodes.refresh()
            except (redis.RedisError, OSError) as error:
                hopeless = classify_error(error) is Retry.FATAL or monotonic() >= give_up_at
                if hopeless or self._closing.wait(retry_pause(failures)):
                    raise translate_error(error, doing) from None
        return [slot for _, slot in sorted(self._nodes.primaries.items())]

    def _execute_at(self, slot: int, doing: str, *command: bytes) -> Any:
        """Return the reply of the node that has a slot to a command without a key."""
        return self._run(doing, [_Unit(slot, [_Call(0, encode_command(command), None)])], 1)[0]

    def _run(self, doing: str, units: list[_Unit], size: int, then: bytes = b"") -> list[Any]:
        give_up_at = monotonic() + self.retry_seconds
        found: list[Any] = [None] * size
        failures = 0
        while units:
            units, trouble = self._try_all(units, found, then)
            if trouble is None:
                continue
            failures += 1
            hopeless = classify_error(trouble) is Retry.FATAL or monotonic() >= give_up_at
            if hopeless or self._closing.wait(retry_pause(failures)):
                raise translate_error(trouble, doing) from None
            if not isinstance(trouble, TryAgainError):
                self._refresh(doing)
        return found

    def _refresh(self, doing: str) -> None:
        try:
            self._nodes.refresh()
        except (redis.RedisError, OSError) as error:
            if classify_error(error) is Retry.FATAL:
                raise translate_error(error, doing) from None

    def _try_all(self, units: list[_Unit], found: list[Any], then: bytes) -> tuple[list[_Unit], Exception | None]:
        """Send all units; return those that are left, and why, if a pause is needed before they are sent again."""
        left: list[_Unit] = []
        trouble: Exception | None = None
        together: dict[Address, list[_Unit]] = {}
        for unit in units:
            try:
                if unit.is_alone:
                    self._follow(unit, found, then)
                else:
                    together.setdefault(self._nodes.owner_of(unit.slot), []).append(unit)
            except (redis.RedisError, OSError) as error:
                left.append(unit)
                trouble = trouble or error
        flying: list[tuple[Address, Wire, list[_Unit]]] = []
        try:
            for address, members in together.items():
                try:
                    flying.append((address, self._send(address, members, then), members))
                except CONNECTION_ERRORS as error:
                    left += members
                    trouble = trouble or error
            while flying:
                address, wire, members = flying.pop()
                rest, cause = self._receive(address, wire, members, found, then)
                left += rest
                trouble = trouble or cause
        finally:
            for _, wire, _ in flying:
                wire.discard()
        return left, trouble

    def _send(self, address: Address, units: list[_Unit], then: bytes) -> Wire:
        script = units[0].calls[0].script
        sent = [script.load] if then and script is not None else []
        sent += [call.sent for unit in units for call in unit.calls]
        sent.append(then)
        wire = self._nodes.connect(address)
        try:
            wire.send(b"".join(sent))
        except BaseException:
            wire.discard()
            raise
        return wire

    def _receive(
        self, address: Address, wire: Wire, units: list[_Unit], found: list[Any], then: bytes
    ) -> tuple[list[_Unit], Exception | None]:
        """Read the replies to units. Returns those to be sent again, and an error unless that may be done at once."""
        left: list[_Unit] = []
        answered: list[tuple[_Unit, list[Any]]] = []
        trouble: Exception | None = None
        last: list[Any] = []
        try:
            for position, unit in enumerate(units):
                loading = 1 if then and not position else 0
                try:
                    if not position:
                        self._await_reply(address, wire, unit.slot)
                    answered.append((unit, read_replies(wire, loading + len(unit.calls))[loading:]))
                except MovedError as error:
                    self._nodes.note_moved(error, address)
                    left.append(unit)
                    unit.is_moved, unit.is_alone = True, unit.is_moved
                except redis.ResponseError as error:
                    left.append(unit)
                    unit.is_alone = True
                    if not isinstance(error, _REDIRECTS):
                        trouble = trouble or error
            last = read_replies(wire, 1) if then else []
        except redis.ResponseError as error:  # of the command behind them, without which none is answered
            wire.release()
            return units, error
        except CONNECTION_ERRORS as error:
            wire.discard()
            trouble = trouble or error
            if then:
                return units, trouble
            left += units[len(left) + len(answered) :]
        except BaseException:
            wire.discard()
            raise
        else:
            wire.release()
        for unit, replies in answered:
            for call, reply in zip(unit.calls, replies, strict=True):
                call.answered_by = address
                found[call.number] = (reply, *last) if then else reply
        return left, trouble

    def _await_reply(self, address: Address, wire: Wire, slot: int | None) -> None:
        """Wait for a reply. Raises TimeoutError as soon as another node has the slot: a node can hang for long."""
        give_up_at = monotonic() + self.reply_timeout
        while not wire.wait(min(_SILENCE, give_up_at - monotonic())):
            with suppress(redis.RedisError, OSError):
                self._nodes.refresh()
            has_moved = slot is not None and self._nodes.known_owner(slot) != address
            if has_moved or monotonic() >= give_up_at:
                raise redis.TimeoutError("no reply")

    # -- one by one ----------------------------------------------------------------------------------------------------

    def _follow(self, unit: _Unit, found: list[Any], then: bytes) -> None:
        """Send the calls of a unit one by one, each to where its keys are at the moment."""
        for call in unit.calls:
            found[call.number] = self._follow_call(unit.slot, call, then)

    def _follow_call(self, slot: int | None, call: _Call, then: bytes) -> Any:
        address, is_asking, is_loading = self._nodes.owner_of(slot), False, bool(then)
        for _ in range(_MOST_REDIRECTS):
            before = [call.script.load] if call.script is not None and is_loading else []
            before += [ASKING] if is_asking else []  # for the next command alone: behind the loading
            try:
                replies = self._ask(
                    address, None if is_asking else slot, [*before, call.sent, *([then] if then else [])]
                )[len(before) :]
            except NoScriptError:
                is_loading = True
            except MovedError as error:
                address, is_asking = self._nodes.note_moved(error, address), False
            except AskError as error:
                address, is_asking = self._nodes.note_moved(error, address), True
            else:
                call.answered_by = address
                return tuple(replies) if then else replies[0]
        raise TryAgainError("the slot is on its way")

    def _ask(self, address: Address, slot: int | None, commands: Sequence[bytes]) -> list[Any]:
        wire = self._nodes.connect(address)
        try:
            wire.send(b"".join(commands))
            self._await_reply(address, wire, slot)
            replies = read_replies(wire, len(commands))
        except redis.ResponseError:
            wire.release()
            raise
        except BaseException:
            wire.discard()
            raise
        wire.release()
        return replies


def _slot_of(command: Sequence[bytes]) -> int | None:
    name = command[0]
    if name in _KEYLESS:
        return None
    if name in (b"EVALSHA", b"EVALSHA_RO"):
        return None if command[2] == b"0" else slot_of(command[3])
    return slot_of(command[1])


def _units(slots: Iterator[int | None], calls: Sequence[_Call]) -> list[_Unit]:
    units: dict[int | None, _Unit] = {}
    for slot, call in zip(slots, calls, strict=True):
        unit = units.get(slot)
        if unit is None:
            unit = units[slot] = _Unit(slot, [])
        unit.calls.append(call)
    return list(units.values())


def _script_units(script: Script, calls: Sequence[tuple[Sequence[str], Sequence[bytes]]]) -> list[_Unit]:
    encoded = [_Call(number, script.call(*call), script) for number, call in enumerate(calls)]
    return _units((slot_of(keys[0].encode()) if keys else None for keys, _ in calls), encoded)
