"""Live output: followed while it is written, from any position, and known to be whole or broken."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest

from duramen import Agent, AgentSystem
from duramen.actors import AgentHandle
from duramen.actors.api.outputs import OutputFollower, server_sent_events, tails
from duramen.events import (
    AgentNotRunning,
    AskTimeout,
    InvalidMessage,
    InvalidPath,
    Limits,
    MemoryLog,
    OutputBroken,
    OutputNotFound,
    SystemClosed,
    TooLarge,
    ValueRefused,
)

PATH = "acme/alice"
Open = Callable[..., AgentSystem]


@pytest.fixture(params=["memory", "redis"])
def open_system(request: pytest.FixtureRequest) -> Iterator[Open]:
    """Opens systems on one log, as processes would."""
    opened: list[AgentSystem] = []
    log, namespace = MemoryLog(), f"output-{uuid4().hex[:12]}"

    def open_one(**arguments: Any) -> AgentSystem:
        if request.param == "memory":
            system = AgentSystem.open(log=log, **arguments)
        else:
            system = AgentSystem.open(request.getfixturevalue("redis_url"), namespace=namespace, **arguments)
        opened.append(system)
        return system

    yield open_one
    for system in opened:
        system.close()


@pytest.fixture
def alice(open_system: Open) -> AgentHandle:
    return open_system().spawn(PATH)


def speak(alice: AgentHandle, *tokens: str, name: str = "answer") -> None:
    with alice.stream(name) as out:
        for token in tokens:
            out.write(token)


def take(follower: OutputFollower, count: int) -> list[str]:
    return [next(follower) for _ in range(count)]


# -- writing and following ---------------------------------------------------------------------------------------------


def test_tokens_are_seen_while_the_output_is_open_and_the_whole_is_one_event(open_system: Open) -> None:
    alice, elsewhere = open_system().spawn(PATH), open_system()
    follower = elsewhere.follow(PATH, "answer")
    with alice.stream("answer") as out:
        before = alice.status().seq
        for token in ("one", " two", "", " drei ü"):
            out.write(token)
        assert take(follower, 4) == ["one", " two", "", " drei ü"]
        assert alice.status().seq == before
    assert list(follower) == []
    [event] = elsewhere.events(PATH, from_seq=before + 1)
    assert (event.type, event.data["kind"], event.seq) == ("activity_recorded", "output", follower.seq)
    assert event.data["data"] == {"output": "answer", "text": "one two drei ü"}
    assert out.receipt.seq == event.seq


def test_who_comes_late_sees_all_and_who_comes_back_goes_on(alice: AgentHandle, open_system: Open) -> None:
    speak(alice, *"abcdef")
    system = open_system()
    first = system.follow(PATH, "answer")
    with first:
        assert take(first, 2) == ["a", "b"]
    assert list(system.follow(PATH, "answer", after=first.position)) == ["c", "d", "e", "f"]
    assert list(system.follow(PATH, "answer", after=5)) == ["f"]
    assert list(system.follow(PATH, "answer", after=6)) == []


@pytest.mark.slow
def test_readers_that_leave_and_come_back_anywhere_see_each_token_once_and_in_order(open_system: Open) -> None:
    alice, systems = open_system().spawn(PATH), [open_system() for _ in range(2)]
    tokens = [f"{number} " for number in range(2_000)]

    def read(number: int) -> list[str]:
        chance, seen, after = random.Random(number), list[str](), None
        while True:
            with systems[number % 2].follow(PATH, "answer", after=after) as follower:
                for token in follower:
                    seen.append(token)
                    after = follower.position
                    if chance.random() < 0.005:
                        break
                else:
                    return seen

    with ThreadPoolExecutor(20) as pool:
        readers = [pool.submit(read, number) for number in range(20)]
        speak(alice, *tokens)
        assert all(reader.result(30) == tokens for reader in readers)


def test_a_follower_waits_for_an_output_that_is_not_there_yet(alice: AgentHandle, open_system: Open) -> None:
    follower = open_system().follow(PATH, "later", wait=30)
    speak(alice, "x", name="later")
    assert list(follower) == ["x"]


def test_an_output_of_no_token_is_complete(alice: AgentHandle, open_system: Open) -> None:
    speak(alice)
    assert list(open_system().follow(PATH, "answer")) == []


def test_a_handler_streams_and_the_record_is_part_of_its_batch(open_system: Open) -> None:
    class Speaker(Agent):
        async def on_receive(self, message: Any) -> str:
            self.set("asked", message)
            async with self.stream("answer") as out:
                for word in ("you ", "said ", message):
                    out.write(word)
            return out.text

    class Quiet(Agent):
        def on_receive(self, message: Any) -> str:
            with self.stream("answer") as out:
                out.write(message)
            return out.text

    system = open_system(agents={"speaker": Speaker, "quiet": Quiet})
    alice, bob = system.spawn(PATH, agent_type="speaker"), system.spawn("acme/bob", agent_type="quiet")
    assert (alice.ask("hello"), bob.ask("hush")) == ("you said hello", "hush")
    assert list(open_system(host=False).follow(PATH, "answer")) == ["you ", "said ", "hello"]
    assert [event.type for event in system.events(PATH)] == ["spawned", "memory_set", "activity_recorded"]


def test_everything_is_there_for_asyncio(open_system: Open) -> None:
    async def use() -> tuple[list[str], list[str], int]:
        system = open_system()
        alice = await system.aio.spawn(PATH)

        async def read() -> list[str]:
            return [token async for token in system.aio.follow(PATH, "answer")]

        reader = asyncio.create_task(read())
        async with alice.stream("answer") as out:
            for token in ("a", "b"):
                out.write(token)
                await asyncio.sleep(0)
        late = [token async for token in system.follow(PATH, "answer", after=1)]
        return await reader, late, out.receipt.seq

    assert asyncio.run(use()) == (["a", "b"], ["b"], 2)


def test_server_sent_events_carry_the_position_to_come_back_to(alice: AgentHandle, open_system: Open) -> None:
    speak(alice, "line\nbreak", "é")
    system = open_system()

    async def events(after: str | None) -> list[dict[str, str]]:
        found = []
        async for event in server_sent_events(system.follow(PATH, "answer", after=after)):
            assert event.endswith("\n\n")
            found.append(dict(line.split(": ", 1) for line in event.strip().splitlines()))
        return found

    first, second, last = asyncio.run(events(None))
    assert [json.loads(event["data"]) for event in (first, second)] == ["line\nbreak", "é"]
    assert (last["event"], last["data"]) == ("end", "2")
    assert asyncio.run(events(first["id"])) == [second, last]
    assert asyncio.run(events("0123-7")) == [{"event": "error", "data": '"OutputNotFound"'}]


# -- ends --------------------------------------------------------------------------------------------------------------


def test_an_output_whose_writer_raises_is_broken_and_not_recorded(alice: AgentHandle, open_system: Open) -> None:
    with suppress(ZeroDivisionError), alice.stream("answer") as out:
        out.write("x")
        _ = 1 / 0
    follower = open_system().follow(PATH, "answer")
    assert next(follower) == "x"
    with pytest.raises(OutputBroken, match="its writer has failed"):
        next(follower)
    assert alice.status().seq == 1


def test_an_output_is_broken_where_it_cannot_be_recorded(alice: AgentHandle, open_system: Open) -> None:
    alice.terminate()
    with pytest.raises(AgentNotRunning), alice.stream("answer") as out:
        out.write("x")
    with pytest.raises(OutputBroken):
        list(open_system().follow(PATH, "answer"))


def test_the_output_of_a_process_that_has_died_says_so(open_system: Open) -> None:
    system = open_system()
    out = system.spawn(PATH).stream("answer")
    out.__enter__()
    out.write("x")
    reader = open_system()
    assert next(reader.follow(PATH, "answer")) == "x"
    record = system.log.hosts.find(system.host)
    assert record is not None
    assert system.log.hosts.bury(record.host, record.beat)
    follower = open_system().follow(PATH, "answer")
    assert next(follower) == "x"
    with pytest.raises(OutputBroken, match="process of its writer has ended"):
        next(follower)


def test_a_name_that_is_opened_again_is_another_output(alice: AgentHandle, open_system: Open) -> None:
    system = open_system()
    old = alice.stream("answer")
    with pytest.raises(OutputBroken, match="opened again"), old:
        old.write("old")
        follower = system.follow(PATH, "answer")
        assert next(follower) == "old"
        speak(alice, "new")
        with pytest.raises(OutputBroken, match="opened again"):
            list(follower)
        while True:
            old.write(" more")
    assert list(open_system().follow(PATH, "answer")) == ["new"]
    with pytest.raises(OutputNotFound, match="opened again"):
        list(open_system().follow(PATH, "answer", after=follower.position))


def test_notices_that_are_lost_delay_tokens_and_lose_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tails, "_SILENCE", 0.01)
    monkeypatch.setattr(tails, "_TICK", 0.01)
    monkeypatch.setattr(tails, "read_output_notice", lambda notice: None)
    monkeypatch.setattr(tails.OutputTails, "_take", lambda self, tail, notice: None)
    with AgentSystem.open("memory://") as system:
        alice = system.spawn(PATH)
        follower = system.follow(PATH, "answer")
        with alice.stream("answer") as out:
            for token in "abc":
                out.write(token)
                assert next(follower) == token
        assert list(follower) == []


def test_a_follower_does_not_wait_for_ever(open_system: Open, alice: AgentHandle) -> None:
    system = open_system()
    with pytest.raises(OutputNotFound, match="within 0"):
        next(system.follow(PATH, "nothing", wait=0))
    with alice.stream("answer") as out:
        out.write("x")
        assert next(system.follow(PATH, "answer")) == "x"
        with pytest.raises(AskTimeout, match=r"within 0\.01"):
            next(system.follow(PATH, "answer", after=1, timeout=0.01))


def test_closing_a_system_ends_its_followers_and_its_writers(open_system: Open) -> None:
    system = open_system()
    out = system.spawn(PATH).stream("answer")
    out.__enter__()
    out.write("x")
    follower = system.follow(PATH, "answer")
    assert next(follower) == "x"
    system.close()
    with pytest.raises(SystemClosed):
        next(follower)
    with pytest.raises(SystemClosed):
        out.write("y")
    with pytest.raises(SystemClosed):
        system.follow(PATH, "answer")


# -- bounds ------------------------------------------------------------------------------------------------------------


def test_an_output_is_bounded_by_the_event_that_it_becomes() -> None:
    with AgentSystem.open("memory://", limits=Limits(event_bytes=8_192)) as system:
        alice = system.spawn(PATH)
        with alice.stream("answer") as out:
            out.write("é" * 2_000)
            with pytest.raises(TooLarge, match="at most 4096 bytes"):
                out.write("x" * 97)
            out.write("x" * 96)
        assert len("".join(system.follow(PATH, "answer"))) == 2_096


def test_bad_input_is_refused_at_once() -> None:
    with AgentSystem.open("memory://") as system:
        alice = system.spawn(PATH)
        for name in ("", "x" * 201, 3):
            with pytest.raises(InvalidMessage, match="name of an output"):
                alice.stream(name)
        for ttl in (0.5, timedelta(days=8)):
            with pytest.raises(InvalidMessage, match="1 second to 7 days"):
                alice.stream("answer", ttl=ttl)
        for after in (-1, "x-y", "", "1-", True, 1.5):
            with pytest.raises(InvalidMessage, match="after is"):
                system.follow(PATH, "answer", after=after)
        with pytest.raises(InvalidPath):
            system.follow("alice", "answer")
        with alice.stream("answer") as out:
            with pytest.raises(InvalidMessage, match="takes text"):
                out.write(b"x")
            with pytest.raises(ValueRefused):
                out.write("\ud800")
            with pytest.raises(InvalidMessage, match="no receipt"):
                _ = out.receipt
        with pytest.raises(InvalidMessage, match="has ended"):
            out.write("x")
        assert list(system.follow(PATH, "answer")) == []
