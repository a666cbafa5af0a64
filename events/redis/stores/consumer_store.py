"""Durable consumers on a server: see the protocol, and the scripts in `lua/consumers/`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final, cast

from attrs import evolve

from ...errors import CorruptEvent
from ...log import (
    LIVE,
    NEXT,
    ConsumerRecord,
    ConsumerRequest,
    Keys,
    Saved,
    Slot,
    Stored,
    fenced,
    pack_record,
    pack_request,
    pack_rest,
    unpack_record,
    unpack_request,
)
from ..client import RedisClient, Script, require_consumer_permissions

_SLOTS: Final[Mapping[str, Slot]] = {LIVE: LIVE, NEXT: NEXT}


class RedisConsumerStore:
    """The views of one namespace of one server."""

    def __init__(self, server: RedisClient, keys: Keys) -> None:
        self._server = server
        self._keys = keys
        self._probe = Script("namespace/permissions")
        self._permitted = False
        self._claim = Script("consumers/claim")
        self._save = Script("consumers/save")
        self._switch = Script("consumers/switch")
        self._request = Script("consumers/request")
        self._discard = Script("consumers/discard")
        self._remove = Script("consumers/remove")

    def find(self, name: str) -> Stored:
        key = self._keys.views.encode()
        live, next_one, request = self._server.execute("look at a consumer", b"HMGET", key, *_fields(name))
        return Stored(
            None if live is None else unpack_record(name, LIVE, live),
            None if next_one is None else unpack_record(name, NEXT, next_one),
            unpack_request(request),
        )

    def claim(self, fresh: ConsumerRecord, owner: str, *, replace: bool = False) -> ConsumerRecord | None:
        self._require_permissions()
        name, slot = fresh.name, fresh.slot
        replaced = b"any" if replace else b"other" if slot == NEXT else b"none"
        arguments = [_field(name, slot), owner.encode(), fresh.form.encode(), pack_rest(fresh), replaced]
        keys = [self._keys.views, self._keys.view(name, slot)]
        stored = self._server.run_script(self._claim, keys, arguments, "claim a view")
        return None if stored is None else unpack_record(name, slot, stored)

    def blob(self, name: str, slot: Slot) -> bytes | None:
        stored: bytes | None = self._server.execute("load a view", b"GET", self._keys.view(name, slot).encode())
        return stored

    def entries(self, name: str, slot: Slot) -> Iterator[tuple[str, bytes]]:
        seen: set[bytes] = set()  # the server may return a field twice while a hash is resized
        for page in self._server.scan_hash(self._keys.view(name, slot), "load a view"):
            for field, value in page.items():
                if field not in seen:
                    seen.add(field)
                    yield _text(field, name), value

    def save(
        self,
        record: ConsumerRecord,
        *,
        blob: bytes | None = None,
        changes: Mapping[str, bytes | None] | None = None,
        done: ConsumerRequest | None = None,
    ) -> Saved:
        name, slot = record.name, record.slot
        written = pack_record(evolve(record, revision=record.revision + 1))
        arguments = [
            _field(name, slot),
            record.token.encode(),
            b"%d" % record.revision,
            written,
            _field(name, "wish"),
            b"" if done is None else pack_request(done),
        ]
        if blob is not None:
            arguments += (b"whole", blob)
        elif changes:
            arguments += (b"keyed", *_entries(changes))
        else:
            arguments.append(b"")
        keys = [self._keys.views, self._keys.view(name, slot)]
        found = cast("list[Any]", self._server.run_script(self._save, keys, arguments, "save a view"))
        if found[0] == 3:
            raise fenced(name, None)
        if found[0] == 1:
            raise fenced(name, unpack_record(name, slot, found[1]))
        return Saved(found[0] == 0, int(found[1]), unpack_request(found[2] if len(found) > 2 else None))

    def switch(self, record: ConsumerRecord) -> ConsumerRecord:
        name = record.name
        keys = [self._keys.views, self._keys.view(name, LIVE), self._keys.view(name, NEXT)]
        owner = record.token.partition(":")[2]
        arguments = [_field(name, LIVE), _field(name, NEXT), record.token.encode(), owner.encode()]
        found = cast("list[Any]", self._server.run_script(self._switch, keys, arguments, "switch to a new view"))
        if found[0] == 3:
            raise fenced(name, None)
        if found[0] == 1:
            raise fenced(name, unpack_record(name, NEXT, found[1]))
        return unpack_record(name, LIVE, found[1])

    def discard(self, record: ConsumerRecord) -> bool:
        keys = [self._keys.views, self._keys.view(record.name, NEXT)]
        arguments = [_field(record.name, NEXT), record.token.encode()]
        return bool(self._server.run_script(self._discard, keys, arguments, "discard a view"))

    def request(self, name: str, request: ConsumerRequest) -> bool:
        arguments = [*_fields(name), pack_request(request)]
        return bool(self._server.run_script(self._request, [self._keys.views], arguments, "ask a consumer"))

    def replace_request(self, name: str, before: ConsumerRequest | None, request: ConsumerRequest) -> bool:
        arguments = [*_fields(name), pack_request(request), b"" if before is None else pack_request(before)]
        return bool(self._server.run_script(self._request, [self._keys.views], arguments, "ask a consumer"))

    def remove(self, name: str) -> bool:
        keys = [self._keys.views, self._keys.view(name, LIVE), self._keys.view(name, NEXT)]
        return bool(self._server.run_script(self._remove, keys, _fields(name), "remove a consumer"))

    def records(self) -> list[ConsumerRecord]:
        found: list[ConsumerRecord] = []
        for field, stored in self._server.read_hash(self._keys.views, "list consumers").items():
            slot, _, name = field.decode(errors="replace").partition(":")
            if slot in _SLOTS:
                found.append(unpack_record(name, _SLOTS[slot], stored))
        return sorted(found, key=lambda record: (record.name, record.slot))

    def _require_permissions(self) -> None:
        """Checked before the first write: a script refused a command half-way has no roll-back. Raises NotPermitted."""
        if not self._permitted:
            doing = "ask for this user's permissions"
            require_consumer_permissions(
                lambda arguments: self._server.run_script_on_each(self._probe, arguments, doing), self._keys
            )
            self._permitted = True


def _field(name: str, what: str) -> bytes:
    return f"{what}:{name}".encode()


def _fields(name: str) -> tuple[bytes, bytes, bytes]:
    return _field(name, LIVE), _field(name, NEXT), _field(name, "wish")


def _entries(changes: Mapping[str, bytes | None]) -> list[bytes]:
    """The number of entries to write, key and value of each, and the keys to remove."""
    arguments: list[bytes] = []
    removed: list[bytes] = []
    for key, value in changes.items():
        if value is None:
            removed.append(key.encode())
        else:
            arguments += (key.encode(), value)
    return [b"%d" % (len(arguments) // 2), *arguments, *removed]


def _text(field: bytes, name: str) -> str:
    try:
        return field.decode()
    except UnicodeDecodeError:
        raise CorruptEvent(f"the stored view of {name} has a key that is no text; rebuild it") from None
