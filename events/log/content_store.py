"""Content that is too large for events: chunks beside an agent's log, under the digest of the whole, once per agent.

An agent's contents are listed with their size and the time they were last written. What no event refers to is an
orphan, of a writer that died or was refused; it is dropped once it is a day old, when the log is trimmed. Results that
were computed from a content stand in a cache.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Final, Protocol

from attrs import frozen

from ..errors import AgentNotFound, CorruptEvent
from ..model import Content, content_digest
from .records import Put

CHUNK_BYTES: Final = 1024 * 1024
STAGED_MS: Final = 24 * 60 * 60 * 1000
"""For how long content is kept that was written for an agent that does not exist yet."""


@frozen
class ListedContent:
    """A content as the list of its agent has it. `age_ms` is the time since it was last written.

    Where there is a server, its clock says how old contents are, not that of a client.
    """

    digest: bytes
    size: int
    age_ms: int


class ContentCache(Protocol):
    """Results that were computed, by field: the hash of a content. Thread-safe. Lost values are computed again."""

    def load(self, fields: Sequence[bytes]) -> list[bytes | None]:
        """The value of each field, in order; None where there is none."""
        ...

    def store(self, values: Mapping[bytes, bytes]) -> None:
        """Store these values. Storing twice is the same as once."""
        ...

    def drop(self, fields: Sequence[bytes]) -> None:
        """Remove the values of these fields, as far as they are there."""
        ...


class ContentStore(Protocol):
    """Every method blocks, is thread-safe, may be repeated, and raises typed errors."""

    def write(self, agent: str, digest: bytes, data: bytes, *, staged: bool = False) -> None:
        """Keep bytes under their digest; those that are there are only marked as written now.

        Raises AgentNotFound. With `staged` for an agent that does not exist yet, too: until it is adopted, for a day.
        """
        ...

    def keep(self, agent: str, digests: Collection[bytes]) -> tuple[Put, ...]:
        """What the append has to bring that creates an agent, for its staged contents to stay. Does not block."""
        ...

    def read(self, agent: str, digest: bytes) -> bytes | None:
        """The bytes as they are stored, whole or not; None where there are none."""
        ...

    def list(self, agent: str) -> list[ListedContent]:
        """The contents of an agent, in no order."""
        ...

    def drop(self, agent: str, digests: Collection[bytes], age_ms: int) -> int:
        """Remove those of these contents that were last written so long ago, or longer; how many."""
        ...


def chunks_of(data: bytes) -> list[bytes]:
    """The chunks in which content is stored; one that is empty has one chunk."""
    return [data[at : at + CHUNK_BYTES] for at in range(0, len(data) or 1, CHUNK_BYTES)]


def read_content(store: ContentStore, agent: str, content: Content) -> bytes:
    """The bytes of a content. Raises CorruptEvent for one that is missing or damaged."""
    data = store.read(agent, content.digest)
    if data is None or len(data) != content.size or content_digest(data) != content.digest:
        what = "is missing" if data is None else "is damaged"
        raise CorruptEvent(
            f"{content} that the log of {agent} refers to {what}; restore it from a backup",
            agent=agent,
            expected=content.digest.hex(),
            actual=None if data is None else content_digest(data).hex(),
        )
    return data


def load_content(store: ContentStore, agent: str, content: Content) -> str | bytes:
    """The text, or the bytes, that a content stands for. Raises as `read_content`, and for a text that is no UTF-8."""
    data = read_content(store, agent, content)
    try:
        return data.decode() if content.is_text else data
    except UnicodeDecodeError:  # duramen writes none: it came in with a session file
        raise CorruptEvent(
            f"{content} that the log of {agent} refers to is not UTF-8; restore it from a backup",
            agent=agent,
            expected="UTF-8",
            actual=content.digest.hex(),
        ) from None


def copy_contents(store: ContentStore, agent: str, contents: Iterable[Content], to: str) -> tuple[bytes, ...]:
    """Stage contents of an agent for one that is to be made; their digests. Raises as `read_content`."""
    unique = {content.digest: content for content in contents}
    for digest, content in unique.items():
        store.write(to, digest, read_content(store, agent, content), staged=True)
    return tuple(unique)


def content_without_agent(agent: str) -> AgentNotFound:
    """The error for content of an agent that is not there."""
    return AgentNotFound(f"there is no agent {agent}; spawn it first", agent=agent)
