"""Content: a text, or bytes, too large for an event, which is kept beside its agent's log in chunks."""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import blake2b
from typing import Any, Final, cast

from attrs import frozen

DIGEST_BYTES: Final = 32


@frozen(eq=False)
class Content:
    """What stands in an event, and in working memory, in place of a text or bytes too large for an event.

    `AgentSystem.load_content` loads it; handles do so by themselves. Equal to any other of the same bytes and kind.
    """

    digest: bytes
    """32 bytes: BLAKE2b of the text in UTF-8, or of the bytes."""
    size: int
    """In bytes."""
    is_text: bool

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Content) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self.digest)

    def _key(self) -> tuple[bytes, int, bool]:
        return self.digest, self.size, self.is_text

    def __str__(self) -> str:
        return f"<{'text' if self.is_text else 'bytes'} of {self.size:,} bytes>"


@frozen(eq=False)
class StoredContent(Content):
    """Content that was stored for the agent that a message goes to: messages take no other. Read back as `Content`."""


@frozen
class WithContents:
    """A reply in which `Content` stands for texts and bytes, until it is taken by its caller."""

    value: Any
    is_packed: bool = False
    """Whether the value is the `Content` of the whole reply, packed."""


def content_digest(data: bytes) -> bytes:
    """The digest by which content is named."""
    return blake2b(data, digest_size=DIGEST_BYTES).digest()


def as_stored(value: Any) -> Any:
    """A copy of a value that was in an agent's working memory, to be put into another event of that agent."""
    if type(value) is Content:
        return StoredContent(value.digest, value.size, value.is_text)
    if type(value) is dict:
        return {key: as_stored(held) for key, held in cast("dict[str, Any]", value).items()}
    if type(value) is list:
        return [as_stored(held) for held in cast("list[Any]", value)]
    return value


def contents_in(value: Any) -> Iterator[Content]:
    """The contents in a value, once for each place."""
    waiting = [value]
    while waiting:
        held = waiting.pop()
        if type(held) is Content or type(held) is StoredContent:
            yield held
        elif type(held) is dict:
            waiting += cast("dict[str, Any]", held).values()
        elif type(held) is list:
            waiting += cast("list[Any]", held)
