"""The registry has one mailbox for a path, and removes no other than the one that it is told to."""

from __future__ import annotations

from collections.abc import Callable

from duramen.actors import AgentSystem
from duramen.actors.dispatch import Envelope, Mailbox

PATH = "acme/alice"


def test_a_mailbox_that_was_removed_does_not_take_the_next_one_of_its_path_along(
    open_system: Callable[..., AgentSystem],
) -> None:
    actors = open_system()._actors

    def emptied() -> Mailbox:
        mailbox = actors.enqueue(PATH, Envelope("never handled: nobody schedules it"))
        assert not actors.remove_if_idle(mailbox), "a message waits"
        mailbox.waiting.clear()
        return mailbox

    first = emptied()
    assert actors.remove_if_idle(first)
    assert first.runner is None
    second = emptied()
    assert second is not first
    assert not actors.remove_if_idle(first)
    assert (actors.find(PATH), len(actors)) == (second, 1)
    assert actors.remove_if_idle(second)
    assert (actors.find(PATH), len(actors)) == (None, 0)
