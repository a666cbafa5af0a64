"""A durable message is handled to its end, and the results of its steps are in the log before they are used."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest

from actors.work.jobs import REGISTRY, Job, spawn_worker, types_of
from duramen.actors import Agent, AgentSystem, Retry
from duramen.events import (
    HandlerRaised,
    InStep,
    InvalidMessage,
    Limits,
    NotDurable,
    StepFailed,
    TooLarge,
    ValueRefused,
)
from waiting import eventually

OpenSystem = Callable[..., AgentSystem]


def run(system: AgentSystem, work: Any) -> Any:
    """The reply of a durable message whose handler is `work`."""
    return spawn_worker(system, work).ask(Job("x"))


@pytest.fixture
def system(open_system: OpenSystem) -> AgentSystem:
    return open_system(registry=REGISTRY)


def test_a_durable_message_is_handled_on_every_kind_of_log(open_any: OpenSystem) -> None:
    async def work(self: Any, message: Job) -> Any:
        plan = await self.step("plan", lambda: {"amount": 5})
        self.set("plan", plan)
        return await self.step("pay", lambda amount: amount + 1, plan["amount"])

    system = open_any(registry=REGISTRY)
    assert run(system, work) == 6
    assert system.verify("acme/alice").ok
    assert system.agent("acme/alice").get() == {"plan": {"amount": 5}}


def test_only_durable_messages_are_sent(system: AgentSystem) -> None:
    alice = system.spawn("acme/alice")
    with pytest.raises(InvalidMessage, match="durable=True"):
        alice.send("a plain message")
    assert types_of(system) == ["spawned"]


def test_a_handler_gets_the_results_of_its_steps(system: AgentSystem) -> None:
    async def pay(amount: int) -> str:
        return f"paid {amount}"

    async def work(self: Any, message: Job) -> Any:
        plan = await self.step("plan", lambda name: {"of": name, "amount": 5}, message.name)
        self.set("plan", plan)
        return [await self.step("pay", pay, plan["amount"]), self.get("plan/of")]

    assert run(system, work) == ["paid 5", "x"]
    assert types_of(system) == [
        "spawned",
        "work_accepted",
        *("work_continued", "work_begun"),
        *("work_continued", "memory_set", "work_begun"),
        *("work_continued", "work_ended"),
    ]
    assert system.verify("acme/alice").ok


def test_a_step_starts_when_what_came_before_it_is_in_the_log(system: AgentSystem) -> None:
    def look() -> list[str]:
        return types_of(system)

    async def work(self: Any, message: Job) -> Any:
        self.set("a", 1)
        return await self.step("look", look)

    assert run(system, work) == ["spawned", "work_accepted", "work_continued", "memory_set", "work_begun"]


def test_side_by_side_steps_run_at_once_and_each_branch_gets_its_own(system: AgentSystem) -> None:
    both = threading.Barrier(2)

    def meet(name: str) -> str:
        both.wait(10)
        return name

    async def work(self: Any, message: Job) -> Any:
        return await asyncio.gather(self.step("meet", meet, "a"), self.step("meet", meet, "b"))

    assert run(system, work) == ["a", "b"]


def test_the_agent_handles_other_messages_between_stretches(system: AgentSystem, gate: threading.Event) -> None:
    def wait() -> bool:
        return gate.wait(10)

    async def work(self: Any, message: Job) -> Any:
        await self.step("wait", wait)
        return self.get("meanwhile")

    alice = spawn_worker(system, work)
    receipt = alice.send(Job("x"))
    alice.set("meanwhile", 7)
    gate.set()
    assert alice.result(receipt) == 7


def test_send_returns_when_the_message_is_in_the_log(system: AgentSystem, gate: threading.Event) -> None:
    async def work(self: Any, message: Job) -> Any:
        return await self.step("wait", gate.wait, 10)

    alice = spawn_worker(system, work)
    receipt = alice.send(Job("x"), command_id="j-1")
    accepted = list(system.events("acme/alice"))[receipt.seq - 1]
    assert (accepted.type, accepted.data["data"], accepted.command_id) == ("work_accepted", {"name": "x"}, "j-1")
    assert alice.send(Job("x"), command_id="j-1")[:3] == receipt[:3]
    [unfinished] = alice.unfinished()
    assert (unfinished.work, unfinished.message_type, unfinished.version) == (receipt.seq, "job", 3)
    gate.set()
    assert alice.result(receipt) is True
    assert alice.unfinished() == []


def test_the_result_is_there_long_after_the_end(system: AgentSystem) -> None:
    async def work(self: Any, message: Job) -> Any:
        if message.name == "bad":
            raise LookupError("no such order")
        return {"of": message.name}

    alice = spawn_worker(system, work)
    good, bad = alice.send(Job("good")), alice.send(Job("bad"))
    assert alice.result(good) == {"of": "good"}
    with pytest.raises(HandlerRaised, match="no such order") as raised:
        alice.result(bad)
    assert isinstance(raised.value, LookupError)
    assert alice.result(good.seq) == {"of": "good"}
    with pytest.raises(InvalidMessage, match="has no work 1"):
        alice.result(1)


def test_what_a_failed_stretch_wrote_is_discarded_and_what_came_before_stays(system: AgentSystem) -> None:
    async def work(self: Any, message: Job) -> Any:
        self.set("before", 1)
        await self.step("one", lambda: 1)
        self.set("after", 2)
        raise ValueError("no")

    with pytest.raises(HandlerRaised, match="no"):
        run(system, work)
    assert system.agent("acme/alice").get() == {"before": 1}


# -- failures and attempts ---------------------------------------------------------------------------------------------


def test_a_step_that_raises_is_a_step_failed_with_plain_facts(system: AgentSystem) -> None:
    class CardRefused(Exception):
        def __init__(self, code: int) -> None:
            super().__init__("insufficient funds")
            self.data = {"code": code}

    def pay() -> None:
        raise CardRefused(51)

    async def work(self: Any, message: Job) -> Any:
        with pytest.raises(StepFailed) as raised:
            await self.step("pay", pay)
        return [raised.value.kind, raised.value.text, raised.value.data]

    assert run(system, work) == ["CardRefused", "insufficient funds", {"code": 51}]


def test_a_step_is_attempted_as_often_as_its_retry_says(system: AgentSystem) -> None:
    attempts: list[str] = []

    def pay(key: str) -> str:
        attempts.append(key)
        if len(attempts) < 3:
            raise ConnectionError("lost")
        return "paid"

    async def work(self: Any, message: Job) -> Any:
        return await self.step("pay", pay, retry=Retry(times=3, backoff=0.0), key="key")

    assert run(system, work) == "paid"
    assert len(attempts) == 3
    assert len(set(attempts)) == 1
    failed = [event.data for event in system.events("acme/alice") if event.type == "work_attempted"]
    assert [(data["attempt"], data["error"]["kind"]) for data in failed] == [
        (1, "ConnectionError"),
        (2, "ConnectionError"),
    ]


@pytest.mark.parametrize(("retry", "count"), [(Retry(times=2, backoff=0.0), 2), (Retry(5, 0.0, ("LookupError",)), 1)])
def test_a_step_is_not_attempted_more_often(system: AgentSystem, retry: Retry, count: int) -> None:
    attempts: list[int] = []

    def pay() -> None:
        attempts.append(1)
        raise KeyError("x")

    async def work(self: Any, message: Job) -> Any:
        with pytest.raises(StepFailed, match="KeyError"):
            await self.step("pay", pay, retry=retry)

    run(system, work)
    assert len(attempts) == count


def test_a_step_that_takes_too_long_fails(system: AgentSystem, gate: threading.Event) -> None:
    cancelled: list[bool] = []

    async def forever() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.append(True)

    async def work(self: Any, message: Job) -> Any:
        with pytest.raises(StepFailed) as raised:
            await self.step("forever", forever, timeout=0.01)
        return raised.value.kind

    assert run(system, work) == "StepTimeout"
    assert cancelled == [True]


def test_a_result_that_cannot_be_kept_is_a_failure_and_not_a_second_run(open_system: OpenSystem) -> None:
    system, ran = open_system(registry=REGISTRY, limits=Limits(content_bytes=290_000)), list[str]()

    def make(what: str) -> object:
        ran.append(what)
        return {"object": object(), "huge": b"x" * 300_000}[what]

    async def work(self: Any, message: Job) -> Any:
        kinds = []
        for what in ("object", "huge"):
            with pytest.raises(StepFailed) as raised:
                await self.step(what, make, what, retry=Retry(times=3, backoff=0.0))
            kinds.append(raised.value.kind)
        return kinds

    assert run(system, work) == ["ValueRefused", "TooLarge"]
    assert ran == ["object", "huge"]


# -- what is refused ---------------------------------------------------------------------------------------------------


def test_a_step_may_not_use_the_agent(system: AgentSystem) -> None:
    async def work(self: Any, message: Job) -> Any:
        kinds = []
        for function in (lambda: self.set("a", 1), lambda: self.get("a"), lambda: self.state):
            with pytest.raises(StepFailed) as raised:
                await self.step("uses", function)
            kinds.append(raised.value.kind)
        return kinds

    assert run(system, work) == [InStep.__name__] * 3


def test_a_step_gets_copies_of_its_arguments(system: AgentSystem) -> None:
    def change(given: list[int]) -> list[int]:
        given.append(9)
        return given

    async def work(self: Any, message: Job) -> Any:
        mine = [1]
        result = await self.step("change", change, mine)
        result.append(10)
        return [mine, result]

    assert run(system, work) == [[1], [1, 9, 10]]


@pytest.mark.parametrize(
    ("given", "error"), [(object(), ValueRefused), ((1,), ValueRefused), ("x" * 2_000_000, TooLarge)]
)
def test_arguments_that_are_no_plain_data_are_refused_before_anything_is_begun(
    system: AgentSystem, given: object, error: type[Exception]
) -> None:
    async def work(self: Any, message: Job) -> Any:
        with pytest.raises(error):
            await self.step("x", print, given)

    run(system, work)
    assert "work_begun" not in types_of(system)


def test_waiting_for_anything_else_is_refused(system: AgentSystem) -> None:
    async def work(self: Any, message: Job) -> Any:
        await asyncio.sleep(0.01)

    with pytest.raises(NotDurable, match="sleep"):
        run(system, work)


def test_a_message_that_is_not_durable_has_no_steps(system: AgentSystem) -> None:
    async def work(self: Any, message: Any) -> Any:
        return await self.step("x", dict)

    alice = spawn_worker(system, work)
    with pytest.raises(NotDurable, match="durable=True"):
        alice.ask("a plain message")


def test_a_handler_that_is_no_coroutine_is_refused(system: AgentSystem) -> None:
    class Quick(Agent):
        def on_receive(self, message: Any) -> Any:
            return 1

    system.register("quick", Quick)
    with pytest.raises(InvalidMessage, match="async def"):
        system.spawn("acme/alice", agent_type="quick").ask(Job("x"))


def test_a_function_gets_arguments_by_name_and_its_key(system: AgentSystem) -> None:
    def order(what: str, *, count: int, key: str) -> list[Any]:
        return [what, count, len(key) > 0]

    async def work(self: Any, message: Job) -> Any:
        return await self.step("order", order, "tea", keywords={"count": 2}, key="key")

    assert run(system, work) == ["tea", 2, True]


def test_an_argument_that_is_no_option_of_a_step_says_where_it_goes_and_nothing_is_begun(system: AgentSystem) -> None:
    called: list[int] = []

    async def work(self: Any, message: Job) -> Any:
        with pytest.raises(InvalidMessage, match=r"step order: count, size is no option; keywords=\{…\}"):
            await self.step("order", called.append, size=1, count=2)
        return called

    assert run(system, work) == []
    assert "work_begun" not in types_of(system)


def test_the_log_has_no_arguments_unless_it_is_asked_to(system: AgentSystem) -> None:
    async def work(self: Any, message: Job) -> Any:
        await self.step("quiet", str, "secret")
        await self.step("open", str, "shown", log_arguments=True)

    run(system, work)
    begun = [event.data["arguments"] for event in system.events("acme/alice") if event.type == "work_begun"]
    assert begun == [None, [["shown"], {}]]


def test_a_step_failed_that_ends_the_work_keeps_its_facts(system: AgentSystem) -> None:
    class CardRefused(Exception):
        data = None

    def pay() -> None:
        raise CardRefused("insufficient funds")

    async def work(self: Any, message: Job) -> Any:
        await self.step("pay", pay)

    for _ in range(2):  # from memory, and from the log
        with pytest.raises(StepFailed, match="insufficient") as raised:
            if system.log.head("acme/alice") is None:
                run(system, work)
            else:
                system.agent("acme/alice").result(2)
        assert (raised.value.kind, raised.value.text) == ("CardRefused", "insufficient funds")


def test_a_reply_that_cannot_be_kept_fails_the_work_and_keeps_what_was_written(open_system: OpenSystem) -> None:
    system = open_system(registry=REGISTRY, limits=Limits(content_bytes=290_000))

    async def work(self: Any, message: Job) -> Any:
        self.set("written", message.name)
        return {"object": object(), "huge": b"x" * 300_000}[message.name]

    alice = spawn_worker(system, work)
    for name, error in (("object", ValueRefused), ("huge", TooLarge)):
        receipt = alice.send(Job(name))
        with pytest.raises(error):
            alice.result(receipt)
        assert alice.get("written") == name
    assert alice.unfinished() == []


def test_a_handler_may_end_its_own_session(system: AgentSystem) -> None:
    async def work(self: Any, message: Job) -> Any:
        await self.step("last", dict)
        self.terminate(task_description="all of it")
        return "the end"

    alice = spawn_worker(system, work)
    receipt = alice.send(Job())
    assert alice.result(receipt) == "the end"
    assert alice.result(receipt) == "the end"
    assert alice.status().status == "terminated"


def test_a_handler_may_pause_its_agent_and_goes_on_when_it_is_resumed(system: AgentSystem) -> None:
    ran: list[str] = []

    async def work(self: Any, message: Job) -> Any:
        self.pause("here")
        await self.step("later", ran.append, "later")
        return "done"

    alice = spawn_worker(system, work)
    receipt = alice.send(Job())
    eventually(lambda: alice.status().status == "paused")
    assert ran == []
    alice.resume()
    assert alice.result(receipt) == "done"
    assert ran == ["later"]


def test_a_message_that_is_asked_again_after_its_end_gets_the_reply_from_the_log(system: AgentSystem) -> None:
    async def work(self: Any, message: Job) -> Any:
        return await self.step("count", lambda: calls.append(1) or len(calls))

    calls: list[int] = []
    alice = spawn_worker(system, work)
    assert [alice.ask(Job(), command_id="once") for _ in range(3)] == [1, 1, 1]
    assert alice.result(alice.send(Job(), command_id="once")) == 1
    assert calls == [1]
    assert alice.ask(Job(), command_id="another") == 2, "control: another id is other work"
