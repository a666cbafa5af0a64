"""Texts and bytes too large for an event: replaced in messages where these are handled, and put back in replies."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeVar, cast

from attrs import evolve

from duramen.events import CommandConflict, Content, DuramenError, Limits, TooLarge, ValueRefused
from duramen.events.codec import Codec
from duramen.events.log import ContentStore, EventLog, load_content
from duramen.events.model import StoredContent, check_value, content_digest

from ...commands import Batch, Message, Spawn
from ...hosts import Forwarded
from ..turn import Turn

M = TypeVar("M")
R = TypeVar("R")

_BESIDE: Final = ("path", "kind", "command_id", "metadata")
_type_of: Callable[[Any], type[Any]] = type
_PART: Final = 16
"""A text or bytes is replaced if it takes more than this part of an event."""
_AROUND: Final = 1024
"""Bytes that are reserved in an event for its type, ids and times."""


def storing(handler: Callable[[Turn, M], R]) -> Callable[[Turn, M], R]:
    """A handler that takes messages too large for an event, too: what is too large in them is stored with the turn.

    For turns of worker threads: it takes a while.
    """

    def handle(turn: Turn, message: M) -> R:
        try:
            return handler(turn, message)
        except (TooLarge, CommandConflict) as refused:  # the latter where it was replaced the first time
            replaced, found = replace_contents(turn.services.limits, turn.agent, message, refused)
        before, contents = len(turn.items), turn.contents
        turn.add_contents(found)
        try:
            return handler(turn, replaced)
        finally:
            if len(turn.items) == before:  # it was refused, or is a repetition
                turn.contents = contents

    return handle


def store_contents(log: EventLog, limits: Limits, agent: str, message: M, refused: DuramenError) -> M:
    """Store what is too large in a message that cannot cross to another host; return what to send in its place.

    Blocks. Raises as `replace_contents`, and AgentNotFound.
    """
    replaced, found = replace_contents(limits, agent, message, refused)
    for digest, data in found.items():
        log.contents.write(agent, digest, data, staged=isinstance(message, Spawn))
    return replaced


def replace_contents(limits: Limits, agent: str, message: M, refused: DuramenError) -> tuple[M, dict[bytes, bytes]]:
    """A message that was refused for its size without its large texts and bytes; and these, by their digests.

    Raises the refusal where that does not make the message small enough, TooLarge over `content_bytes`.
    """
    replacing = _Replacing(limits, agent, refused)
    given = cast("object", message)
    if isinstance(given, Forwarded):
        replaced: Any = type(given)(replacing.replace(given.message), given.asker, given.number, given.known_seq)
    else:
        replaced = replacing.replace(given)
    if not replacing.found:
        raise refused
    return replaced, {content.digest: data for content, data in replacing.found.items()}


def load_contents(store: ContentStore, agent: str, value: Any) -> Any:
    """Put the texts and bytes in the place of their `Content` in a value, which is changed. Blocks.

    Raises CorruptEvent for one that is missing or damaged.
    """
    loaded: dict[Content, Any] = {}

    def load(held: Any) -> Any:
        if type(held) is Content:
            if held not in loaded:
                loaded[held] = load_content(store, agent, held)
            return loaded[held]
        if type(held) is dict:
            fields = cast("dict[str, Any]", held)
            for key, inside in fields.items():
                fields[key] = load(inside)
        elif type(held) is list:
            items = cast("list[Any]", held)
            items[:] = map(load, items)
        return cast("Any", held)

    return load(value)


def restore_contents(turn: Turn, value: Any) -> Any:
    """A copy of a message's value with what was replaced in it, here or by its sender. Blocks; raises CorruptEvent."""
    store, agent, found = turn.services.log.contents, turn.agent, turn.contents or {}

    def restore(held: Any) -> Any:
        if isinstance(held, StoredContent):
            data = found.get(held.digest)
            if data is None:
                return load_content(store, agent, held)
            return data.decode() if held.is_text else data
        if type(held) is dict:
            return {key: restore(inside) for key, inside in cast("dict[str, Any]", held).items()}
        return [restore(inside) for inside in cast("list[Any]", held)] if type(held) is list else held

    return restore(value)


class _Replacing:
    """Replaces the large texts and bytes of one message, and gathers them."""

    def __init__(self, limits: Limits, agent: str, refused: DuramenError) -> None:
        self.found: dict[StoredContent, bytes] = {}
        self._codec = Codec(limits)
        self._limits = limits
        self._refused = refused
        most = limits.content_bytes
        self._checked = evolve(limits, text_bytes=max(most, limits.text_bytes), snapshot_bytes=most)
        self._least = limits.event_bytes // _PART
        self._around = min(_AROUND, self._least) + 2 * len(agent.encode())  # the ids of other events have it, too
        self._beside = 0
        """Bytes that each event has of the batch: metadata and command id."""

    def replace(self, message: Any) -> Any:
        """A message that fits. Raises the refusal, TooLarge, ValueRefused."""
        if isinstance(message, Batch):
            return self._replace_batch(message)
        fits = _content_field(message) is None or self._size_of(message) <= self._room_of(message)
        return message if fits else self._replace_value(message)

    def _replace_batch(self, batch: Batch) -> Batch:
        self._beside = self._beside_value(batch)
        sizes = list(map(self._size_of, batch.operations))
        rooms = list(map(self._room_of, batch.operations))
        beside = sum(self._limits.event_bytes - room for room in rooms)
        fits = sum(sizes) + beside <= self._limits.batch_bytes
        operations = [
            operation if fits and size <= room else self._replace_value(operation)
            for operation, size, room in zip(batch.operations, sizes, rooms, strict=True)
        ]
        if sum(map(self._size_of, operations)) > self._limits.batch_bytes:
            raise self._refused
        return evolve(batch, operations=operations)

    def _replace_value(self, message: Any) -> Any:
        name = _content_field(message)
        if name is None:
            return message
        replaced = evolve(message, **{name: self._replace(getattr(message, name))})
        if self._size_of(replaced) > self._room_of(message) + self._around:
            raise self._refused
        return replaced

    def _replace(self, value: Any) -> Any:
        kind = _type_of(value)
        if kind is dict:
            return {key: self._replace(held) for key, held in value.items()}
        if kind is list:
            return [self._replace(held) for held in value]
        if kind is str or kind is bytes:
            return self._replace_text(value)
        return value

    def _replace_text(self, value: str | bytes) -> Any:
        if len(value) * (4 if isinstance(value, str) else 1) <= self._least:
            return value
        data = value.encode() if isinstance(value, str) else value
        if len(data) <= self._least:
            return value
        content = StoredContent(content_digest(data), len(data), isinstance(value, str))
        self.found[content] = data
        return content

    def _room_of(self, message: Any) -> int:
        """Bytes that the message's value may surely have in an event."""
        kept_free: int = getattr(message, "content_room", 0)
        return self._limits.event_bytes - self._around - self._beside - self._beside_value(message) - kept_free

    def _beside_value(self, message: Any) -> int:
        """Bytes of what a message has in its event beside its value. Raises the refusal if that was for them."""
        path, kind, command_id, metadata = (getattr(message, name, None) for name in _BESIDE)
        try:
            return len(self._codec.pack([str(path), kind, command_id, dict(metadata or ())]))
        except ValueRefused:  # nested too deep
            raise self._refused from None

    def _size_of(self, message: Any) -> int:
        name = _content_field(message)
        if name is None:
            return 0
        value = getattr(message, name)
        check_value(value, self._checked)
        return len(self._codec.pack(value))


def _content_field(message: object) -> str | None:
    return message.content_field if isinstance(message, Message) else None
