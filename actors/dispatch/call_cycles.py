"""Call cycles: a handler waits for an agent that waits for the handler's own agent, so that no reply can come.

An agent handles one message at a time: a handler that waits for its own agent closes the shortest circle.
"""

from __future__ import annotations

from _thread import allocate_lock
from collections.abc import Callable, Generator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, ClassVar, Final, Protocol

from duramen.events import CallCycle

_WAITER: Final[ContextVar[Waiter | None]] = ContextVar("duramen_waiter", default=None)
"""The work that code belongs to. Coroutines, tasks and `asyncio.to_thread` inherit it; a plain thread does not."""


class WaiterSlot(Protocol):
    """An agent's mailbox, with the waiter of the message that a worker is handling."""

    path: str
    waiter: Waiter | None


class _Reply(Protocol):
    """A reply that is waited for, and the mailbox of the agent that gives it, if that is known."""

    mailbox: WaiterSlot | None

    @property
    def done(self) -> bool: ...


class Waiter:
    """A message that a worker is handling, and the replies that its handler waits for. Thread-safe."""

    __slots__ = ("_token", "mailbox", "replies")

    _lock: ClassVar[Any] = allocate_lock()
    """Shared by all waiters, so that of two that would close a circle the second sees the first."""

    def __init__(self, mailbox: WaiterSlot) -> None:
        self.mailbox = mailbox
        self.replies: list[_Reply] = []

    def __enter__(self) -> None:
        """Handle the message in this block. The handler ends when the mailbox forgets its waiter, maybe later."""
        self.mailbox.waiter = self
        self._token = _WAITER.set(self)

    def __exit__(self, *_: object) -> None:
        _WAITER.reset(self._token)
        del self._token  # it has a context, which tasks of the handler would keep as they keep the waiter

    def check(self, target: WaiterSlot | None) -> None:
        """Raise CallCycle if this agent's reply could only come after the handler has ended."""
        with self._lock:
            self._check(target)

    @contextmanager
    def waiting_for(self, reply: _Reply) -> Generator[None]:
        """Wait for a reply in this block. Raises CallCycle."""
        with self._lock:
            self._check(reply.mailbox)
            self.replies.append(reply)
        try:
            yield
        finally:
            with self._lock:
                self.replies.remove(reply)

    def _check(self, target: WaiterSlot | None) -> None:
        own = self.mailbox
        if target is None or own.waiter is not self:  # a task or thread that outlived the handler may wait
            return
        chain = _chain(target, own)
        if chain is None:
            return
        if len(chain) == 1:
            raise CallCycle(
                f"the handler of {own.path} would wait for {own.path} itself, which handles one message at a time; "
                "use the agent's own calls (self.get, self.set, …), or tell(…), which does not wait",
                agent=own.path,
            )
        raise CallCycle(
            f"the handler of {own.path} would wait for {', which waits for '.join(chain)}; let one of them use "
            "tell(…), which does not wait, and send the answer as a message",
            agent=own.path,
            actual=" -> ".join((own.path, *chain)),
        )


def _chain(start: WaiterSlot, goal: WaiterSlot) -> list[str] | None:
    """The paths of agents from `start` to `goal`, each waiting for the next; None if there is no such chain."""
    chains: list[tuple[WaiterSlot, list[str]]] = [(start, [start.path])]
    seen: set[int] = set()
    while chains:
        mailbox, chain = chains.pop()
        if mailbox is goal:
            return chain
        waiter = mailbox.waiter
        if waiter is not None and id(mailbox) not in seen:
            seen.add(id(mailbox))
            pending = [reply.mailbox for reply in waiter.replies if reply.mailbox is not None and not reply.done]
            chains += [(following, [*chain, following.path]) for following in pending]
    return None


current_waiter: Final[Callable[[], Waiter | None]] = _WAITER.get
"""The message that the code here handles, or that has started this task or thread; None outside of handlers."""


@contextmanager
def waiting_for(reply: _Reply) -> Generator[None]:
    """Wait for a reply in this block. Raises CallCycle."""
    waiter = _WAITER.get()
    if waiter is None:
        yield
    else:
        with waiter.waiting_for(reply):
            yield
