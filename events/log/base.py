"""What every backend answers in the same way: from its keys, and from the few answers it must have of its own."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable, Iterator, Sequence
from functools import partial

from ..codec import DIGEST_SIZE, DigestChain
from ..errors import DurabilityUnavailable, DuramenError, InvalidMessage
from .archive import Archive
from .durability import Durability
from .event_log import LentConnections, LogWriter, ReadAhead
from .keys import MOST_PARTITIONS, Keys, partition_of
from .reading import pages_of
from .records import Answer, Append, CommittedAppend, FeedPage, FeedRequest, Head, Page, Span, SpanEvents, Status


class LogBase(ABC):
    """The part of an `EventLog` that follows from the rest of it. A backend overrides what it can do faster.

    A backend sets `identity`, `partitions` and `archive` when it is opened, and what an append reaches where that is
    more than `memory`.
    """

    identity: str
    partitions: int
    durability: str = "memory"
    committed_durability: str = "memory"
    unconfirmed: Durability | None = None
    archive: Archive

    def __init__(self, namespace: str, partitions: int, integrity_key: bytes | None) -> None:
        if type(partitions) is not int or not 1 <= partitions <= MOST_PARTITIONS:
            raise InvalidMessage(f"a namespace has 1 to {MOST_PARTITIONS} partitions", actual=partitions)
        self.chain = DigestChain(integrity_key)
        self._keys = Keys(namespace)

    @abstractmethod
    def writer(self) -> LogWriter: ...

    @abstractmethod
    def read(self, agent: str, from_seq: int, limit: int, *, seen: Head | None = None) -> Page | None: ...

    @abstractmethod
    def feed_pages(self, requests: Sequence[FeedRequest]) -> list[FeedPage]: ...

    @abstractmethod
    def gather_all(self, requests: Sequence[tuple[int, Sequence[Span]]], most_bytes: int) -> list[list[SpanEvents]]: ...

    def partition_of(self, agent: str) -> int:
        return partition_of(agent, self.partitions)

    def log_key(self, agent: str) -> str:
        return self._keys.log(self.partition_of(agent), agent)

    def snapshot_key(self, agent: str) -> str:
        return self._keys.snapshot(self.partition_of(agent), agent)

    def base_key(self, agent: str) -> str:
        return self._keys.base(self.partition_of(agent), agent)

    def checkpoint_key(self, agent: str, checkpoint_id: str) -> str:
        return self._keys.checkpoint(self.partition_of(agent), agent, checkpoint_id)

    def episodes_key(self, agent: str) -> str:
        return self._keys.episodes(self.partition_of(agent))

    def commit(self, partition: int, batch: Sequence[Append]) -> list[Answer]:
        writer = self.writer()
        try:
            writer.send([(partition, batch)])
            while True:
                for _, result in writer.receive(None):
                    if isinstance(result, DuramenError):
                        raise result
                    self._require_confirmed(batch, result)
                    return result
        finally:
            writer.close()

    def _require_confirmed(self, batch: Sequence[Append], answers: Sequence[Answer]) -> None:
        if self.unconfirmed is None:
            return
        committed = [
            CommittedAppend(append.agent, append.expected + len(append.items), append.items[-1][:DIGEST_SIZE])
            for append, answer in zip(batch, answers, strict=True)
            if append.items and answer.status in (Status.COMMITTED, Status.DUPLICATE)
        ]
        for problem in self.confirm(self.unconfirmed, committed):
            if problem is not None:
                raise problem

    def require_durability(self, asked: Durability) -> Durability | None:
        if asked.level == "memory":
            return None
        raise DurabilityUnavailable(
            f"this log cannot reach durability {asked}: open one on a server", expected=str(asked), actual="memory"
        )

    def confirm(self, durability: Durability, appends: Sequence[CommittedAppend]) -> list[DuramenError | None]:
        self.require_durability(durability)
        return [None] * len(appends)

    def confirmed_by(self, agent: str) -> Hashable:
        return None

    def head(self, agent: str) -> Head | None:
        return self.archive.heads([agent])[0]

    def pages(self, agent: str, from_seq: int, to_seq: int | None) -> Iterator[Page]:
        return pages_of(agent, from_seq, to_seq, partial(self.read, agent))

    def feed_page(self, partition: int, position: int, limit: int) -> FeedPage:
        return self.feed_pages([(partition, position, limit)])[0]

    def gather(self, partition: int, spans: Sequence[Span], most_bytes: int) -> list[SpanEvents]:
        return self.gather_all([(partition, spans)], most_bytes)[0] if spans else []

    def read_ahead(self, partition: int) -> ReadAhead | None:
        return None

    def lend(self, count: int) -> LentConnections | None:
        return None
