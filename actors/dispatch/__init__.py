"""Mailboxes, threads, the core and the journal."""

from __future__ import annotations

from .dispatcher import Dispatcher
from .event_loop import Ended, EventLoop
from .journal import Commit, Journal
from .mailbox import COMMITTING, HELD, IDLE, WORKING, Envelope, Mailbox, Runner
from .message_cause import cause_of_sending, caused, sending
from .pykka_inbox import Inbox
from .registry import Directory
from .reply import Reply
from .thread_pool import Workers
from .timers import Timer, Timers

__all__ = [
    "COMMITTING",
    "HELD",
    "IDLE",
    "WORKING",
    "Commit",
    "Directory",
    "Dispatcher",
    "Ended",
    "Envelope",
    "EventLoop",
    "Inbox",
    "Journal",
    "Mailbox",
    "Reply",
    "Runner",
    "Timer",
    "Timers",
    "Workers",
    "cause_of_sending",
    "caused",
    "sending",
]
