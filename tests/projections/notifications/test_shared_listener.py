"""Many consumers hear through few connections, and each hears what concerns it."""

from __future__ import annotations

import threading
from typing import Any
from uuid import uuid4

from duramen.actors import AgentSystem
from duramen.events import Granularity, MemoryLog
from duramen.projections.notifications.shared_listener import Inlet, ListenerPool
from following import Count
from servers import valkey_server
from waiting import eventually


def ear(*partitions: int) -> Inlet:
    return Inlet(partitions, lambda closed: None)


def test_an_ear_hears_of_its_partitions_only() -> None:
    mine = ear(1, 2)
    mine.tell({1: 5, 3: 7})
    mine.tell({3: 9})
    assert mine.receive(0) == {1: 5}
    assert mine.receive(0) == {}


def test_hints_add_up_and_unknown_outweighs_a_position() -> None:
    mine = ear(1, 2, 3)
    mine.tell({1: 5, 2: 0, 3: 4})
    mine.tell({1: 3, 2: 8, 3: 0})
    assert mine.receive(0) == {1: 5, 2: 0, 3: 0}


def test_a_wake_ends_one_waiting_even_when_it_came_first() -> None:
    mine = ear(1)
    mine.wake()
    assert mine.receive(60) == {}
    thread = threading.Thread(target=mine.receive, args=(60,))
    thread.start()
    mine.wake()
    thread.join(10)
    assert not thread.is_alive()


def test_only_a_wake_ends_a_rest_and_what_was_heard_meanwhile_is_kept() -> None:
    mine = ear(1, 2)
    resting, rested = threading.Event(), threading.Event()

    def rest() -> None:
        resting.set()
        mine.rest(60)
        rested.set()

    thread = threading.Thread(target=rest)
    thread.start()
    assert resting.wait(10)
    mine.tell({1: 5})
    mine.tell({1: 6, 2: 3})
    assert not rested.wait(0.2)
    mine.wake()
    thread.join(10)
    assert rested.is_set()
    assert mine.receive(0) == {1: 6, 2: 3}
    mine.rest(-1.0)
    mine.tell({2: 4})
    assert mine.receive(60) == {2: 4}, "who does not rest any more hears at once"


def listening() -> list[str]:
    return [thread.name for thread in threading.enumerate() if "projections-ear" in thread.name]


def test_a_thread_a_level_starts_with_the_first_ear_and_ends_with_the_last() -> None:
    ears = ListenerPool(MemoryLog())
    one, two, other = ears.open([1], 4), ears.open([2], 4), ears.open([1], 1)
    assert sorted(listening()) == ["duramen-projections-ear-1", "duramen-projections-ear-4"]
    one.close()
    other.close()
    eventually(lambda: listening() == ["duramen-projections-ear-4"])
    two.close()
    two.close()
    eventually(lambda: listening() == [])
    again = ears.open([1], 4)
    assert len(listening()) == 1
    assert ears.close(10)
    assert listening() == []
    again.close()


def test_twenty_consumers_hear_through_one_connection() -> None:
    with valkey_server() as server, AgentSystem.open(server.url, namespace=f"n{uuid4().hex}") as system:
        alice = system.spawn("acme/alice")
        runners = [system.attach(Count(), f"count-{number}") for number in range(20)]
        client: Any = server.client()
        eventually(lambda: len(client.client_list(_type="pubsub")) == 1)
        receipt = alice.set("a", 1)
        for runner in runners:
            runner.wait_for(receipt)
        one = system.attach(Count(), "lifecycle", granularity=Granularity.LIFECYCLE)
        one.wait_for()
        eventually(lambda: len(client.client_list(_type="pubsub")) == 2)
        client.close()
