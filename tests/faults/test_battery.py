"""The battery for a quarter of a minute: hosts that come and go, and nothing acknowledged is lost or doubled."""

from __future__ import annotations

from pathlib import Path

import pytest

from battery.run import Size, run_battery

KINDS = ("set", "append", "batch", "work", "lone_work", "get")


@pytest.mark.timeout(300)
def test_nothing_acknowledged_is_lost_doubled_or_out_of_order_whatever_fails(tmp_path: Path, seed: int) -> None:
    size = Size(seconds=12, agents=40, hosts=3, callers=4, pause=0.6, has_leases=False, least=6)
    outcome = run_battery(size, seed, tmp_path)
    assert not outcome.problems, f"{outcome.summary}\n" + "\n".join(outcome.problems[:20])
    assert all(outcome.operations[f"{kind} ok"] for kind in KINDS), outcome.summary


def test_callers_that_ask_again_without_an_id_are_found(tmp_path: Path) -> None:
    """Control: what they have sent twice is in the log twice."""
    size = Size(seconds=2, agents=5, hosts=1, clients=1, callers=3, pause=1.0, naive="callers")
    outcome = run_battery(size, 1, tmp_path)
    assert any("is in the log 2 times" in problem for problem in outcome.problems)


@pytest.mark.timeout(300)
def test_a_lease_by_the_time_of_day_is_found(tmp_path: Path) -> None:
    """Control: when its clock has jumped, a host declares others dead that live; the faults end when one notices."""
    size = Size(seconds=60, agents=5, hosts=2, clients=1, callers=1, pause=0.3, naive="clock", only=("jump_clock",))
    outcome = run_battery(size, 3, tmp_path)
    assert any("was declared dead, and lived" in problem for problem in outcome.problems), outcome.summary
