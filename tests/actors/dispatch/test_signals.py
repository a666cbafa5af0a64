"""Handlers of signals are kept away from what must not be torn, and every one of them is back behind it."""

from __future__ import annotations

import random
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

import pytest

from duramen.actors.dispatch.signals import SignalShield

NUMBERS = (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGVTALRM, signal.SIGINT)
ROUNDS = 150
"""With a shield that gave up at the first handler that raises, one in fifteen left the others behind."""


class Ended(BaseException):
    """What a handler raises."""


@pytest.fixture
def called() -> Iterator[list[int]]:
    """Handlers that note their signal, and raise for SIGTERM and SIGVTALRM."""
    numbers: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        numbers.append(number)
        if number in (signal.SIGTERM, signal.SIGVTALRM):
            raise Ended

    before = {number: signal.signal(number, note) for number in NUMBERS}
    yield numbers
    for number, handler in before.items():
        signal.signal(number, handler)


def handlers() -> list[Any]:
    return [signal.getsignal(number) for number in NUMBERS]


def test_a_signal_waits_for_the_end_of_the_block(called: list[int]) -> None:
    woken: list[bool] = []
    before = handlers()
    with SignalShield(lambda: woken.append(True)) as shield:
        signal.raise_signal(signal.SIGUSR1)
        assert (called, shield.caught, woken) == ([], [signal.SIGUSR1], [True])
    assert called == [signal.SIGUSR1]
    assert handlers() == before


def test_one_handler_that_raises_does_not_keep_another_from_being_called(called: list[int]) -> None:
    before = handlers()
    with pytest.raises(Ended), SignalShield(lambda: None):
        for number in (signal.SIGUSR2, signal.SIGTERM, signal.SIGINT, signal.SIGTERM):
            signal.raise_signal(number)
    assert called == [signal.SIGUSR2, signal.SIGTERM, signal.SIGINT, signal.SIGTERM]
    assert handlers() == before


def shields_until_a_signal_comes(seconds: float) -> None:
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
    try:
        while True:
            with SignalShield(lambda: None):
                pass
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)


@pytest.mark.slow
def test_a_signal_at_any_moment_leaves_no_handler_behind(called: list[int]) -> None:
    before, chance = handlers(), random.Random(1)
    for _ in range(ROUNDS):
        with pytest.raises(Ended):
            shields_until_a_signal_comes(chance.uniform(0.000_1, 0.002))
        assert handlers() == before
    assert called == [signal.SIGVTALRM] * ROUNDS


def test_in_another_thread_it_does_nothing(called: list[int]) -> None:
    before, found = handlers(), list[Any]()

    def look() -> None:
        with SignalShield(lambda: None):
            found.extend(handlers())

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert found == before


@pytest.mark.parametrize("disposition", [signal.SIG_IGN, signal.SIG_DFL])
def test_what_has_no_handler_stays_so(called: list[int], disposition: Callable[..., Any]) -> None:
    signal.signal(signal.SIGUSR1, disposition)
    with SignalShield(lambda: None):
        assert signal.getsignal(signal.SIGUSR1) is disposition
    assert signal.getsignal(signal.SIGUSR1) is disposition
