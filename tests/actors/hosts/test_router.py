"""What a host makes of the rows of others."""

from __future__ import annotations

import pytest

from duramen.actors import AgentSystem, Set
from duramen.actors.commands import Serializer
from duramen.events import EventRegistry, Limits, MemoryLog
from linked_hosts import LinkedHost


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
