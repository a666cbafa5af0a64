"""What the timeline of one agent is drawn from: one pass over its log, kept up to date, bounded in memory."""

from __future__ import annotations

import threading
from array import array
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, Final, cast

from attrs import Factory, define, field, frozen

from duramen.events import DuramenError, Granularity
from duramen.events.codec import RawEvent
from duramen.events.logging import get_logger
from duramen.events.model import vocabulary as v
from duramen.projections.history import TracedState, traced_base, traced_states
from duramen.projections.recovery import AgentLog, LogNames
from duramen.projections.state import ASK

WINDOW: Final = 200
"""Events between two states that a page begins from."""
_MOST_FRAMES: Final = 128
_MOST_RECENT: Final = 16
_MOST_MARKS: Final = 100_000
"""Of one lane. What comes after is not marked."""
_MOST_INDEXES: Final = 8
_LABEL: Final = 80
_CALL: Final = "tool_call"
_OUTPUT: Final = "tool_output"
_WORK: Final = (v.WORK_BEGUN, v.WORK_CONTINUED, v.WORK_DONE, v.WORK_GIVEN_UP, v.WORK_PARKED)
_ROLES: Final = ("user", "assistant")


@define
class TimelineMark:
    """Something to see at a seq: its kind within the lane, a label, and for what lasts the seq of its end."""

    seq: int
    kind: str
    label: str = ""
    end: int = 0


@define(eq=False)
class LogIndex:
    """Times and marks of one agent's events, and some of its states. Methods are thread-safe."""

    agent_log: AgentLog
    base: int
    times: array[int] = field(factory=lambda: array("q"))
    """Of each event after `base`, in µs."""
    lanes: dict[str, list[TimelineMark]] = field(
        factory=lambda: {"lifecycle": [], "messages": [], "tools": [], "errors": []}
    )
    failed: DuramenError | None = None
    """Why the log cannot be read further."""
    _frames: list[TracedState] = field(factory=list[TracedState])
    _recent: OrderedDict[int, TracedState] = field(factory=OrderedDict[int, TracedState])
    """The states that windows have begun from, and those between, by seq."""
    _recent_lock: threading.Lock = field(factory=threading.Lock)
    _spacing: int = WINDOW
    _last: TracedState | None = None
    _open_calls: OrderedDict[str, TimelineMark] = field(factory=OrderedDict[str, TimelineMark])
    _lock: threading.Lock = field(factory=threading.Lock)
    _names: LogNames = field(default=Factory(lambda self: LogNames(self.agent_log.log), takes_self=True))

    @property
    def seq(self) -> int:
        """The last event that is in it."""
        return self.base + len(self.times)

    def extend(self, is_cancelled: Callable[[], bool]) -> None:
        """Read what the log has more. A damaged event ends it: what was before can still be looked at."""
        with self._lock:
            try:
                if self._last is None:
                    self._last = traced_base(self.agent_log)
                    self._frames.append(self._last)
                for raw, traced in traced_states(self.agent_log, self._last, None):
                    self._add(raw, traced)
                    if is_cancelled():
                        return
            except DuramenError as error:
                self.failed = error

    def frame_before(self, seq: int) -> TracedState | None:
        """The last state held that is no later than `seq`."""
        frames = self._frames
        at = bisect_right(frames, seq, key=lambda frame: frame.seq)
        frame = frames[at - 1] if at else None
        with self._recent_lock:
            recent = self._recent.get(max((known for known in self._recent if known <= seq), default=0))
        return recent if recent is not None and (frame is None or frame.seq < recent.seq) else frame

    def remember(self, traced: TracedState) -> None:
        """Hold a state where a window begins, with all its setters: those before and after it are asked for next."""
        if traced.seq % WINDOW == 0:
            with self._recent_lock:
                self._recent[traced.seq] = traced
                if len(self._recent) > _MOST_RECENT:
                    self._recent.popitem(last=False)

    def _add(self, raw: RawEvent, traced: TracedState) -> None:
        self._last = traced
        seq = traced.seq
        if seq % self._spacing == 0:
            self._frames.append(traced)
            if len(self._frames) > _MOST_FRAMES:
                self._spacing *= 2
                self._frames = [self._frames[0], *(f for f in self._frames[1:] if f.seq % self._spacing == 0)]
        self._mark(seq, raw[0], raw[2], raw[4])
        self.times.append(raw[3])

    def _mark(self, seq: int, kind: str, level: int, data: Any) -> None:
        if kind in (v.PAUSED, v.FAILED):
            label = data["checkpoint_id"] if kind == v.PAUSED else data.get("error")
            self._put("lifecycle", TimelineMark(seq, "checkpoint" if kind == v.PAUSED else kind, _label(label)))
            if kind == v.FAILED:
                self._put("errors", TimelineMark(seq, kind, _label(label)))
        elif kind in _WORK:
            self._mark_work(seq, kind, data)
        elif kind == v.ACTIVITY_RECORDED:
            self._mark_activity(seq, data["kind"], data["data"])
        elif kind in (v.MEMORY_APPENDED, v.MEMORY_SET):
            values = data["values"] if kind == v.MEMORY_APPENDED else [data["value"]]
            for value in values[:WINDOW]:
                role = _field(value, "role")
                if role in _ROLES:
                    self._put("messages", TimelineMark(seq, role, _label(_field(value, "content"))))
        elif level == Granularity.LIFECYCLE:
            self._put("lifecycle", TimelineMark(seq, kind))

    def _mark_activity(self, seq: int, kind: str, data: Any) -> None:
        call_id = _field(data, "tool_call_id")
        if kind == _CALL:
            mark = TimelineMark(seq, "call", _label(_field(data, "tool")))
            self._put("tools", mark)
            if type(call_id) is str:
                self._open(call_id, mark)
        elif kind == _OUTPUT:
            opened = self._open_calls.get(call_id) if type(call_id) is str else None
            if opened is None:
                opened = TimelineMark(seq, "call", _label(_field(data, "tool")))
                self._put("tools", opened)
            else:
                del self._open_calls[call_id]
            opened.end = seq
            if is_failure(data):
                opened.kind = "failed"
                self._put("errors", TimelineMark(seq, "tool", opened.label))

    def _mark_work(self, seq: int, kind: str, data: Any) -> None:
        """Steps and waits of durable handlers, from where they begin to their result; what is parked is an error."""
        key = f"{data['work']} {data.get('number')}"
        if kind == v.WORK_BEGUN:
            name = self._names.path(data["name"]) if data["kind"] == ASK else data["name"]
            mark = TimelineMark(seq, data["kind"], _label(name))
            self._put("tools", mark)
            self._open(key, mark)
        elif kind == v.WORK_PARKED:
            self._put("errors", TimelineMark(seq, "parked", f"work {data['work']}"))
        elif (opened := self._open_calls.pop(key, None)) is not None:
            opened.end = seq
            if data.get("error"):
                opened.kind = "failed"
                self._put("errors", TimelineMark(seq, "step", opened.label))

    def _open(self, key: str, mark: TimelineMark) -> None:
        self._open_calls[key] = mark
        if len(self._open_calls) > WINDOW:
            self._open_calls.popitem(last=False)

    def _put(self, lane: str, mark: TimelineMark) -> None:
        marks = self.lanes[lane]
        if len(marks) < _MOST_MARKS:
            marks.append(mark)


def is_failure(output: Any) -> bool:
    """Whether the record of a tool's output, or a message of a tool, says that the tool has failed."""
    if _field(output, "error") or _field(output, "is_error") is True:
        return True
    result = _field(output, "result") or _field(output, "content")
    return type(result) is str and result[:6].lower() == "error:"


def _field(data: Any, name: str) -> Any:
    return cast("dict[str, Any]", data).get(name) if type(data) is dict else None


def _label(value: object) -> str:
    return " ".join(value[:_LABEL].split()) if type(value) is str else ""


@frozen
class IndexProgress:
    """An index, and whether it has all that the log had at the time of the question."""

    index: LogIndex
    is_complete: bool


class LogIndexes:
    """The indexes of the agents that were looked at last. Thread-safe."""

    def __init__(self) -> None:
        self._workers = ThreadPoolExecutor(2, "duramen-inspector-index")
        self._held: OrderedDict[str, tuple[LogIndex, Any]] = OrderedDict()
        self._lock = threading.Lock()
        self._closed = False

    def of(self, agent_log: AgentLog, wait: float) -> IndexProgress:
        """The index of an agent, which is brought up to date in the background; waits for it up to `wait` seconds.

        Raises AgentNotFound.
        """
        head = agent_log.head()
        with self._lock:
            index, work = self._held.pop(agent_log.agent, (None, None))
            if index is None or index.base != head.base or index.seq > head.seq:
                index, work = LogIndex(agent_log.of(agent_log.agent), head.base), None
            if (work is None or work.done()) and index.seq < head.seq and index.failed is None:
                work = self._workers.submit(self._extend, index)
            self._held[agent_log.agent] = index, work
            if len(self._held) > _MOST_INDEXES:
                self._held.popitem(last=False)
        if work is not None and wait > 0:
            with suppress(TimeoutError):
                work.result(wait)
        return IndexProgress(index, index.seq >= head.seq or index.failed is not None)

    def _extend(self, index: LogIndex) -> None:
        try:
            index.extend(lambda: self._closed)
        except Exception as error:
            get_logger("inspector").warning("log_not_indexed", error=type(error).__name__)

    def close(self) -> None:
        """End what runs. Idempotent."""
        self._closed = True
        self._workers.shutdown(cancel_futures=True)
