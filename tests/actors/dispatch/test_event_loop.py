"""Calls in the thread of a system's event loop."""

from __future__ import annotations

import threading
from contextvars import ContextVar

from duramen.actors.dispatch import EventLoop, Timers

_PLACE: ContextVar[str] = ContextVar("place", default="nowhere")


def test_a_call_does_not_run_in_the_context_of_the_code_that_has_woken_the_loop() -> None:
    timers = Timers()
    loop = EventLoop(timers)
    seen: list[str] = []
    done = threading.Event()

    def look() -> None:
        seen.append(_PLACE.get())
        _PLACE.set("left behind")
        if len(seen) == 2:
            done.set()

    _PLACE.set("a step")
    loop.call(look)
    loop.call(look)
    assert done.wait(10)
    assert seen[0] == "nowhere"
    assert _PLACE.get() == "a step"
    loop.close(10)
    timers.close(10)
