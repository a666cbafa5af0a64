"""Another host takes an agent over though its host lives: what happens to a host that was buried alive."""

from __future__ import annotations

import pytest

from duramen.actors import AgentSystem
from duramen.actors.hosts import Membership
from duramen.actors.hosts import membership as membership_module
from duramen.actors.runtime import activation

_FOR_EVER = 3_600.0


def give_up(system: AgentSystem, path: str) -> None:
    """Make an agent's tree nobody's, without a word to the host that has it in memory: whoever asks next claims it."""
    hosts = system._store.log.hosts
    hosts.release(path, hosts.owner(path)[0])


def bury_others(system: AgentSystem) -> None:
    """Declare the hosts of before dead: a server that has lost their end lists them, and their process, ours, lives."""
    hosts = system._store.log.hosts
    for record in system.hosts():
        beat = record.beat
        while record.host != system.host and not hosts.bury(record.host, beat):  # it has beaten meanwhile
            found = hosts.find(record.host)
            beat = beat if found is None else found.beat
    system._hosted.hosting.membership.refresh()


def take_beats(monkeypatch: pytest.MonkeyPatch, *systems: AgentSystem) -> list[Membership]:
    """Have hosts beat when the test says so, and count as alive until they `sleep`, however long the test takes."""
    monkeypatch.setattr(membership_module, "SUSPENDED_SECONDS", _FOR_EVER)
    monkeypatch.setattr(activation, "BEAT_WAIT_SECONDS", _FOR_EVER)
    memberships = [system._hosted.hosting.membership for system in systems]
    for membership in memberships:
        thread = membership._thread
        assert thread is not None
        membership._stop.set()
        thread.join(30)
    return memberships


def sleep(membership: Membership) -> None:
    """Have a host be as one that has slept past its lease, until its next beat."""
    membership._beaten_at = float("-inf")
