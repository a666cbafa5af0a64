"""One line checks something of the user's: every law, on logs that are made up until one breaks it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any, Final, TypeVar

from attrs import evolve, field, frozen
from hypothesis.strategies import SearchStrategy

from duramen.events import EventRegistry
from duramen.events.model import DECLARED

from ..recorded import Row, StoredLog, items_of, rows_of, shrink_items
from .law_broken import LawBroken
from .laws import (
    ActsOnNothing,
    BatchesDoNotMatter,
    ChangesNothingItIsGiven,
    DeliveredAgainIsTheSame,
    EventsComeBackEqual,
    Law,
    NeedsNoClock,
    NotChecked,
    OnlyItsTypes,
    ReplaysTheSame,
    SameInAnotherProcess,
    SnapshotPlusRest,
    TakesEveryEvent,
)
from .search import examples_wanted, smallest
from .strategies import OwnFields, Types, is_whole, stored_logs
from .subject import Subject, subject_of

__all__ = ["Report", "check", "check_subject", "projection_laws", "verified"]

_MOST_TRIES: Final = 200

C = TypeVar("C", bound=type[Any])


@frozen
class Report:
    """What was checked: names of the laws that held on all `examples` logs, and why others were not checked."""

    subject: str
    held: tuple[str, ...]
    not_checked: dict[str, str] = field(factory=dict[str, str])
    examples: int = 0


def projection_laws() -> list[Law]:
    """The laws of a projection, in the order in which a log is tried on them."""
    return [
        EventsComeBackEqual(),
        TakesEveryEvent(),
        ChangesNothingItIsGiven(),
        NeedsNoClock(),
        ActsOnNothing(),
        ReplaysTheSame(),
        BatchesDoNotMatter(),
        SnapshotPlusRest(),
        DeliveredAgainIsTheSame(),
        OnlyItsTypes(),
        SameInAnotherProcess(),
    ]


def check(
    subject: Any,
    *,
    laws: Sequence[Law] | None = None,
    logs: SearchStrategy[StoredLog] | None = None,
    registry: EventRegistry = DECLARED,
    types: Types | None = None,
    fields: OwnFields | None = None,
    examples: int | None = None,
    seed: int | None = None,
) -> Report:
    """Check a `Projection` or `KeyedProjection`: its class, a function that makes one, or an instance.

    All laws are tried on `examples` logs (100, or what `DURAMEN_VERIFY_EXAMPLES` says). The logs have events of the
    `types` in `registry`, see `instances`; `logs` gives them instead (`stored_logs`). The same `seed` draws the
    same logs; without one they are new ones each time, unless the hypothesis profile derandomizes.

    Raises LawBroken with the smallest log that was found to break a law, and InvalidMessage for what cannot be
    checked at all. What the report has in `not_checked` has not been looked at.
    """
    made = stored_logs(registry, types, fields=fields) if logs is None else logs
    chosen = projection_laws() if laws is None else laws
    return check_subject(subject_of(subject, registry), chosen, made, examples, seed)


def verified(**arguments: Any) -> Callable[[C], C]:
    """`check` as a decorator of a class, with its arguments: the module cannot be imported while a law is broken.

    For examples and tests; a program that is run has better things to do when it starts.
    """

    def checked(decorated: C) -> C:
        check(decorated, **arguments)
        return decorated

    return checked


def check_subject(
    subject: Subject,
    laws: Sequence[Law],
    logs: SearchStrategy[StoredLog],
    examples: int | None = None,
    seed: int | None = None,
) -> Report:
    """Check laws on a subject; `check` for those who have a subject."""
    run = _Run(subject)
    with ExitStack() as opened:
        run.open(laws, opened)
        found = smallest(logs, run.broken, examples, seed)
        if found is not None:
            raise run.smaller(found)
    held = tuple(law.name for law in run.laws)
    return Report(subject.name, held, run.not_checked, examples_wanted(examples))


class _Run:
    """The laws of one check. Once one is broken only that one is asked, so that a smaller log shows the same."""

    def __init__(self, subject: Subject) -> None:
        self.subject = subject
        self.laws: list[Law] = []
        self.not_checked: dict[str, str] = {}
        self._blamed: Law | None = None
        self._verdicts: dict[tuple[bytes, ...], LawBroken] = {}

    def open(self, laws: Sequence[Law], opened: ExitStack) -> None:
        for law in laws:
            try:
                opened.enter_context(law.opened(self.subject))
            except NotChecked as reason:
                self.not_checked[law.name] = str(reason)
            else:
                self.laws.append(law)

    def broken(self, log: StoredLog) -> bool:
        for law in [self._blamed] if self._blamed else list(self.laws):
            verdict = self._ask(law, log)
            if verdict is not None:
                self._blamed = law
                self._verdicts[log.items] = verdict
                return True
        return False

    def smaller(self, log: StoredLog) -> LawBroken:
        """The verdict on the log without the events that it does not need, which hypothesis cannot leave out by one."""

        def differs(items: list[bytes]) -> bool:
            shorter = evolve(log, items=tuple(items))
            return is_whole(shorter) and self.broken(shorter)

        items = shrink_items(log.items, differs, most_tries=_MOST_TRIES)
        usual = items_of(map(_plainer, rows_of(evolve(log, items=tuple(items)).raws())))
        shown = usual if differs(usual) else items
        return self._verdicts.get(tuple(shown)) or self._verdicts[log.items]

    def _ask(self, law: Law, log: StoredLog) -> LawBroken | None:
        try:
            return law.verdict(self.subject, log)
        except NotChecked as reason:
            self.not_checked[law.name] = str(reason)
            self.laws.remove(law)
            return None


def _plainer(row: Row) -> Row:
    """At the usual time, and nobody's command."""
    changes = row[2] if len(row) == 3 else {}
    return row[0], row[1], {name: changes[name] for name in changes if name in ("version", "level")}
