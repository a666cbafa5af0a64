"""The system opens a log and runs agents on it."""

from __future__ import annotations

import os
import threading
import warnings
import weakref
from collections.abc import Callable, Mapping
from contextlib import suppress
from time import monotonic
from types import TracebackType
from typing import Any, Literal, Self, Unpack, overload
from uuid import UUID

from attrs import evolve

from duramen.events import (
    AgentPath,
    AskTimeout,
    DuramenError,
    EventRegistry,
    Granularity,
    InvalidMessage,
    Limits,
    ParentRequired,
    Unconfirmed,
)
from duramen.events.log import EventLog, HostRecord
from duramen.events.model import DECLARED, Seconds, parse_seconds, parse_timeout
from duramen.projections.sessions import Erasure

from ..commands import (
    Accept,
    AdoptChild,
    LifecycleResult,
    Spawn,
    plain_id,
    spawn_message,
)
from ..dispatch import (
    Reply,
    check_may_block,
)
from ..handlers import (
    READS,
    AgentFactory,
    LifecycleHooks,
    OutputWriter,
    Settings,
    check_spawn,
)
from ..hosts import Placement
from ..runtime import INLINE, WAITING_FOR_NOBODY, answer_from_log, can_read_here, envelope_of, read_in_worker
from ..work import accept_of
from .aio import AsyncSystem
from .arguments import check_types, parse_agent, parse_agent_types, parse_room
from .calls import SystemCalls
from .composition import CALLBACK_SECONDS, SystemParts, time_left
from .handles import TIMEOUT, AgentHandle, AskArguments, require_started
from .load import SystemLoad, measure_load
from .opening import OpenedLog, RedisClient, open_log


class AgentSystem(SystemCalls):
    """Runs agents on one log. Make it with `open`, in a `with` or `async with` block. Thread-safe.

    In a forked child every call raises SystemClosed at once; the parent's system is not affected.
    """

    def __init__(
        self,
        store: OpenedLog,
        *,
        agents: dict[str, AgentFactory] | None = None,
        registry: EventRegistry = DECLARED,
        limits: Limits | None = None,
        settings: Settings | None = None,
        host: bool = True,
        placement: Placement = "local",
    ) -> None:
        self._agents = {} if agents is None else agents
        settings, limits = settings or Settings(), limits or Limits()
        self._parts = parts = SystemParts(
            weakref.ref(self),
            store.log,
            agents=self._agents,
            registry=registry,
            limits=limits,
            settings=settings,
            is_client=not host,
            placement=placement,
        )
        super().__init__(store.log, registry, limits, parts.services.loop)
        self._store = store
        self._services, self._actors, self._hosted = parts.services, parts.actors, parts.hosted
        self._finder, self._tails, self._trimmer = parts.finder, parts.tails, parts.services.trimmer
        self._trimmer.add_needs(self._episodes.prepare_trimming)
        hosted = parts.hosted
        self._consumers.host = lambda: hosted.host
        self._copier = parts.services.serializer if settings.copy_messages else None
        self._closing = threading.RLock()
        self._closed = False
        _disable_in_children(self)
        try:
            parts.start()
        except BaseException:
            self.close(CALLBACK_SECONDS)
            raise

    @classmethod
    def open(
        cls,
        url: str | None = None,
        *,
        client: RedisClient | None = None,
        log: EventLog | None = None,
        data_dir: str | os.PathLike[str] | None = None,
        namespace: str = "default",
        partitions: int = 16,
        durability: str | None = None,
        agents: Mapping[str, AgentFactory] | Mapping[UUID, AgentFactory] | None = None,
        registry: EventRegistry = DECLARED,
        limits: Limits | None = None,
        settings: Settings | None = None,
        insecure: bool = False,
        allow_eviction: bool = False,
        integrity_key: bytes | None = None,
        host: bool = True,
        placement: Placement = "local",
    ) -> Self:
        """Open a system.

        Without `url`, `client` and `log`, the url is `DURAMEN_URL` if set; else the system runs an embedded Valkey in
        `data_dir` (`.duramen`), durable, shared with other processes that open the same directory. `memory://` keeps
        the log in memory, until `close`; `redis://`, `rediss://`, `unix://` name your server, `redis+sentinel://` its
        sentinels, `redis+cluster://` nodes of your cluster (`rediss+…` with TLS). `client` is a `redis.Redis` or
        `redis.RedisCluster` of yours, of which only the connection settings are used; `log` is an open log. Two of them
        are refused.

        `durability` (`memory`, `fsync`, `replicas:n`) is the durability that a receipt confirms; by default that of the
        server: `fsync` on the embedded one. `partitions` is used only for a new namespace. `agents` maps agent types to
        `Agent` subclasses or factories. `insecure` lets `redis://` leave this machine; `allow_eviction` accepts a
        server that may remove the logs of agents when its memory runs short.

        With an `integrity_key` (16 to 1024 bytes; by default the text of `DURAMEN_INTEGRITY_KEY`, if set) changes of a
        log by anybody without the key are noticed. A namespace created with a key, or without one, opens only so.

        Any process may open the same log, and ask any agent; each tree of agents lives in one process at a time, its
        host. `placement` says where a tree without a host comes to live: `local`, where it is asked for, or `spread`
        over the hosts that have its agent type. With `host=False` no agent lives here: all that is asked goes to hosts.

        Raises InvalidMessage, InvalidPath (for the namespace), Unavailable, NotPermitted, UnsafeServer, WrongKey.
        """
        check_types(limits=(limits, Limits), settings=(settings, Settings), registry=(registry, EventRegistry))
        kinds = parse_agent_types(agents)
        store = open_log(
            url,
            client=client,
            log=log,
            data_dir=data_dir,
            namespace=namespace,
            partitions=partitions,
            durability=durability,
            limits=limits or Limits(),
            insecure=insecure,
            allow_eviction=allow_eviction,
            integrity_key=integrity_key,
        )
        try:
            return cls(
                store,
                agents=kinds,
                registry=registry,
                limits=limits,
                settings=settings,
                host=host,
                placement=placement,
            )
        except BaseException:
            store.close()
            raise

    # -- agents ----------------------------------------------------------------------------------------------------

    def _note_erasure(self, erasure: Erasure) -> None:
        self._hosted.drop_erased(frozenset(erasure.agents), self._services.folds.forget)
        self._hub.note_erasure()

    def _name_of_eraser(self) -> str:
        return self.host

    def _look_for_work(self) -> None:
        self._finder.look()

    def register(self, agent_type: str | UUID, factory: AgentFactory) -> None:
        """Register an `Agent` subclass, or a function that returns an agent, for agents of this type."""
        self._agents.update(parse_agent_types({plain_id(agent_type, "an agent type"): factory}))
        self._hosted.announce()
        self._finder.look_again()

    @property
    def host(self) -> str:
        """The id of this host: of this opening of a system. It changes where others have taken it for dead."""
        return self._hosted.host

    def hosts(self) -> list[HostRecord]:
        """Return all hosts of the namespace, this one too, and for an hour those that ended. Raises Unavailable."""
        return self._log.hosts.hosts()

    def agent_types(self) -> list[str]:
        """Return the agent types that are registered here."""
        return list(self._agents)

    def spawn(
        self,
        path: str | AgentPath | None = None,
        *,
        project_id: str | UUID | None = None,
        agent_instance_id: str | UUID | None = None,
        session_id: str | UUID | None = None,
        agent_type: str | UUID | None = None,
        initial_state: Mapping[str, Any] | None = None,
        metadata: Mapping[str, Any] | None = None,
        granularity: Granularity = Granularity.ACTIVITY,
        levels: Mapping[str, Granularity] | None = None,
        parent: str | None = None,
        expires_after: Seconds | None = None,
        command_id: str | None = None,
        durability: str | None = None,
        exist_ok: bool = False,
    ) -> AgentHandle:
        """Start a session and return the agent's handle.

        The agent is named by `path`, or by `project_id` and `agent_instance_id`. Below an agent that lives, or with
        `parent`, it is a sub-agent, as by `spawn_child`. Raises AgentAlreadyRunning, InvalidPath, InvalidMessage,
        ValueRefused, TooLarge; of the parent AgentNotFound, AgentNotRunning, AgentPaused. With `exist_ok`, an agent
        whose session is there already, running or paused, is returned as it is. With `expires_after` (seconds, or a
        timedelta) the agent is erased, with all below it, after so long without a change of any of them. Ask the
        agent a `Spawn` message for the `LifecycleResult`.
        """
        handle = self.agent(path, project_id=project_id, agent_instance_id=agent_instance_id)
        message = spawn_message(
            session_id=session_id,
            agent_type=agent_type,
            initial_state=initial_state,
            metadata=metadata,
            granularity=granularity,
            levels=levels,
            parent=parent,
            expires_after=expires_after,
            command_id=command_id,
            durability=durability,
        )
        require_started(self.send_spawn(handle.path.text, message), exist_ok)
        return handle

    def send_spawn(self, path: str, message: Spawn) -> LifecycleResult:
        """Send a `Spawn`; below an agent that lives, or with a parent, as a sub-agent. Raises what `spawn` raises."""
        handle, parent = self.agent(path), message.parent
        try:
            if parent is None:
                return handle.ask(message)
        except ParentRequired as error:
            parent = str(error.actual)
        self.check_spawn(path, message)  # before the parent records the child
        with suppress(Unconfirmed):  # committed; the spawn's confirmation covers it
            self.agent(parent).ask(AdoptChild(path, durability=message.durability))
        return handle.ask(evolve(message, parent=parent))

    def check_spawn(self, path: str, message: Spawn) -> None:
        """Raise the error that spawning a new agent with this message would raise. Sends nothing."""
        check_spawn(message, self._limits, path)

    def accept_message(self, message: object, command_id: str | None, durability: str | None) -> Accept:
        """Return what has an agent accept a durable message. Raises InvalidMessage, UnknownMessageType."""
        return evolve(accept_of(self._registry, message), command_id=command_id, durability=durability)

    def check_cycle(self, path: str) -> None:
        """Raise CallCycle if the handler that calls this would wait in vain for a reply of `path`."""
        self._actors.check_cycle(path)

    @property
    def aio(self) -> AsyncSystem:
        """The blocking calls, for asyncio."""
        return AsyncSystem(self)

    def agent(
        self,
        path: str | AgentPath | None = None,
        *,
        project_id: str | UUID | None = None,
        agent_instance_id: str | UUID | None = None,
    ) -> AgentHandle:
        """Return the handle of an agent, which need not exist yet. Raises InvalidPath, also if it is named twice."""
        return AgentHandle(self, parse_agent(path, project_id, agent_instance_id))

    @property
    def hooks(self) -> LifecycleHooks:
        """The hooks: functions registered here are called after lifecycle transitions."""
        return self._services.hooks

    # -- messages --------------------------------------------------------------------------------------------------

    @overload
    def ask(
        self,
        path: str,
        message: object,
        *,
        block: Literal[False],
        timeout: Seconds | None,
        command_id: str | None,
        durability: str | None = ...,
    ) -> Reply: ...

    @overload
    def ask(self, path: str, message: object, **how: Unpack[AskArguments]) -> Any: ...

    def ask(
        self,
        path: str,
        message: object,
        *,
        block: bool,
        timeout: Seconds | None,
        command_id: str | None,
        durability: str | None = None,
        room: Seconds = 0.0,
    ) -> Any:
        """As `AgentHandle.ask`, for an agent by path."""
        seconds = TIMEOUT if timeout == TIMEOUT else parse_timeout(timeout)  # mostly neither is given
        room = 0.0 if room == 0.0 else parse_room(room)
        if block:
            check_may_block()
            self._actors.check_cycle(path)
        envelope = envelope_of(message, command_id, durability, True, self._copier)
        tracing = self._services.tracing
        if tracing is not None:
            tracing.send(path, envelope)
        try:
            kind = type(message)
            if not block:
                if kind in WAITING_FOR_NOBODY:
                    read_in_worker(self._services, path, envelope)
                else:
                    self._actors.send(path, envelope, room)
                return envelope
            deadline = None if seconds is None else monotonic() + seconds
            if kind in READS and can_read_here(self._services, path, seconds):
                answer_from_log(self._services, path, [envelope])
            elif kind in INLINE and room == 0.0:
                dispatcher = self._services.dispatcher
                with dispatcher.shield() as shield:
                    dispatcher.run_for(self._actors.enqueue(path, envelope), envelope, seconds, shield)
            elif kind in WAITING_FOR_NOBODY:
                read_in_worker(self._services, path, envelope)
            else:
                self._actors.send(path, envelope, room)
        except DuramenError as error:
            if tracing is not None:
                envelope.refuse(error)  # it is in no mailbox: nobody else ends its span
            raise
        try:
            left = None if deadline is None or envelope.done else time_left(deadline)
            return envelope.get_within(left, seconds)
        except AskTimeout:
            if not envelope.done:
                self.withdraw(path, envelope)
            raise

    def withdraw(self, path: str, reply: object) -> None:
        """Drop the message whose reply this is, if it is not begun, here or on another host: nobody waits for it."""
        self._actors.withdraw(path, lambda envelope: envelope is reply)

    def tell(self, path: str, message: object, *, command_id: str | None = None, room: Seconds = 0.0) -> None:
        """As `AgentHandle.tell`, for an agent by path."""
        envelope, tracing = envelope_of(message, command_id, None, False, self._copier), self._services.tracing
        if tracing is not None:
            tracing.send(path, envelope)
        try:
            self._actors.send(path, envelope, parse_room(room))
        except DuramenError as error:
            if tracing is not None:
                envelope.refuse(error)
            raise

    def open_output(
        self, path: str, name: str, record: Callable[[str, dict[str, Any]], Any], ttl: Seconds
    ) -> OutputWriter:
        """As `AgentHandle.stream`, for an agent by path; `record` records the whole at the end."""
        return self._services.outputs.open(path, name, record, ttl)

    def load(self) -> SystemLoad:
        """Count what this system has to do now, and has done: for metrics. Callable from any thread."""
        return measure_load(self._services, self._parts.journal)

    # -- closing ---------------------------------------------------------------------------------------------------

    def drain(self, timeout: Seconds = 30.0) -> bool:
        """Take no more trees of agents, let what runs end, and hand on to other hosts what is here: before `close`.

        Messages that wait are handled by the next host of their agents; without another host that is up, they are
        handled here. A tree whose agents have timers stays. So does one that is busy after `timeout` seconds. Returns
        whether no tree is left. From then on this system asks other hosts; it cannot go back to taking trees.

        Raises InvalidMessage in handlers, hooks and callbacks, which it would wait for, and SystemClosed.
        """
        deadline = monotonic() + parse_seconds("timeout", timeout)
        self._actors.check_open()
        if self.runs_here():
            raise InvalidMessage("drain waits for handlers, hooks and callbacks, and must not be called by one")
        return self._hosted.drain(deadline)

    @property
    def is_draining(self) -> bool:
        """Whether this host takes no more trees: `drain` or `close` was called."""
        return self._hosted.hosting.membership.is_draining

    def close(self, timeout: Seconds = 30.0) -> None:
        """Refuse new messages, handle the waiting ones, and release everything, within `timeout` seconds.

        Every pending call ends with its reply or a typed error. Called again, it goes on where it was interrupted; a
        second thread waits for the first. Handlers, hooks and callbacks of this system do not wait, since the system
        waits for them: it is closed after they have returned.
        """
        seconds = parse_seconds("timeout", timeout)
        deadline = monotonic() + seconds
        self._hosted.hosting.router.hold()
        self._actors.close("the system is closed; open a new one")
        if not self.runs_here():
            self._close(deadline, seconds)
        elif not self._closed:
            threading.Thread(target=self._close, args=(deadline, seconds), name="duramen-close").start()

    def runs_here(self) -> bool:
        """Whether the calling thread is one that `close` waits for."""
        return self._runs_sharing_here() or self._parts.runs_here()

    def _close(self, deadline: float, timeout: float) -> None:
        # Reentrant, because an interrupt may leave it locked: only the main thread, which then calls again, gets one.
        if not self._closing.acquire(timeout=time_left(deadline)):
            return
        try:
            if not self._closed:
                self._parts.close(deadline, timeout, self._close_sharing, self._episodes)
                self._store.close()
                self._closed = True
        finally:
            self._closing.release()

    def __del__(self) -> None:
        if not getattr(self, "_closed", True):
            warnings.warn(
                f"{self!r} was dropped without close(); use `with`", ResourceWarning, stacklevel=2, source=self
            )

    def __enter__(self) -> Self:
        """Raises SystemClosed for a system that was closed."""
        self._actors.check_open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        import asyncio

        await asyncio.to_thread(self.close)

    def disable_after_fork(self) -> None:
        """Refuse every call: a forked child has none of our threads, and the sockets belong to the parent."""
        self._closed = True
        message = "this is a forked child, where no agent runs; open a system of its own, after the fork"
        self._forget_sharing(message)
        self._parts.disable_after_fork(message)


def _disable_in_children(system: AgentSystem) -> None:
    known = weakref.ref(system)

    def in_child() -> None:
        found = known()
        if found is not None:
            found.disable_after_fork()

    os.register_at_fork(after_in_child=in_child)
