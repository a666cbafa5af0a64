"""A service with four workers on one store: any worker serves any turn of a conversation."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from uuid import uuid4

import pytest

from actors.adapters.worker_process import SERVICES, Service
from duramen import AgentSystem

WORKERS = 4
TURNS = 6
CONVERSATIONS = 10
ABSENT = os.environ.get("DURAMEN_TEST_WITHOUT", "").split()
HERE = [name for name in SERVICES if name not in ABSENT]


class Worker:
    """A process that serves turns, several at once."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.waiting: dict[str, asyncio.Future[None]] = {}
        self.listening: asyncio.Task[None] | None = None

    async def serve(self, conversation: str, text: str) -> None:
        """Returns once the turn is stored."""
        line = json.dumps([conversation, text])
        stored = self.waiting[line] = asyncio.get_running_loop().create_future()
        assert self.process.stdin is not None
        self.process.stdin.write(line.encode() + b"\n")
        await stored

    async def listen(self) -> None:
        assert self.process.stdout is not None
        while line := await self.process.stdout.readline():
            self.waiting.pop(line.decode().strip()).set_result(None)
        for stored in self.waiting.values():
            stored.set_exception(AssertionError("a worker has ended before it had served a turn"))


@asynccontextmanager
async def start_workers(count: int, *arguments: str) -> AsyncIterator[list[Worker]]:
    async with AsyncExitStack() as stack:
        yield list(await asyncio.gather(*(start_worker(stack, *arguments) for _ in range(count))))


async def start_worker(stack: AsyncExitStack, *arguments: str) -> Worker:
    program = Path(__file__).with_name("worker_process.py")
    environ = {**os.environ, "PYTHONPATH": str(program.parents[2])}
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(program), *arguments, env=environ, stdin=pipe, stdout=pipe
    )
    assert process.stdin is not None
    assert process.stdout is not None
    started = Worker(process)
    stack.push_async_callback(end, started)
    assert await process.stdout.readline() == b"ready\n"
    started.listening = asyncio.create_task(started.listen())
    return started


async def end(worker: Worker) -> None:
    assert worker.process.stdin is not None
    worker.process.stdin.close()
    if worker.listening is not None:
        await worker.listening
    assert await worker.process.wait() == 0


def texts_of(conversation: int) -> list[str]:
    return [f"{conversation} turn {turn}" for turn in range(TURNS)]


async def converse(workers: Sequence[Worker], conversation: int, texts: Sequence[str]) -> None:
    """Each turn goes to another worker than the turn before it."""
    for turn, text in enumerate(texts):
        await workers[(conversation + turn) % len(workers)].serve(f"c{conversation}", text)


async def add_at_once(workers: Sequence[Worker]) -> None:
    """All workers add to one conversation at once."""
    async with asyncio.TaskGroup() as adding:
        for number, each in enumerate(workers):
            for turn in range(TURNS):
                adding.create_task(each.serve("added at once", f"{number} {turn}"))


async def wrong(service: Service) -> list[int]:
    """The conversations that do not hold each of their turns once and in order."""
    return [each for each in range(CONVERSATIONS) if await service.read(f"c{each}") != texts_of(each)]


@pytest.mark.slow
@pytest.mark.timeout(180)
@pytest.mark.parametrize("framework", HERE)
def test_conversations_between_four_workers_lose_and_double_nothing(framework: str, redis_url: str) -> None:
    namespace = f"workers-{uuid4().hex[:12]}"
    told = [texts_of(number) for number in range(CONVERSATIONS)]
    # The controls: a turn that is lost, one that is served twice, and two in the wrong order.
    told[0] = told[0][:2] + told[0][3:]
    told[1] = told[1][:2] + told[1][1:]
    told[2] = told[2][1::-1] + told[2][2:]

    async def serve() -> None:
        async with start_workers(WORKERS, framework, redis_url, namespace) as workers:
            await asyncio.gather(*(converse(workers, *each) for each in enumerate(told)))
            if framework == "openai_agents":  # the others leave a conversation to one caller at a time
                await add_at_once(workers)

    asyncio.run(serve())
    with AgentSystem.open(redis_url, namespace=namespace) as system:
        service = SERVICES[framework](system)
        assert asyncio.run(wrong(service)) == [0, 1, 2]
        added = asyncio.run(service.read("added at once")) if framework == "openai_agents" else None
    assert added is None or sorted(added) == sorted(
        f"{each} {turn}" for each in range(WORKERS) for turn in range(TURNS)
    )
