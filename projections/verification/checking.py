"""`check`: every law of a projection, on generated logs."""

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
from .search import examples_wanted, find_smallest, is_inside_check
from .strategies import OwnFields, Types, is_whole, stored_logs
from .subject import Subject, subject_of

_MOST_TRIES: Final = 200

C = TypeVar("C", bound=type[Any])


@frozen
class Report:
    """The laws that held on all `examples` logs, and why others were not checked."""

    subject: str
    held: tuple[str, ...]
    not_checked: dict[str, str] = field(factory=dict[str, str])
    examples: int = 0


def projection_laws() -> list[Law]:
    """The laws of a projection, in the order in which they are checked."""
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

    All laws are checked on `examples` logs (default: `DURAMEN_VERIFY_EXAMPLES`, or 100). The logs have events of the
    `types` in `registry`, see `instances`; `logs` replaces this strategy (see `stored_logs`). The same `seed` draws the
    same logs; without a seed they differ each time, unless the hypothesis profile derandomizes.

    Raises LawBroken with the smallest log found that breaks a law, and InvalidMessage for a subject that cannot be
    checked. Laws in the report's `not_checked` were not checked.
    """
    made = stored_logs(registry, types, fields=fields) if logs is None else logs
    chosen = projection_laws() if laws is None else laws
    return check_subject(subject_of(subject, registry), chosen, made, examples, seed)


def verified(**arguments: Any) -> Callable[[C], C]:
    """`check` as a class decorator, with its arguments: the module cannot be imported while a law is broken.

    Meant for examples and tests: a program should not spend its start on checks.
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
    """Check laws on a subject, as `check` does."""
    if is_inside_check():
        return Report(subject.name, (), {law.name: "the process that has imported this checks it" for law in laws})
    run = _Run(subject)
    with ExitStack() as opened:
        run.open(laws, opened)
        found = find_smallest(logs, run.broken, examples, seed)
        if found is not None:
            raise run.smaller(found)
    held = tuple(law.name for law in run.laws)
    return Report(subject.name, held, run.not_checked, examples_wanted(examples))


class _Run:
    """The laws of one check. Once a law is broken, only that one is checked on smaller logs."""

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
        """The verdict on the log without events it does not need: hypothesis cannot leave out single events."""

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
    """The row at the default time, without a command."""
    changes = row[2] if len(row) == 3 else {}
    return row[0], row[1], {name: changes[name] for name in changes if name in ("version", "level")}
