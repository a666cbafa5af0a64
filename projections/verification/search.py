"""Looking for the smallest example."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Final, TypeVar

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import seed as hypothesis_seed
from hypothesis.strategies import SearchStrategy

from duramen.events import InvalidMessage

__all__ = ["EXAMPLES", "examples_wanted", "smallest"]

EXAMPLES: Final = "DURAMEN_VERIFY_EXAMPLES"
"""Environment variable: how many examples each check makes up, where the call does not say."""

_USUAL: Final = 100

T = TypeVar("T")


def examples_wanted(examples: int | None) -> int:
    """What was asked for, by the call or the environment. Raises InvalidMessage for what is no positive number."""
    given = os.environ.get(EXAMPLES, str(_USUAL)) if examples is None else str(examples)
    if not given.isdecimal() or int(given) < 1:
        raise InvalidMessage(f"the number of examples is a whole number from 1 on; look at {EXAMPLES}")
    return int(given)


def smallest(
    strategy: SearchStrategy[T], broken: Callable[[T], bool], examples: int | None, seed: int | None
) -> T | None:
    """The smallest example found for which `broken` is true; None if none was among so many.

    Nothing is kept between runs. Without a seed the examples are new ones, unless hypothesis's profile derandomizes.
    """
    if seed is None and settings.get_profile(settings.get_current_profile_name()).derandomize:
        seed = 0
    found: list[T] = []

    def look(example: T) -> None:
        if broken(example):
            found.append(example)
            raise _Found

    looking = _how(examples_wanted(examples))(given(strategy)(look))
    if seed is not None:
        looking = hypothesis_seed(seed)(looking)
    try:
        looking()
    except _Found:
        return found[-1]  # the smallest one is tried once more at the end
    return None


class _Found(Exception):
    """Ends the look at one example."""


def _how(examples: int) -> settings:
    return settings(
        max_examples=examples,
        database=None,
        deadline=None,
        derandomize=False,
        phases=(Phase.generate, Phase.shrink),
        report_multiple_bugs=False,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
    )
