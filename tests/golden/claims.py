"""A user's events as they are today; golden logs hold what they were in earlier releases, too."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attrs import frozen

from duramen.events import Event, EventRegistry, event_type, upcaster
from duramen.projections import Projection

__all__ = ["REGISTRY", "ClaimFound", "Claims"]

REGISTRY = EventRegistry()


@event_type("claim_found", version=2, registry=REGISTRY)
@frozen
class ClaimFound:
    text: str
    sources: list[str]


@upcaster("claim_found", from_version=1, registry=REGISTRY)
def several_sources(data: dict[str, Any]) -> dict[str, Any]:
    return {"text": data["text"], "sources": [data["source"]]}


class Claims(Projection[Mapping[str, int]]):
    """How many sources each claim has."""

    def initial(self) -> Mapping[str, int]:
        return {}

    def apply(self, state: Mapping[str, int], event: Event) -> Mapping[str, int]:
        if event.type != "claim_found":
            return state
        text = event.data["text"]
        return {**state, text: state.get(text, 0) + len(event.data["sources"])}
