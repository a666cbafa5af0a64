"""Envelopes for the messages of callers."""

from __future__ import annotations

from typing import Final

from duramen.events import InvalidMessage, TooLarge
from duramen.events.model import copy_plain

from ..commands import GetReminders, GetUnfinished, Serializer, may_hold_content
from ..dispatch import Envelope, cause_maker
from ..handlers import BLOCKING_HANDLERS, MEMORY_HANDLERS, QUICK_HANDLERS

WAITING_FOR_NOBODY: Final = frozenset((GetReminders, GetUnfinished))
"""What is asked to find out what an agent does: read from its log, so that no handler that runs holds up the reply."""
INLINE: Final = frozenset((*MEMORY_HANDLERS, *QUICK_HANDLERS)) - WAITING_FOR_NOBODY
"""Messages that never block the core, so that a waiting caller may run the core for them."""

_OWN: Final = INLINE | WAITING_FOR_NOBODY | frozenset(BLOCKING_HANDLERS)


def envelope_of(
    message: object,
    command_id: str | None,
    durability: str | None = None,
    wanted: bool = True,
    copier: Serializer | None = None,
) -> Envelope:
    """Put a message, its command id and its cause into an envelope; with a `copier`, a copy of the message.

    Raises InvalidMessage for a command id or a durability that the message carries itself, and with a `copier`
    UnknownMessageType, ValueRefused or TooLarge for a message that could not cross to another process. What is stored
    beside the log is not copied.
    """
    kind = type(message)
    if (command_id is not None or durability is not None) and kind in _OWN:
        name, what = kind.__name__, "command id" if command_id is not None else "durability"
        raise InvalidMessage(f"a {name} carries its {what} itself: {name}(…, {what.replace(' ', '_')}=…)")
    if copier is not None:
        try:
            message = copier.unpack_message(copier.pack_message(message))
        except TooLarge:
            if not may_hold_content(message):
                raise
    elif kind is dict or kind is list:
        message = copy_plain(message)
    envelope = Envelope(message, command_id, wanted, durability)
    make_cause = cause_maker()
    if make_cause is not None:
        envelope.cause = make_cause()
    return envelope
