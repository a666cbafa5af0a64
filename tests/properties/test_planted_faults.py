"""Each law of the verification kit catches a fault that was planted, and shows it in five events or fewer.

The table in docs/guide/verification.md is made of what is found here: `python tests/properties/test_planted_faults.py`
prints it anew.
"""

from __future__ import annotations

import random
import re
import sys
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, ClassVar
from urllib.request import urlopen

import pytest
from attrs import evolve, field, frozen
from hypothesis import strategies as st

from duramen.events import Event, EventRegistry, Limits, MemoryLog, event_type, upcaster
from duramen.events.codec.event_codec import Codec
from duramen.events.log.records import Page
from duramen.projections import Projection
from duramen.projections.verification import (
    BatchesDoNotMatter,
    EventsComeBackEqual,
    LawBroken,
    check,
    check_log,
    check_upcaster,
    check_values,
)

GUIDE = Path(__file__).resolve().parents[2] / "docs" / "guide" / "verification.md"
MOST_EVENTS = 5


# What is found must not depend on the classes that other tests have declared in this process.
BUILTIN = EventRegistry()

# -- sound ones, which every fault is a small change of ----------------------------------------------------------------


class Counts(Projection[Mapping[str, Any]]):
    """How often each type of event happened, by day."""

    def initial(self) -> Mapping[str, Any]:
        return {}

    def apply(self, state: Mapping[str, Any], event: Event) -> Mapping[str, Any]:
        day = event.time.date().isoformat()
        return {**state, f"{event.type} {day}": state.get(f"{event.type} {day}", 0) + 1}


# -- projections with a fault ------------------------------------------------------------------------------------------


class ByTheClock(Counts):
    def apply(self, state: Mapping[str, Any], event: Event) -> Mapping[str, Any]:
        fresh = datetime.now(UTC) - event.time < timedelta(days=7)
        return {**state, event.type: "fresh" if fresh else "old"}


class ByTheSecond(Counts):
    def apply(self, state: Mapping[str, Any], event: Event) -> Mapping[str, Any]:
        return {**state, "seen at": time.time()}


class MutatesState(Counts):
    def apply(self, state: Any, event: Event) -> Any:
        state[event.type] = state.get(event.type, 0) + 1
        return state


class MutatesEvent(Counts):
    def apply(self, state: Mapping[str, Any], event: Event) -> Mapping[str, Any]:
        event.data.pop("value", None)
        return super().apply(state, event)


class CountsOnItself(Counts):
    """Its state depends on how many events were folded since it was made: on the size of the batch."""

    def initial(self) -> Mapping[str, Any]:
        self.seen = 0
        return {}

    def apply(self, state: Mapping[str, Any], event: Event) -> Mapping[str, Any]:
        self.seen = getattr(self, "seen", 0) + 1
        return {"seen": self.seen}


class RemembersWhatItSaw(Counts):
    def __init__(self) -> None:
        self.seen: set[int] = set()

    def initial(self) -> Mapping[str, Any]:
        self.seen = set()
        return {}

    def apply(self, state: Mapping[str, Any], event: Event) -> Mapping[str, Any]:
        if event.seq in self.seen:
            return state
        self.seen.add(event.seq)
        return super().apply(state, event)


class ThrowsDice(Counts):
    def apply(self, state: Mapping[str, Any], event: Event) -> Mapping[str, Any]:
        return {**state, event.type: random.random()}


class InTheOrderOfASet(Counts):
    def initial(self) -> Any:
        return []

    def apply(self, state: Any, event: Event) -> Any:
        return list({*state, event.type, *event.data})


class AsksTheWeb(Counts):
    def apply(self, state: Mapping[str, Any], event: Event) -> Mapping[str, Any]:
        if event.type == "memory_set":
            try:
                with urlopen("http://127.0.0.1:9/", timeout=0.01):
                    pass
            except OSError:
                return state
        return state


class KeepsTuples(Counts):
    def initial(self) -> Any:
        return {"seqs": ()}

    def apply(self, state: Any, event: Event) -> Any:
        return {"seqs": (*state["seqs"], event.seq)}

    def dump(self, state: Any) -> Any:
        return {"seqs": list(state["seqs"])}


class ExpectsAText(Counts):
    def apply(self, state: Mapping[str, Any], event: Event) -> Mapping[str, Any]:
        return {**state, "last": event.data["value"].strip()} if event.type == "memory_set" else state


class NamesTooFewTypes(Counts):
    types: ClassVar[frozenset[str] | None] = frozenset(["memory_set"])


# -- events with a fault -----------------------------------------------------------------------------------------------

REGISTRY = EventRegistry()


@event_type("claim", version=2, registry=REGISTRY)
@frozen
class Claim:
    text: str
    source: str = ""


@upcaster("claim", from_version=1, registry=REGISTRY)
def drop_the_source(data: dict[str, Any]) -> dict[str, Any]:
    return {"text": data["text"]}


class LossyCodec(Codec):
    """Keeps seconds only."""

    def encode(self, event: list[Any]) -> tuple[bytes, dict[str, Any]]:
        return super().encode([*event[:3], event[3] // 1_000_000 * 1_000_000, *event[4:]])


def tuples_as_lists(value: Any) -> Any:
    """What a codec gives back that takes tuples."""

    def listed(inner: Any) -> Any:
        if type(inner) in (tuple, list):
            return [listed(one) for one in inner]
        return {key: listed(one) for key, one in inner.items()} if type(inner) is dict else inner

    codec = Codec(Limits())
    return codec.unpack(codec.pack(listed(value)))


# -- logs with a fault -------------------------------------------------------------------------------------------------


class BadLog(MemoryLog):
    """Reads what stands in it, but for one place."""

    def read(self, agent: str, from_seq: int, limit: int, **options: Any) -> Page | None:
        page = super().read(agent, 1, 500, **options)
        if page is None:
            return None
        items = self.spoilt(list(page.items))
        return evolve(page, first_seq=from_seq, items=items[from_seq - 1 :][:limit])

    def spoilt(self, items: list[bytes]) -> list[bytes]:
        raise NotImplementedError


class Drops(BadLog):
    def spoilt(self, items: list[bytes]) -> list[bytes]:
        return items[:1] + items[2:]


class Duplicates(BadLog):
    def spoilt(self, items: list[bytes]) -> list[bytes]:
        return items[:2] + items[1:]


class Swaps(BadLog):
    def spoilt(self, items: list[bytes]) -> list[bytes]:
        return items[:1] + items[1:3][::-1] + items[3:]


class Alters(BadLog):
    def spoilt(self, items: list[bytes]) -> list[bytes]:
        return [item.replace(b"memory_set", b"memory_sat") for item in items]


# -- the table ---------------------------------------------------------------------------------------------------------


@frozen
class Planted:
    what: str
    find: Callable[[], object]
    law: str
    sound: Callable[[], object] = field(default=lambda: check(Counts, registry=BUILTIN, seed=1, examples=20))
    """The same check of something without the fault."""


def the(projection: type[Counts]) -> Callable[[], object]:
    return lambda: check(projection, registry=BUILTIN, seed=1)


OLD = {"text": st.text(max_size=3), "source": st.text(max_size=3)}

PLANTED = [
    Planted("a projection that uses the clock", the(ByTheClock), "replay does not look at the clock"),
    Planted("a projection that stores the time of day", the(ByTheSecond), "replay does not look at the clock"),
    Planted("a projection that mutates its state", the(MutatesState), "apply changes neither state nor event"),
    Planted("a projection that mutates the event", the(MutatesEvent), "apply changes neither state nor event"),
    Planted(
        "an `apply` that depends on batch size",
        lambda: check(CountsOnItself, laws=[BatchesDoNotMatter()], registry=BUILTIN, seed=1),  # others notice it, too
        "batch boundaries do not matter",
    ),
    Planted(
        "a projection that keeps what it saw on itself",
        the(RemembersWhatItSaw),
        "what is delivered again changes nothing",
    ),
    Planted("a projection that throws dice", the(ThrowsDice), "replaying again gives the same"),
    Planted("a projection in the order of a set", the(InTheOrderOfASet), "another process comes to the same"),
    Planted("a projection that asks a server", the(AsksTheWeb), "replay does not act"),
    Planted("a state that is stored as another type", the(KeepsTuples), "stored state plus the rest gives the same"),
    Planted("a projection that expects a text", the(ExpectsAText), "every event is taken"),
    Planted(
        "a projection that names too few types",
        the(NamesTooFewTypes),
        "events of other types than it names change nothing",
    ),
    Planted(
        "an upcaster that drops a field",
        lambda: check_upcaster(Claim, 1, OLD, registry=REGISTRY, seed=1),
        "upcasted equals native",
        lambda: check_upcaster(Claim, 1, OLD, changed=["source"], registry=REGISTRY, seed=1),
    ),
    Planted(
        "a codec that turns tuples to lists",
        lambda: check_values(tuples_as_lists, seed=1),
        "what is written comes back equal, or is refused",
        lambda: check_values(seed=1),
    ),
    Planted(
        "a codec that keeps only seconds",
        lambda: check(Counts, laws=[EventsComeBackEqual(lambda: LossyCodec(Limits()))], registry=BUILTIN, seed=1),
        "events come back equal",
    ),
    *[
        Planted(
            f"{what} event in a stored log",
            partial(check_log, log, seed=1),
            "a log is read as it was written",
            lambda: check_log(MemoryLog, seed=1, examples=20),
        )
        for what, log in {
            "a dropped": Drops,
            "a duplicated": Duplicates,
            "a swapped": Swaps,
            "an altered": Alters,
        }.items()
    ],
]


def found(planted: Planted) -> LawBroken:
    with pytest.raises(LawBroken) as raised:
        planted.find()
    return raised.value


@pytest.mark.parametrize("planted", PLANTED, ids=lambda planted: planted.what)
def test_a_planted_fault_is_found_and_shown_in_five_events_or_fewer(planted: Planted) -> None:
    broken = found(planted)
    assert broken.law == planted.law
    assert len(broken.log or ()) <= MOST_EVENTS
    assert row_of(planted, broken) in GUIDE.read_text(encoding="utf-8")


def test_without_the_fault_nothing_is_found() -> None:
    """A control: a check that always finds something would say as little as one that never does."""
    for sound in {planted.sound for planted in PLANTED}:
        sound()


def row_of(planted: Planted, broken: LawBroken) -> str:
    """As it stands in the guide."""
    if broken.log is None:
        example = f"`{broken.example}`"
    else:
        example = "<br>".join(f"`{line.strip().removesuffix(',')}`" for line in broken.log.code().splitlines()[1:-1])
    return f"| {planted.what} | {broken.law} | {example} |"


def test_no_row_of_the_guide_is_of_a_fault_that_is_gone() -> None:
    table = GUIDE.read_text(encoding="utf-8").partition("## Faults")[2]
    rows = re.findall(r"^\| (an? [^|]*) \|", table, re.MULTILINE)
    assert rows == [planted.what for planted in PLANTED]


if __name__ == "__main__":
    for one in PLANTED:
        sys.stdout.write(row_of(one, found(one)) + "\n")
