"""Strategies for messages to agents."""

from __future__ import annotations

from typing import Any, Final

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from duramen.events import Granularity
from duramen.projections.verification.strategies import NAMES, paths, values

from ..commands import (
    Append,
    Batch,
    Delete,
    Extend,
    Merge,
    Outcome,
    Pause,
    Record,
    Resume,
    Set,
    SetGranularity,
    Spawn,
    Terminate,
)

_KINDS: Final = ("note", "tool_output", "completion")
_CHECKPOINTS: Final = ("x", "y")


def operations(*, max_leaves: int = 5) -> SearchStrategy[Any]:
    """Mutations of working memory, and activity. Paths have few names, so that many meet; some do not exist."""
    names, value = st.sampled_from(NAMES), values(st.sampled_from(NAMES), max_leaves=max_leaves)
    return st.one_of(
        st.builds(Set, names, value),
        st.builds(Set, paths(), value),
        st.builds(Append, paths(), value),
        st.builds(Extend, paths(), st.lists(value, max_size=3)),
        st.builds(Merge, st.just("") | paths(), st.dictionaries(names, value, max_size=3) | value),
        st.builds(Delete, paths()),
        st.builds(Record, st.sampled_from(_KINDS), value, st.sampled_from((Granularity.ACTIVITY, Granularity.TRACE))),
    )


def lifecycle_messages() -> SearchStrategy[Any]:
    """Pause, resume, terminate and spawn; the agent may refuse them."""
    names, flags = st.sampled_from(_CHECKPOINTS), st.booleans()
    memory = st.dictionaries(st.sampled_from(NAMES), values(st.sampled_from(NAMES), max_leaves=3), max_size=2)
    return st.one_of(
        st.builds(Pause, checkpoint_id=names),
        st.builds(Resume, checkpoint_id=st.none() | names, clear_current=flags),
        st.builds(Terminate, outcome=st.sampled_from(Outcome), consolidate_to_episodic=flags, cleanup_working=flags),
        st.builds(Spawn, initial_state=memory),
    )


def commands() -> SearchStrategy[Any]:
    """All of duramen's messages: mutations alone and in batches, lifecycle, granularity."""
    levels = st.dictionaries(st.sampled_from(_KINDS), st.none() | st.sampled_from(Granularity), max_size=2)
    return st.one_of(
        operations(),
        st.builds(Batch, st.lists(operations(), min_size=1, max_size=4)),
        lifecycle_messages(),
        st.builds(SetGranularity, level=st.sampled_from(Granularity), levels=levels),
    )
