"""Activation of an agent: claim it, rebuild its state from the log, let it handle its messages."""

from __future__ import annotations

from itertools import filterfalse, takewhile
from typing import TYPE_CHECKING, Any, NamedTuple

from duramen.events import AgentFailed, CorruptEvent, DataLoss, Diverged, DuramenError
from duramen.events.codec import Codec
from duramen.events.log import Claim, check_known_event
from duramen.events.logging import get_logger, raised_at
from duramen.events.model import copy_plain
from duramen.projections import AgentState
from duramen.projections.recovery import AgentLog, CustomFold, Rebuilt, rebuild_at_head
from duramen.projections.state import TERMINATED_STATUS

from ..agent import Agent
from ..agent_types import AgentFactory
from ..commands import Spawn
from ..dispatch import IDLE, WORKING, Envelope, Mailbox
from ..handlers import READS
from .append_errors import for_agent
from .log_reads import answer_from_log
from .runtime import Runtime

if TYPE_CHECKING:
    from ..handlers import Services


class _Made(NamedTuple):
    agent: Agent
    factory: AgentFactory | None
    """None for the plain `Agent` of a type that is not registered."""


class Activation:
    """The runner of a mailbox whose agent is not in memory.

    A spawn is handled at once on an empty state, without reading the log: if the agent exists after all, its append
    fails, and the spawn is handled again after a proper activation. Messages that only look are answered from the log,
    which claims nothing and activates nobody. Any other message has the agent rebuilt first. Both happen in one of a
    few worker threads, so that thousands of agents do not reach the server at once.
    """

    __slots__ = ("_mailbox", "_reading", "_services")

    def __init__(self, services: Services, mailbox: Mailbox) -> None:
        self._services = services
        self._mailbox = mailbox
        self._reading: list[Envelope] = []
        """The messages that a worker answers from the log."""

    def run(self) -> None:
        try:
            self._run()
        except Exception as error:  # a defect, a spawn that cannot be read, or no more threads
            self._fail(self._failure(error), refuse_reads=True)

    def _run(self) -> None:
        envelope = self._mailbox.waiting[0]
        if type(envelope.message) is Spawn and envelope.tries == 0 and self._is_plain(envelope.message):
            envelope.tries = 1
            self._start(self._absent_agent(_Made(Agent(), None), type_of(envelope.message), presumed_absent=True))
            return
        self._mailbox.phase = WORKING
        is_read = type(envelope.message) in READS
        self._services.activations.submit(self._answer_reads if is_read else self._activate)

    def abandon(self) -> list[Envelope]:
        return self._reading  # all others are in the mailbox still

    def _answer_reads(self) -> None:
        """Answer the messages up to the first that does more than look; in a worker thread."""
        waiting = self._mailbox.waiting
        self._reading = list(takewhile(_is_read, waiting[:]))
        del waiting[: len(self._reading)]  # others only ever add at the end
        try:
            answer_from_log(self._services, self._mailbox.path, self._reading)
        except BaseException as error:  # a defect
            for envelope in self._reading:
                envelope.refuse(self._failure(error))
        finally:
            self._services.dispatcher.post(self._go_on)

    def _go_on(self) -> None:
        self._reading = []
        self._become_idle()

    def _is_plain(self, message: Spawn) -> bool:
        """Whether the spawn needs neither code of the user, nor an earlier result from the log, nor a check of it."""
        services = self._services
        is_known = services.folds.position(self._mailbox.path) is not None
        return message.command_id is None and type_of(message) not in services.agents and not is_known

    def _activate(self) -> None:
        """Make the agent from its log and with the user's code; in a worker thread."""
        services, path = self._services, self._mailbox.path
        try:
            claim = services.log.claim([path], services.owner, services.now())[0]
            known = services.folds.position(path)
            if known is not None:
                check_known_event(services.log, path, None if claim is None else claim.head, *known)
            runtime = self._new_agent() if claim is None else self._stored_agent(claim)
        except DuramenError as error:
            failure = error
        except BaseException as error:  # the user's own code: a factory, an `initial` or an `apply`
            failure = self._failure(error)
        else:
            services.dispatcher.post(lambda: self._start(runtime))
            return
        services.dispatcher.post(lambda: self._fail(failure))

    def _new_agent(self) -> Runtime:
        """An agent without a log: only a spawn can make one."""
        wanted = self._wanted_type()
        return self._absent_agent(self._make(wanted), wanted, presumed_absent=False)

    def _absent_agent(self, made: _Made, agent_type: str | None, *, presumed_absent: bool) -> Runtime:
        start = Rebuilt(AgentState(), self._initial_state(made.agent), 0)
        fence = f"1:{self._services.owner}"
        return Runtime(
            self._services,
            self._mailbox,
            made.agent,
            fence,
            start,
            factory=made.factory,
            create=True,
            presumed_absent=presumed_absent,
            made_for=agent_type,
        )

    def _stored_agent(self, claim: Claim) -> Runtime:
        services, path, head = self._services, self._mailbox.path, claim.head
        if head.base + claim.length != head.seq:
            raise CorruptEvent(
                f"head and list of {path} do not fit together; restore them from a backup",
                agent=path,
                expected=head.seq,
                actual=head.base + claim.length,
            )
        made: dict[str | None, _Made] = {}

        def fold_of(agent_type: str | None) -> CustomFold | None:
            if agent_type not in made:
                made[agent_type] = self._make(agent_type)
            return made[agent_type].agent.actor_fold(services.registry)

        rebuilt = rebuild_at_head(AgentLog(services.log, path, services.limits), head, fold_of)
        state = rebuilt.state
        if state.status != TERMINATED_STATUS:
            ready = made[state.agent_type]
            return Runtime(services, self._mailbox, ready.agent, head.fence, rebuilt, factory=ready.factory)
        # A new session may be of another type, and the fold of its own events starts from its initial state.
        wanted = self._wanted_type()
        fresh = self._make(wanted)
        ended = Rebuilt(state, self._initial_state(fresh.agent), rebuilt.snapshot_seq)
        return Runtime(services, self._mailbox, fresh.agent, head.fence, ended, factory=fresh.factory, made_for=wanted)

    def _failure(self, error: BaseException) -> AgentFailed:
        path = self._mailbox.path
        failure = AgentFailed(
            f"{path} cannot be brought into memory: {type(error).__name__} in the code of its agent type, at "
            f"{raised_at(error)}",
            agent=path,
        )
        failure.__cause__ = error
        return failure

    def _initial_state(self, agent: Agent) -> Any:
        """The state that the agent's own events start from. Raises ValueRefused if it could not be stored."""
        state = copy_plain(agent.initial())
        if state is not None:
            Codec(self._services.limits).pack_exactly(state, f"the initial state of {type(agent).__name__}")
        return state

    def _wanted_type(self) -> str | None:
        """The agent type of the spawn that waits first; None for any other message."""
        waiting = self._mailbox.waiting
        message = waiting[0].message if waiting else None
        return type_of(message) if type(message) is Spawn else None

    def _make(self, agent_type: str | None) -> _Made:
        factory = self._services.agents.get(agent_type) if agent_type is not None else None
        agent = Agent() if factory is None else factory()
        if not isinstance(agent, Agent):
            raise AgentFailed(
                f"agent type {agent_type!r} does not make agents: its factory must return an Agent",
                agent=self._mailbox.path,
            )
        return _Made(agent, factory)

    def _start(self, runtime: Runtime) -> None:
        mailbox = self._mailbox
        try:
            runtime.agent.actor_activate(runtime)
        except Exception as error:  # a class whose objects cannot be changed
            self._fail(self._failure(error))
            return
        mailbox.runner = runtime
        mailbox.phase = IDLE
        try:
            self._services.activated()
        finally:
            if mailbox.waiting:
                runtime.run()

    def _fail(self, error: DuramenError, *, refuse_reads: bool = False) -> None:
        """Fail all waiting messages but those that only look; the next message tries again."""
        mailbox = self._mailbox
        if isinstance(error, (DataLoss, Diverged)):
            self._services.folds.forget(mailbox.path)  # the loss is reported now, and once
        get_logger("agent").warning("activation_failed", agent=mailbox.path, error=type(error).__name__)
        waiting = list(mailbox.waiting)
        reads = [] if refuse_reads else list(filter(_is_read, waiting))
        failed = waiting if refuse_reads else list(filterfalse(_is_read, waiting))
        mailbox.waiting[: len(waiting)] = reads  # a message that arrives meanwhile tries again
        for envelope in failed:
            own = for_agent(error, mailbox.path, error.seq or 0)
            own.__cause__ = error.__cause__
            envelope.refuse(own)
        self._become_idle()

    def _become_idle(self) -> None:
        """Handle what waits; if nothing does, remove the mailbox."""
        mailbox = self._mailbox
        mailbox.phase = IDLE
        if mailbox.waiting:
            self._services.dispatcher.schedule(mailbox)
        else:
            self._services.actors.remove_if_idle(mailbox)


def _is_read(envelope: Envelope) -> bool:
    return type(envelope.message) in READS


def type_of(message: Spawn) -> str | None:
    """The agent type that a spawn asks for, as text."""
    return None if message.agent_type is None else str(message.agent_type)
