"""Activation of an agent: find its host; if that is this one, rebuild its state, claim it, and let it run."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from itertools import filterfalse, takewhile
from math import inf
from random import SystemRandom
from time import monotonic, sleep
from typing import Any, Final, NamedTuple

from duramen.events import AgentFailed, CorruptEvent, DataLoss, Diverged, DuramenError, Erased, Unavailable
from duramen.events.codec import Codec
from duramen.events.log import ClaimAnswer, Head, Located, Owner, check_known_event, unpack_line
from duramen.events.logging import get_logger, raised_at
from duramen.events.model import copy_plain
from duramen.projections import AgentState
from duramen.projections.recovery import AgentLog, CustomFold, LoadedAgentLog, Rebuilt, rebuild_at_head
from duramen.projections.state import TERMINATED_STATUS

from ..agent import Agent
from ..commands import Spawn
from ..dispatch import IDLE, WORKING, Envelope, Mailbox
from ..handlers import READS, AgentFactory, Services
from ..hosts import BEAT_WAIT_SECONDS, RemoteEnvelope
from .active import Runtime
from .append_errors import for_agent, not_begun
from .forwarding import Forwarding
from .log_reads import answer_from_log

_PAUSES: Final = (0.0, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.2, 0.2, 0.2)
"""Seconds between two tries to claim an agent that others claim at the same time; they are shortened at random."""
_BEAT_PAUSE: Final = 0.05
"""Seconds between two looks at whether this host's beat has gone through."""


class _Made(NamedTuple):
    agent: Agent
    factory: AgentFactory | None
    """None for the plain `Agent` of a type that is not registered."""


class Folded(NamedTuple):
    """An agent that is folded to its head, and not claimed yet."""

    owner: Owner
    head: Head
    rebuilt: Rebuilt
    made: _Made
    wanted: str | None
    log: AgentLog


class _Elsewhere(NamedTuple):
    host: str
    seq: int
    """The seq to which the agent is folded."""


class Activation:
    """The runner of a mailbox whose agent is not in memory.

    A spawn is handled at once on an empty state, without reading the log: if the agent exists after all, or another
    host has its tree, its append fails, and the spawn is handled again after a proper activation. Messages that only
    look are answered from the log, which claims nothing and activates nobody. Any other message has the agent's host
    looked up first. An agent that is to be here is rebuilt first and claimed last: whoever cannot run it never takes it
    from anybody. All that asks the server happens in one of a few worker threads, so that thousands of agents do not
    reach it at once.
    """

    __slots__ = ("_enqueue", "_mailbox", "_reading", "_services", "_withdrawn")

    def __init__(self, services: Services, mailbox: Mailbox, enqueue: Callable[[Activation], None]) -> None:
        """`enqueue` has the activation carried out in a worker thread."""
        self._services = services
        self._mailbox = mailbox
        self._enqueue = enqueue
        self._reading: list[Envelope] = []
        """The messages that a worker answers from the log."""
        self._withdrawn: list[Callable[[Envelope], bool]] = []
        """What names the messages that nobody waits for any more, where a worker may look at them still."""

    @property
    def path(self) -> str:
        return self._mailbox.path

    @property
    def is_running(self) -> bool:
        return False

    def run(self) -> None:
        mailbox, services = self._mailbox, self._services
        if _is_read(mailbox.waiting[0]):
            try:
                self._submit(self._answer_reads)
            except Exception as error:  # no more threads
                self._fail(self._failure(error), refuse_reads=True)
            return
        if not services.hosting.trees.enter(mailbox.path, lambda: services.dispatcher.schedule(mailbox)):
            return
        try:
            self._run()
        except Exception as error:  # a defect, a spawn that cannot be read, or no more threads
            self.give_up(error, refuse_reads=True)

    def _run(self) -> None:
        envelope = self._mailbox.waiting[0]
        if type(envelope.message) is Spawn and envelope.tries == 0 and self._is_plain(envelope.message):
            envelope.tries = 1
            self.start(self._absent_agent(_Made(Agent(), None), type_of(envelope.message), presumed_absent=True))
            return
        self._mailbox.phase = WORKING
        self._enqueue(self)

    def _submit(self, work: Callable[[], None]) -> None:
        self._mailbox.phase = WORKING
        self._services.activations.submit(work)

    def abandon(self) -> list[Envelope]:
        return self._reading  # all others are in the mailbox still

    def withdraw(self, is_it: Callable[[Envelope], bool]) -> Envelope | None:
        mailbox = self._mailbox
        is_working = mailbox.phase == WORKING
        # A worker looks at the first message; and it removes the reads before the first other one, by their count.
        found = mailbox.withdraw(lambda one: is_it(one) and not _is_read(one), 1 if is_working else 0)
        if found is None and is_working:
            self._withdrawn.append(is_it)
        if not mailbox.waiting:
            self._services.actors.remove_if_idle(mailbox)
        return found

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
        services, wanted = self._services, type_of(message)
        if message.command_id is not None or wanted in services.agents or not services.hosting.is_local:
            return False
        is_known = services.folds.position(self._mailbox.path) is not None
        return not is_known and not services.hosting.has_class_elsewhere(wanted)

    def activate(self) -> None:
        """Find the agent's host, and make the agent if it is this one; in a worker thread."""
        services = self._services
        try:
            found = self._find()
        except BaseException as error:  # also of the user's own code: a factory, an `initial` or an `apply`
            failure = error
        else:
            services.dispatcher.post(lambda: self._continue(found))
            return
        services.dispatcher.post(lambda: self.give_up(failure))

    def _continue(self, found: Runtime | _Elsewhere) -> None:
        if isinstance(found, Runtime):
            self.start(found)
        else:
            self._forward(found)

    def _find(self) -> Runtime | _Elsewhere:
        """Claim the agent and return it, or the host that has it. Hosts that claim at once see each other's claims."""
        hosting, path = self._services.hosting, self._mailbox.path
        for pause in _PAUSES:
            place = hosting.store.locate(path)
            self._check_known(place.head)
            host = self._choose_host(place)
            if host != self._services.owner:
                return _Elsewhere(host, 0 if place.head is None else place.head.seq)
            runtime = self._new_agent(place) if place.head is None else self._recovered_agent(place.owner, place.head)
            if runtime is not None:
                return runtime
            sleep(pause * SystemRandom().uniform(0.5, 1.0))
        raise Unavailable(f"other hosts keep claiming {path}; ask again", agent=path)

    def _choose_host(self, place: Located) -> str:
        first = next(iter(self._mailbox.waiting), None)  # none, where the system closes meanwhile
        was_forwarded = isinstance(first, RemoteEnvelope)
        hosting, path = self._services.hosting, self._mailbox.path
        return hosting.choose_host(path, place.owner, self._needed_type(place), was_forwarded=was_forwarded)

    def is_here(self, place: Located) -> bool:
        """Whether this host has the agent, or is to have it, without asking another one; in a worker thread."""
        known, head = self._services.folds.position(self._mailbox.path), place.head
        if head is None or (known is not None and known != (head.seq, head.digest)):
            return False
        try:
            return self._choose_host(place) == self._services.owner
        except DuramenError:
            return False

    def _check_known(self, head: Head | None) -> None:
        """Raise DataLoss or Diverged if the log lacks what this process knew to be there."""
        services, path = self._services, self._mailbox.path
        known = services.folds.position(path)
        if known is not None:
            check_known_event(services.log, path, head, *known)

    def _needed_type(self, place: Located) -> str | None:
        """The agent type whose class the first message needs; None if a plain `Agent` does."""
        wanted = self._wanted_type()
        if wanted in self._services.agents or self._services.hosting.has_class_elsewhere(wanted):
            return wanted
        try:
            line = unpack_line(place.line)
        except (ValueError, TypeError):
            path = self._mailbox.path
            raise CorruptEvent(f"the line of {path} in the directory is damaged; restore it", agent=path) from None
        return line.agent_type if line.needs_class else None

    def _new_agent(self, place: Located) -> Runtime | None:
        """An agent without a log: only a spawn can make one. None: another host has taken its tree meanwhile."""
        wanted = self._wanted_type()
        runtime = self._absent_agent(self._make(wanted), wanted, presumed_absent=False)
        if type(self._mailbox.waiting[0].message) is not Spawn or place.owner.host in ("", self._services.owner):
            return runtime  # nothing will be written, or the append claims the tree
        taken = self._services.hosting.store.take(self._mailbox.path, place.owner, self._services.owner)
        return runtime if taken.host == self._services.owner else None

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

    def _recovered_agent(self, owner: Owner, head: Head) -> Runtime | None:
        tracing = self._services.tracing
        if tracing is None:
            return self._stored_agent(owner, head)
        span = tracing.begin_recovery(self._mailbox.waiting[0], self._mailbox.path)
        try:
            runtime = self._stored_agent(owner, head)
        except BaseException as error:
            span.end(error)
            raise
        span.end(None if runtime is not None else "claimed_elsewhere")
        return runtime

    def _stored_agent(self, owner: Owner, head: Head) -> Runtime | None:
        """The agent at its head, claimed there; None if the head has changed, or another host has the tree."""
        services, path = self._services, self._mailbox.path
        found = self.fold(owner, AgentLog(services.log, path, services.limits), head)
        return self.claimed(found, services.hosting.store.claim(path, owner, head, services.owner, services.now()))

    def fold(self, owner: Owner, log: AgentLog, head: Head) -> Folded:
        """Make the agent, and fold its log to its head; in a worker thread. Raises what the user's code raises, too."""
        services, made = self._services, dict[str | None, _Made]()

        def fold_of(agent_type: str | None) -> CustomFold | None:
            if agent_type not in made:
                made[agent_type] = self._make(agent_type)
            return made[agent_type].agent.actor_fold(services.registry)

        rebuilt = rebuild_at_head(log, head, fold_of)
        state = rebuilt.state
        wanted = self._wanted_type() if state.status == TERMINATED_STATUS else state.agent_type
        if state.status == TERMINATED_STATUS:
            # A new session may be of another type, and the fold of its own events starts from its initial state.
            made[wanted] = self._make(wanted)
            rebuilt = Rebuilt(state, self._initial_state(made[wanted].agent), rebuilt.snapshot_seq)
        return Folded(owner, head, rebuilt, made[wanted], wanted, log)

    def claimed(self, found: Folded, answer: ClaimAnswer) -> Runtime | None:
        """The agent as it was claimed; None if it was not. Raises CorruptEvent."""
        if not answer.claimed or answer.head is None:
            return None
        _check_length(self._mailbox.path, answer, answer.head)
        agent, factory = found.made
        runtime = Runtime(self._services, self._mailbox, agent, answer.head.fence, found.rebuilt, factory=factory)
        if found.rebuilt.state.status == TERMINATED_STATUS:
            runtime.made_for = found.wanted
        elif isinstance(found.log, LoadedAgentLog):
            runtime.expect_work(found.log)
        return runtime

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
        agent.actor_check_names()
        return _Made(agent, factory)

    def start(self, runtime: Runtime, give_up_at: float = inf) -> None:
        """Let the agent handle what waits, if it is certainly this host's; in the core.

        `give_up_at` (of `time.monotonic`) bounds the wait for that; by default the wait begins now.
        """
        mailbox = self._mailbox
        if runtime.state.seq and not self._is_confirmed(runtime, give_up_at):
            return
        hosting = self._services.hosting
        hosting.router.drop_outdated(mailbox.waiting, hosting.membership.host)
        hosting.router.doubt_buried(mailbox.waiting)
        try:
            runtime.agent.actor_activate(runtime)
        except Exception as error:  # a class whose objects cannot be changed
            self.give_up(error)
            return
        mailbox.runner = runtime
        mailbox.phase = IDLE
        if runtime.state.seq:
            self._services.counts.recoveries += 1
            self._withdraw_again()
        try:
            self._services.activated()
        finally:
            if mailbox.waiting:
                runtime.run()

    def _is_confirmed(self, runtime: Runtime, give_up_at: float) -> bool:
        """Whether this host lived, for all others, when it had claimed the agent. If not, `start` is called again.

        Once `give_up_at` has passed, or the system closes, what waits is refused instead.
        A host that was stopped for longer than its lease may not know yet that it was declared dead. Then others have
        the messages that had been sent to it: the tree may have been theirs, and be nobody's again. From a confirmed
        claim on, the fence tells whether somebody else has done them.
        """
        services = self._services
        if not self._is_known_to_live():
            self._start_later(runtime, min(give_up_at, monotonic() + BEAT_WAIT_SECONDS))
            return False
        if not runtime.fence.endswith(f":{services.owner}"):  # it goes on as another host
            services.hosting.trees.leave(self._mailbox.path)
            self._become_idle()
            return False
        return True

    def _is_known_to_live(self) -> bool:
        """Whether a beat has gone through lately, under the id by which the core acts."""
        membership = self._services.hosting.membership
        return membership.may_begin() and self._services.owner == membership.host

    def _start_later(self, runtime: Runtime, give_up_at: float) -> None:
        services = self._services
        if services.actors.is_closed or monotonic() >= give_up_at:
            services.hosting.router.drop_outdated(self._mailbox.waiting, services.hosting.membership.host)
            self.give_up(not_begun(self.path))
            return
        try:
            services.timers.call_later(
                _BEAT_PAUSE, lambda: services.dispatcher.post(lambda: self.start(runtime, give_up_at))
            )
        except RuntimeError as error:  # no more threads
            self.give_up(error)

    def _forward(self, place: _Elsewhere, wait_until: float = inf) -> None:
        """Have the messages sent to the host that has the agent.

        Where this host may have been declared dead, that host would drop them: they wait for a beat first, not beyond
        `wait_until` (of `time.monotonic`), and by default for as long as `start` does.
        """
        mailbox, services = self._mailbox, self._services
        wait_until = min(wait_until, monotonic() + BEAT_WAIT_SECONDS)
        if not self._is_known_to_live() and not services.actors.is_closed and monotonic() < wait_until:
            with suppress(RuntimeError):  # no more threads: do not wait
                services.timers.call_later(
                    _BEAT_PAUSE, lambda: services.dispatcher.post(lambda: self._forward(place, wait_until))
                )
                return
        if place.host == services.hosting.membership.host:  # found before the core knew that it goes on under this id
            if self._is_known_to_live():
                services.hosting.trees.leave(mailbox.path)
                self._become_idle()
            else:
                self.give_up(not_begun(self.path))
            return
        services.hosting.trees.leave(mailbox.path)
        mailbox.runner = forwarding = Forwarding(services, mailbox, place.host, place.seq)
        mailbox.phase = IDLE
        self._withdraw_again()
        forwarding.run()

    def _withdraw_again(self) -> None:
        """Drop what nobody waits for any more, before the agent, or its host, gets it; in the core."""
        withdrawn, self._withdrawn = self._withdrawn, []
        for is_it in withdrawn:
            self._services.actors.withdraw_now(self._mailbox.path, is_it)

    def give_up(self, error: BaseException, *, refuse_reads: bool = False) -> None:
        """Note that the agent does not come into memory after all, and fail its messages; in the core."""
        self._services.hosting.trees.leave(self._mailbox.path)
        self._fail(error if isinstance(error, DuramenError) else self._failure(error), refuse_reads=refuse_reads)

    def _fail(self, error: DuramenError, *, refuse_reads: bool = False) -> None:
        """Fail all waiting messages but those that only look; the next message tries again."""
        mailbox = self._mailbox
        if isinstance(error, (DataLoss, Diverged, Erased)):
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
        self._withdraw_again()
        if mailbox.waiting:
            self._services.dispatcher.schedule(mailbox)
        else:
            self._services.actors.remove_if_idle(mailbox)


def _is_read(envelope: Envelope) -> bool:
    return type(envelope.message) in READS


def _check_length(path: str, claim: ClaimAnswer, head: Head) -> None:
    if head.base + claim.length != head.seq:
        raise CorruptEvent(
            f"head and list of {path} do not fit together; restore them from a backup",
            agent=path,
            expected=head.seq,
            actual=head.base + claim.length,
        )


def type_of(message: Spawn) -> str | None:
    """The agent type that a spawn asks for, as text."""
    return None if message.agent_type is None else str(message.agent_type)
