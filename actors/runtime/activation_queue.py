"""Agents that come into memory at the same time: they are looked up, read and claimed together."""

from __future__ import annotations

from collections import deque
from threading import Lock
from time import monotonic
from typing import TYPE_CHECKING, Final

from duramen.events import DuramenError
from duramen.events.log import Head, Located, Span
from duramen.events.logging import get_logger, raised_at
from duramen.projections.recovery import LoadedAgentLog

from .activation import Activation, Folded
from .runtime import Runtime

if TYPE_CHECKING:
    from ..handlers import Services

_MOST: Final = 64
"""Agents that are activated together."""
_MOST_EVENTS: Final = 500
"""Of one agent. A longer log is read from its snapshot on, which may be large."""
_MOST_BYTES: Final = 4 * 1024 * 1024
"""Of one agent's log, and of the logs that are read together."""
_MOST_SECONDS: Final = 0.05
"""How long folding may take, which runs code of the user's, before the agents that are left go on alone."""


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
        """Whether a thread is on its way to those that wait."""

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
        alone = taken
        if len(taken) > 1 and self._services.tracing is None:
            try:
                alone = self._activate_together(taken)
            except Exception as error:  # a defect, before any of them was settled
                get_logger("agent").error("not_activated_together", error=type(error).__name__, at=raised_at(error))
        for activation in alone[1:]:
            self._services.activations.submit(activation.activate)
        if alone:
            alone[0].activate()

    def _activate_together(self, activations: list[Activation]) -> list[Activation]:
        """Activate agents together; returns those that have to go their own way."""
        try:
            found = self._look_up(activations)
        except DuramenError:
            return activations
        folded: list[tuple[Activation, Folded]] = []
        failed: list[tuple[Activation, BaseException]] = []
        give_up_at = monotonic() + _MOST_SECONDS
        for activation, place, log in found:
            if monotonic() > give_up_at:
                break
            try:
                folded.append((activation, activation.fold(place.owner, log, _head_of(place))))
            except BaseException as error:  # also of the user's own code
                failed.append((activation, error))
        runtimes = self._claim(folded, failed)
        settled = {activation for activation, _ in (*runtimes, *failed)}
        self._services.dispatcher.post(lambda: _settle(runtimes, failed))
        return [activation for activation in activations if activation not in settled]

    def _look_up(self, activations: list[Activation]) -> list[tuple[Activation, Located, LoadedAgentLog]]:
        """The agents that their logs alone decide about, with their logs. Raises what reading raises."""
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


def _settle(runtimes: list[tuple[Activation, Runtime]], failed: list[tuple[Activation, BaseException]]) -> None:
    for activation, runtime in runtimes:
        activation.start(runtime)
    for activation, error in failed:
        activation.give_up(error)


def _is_short(head: Head) -> bool:
    return head.base == 0 and head.seq <= _MOST_EVENTS and head.seq * head.largest <= _MOST_BYTES


def _head_of(place: Located) -> Head:
    head = place.head
    assert head is not None, "only agents with a log are looked at together"
    return head
