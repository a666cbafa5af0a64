"""What changes work or reminders takes the options of every mutation, also for asyncio."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from actors.work.jobs import PATH, REGISTRY, Job, spawn_worker, worker
from duramen.actors import AgentHandle, AgentSystem
from duramen.events import DurabilityUnavailable, Limits, TooLarge, ValueRefused, VersionConflict
from waiting import eventually

OpenSystem = Callable[..., AgentSystem]
BY: dict[str, Any] = {"by": "kim"}


async def wait_for_kim(self: Any, message: Job) -> Any:
    return await self.wait_for("kim")


async def wait_for_lee(self: Any, message: Job) -> Any:
    return await self.wait_for("lee")


@pytest.fixture
def alice(open_system: OpenSystem) -> AgentHandle:
    """An agent with a piece of work that waits, and a reminder."""
    system = open_system(registry=REGISTRY)
    found = spawn_worker(system, wait_for_kim)
    found.send(Job())
    found.remind("later", Job(), every=3_600.0)
    eventually(lambda: found.unfinished()[0].waits_for)
    return found


CALLS: dict[str, Callable[..., Any]] = {
    "send": lambda agent, **options: agent.send(Job("another"), **options),
    "answer": lambda agent, **options: agent.answer("somebody", 1, **options),
    "cancel": lambda agent, **options: agent.cancel(2, **options),
    "remind": lambda agent, **options: agent.remind("soon", Job(), every=60.0, **options),
    "remove_reminder": lambda agent, **options: agent.remove_reminder("later", **options),
}


@pytest.mark.parametrize("call", CALLS)
def test_events_carry_the_metadata_and_the_receipt_the_durability(
    alice: AgentHandle, open_system: OpenSystem, call: str
) -> None:
    receipt = CALLS[call](alice, metadata=BY, durability="memory", command_id="c-1")
    system = open_system(registry=REGISTRY)
    first = next(iter(system.events(PATH, from_seq=receipt.first_seq)))
    assert first.metadata == BY and receipt.durability == "memory"
    again = CALLS[call](alice, metadata={"by": "lee"}, expected_seq=1, command_id="c-1")  # the same command
    assert again.seq == receipt.seq


@pytest.mark.parametrize("call", CALLS)
def test_nothing_happens_at_another_seq_than_is_expected(alice: AgentHandle, call: str) -> None:
    seq = alice.status().seq
    with pytest.raises(VersionConflict) as conflict:
        CALLS[call](alice, expected_seq=seq - 1)
    assert (conflict.value.actual, alice.status().seq) == (seq, seq)
    with pytest.raises(ValueRefused):
        CALLS[call](alice, metadata={1: 2})
    with pytest.raises(DurabilityUnavailable):
        CALLS[call](alice, durability="replicas:1")
    assert alice.status().seq == seq
    assert CALLS[call](alice, expected_seq=seq).first_seq == seq + 1


@pytest.mark.parametrize("call", CALLS)
def test_the_options_are_there_for_asyncio(alice: AgentHandle, call: str) -> None:
    async def main() -> Any:
        with pytest.raises(VersionConflict):
            await CALLS[call](alice.aio, expected_seq=1)
        return await CALLS[call](alice.aio, metadata=BY, durability="memory")

    assert asyncio.run(main()).durability == "memory"


def test_parked_work_is_retried_only_at_the_seq_that_is_expected(open_system: OpenSystem) -> None:
    first = open_system(registry=REGISTRY)
    receipt = spawn_worker(first, wait_for_kim).send(Job())
    eventually(lambda: first.agent(PATH).unfinished()[0].waits_for)
    first.close()
    second = open_system(registry=REGISTRY, agents={"worker": worker(wait_for_lee)})
    alice = second.agent(PATH)
    alice.answer("kim")
    eventually(lambda: alice.unfinished()[0].parked)
    with pytest.raises(VersionConflict):
        alice.retry(receipt, expected_seq=1)
    assert alice.unfinished()[0].parked
    retried = alice.retry(receipt, expected_seq=alice.status().seq, metadata=BY, durability="memory")
    assert next(iter(second.events(PATH, from_seq=retried.first_seq))).metadata == BY


@pytest.mark.parametrize("while_paused", [False, True])
def test_work_is_not_cancelled_with_metadata_too_large_for_the_event(alice: AgentHandle, while_paused: bool) -> None:
    if while_paused:  # else its handler goes on, and the event is another
        alice.pause("here")
    seq, too_large = alice.status().seq, {"by": "x" * (Limits().event_bytes - 100)}
    with pytest.raises(TooLarge):
        alice.cancel(2, metadata=too_large)
    assert (alice.status().seq, [piece.work for piece in alice.unfinished()]) == (seq, [2])
    alice.cancel(2, metadata=BY)
    eventually(lambda: alice.unfinished() == [])
