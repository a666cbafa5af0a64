"""What a host makes of the rows of others."""

from __future__ import annotations

import pytest

from duramen.actors import AgentSystem, Set
from duramen.actors.commands import Serializer
from duramen.actors.hosts import Links
from duramen.events import EventRegistry, Limits, MemoryLog
from linked_hosts import LinkedHost
from takeover import take_beats
from waiting import eventually


@pytest.mark.slow
def test_rows_that_are_none_of_ours_keep_no_row_behind_them_from_being_handled() -> None:
    log = MemoryLog()
    message = Serializer(Limits(), EventRegistry()).pack_message(Set("n", 1))
    with AgentSystem.open(log=log) as system, LinkedHost(log.hosts) as rogue:
        alice = system.spawn("acme/alice")
        assert system.host is not None
        for row in ([], ["text"], [99], [0, 1], [0, 7, "acme/alice", 1, True, None, None, None, None, message, None]):
            rogue.links.add(system.host, row)
        rogue.links.flush()
        kind, number, *_ = rogue.wait_for(1)[0]
        assert (kind, number) == (1, 7)
        assert alice.get("n") == 1


def test_what_comes_to_the_new_id_of_a_host_that_was_declared_dead_is_taken_from_the_first_moment_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    log = MemoryLog()
    message = Serializer(Limits(), EventRegistry()).pack_message(Set("n", 1))
    with AgentSystem.open(log=log) as system, LinkedHost(log.hosts) as asker:
        alice, old = system.spawn("acme/alice"), system.host
        (membership,), router = take_beats(monkeypatch, system), system._hosted.hosting.router
        assert old is not None
        start = Links.start

        def start_and_be_asked(links: Links, timeout: float) -> bool:
            started = start(links, timeout)
            asker.links.add(links.host, [0, 7, "acme/alice", 1, True, None, None, None, None, message, None])
            asker.links.flush()
            eventually(lambda: router.taken == 1, what="what the asker has sent was taken")
            return started

        monkeypatch.setattr(Links, "start", start_and_be_asked)
        assert log.hosts.bury(old, 0)
        membership.beat()
        assert system.host != old
        kind, number, *_ = asker.wait_for(1)[0]
        assert (kind, number) == (1, 7)
        assert alice.get("n") == 1
