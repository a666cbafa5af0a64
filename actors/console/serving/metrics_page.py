"""The page `/metrics`, in Prometheus' text format."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import accumulate
from typing import Final

from attrs import asdict

from duramen.events.measures import Distribution

from ...api import SystemLoad

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
_HELP: Final = {
    "agents_in_memory": "Agents in this process's memory.",
    "messages_waiting": "Messages in mailboxes that are not handled yet.",
    "longest_mailbox": "Messages in the longest mailbox.",
    "appends_in_flight": "Batches sent to the log and not answered yet.",
    "appends_total": "Appends sent to the log.",
    "append_batches_total": "Batches of appends sent to the log.",
    "append_failures_total": "Appends that the log could not take or did not answer in time.",
    "recoveries_total": "Agents that came into memory from their logs.",
    "fences_total": "Turns refused because another host had taken the agent over.",
    "work_parked_total": "Pieces of work that were parked.",
    "forwards_total": "Messages sent to other hosts.",
    "forwards_taken_total": "Messages of other hosts that were taken.",
    "forwards_waiting": "Messages to other hosts that are not answered yet.",
    "frames_refused_total": "Messages on this host's channel that were forged, foreign, repeated or out of order.",
    "late_beats_total": "Beats of this host that came more than 5 seconds after the one before.",
    "append_batch_size": "Appends in a batch.",
    "commit_seconds": "Seconds from sending a batch of appends to the answer of the log.",
}


def metrics_page(*, is_ready: bool, load: SystemLoad | None, lags: Mapping[str, int]) -> str:
    """Make the page; `lags` are those of durable consumers, by name."""
    lines = _simple("ready", "Whether messages are taken: 1 or 0.", int(is_ready))
    for name, value in asdict(load, recurse=False).items() if load is not None else ():
        if isinstance(value, Distribution):
            lines += _histogram(name, _HELP[name], value)
        else:
            lines += _simple(name, _HELP[name], value)
    if lags:
        lines += _head("consumer_lag", "Appends that a durable consumer here has still to take.", "gauge")
        lines += [f'duramen_consumer_lag{{consumer="{name}"}} {lag}' for name, lag in lags.items()]
    return "\n".join([*lines, ""])


def _head(name: str, help_text: str, kind: str) -> list[str]:
    return [f"# HELP duramen_{name} {help_text}", f"# TYPE duramen_{name} {kind}"]


def _simple(name: str, help_text: str, value: int) -> list[str]:
    kind = "counter" if name.endswith("_total") else "gauge"
    return [*_head(name, help_text, kind), f"duramen_{name} {value}"]


def _histogram(name: str, help_text: str, found: Distribution) -> list[str]:
    bounds = [*(f"{bound:g}" for bound in found.bounds), "+Inf"]
    counts = list(accumulate(found.counts))
    lines = [f'duramen_{name}_bucket{{le="{bound}"}} {count}' for bound, count in zip(bounds, counts, strict=True)]
    return [
        *_head(name, help_text, "histogram"),
        *lines,
        f"duramen_{name}_sum {found.total:g}",
        f"duramen_{name}_count {counts[-1]}",
    ]
