"""Bringing an agent into memory: claim it, rebuild its state from the log, put it to work."""

from __future__ import annotations

from typing import TYPE_CHECKING

from duramen.events import AgentFailed, CorruptEvent, DuramenError
from duramen.events.codec import Codec
from duramen.events.log import Claim
from duramen.events.logs import get_logger
from duramen.projections.rebuild import CustomFold, Rebuilt, rebuild
from duramen.projections.state import AgentState

from .agent import Agent
from .mailbox import IDLE, WORKING, Mailbox
from .messages import Spawn
from .problems import for_agent
from .runtime import Runtime

if TYPE_CHECKING:
    from .services import Services

__all__ = ["Activation"]


class Activation:
    """The runner of a mailbox whose agent is not in memory.

    A spawn is tried at once on an empty state, without a look at the log: if the agent exists after all, the log says
    so, and the spawn is handled again after a proper activation. Anything else has the agent rebuilt first, in a
    worker thread, of which there are few: thousands of activations wait in line rather than storm the server.
    """

    __slots__ = ("_mailbox", "_services", "_tried")

    def __init__(self, services: Services, mailbox: Mailbox) -> None:
        self._services = services
        self._mailbox = mailbox

    def run(self) -> None:
        envelope = self._mailbox.waiting[0]
        if type(envelope.message) is Spawn and envelope.message.command_id is None and envelope.tries == 0:
            envelope.tries = 1
            agent_type = envelope.message.agent_type
            self._begin(None if agent_type is None else str(agent_type), presumed=True)
            return
        self._mailbox.phase = WORKING
        self._services.activations.submit(self._activate)

    def _activate(self) -> None:
        """In a worker thread."""
        services, path = self._services, self._mailbox.path
        try:
            claim = services.log.claim([path], services.owner, services.now())[0]
            if claim is None:
                services.dispatcher.post(self._begin_absent)
                return
            agent, rebuilt = self._rebuild(claim)
        except DuramenError as error:
            failure = error
            services.dispatcher.post(lambda: self._fail(failure))
        except Exception as error:  # the user's own code: a factory or an apply
            failed = AgentFailed(
                f"{path} cannot be brought back: {type(error).__name__} in the code of its agent type",
                agent=path,
            )
            failed.__cause__ = error
            services.dispatcher.post(lambda: self._fail(failed))
        else:
            runtime = Runtime(services, self._mailbox, agent, claim.head.fence, rebuilt)
            services.dispatcher.post(lambda: self._put_to_work(agent, runtime))

    def _rebuild(self, claim: Claim) -> tuple[Agent, Rebuilt]:
        services, path = self._services, self._mailbox.path
        head = claim.head
        if head.base + claim.length != head.seq:
            raise CorruptEvent(
                f"head and list of {path} do not fit together; restore them from a backup",
                agent=path,
                expected=head.seq,
                actual=head.base + claim.length,
            )
        made: dict[str | None, Agent] = {}

        def fold_of(agent_type: str | None) -> CustomFold | None:
            if agent_type not in made:
                made[agent_type] = self._make(agent_type)
            return made[agent_type].custom_fold(services.registry)

        rebuilt = rebuild(services.log, path, Codec(services.limits), services.limits, fold_of=fold_of, to_seq=head.seq)
        if (rebuilt.state.seq, rebuilt.state.digest) != (head.seq, head.digest):
            raise CorruptEvent(
                f"the log of {path} does not end where its head says; restore it from a backup",
                agent=path,
                seq=rebuilt.state.seq,
                expected=head.digest.hex(),
                actual=rebuilt.state.digest.hex(),
            )
        return made[rebuilt.state.agent_type], rebuilt

    def _make(self, agent_type: str | None) -> Agent:
        factory = self._services.agents.get(agent_type) if agent_type is not None else None
        return Agent() if factory is None else factory()

    def _begin_absent(self) -> None:
        """The log does not know the agent: only a spawn can change that."""
        message = self._mailbox.waiting[0].message if self._mailbox.waiting else None
        wanted = message.agent_type if type(message) is Spawn else None
        self._begin(None if wanted is None else str(wanted), presumed=False)

    def _begin(self, agent_type: str | None, *, presumed: bool) -> None:
        """Start with an agent that no log is known of; in the core."""
        path = self._mailbox.path
        try:
            agent = self._make(agent_type)
        except Exception as error:
            failed = AgentFailed(f"{path} cannot be made: {type(error).__name__} in its agent type", agent=path)
            failed.__cause__ = error
            self._fail(failed)
            return
        fence = f"1:{self._services.owner}"
        start = Rebuilt(AgentState(), None, 0)
        self._put_to_work(
            agent, Runtime(self._services, self._mailbox, agent, fence, start, create=True, presumed=presumed)
        )

    def _put_to_work(self, agent: Agent, runtime: Runtime) -> None:
        mailbox = self._mailbox
        agent.join(runtime, mailbox, self._services)
        mailbox.runner = runtime
        mailbox.phase = IDLE
        self._services.activated()
        if mailbox.waiting:
            runtime.run()

    def _fail(self, error: DuramenError) -> None:
        """Answer all that waits with the error; whoever comes next tries again."""
        mailbox = self._mailbox
        get_logger("agent").warning("activation_failed", agent=mailbox.path, error=type(error).__name__)
        while mailbox.waiting:
            own = for_agent(error, mailbox.path, error.seq or 0)
            own.__cause__ = error.__cause__
            mailbox.waiting.popleft().fail(own)
        mailbox.phase = IDLE
        if mailbox.waiting:
            self._services.dispatcher.schedule(mailbox)
        else:
            self._services.directory.remove_if_idle(mailbox)
