"""Commands for durable messages and reminders: what is not finished, and what is sent to it."""

from __future__ import annotations

from .answer import ANSWER
from .cancel import CANCEL
from .check_work import CHECK_WORK
from .reminders import REMINDERS
from .retry import RETRY
from .unfinished import UNFINISHED

__all__ = ["ANSWER", "CANCEL", "CHECK_WORK", "REMINDERS", "RETRY", "UNFINISHED"]
