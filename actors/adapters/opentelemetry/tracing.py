"""Spans of messages: sent, handled, committed, recovered."""

from __future__ import annotations

import threading
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

from opentelemetry import context as current
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Link, SpanKind, Status, StatusCode, TracerProvider
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from duramen.actors.commands import Spawn, TracedAgent, TracedMessage, TracedStep

_OPERATION: Final = "gen_ai.operation.name"
_AGENT: Final = "gen_ai.agent.id"
_TYPE: Final = "gen_ai.agent.name"
_SESSION: Final = "gen_ai.conversation.id"
_MODEL: Final = "gen_ai.request.model"
_TOOL: Final = "gen_ai.tool.name"
_ERROR: Final = "error.type"
_MOST_LINKS: Final = 16


class OpenTelemetryTracing:
    """Makes spans of a system's messages: `Settings(tracing=OpenTelemetryTracing())`. Thread-safe.

    The names and attributes of spans hold types, agent paths, session ids, seqs, and names of steps and models; nothing
    that messages, events or errors say.
    """

    def __init__(self, provider: TracerProvider | None = None) -> None:
        """Without a `provider`, spans go to the global one."""
        self._tracer = trace.get_tracer("duramen", tracer_provider=provider)
        self._propagator = TraceContextTextMapPropagator()
        self._lock = threading.Lock()
        self._contexts: dict[int, Context] = {}
        """By id of each message without an outcome: the span that what happens to it next lies inside."""

    def send(self, agent: str, message: TracedMessage, carried: Mapping[str, str] | None = None) -> None:
        """Begin a span for a message, which ends with its outcome; that of a tell ends at once."""
        sent = message.message
        kind = type(sent).__name__
        attributes = {_AGENT: agent, "duramen.message": kind}
        name = f"send {kind}"
        if isinstance(sent, Spawn):
            name = "create_agent"
            attributes[_OPERATION] = name
            if sent.agent_type is not None:
                attributes[_TYPE] = str(sent.agent_type)
                name = f"{name} {sent.agent_type}"
        parent = None if carried is None else self._propagator.extract(carried, Context())
        kind_of_span = SpanKind.CLIENT if message.wanted else SpanKind.PRODUCER
        span = self._tracer.start_span(name, context=parent, kind=kind_of_span, attributes=attributes)
        self._keep(message, trace.set_span_in_context(span))
        if message.wanted:
            message.add_done_callback(lambda: _end(span, message.error))
        else:
            span.end()

    def inject(self, message: TracedMessage) -> dict[str, str]:
        carried: dict[str, str] = {}
        context = self._context(message)
        if context is not None:
            self._propagator.inject(carried, context)
        return carried

    def extract(self, message: TracedMessage, carried: Mapping[str, str]) -> None:
        self._keep(message, self._propagator.extract(carried, Context()))

    def begin_handler(self, message: TracedMessage, agent: TracedAgent, durable: str | None = None) -> SpanInContext:
        name = "invoke_agent" if agent.agent_type is None else f"invoke_agent {agent.agent_type}"
        attributes = {_OPERATION: "invoke_agent", "duramen.message": durable or type(message.message).__name__}
        parent = self._context(message)
        span = self._begin(name, parent or Context(), _about(agent, attributes), kind=SpanKind.CONSUMER)
        if parent is None:  # a timer's
            self._keep(message, span.context)
        else:  # its commit lies inside the handler's span
            with self._lock:
                self._contexts[id(message)] = span.context
        return span

    def begin_step(self, step: TracedStep, agent: TracedAgent, carried: Mapping[str, str]) -> SpanInContext:
        """Begin `chat MODEL` for a step that asks a model, and `execute_tool STEP` for any other."""
        attributes: dict[str, Any] = {"duramen.step": step.name, "duramen.attempt": step.attempt}
        if step.model is None:
            name, kind = "execute_tool", SpanKind.INTERNAL
            what = attributes[_TOOL] = step.name
            attributes["gen_ai.tool.type"] = "function"
        else:
            name, kind = "chat", SpanKind.CLIENT
            what = attributes[_MODEL] = step.model
        attributes[_OPERATION] = name
        parent = self._propagator.extract(carried, Context())
        return self._begin(f"{name} {what}", parent, _about(agent, attributes), kind=kind)

    def begin_commit(self, messages: Sequence[TracedMessage], agent: TracedAgent, events: int) -> SpanInContext:
        known = [found for message in messages if (found := self._context(message)) is not None]
        attributes = {"duramen.messages": len(messages), "duramen.events": events}
        links = [Link(trace.get_current_span(other).get_span_context()) for other in known[1 : _MOST_LINKS + 1]]
        return self._begin("commit", known[0] if known else Context(), _about(agent, attributes), links=links)

    def begin_recovery(self, message: TracedMessage, agent: str) -> SpanInContext:
        return self._begin("recover", self._context(message) or Context(), {_AGENT: agent})

    def _begin(
        self,
        name: str,
        parent: Context,
        attributes: dict[str, Any],
        *,
        kind: SpanKind = SpanKind.INTERNAL,
        links: Sequence[Link] = (),
    ) -> SpanInContext:
        return SpanInContext(
            self._tracer.start_span(name, context=parent, kind=kind, attributes=attributes, links=links)
        )

    def _keep(self, message: TracedMessage, context: Context) -> None:
        key = id(message)
        with self._lock:
            self._contexts[key] = context
        message.add_done_callback(lambda: self._forget(key))

    def _forget(self, key: int) -> None:
        with self._lock:
            self._contexts.pop(key, None)

    def _context(self, message: TracedMessage) -> Context | None:
        with self._lock:
            return self._contexts.get(id(message))


class SpanInContext:
    """A span, and the context that what happens inside it has."""

    def __init__(self, span: trace.Span) -> None:
        self._span = span
        self.context: Final = trace.set_span_in_context(span, Context())

    @contextmanager
    def running(self) -> Generator[None]:
        token = current.attach(trace.set_span_in_context(self._span))
        try:
            yield
        finally:
            current.detach(token)

    def end(self, problem: BaseException | str | None = None) -> None:
        _end(self._span, problem)


def _about(agent: TracedAgent, attributes: dict[str, Any]) -> dict[str, Any]:
    found = {**attributes, _AGENT: agent.path, "duramen.seq": agent.seq}
    if agent.agent_type is not None:
        found[_TYPE] = agent.agent_type
    if agent.session_id is not None:
        found[_SESSION] = agent.session_id
    return found


def _end(span: trace.Span, problem: BaseException | str | None) -> None:
    if problem is not None:
        name = problem if isinstance(problem, str) else type(problem).__name__
        span.set_attribute(_ERROR, name)  # not what it says, which may quote a payload
        span.set_status(Status(StatusCode.ERROR, name))
    span.end()
