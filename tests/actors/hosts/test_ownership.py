"""Three hosts own, ask, release, pause, die and are buried under many seeds; and what goes wrong without each rule."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator

import pytest

from simulated_owners import Rules, TimeToLive, run_owners

LONG = int(os.environ.get("DURAMEN_TEST_SCHEDULES", "2000"))
"""Schedules of the long test; 100,000 take about 40 minutes."""
PARTS = 4


def check_schedules(seeds: range, *, sleeps: bool = False, both_sleep: bool = False) -> Counter[str]:
    """Run the schedules; returns how much has happened in them."""
    done: Counter[str] = Counter()
    for seed in seeds:
        history, problems = run_owners(seed, sleeps=sleeps, both_sleep=both_sleep)
        assert not problems, f"schedule {seed}"
        for what in ("claims", "releases", "burials", "fenced"):
            done[what] += getattr(history, what)
        done["acknowledged"] += len(history.acknowledged)
    return done


def test_each_command_stands_once_and_in_order_whatever_happens_to_hosts() -> None:
    done = check_schedules(range(40))
    assert min(done[what] for what in ("claims", "releases", "burials", "acknowledged")) > 0


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("part", range(PARTS))
def test_each_command_stands_once_and_in_order_in_thousands_of_schedules(part: int) -> None:
    size = LONG // PARTS
    done = check_schedules(range(40 + part * size, 40 + (part + 1) * size), sleeps=part % 2 == 1)
    assert done["fenced"] > 0, "a buried host woke up in the middle of an append"


def test_what_a_host_was_sent_is_done_once_though_it_wakes_up_when_its_successor_has_given_the_tree_up() -> None:
    done = check_schedules(range(30), sleeps=True)
    assert done["burials"] >= 30, "each sleeper was declared dead"


@pytest.mark.slow
def test_what_a_host_has_sent_that_was_declared_dead_is_done_once_though_it_comes_when_its_next_id_has_done_it() -> (
    None
):
    done = check_schedules(range(60), both_sleep=True)
    assert done["burials"] >= 30, "most senders were declared dead"


@pytest.mark.parametrize("seed", [40083, 48099, 67380, 67566])
def test_what_a_host_has_refused_it_does_not_take_when_the_tree_comes_to_it_meanwhile(seed: int) -> None:
    """A later command, sent before the refusal was known, stood before the earlier ones: once in 10,000 schedules."""
    check_schedules(range(seed, seed + 1))


@pytest.mark.slow
def test_a_clock_that_jumps_buries_nobody() -> None:
    assert not [seed for seed in range(40) if run_owners(seed, jumps=True)[1]]


def wrong(rules: Rules, *, schedules: int = 100, **kind: bool) -> Iterator[str]:
    """What goes wrong under other rules, schedule after schedule."""
    for seed in range(schedules):
        yield from run_owners(seed, rules, **kind)[1]


def test_leases_with_a_time_to_live_bury_hosts_that_live() -> None:
    assert any("s after a beat" in problem for problem in wrong(Rules(judge=TimeToLive), jumps=True))


def test_claiming_before_folding_cuts_off_hosts_that_live() -> None:
    assert any("was claimed from it" in problem for problem in wrong(Rules(claims_last=False), schedules=20))


def test_resending_message_by_message_breaks_the_order() -> None:
    assert any("another order" in problem for problem in wrong(Rules(resends_in_order=False)))


@pytest.mark.parametrize("rules", [Rules(begins_confirmed=False), Rules(drops_former=False)])
def test_a_host_that_wakes_up_does_twice_what_was_sent_elsewhere_meanwhile(rules: Rules) -> None:
    assert any("stands twice" in problem for problem in wrong(rules, sleeps=True, schedules=30))


@pytest.mark.slow
def test_without_a_look_into_the_log_what_the_next_id_of_its_sender_has_done_is_done_twice() -> None:
    assert any(
        "stands twice" in problem for problem in wrong(Rules(doubts_buried=False), both_sleep=True, schedules=60)
    )


@pytest.mark.slow
def test_a_late_release_of_whatever_is_held_cuts_off_hosts_that_live() -> None:
    assert any("was claimed from it" in problem for problem in wrong(Rules(releases_as_held=False), schedules=400))
