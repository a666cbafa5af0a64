"""How much is measured: the sizes of every scenario, and what the command line may change."""

from __future__ import annotations

from typing import Final

from attrs import frozen

__all__ = ["DURABILITIES", "FULL", "QUICK", "TINY", "USUAL", "Options"]

DURABILITIES: Final = ("memory", "fsync")


@frozen(kw_only=True)
class Options:
    """Sizes are counts unless they say otherwise."""

    agents: int = 200
    events: int = 100
    """Mutations per agent in a round; of the peers, in all rounds together."""
    payload: int = 60
    """Bytes of the text that a mutation sets."""
    rounds: int = 5
    processes: int = 1
    """Beyond 1: the throughput of so many client processes together is measured too."""
    durabilities: tuple[str, ...] = DURABILITIES
    only: tuple[str, ...] = ()
    """Groups to measure; none: all."""

    in_flight: int = 4_000
    many_agents: int = 10_000
    block: int = 250
    """Calls of one caller that awaits each, between two looks at the floor."""
    recovered: int = 10_000
    """Events of the agent that is recovered."""
    long_log: int = 100_000
    idle_agents: int = 20_000
    spawned: int = 2_000
    """Agents spawned in a round."""
    grown_agents: int = 10_000
    grown_events: int = 100_000
    unfinished: int = 1_000
    """Handlers that a killed process leaves."""
    blocked: int = 1_000
    blocked_seconds: float = 1.0
    computed: int = 1_500
    """Messages in a round whose handlers compute for a millisecond."""
    leases: int = 2
    """Killed processes whose lease is waited for, 10 s each."""
    load: int = 5_000
    """Events a second, while notifications are timed."""
    caught_up: int = 100_000
    """Events that a new consumer catches up with."""
    caught_agents: int = 1_000
    patterns: int = 1_000


USUAL: Final = Options()
FULL: Final = Options(
    long_log=1_000_000,
    idle_agents=100_000,
    grown_agents=100_000,
    grown_events=1_000_000,
    unfinished=10_000,
    caught_up=1_000_000,
    caught_agents=10_000,
)
QUICK: Final = Options(
    events=20,
    rounds=3,
    many_agents=2_000,
    recovered=2_000,
    long_log=10_000,
    idle_agents=2_000,
    spawned=500,
    grown_agents=2_000,
    grown_events=5_000,
    unfinished=200,
    blocked=200,
    computed=500,
    leases=1,
    blocked_seconds=0.5,
    caught_up=20_000,
    caught_agents=200,
)
TINY: Final = Options(
    agents=4,
    events=6,
    rounds=2,
    in_flight=8,
    many_agents=10,
    block=10,
    recovered=300,
    long_log=600,
    idle_agents=20,
    spawned=10,
    grown_agents=120,
    grown_events=1_100,
    unfinished=10,
    blocked=5,
    computed=10,
    leases=0,
    blocked_seconds=0.05,
    load=200,
    caught_up=600,
    caught_agents=10,
    patterns=50,
)
"""For a test of the benchmark itself: the figures mean nothing."""
