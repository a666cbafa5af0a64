"""Two hundred agents at once with asyncio, each pausing in the middle of its work.

Run it with `python examples/async_agents.py [HOW MANY]`. The agents live in the in-memory twin of the log, which is
gone at the end; give `AgentSystem.open` nothing, or a url, for one that stays.
"""

from __future__ import annotations

import asyncio
import sys
import time

from duramen.actors import AgentSystem, LifecycleEvent, Outcome
from duramen.events import Granularity

STEPS = 5


async def work(system: AgentSystem, number: int) -> int:
    """One agent's whole life. Every call is awaited and none blocks the loop."""
    agent = await system.aio.spawn(f"crowd/agent-{number:03d}", initial_state={"number": number, "done": 0})
    for step in range(STEPS):
        async with agent.batch() as batch:  # one atomic event batch
            batch.set("done", step + 1)
            batch.record("step", {"step": step, "tokens_used": 10}, level=Granularity.ACTIVITY)
        if step == STEPS // 2:
            await agent.pause("half-way")
            await agent.resume()
    done: int = await agent.get("done")
    await agent.terminate(Outcome.SUCCESS if done == STEPS else Outcome.FAILURE)
    return done


async def main(count: int) -> None:
    paused: list[str] = []
    async with AgentSystem.open("memory://") as system:

        @system.hooks.on_pause
        async def note(event: LifecycleEvent) -> None:
            paused.append(event.agent)

        began = time.perf_counter()
        done = await asyncio.gather(*[work(system, number) for number in range(count)])
        seconds = time.perf_counter() - began
        episodes = await asyncio.to_thread(system.episodes.list)
        events = sum(entry.seq for entry in system.agents())

    print(f"agents: {len(done)}, steps: {sum(done)}")
    print(f"pauses that the hook heard of: {len(paused)}")
    print(f"episodes: {len(episodes)}, tokens: {sum(episode.tokens_used for episode in episodes)}")
    print(f"events: {events}, in {seconds:.1f} s")


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 200))
