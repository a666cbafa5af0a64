"""Fold recorded logs with today's code and compare; where they differ, show it in as few events as possible."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from attrs import evolve, frozen

from duramen.events import CorruptEvent, DuramenError, EventRegistry, Limits
from duramen.events.codec import DIGEST_SIZE, NO_DIGEST, PLAIN, Codec, RawEvent, decode_items
from duramen.events.log import EventLog
from duramen.events.model import DECLARED, OWN_TYPES, same_value

from ..projection import Projection, fold
from ..state import AgentState, Op, advance, apply_ops
from .as_code import began_with, items_of
from .portrait import portrait
from .recorded_state import differing, part_of, view_of
from .recording import RecordedLog
from .sealing import bodies_of, read_items, sealed_bodies
from .segments import StoredStates
from .shrinking import items_about, shrink_items
from .stored_log import StoredLog

__all__ = ["Difference", "ReplayReport", "check_replay", "recorded_in", "smaller", "take"]

_REMEMBERED: Final = 10_000
_OFTEN: Final = 10_000

_REFUSALS: Final = (DuramenError, ValueError, TypeError, KeyError, IndexError)
"""What an event raises that cannot be read, or does not fit the state before it."""

ERROR: Final = "error"
STATE: Final = "state"
VIEW: Final = "view"


@frozen
class Difference:
    """Where today's code comes to something else than was recorded.

    `kind` is `error` (an event cannot be read or folded; `actual` is the error), `state` (of the agent, after `seq`) or
    `view` (of the projection `name`, after the last event). `expected` and `actual` are portraits. `log` shows it: the
    log up to `seq`, or after `smaller` a short one; it is None where the stored bytes are damaged.
    """

    kind: str
    seq: int
    expected: str
    actual: str
    name: str = ""
    log: StoredLog | None = None
    change: list[Op] | None = None
    """What the last event of `log` changed when it was recorded."""
    state: dict[str, Any] | None = None
    """What of the view differs, as it was recorded after `log`."""
    names: tuple[str, ...] = ()
    """What differs, as `part_of` takes it."""


@frozen
class ReplayReport:
    """What came of one recorded log."""

    agent: str
    events: int
    differences: tuple[Difference, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether today's code comes to what was recorded."""
        return not self.differences


def check_replay(
    recorded: RecordedLog,
    *,
    registry: EventRegistry = DECLARED,
    projections: Mapping[str, Projection[Any]] | None = None,
    progress: Callable[[int], object] | None = None,
) -> ReplayReport:
    """Fold a recorded log and compare: each digest with the one stored, each state that was recorded, each view.

    Ends at the first difference of the log itself. `projections` are those whose views were recorded, by name.
    `progress` is called with the number of events done, every 10,000 of them. Event types that are not registered are
    not looked into. Damaged bytes, missing upcasters and what else is wrong with the log are differences: nothing is
    raised for them.
    """
    agent, base = recorded.agent, recorded.base
    run = _Fold(recorded, registry)
    before, digest = (0, NO_DIGEST) if base is None else (base.seq, base.digest)
    done = 0
    try:
        for seq, raw, own in decode_items(agent, recorded.items, Codec(Limits()), PLAIN, after=before, digest=digest):
            found = run.step(seq, raw, own)
            done = seq - before
            if found is not None:
                return ReplayReport(agent, done, (found,))
            if progress is not None and done % _OFTEN == 0:
                progress(done)
    except CorruptEvent as error:
        return ReplayReport(agent, done + 1, (Difference(ERROR, before + done + 1, "an event", _told(error)),))
    return ReplayReport(agent, done, tuple(_views(recorded, registry, projections or {})))


def recorded_in(log: EventLog, agent: str, limits: Limits | None = None) -> RecordedLog:
    """An agent's log as a store has it, with states that were stored on the way, those that are of today's form.

    These are the state of its latest snapshot, and of a long log some of its keyframes. Where it was trimmed, or is a
    fork, it begins with the state at its base. Raises AgentNotFound, Trimmed (the base is of another form, or moved
    meanwhile) and what reading raises; a snapshot or base that is damaged, CorruptEvent.
    """
    past = StoredStates(log, agent, limits or Limits())
    states = {state.seq: view_of(state) for state in past.states()}
    items = list(read_items(log, agent, after=past.base.seq if past.base else 0))
    return RecordedLog(agent, items, states=states, base=past.base)


class _Fold:
    """Today's state beside the recorded one."""

    def __init__(self, recorded: RecordedLog, registry: EventRegistry) -> None:
        self._recorded = recorded
        self._registry = registry
        base = recorded.base
        self._state = AgentState() if base is None else AgentState.load(Codec(Limits()).copy(base.dump()))
        self._expected = view_of(self._state)
        self._changes = recorded.changes if base is None else None
        self._states = recorded.states

    def step(self, seq: int, raw: RawEvent, digest: bytes) -> Difference | None:
        try:
            if raw[0] not in OWN_TYPES:
                _read_as_its_type(raw, self._registry)
            advance(self._state, raw, digest, _REMEMBERED)
        except _REFUSALS as error:
            return Difference(ERROR, seq, "an event that fits", _told(error), log=self._until(seq))
        changes, states = self._changes, self._states
        if changes is None:
            return self._compare(seq, states[seq], None) if seq in states else None
        return self._compare(seq, self._changed_by(changes[seq - 1]), changes[seq - 1])

    def _changed_by(self, change: list[Op]) -> dict[str, Any]:
        apply_ops(self._expected, change)
        return self._expected

    def _compare(self, seq: int, expected: dict[str, Any], change: list[Op] | None) -> Difference | None:
        actual = view_of(self._state)
        if same_value(expected, actual):
            return None
        names = tuple(differing(expected, actual))
        return Difference(
            STATE,
            seq,
            portrait(part_of(expected, names)),
            portrait(part_of(actual, names)),
            log=self._until(seq),
            change=change,
            state=part_of(expected, names),
            names=names,
        )

    def _until(self, seq: int) -> StoredLog:
        """The log up to here; what a base holds is put into a session that begins with it."""
        recorded, base = self._recorded, self._recorded.base
        if base is None:
            return StoredLog(tuple(recorded.items[:seq]), recorded.agent, self._registry)
        (began,) = items_of([began_with(base)])
        bodies = [began[DIGEST_SIZE:], *bodies_of(recorded.items[: seq - base.seq])]
        return StoredLog(tuple(sealed_bodies(bodies)), recorded.agent, self._registry)


def take(state: AgentState, raw: RawEvent, digest: bytes, registry: EventRegistry) -> None:
    """Let an event change a state, after its type has said that it can be read. Raises what either raises."""
    if raw[0] not in OWN_TYPES:
        _read_as_its_type(raw, registry)
    advance(state, raw, digest, _REMEMBERED)


def _read_as_its_type(raw: RawEvent, registry: EventRegistry) -> None:
    if registry.has_type(raw[0]):
        registry.load(raw[0], raw[1], raw[4])


def _views(
    recorded: RecordedLog, registry: EventRegistry, projections: Mapping[str, Projection[Any]]
) -> list[Difference]:
    found: list[Difference] = []
    log = StoredLog(tuple(recorded.items), recorded.agent, registry)
    for name, projection in projections.items():
        expected = recorded.views.get(name, "no view of this name was recorded")
        try:
            actual = portrait(fold(projection, log.events()))
        except Exception as error:  # of the projection's own
            actual = _told(error)
        if actual != expected:
            found.append(Difference(VIEW, len(log), expected, actual, name, log))
    return found


def _told(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"


# -- making it smaller -------------------------------------------------------------------------------------------------


def smaller(found: Difference) -> Difference:
    """The same difference shown by as short a log as can be found.

    An error: the same error at the same type of event. A state: the event after which it differs stays the last one,
    and what it changed when it was recorded is what it should change here. Where only states at some seqs were
    recorded, events that have nothing to do with the items that differ are left out. A view stays as it is: nobody
    knows what it should be after fewer events.
    """
    log = found.log
    if log is None or found.kind == VIEW:
        return found
    if found.kind == ERROR:
        wanted = _error_of(log, log.items)
        return _with_log(found, shrink_items(log.items, lambda items: _error_of(log, items) == wanted))
    if found.change is None:
        return _sliced(found, log)
    change, last = found.change, log.items[-1][DIGEST_SIZE:]

    def differs(items: Sequence[bytes]) -> bool:
        states = _states_of(log, items, change)
        return items[-1][DIGEST_SIZE:] == last and states is not None and not same_value(*states)

    items = shrink_items(log.items, differs)
    states = _states_of(log, items, change)
    if states is None:
        return found
    names = tuple(differing(*states))
    expected, actual = (part_of(state, names) for state in states)
    return Difference(
        STATE, len(items), portrait(expected), portrait(actual), "", _log(log, items), change, expected, names
    )


def _sliced(found: Difference, log: StoredLog) -> Difference:
    """Without the events of other items, if that is all that differs and it still does."""
    names = [name.removeprefix("memory/") for name in found.names if name.startswith("memory/")]
    if len(names) < len(found.names):
        return found
    shorter = _with_log(found, items_about(log.items, log.raws(), names))
    view = _view_of(shorter.log) if shorter.log else None
    return shorter if view is not None and portrait(part_of(view, found.names)) == found.actual else found


def _view_of(log: StoredLog) -> dict[str, Any] | None:
    state = AgentState()
    try:
        for raw, item in zip(log.raws(), log.items, strict=True):
            take(state, raw, item[:DIGEST_SIZE], log.registry)
    except _REFUSALS:
        return None
    return view_of(state)


def _states_of(
    log: StoredLog, items: Sequence[bytes], change: list[Op]
) -> tuple[dict[str, Any], dict[str, Any]] | None:
    """The view that the last event should lead to, and the one it leads to; None where it does not fit."""
    state = AgentState()
    shorter = _log(log, items)
    raws = shorter.raws()
    try:
        for raw, item in zip(raws[:-1], items, strict=False):
            take(state, raw, item[:DIGEST_SIZE], log.registry)
        expected = view_of(state)
        apply_ops(expected, change)
        take(state, raws[-1], items[-1][:DIGEST_SIZE], log.registry)
    except _REFUSALS:
        return None
    return expected, view_of(state)


def _error_of(log: StoredLog, items: Sequence[bytes]) -> tuple[type[Exception], str] | None:
    """Which error the last event raises, and its type; None if an earlier one does, or none."""
    state = AgentState()
    raws = _log(log, items).raws()
    for at, raw in enumerate(raws):
        try:
            take(state, raw, items[at][:DIGEST_SIZE], log.registry)
        except _REFUSALS as error:
            return (type(error), raw[0]) if at == len(raws) - 1 else None
    return None


def _with_log(found: Difference, items: Sequence[bytes]) -> Difference:
    log = found.log
    assert log is not None, "only what shows a log can be made smaller"
    return evolve(found, seq=len(items), log=_log(log, items))


def _log(log: StoredLog, items: Sequence[bytes]) -> StoredLog:
    return StoredLog(tuple(items), log.agent, log.registry)
