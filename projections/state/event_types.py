"""What each of duramen's own event types means: one row has all that depends on the type.

The fold, changed paths, blame, headlines and slices of logs are all made from these rows. One fold serves the live
actor, recovery and every projection: `advance` works on raw fields, in place; `WorkingMemory` is its pure form.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeAlias

from attrs import frozen

from duramen.events import CorruptEvent, DuramenError, Granularity, PlainData, property_segments
from duramen.events.codec import RawEvent, to_microseconds
from duramen.events.model import vocabulary as v

from .agent_state import FAILED_STATUS, PAUSED_STATUS, RUNNING, TERMINATED_STATUS, AgentState
from .changed_paths import (
    WHOLE,
    ChangedPath,
    depth_of,
    paths_of_deletion,
    paths_of_items,
    paths_of_ops,
    paths_of_patch,
)
from .operations import apply_ops
from .reminders import fold_reminder_due, fold_reminder_set, fold_reminder_stopped
from .tree import assign, copy_for_merge, copy_path, copy_tree, extend, merge, remove
from .undo import Undo, count_nodes, put_key
from .work import (
    carry_work,
    end_all_work,
    end_work_since,
    fold_accepted,
    fold_answered,
    fold_attempted,
    fold_begun,
    fold_cancel_sent,
    fold_continued,
    fold_done,
    fold_ended,
    fold_given_up,
    fold_parked,
    fold_retried,
    fold_taken_up,
)

Data: TypeAlias = dict[str, Any]
Fold: TypeAlias = Callable[[AgentState, Data, int, "list[Undo] | None"], None]
"""Changes a state in place. The int is the event's time in µs."""
Replace: TypeAlias = Callable[[Any, int], Any]

_LEVELS: Final[Mapping[str | int, int]] = {
    name: level.value for level in Granularity for name in (level.name.lower(), level.value)
}
"""Granularities by their names, as events have them, and by the numbers that older logs have."""


def replace_scalars(value: PlainData, by: int) -> PlainData:
    """The same containers, with a number in the place of each scalar."""
    if type(value) is dict:
        return {key: replace_scalars(held, by) for key, held in value.items()}
    if type(value) is list:
        return [replace_scalars(held, by) for held in value]
    return by


def _share(memory: Data, data: Data) -> Data:
    return memory


def _copy_path(memory: Data, data: Data) -> Data:
    return copy_path(memory, property_segments(data["path"]))


@frozen(eq=False, repr=False)
class OwnEventType:
    """What one event type means to everything that reads events."""

    headline: str
    """A line for people, formatted with the data: `{path}` is its field, of a list the length."""
    fold: Fold | None = None
    """None: the event changes nothing but the position."""
    changed_paths: Callable[[Data], Sequence[ChangedPath]] | None = None
    """None: the event changes no property."""
    values: str | None = None
    """The field of the data that has the values which come into working memory, as they are."""
    replace_scalars: Replace = replace_scalars
    """Puts a number in the place of every scalar of `values`."""
    is_edit: bool = False
    """Whether the event changes one item of working memory, the one that its `path` begins with."""
    copy_changed: Callable[[Data, Data], Data] = _share
    """The memory with copies of the containers that `fold` would change."""


# -- lifecycle ---------------------------------------------------------------------------------------------------------


def _spawned(state: AgentState, data: Data, time: int, undo: list[Undo] | None) -> None:
    state.status = RUNNING
    state.session_id = data["session_id"]
    state.agent_type = data["agent_type"]
    state.metadata = data["metadata"]
    state.parent = data["parent"]
    state.session_first_seq = state.seq + 1
    state.started_at = time
    state.granularity = _LEVELS[data["granularity"]]
    state.levels = {kind: _LEVELS[level] for kind, level in {**data["levels"]}.items()}
    state.expires_after = data.get("expires_after")
    state.paused_at = None
    state.children = {}
    # Items that an earlier session kept stay, unless the new one has initial items of their names.
    state.memory = {**state.memory, **data["memory"]}
    state.nodes = count_nodes(state.memory)


def _paused(state: AgentState, data: Data, time: int, undo: list[Undo] | None) -> None:
    state.status = PAUSED_STATUS
    state.when_paused = data["when_paused"]
    state.paused_at = data["checkpoint_id"]
    expires = data["expires_at"]
    kept = {
        checkpoint_id: entry
        for checkpoint_id, entry in state.checkpoints.items()
        if checkpoint_id != data["checkpoint_id"] and (entry[3] is None or entry[3] > time)
    }
    kept[data["checkpoint_id"]] = [
        state.seq + 1,
        time,
        data["keys_count"],
        None if expires is None else to_microseconds(expires),
        data["metadata"],
        state.digest,  # of the event before this one: where the checkpoint's memory was taken
        *([data["cascade"]] if "cascade" in data else ()),
    ]
    state.checkpoints = kept


def _resumed(state: AgentState, data: Data, time: int, undo: list[Undo] | None) -> None:
    end_work_since(state, data)
    state.status = RUNNING
    state.paused_at = None


def _terminated(state: AgentState, data: Data, time: int, undo: list[Undo] | None) -> None:
    state.status = TERMINATED_STATUS
    state.paused_at = None
    end_all_work(state)
    if data["cleared"]:
        state.memory = {}
        state.nodes = 1


def _expired(state: AgentState, data: Data, time: int, undo: list[Undo] | None) -> None:
    state.status = TERMINATED_STATUS
    state.paused_at = None
    end_all_work(state)
    state.memory = {}
    state.nodes = 1
    state.expires_after = 0.0


def _failed(state: AgentState, data: Data, time: int, undo: list[Undo] | None) -> None:
    state.status = FAILED_STATUS


def _restarted(state: AgentState, data: Data, time: int, undo: list[Undo] | None) -> None:
    state.status = RUNNING


def _forked(state: AgentState, data: Data, time: int, undo: list[Undo] | None) -> None:
    # Working memory goes on; what belongs to the origin alone does not: its session, checkpoints and sub-agents.
    if state.status != TERMINATED_STATUS:
        state.status = RUNNING
    state.session_id = data["session_id"]
    state.parent = data["parent"]
    state.session_first_seq = state.seq + 1
    state.started_at = time
    state.paused_at = None
    state.children = data["children"]
    state.checkpoints = {}
    carry_work(state, data)
    state.expires_after = None


def _child_spawned(state: AgentState, data: Data, time: int, undo: list[Undo] | None) -> None:
    state.children = {**state.children, data["path"]: data["outlives"]}


def _granularity_set(state: AgentState, data: Data, time: int, undo: list[Undo] | None) -> None:
    if data["level"] is not None:
        state.granularity = _LEVELS[data["level"]]
    changed = {kind: None if level is None else _LEVELS[level] for kind, level in {**data["levels"]}.items()}
    state.levels = {kind: level for kind, level in (state.levels | changed).items() if level is not None}


def _retention_set(state: AgentState, data: Data, time: int, undo: list[Undo] | None) -> None:
    state.retention = data["retention"]


# -- working memory ----------------------------------------------------------------------------------------------------


def _set(state: AgentState, data: Data, time: int, undo: list[Undo] | None) -> None:
    state.nodes += assign(state.memory, property_segments(data["path"]), data["value"], undo)


def _paths_of_set(data: Data) -> Sequence[ChangedPath]:
    path: str = data["path"]
    return (ChangedPath(path, property_segments(path), depth_of(data["value"])),)


def _deleted(state: AgentState, data: Data, time: int, undo: list[Undo] | None) -> None:
    state.nodes += remove(state.memory, property_segments(data["path"]), undo)


def _appended(state: AgentState, data: Data, time: int, undo: list[Undo] | None) -> None:
    state.nodes += extend(state.memory, property_segments(data["path"]), data["values"], undo)


def _paths_of_append(data: Data) -> Sequence[ChangedPath]:
    path: str = data["path"]
    return (ChangedPath(path, property_segments(path), depth_of(*data["values"])),)


def _merged(state: AgentState, data: Data, time: int, undo: list[Undo] | None) -> None:
    state.nodes += merge(state.memory, property_segments(data["path"]), data["patch"], undo)


def _replace_in_patch(patch: PlainData, by: int) -> PlainData:
    """A None in the dicts of a merge patch deletes, so it stays."""
    if type(patch) is dict:
        return {key: None if held is None else _replace_in_patch(held, by) for key, held in patch.items()}
    return replace_scalars(patch, by)


def _restored(state: AgentState, data: Data, time: int, undo: list[Undo] | None) -> None:
    state.nodes += apply_ops(state.memory, data["ops"], undo)


def _replace_in_ops(ops: list[list[Any]], by: int) -> list[list[Any]]:
    """`set` and `extend` have values; other operations delete."""
    return [[*op[:2], replace_scalars(op[2], by)] if op[0] in ("set", "extend") else op for op in ops]


OWN_EVENT_TYPES: Final[Mapping[str, OwnEventType]] = {
    v.SPAWNED: OwnEventType(
        "spawned, session {session_id}", _spawned, lambda data: paths_of_items(data["memory"]), values="memory"
    ),
    v.PAUSED: OwnEventType("paused at checkpoint {checkpoint_id} (items: {keys_count})", _paused),
    v.RESUMED: OwnEventType("resumed from checkpoint {checkpoint_id} (items: {items_restored})", _resumed),
    v.EPISODE_RECORDED: OwnEventType("kept as an episode"),
    v.TERMINATED: OwnEventType("terminated: {outcome}", _terminated, lambda data: WHOLE if data["cleared"] else ()),
    v.EXPIRED: OwnEventType("expired, and was to be erased", _expired, lambda data: WHOLE),
    v.FAILED: OwnEventType("failed: {error}", _failed),
    v.RESTARTED: OwnEventType("restarted", _restarted),
    v.FORKED: OwnEventType("forked from {origin} at {origin_seq}", _forked),
    v.CHILD_SPAWNED: OwnEventType("spawned sub-agent {path}", _child_spawned),
    v.GRANULARITY_SET: OwnEventType("changed the granularity", _granularity_set),
    v.RETENTION_SET: OwnEventType("changed how much of its log is kept", _retention_set),
    v.ACTIVITY_RECORDED: OwnEventType("recorded {kind}"),
    v.WORK_ACCEPTED: OwnEventType("accepted {message_type} as work", fold_accepted),
    v.WORK_CONTINUED: OwnEventType("work {work} went on with the result of #{number}", fold_continued),
    v.WORK_BEGUN: OwnEventType("work {work} began #{number}: {kind} {name}", fold_begun),
    v.WORK_ATTEMPTED: OwnEventType("work {work}: attempt {attempt} of #{number} failed", fold_attempted),
    v.WORK_DONE: OwnEventType("work {work} has the result of #{number}", fold_done),
    v.WORK_GIVEN_UP: OwnEventType("work {work} gave up #{number}", fold_given_up),
    v.WORK_CANCEL_SENT: OwnEventType("had work cancelled that was asked for", fold_cancel_sent),
    v.WORK_ANSWERED: OwnEventType("answered {name}", fold_answered),
    v.WORK_TAKEN_UP: OwnEventType("took up pieces of work: {works}", fold_taken_up),
    v.WORK_PARKED: OwnEventType("parked work {work}", fold_parked),
    v.WORK_RETRIED: OwnEventType("retried work {work}", fold_retried),
    v.WORK_ENDED: OwnEventType("work {work} ended: {how}", fold_ended),
    v.REMINDER_SET: OwnEventType("set reminder {name}", fold_reminder_set),
    v.REMINDER_DUE: OwnEventType("reminder {name} was due", fold_reminder_due),
    v.REMINDER_STOPPED: OwnEventType("stopped reminder {name}", fold_reminder_stopped),
    v.MEMORY_SET: OwnEventType(
        "set {path}", _set, _paths_of_set, values="value", is_edit=True, copy_changed=_copy_path
    ),
    v.MEMORY_DELETED: OwnEventType(
        "deleted {path}",
        _deleted,
        lambda data: paths_of_deletion(property_segments(data["path"])),
        is_edit=True,
        copy_changed=_copy_path,
    ),
    v.MEMORY_APPENDED: OwnEventType(
        "appended {values} to {path}",
        _appended,
        _paths_of_append,
        values="values",
        is_edit=True,
        copy_changed=_copy_path,
    ),
    v.MEMORY_MERGED: OwnEventType(
        "merged into {path}",
        _merged,
        lambda data: paths_of_patch(property_segments(data["path"]), data["patch"]),
        values="patch",
        replace_scalars=_replace_in_patch,
        is_edit=True,
        copy_changed=lambda memory, data: copy_for_merge(memory, property_segments(data["path"]), data["patch"]),
    ),
    v.MEMORY_RESTORED: OwnEventType(
        "restored (changes: {ops})",
        _restored,
        lambda data: paths_of_ops(data["ops"]),
        values="ops",
        replace_scalars=_replace_in_ops,
        copy_changed=lambda memory, data: {key: copy_tree(held) for key, held in memory.items()},
    ),
}

_FOLDS: Final = {name: kind.fold for name, kind in OWN_EVENT_TYPES.items() if kind.fold is not None}
_CHANGED_PATHS: Final = {
    name: kind.changed_paths for name, kind in OWN_EVENT_TYPES.items() if kind.changed_paths is not None
}


def advance(
    state: AgentState,
    event: RawEvent,
    digest: bytes,
    remembered: int,
    undo: list[Undo] | None = None,
) -> None:
    """Fold the next event into the state, in place.

    Containers of the event's data become part of the state. `remembered` bounds the command ids kept. Changes to
    the working memory are noted in `undo`. An event that the state refuses raises before it has changed anything.
    A user's own event changes nothing but the position.
    """
    if event[0] == v.MEMORY_SET:
        # Most events are of this type: without the look-up and two calls, a replay takes a fifth less time.
        data = event[4]
        segments = property_segments(data["path"])
        if len(segments) == 1:
            state.nodes += put_key(state.memory, segments[0], data["value"], undo)
        else:
            state.nodes += assign(state.memory, segments, data["value"], undo)
    else:
        fold = _FOLDS.get(event[0])
        if fold is not None:
            fold(state, event[4], event[3], undo)
    state.seq = seq = state.seq + 1
    state.digest = digest
    state.updated_at = event[3]
    command = event[6]
    if command is not None:
        entry = state.commands.get(command[0])
        if entry is None:
            state.commands[command[0]] = [seq, seq, digest, command[1]]
            if len(state.commands) > remembered:
                del state.commands[next(iter(state.commands))]
        else:
            entry[1] = seq
            entry[2] = digest


def changed_paths(agent: str, seq: int, raw: RawEvent) -> Sequence[ChangedPath]:
    """The paths that an event changes, in its order; none for one that changes no property.

    Raises CorruptEvent for one of ours whose data has not the form of its type.
    """
    find = _CHANGED_PATHS.get(raw[0])
    if find is None:
        return ()
    try:
        return find(raw[4])
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, DuramenError) as error:
        raise CorruptEvent(
            f"event {seq} of {agent} has data of another form ({type(error).__name__})", agent=agent, seq=seq
        ) from None
