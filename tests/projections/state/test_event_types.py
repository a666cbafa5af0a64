"""The rows of duramen's own event types agree with each other: what is folded is what the other columns say."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

from hypothesis import given

from duramen.events.model import MEMORY_SET, OWN_TYPES, same_value
from duramen.projections.recorded import StoredLog
from duramen.projections.state import OWN_EVENT_TYPES, AgentState, advance, changed_paths
from duramen.projections.state.changed_paths import MERGED, ChangedPath
from duramen.projections.verification.strategies import stored_logs


def test_every_own_type_has_a_row() -> None:
    assert set(OWN_EVENT_TYPES) == OWN_TYPES


@given(stored_logs())
def test_an_event_changes_nothing_but_the_paths_of_its_row(log: StoredLog) -> None:
    state = AgentState()
    for seq, raw in enumerate(log.raws(), 1):
        before = deepcopy(state.memory)
        paths = [path for path in changed_paths(log.agent, seq, raw) if not keeps_a_dict(path, before)]
        advance(state, deepcopy(raw), b"", 10)
        assert same_value(without(before, paths), without(state.memory, paths)), raw[0]


@given(stored_logs())
def test_what_a_row_copies_is_all_that_its_fold_changes(log: StoredLog) -> None:
    state = AgentState()
    for raw in log.raws():
        memory, before = state.memory, deepcopy(state.memory)
        state.memory = OWN_EVENT_TYPES[raw[0]].copy_changed(memory, raw[4])
        advance(state, deepcopy(raw), b"", 10)
        assert same_value(memory, before), raw[0]


def test_a_fold_without_a_copy_is_seen() -> None:
    state = AgentState()
    memory = state.memory
    advance(state, [MEMORY_SET, 1, 2, 0, {"path": "a", "value": 1}, None, None, None, None, None], b"", 10)
    assert memory == {"a": 1}


@given(stored_logs())
def test_values_with_their_scalars_replaced_fold_to_the_same_form(log: StoredLog) -> None:
    values, seqs = AgentState(), AgentState()
    for seq, raw in enumerate(log.raws(), 1):
        own, replaced = OWN_EVENT_TYPES[raw[0]], deepcopy(raw)
        if own.values is not None:
            replaced[4][own.values] = own.replace_scalars(raw[4][own.values], seq)
        advance(values, deepcopy(raw), b"", 10)
        advance(seqs, replaced, b"", 10)
        assert form(values.memory) == form(seqs.memory), raw[0]


def keeps_a_dict(path: ChangedPath, memory: Any) -> bool:
    """Whether it is of a merge into a dict, which changes only what its other paths name."""
    for segment in path.segments if path.depth == MERGED else ():
        memory = memory.get(segment) if isinstance(memory, dict) else None
    return path.depth == MERGED and isinstance(memory, dict)


def without(memory: Any, paths: list[Any]) -> Any:
    """The memory without what is at the paths; dicts that then are empty go too, since an edit makes those it needs."""
    kept = deepcopy(memory)
    for path in paths:
        cut(kept, path.segments)
    return pruned(kept)


def cut(node: Any, segments: tuple[str, ...]) -> None:
    if not segments:
        node.clear()
    elif isinstance(node, dict) and segments[0] in node:
        if len(segments) > 1 and isinstance(node[segments[0]], (dict, list)):
            cut(node[segments[0]], segments[1:])
        else:
            del node[segments[0]]
    elif isinstance(node, list):
        node.clear()  # which element has moved where is not the matter here


def pruned(node: Any) -> Any:
    if isinstance(node, dict):
        found = {key: pruned(value) for key, value in node.items()}
        return {key: value for key, value in found.items() if value != {}}
    return [pruned(value) for value in node] if isinstance(node, list) else node


def form(node: Any) -> Any:
    if isinstance(node, dict):
        return {key: form(value) for key, value in node.items()}
    return [form(value) for value in node] if isinstance(node, list) else None
