"""Properties that hold for every replay, checked on projections, events and logs of your own.

Needs hypothesis, which `pip install 'duramen[verify]'` brings; without it the import raises NotInstalled. Agents are
checked with `duramen.actors.verification`; recorded logs, for which hypothesis is not needed, with
`duramen.projections.recorded`.
"""

from __future__ import annotations

from importlib.util import find_spec

from duramen.events.errors import NotInstalled

if find_spec("hypothesis") is None:
    raise NotInstalled("the verification kit needs hypothesis; install it with: pip install 'duramen[verify]'")

from duramen.projections.recorded.rows import log_of
from duramen.projections.recorded.stored_log import StoredLog

from .broken import LawBroken
from .checking import Report, check, check_subject, projection_laws, verified
from .event_laws import EventsComeBackEqual
from .event_strategies import events, instances
from .law import Law, NotChecked
from .laws import (
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
from .log_checks import ReadAsWritten, check_log
from .log_strategies import logs, stored_logs
from .other_process import SameInAnotherProcess
from .path_strategies import agent_paths, paths, property_paths
from .subject import Subject, subject_of
from .upcast_checks import UpcastedEqualsNative, check_upcaster
from .value_checks import check_values
from .value_strategies import near_values, values

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
    "instances",
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
