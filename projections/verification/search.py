"""The search for the smallest example that breaks a law."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Final, TypeVar

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import seed as hypothesis_seed
from hypothesis.strategies import SearchStrategy

from duramen.events import InvalidMessage

EXAMPLES: Final = "DURAMEN_VERIFY_EXAMPLES"
"""Environment variable: the number of examples of each check, where the call does not give it."""

INSIDE: Final = "DURAMEN_VERIFY_INSIDE"
"""Environment variable, set in the helper process of a check: what it imports may call `check` while it is imported."""

_USUAL: Final = 100

T = TypeVar("T")


def examples_wanted(examples: int | None) -> int:
    """The number of examples given by the call or the environment. Raises InvalidMessage if it is not positive."""
    given = os.environ.get(EXAMPLES, str(_USUAL)) if examples is None else str(examples)
    if not given.isdecimal() or int(given) < 1:
        raise InvalidMessage(f"the number of examples is a whole number from 1 on; look at {EXAMPLES}")
    return int(given)


def is_inside_check() -> bool:
    """Whether this process is the helper of a check in another one: it checks nothing itself."""
    return INSIDE in os.environ


def find_smallest(
    strategy: SearchStrategy[T], broken: Callable[[T], bool], examples: int | None, seed: int | None
) -> T | None:
    """The smallest example found for which `broken` is true; None if there was none.

    Nothing is kept between runs. Without a seed the examples differ, unless hypothesis's profile derandomizes.
    """
    if is_inside_check():
        return None
    if seed is None and settings.get_profile(settings.get_current_profile_name()).derandomize:
        seed = 0
    found: list[T] = []

    def try_one(example: T) -> None:
        if broken(example):
            found.append(example)
            raise _Found

    search = _settings(examples_wanted(examples))(given(strategy)(try_one))
    if seed is not None:
        search = hypothesis_seed(seed)(search)
    try:
        search()
    except _Found:
        return found[-1]  # hypothesis runs the smallest one again at the end
    return None


class _Found(Exception):
    """Raised for an example that breaks a law."""


def _settings(examples: int) -> settings:
    return settings(
        max_examples=examples,
        database=None,
        deadline=None,
        derandomize=False,
        phases=(Phase.generate, Phase.shrink),
        report_multiple_bugs=False,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
    )
