"""The laws of a fold within one process."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any, ClassVar

from duramen.events import DuramenError, Event, Limits, MemoryLog
from duramen.events.codec import Codec, build_event
from duramen.events.feed import FeedReader
from duramen.events.model import START, check_value, same_value

from ...projection import Projection, fold
from ...recorded import StoredLog, portrait, store_items
from ..subject import Subject, dumps
from .frozen_clock import EARLIER, LATER, freeze_clock
from .law import Law, NotChecked, folded
from .side_effects import watch_side_effects


class TakesEveryEvent(Law):
    """A projection gets every event, also of types it does not know, and must not raise."""

    name: ClassVar[str] = "every event is taken"

    def check(self, subject: Subject, log: StoredLog) -> None:
        fold(subject.make(), log.events())


class ChangesNothingItIsGiven(Law):
    """`apply` mutates neither the state before nor the event, and `initial` returns a new object."""

    name: ClassVar[str] = "apply changes neither state nor event"

    def check(self, subject: Subject, log: StoredLog) -> None:
        projection = subject.make()
        state = projection.initial()
        untouched = portrait(state)
        for event in log.events():
            before, given = portrait(state), portrait(event)
            after = projection.apply(state, event)
            self.compare(f"the event at seq {event.seq} was changed", given, portrait(event))
            self.compare(f"the state before seq {event.seq} was changed", before, portrait(state))
            state = after
        self.compare("initial() gives what earlier events have changed", untouched, portrait(projection.initial()))


class ReplaysTheSame(Law):
    """A fold has no random numbers and no state outside its state."""

    name: ClassVar[str] = "replaying again gives the same"

    def check(self, subject: Subject, log: StoredLog) -> None:
        events = log.events()
        first = folded(subject, events)
        self.compare("a fresh one folded the same events to something else", first, folded(subject, log.events()))
        projection = subject.make()
        fold(projection, events)
        again = portrait(fold(projection, log.events()))
        self.compare("the same one folded the same events to something else the second time", first, again)


class NeedsNoClock(Law):
    """A replay years later gives the same state: times come from events."""

    name: ClassVar[str] = "replay does not look at the clock"

    def check(self, subject: Subject, log: StoredLog) -> None:
        with freeze_clock(EARLIER, subject.classes):
            early = folded(subject, log.events())
            if early != folded(subject, log.events()):
                return  # the fold differs without the clock: another law reports it
        with freeze_clock(LATER, subject.classes):
            late = folded(subject, log.events())
        self.compare("with the clock at another time it folded the same events to something else", early, late)


class ActsOnNothing(Law):
    """A replay opens no file or socket, starts no program or thread, and does not sleep."""

    name: ClassVar[str] = "replay does not act"

    def check(self, subject: Subject, log: StoredLog) -> None:
        fold(subject.make(), log.events())  # lazy imports happen here
        events, projection = log.events(), subject.make()
        with watch_side_effects() as seen:
            fold(projection, events)
        if seen:
            raise self.broken("while it folded, Python saw it act", "nothing", ", ".join(sorted(set(seen))))


class BatchesDoNotMatter(Law):
    """Events may be split into batches for several calls and processes without changing the state."""

    name: ClassVar[str] = "batch boundaries do not matter"

    def opened(self, subject: Subject) -> AbstractContextManager[object]:
        if subject.single:
            raise NotChecked("an instance was given; give the class, so that fresh ones can be made")
        return nullcontext()

    def check(self, subject: Subject, log: StoredLog) -> None:
        events = log.events()
        whole = folded(subject, events)
        state = subject.make().initial()
        for event in events:
            rest = portrait(fold(subject.make(), events[event.seq - 1 :], state))
            self.compare(f"a fresh one that went on at seq {event.seq} came to something else", whole, rest)
            state = subject.make().apply(state, event)
        self.compare("a fresh one for each event came to something else", whole, portrait(state))


class SnapshotPlusRest(Law):
    """A state that was stored and loaded is equal, and later events lead to the same state from it."""

    name: ClassVar[str] = "stored state plus the rest gives the same"

    def check(self, subject: Subject, log: StoredLog) -> None:
        events, codec = log.events(), Codec(Limits())
        writer = subject.make()
        whole = portrait(fold(writer, events))
        state = writer.initial()
        for at in range(len(events) + 1):
            reader = subject.make()
            loaded = reader.load(self._stored(writer, state, codec))
            self.compare(f"the state after seq {at} was loaded as another one", portrait(state), portrait(loaded))
            rest = portrait(fold(reader, events[at:], loaded))
            self.compare(f"from the state stored after seq {at} it came to something else", whole, rest)
            state = writer.apply(state, events[at]) if at < len(events) else state

    def _stored(self, projection: Projection[Any], state: Any, codec: Codec) -> Any:
        data = projection.dump(state)
        if not dumps(projection) and not _is_plain(data):
            raise NotChecked("its state is not plain data, and there is no dump and load to make it so")
        check_value(data, Limits(), "the state")
        stored = codec.unpack(codec.pack(data))
        if not same_value(stored, data):
            raise self.broken("what dump gives does not come back equal", portrait(data), portrait(stored))
        return stored


class DeliveredAgainIsTheSame(Law):
    """A consumer that dies between reading and saving gets events again, with the state before them."""

    name: ClassVar[str] = "what is delivered again changes nothing"

    def check(self, subject: Subject, log: StoredLog) -> None:
        store, codec = MemoryLog(partitions=1), Codec(Limits())
        store_items(store, log.agent, log.items, [raw[2] for raw in log.raws()])
        whole = folded(subject, log.events())
        for size in (1, 3):
            projection, mark = subject.make(), START
            state = projection.initial()
            while True:
                batches = [self._read(FeedReader(store, codec, 0, mark), size, log) for _ in range(2)]
                (lost, _), (events, mark) = batches
                fold(projection, lost, state)  # this state is not saved
                state = fold(projection, events, state)
                if not events:
                    break
            self.compare("read twice through a cursor, events came to something else", whole, portrait(state))

    def _read(self, reader: FeedReader, most: int, log: StoredLog) -> tuple[list[Event], Any]:
        facts = reader.read(most)
        return [build_event(fact.agent, fact.seq, fact.raw, fact.digest, log.registry) for fact in facts], reader.mark


class OnlyItsTypes(Law):
    """A projection that names event types comes to the same state without the others."""

    name: ClassVar[str] = "events of other types than it names change nothing"

    def opened(self, subject: Subject) -> AbstractContextManager[object]:
        if subject.make().types is None:
            raise NotChecked("it names no types, so it is given all")
        return nullcontext()

    def check(self, subject: Subject, log: StoredLog) -> None:
        events, types = log.events(), subject.make().types or frozenset()
        wanted = [event for event in events if event.type in types]
        self.compare("without events of other types", folded(subject, wanted), folded(subject, events))


class AgreesWith(Law):
    """The subject agrees with a model: a slow and simple fold, or an older release."""

    name: ClassVar[str] = "it agrees with the model"

    def __init__(self, model: Subject) -> None:
        self._model = model

    def check(self, subject: Subject, log: StoredLog) -> None:
        self.compare("the model says otherwise", folded(self._model, log.events()), folded(subject, log.events()))


def _is_plain(state: object) -> bool:
    try:
        check_value(state, Limits())
    except DuramenError:
        return False
    return True
