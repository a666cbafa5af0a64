"""The reminders of one agent in memory: each is delivered when it is due, with its next time in the same append."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from duramen.events import MailboxFull, NewEvent
from duramen.events.logging import get_logger
from duramen.events.model import REMINDER_DUE, REMINDER_STOPPED, Cause, event_id
from duramen.projections import AgentState
from duramen.projections.state import name_log, reminders

from ..commands import Accept, decide_accept
from ..dispatch import Timer
from ..handlers import Services, Turn
from .deadlines import call_at
from .messages import Note, Remember

_FULL_SECONDS: Final = 1.0
"""Seconds until a reminder is tried again that found its agent with as much unfinished work as it may have."""


class DueReminders:
    """Finds what is due among an agent's reminders, and delivers it. Used in the core.

    A reminder is looked at after each commit that has changed one, and when the earliest is due. Out of memory, the
    index of unfinished work brings the agent back.
    """

    def __init__(self, services: Services, agent: str, send: Callable[[object], None]) -> None:
        """`send` puts a message into the agent's own mailbox."""
        self._services = services
        self._agent = agent
        self._send = send
        self._log = name_log(services.log.identity, agent)
        self._looked_at: Mapping[str, Any] | None = None
        self._sent: set[tuple[str, int]] = set()
        self._timer: Timer | None = None

    def look(self, state: AgentState) -> None:
        """Send what is due, and wait for the earliest of the others."""
        found = reminders(state)
        if found is self._looked_at:
            return
        self._looked_at = found
        now, earliest = self._services.now(), None
        for name, each in found.items():
            due: int = each["due"]
            if each["parked"] or not self._has_code(each):
                continue  # a host with newer code delivers it
            if each["log"] != self._log:
                self._send(Note(NewEvent(REMINDER_STOPPED, {"name": name, "parked": True})))
            elif due > now:
                earliest = due if earliest is None else min(earliest, due)
            elif (name, due) not in self._sent:
                self._sent.add((name, due))
                self._send(Remember(name, due))
        self._wait_until(earliest)

    def forget(self) -> None:
        """Look at all of them again when the agent goes on."""
        self._looked_at = None
        self._sent.clear()
        self.stop()

    def stop(self) -> None:
        """Wait for nothing any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def deliver(self, turn: Turn, message: Remember) -> None:
        """Log that a reminder is due, its message, and when it is due next, all in one append or none of it."""
        name, due = message.name, message.due
        self._sent.discard((name, due))
        reminder = reminders(turn.state).get(name)
        if reminder is None or reminder["due"] != due or reminder["parked"] or turn.now < due:
            self._looked_at = None  # it was set again, or the clock was set back
            return
        every, missed = reminder["every"], reminder["missed"]
        ticks = 1 if every is None or missed == "all" else 1 + (turn.now - due) // every
        is_delivered = ticks == 1 or missed != "skip"
        data = {"name": name, "due": due, "ticks": ticks, "delivered": is_delivered}
        data["next"] = None if every is None else due + ticks * every
        accept = Accept(reminder["message_type"], reminder["version"], reminder["data"])
        try:
            accepted = decide_accept(turn.state, accept, turn.services.limits, turn.agent, log=self._log)
        except MailboxFull as full:
            get_logger("work").warning("reminder_waits", agent=self._agent, name=name, error=type(full).__name__)
            self._services.timers.call_later(_FULL_SECONDS, lambda: self._services.dispatcher.post(self._try_again))
            return
        first = event_id(turn.agent, turn.position + 1)
        turn.cause = Cause(None, first)
        turn.emit(NewEvent(REMINDER_DUE, data))
        if is_delivered:
            turn.cause = Cause(first, first)
            for event in accepted:
                turn.emit(event)

    def _try_again(self) -> None:
        self.forget()
        self._send(Remember())  # its commit has all of them looked at

    def _has_code(self, reminder: Mapping[str, Any]) -> bool:
        return self._services.registry.message_version(reminder["message_type"]) >= int(reminder["version"])

    def _wait_until(self, due: int | None) -> None:
        self.stop()
        if due is not None:
            self._timer = call_at(self._services, due, self._expired)

    def _expired(self) -> None:
        self._timer = None
        self._try_again()
