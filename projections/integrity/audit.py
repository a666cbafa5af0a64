"""An audit of what is stored of one agent: its events, its head and its snapshots."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from time import time_ns
from typing import Any, Final, cast

from attrs import frozen

from duramen.events import Content, CorruptEvent, Limits, Trimmed
from duramen.events.codec import (
    CONTENT_MARK,
    DIGEST_SIZE,
    Codec,
    RawEvent,
    SnapshotRecord,
    decode_body,
    unpack_snapshot,
)
from duramen.events.log import EventLog, Raw, SmallAgent, load_content
from duramen.events.model import EPISODE_RECORDED, FORKED, PAUSED, contents_in, count_of, same_value

from ..recovery import SETTERS_SCHEMA, AgentLog, FoldOf, Rebuilt, StateFold, load_base
from ..state import SCHEMA, AgentState, due_of_agent, is_of_log, name_log
from .damage import Kind, classify_damage
from .partition_audit import AuditedAgent
from .problem import Problem

_PAGE: Final = 500
_KNOWN: Final = 1_000
_TRIES: Final = 5
_MARGIN: Final = 60_000_000
"""How far, in µs, the clocks of processes and of the server may be apart when a checkpoint expires."""


class AuditStopped(Exception):
    """Raised by the progress callback to end an audit."""


@frozen(eq=False, repr=False)
class _Snapshot:
    """A snapshot to compare with the fold at its seq."""

    name: str
    seq: int
    load: Callable[[], bytes | None]


class Audit:
    """The audit of one agent. `progress` gets the number of events checked since its last call; it may raise.

    `small` is what was just read of the agent, if it was: without damage nothing else is read.
    """

    def __init__(
        self,
        log: EventLog,
        agent: str,
        limits: Limits,
        fold_of: FoldOf | None,
        progress: Callable[[int], None],
        *,
        small: SmallAgent | None = None,
    ) -> None:
        self._small = small
        self._log = log
        self._agent = agent
        self._limits = limits
        self._codec = Codec(limits)
        self._fold_of = fold_of
        self._progress = progress
        self._problems: list[Problem] = []
        self._levels = bytearray()
        self._episodes: set[int] = set()
        self._forked_at: int | None = None
        self._contents: dict[Content, int] = {}
        """The contents that events refer to, each with the seq of the first one."""
        self.events = 0
        """How many events are as they were written."""
        self.audited: AuditedAgent | None = None
        """What the events say about the rest of the partition; None if they are damaged."""

    def run(self) -> list[Problem]:
        """Return all problems; of the events only the first, since nothing after it can be judged.

        A running agent is audited up to the head read at the start. Raises what a lost server raises, and nothing for
        damage.
        """
        for _ in range(_TRIES):
            self._problems, self.events, self.audited = [], 0, None
            self._levels, self._episodes, self._forked_at = bytearray(), set(), None
            self._contents = {}
            snapshots = self._list_snapshots()
            before = self._log.archive.raw(self._agent, 0, 1) if self._small is None else self._small.raw
            self._check(before, snapshots)
            if not self._problems:
                break
            if self._small is not None:
                self._small = None  # what it shows is looked at once more
                continue
            after = self._log.archive.raw(self._agent, 0, 1)
            # A trim or takeover in between looks like damage: audit again until the head stands still.
            if (after.head, after.length) == (before.head, before.length):
                break
        return self._problems

    # -- head and events -------------------------------------------------------------------------------------------

    def _check(self, raw: Raw, snapshots: list[_Snapshot]) -> None:
        head = raw.head
        if raw.length < 0:
            self._report(None, Kind.MISSING, "a list", "something else", "its key holds no list of events")
            return
        if head is None:
            what = "damaged" if raw.head_is_damaged else "missing"
            self._report(None, Kind.HEAD, "a head", what, f"its head is {what}")
            return
        if head.seq < head.base or head.base < 0:
            self._report(head.seq, Kind.HEAD, head.base, head.seq, "its head ends before it begins")
            return
        start = self._load_start(head.base)
        if start is None:
            return
        fold = StateFold(self._agent, self._limits, self._fold_of, start)
        first, state = fold.state.seq + 1, fold.state
        self._note_contents(state.dump(), state.seq)
        if self._check_events(raw, fold, snapshots) and self._check_end(raw, fold):
            self._check_checkpoints(state)
            self._check_contents()
            entry = state.directory_line(self._codec)
            ours = is_of_log(state, name_log(self._log.identity, self._agent))
            due = due_of_agent(state) if ours and state.expires_after is None else -1
            episodes = frozenset(self._episodes)
            self.audited = AuditedAgent(state.seq, entry, first, bytes(self._levels), episodes, self._forked_at, due)
        for left in snapshots:
            if left.seq > fold.state.seq and self._unpack(left) is not None and left.seq > head.seq:
                self._report_snapshot(left, head.seq, left.seq, "stands after the last event")

    def _load_start(self, base: int) -> Rebuilt | None:
        if base == 0:
            return Rebuilt(StateFold(self._agent, self._limits, None).state, None, 0)
        try:
            found = load_base(AgentLog(self._log, self._agent, self._limits, codec=self._codec))
        except Trimmed as error:
            self._report(base, Kind.SNAPSHOT, SCHEMA, "another form", str(error))
            return None
        except CorruptEvent:
            found = None
        if found is None or found.state.seq < base:
            self._report(base, Kind.SNAPSHOT, base, None, "the state at its base is missing or damaged")
            return None
        return Rebuilt(found.state, found.custom, found.state.seq)

    def _check_events(self, raw: Raw, fold: StateFold, snapshots: list[_Snapshot]) -> bool:
        """Check all events in order; False if one is damaged."""
        assert raw.head is not None
        waiting = deque(sorted(snapshots, key=lambda snapshot: snapshot.seq))
        digest_of, state = self._log.chain.digest, fold.state
        known = deque[bytes]([fold.state.digest], _KNOWN)
        for at, items in self._pages(raw):
            for number, stored in enumerate(items):
                seq = state.seq + 1
                if digest_of(state.digest, stored[DIGEST_SIZE:]) != stored[:DIGEST_SIZE]:
                    self._report_break(raw, at + number, state.digest, list(known))
                    return False
                event = self._decode(seq, stored[DIGEST_SIZE:])
                if event is not None and CONTENT_MARK in stored:
                    self._note_contents(event, seq)
                if event is None or not self._fold(fold, event, stored[:DIGEST_SIZE]):
                    return False
                known.append(state.digest)
                while waiting and waiting[0].seq <= seq:
                    self._check_snapshot(waiting.popleft(), fold)
            self.events += len(items)
            self._progress(len(items))
        return True

    def _pages(self, raw: Raw) -> Iterator[tuple[int, list[bytes]]]:
        assert raw.head is not None
        at, most = 0, raw.head.seq - raw.head.base
        if self._small is not None:
            if raw.items:
                yield 0, raw.items[:most]
            return
        while at < most:
            items = self._log.archive.raw(self._agent, at, min(_PAGE, most - at)).items
            if not items:
                return
            yield at, items
            at += len(items)

    def _report_break(self, raw: Raw, at: int, previous: bytes, known: list[bytes]) -> None:
        assert raw.head is not None
        first = max(0, at - 1)
        around = self._log.archive.raw(self._agent, first, _KNOWN).items
        ends = first + len(around) >= raw.length
        short = raw.head.seq - raw.head.base - raw.length
        found = classify_damage(
            around,
            at - first,
            previous,
            known,
            chain=self._log.chain,
            end=raw.head.digest if ends else None,
            short=short,
        )
        words = {
            Kind.CHANGED: "its bytes are not those that were written",
            Kind.MISSING: f"{count_of(short, 'event')} missing, from here or before the next one that fits",
            Kind.REORDERED: "another event of this log stands here",
            Kind.DUPLICATED: "it stands here once more",
            Kind.FOREIGN: "what stands here is not of this log",
        }
        self._report(raw.head.base + at + 1, found.kind, found.expected, found.actual, words[found.kind])

    def _check_end(self, raw: Raw, fold: StateFold) -> bool:
        """Compare the end of an unbroken list of events with the head; False if they differ."""
        head, state = raw.head, fold.state
        assert head is not None
        if state.seq < head.seq:
            missing = head.seq - state.seq
            self._report(
                state.seq + 1, Kind.MISSING, head.seq, state.seq, f"{count_of(missing, 'event')} missing at the end"
            )
        elif state.digest != head.digest:
            self._report(
                head.seq, Kind.HEAD, state.digest.hex(), head.digest.hex(), "its head names another last event"
            )
        elif raw.length > head.seq - head.base and not self._is_consistent(head.seq):
            surplus = raw.length - (head.seq - head.base)
            self._report(
                head.seq + 1,
                Kind.FOREIGN,
                head.seq,
                head.base + raw.length,
                f"{count_of(surplus, 'event')} after the last one",
            )
        else:
            return True
        return False

    def _is_consistent(self, seq: int) -> bool:
        """Whether head and list agree when read at one moment; the audit reads them one after the other."""
        try:
            self._log.read(self._agent, max(1, seq), 1)
        except CorruptEvent:
            return False
        except Trimmed:  # since the audit began
            return True
        return True

    def _decode(self, seq: int, body: bytes) -> RawEvent | None:
        try:
            return decode_body(self._agent, seq, body, self._codec)
        except CorruptEvent as error:
            self._report(seq, Kind.FOREIGN, "an event", "other bytes", str(error))
            return None

    def _fold(self, fold: StateFold, event: RawEvent, digest: bytes) -> bool:
        if event[0] == PAUSED:
            self._check_checkpoint(fold, event)
        try:
            fold.apply_leniently(event, digest)
        except CorruptEvent as error:
            self._report(error.seq, Kind.FOREIGN, "an event that fits", event[0], str(error))
            return False
        self._levels.append(event[2])
        if event[0] == FORKED:
            self._forked_at = fold.state.seq
        if event[0] == EPISODE_RECORDED:
            self._episodes.add(fold.state.seq)
        return True

    # -- contents --------------------------------------------------------------------------------------------------

    def _note_contents(self, value: Any, seq: int) -> None:
        for content in contents_in(value):
            self._contents.setdefault(content, seq)

    def _check_contents(self) -> None:
        """Load and check all content that the events refer to."""
        for content, seq in self._contents.items():
            try:
                load_content(self._log.contents, self._agent, content)
            except CorruptEvent as error:
                detail = f"{content} that it refers to is {'missing' if error.actual is None else 'damaged'}"
                self._report(seq, Kind.CONTENT, error.expected, error.actual, detail)

    # -- snapshots -------------------------------------------------------------------------------------------------

    def _list_snapshots(self) -> list[_Snapshot]:
        """List the automatic snapshot, the keyframes and the setters beside them."""
        log, agent, small = self._log, self._agent, self._small
        seqs = log.archive.keyframes(agent) if small is None else small.keyframes
        found = [_Snapshot("keyframe", seq, partial(log.archive.keyframe, agent, seq)) for seq in seqs]
        found += [_Snapshot("keyframe's setters", seq, partial(log.archive.setters, agent, seq)) for seq in seqs]
        stored = log.load([log.snapshot_key(agent)])[0] if small is None else small.snapshot
        if stored is not None:
            found.append(_Snapshot("snapshot", _claimed_seq(stored, self._codec), lambda: stored))
        return found

    def _check_checkpoint(self, fold: StateFold, event: RawEvent) -> None:
        """Compare the checkpoint of a pause, unless it has expired or a later pause replaced it."""
        seq = fold.state.seq
        name = event[4].get("checkpoint_id")
        if type(name) is not str:
            return
        snapshot = self._checkpoint(name, seq)
        record = self._unpack(snapshot)
        if record is not None and record.seq == seq:
            self._compare_state(snapshot, record, fold)

    def _checkpoint(self, name: str, seq: int) -> _Snapshot:
        key = self._log.checkpoint_key(self._agent, name)
        return _Snapshot(f"checkpoint {name[:80]!r}", seq, lambda: self._log.load([key])[0])

    def _check_checkpoints(self, state: AgentState) -> None:
        """Find the checkpoints that are gone before their time, or of another history."""
        soon = time_ns() // 1_000 + _MARGIN
        for name, entry in state.checkpoints.items():
            seq, expires, digest = entry[0], entry[3], entry[5]
            snapshot = self._checkpoint(name, seq - 1)
            record = self._unpack(snapshot)
            if record is not None and (record.seq, record.digest) != (seq - 1, digest):
                self._report_snapshot(snapshot, digest.hex(), record.digest.hex(), "was taken of another history")
            elif record is None and (expires is None or expires > soon) and snapshot.load() is None:
                self._report_snapshot(snapshot, "a snapshot", None, "is missing")

    def _check_snapshot(self, snapshot: _Snapshot, fold: StateFold) -> None:
        record = self._unpack(snapshot)
        if record is None:
            return
        if snapshot.seq != fold.state.seq or record.seq != snapshot.seq:
            if snapshot.seq >= fold.state.seq:
                self._report_snapshot(snapshot, snapshot.seq, record.seq, "stands at another seq than it says")
            return  # it is older than the base, and never used
        self._compare_state(snapshot, record, fold)

    def _unpack(self, snapshot: _Snapshot) -> SnapshotRecord | None:
        stored = snapshot.load()
        if stored is None:
            return None
        try:
            return unpack_snapshot(stored, self._agent, self._codec, self._limits, self._log.chain)
        except CorruptEvent:
            self._report_snapshot(snapshot, "a whole snapshot", f"{len(stored)} bytes", "is damaged")
            return None

    def _compare_state(self, snapshot: _Snapshot, record: SnapshotRecord, fold: StateFold) -> None:
        """Report a snapshot that is not the fold of the events up to it. One of another schema cannot be compared."""
        if record.schema not in (SCHEMA, SETTERS_SCHEMA):
            return
        state = fold.state
        if record.digest != state.digest:
            self._report_snapshot(snapshot, state.digest.hex(), record.digest.hex(), "was taken of another history")
            return
        if record.schema == SETTERS_SCHEMA:
            return  # what they say of each value would take a fold of its own
        held = self._codec.copy({**state.dump(), "granularity": int(state.granularity)})
        fits = same_value(record.state.get("agent"), held)
        if fold.reads(record.state.get("custom_version")):
            fits = fits and same_value(record.state.get("custom"), self._codec.copy(fold.custom))
        if not fits:
            self._report_snapshot(snapshot, "the fold", "another state", "is not the fold of the events up to it")

    def _report_snapshot(self, snapshot: _Snapshot, expected: Any, actual: Any, detail: str) -> None:
        text = f"its {snapshot.name} {detail}"
        if not any(known.detail == text and known.seq == snapshot.seq for known in self._problems):
            self._report(snapshot.seq, Kind.SNAPSHOT, expected, actual, text)

    def _report(self, seq: int | None, kind: Kind, expected: Any, actual: Any, detail: str) -> None:
        self._problems.append(Problem(self._agent, seq, kind, expected, actual, detail))


def _claimed_seq(stored: bytes, codec: Codec) -> int:
    """The seq that a snapshot claims, unchecked; 0 where it has none."""
    try:
        fields = codec.unpack(stored[DIGEST_SIZE:])
    except CorruptEvent:
        return 0
    row = cast("list[Any]", fields) if type(fields) is list else []
    seq = row[2] if len(row) > 2 else 0
    return seq if type(seq) is int and seq > 0 else 0
