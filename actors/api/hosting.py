"""A system as a host: it joins the others, is buried by them and joins again, and leaves."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterator
from functools import partial
from time import monotonic
from typing import Final

from duramen.events import DuramenError
from duramen.events.log import HostRecord, HostStore
from duramen.events.logging import get_logger

from ..commands import Serializer, Tracing
from ..dispatch import ActorRegistry, Dispatcher, ThreadPool, Timers
from ..hosts import PROTOCOL, HostEvents, Hosting, Links, Membership, Placement, Router, Trees
from ..runtime import Draining, Rebalancing, Runtime

_SUBSCRIBE_SECONDS: Final = 5.0
_LINK_SECONDS: Final = 2.0
_PAUSE: Final = 0.02
_MOVING_SECONDS: Final = 60.0
"""For so long after a host has joined, trees move to it as they become idle."""


class HostedSystem:
    """What makes a system a host. Its methods may be called from any thread."""

    def __init__(
        self,
        *,
        store: HostStore,
        actors: ActorRegistry,
        dispatcher: Dispatcher,
        workers: ThreadPool,
        timers: Timers,
        serializer: Serializer,
        tracing: Tracing | None,
        agent_types: Collection[str],
        message_types: Callable[[], Collection[str]],
        is_client: bool,
        placement: Placement,
    ) -> None:
        self._store = store
        self._actors = actors
        self._dispatcher = dispatcher
        self._timers = timers
        self._workers = workers
        self._is_checking = False
        self._is_rebalancing = False
        self._known_up: set[str] | None = None
        self._joined: dict[str, float] = {}
        """By host that has joined: until when idle trees move to it."""
        self._links: Links | None = None
        self._buried: Callable[[str], None] = lambda host: None
        self.on_died: Callable[[], None] = lambda: None
        """Called when another host has ended: its agents are nobody's."""
        router = Router(actors, dispatcher, serializer, tracing)
        router.on_left = lambda host: self._on_left()
        membership = Membership(
            store,
            HostEvents(self._on_died, self._on_buried),
            is_client=is_client,
            agent_types=lambda: list(agent_types),
            message_types=message_types,
            load=lambda: len(actors),
        )
        router.was_buried = membership.was_buried
        trees = Trees(self._release, workers.submit)
        self.hosting = Hosting(
            store, membership, router, trees, agent_types=agent_types, is_client=is_client, placement=placement
        )

    @property
    def host(self) -> str:
        """The id of this host."""
        return self.hosting.membership.host

    def start(self, on_new_id: Callable[[str], None]) -> None:
        """Join. `on_new_id` is called in the core where this host goes on under another id. Raises Unavailable."""
        self._buried = on_new_id
        self._connect()
        self.hosting.membership.start()

    def _connect(self) -> None:
        host = self.host
        self._links = Links(host, self._store, PROTOCOL, partial(self.hosting.router.receive, host))
        self.hosting.router.use(self._links)  # before anything comes by them, which would be taken for outdated
        self._links.start(_SUBSCRIBE_SECONDS)

    def announce(self) -> None:
        """List the agent types that are registered now. A lost server is put up with: the types are listed later."""
        try:
            self.hosting.membership.announce()
        except DuramenError as error:
            get_logger("hosts").warning("types_not_listed", error=type(error).__name__)

    def release_trees(self) -> None:
        """Begin to give up the trees that have left memory, and those whose place is a host that has joined."""
        self._dispatcher.post(self.hosting.trees.release_empty)
        if self.hosting.spreads:
            self._rebalance(monotonic())

    def _rebalance(self, now: float) -> None:
        up = {record.host: record for record in self.hosting.membership.peers() if record.state == "up"}
        known, self._known_up = self._known_up, set(up)
        if known is not None:
            self._joined.update((host, now + _MOVING_SECONDS) for host in up.keys() - known - {self.host})
        self._joined = {host: until for host, until in self._joined.items() if host in up and now < until}
        if self._joined and not self._is_rebalancing:
            self._is_rebalancing = True
            joined = [up[host] for host in self._joined]
            self._workers.submit(lambda: self._move_to(joined))

    def _move_to(self, joined: list[HostRecord]) -> None:
        try:
            moved = Rebalancing(self._actors, self._dispatcher, self.hosting.trees).run(self.host, joined)
            if moved:
                get_logger("hosts").info("trees_moved", count=moved, hosts=len(joined))
        finally:
            self._is_rebalancing = False

    def _release(self, roots: list[str]) -> None:
        try:
            for root in roots:
                owner, _ = self._store.owner(root)
                if owner.host == self.host:
                    self._store.release(root, owner)
        except DuramenError as error:  # they stay this host's, and are claimed again without harm
            get_logger("hosts").info("trees_not_released", error=type(error).__name__, count=len(roots))
        finally:
            self._dispatcher.post(lambda: self.hosting.trees.ended(roots))

    # -- what happens to hosts ----------------------------------------------------------------------------------------

    def _on_died(self, host: str, has_closed: bool) -> None:
        self._dispatcher.post(lambda: self.hosting.router.host_died(host, has_closed=has_closed))
        self.on_died()

    def check_hosts(self) -> None:
        """Find out soon if a host of this machine has ended while its replies are waited for."""
        if self.hosting.router.waiting and not self._is_checking:
            self._is_checking = True
            self._workers.submit(self._check_hosts)

    def _check_hosts(self) -> None:
        try:
            for host in self.hosting.router.hosts_asked():
                self.hosting.membership.state_of(host)
        except DuramenError as error:
            get_logger("hosts").debug("hosts_not_checked", error=type(error).__name__)
        finally:
            self._is_checking = False

    def _on_left(self) -> None:
        self._workers.submit(self._refresh)

    def _refresh(self) -> None:
        try:
            self.hosting.membership.refresh()
        except DuramenError as error:
            get_logger("hosts").debug("hosts_not_checked", error=type(error).__name__)

    def _on_buried(self, old: str, new: str) -> None:
        """Drop what belongs to the old id: the agents here, and the streams. What was not begun is sent on."""
        links = self._links
        self._connect()
        if links is not None:
            links.close(_LINK_SECONDS)
        self._dispatcher.post(lambda: self._begin_again(old, new))

    def _begin_again(self, old: str, new: str) -> None:
        self._buried(new)
        self.hosting.trees.forget_all()
        self.hosting.router.begin_again()
        self._drop_agents(old)

    def _drop_agents(self, old: str) -> None:
        """Drop the agents that have the old host's fence; those that are busy, once they are not."""
        self._dispatcher.run_in_steps(self._drop_each(old))

    def _drop_each(self, old: str) -> Iterator[None]:
        busy = False
        for page in self._actors.pages():
            for mailbox in page:
                if self._actors.is_closed:  # all agents are released then
                    return
                runtime = mailbox.runner
                if isinstance(runtime, Runtime) and runtime.fence.endswith(old):
                    busy = not runtime.drop_if_idle() or busy
                yield
        if busy:
            self._timers.call_later(_PAUSE, lambda: self._dispatcher.post(lambda: self._drop_agents(old)))

    def drop_erased(self, agents: Collection[str], forget: Callable[[str], None]) -> None:
        """Drop agents that were erased, unless they are busy: then their next append tells them."""

        def drop() -> Iterator[None]:
            for agent in agents:
                mailbox = self._actors.find(agent)
                if mailbox is not None and isinstance(mailbox.runner, Runtime):
                    mailbox.runner.drop_if_idle()
                forget(agent)
                yield

        self._dispatcher.post_in_steps(drop())

    # -- the end ------------------------------------------------------------------------------------------------------

    def stop_taking(self) -> None:
        """Take no more trees, and let other hosts know. A lost server is put up with."""
        try:
            self.hosting.membership.drain()
        except DuramenError as error:
            get_logger("hosts").info("not_drained", error=type(error).__name__)
        self._dispatcher.post(self.hosting.router.tell_to_leave)

    def drain(self, deadline: float) -> bool:
        """Hand on the trees that are here, until `deadline` (of `time.monotonic`). Returns whether none is left."""
        self.stop_taking()
        self._refresh()
        draining = Draining(self._actors, self._dispatcher, self.hosting.trees)
        return draining.run(deadline, has_successor=self._has_successor)

    def _has_successor(self) -> bool:
        hosts = self.hosting.membership.peers()
        return any(record.state == "up" and record.host != self.host for record in hosts)

    def wait_until_answered(self, deadline: float) -> None:
        """Block until no message between hosts waits for its reply, or until `deadline` (of `time.monotonic`)."""
        router, never = self.hosting.router, threading.Event()
        while (router.handling or router.waiting) and monotonic() < deadline:
            never.wait(_PAUSE / 4)

    def close(self, timeout: float) -> None:
        """Leave: give up all trees, then send elsewhere what has arrived meanwhile. Called when the core has ended."""
        links = self._links
        self._forget_dead_peers()
        is_clean = links is None or links.wait_until_heard(_LINK_SECONDS)
        self.hosting.membership.close(timeout, is_clean=is_clean)
        self.hosting.router.refuse_held()
        if links is not None:  # what is not heard is found out by the others' next look at the list of hosts
            links.close(_LINK_SECONDS)

    def _forget_dead_peers(self) -> None:
        """Wait for no host that has ended meanwhile."""
        membership, links = self.hosting.membership, self._links
        try:
            membership.refresh()
            for peer in links.peers() if links is not None else ():
                if links is not None and membership.state_of(peer) == "dead":
                    links.forget(peer)
        except DuramenError as error:
            get_logger("hosts").debug("hosts_not_checked", error=type(error).__name__)
