"""An agent's mailbox behind Pykka's inbox protocol, so that a plain `pykka.ActorRef` works on agents."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from duramen.events import InvalidMessage
from duramen.events.model import copy_plain

from .mailbox import Envelope, Mailbox

if TYPE_CHECKING:
    from .registry import ActorRegistry


class Inbox:
    """Pykka's inbox: `put` sends to the agent, in memory or not; `get` and `empty` read its waiting messages."""

    __slots__ = ("_mailbox", "_registry")

    def __init__(self, mailbox: Mailbox | None, registry: ActorRegistry | None) -> None:
        self._mailbox = mailbox
        self._registry = registry

    @classmethod
    def detached(cls) -> Inbox:
        """The inbox of an agent that does not run yet."""
        return cls(None, None)

    def put(self, envelope: Any, /) -> None:
        """Send a message. Raises MailboxFull, SystemClosed, InvalidMessage if the agent does not run."""
        if self._mailbox is None or self._registry is None:
            raise InvalidMessage("this agent is not running; agents are started by system.spawn(...)")
        own = envelope.reply_to  # made by `Agent._create_future`
        if isinstance(own, Envelope):
            own.message = copy_plain(envelope.message)
        else:
            own = Envelope(copy_plain(envelope.message), wanted=False)
        self._registry.send(self._mailbox.path, own)

    def get(self) -> Any:
        """Remove and return the next message. Raises InvalidMessage if none waits."""
        if self._mailbox is None or not self._mailbox.waiting:
            raise InvalidMessage("agents take their messages from the dispatcher")
        return self._mailbox.waiting.pop(0)

    def empty(self) -> bool:
        return self._mailbox is None or not self._mailbox.waiting
