"""A crew at work whose hosts are killed: a few seconds of `scripts/faults crew`."""

from __future__ import annotations

from pathlib import Path

import pytest

from crew.run import Size, run_crew


@pytest.mark.timeout(300)
@pytest.mark.parametrize("hosts", [1, 2])
def test_a_crew_whose_hosts_are_killed_does_each_logged_step_once_and_ends_as_undisturbed(
    tmp_path: Path, hosts: int, seed: int
) -> None:
    size = Size(agents=10, kills=5, hosts=hosts, life=0.4, step=0.1, server_kills=1)
    outcome = run_crew(size, seed, tmp_path)
    assert not outcome.problems, f"{outcome.summary}\n" + "\n".join(outcome.problems[:20])
    assert outcome.counts["hosts killed"] == size.kills
    assert outcome.counts["errands"] >= size.agents
    if hosts == 1:  # of two, the one without work may have been killed each time
        assert outcome.counts["steps repeated"] > 0, f"no step was cut off, so nothing was tried: {outcome.summary}"
