"""Mailboxes, threads, the core and the journal."""

from __future__ import annotations

from .dispatcher import Dispatcher
from .event_loop import Ended, EventLoop
from .journal import Commit, Journal
from .mailbox import COMMITTING, HELD, IDLE, WORKING, Envelope, Mailbox, Runnable
from .message_cause import cause_of_sending, caused, sending
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
    "Dispatcher",
    "Ended",
    "Envelope",
    "EventLoop",
    "Inbox",
    "Journal",
    "Mailbox",
    "Reply",
    "Runnable",
    "ThreadPool",
    "Timer",
    "Timers",
    "cause_of_sending",
    "caused",
    "sending",
]
