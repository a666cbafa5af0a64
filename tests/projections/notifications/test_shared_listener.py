"""Many consumers hear through few connections, and each hears what concerns it."""

from __future__ import annotations

import threading
from typing import Any
from uuid import uuid4

import pytest

from duramen.actors import AgentSystem
from duramen.events import Granularity, MemoryLog
from duramen.projections.notifications.shared_listener import Inlet, ListenerPool
from following import Count
from servers import valkey_server
from waiting import eventually


def inlet(*partitions: int) -> Inlet:
    return Inlet(partitions, lambda closed: None)


def test_an_inlet_hears_of_its_partitions_only() -> None:
    mine = inlet(1, 2)
    mine.add({1: 5, 3: 7})
    mine.add({3: 9})
    assert mine.receive(0) == {1: 5}
    assert mine.receive(0) == {}


def test_hints_add_up_and_unknown_outweighs_a_position() -> None:
    mine = inlet(1, 2, 3)
    mine.add({1: 5, 2: 0, 3: 4})
    mine.add({1: 3, 2: 8, 3: 0})
    assert mine.receive(0) == {1: 5, 2: 0, 3: 0}


def test_a_wake_ends_one_waiting_even_when_it_came_first() -> None:
    mine = inlet(1)
    mine.wake()
    assert mine.receive(60) == {}
    thread = threading.Thread(target=mine.receive, args=(60,))
    thread.start()
    mine.wake()
    thread.join(10)
    assert not thread.is_alive()


def test_only_a_wake_ends_a_pause_and_what_was_heard_meanwhile_is_kept() -> None:
    mine = inlet(1, 2)
    pausing, paused = threading.Event(), threading.Event()

    def pause() -> None:
        pausing.set()
        mine.pause(60)
        paused.set()

    thread = threading.Thread(target=pause)
    thread.start()
    assert pausing.wait(10)
    mine.add({1: 5})
    mine.add({1: 6, 2: 3})
    assert not paused.wait(0.2)
    mine.wake()
    thread.join(10)
    assert paused.is_set()
    assert mine.receive(0) == {1: 6, 2: 3}
    mine.pause(-1.0)
    mine.add({2: 4})
    assert mine.receive(60) == {2: 4}, "after the pause it hears at once"


def test_a_thread_a_level_starts_with_the_first_inlet_and_ends_with_the_last() -> None:
    before = set(threading.enumerate())

    def listening() -> list[str]:
        return [thread.name for thread in set(threading.enumerate()) - before if "duramen-listener" in thread.name]

    pool = ListenerPool(MemoryLog())
    one, two, other = pool.open([1], 4), pool.open([2], 4), pool.open([1], 1)
    assert sorted(listening()) == ["duramen-listener-1", "duramen-listener-4"]
    one.close()
    other.close()
    eventually(lambda: listening() == ["duramen-listener-4"])
    two.close()
    two.close()
    eventually(lambda: listening() == [])
    again = pool.open([1], 4)
    assert len(listening()) == 1
    assert pool.close(10)
    assert listening() == []
    again.close()


@pytest.mark.slow
def test_twenty_consumers_hear_through_one_connection() -> None:
    with valkey_server() as server, AgentSystem.open(server.url, namespace=f"n{uuid4().hex}") as system:
        alice = system.spawn("acme/alice")
        runners = [system.attach(Count(), f"count-{number}") for number in range(20)]
        client: Any = server.client()
        eventually(lambda: len(client.client_list(_type="pubsub")) == 1 + 1)  # and the host's own channel
        receipt = alice.set("a", 1)
        for runner in runners:
            runner.wait_for(receipt)
        one = system.attach(Count(), "lifecycle", granularity=Granularity.LIFECYCLE)
        one.wait_for()
        eventually(lambda: len(client.client_list(_type="pubsub")) == 2 + 1)
        client.close()
