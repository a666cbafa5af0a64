"""Message dispatch: mailboxes, the core that runs them, worker threads, timers and the journal of appends."""

from __future__ import annotations

from .call_cycles import Waiter
from .confirmer import Confirmer
from .dispatcher import Dispatcher
from .event_loop import EventLoop, ProgramExit, check_may_block, refuse_blocking
from .journal import Commit, Journal
from .mailbox import COMMITTING, HELD, IDLE, WORKING, Envelope, Mailbox, Runnable
from .message_cause import bind_cause, cause_maker, current_cause, set_cause, with_cause
from .pykka_inbox import Inbox
from .registry import ActorRegistry
from .reply import Reply
from .thread_pool import ThreadPool
from .timers import Timer, Timers

__all__ = [
    "COMMITTING",
    "HELD",
    "IDLE",
    "WORKING",
    "ActorRegistry",
    "Commit",
    "Confirmer",
    "Dispatcher",
    "Envelope",
    "EventLoop",
    "Inbox",
    "Journal",
    "Mailbox",
    "ProgramExit",
    "Reply",
    "Runnable",
    "ThreadPool",
    "Timer",
    "Timers",
    "Waiter",
    "bind_cause",
    "cause_maker",
    "check_may_block",
    "current_cause",
    "refuse_blocking",
    "set_cause",
    "with_cause",
]
