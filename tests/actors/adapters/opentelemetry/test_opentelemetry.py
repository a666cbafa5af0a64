"""Spans of messages: one trace from the caller to the commit, over processes, and nothing of what messages say."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from attrs import define, field, frozen
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind

from duramen.actors import Agent, AgentSystem, Retry, Settings
from duramen.adapters.opentelemetry import OpenTelemetryTracing
from duramen.events import AskTimeout, HandlerRaised, InvalidMessage, Limits, MailboxFull, StepFailed, message_type
from waiting import eventually

OpenSystem = Callable[..., AgentSystem]
PATH = "acme/alice"
SECRET = "sk-a-secret"


@define
class Traced:
    """A tracer whose spans are kept, and the settings of a system that uses it."""

    exporter: InMemorySpanExporter = field(factory=InMemorySpanExporter)
    provider: TracerProvider = field(factory=TracerProvider)
    tracing: OpenTelemetryTracing = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.tracing = OpenTelemetryTracing(self.provider)

    @property
    def settings(self) -> Settings:
        return Settings(tracing=self.tracing)

    def span(self, name: str) -> ReadableSpan:
        """The only span of this name, once it has ended."""
        eventually(lambda: any(span.name == name for span in self.exporter.get_finished_spans()), what=name)
        [found] = [span for span in self.exporter.get_finished_spans() if span.name == name]
        return found

    def names(self) -> list[str]:
        return sorted(span.name for span in self.exporter.get_finished_spans())


@pytest.fixture
def traced() -> Traced:
    return Traced()


def assert_inside(inner: ReadableSpan, outer: ReadableSpan) -> None:
    assert inner.parent is not None
    assert outer.context is not None
    assert inner.parent.span_id == outer.context.span_id
    assert inner.context is not None
    assert inner.context.trace_id == outer.context.trace_id


@pytest.fixture
def writer(traced: Traced) -> type[Agent]:
    class Own(Agent):
        def on_receive(self, message: Any) -> Any:
            if message == "fail":
                raise ValueError(SECRET)
            with traced.provider.get_tracer("model").start_as_current_span("chat"):
                self.set("answer", message)
            return message

    return Own


@pytest.fixture
def async_writer(traced: Traced) -> type[Agent]:
    class Own(Agent):
        async def on_receive(self, message: Any) -> Any:
            await asyncio.sleep(0)
            with traced.provider.get_tracer("model").start_as_current_span("chat"):
                self.set("answer", message)
            return message

    return Own


@pytest.mark.parametrize("kind", ["writer", "async_writer"])
def test_the_spans_of_a_message_lie_inside_its_callers(
    open_any: OpenSystem, traced: Traced, kind: str, request: pytest.FixtureRequest
) -> None:
    system = open_any(agents={"writer": request.getfixturevalue(kind)}, settings=traced.settings)
    with traced.provider.get_tracer("request").start_as_current_span("request"):
        agent = system.spawn(PATH, agent_type="writer", session_id="s-1")
    traced.exporter.clear()
    with traced.provider.get_tracer("request").start_as_current_span("request"):
        assert agent.ask("hello") == "hello"
    sent, handled, committed = traced.span("send str"), traced.span("invoke_agent writer"), traced.span("commit")
    assert_inside(sent, traced.span("request"))
    assert_inside(handled, sent)
    assert_inside(traced.span("chat"), handled)
    assert_inside(committed, handled)
    assert (sent.kind, handled.kind) == (SpanKind.CLIENT, SpanKind.CONSUMER)
    assert handled.attributes == {
        "gen_ai.operation.name": "invoke_agent",
        "gen_ai.agent.id": PATH,
        "gen_ai.agent.name": "writer",
        "gen_ai.conversation.id": "s-1",
        "duramen.message": "str",
        "duramen.seq": 1,
    }
    assert committed.attributes is not None
    assert (committed.attributes["duramen.events"], committed.attributes["duramen.messages"]) == (1, 1)


def test_a_spawn_is_create_agent_and_a_recovery_lies_inside_the_message_that_needed_it(
    open_any: OpenSystem, traced: Traced
) -> None:
    system = open_any(settings=traced.settings)
    system.spawn(PATH)
    created = traced.span("create_agent")
    assert created.attributes is not None
    assert created.attributes["gen_ai.operation.name"] == "create_agent"
    assert_inside(traced.span("commit"), created)
    system.drain()
    traced.exporter.clear()
    system.agent(PATH).set("n", 1)
    assert_inside(traced.span("recover"), traced.span("send Set"))
    assert_inside(traced.span("commit"), traced.span("send Set"))


def test_a_trace_goes_on_in_the_process_of_the_agents_host(open_any: OpenSystem, writer: type[Agent]) -> None:
    near, far = Traced(), Traced()
    host = open_any(agents={"writer": writer}, settings=far.settings)
    host.spawn(PATH, agent_type="writer")
    far.exporter.clear()
    client = open_any(host=False, settings=near.settings)
    assert client.agent(PATH).ask("hello") == "hello"
    sent, handled = near.span("send str"), far.span("invoke_agent writer")
    assert_inside(handled, sent)
    assert_inside(far.span("commit"), handled)
    client.agent(PATH).set("n", 1)
    far.exporter.clear()
    client.agent(PATH).set("n", 2)
    sets = [span for span in near.exporter.get_finished_spans() if span.name == "send Set"]
    assert_inside(far.span("commit"), sets[-1])


@pytest.mark.parametrize("traced_side", ["client", "host"])
def test_only_one_side_may_trace(open_any: OpenSystem, traced: Traced, traced_side: str) -> None:
    settings = {traced_side: traced.settings}
    host = open_any(settings=settings.get("host"))
    host.spawn(PATH)
    open_any(host=False, settings=settings.get("client")).agent(PATH).set("n", 1)
    eventually(lambda: {"client": "send Set", "host": "commit"}[traced_side] in traced.names())


def test_messages_that_a_handler_sends_lie_inside_its_span(open_any: OpenSystem, traced: Traced) -> None:
    class Parent(Agent):
        def on_receive(self, message: Any) -> None:
            self.system.agent(f"{PATH}-2").set("n", message)
            if message == 1:
                self.tell_self(["later"])

    system = open_any(agents={"parent": Parent}, settings=traced.settings)
    system.spawn(f"{PATH}-2")
    agent = system.spawn(PATH, agent_type="parent")
    agent.ask(1)
    eventually(lambda: traced.names().count("invoke_agent parent") == 2)
    first = min(
        (span for span in traced.exporter.get_finished_spans() if span.name == "invoke_agent parent"),
        key=lambda span: span.start_time or 0,
    )
    assert_inside(traced.span("send list"), first)
    sets = [span for span in traced.exporter.get_finished_spans() if span.name == "send Set"]
    assert_inside(min(sets, key=lambda span: span.start_time or 0), first)


def test_no_span_says_what_messages_events_and_errors_say(
    open_any: OpenSystem, traced: Traced, writer: type[Agent]
) -> None:
    system = open_any(agents={"writer": writer}, settings=traced.settings)
    agent = system.spawn(PATH, agent_type="writer", initial_state={"token": SECRET}, metadata={"m": SECRET})
    agent.set("key", SECRET)
    agent.ask(f"say {SECRET}", command_id=SECRET)
    agent.record("completion", {"text": SECRET})
    with pytest.raises(HandlerRaised):
        agent.ask("fail")
    agent.terminate()
    eventually(lambda: "send Terminate" in traced.names())
    spans = traced.exporter.get_finished_spans()
    assert {span.attributes.get("error.type") for span in spans if span.attributes} == {
        None,
        "HandlerRaised",
        "ValueError",
    }
    assert SECRET not in "".join(span.to_json() for span in spans)


def test_a_span_ends_however_its_call_does_and_nothing_of_it_is_kept(
    open_any: OpenSystem, traced: Traced, gate: Any
) -> None:
    begun = threading.Event()

    class Slow(Agent):
        def on_receive(self, message: Any) -> None:
            begun.set()
            gate.wait()

    system = open_any(agents={"slow": Slow}, settings=traced.settings, limits=Limits(mailbox_messages=2))
    agent = system.spawn(PATH, agent_type="slow")
    agent.tell("first")
    assert begun.wait(10)  # it is no longer in the mailbox
    with pytest.raises(AskTimeout):
        agent.ask("second", timeout=0.01)
    eventually(lambda: len(_errors(traced)) == 1)
    with pytest.raises(MailboxFull):
        for _ in range(4):
            agent.tell("more")
    with pytest.raises(MailboxFull):
        agent.ask("more")
    gate.set()
    system.close()
    assert sorted(_errors(traced)) == ["AskTimeout", "MailboxFull"]
    assert traced.tracing._contexts == {}


def _errors(traced: Traced) -> list[Any]:
    spans = traced.exporter.get_finished_spans()
    return [span.attributes["error.type"] for span in spans if span.attributes and "error.type" in span.attributes]


# -- durable messages ------------------------------------------------------------------------------------------------


@message_type("traced_refund", durable=True)
@frozen
class Refund:
    order: str


@pytest.fixture
def durable(traced: Traced) -> type[Agent]:
    """Its handler asks a model, does something in a thread, asks another agent, and fails."""

    class Durable(Agent):
        async def on_receive(self, message: Any) -> Any:
            if not isinstance(message, Refund):
                return len(message)
            plan = await self.step("plan", self.ask_model, message.order, model="large-2")
            paid = await self.step("pay", self.pay, plan)
            await self.ask(f"{PATH}-2", ["count", "these"])
            with suppress(StepFailed):
                await self.step("fail", self.fail, retry=Retry(times=2, backoff=0))
            self.set("paid", paid)
            return paid

        @staticmethod
        async def ask_model(order: str) -> str:
            with traced.provider.get_tracer("model").start_as_current_span("http"):
                await asyncio.sleep(0)
            return f"plan of {order}"

        @staticmethod
        def pay(plan: str) -> str:
            with traced.provider.get_tracer("model").start_as_current_span("bank"):
                return f"paid {plan}"

        @staticmethod
        def fail() -> None:
            raise ValueError(SECRET)

    return Durable


@pytest.mark.parametrize("how", ["ask", "send"])
def test_steps_are_calls_of_tools_and_models_in_the_trace_of_their_message(
    open_any: OpenSystem, traced: Traced, durable: type[Agent], how: str
) -> None:
    system = open_any(agents={"durable": durable}, settings=traced.settings)
    system.spawn(f"{PATH}-2", agent_type="durable")
    agent = system.spawn(PATH, agent_type="durable", session_id="s-1")
    traced.exporter.clear()
    with traced.provider.get_tracer("request").start_as_current_span("request"):
        if how == "ask":
            agent.ask(Refund(SECRET))
        else:
            agent.result(agent.send(Refund(SECRET)), timeout=60)
    eventually(lambda: traced.names().count("invoke_agent durable") == 6, what="five stretches, and the other agent")
    spans = traced.exporter.get_finished_spans()
    assert len({span.context.trace_id for span in spans if span.context is not None}) == 1
    sent = traced.span("send Refund" if how == "ask" else "send Accept")
    stretches = [span for span in spans if span.name == "invoke_agent durable"]
    first = stretches[0]
    assert_inside(first, sent)
    chat, tool = traced.span("chat large-2"), traced.span("execute_tool pay")
    assert_inside(chat, first)
    assert_inside(traced.span("http"), chat)
    assert_inside(tool, stretches[1])
    assert_inside(traced.span("bank"), tool)
    assert_inside(traced.span("send list"), stretches[2])
    assert (chat.kind, tool.kind) == (SpanKind.CLIENT, SpanKind.INTERNAL)
    about = {"gen_ai.agent.id": PATH, "gen_ai.agent.name": "durable", "gen_ai.conversation.id": "s-1"}
    assert chat.attributes is not None
    assert {**chat.attributes, "duramen.seq": 0} == {
        **about,
        "gen_ai.operation.name": "chat",
        "gen_ai.request.model": "large-2",
        "duramen.step": "plan",
        "duramen.attempt": 1,
        "duramen.seq": 0,
    }
    assert tool.attributes is not None
    assert {**tool.attributes, "duramen.seq": 0} == {
        **about,
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.name": "pay",
        "gen_ai.tool.type": "function",
        "duramen.step": "pay",
        "duramen.attempt": 1,
        "duramen.seq": 0,
    }
    failed = [dict(span.attributes or {}) for span in spans if span.name == "execute_tool fail"]
    assert [(found["duramen.attempt"], found["error.type"]) for found in failed] == [
        (1, "ValueError"),
        (2, "ValueError"),
    ]
    assert SECRET not in "".join(span.to_json() for span in spans)
    eventually(lambda: not traced.tracing._contexts)


def test_a_step_that_is_repeated_by_another_host_is_traced_there(open_any: OpenSystem, traced: Traced) -> None:
    class Durable(Agent):
        async def on_receive(self, message: Any) -> Any:
            await self.wait_for("approval")
            return await self.step("pay", str, 1)

    agents = {"durable": Durable}
    host = open_any(agents=agents)
    receipt = host.spawn(PATH, agent_type="durable").send(Refund("o-17"))
    eventually(lambda: bool(host.agent(PATH).unfinished()[0].waits_for))
    host.close()
    agent = open_any(agents=agents, settings=traced.settings).agent(PATH)
    agent.answer("approval", True)
    assert agent.result(receipt, timeout=60) == "1"
    eventually(lambda: traced.names().count("invoke_agent durable") == 2)
    first, second = [span for span in traced.exporter.get_finished_spans() if span.name == "invoke_agent durable"]
    assert_inside(traced.span("execute_tool pay"), first)
    assert_inside(second, first)


@pytest.mark.slow
def test_the_library_does_not_need_opentelemetry() -> None:
    """redis-py imports it where it is installed; so here it cannot be imported."""
    code = "import sys; sys.modules['opentelemetry'] = None; import duramen.actors, duramen.actors.console"
    assert subprocess.run([sys.executable, "-P", "-c", code], check=False, timeout=60).returncode == 0


def test_what_is_no_tracing_is_refused() -> None:
    with pytest.raises(InvalidMessage, match="tracing takes"):
        Settings(tracing=TracerProvider())
