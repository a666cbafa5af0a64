"""A process that keeps a view, and kills itself at a moment it is told: run by the tests of its folder.

    python consumer_process.py '{"url": …, "namespace": …, "kind": …, "die": …, "after": …}'

It says `live` when it is, and ends at the end of its input.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from attrs import evolve

from duramen.actors import AgentSystem
from duramen.events import Event
from duramen.events.log.consumer_store import ConsumerRecord, ConsumerRequest, ConsumerStore, Saved
from duramen.projections import Runner
from following import LastSeqs, PerAgent
from sinks import sink_of


class Death:
    """Comes at the `after`-th visit of the place `die`."""

    def __init__(self, place: str | None, after: int) -> None:
        self.place = place
        self.left = after

    def passes(self, place: str) -> None:
        if place == self.place:
            self.left -= 1
            if self.left <= 0:
                os.kill(os.getpid(), signal.SIGKILL)


class MortalSeqs(LastSeqs):
    def __init__(self, death: Death) -> None:
        self.death = death

    def apply(self, state: Mapping[str, list[int]], event: Event) -> Mapping[str, list[int]]:
        after = super().apply(state, event)
        self.death.passes("apply")
        return after

    def dump(self, state: Mapping[str, list[int]]) -> Any:
        self.death.passes("dump")
        return super().dump(state)


class MortalPerAgent(PerAgent):
    def __init__(self, death: Death) -> None:
        super().__init__()
        self.death = death

    def apply(self, entry: list[int] | None, event: Event) -> list[int] | None:
        after = super().apply(entry, event)
        self.death.passes("apply")
        return after

    def dump(self, entry: list[int]) -> Any:
        self.death.passes("dump")
        return super().dump(entry)


class TwoWrites:
    """The negative control: first the view, then how far it has come."""

    def __init__(self, views: ConsumerStore, death: Death) -> None:
        self._views = views
        self._death = death

    def __getattr__(self, name: str) -> Any:
        return getattr(self._views, name)

    def save(
        self,
        record: ConsumerRecord,
        *,
        blob: bytes | None = None,
        changes: Mapping[str, bytes | None] | None = None,
        done: ConsumerRequest | None = None,
    ) -> Saved:
        live = self._views.find(record.name).live
        assert live is not None
        before = evolve(live, revision=record.revision, applied=live.applied or int(blob is not None))
        saved = self._views.save(before, blob=blob, changes=changes)
        if blob is not None or changes:
            self._death.passes("between")
        return self._views.save(evolve(record, revision=saved.revision), done=done)


def attach(system: AgentSystem, told: Mapping[str, Any], death: Death) -> Runner[Any]:
    kind = told["kind"]
    if kind == "whole":
        return system.attach(MortalSeqs(death), "view")
    if kind == "keyed":
        return system.attach(MortalPerAgent(death), "view")
    if kind == "two writes":
        views = TwoWrites(system.log.consumer_store(), death)
        system.log.consumer_store = lambda: views  # type: ignore[method-assign]
        return system.attach(MortalPerAgent(death), "view") if told.get("keyed") else system.attach(LastSeqs(), "view")
    sink = sink_of(kind)

    def before(events: Sequence[Event]) -> None:
        death.passes("before commit")

    def after(events: Sequence[Event]) -> None:
        death.passes("after commit")

    sink.before_commit, sink.after_commit = before, after
    return system.attach(sink, "view")


def main() -> None:
    told = json.loads(sys.argv[1])
    death = Death(told.get("die"), told.get("after", 1))
    with AgentSystem.open(told["url"], namespace=told["namespace"]) as system:
        runner = attach(system, told, death)
        runner.wait_for(timeout=60)
        print("live", flush=True)
        sys.stdin.read()
        runner.close()


if __name__ == "__main__":
    main()
