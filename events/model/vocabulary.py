"""The names of duramen's own event types. Stored logs hold them, so they never change."""

from __future__ import annotations

from typing import Final

# Lifecycle.
SPAWNED: Final = "spawned"
PAUSED: Final = "paused"
RESUMED: Final = "resumed"
EPISODE_RECORDED: Final = "episode_recorded"
TERMINATED: Final = "terminated"
FAILED: Final = "failed"
RESTARTED: Final = "restarted"
FORKED: Final = "forked"  # the first event in the log of a fork
CHILD_SPAWNED: Final = "child_spawned"  # in the log of the parent, before the child's own `spawned`

# Working memory: each event holds the change alone, never the whole state.
MEMORY_SET: Final = "memory_set"
MEMORY_DELETED: Final = "memory_deleted"
MEMORY_APPENDED: Final = "memory_appended"
MEMORY_MERGED: Final = "memory_merged"
MEMORY_RESTORED: Final = "memory_restored"
GRANULARITY_SET: Final = "granularity_set"
RETENTION_SET: Final = "retention_set"

# Activity.
ACTIVITY_RECORDED: Final = "activity_recorded"

OWN_TYPES: Final = frozenset(
    (
        SPAWNED,
        PAUSED,
        RESUMED,
        EPISODE_RECORDED,
        TERMINATED,
        CHILD_SPAWNED,
        FORKED,
        FAILED,
        RESTARTED,
        MEMORY_SET,
        MEMORY_DELETED,
        MEMORY_APPENDED,
        MEMORY_MERGED,
        MEMORY_RESTORED,
        GRANULARITY_SET,
        RETENTION_SET,
        ACTIVITY_RECORDED,
    )
)
