"""The laws of replay."""

from __future__ import annotations

from .codec_law import EventsComeBackEqual
from .fold_laws import (
    ActsOnNothing,
    AgreesWith,
    BatchesDoNotMatter,
    ChangesNothingItIsGiven,
    DeliveredAgainIsTheSame,
    NeedsNoClock,
    OnlyItsTypes,
    ReplaysTheSame,
    SnapshotPlusRest,
    TakesEveryEvent,
)
from .frozen_clock import EARLIER, LATER, freeze_clock
from .law import Law, NotChecked
from .other_process import SameInAnotherProcess

__all__ = [
    "EARLIER",
    "LATER",
    "ActsOnNothing",
    "AgreesWith",
    "BatchesDoNotMatter",
    "ChangesNothingItIsGiven",
    "DeliveredAgainIsTheSame",
    "EventsComeBackEqual",
    "Law",
    "NeedsNoClock",
    "NotChecked",
    "OnlyItsTypes",
    "ReplaysTheSame",
    "SameInAnotherProcess",
    "SnapshotPlusRest",
    "TakesEveryEvent",
    "freeze_clock",
]
