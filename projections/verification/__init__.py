"""The verification kit: laws that hold for every replay, checked on your projections, events and logs.

Needs hypothesis: `pip install 'duramen[verify]'`; without it the import raises NotInstalled. Agents are checked with
`duramen.actors.verification`, recorded logs with `duramen.projections.recorded`, which needs no hypothesis.
"""

from __future__ import annotations

from importlib.util import find_spec

from duramen.events import NotInstalled

if find_spec("hypothesis") is None:
    raise NotInstalled("the verification kit needs hypothesis; install it with: pip install 'duramen[verify]'")

from ..recorded import StoredLog, log_of
from .checking import Report, check, check_subject, projection_laws, verified
from .checks import ReadAsWritten, UpcastedEqualsNative, check_log, check_upcaster, check_values
from .law_broken import LawBroken
from .laws import (
    ActsOnNothing,
    AgreesWith,
    BatchesDoNotMatter,
    ChangesNothingItIsGiven,
    DeliveredAgainIsTheSame,
    EventsComeBackEqual,
    Law,
    NeedsNoClock,
    NotChecked,
    OnlyItsTypes,
    ReplaysTheSame,
    SameInAnotherProcess,
    SnapshotPlusRest,
    TakesEveryEvent,
)
from .search import examples_wanted, find_smallest, is_inside_check
from .strategies import agent_paths, events, instances, logs, near_values, paths, property_paths, stored_logs, values
from .subject import Subject, subject_of

__all__ = [
    "ActsOnNothing",
    "AgreesWith",
    "BatchesDoNotMatter",
    "ChangesNothingItIsGiven",
    "DeliveredAgainIsTheSame",
    "EventsComeBackEqual",
    "Law",
    "LawBroken",
    "NeedsNoClock",
    "NotChecked",
    "OnlyItsTypes",
    "ReadAsWritten",
    "ReplaysTheSame",
    "Report",
    "SameInAnotherProcess",
    "SnapshotPlusRest",
    "StoredLog",
    "Subject",
    "TakesEveryEvent",
    "UpcastedEqualsNative",
    "agent_paths",
    "check",
    "check_log",
    "check_subject",
    "check_upcaster",
    "check_values",
    "events",
    "examples_wanted",
    "find_smallest",
    "instances",
    "is_inside_check",
    "log_of",
    "logs",
    "near_values",
    "paths",
    "projection_laws",
    "property_paths",
    "stored_logs",
    "subject_of",
    "values",
    "verified",
]
