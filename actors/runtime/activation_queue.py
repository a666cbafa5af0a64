"""Agents that come into memory at the same time: they are looked up, read and claimed together."""

from __future__ import annotations

from collections import deque
from functools import partial
from threading import Lock
from typing import TYPE_CHECKING, Final

from duramen.events import DuramenError
from duramen.events.log import Head, Located, Span
from duramen.events.logging import get_logger, raised_at
from duramen.projections.recovery import LoadedAgentLog

from .activation import Activation, Folded
from .active import Runtime

if TYPE_CHECKING:
    from ..handlers import Services

_MOST: Final = 64
"""Agents that are activated together."""
_MOST_EVENTS: Final = 500
"""Events of one agent. A longer log is read from its snapshot on, which may be large."""
_MOST_BYTES: Final = 4 * 1024 * 1024
"""Bytes of one agent's log, and of the logs that are read together."""
_MOST_SECONDS: Final = 0.05
"""Seconds that folding, which runs code of the user's, may take before the other agents go on alone."""

_Found = tuple[Activation, Located, LoadedAgentLog]
"""An agent whose log is all that its activation needs."""


class ActivationQueue:
    """Has agents activated in worker threads: all that wait when a thread comes to it, in one go.

    So the server is asked three times for up to 64 agents, and not for each. An agent goes its own way where more than
    its log decides, where its log is long, and where anything fails: the error is its own. Thread-safe.
    """

    def __init__(self, services: Services) -> None:
        self._services = services
        self._lock = Lock()
        self._waiting: deque[Activation] = deque()
        self._is_submitted = False
        """Whether a worker thread was asked for and has not taken the waiting agents yet."""

    def add(self, activation: Activation) -> None:
        """Have an agent activated; called in the core. Raises RuntimeError where the machine gives no thread."""
        with self._lock:
            self._waiting.append(activation)
            is_submitted, self._is_submitted = self._is_submitted, True
        if not is_submitted:
            try:
                self._services.activations.submit(self._run)
            except BaseException:
                with self._lock:
                    self._is_submitted = False
                    self._waiting.remove(activation)  # the only one: others wait for a thread that there is
                raise

    def _run(self) -> None:
        with self._lock:
            taken = [self._waiting.popleft() for _ in range(min(_MOST, len(self._waiting)))]
            self._is_submitted = bool(self._waiting)
        if self._is_submitted:
            self._services.activations.submit(self._run)
        found = self._find_together(taken)
        together = {activation for activation, _, _ in found}
        alone = [activation for activation in taken if activation not in together]
        self._activate_alone(alone if found else alone[1:])
        if found:
            self._fold(found)
        elif alone:
            alone[0].activate()

    def _find_together(self, activations: list[Activation]) -> list[_Found]:
        """The agents whose logs are all that their activation needs; none if each has to be activated alone."""
        if len(activations) < 2 or self._services.tracing is not None:
            return []
        try:
            return self._look_up(activations)
        except DuramenError:
            return []
        except Exception as error:  # a defect
            get_logger("agent").error("not_activated_together", error=type(error).__name__, at=raised_at(error))
            return []

    def _activate_alone(self, activations: list[Activation]) -> None:
        for activation in activations:
            self._services.activations.submit(activation.activate)

    def _fold(self, found: list[_Found]) -> None:
        """Fold agents one after another, which runs code of the user's, and claim all of them at its end.

        Where that takes its time, the others do not wait: it may wait for one of them.
        """
        group = _Group(found)
        timer = self._services.timers.call_later(_MOST_SECONDS, partial(self._relieve, group))
        while (begun := group.begin()) is not None:
            activation, place, log = begun
            outcome: Folded | BaseException
            try:
                outcome = activation.fold(place.owner, log, _head_of(place))
            except BaseException as error:  # also of the user's own code
                outcome = error
            if not group.end(activation, outcome):
                self._finish([(activation, outcome)])
                return
        timer.cancel()
        self._finish(group.take()[0])

    def _relieve(self, group: _Group) -> None:
        """Let the others of a group go on without the one that is folded; in the timers' thread."""
        done, left = group.take()
        if done:
            self._services.activations.submit(partial(self._finish, done))
        self._activate_alone(left)

    def _finish(self, done: list[tuple[Activation, Folded | BaseException]]) -> None:
        """Claim what was folded, and have it handle its messages; fail those of what was not."""
        folded = [(activation, outcome) for activation, outcome in done if isinstance(outcome, Folded)]
        failed = [(activation, outcome) for activation, outcome in done if not isinstance(outcome, Folded)]
        try:
            runtimes = self._claim(folded, failed)
        except Exception as error:  # a defect
            get_logger("agent").error("not_activated_together", error=type(error).__name__, at=raised_at(error))
            runtimes = []
        works = [partial(activation.start, runtime) for activation, runtime in runtimes]
        works += [partial(activation.give_up, error) for activation, error in failed]
        self._services.dispatcher.post_and_run(works, waits=False)
        settled = {activation for activation, _ in (*runtimes, *failed)}
        self._activate_alone([activation for activation, _ in done if activation not in settled])

    def _look_up(self, activations: list[Activation]) -> list[_Found]:
        """The agents whose logs are all that their activation needs, with these logs. Raises what reading raises."""
        services = self._services
        places = services.hosting.store.locate_all([activation.path for activation in activations])
        chosen = [
            (activation, place)
            for activation, place in zip(activations, places, strict=True)
            if place.head is not None and _is_short(place.head) and activation.is_here(place)
        ]
        requests: dict[int, list[Span]] = {}
        for activation, place in chosen:
            span = Span(activation.path, 1, _head_of(place).seq)
            requests.setdefault(services.log.partition_of(activation.path), []).append(span)
        read = services.log.gather_all(list(requests.items()), _MOST_BYTES)
        items = {
            span.agent: events.items
            for spans, found in zip(requests.values(), read, strict=True)
            for span, events in zip(spans, found, strict=False)
            if len(events.items) == span.count
        }
        return [
            (activation, place, self._loaded(activation.path, items[activation.path]))
            for activation, place in chosen
            if activation.path in items
        ]

    def _loaded(self, path: str, items: list[bytes]) -> LoadedAgentLog:
        services = self._services
        return LoadedAgentLog(
            services.log, path, services.limits, services.registry, first_seq=1, items=items, stored_snapshot=None
        )

    def _claim(
        self, folded: list[tuple[Activation, Folded]], failed: list[tuple[Activation, BaseException]]
    ) -> list[tuple[Activation, Runtime]]:
        """The agents that were claimed; adds to those that have failed."""
        services, runtimes = self._services, list[tuple[Activation, Runtime]]()
        claims = [(activation.path, found.owner, found.head) for activation, found in folded]
        try:
            answers = services.hosting.store.claim_all(claims, services.owner, services.now())
        except DuramenError:  # each asks again, and recognises its own claim
            return []
        for (activation, found), answer in zip(folded, answers, strict=True):
            try:
                runtime = activation.claimed(found, answer)
            except Exception as error:
                failed.append((activation, error))
                continue
            if runtime is not None:
                runtimes.append((activation, runtime))
        return runtimes


class _Group:
    """Agents that one thread folds one after another, until it has folded all, or the others are taken from it."""

    def __init__(self, found: list[_Found]) -> None:
        self._lock = Lock()
        self._left = deque(found)
        self._done: list[tuple[Activation, Folded | BaseException]] = []
        self._is_taken = False

    def begin(self) -> _Found | None:
        """The next one; None if there is none."""
        with self._lock:
            return self._left.popleft() if self._left else None

    def end(self, activation: Activation, outcome: Folded | BaseException) -> bool:
        """Keep the result of one; False if the others were taken meanwhile: then the caller goes on with it."""
        with self._lock:
            if not self._is_taken:
                self._done.append((activation, outcome))
            return not self._is_taken

    def take(self) -> tuple[list[tuple[Activation, Folded | BaseException]], list[Activation]]:
        """Take the results, and the agents that were not begun. A second call gets nothing."""
        with self._lock:
            done, left = self._done, [activation for activation, _, _ in self._left]
            self._done, self._is_taken = [], True
            self._left.clear()
        return done, left


def _is_short(head: Head) -> bool:
    return head.base == 0 and head.seq <= _MOST_EVENTS and head.seq * head.largest <= _MOST_BYTES


def _head_of(place: Located) -> Head:
    head = place.head
    assert head is not None, "only agents with a log are looked at together"
    return head
