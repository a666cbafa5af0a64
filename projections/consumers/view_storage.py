"""The view of a consumer, and how it is stored: as one value, or an entry a key."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Final, Protocol, cast

from duramen.events import CorruptEvent, Cursor, Event, Limits, PlainData, TooLarge, ValueRefused
from duramen.events.codec import Codec
from duramen.events.log import ConsumerRecord, ConsumerRequest, ConsumerStore, Saved, seal, unseal
from duramen.events.model import describe_type, same_value

from ..projection import KeyedProjection, KeyedView, Projection, has_erase

_PAGE: Final = 200  # events; with more of them alive at once Python's garbage collector has more to do
_MOST_TOUCHED: Final = 2_000  # entries in one write: the server is blocked by it only briefly


class Refused(Exception):
    """The user's code raised `error` at the event of this index. The state of the fold is undefined."""

    def __init__(self, index: int, error: Exception) -> None:
        super().__init__(index)
        self.index = index
        self.error = error


class ViewStorage(Protocol):
    """Used by one thread; only `view` may be read from others."""

    kind: ClassVar[str]
    """As in `ConsumerRecord`."""
    page: ClassVar[int]
    """The best number of events to apply at a time."""

    @property
    def version(self) -> int: ...

    @property
    def view(self) -> Any:
        """The view that users read."""
        ...

    @property
    def full(self) -> bool:
        """Whether so many changes have gathered that they have to be saved."""
        ...

    def load(self, store: ConsumerStore, record: ConsumerRecord) -> Cursor:
        """Go back to the stored view; its cursor."""
        ...

    def apply(self, events: Sequence[Event], place: Callable[[int], Cursor]) -> None:
        """Fold events; `place` gives the cursor after one of them, -1 for after all. Raises Refused."""
        ...

    @property
    def can_erase(self) -> bool:
        """Whether the user's code says what to take out for an agent that was erased."""
        ...

    def erase(self, agents: Sequence[str]) -> None:
        """Take out what there is of agents that were erased. Raises what the user's code raises."""
        ...

    def save(self, store: ConsumerStore, record: ConsumerRecord, done: ConsumerRequest | None) -> Saved:
        """Store the view together with the record, whose cursor comes after the applied events."""
        ...


class WholeViewStorage:
    """One state, stored as one value."""

    kind: ClassVar[str] = "whole"
    page: ClassVar[int] = _PAGE

    def __init__(self, projection: Projection[Any], limits: Limits) -> None:
        self._projection = projection
        self._codec = Codec(limits)
        self._limits = limits
        self._state: Any = projection.initial()
        self._changed = False
        self._rounds = 0

    @property
    def version(self) -> int:
        return self._projection.version

    @property
    def view(self) -> Any:
        return self._state

    @property
    def full(self) -> bool:
        return False

    def load(self, store: ConsumerStore, record: ConsumerRecord) -> Cursor:
        stored = store.blob(record.name, record.slot) if record.applied else None
        if stored is None and record.applied:
            raise CorruptEvent(f"the stored view of {record.name} is gone; rebuild it")
        if stored is None:
            self._state = self._projection.initial()
        else:
            self._state = self._projection.load(self._codec.unpack(unseal(stored, record.name)))
        self._changed = False
        return record.cursor

    def apply(self, events: Sequence[Event], place: Callable[[int], Cursor]) -> None:
        state, apply, applied = self._state, self._projection.apply, 0
        try:
            for event in events:
                state = apply(state, event)
                applied += 1
        except Exception as error:
            raise Refused(applied, error) from error
        self._changed = self._changed or bool(events)
        self._state = state

    @property
    def can_erase(self) -> bool:
        return has_erase(self._projection)

    def erase(self, agents: Sequence[str]) -> None:
        for agent in agents:
            self._state = self._projection.erase(self._state, agent)
        self._changed = True

    def save(self, store: ConsumerStore, record: ConsumerRecord, done: ConsumerRequest | None) -> Saved:
        blob = self._pack(record.name) if self._changed else None
        saved = store.save(record, blob=blob, done=done)
        self._changed = self._changed and not saved.current
        return saved

    def _pack(self, name: str) -> bytes:
        projection = self._projection
        packed = _pack(projection.dump(self._state), self._codec, self._limits, name)
        self._rounds += 1
        if _is_power_of_two(self._rounds):
            again = projection.dump(projection.load(self._codec.unpack(packed)))
            _compare(again, packed, self._codec, name)
        return seal(packed)


class KeyedViewStorage:
    """An entry a key, each stored by itself. Entries are replaced only here."""

    kind: ClassVar[str] = "keyed"
    page: ClassVar[int] = _PAGE

    def __init__(self, projection: KeyedProjection[Any], limits: Limits) -> None:
        self._projection = projection
        self._codec = Codec(limits)
        self._limits = limits
        self._entries: dict[str, Any] = {}
        self._touched: set[str] = set()
        self._rounds = 0

    @property
    def version(self) -> int:
        return self._projection.version

    @property
    def view(self) -> KeyedView[Any]:
        return KeyedView(self._entries)

    @property
    def full(self) -> bool:
        return len(self._touched) >= _MOST_TOUCHED

    def load(self, store: ConsumerStore, record: ConsumerRecord) -> Cursor:
        unpack, load = self._codec.unpack, self._projection.load
        found = store.entries(record.name, record.slot) if record.revision else ()
        # A new dict: a thread that reads the view meanwhile goes on seeing the last one.
        self._entries = {key: load(unpack(stored)) for key, stored in found}
        self._touched.clear()
        return record.cursor

    def apply(self, events: Sequence[Event], place: Callable[[int], Cursor]) -> None:
        entries, touched, applied = self._entries, self._touched, 0
        key_of, apply = self._projection.key, self._projection.apply
        try:
            for event in events:
                key = key_of(event)
                if key is not None:
                    after = apply(entries.get(key), event)
                    touched.add(key)
                    if after is None:
                        entries.pop(key, None)
                    else:
                        entries[key] = after
                applied += 1
        except Exception as error:
            raise Refused(applied, error) from error

    @property
    def can_erase(self) -> bool:
        return has_erase(self._projection)

    def erase(self, agents: Sequence[str]) -> None:
        for agent in agents:
            for key in list(self._projection.erase(self.view, agent)):
                self._touched.add(key)
                self._entries.pop(key, None)

    def save(self, store: ConsumerStore, record: ConsumerRecord, done: ConsumerRequest | None) -> Saved:
        changes = {_storable(key): self._packed(key, record.name) for key in self._touched}
        saved = store.save(record, changes=changes, done=done)
        if saved.current:
            self._touched.clear()
        return saved

    def _packed(self, key: str, name: str) -> bytes | None:
        if key not in self._entries:
            return None
        projection = self._projection
        packed = _pack(projection.dump(self._entries[key]), self._codec, self._limits, name)
        self._rounds += 1
        if _is_power_of_two(self._rounds):
            again = projection.dump(projection.load(self._codec.unpack(packed)))
            _compare(again, packed, self._codec, name)
        return packed


def _pack(data: Any, codec: Codec, limits: Limits, name: str) -> bytes:
    """Bytes from which the same data can be read back. Raises ValueRefused, TooLarge."""
    try:
        packed = codec.pack_exactly(data, "it")
    except ValueRefused as error:
        raise _not_plain(name, str(error)) from None
    if len(packed) > limits.snapshot_bytes:
        raise TooLarge(
            f"the view of {name} takes {len(packed)} bytes, over the limit of {limits.snapshot_bytes}: use a "
            "KeyedProjection, which is stored in parts, or a database of your own",
            expected=limits.snapshot_bytes,
            actual=len(packed),
        )
    return packed


def _compare(data: Any, packed: bytes, codec: Codec, name: str) -> None:
    """Raise ValueRefused unless these bytes read back as this data."""
    try:
        found = codec.unpack(packed)
    except CorruptEvent:
        raise _not_plain(name, "it has keys that are no text") from None
    if found != data and not same_value(found, cast("PlainData", data)):
        raise _not_plain(name, "it is read back as something else")


def _not_plain(name: str, why: str) -> ValueRefused:
    return ValueRefused(
        f"the view of {name} is not plain data ({why}): define dump() and load() on its projection, which turn it "
        "into plain data and back"
    )


def _storable(key: str) -> str:
    if type(cast("object", key)) is not str:
        raise ValueRefused(f"the key of an entry is a str, or None; not {describe_type(key)}")
    try:
        key.encode()
    except UnicodeEncodeError:
        raise ValueRefused("the key of an entry has a lone surrogate, which has no encoding") from None
    return key


def _is_power_of_two(number: int) -> bool:
    return number & (number - 1) == 0
