"""A turn of the past: what a handler does in its replay is compared with its log, and nothing is written."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256
from typing import Any, Final, cast

from duramen.events import NewEvent, ReplayDiverged, TooLarge
from duramen.events.codec import Codec, RawEvent
from duramen.events.model import EXTERNAL, WORK_BEGUN, contents_in, log_id, same_value
from duramen.projections import AgentState
from duramen.projections.recovery import AgentLog, StateFold, rebuild
from duramen.projections.state import ASK

from ...dispatch import Envelope
from ...handlers import ActiveAgent, Turn
from .record import Stretch

_SHOWN: Final = 300


class PastAgent:
    """An agent as it was while a stretch ran; its state is read from the log only if the handler asks for it."""

    def __init__(self, runtime: ActiveAgent, agent_log: AgentLog) -> None:
        self.services = runtime.services
        self.path = runtime.path
        self.agent = runtime.agent
        self.timers = runtime.timers
        self.codec = Codec(runtime.services.limits)
        self.seq = 0
        """The seq at which the log stood."""
        self._log = agent_log
        self._fold: StateFold | None = None

    @property
    def state(self) -> AgentState:
        return self._folded().state

    @property
    def custom(self) -> Any:
        return self._folded().custom

    @custom.setter
    def custom(self, folded: Any) -> None:
        """Ignore what the handler has folded: the log is folded instead."""

    def _folded(self) -> StateFold:
        if self._fold is None:
            own = self.agent.actor_fold(self.services.registry)
            rebuilt = rebuild(self._log, fold_of=lambda _: own, to_seq=self.seq)
            self._fold = StateFold(self.path, self.services.limits, lambda _: own, rebuilt)
        elif self._fold.state.seq < self.seq:
            self._fold.apply_all(self._log.events_after(self._fold.state, self.seq))
        return self._fold


class PastTurn(Turn):
    """The turn of one recorded stretch."""

    def __init__(self, agent: PastAgent, stretch: Stretch, diverged: Callable[[ReplayDiverged], None]) -> None:
        self.runtime = cast("ActiveAgent", agent)
        self.services = agent.services
        self.codec = agent.codec
        self.agent = agent.path
        self.items = []
        self.effects = ()
        self.messages = ()
        self.envelopes = []
        self.puts = self.requires = ()
        self.due_ms = self.entry = None
        self.size = 0
        self.command = None
        self.cause = EXTERNAL
        self.undo = None
        self.before_commit = self.contents = None
        self.unconfirmed = None
        self.awaited = ()
        self.updated_at = stretch.time
        agent.seq = stretch.seq
        self._past = agent
        self._stretch = stretch
        self._diverged = diverged
        self._at = 0

    @property
    def state(self) -> AgentState:
        return self._past.state

    @state.setter
    def state(self, state: AgentState) -> None:
        """Ignore it: the state is read from the log."""

    @property
    def position(self) -> int:
        return self._past.seq

    def update_time(self) -> None:
        events = self._stretch.events
        if self._at < len(events):
            self.updated_at = events[self._at][3]

    def send(self, path: str, message: object) -> Envelope:
        return Envelope(message, wanted=False)  # it was sent then

    def emit(self, event: NewEvent) -> RawEvent:
        """Compare an event with the recorded one. Raises ReplayDiverged."""
        events, at = self._stretch.events, self._at
        data = self.codec.copy(event.data)
        if at >= len(events):
            raise self._differs("nothing more", _shown(event.type, data, self.codec))
        raw = events[at]
        if event.type == WORK_BEGUN and raw[0] == WORK_BEGUN:
            _adapt_to_older(data, raw[4])
        if (raw[0], raw[1]) != (event.type, event.version) or not same_value(raw[4], data):
            if any(contents_in(raw[4])) and not any(contents_in(data)):
                raise TooLarge(f"an event of {self.agent} was too large", agent=self.agent)  # `storing` makes it anew
            raise self._differs(_shown(raw[0], raw[4], self.codec), _shown(event.type, data, self.codec))
        self._at += 1
        self._past.seq += 1
        return raw

    def check_end(self) -> None:
        """Raise ReplayDiverged if the stretch did more then."""
        events = self._stretch.events
        if self._at < len(events):
            raise self._differs(_shown(events[self._at][0], events[self._at][4], self.codec), "nothing more")

    def _differs(self, expected: str, actual: str) -> ReplayDiverged:
        seq = self._past.seq + 1
        error = ReplayDiverged(
            f"the handler of {self.agent} did something else than its log says at {seq}: {actual} now, "
            f"{expected} in the log; go back to the code it began with and retry its work, or cancel it",
            agent=self.agent,
            seq=seq,
            expected=expected,
            actual=actual,
        )
        self._diverged(error)
        return error


def _adapt_to_older(data: dict[str, Any], logged: dict[str, Any]) -> None:
    """Change what begins something to what an earlier release would have logged, where it has."""
    if "durable" not in logged:  # from before it was noted what has to be cancelled
        data.pop("durable", None)
    if data["kind"] == ASK and logged["kind"] == ASK and log_id(logged["name"]) == data["name"]:
        data["name"] = logged["name"]  # from before logs had ids


def _shown(kind: str, data: dict[str, Any], codec: Codec) -> str:
    """What tells an event from another, without its values, which may be secrets: a digest stands for them."""
    parts = [f"{name} {data[name]}" for name in ("kind", "name", "number", "path") if data.get(name) is not None]
    digest = data.get("digest") or sha256(codec.pack(data)).digest()
    return " ".join([kind, *parts])[:_SHOWN] + f" ({digest.hex()[:8]})"
