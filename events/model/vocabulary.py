"""The names of duramen's own event types. Stored logs hold them, so they never change."""

from __future__ import annotations

from typing import Final

# Lifecycle.
SPAWNED: Final = "spawned"
PAUSED: Final = "paused"
RESUMED: Final = "resumed"
EPISODE_RECORDED: Final = "episode_recorded"
TERMINATED: Final = "terminated"
EXPIRED: Final = "expired"  # the last event of a log, which is erased next
ERASED: Final = "erased"  # in no log: subscriptions are told so
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

# Work: what a durable message has begun, what came of it, and where its handler went on.
WORK_ACCEPTED: Final = "work_accepted"
WORK_CONTINUED: Final = "work_continued"
WORK_BEGUN: Final = "work_begun"
WORK_ATTEMPTED: Final = "work_attempted"
WORK_DONE: Final = "work_done"
WORK_GIVEN_UP: Final = "work_given_up"
WORK_ANSWERED: Final = "work_answered"
WORK_TAKEN_UP: Final = "work_taken_up"
WORK_PARKED: Final = "work_parked"
WORK_RETRIED: Final = "work_retried"
WORK_ENDED: Final = "work_ended"
WORK_CANCEL_SENT: Final = "work_cancel_sent"

# Reminders: durable messages that are due at times.
REMINDER_SET: Final = "reminder_set"
REMINDER_DUE: Final = "reminder_due"  # before the `work_accepted` of its message
REMINDER_STOPPED: Final = "reminder_stopped"

# Activity.
ACTIVITY_RECORDED: Final = "activity_recorded"

OWN_TYPES: Final = frozenset(
    (
        SPAWNED,
        PAUSED,
        RESUMED,
        EPISODE_RECORDED,
        TERMINATED,
        EXPIRED,
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
        WORK_ACCEPTED,
        WORK_CONTINUED,
        WORK_BEGUN,
        WORK_ATTEMPTED,
        WORK_DONE,
        WORK_GIVEN_UP,
        WORK_ANSWERED,
        WORK_TAKEN_UP,
        WORK_PARKED,
        WORK_RETRIED,
        WORK_ENDED,
        WORK_CANCEL_SENT,
        REMINDER_SET,
        REMINDER_DUE,
        REMINDER_STOPPED,
    )
)
