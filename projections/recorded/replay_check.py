"""A replay check: fold recorded logs with today's code, compare, and show a difference in few events."""

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
from .as_code import items_of, spawn_row
from .portrait import portrait
from .recorded_state import list_differences, part_of, view_of
from .recording import RecordedLog
from .sealing import chain_bodies, read_items, strip_digests
from .segments import StoredStates
from .shrinking import keep_events_about, shrink_items
from .stored_log import StoredLog

_REMEMBERED: Final = 10_000
_OFTEN: Final = 10_000

_REFUSALS: Final = (DuramenError, ValueError, TypeError, KeyError, IndexError)
"""Errors of an event that cannot be read, or does not fit the state before it."""

ERROR: Final = "error"
STATE: Final = "state"
VIEW: Final = "view"


@frozen
class Difference:
    """A difference between what was recorded and what today's code makes of the log.

    `kind` is `error` (an event cannot be read or folded; `actual` is the error), `state` (of the agent, after `seq`) or
    `view` (of the projection `name`, after the last event). `expected` and `actual` are portraits. `log` is the log up
    to `seq`, or after `smaller` a short one; None where the stored bytes are damaged.
    """

    kind: str
    seq: int
    expected: str
    actual: str
    name: str = ""
    log: StoredLog | None = None
    change: list[Op] | None = None
    """The change that the last event of `log` made when it was recorded."""
    state: dict[str, Any] | None = None
    """The parts of the view that differ, as recorded after `log`."""
    names: tuple[str, ...] = ()
    """The names of these parts, as `part_of` takes them."""


@frozen
class ReplayReport:
    """The result of checking one recorded log."""

    agent: str
    events: int
    differences: tuple[Difference, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether today's code reproduces what was recorded."""
        return not self.differences


def check_replay(
    recorded: RecordedLog,
    *,
    registry: EventRegistry = DECLARED,
    projections: Mapping[str, Projection[Any]] | None = None,
    progress: Callable[[int], object] | None = None,
) -> ReplayReport:
    """Fold a recorded log and compare each digest, each recorded state, and each view.

    Ends at the first difference of the log itself. `projections` are those whose views were recorded, by name.
    `progress` is called with the number of events done, every 10,000 events. The data of unregistered event types is
    not checked. Damaged bytes, missing upcasters and other faults of the log are differences, not errors.
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
        return ReplayReport(
            agent, done + 1, (Difference(ERROR, before + done + 1, "an event", _describe_error(error)),)
        )
    return ReplayReport(agent, done, tuple(_views(recorded, registry, projections or {})))


def recorded_in(log: EventLog, agent: str, limits: Limits | None = None) -> RecordedLog:
    """Read an agent's log from a store, with the states that were stored along it in today's form.

    These are its latest snapshot, and some keyframes of a long log. A trimmed log, or a fork, begins with the state at
    its base. Raises AgentNotFound, Trimmed (the base has another form, or has moved since), CorruptEvent for a damaged
    snapshot or base, and what reading raises.
    """
    past = StoredStates(log, agent, limits or Limits())
    states = {state.seq: view_of(state) for state in past.states()}
    items = list(read_items(log, agent, after=past.base.seq if past.base else 0))
    return RecordedLog(agent, items, states=states, base=past.base)


class _Fold:
    """The fold of today's code, compared with the recorded states."""

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
            apply_event(self._state, raw, digest, self._registry)
        except _REFUSALS as error:
            return Difference(ERROR, seq, "an event that fits", _describe_error(error), log=self._until(seq))
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
        names = tuple(list_differences(expected, actual))
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
        """The log up to `seq`; a base becomes a session that begins with its working memory."""
        recorded, base = self._recorded, self._recorded.base
        if base is None:
            return StoredLog(tuple(recorded.items[:seq]), recorded.agent, self._registry)
        (began,) = items_of([spawn_row(base)])
        bodies = [began[DIGEST_SIZE:], *strip_digests(recorded.items[: seq - base.seq])]
        return StoredLog(tuple(chain_bodies(bodies)), recorded.agent, self._registry)


def apply_event(state: AgentState, raw: RawEvent, digest: bytes, registry: EventRegistry) -> None:
    """Load an event as its registered type, then apply it to a state. Raises what either raises."""
    if raw[0] not in OWN_TYPES and registry.has_type(raw[0]):
        registry.load(raw[0], raw[1], raw[4])
    advance(state, raw, digest, _REMEMBERED)


def _views(
    recorded: RecordedLog, registry: EventRegistry, projections: Mapping[str, Projection[Any]]
) -> list[Difference]:
    found: list[Difference] = []
    log = StoredLog(tuple(recorded.items), recorded.agent, registry)
    for name, projection in projections.items():
        expected = recorded.views.get(name, "no view of this name was recorded")
        try:
            actual = portrait(fold(projection, log.events()))
        except Exception as error:  # raised by the projection
            actual = _describe_error(error)
        if actual != expected:
            found.append(Difference(VIEW, len(log), expected, actual, name, log))
    return found


def _describe_error(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"


# -- making it smaller -------------------------------------------------------------------------------------------------


def smaller(found: Difference) -> Difference:
    """Show the same difference with the shortest log that was found.

    The log of an error still ends with that error, at the same type of event. The log of a state still ends with the
    event that changed the state differently when it was recorded. Where only states at some seqs were recorded, events
    of items that do not differ are left out. A view's log stays whole: its state after fewer events is unknown.
    """
    log = found.log
    if log is None or found.kind == VIEW:
        return found
    if found.kind == ERROR:
        wanted = _last_error(log, log.items)
        return _replace_items(found, shrink_items(log.items, lambda items: _last_error(log, items) == wanted))
    if found.change is None:
        return _leave_out_others(found, log)
    change, last = found.change, log.items[-1][DIGEST_SIZE:]

    def differs(items: Sequence[bytes]) -> bool:
        states = _last_states(log, items, change)
        return items[-1][DIGEST_SIZE:] == last and states is not None and not same_value(*states)

    items = shrink_items(log.items, differs)
    states = _last_states(log, items, change)
    if states is None:
        return found
    names = tuple(list_differences(*states))
    expected, actual = (part_of(state, names) for state in states)
    return Difference(
        STATE, len(items), portrait(expected), portrait(actual), "", _log(log, items), change, expected, names
    )


def _leave_out_others(found: Difference, log: StoredLog) -> Difference:
    """Leave out events of other items, if only items differ and still do."""
    names = [name.removeprefix("memory/") for name in found.names if name.startswith("memory/")]
    if len(names) < len(found.names):
        return found
    shorter = _replace_items(found, keep_events_about(log.items, log.raws(), names))
    view = _view_of(shorter.log) if shorter.log else None
    return shorter if view is not None and portrait(part_of(view, found.names)) == found.actual else found


def _view_of(log: StoredLog) -> dict[str, Any] | None:
    state = AgentState()
    try:
        for raw, item in zip(log.raws(), log.items, strict=True):
            apply_event(state, raw, item[:DIGEST_SIZE], log.registry)
    except _REFUSALS:
        return None
    return view_of(state)


def _last_states(
    log: StoredLog, items: Sequence[bytes], change: list[Op]
) -> tuple[dict[str, Any], dict[str, Any]] | None:
    """The view expected after the last event, and the actual one; None where an event does not fit."""
    state = AgentState()
    shorter = _log(log, items)
    raws = shorter.raws()
    try:
        for raw, item in zip(raws[:-1], items, strict=False):
            apply_event(state, raw, item[:DIGEST_SIZE], log.registry)
        expected = view_of(state)
        apply_ops(expected, change)
        apply_event(state, raws[-1], items[-1][:DIGEST_SIZE], log.registry)
    except _REFUSALS:
        return None
    return expected, view_of(state)


def _last_error(log: StoredLog, items: Sequence[bytes]) -> tuple[type[Exception], str] | None:
    """The type of the error that the last event raises, and the event's type; None if another event raises, or none."""
    state = AgentState()
    raws = _log(log, items).raws()
    for at, raw in enumerate(raws):
        try:
            apply_event(state, raw, items[at][:DIGEST_SIZE], log.registry)
        except _REFUSALS as error:
            return (type(error), raw[0]) if at == len(raws) - 1 else None
    return None


def _replace_items(found: Difference, items: Sequence[bytes]) -> Difference:
    log = found.log
    assert log is not None, "only a difference with a log can be made smaller"
    return evolve(found, seq=len(items), log=_log(log, items))


def _log(log: StoredLog, items: Sequence[bytes]) -> StoredLog:
    return StoredLog(tuple(items), log.agent, log.registry)
