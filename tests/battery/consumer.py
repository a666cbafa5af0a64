"""A process of the battery that keeps a view: how many events each agent has, and whether one was missing."""

from __future__ import annotations

import json
import logging
import signal
import sys
import threading
from pathlib import Path

from battery.history import History
from battery.member import Place, open_system
from duramen.events import DuramenError, Event
from duramen.projections import KeyedProjection

__all__ = ["NAME", "Counts"]

NAME = "battery"


class Counts(KeyedProjection[list[int]]):
    """By agent: events, seq of the last one, and how often an event did not follow the one before."""

    def key(self, event: Event) -> str:
        return event.agent

    def apply(self, entry: list[int] | None, event: Event) -> list[int]:
        count, last, gaps = entry or [0, 0, 0]
        return [count + 1, event.seq, gaps + (event.seq != last + 1)]


def main() -> None:
    place = Place(**json.loads(sys.argv[1]))
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    history, stop = History(Path(place.history)), threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    with open_system(place) as system:
        runner = None
        while runner is None:
            try:
                runner = system.attach(Counts(), NAME)
            except DuramenError:
                stop.wait(0.2)
        print("ready", flush=True)
        while not stop.wait(0.2):
            if runner.status in ("parked", "fenced", "closed"):
                history.note("problem", f"the consumer is {runner.status}: {runner.error}")
                break
        runner.close(20)


if __name__ == "__main__":
    main()
