"""The work that every contender does: agents whose memory is changed, key by key, by texts of one size."""

from __future__ import annotations

from typing import Final

from attrs import define, field

__all__ = ["GOAL", "Step", "Work", "agent_name"]

GOAL: Final = "find out what the oldest tree in the park is"
_KEYS: Final = 10

Step = tuple[int, str, str]
"""Which agent, which key of its memory, which text."""


def agent_name(number: int) -> str:
    return f"bench/agent-{number}"


@define
class Work:
    """Deals out mutations and remembers what the agents' memories must be in the end."""

    agents: int
    payload: int
    expected: list[dict[str, str]] = field(init=False)
    counts: list[int] = field(init=False)
    _next: int = field(init=False, default=0)

    def __attrs_post_init__(self) -> None:
        self.expected = [{} for _ in range(self.agents)]
        self.counts = [0] * self.agents

    def steps(self, mutations: int) -> list[Step]:
        """The next mutations, one agent after the other."""
        return [self._step() for _ in range(mutations)]

    def _step(self) -> Step:
        number = self._next
        self._next += 1
        agent = number % self.agents
        key = f"note-{number // self.agents % _KEYS}"
        text = f"{number:09d} ".ljust(self.payload, "x")[: max(9, self.payload)]
        self.expected[agent][key] = text
        self.counts[agent] += 1
        return agent, key, text
