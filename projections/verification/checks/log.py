"""A check of a log: what was appended is read whole, once, in order, unchanged."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from duramen.events import EventRegistry, Limits
from duramen.events.codec import Codec
from duramen.events.feed import FeedReader
from duramen.events.log import EventLog, raw_events
from duramen.events.model import START

from ...recorded import StoredLog, portrait, read_items, store_items
from ..checking import Report, check_subject
from ..laws import Law
from ..strategies import stored_logs
from ..subject import Subject, as_projection


class ReadAsWritten(Law):
    """Reads of the log and of the feed return the events that were appended, byte for byte."""

    name: ClassVar[str] = "a log is read as it was written"

    def __init__(self, open_log: Callable[[], EventLog]) -> None:
        self._open_log = open_log

    def check(self, subject: Subject, log: StoredLog) -> None:
        store, codec = self._open_log(), Codec(Limits())
        try:
            store_items(store, log.agent, log.items, [raw[2] for raw in log.raws()])
            # Raises for the first damaged event. Digests of the log may differ from those written: it may have a key.
            digests = [digest for _, _, digest in raw_events(store, log.agent, codec)]
            found = list(read_items(store, log.agent))
            self.compare("other bytes were read than were written", portrait(list(log.items)), portrait(found))
            reader = FeedReader(store, codec, store.partition_of(log.agent), START)
            facts = [fact for fact in reader.read(len(log) + 1) if fact.agent == log.agent]
            followed = [[fact.seq, fact.raw, fact.digest] for fact in facts]
            written = [[at + 1, raw, digests[at]] for at, raw in enumerate(log.raws())]
            self.compare("the feed returns other events", portrait(written), portrait(followed))
        finally:
            store.close()


def check_log(open_log: Callable[[], EventLog], *, examples: int | None = None, seed: int | None = None) -> Report:
    """Check your own implementation or wrapper of a log: each call of `open_log` returns an empty one.

    Raises LawBroken with the smallest log that is not read as it was written.
    """
    name = getattr(open_log, "__qualname__", type(open_log).__name__)
    # A log treats all types alike: with built-in ones alone, one seed finds the same whatever classes are imported.
    builtin = EventRegistry()
    subject = Subject(name, lambda: None, builtin, as_projection)  # this law folds nothing
    return check_subject(subject, [ReadAsWritten(open_log)], stored_logs(registry=builtin), examples, seed)
