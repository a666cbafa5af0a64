"""The parts of a system, put together in one place, and closed in one order."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from time import monotonic
from typing import Any, Final

from duramen.events import EventRegistry, Limits, SystemClosed
from duramen.events.codec import Codec
from duramen.events.log import EventLog
from duramen.events.logging import get_logger
from duramen.projections.recovery import FoldCache, LogNames

from ..commands import Serializer, Supervisor
from ..dispatch import (
    ActorRegistry,
    Confirmer,
    Dispatcher,
    EventLoop,
    Journal,
    Mailbox,
    Runnable,
    ThreadPool,
    Timers,
)
from ..handlers import AgentFactory, LifecycleHooks, OutputSender, Services, Settings, Trimmer
from ..hosts import Placement
from ..runtime import Activation, ActivationQueue, Passivation
from ..work import WorkFinder
from .episode_store import EpisodeStore
from .hosting import HostedSystem
from .outputs import OutputTails

_MOST_WORKERS: Final = 2_048
_MOST_ACTIVATIONS: Final = 16
_CHECK_SECONDS: Final = 0.25
"""Between two looks whether the hosts whose replies are waited for live."""
_RELEASE_SECONDS: Final = 1.0
"""Between two releases of the trees that have left memory."""

CALLBACK_SECONDS: Final = 5.0
"""How long callbacks of subscriptions may take at the end, and leaving the other hosts."""


class SystemParts:
    """What runs the agents of one system. Holds neither the system, which may be dropped, nor its open store."""

    def __init__(
        self,
        system: weakref.ref[Any],
        log: EventLog,
        *,
        agents: dict[str, AgentFactory],
        registry: EventRegistry,
        limits: Limits,
        settings: Settings,
        is_client: bool,
        placement: Placement,
    ) -> None:
        self._log = log
        self._limits = limits
        self._settings = settings
        self.journal = Journal(log, limits)
        self._dispatcher = Dispatcher(self.journal)
        self._timers = Timers()
        self._activations = ThreadPool("activation", _MOST_ACTIVATIONS)
        self._serializer = Serializer(limits, registry)
        self.actors = ActorRegistry(self._dispatcher, limits.mailbox_messages, self._activate)
        self.hosted = self._make_host(agents, registry, is_client, placement)
        self._passivation = Passivation(self.actors, self._dispatcher, settings.passivate_after, settings.most_active)
        self.services = self._make_services(system, agents, registry)
        self._queue = ActivationQueue(self.services)
        membership = self.hosted.hosting.membership
        self.tails = OutputTails(log.outputs, lambda host: membership.state_of(host) != "dead")
        self.finder = WorkFinder(self.services, log.partitions)
        self.services.work_left = self.finder.look_later
        self.hosted.on_died = self.finder.look

    def _activate(self, mailbox: Mailbox) -> Runnable:
        return Activation(self.services, mailbox, self._queue.add)

    def _make_host(
        self, agents: dict[str, AgentFactory], registry: EventRegistry, is_client: bool, placement: Placement
    ) -> HostedSystem:
        return HostedSystem(
            store=self._log.hosts,
            actors=self.actors,
            dispatcher=self._dispatcher,
            workers=self._activations,
            timers=self._timers,
            serializer=self._serializer,
            tracing=self._settings.tracing,
            agent_types=agents.keys(),
            message_types=registry.message_types,
            is_client=is_client,
            placement=placement,
        )

    def _make_services(
        self, system: weakref.ref[Any], agents: dict[str, AgentFactory], registry: EventRegistry
    ) -> Services:
        log, limits, hosted = self._log, self._limits, self.hosted
        return Services(
            log=log,
            hosting=hosted.hosting,
            owner=hosted.host,
            dispatcher=self._dispatcher,
            actors=self.actors,
            thread_pool=ThreadPool("worker", _MOST_WORKERS),
            activations=self._activations,
            loop=EventLoop(self._timers, self._dispatcher),
            timers=self._timers,
            hooks=LifecycleHooks(),
            supervisor=Supervisor(),
            trimmer=Trimmer(
                log,
                registry=registry,
                limits=limits,
                agents=agents,
                retention=self._settings.retention,
                snapshot_every=self._settings.snapshot_every,
                now=hosted.hosting.membership.server_clock.now,
            ),
            registry=registry,
            agents=agents,
            limits=limits,
            settings=self._settings,
            codec=Codec(limits),
            loop_codec=Codec(limits),
            confirmer=Confirmer(log),
            durability=log.durability,
            unconfirmed=log.unconfirmed,
            serializer=self._serializer,
            digest_of=log.chain.digest,
            outputs=OutputSender(log.outputs, limits, lambda: hosted.host),
            folds=FoldCache(log, limits),
            log_names=LogNames(log),
            tracing=self._settings.tracing,
            now=hosted.hosting.membership.server_clock.now,
            activated=self._passivation.release_excess,
            system=system,
        )

    def start(self) -> None:
        """Join the hosts, and look for what their agents have to do. Raises Unavailable."""

        def change_owner(host: str) -> None:
            self.services.owner = host

        if self._passivation.interval is not None:
            self._timers.call_every(self._passivation.interval, self._passivation.sweep)
        self._timers.call_every(_RELEASE_SECONDS, self.hosted.release_trees)
        self._timers.call_every(_CHECK_SECONDS, self.hosted.check_hosts)
        self.hosted.start(change_owner)
        self.finder.start()

    def runs_here(self) -> bool:
        """Whether the calling thread is one that closing waits for."""
        services = self.services
        parts = (
            self.actors,
            services.thread_pool,
            services.activations,
            services.confirmer,
            services.loop,
            services.timers,
        )
        return any(part.runs_here() for part in parts)

    def close(
        self, deadline: float, timeout: float, close_sharing: Callable[[float], object], episodes: EpisodeStore
    ) -> None:
        """Refuse new work, have what waits handled, and end all threads, until `deadline` (of `time.monotonic`).

        `timeout` is what the caller gave, for the log. `close_sharing` ends what follows the log, within so many
        seconds; it is called when no message waits.
        """
        services = self.services
        self.finder.stop()
        self.hosted.stop_taking()
        self._dispatcher.post(self._passivation.refuse_remote)
        self.hosted.wait_until_answered(deadline)
        self.actors.wait_until_idle(deadline)
        self._timers.close(time_left(deadline))
        close_sharing(min(CALLBACK_SECONDS, time_left(deadline)))
        self.tails.close(time_left(deadline))
        self._dispatcher.post(self._passivation.release_all)
        self._activations.close(time_left(deadline))
        handled = services.thread_pool.close(time_left(deadline))
        services.trimmer.close(time_left(deadline))
        episodes.close(time_left(deadline))
        services.loop.close(time_left(deadline))
        services.outputs.close(time_left(deadline))
        committed = self._dispatcher.close(time_left(deadline))
        confirmed = services.confirmer.close(time_left(deadline))
        if not (committed and confirmed and services.thread_pool.close(time_left(deadline)) and handled):
            get_logger("system").warning("close_timed_out", seconds=timeout)
        self.actors.fail_waiting(lambda path: SystemClosed("the system was closed before this was handled", agent=path))
        self.hosted.close(max(CALLBACK_SECONDS, time_left(deadline)))
        self._activations.close(time_left(deadline))  # they have looked after hosts that left until now

    def disable_after_fork(self, message: str) -> None:
        """Refuse every message with this text, in a forked child."""
        self.actors.after_fork(message)
        self.tails.closed = True
        self.services.outputs.disable()


def time_left(deadline: float) -> float:
    """The seconds until a deadline (of `time.monotonic`); 0 when it has passed."""
    return max(0.0, deadline - monotonic())
