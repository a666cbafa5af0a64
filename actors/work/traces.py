"""The traces that an agent's work lies in, where a system traces its messages."""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping
from functools import partial

from ..commands import Span, TracedAgent, TracedStep, Tracing
from ..dispatch import Envelope
from ..handlers import ActiveAgent, Turn
from .execution import Begun, Execution
from .messages import Continue, Note, Rerun


class WorkTraces:
    """Puts the spans of durable handlers and their steps into the trace that their message came with."""

    def __init__(self, tracing: Tracing, runtime: ActiveAgent) -> None:
        self._tracing = tracing
        self._runtime = runtime
        self._carried: dict[int, Mapping[str, str]] = {}
        """By work: the trace that its message came with, where that came to this stay in memory."""

    def note(self, work: int, envelope: Envelope) -> None:
        """Keep the trace that a durable message came with until its work has ended."""
        self._carried.setdefault(work, self._tracing.inject(envelope))

    def keep(self, pieces: Container[str]) -> None:
        """Forget the traces of work that is not among the unfinished."""
        for work in [work for work in self._carried if str(work) not in pieces]:
            del self._carried[work]

    def attach(self, envelope: Envelope) -> None:
        """Put a message of the agent to itself into the trace of the work that it is about."""
        message, work = envelope.message, 0
        if isinstance(message, Continue | Rerun):
            work = message.work
        elif isinstance(message, Note):
            work = int(message.event.data.get("work", 0))
        self._tracing.extract(envelope, self._carried.get(work, {}))

    def run_stretch(
        self,
        turn: Turn,
        envelope: Envelope,
        execution: Execution,
        name: str,
        run: Callable[[], BaseException | None],
    ) -> None:
        """Call `run`, which returns what the handler of a message of this name has raised, inside a span."""
        span = self._tracing.begin_handler(envelope, turn.traced_agent(), name)
        execution.carried = self._tracing.inject(envelope)
        # Of work that was taken up here: one trace for what follows.
        self._carried.setdefault(execution.identity.work, execution.carried)
        problem: BaseException | None = None
        try:
            with span.running():
                problem = run()
        except BaseException as error:
            problem = error
            raise
        finally:
            span.end(problem)

    def step(self, execution: Execution, begun: Begun, attempt: int) -> Callable[[], Span]:
        """Return the function that begins the span of an attempt of a step."""
        state = self._runtime.state
        agent = TracedAgent(self._runtime.path, state.agent_type, state.session_id, state.seq)
        carried = execution.carried or self._carried.get(execution.identity.work, {})
        return partial(self._tracing.begin_step, TracedStep(begun.name, begun.model, attempt), agent, carried)
