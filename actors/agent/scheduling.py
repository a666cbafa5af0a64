"""What a handler has done once its batch is in the log, or later: messages, effects, reminders and timers."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from duramen.events.model import Seconds, copy_plain

from ..commands import Missed, make_remind
from ..dispatch import Timer, bind_cause
from ..handlers import current_call, remove_reminder, set_reminder
from ..work import accept_of
from .actor import AgentActor


class SchedulingCalls(AgentActor):
    """What an agent sends itself, and what it has called after a commit."""

    def tell_self(self, message: object) -> None:
        """Send this agent a message once this handler's batch is in the log: it is handled after those that wait.

        A handler that raises sends nothing. A crash after the commit loses the message.
        """
        with self._actor_call() as turn:
            turn.send(turn.agent, copy_plain(message))

    def after_commit(self, effect: Callable[[], object]) -> None:
        """Call `effect` in a worker thread once this handler's batch is in the log; never in a replay.

        A handler that raises discards its effects. A crash between commit and effect loses the effect: it is called
        at most once.
        """
        with self._actor_call() as turn:
            turn.effects += (bind_cause(effect),)

    def remind(
        self,
        name: str,
        message: object,
        *,
        at: datetime | None = None,
        every: Seconds | None = None,
        missed: Missed = "once",
    ) -> None:
        """As `AgentHandle.remind`, within this handler's batch."""
        with self._actor_call() as turn:
            accepted = accept_of(turn.services.registry, message)
            set_reminder(turn, make_remind(name, accepted, at=at, every=every, missed=missed))

    def remove_reminder(self, name: str) -> None:
        """Remove a reminder of this agent within this handler's batch, if there is one of this name."""
        with self._actor_call() as turn:
            remove_reminder(turn, name)

    def schedule_once(self, seconds: Seconds, message: object) -> Timer:
        """Send this agent `message` once, `seconds` from now (a number, or a timedelta).

        A timer of a handler starts when the handler's batch is committed; a handler that raises has set none. Timers
        live in memory: a crash, a take-over by another process or `terminate` ends them; an agent that has one is not
        passivated.
        """
        return self._actor_schedule(seconds, message, repeat=False)

    def schedule_every(self, seconds: Seconds, message: object) -> Timer:
        """Send this agent `message` every `seconds`, until the timer is cancelled; see `schedule_once`."""
        return self._actor_schedule(seconds, message, repeat=True)

    def _actor_schedule(self, seconds: Seconds, message: object, *, repeat: bool) -> Timer:
        timer, start = self.actor_runtime().timers.prepare(seconds, message, repeat=repeat)
        if current_call() is None:
            start()
        else:
            with self._actor_call() as turn:
                turn.effects += (start,)
        return timer
