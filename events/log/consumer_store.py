"""Where durable consumers store their views and their positions, both in one write.

A consumer is known by its name. It has one view that is read (`LIVE`), and a second one while its replacement is being
built (`NEXT`). The process that claims a view writes it from then on; the one that wrote it before is refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from hashlib import sha256
from typing import Any, Final, Literal, Protocol, cast

from attrs import astuple, frozen

import msgpack

from ..errors import CorruptEvent, Fenced, InvalidMessage
from ..model import Cursor

Slot = Literal["live", "next"]
LIVE: Final[Slot] = "live"
NEXT: Final[Slot] = "next"

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}\Z")
_SUM: Final = 16


@frozen
class Failure:
    """Why a consumer is parked. `error` is the type's name, `place` the line of code that raised it.

    The text of a user's exception is not stored: it may quote the event.
    """

    error: str
    agent: str | None
    seq: int | None
    advice: str
    place: str | None
    can_skip: bool
    """Whether one event stopped it, which can be skipped."""
    at: int
    """µs since the epoch."""


@frozen(kw_only=True)
class ConsumerRecord:
    """What is stored of one view, without the view itself."""

    name: str
    slot: Slot
    kind: str
    """`whole`: one value; `keyed`: a value a key; `sink`: in the user's database, only the cursor is stored here."""
    version: int
    """The projection's version."""
    scope: str
    """The event filter, as text."""
    cursor: Cursor
    token: str = ""
    """The process that may write it: `epoch:owner`."""
    revision: int = 0
    """How often it was written."""
    status: str = ""
    applied: int = 0
    """Events that were applied."""
    skipped: int = 0
    """Events that were skipped by hand."""
    skips: tuple[tuple[str, int], ...] = ()
    """The latest of these: agent and seq."""
    failure: Failure | None = None
    updated_at: int = 0
    """µs since the epoch, by the writer's clock."""

    @property
    def form(self) -> str:
        """What must be equal for code to continue this view."""
        return f"{self.kind} {self.version} {self.scope}"


@frozen
class ConsumerRequest:
    """A request to a consumer, wherever it runs: `retry`, `skip` of one event, `rebuild`, or `erase` for a sink."""

    id: str
    what: str
    agent: str | None = None
    """Of the event to skip. To `erase`, and to `rebuild` where the view cannot be corrected: the agents that were
    erased, a line each; "" if nobody knows them any more."""
    seq: int | None = None


@frozen
class Stored:
    """What is stored of one consumer, without its views."""

    live: ConsumerRecord | None
    next: ConsumerRecord | None
    request: ConsumerRequest | None


@frozen
class Saved:
    """The result of a save. `current`: it was written. Otherwise the stored view has another `revision`."""

    current: bool
    revision: int
    request: ConsumerRequest | None


class ConsumerStore(Protocol):
    """Views of one namespace. Every method blocks, is thread-safe, and raises typed errors."""

    def find(self, name: str) -> Stored:
        """What is stored of a consumer, without its views."""
        ...

    def claim(self, fresh: ConsumerRecord, owner: str, *, replace: bool = False) -> ConsumerRecord | None:
        """Take a view over, under a new token `epoch:owner`; returns its record.

        Where there is none, it becomes `fresh`. Of views of another form (kind, version, scope), one that is being
        built is replaced by `fresh`; a live one is not changed, and None is returned. With `replace` any is replaced.
        """
        ...

    def blob(self, name: str, slot: Slot) -> bytes | None:
        """The view, if it is one value and was ever saved."""
        ...

    def entries(self, name: str, slot: Slot) -> Iterator[tuple[str, bytes]]:
        """The entries of a keyed view, each once; those that are saved meanwhile in their state before or after."""
        ...

    def save(
        self,
        record: ConsumerRecord,
        *,
        blob: bytes | None = None,
        changes: Mapping[str, bytes | None] | None = None,
        done: ConsumerRequest | None = None,
    ) -> Saved:
        """Write a record, and with it the whole view, or some entries of it (None removes one).

        `record.revision` is that of the view which this one continues; it is stored one higher. `done` is a request
        that was carried out, and is removed. Raises Fenced if another has claimed the view, or it was removed.
        """
        ...

    def switch(self, record: ConsumerRecord) -> ConsumerRecord:
        """Make the view that was being built the live one, in one write; the old one is removed, its writer fenced.

        `record` is the `NEXT` view's, as saved last. Raises Fenced.
        """
        ...

    def discard(self, record: ConsumerRecord) -> bool:
        """Throw away the view that is being built, if the record is its writer's; whether it was."""
        ...

    def request(self, name: str, request: ConsumerRequest) -> bool:
        """Store a request in place of an earlier one; False if there is no such consumer."""
        ...

    def replace_request(self, name: str, before: ConsumerRequest | None, request: ConsumerRequest) -> bool:
        """As `request`, if `before` is the one that waits, or none does; False if there is another by now."""
        ...

    def remove(self, name: str) -> bool:
        """Remove a consumer with its views; the process that runs it is fenced. False if there is none."""
        ...

    def records(self) -> list[ConsumerRecord]:
        """The records of all views of all consumers, by name."""
        ...


def check_name(name: str) -> str:
    """Return the name of a consumer. Raises InvalidMessage for text that cannot be one."""
    if type(cast("object", name)) is not str or not _NAME.match(name):
        raise InvalidMessage(
            "the name of a consumer is 1 to 128 of A-Z a-z 0-9 . _ -, the first a letter or digit",
            actual=type(name).__name__,
        )
    return name


def fenced(name: str, found: ConsumerRecord | None) -> Fenced:
    """The error of a writer whose view belongs to another."""
    if found is None:
        return Fenced(f"consumer {name} was removed; attach it again to build its view again", actual=None)
    return Fenced(
        f"another process has taken consumer {name} over; nothing of this one was written. Attach it again to take it "
        "back",
        actual=found.token,
    )


def seal(body: bytes) -> bytes:
    """The bytes of a view after their checksum."""
    return sha256(body).digest()[:_SUM] + body


def unseal(stored: bytes, name: str) -> bytes:
    """The bytes after the checksum. Raises CorruptEvent."""
    body = stored[_SUM:]
    if sha256(body).digest()[:_SUM] != stored[:_SUM]:
        raise CorruptEvent(f"the stored view of {name} does not match its checksum; rebuild it")
    return body


# -- bytes -------------------------------------------------------------------------------------------------------------


def pack_record(record: ConsumerRecord) -> bytes:
    """As msgpack [token, revision, form, rest]: the scripts read the first three."""
    # Old-style strings at the top: the server's msgpack knows no other kind.
    packed = [record.token.encode(), record.revision, record.form.encode(), pack_rest(record)]
    return msgpack.packb(packed, use_bin_type=False)


def pack_rest(record: ConsumerRecord) -> bytes:
    """The part of a record that the scripts do not read."""
    failure = record.failure
    fields = [
        record.kind,
        record.version,
        record.scope,
        record.cursor.to_bytes(),
        record.status,
        record.applied,
        record.skipped,
        [list(skip) for skip in record.skips],
        None if failure is None else list(astuple(failure)),
        record.updated_at,
    ]
    return msgpack.packb(fields)


def unpack_record(name: str, slot: Slot, stored: bytes) -> ConsumerRecord:
    """Raises CorruptEvent for bytes that `pack_record` has not made."""
    try:
        token, revision, _, body = cast("list[Any]", msgpack.unpackb(stored, raw=True))
        kind, version, scope, cursor, status, applied, skipped, skips, failure, updated_at = cast(
            "list[Any]", msgpack.unpackb(body)
        )
        return ConsumerRecord(
            name=name,
            slot=slot,
            kind=kind,
            version=version,
            scope=scope,
            cursor=Cursor.from_bytes(cursor),
            token=token.decode(),
            revision=int(revision),
            status=status,
            applied=applied,
            skipped=skipped,
            skips=tuple((agent, seq) for agent, seq in skips),
            failure=None if failure is None else Failure(*failure),
            updated_at=updated_at,
        )
    except (ValueError, TypeError, AttributeError, InvalidMessage) as error:
        raise CorruptEvent(
            f"the record of consumer {name} does not decode ({type(error).__name__}); remove it and attach it again"
        ) from None


def pack_request(request: ConsumerRequest) -> bytes:
    """As msgpack [id, what, agent, seq]."""
    return msgpack.packb([request.id, request.what, request.agent, request.seq])


def unpack_request(stored: bytes | None) -> ConsumerRequest | None:
    """None also for bytes that are no request: they are ignored."""
    if stored is None:
        return None
    try:
        request = ConsumerRequest(*cast("list[Any]", msgpack.unpackb(stored)))
    except (ValueError, TypeError):
        return None
    return request if type(request.id) is str and type(request.what) is str else None
