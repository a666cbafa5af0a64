"""Two systems on one log: each agent lives on one of them, and the other sends its messages there."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable
from typing import Any

import pytest

from duramen.actors import Agent, AgentHandle, AgentSystem, Append, Get, Length, Set
from duramen.actors.dispatch import Envelope
from duramen.actors.dispatch import dispatcher as dispatcher_module
from duramen.actors.hosts import Membership
from duramen.actors.runtime import activation, forwarding
from duramen.actors.runtime.active import user_handler
from duramen.events import AgentNotRunning, DuramenError, EventRegistry, Fenced, Limits, MailboxFull, Unavailable
from duramen.events.model import DECLARED
from takeover import give_up, sleep, take_beats
from waiting import eventually

OpenSystem = Callable[..., AgentSystem]
PATH = "acme/alice"
FORWARDS = int(os.environ.get("DURAMEN_TEST_FORWARDS", "100"))


def fence(system: AgentSystem) -> tuple[int, str]:
    head = system.log.head(PATH)
    assert head is not None
    epoch, _, owner = head.fence.partition(":")
    return int(epoch), owner


def assert_contiguous(system: AgentSystem) -> list[Any]:
    found = list(system.events(PATH))
    assert [event.seq for event in found] == list(range(1, len(found) + 1))
    return found


@pytest.mark.slow
def test_both_sides_take_turns_without_an_error_or_a_stale_read(open_any: OpenSystem) -> None:
    first, second = open_any(), open_any()
    first.spawn(PATH, initial_state={"l": []})
    sides = [first.agent(PATH), second.agent(PATH)]
    for number in range(60):
        side = sides[number % 2]
        assert side.get("l") == list(range(number))
        receipt = side.append("l", number)
        assert receipt.seq == number + 2
        assert sides[1 - number % 2].get("l") == list(range(number + 1))
        assert side.status().seq == number + 2
    assert len(assert_contiguous(first)) == 61
    assert second.peek(PATH).memory == {"l": list(range(60))}


def test_lifecycle_goes_on_from_either_side(open_any: OpenSystem) -> None:
    first, second = open_any(), open_any()
    one, two = first.spawn(PATH, initial_state={"n": 1}), second.agent(PATH)
    assert two.pause("p").success
    assert one.status().status == "paused"
    assert one.resume("p").success
    two.set("n", 2)
    assert one.resume("p").success
    assert two.get() == {"n": 1}
    assert one.terminate().success
    assert not two.pause("q").success
    with pytest.raises(AgentNotRunning):
        two.set("n", 3)
    second.spawn(PATH, initial_state={"n": 4})
    assert one.get() == {"n": 4}
    assert_contiguous(first)


def test_a_spawn_on_the_other_side_is_refused_and_harms_nothing(open_any: OpenSystem) -> None:
    first, second = open_any(), open_any()
    agent = first.spawn(PATH, initial_state={"n": 1})
    with pytest.raises(DuramenError):
        second.spawn(PATH, initial_state={"n": 2})
    agent.append("l", 1)
    assert second.agent(PATH).get() == {"n": 1, "l": [1]}


def test_an_agent_that_the_other_side_has_just_spawned_is_found(open_any: OpenSystem) -> None:
    first, second = open_any(), open_any()
    for number in range(30):
        path = f"acme/a{number}"
        with pytest.raises(LookupError):
            second.agent(path).get()
        first.spawn(path, initial_state={"n": number})
        assert second.agent(path).get("n") == number


def test_forwards_never_push_a_users_id_out_of_what_is_remembered(open_any: OpenSystem) -> None:
    limits = Limits(commands_remembered=3)
    owner, other = open_any(limits=limits), open_any(limits=limits)
    owner.spawn(PATH, initial_state={"l": []})
    agent = other.agent(PATH)
    first = agent.append("l", "mine", command_id="mine")
    for start in range(0, FORWARDS, 1_000):
        numbers = range(start, min(start + 1_000, FORWARDS))
        for reply in [agent.ask(Append("l", number), block=False) for number in numbers]:
            reply.get(timeout=60)
    assert agent.append("l", "mine", command_id="mine") == first
    assert owner.agent(PATH).get("l") == ["mine", *range(FORWARDS)]
    for number in range(3):
        agent.append("l", number, command_id=f"other-{number}")
    assert agent.append("l", "mine", command_id="mine") != first, "control: ids of users push it out"


@pytest.mark.parametrize("block", [True, False])
def test_both_sides_at_once_lose_nothing_that_was_acknowledged(open_any: OpenSystem, block: bool) -> None:
    first, second = open_any(), open_any()
    first.spawn(PATH, initial_state={"l": []})
    acknowledged: list[str] = []
    refused: list[DuramenError] = []

    def work(agent: AgentHandle, side: str) -> None:
        replies = [
            (f"{side}{number}", agent.ask(Append("l", f"{side}{number}"), block=False)) if not block else None
            for number in range(50)
        ]
        for number, sent in enumerate(replies):
            try:
                if sent is None:
                    agent.append("l", f"{side}{number}")
                else:
                    sent[1].get(timeout=20)
                acknowledged.append(f"{side}{number}")
            except Fenced as error:
                refused.append(error)

    threads = [
        threading.Thread(target=work, args=(system.agent(PATH), side)) for system, side in ((first, "a"), (second, "b"))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    found = first.agent(PATH).get("l")
    assert sorted(found) == sorted(acknowledged)
    assert len(acknowledged) + len(refused) == 100
    for side in "ab":
        mine = [entry for entry in found if entry.startswith(side)]
        assert mine == sorted(mine, key=lambda entry: int(entry[1:]))
    assert_contiguous(second)


def test_fences_grow_and_never_come_back(open_any: OpenSystem) -> None:
    first, second = open_any(), open_any()
    first.spawn(PATH)
    seen = [fence(first)]
    for number in range(10):
        give_up(first, PATH)
        (second if number % 2 == 0 else first).agent(PATH).set("n", number)
        seen.append(fence(first))
    assert [epoch for epoch, _ in seen] == list(range(1, 12))
    assert len({owner for _, owner in seen}) == 2
    assert len(set(seen)) == len(seen)


def test_who_has_the_agent_keeps_its_fence(open_any: OpenSystem) -> None:
    system = open_any()
    agent = system.spawn(PATH)
    before = fence(system)
    for number in range(10):
        agent.set("n", number)
        agent.get()
    open_any().peek(PATH)
    list(open_any().events(PATH))
    list(open_any().agents())
    assert fence(system) == before == (1, before[1])


class Waiting(Agent):
    """Blocks in its handler until the test lets it go."""

    gate: threading.Event
    entered: threading.Event

    def on_receive(self, message: Any) -> Any:
        self.append("l", message)
        type(self).entered.set()
        type(self).gate.wait()
        return self.get("l")


def test_a_handler_whose_agent_is_taken_over_is_fenced_and_what_waits_behind_it_is_sent_on(
    open_any: OpenSystem, gate: threading.Event
) -> None:
    Waiting.gate, Waiting.entered = gate, threading.Event()
    kinds = {"waiting": Waiting}
    first, second = open_any(agents=kinds), open_any(agents=kinds)
    agent = first.spawn(PATH, agent_type="waiting")
    blocked = agent.ask("zombie", block=False)
    behind = agent.ask(Set("behind", True), block=False)
    read = agent.ask(Get(), block=False)
    assert Waiting.entered.wait(30)
    give_up(first, PATH)
    second.agent(PATH).set("owner", "second")
    gate.set()

    with pytest.raises(Fenced) as caught:
        blocked.get(timeout=10)
    assert caught.value.agent == PATH
    assert caught.value.actual == f"2:{second._services.owner}"
    assert behind.get(timeout=10).seq == 3
    assert read.get(timeout=10) == {"owner": "second", "behind": True}
    assert [event.type for event in assert_contiguous(second)] == ["spawned", "memory_set", "memory_set"]
    assert fence(first) == (2, second._services.owner)


def test_messages_keep_their_order_when_another_host_takes_over_while_one_of_them_is_stored(
    open_any: OpenSystem, gate: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    Waiting.gate, Waiting.entered = gate, threading.Event()
    kinds, limits = {"waiting": Waiting}, Limits(event_bytes=4_096, batch_bytes=16_384, text_bytes=50_000)
    first, second, asker = (open_any(agents=kinds, limits=limits) for _ in range(3))
    blocked = first.spawn(PATH, agent_type="waiting").ask("zombie", block=False)
    assert Waiting.entered.wait(30)
    storing, may_store, store = threading.Event(), threading.Event(), forwarding.store_contents

    def store_slowly(*given: Any) -> Any:
        storing.set()
        assert may_store.wait(30)
        return store(*given)

    monkeypatch.setattr(forwarding, "store_contents", store_slowly)
    large, agent = "x" * 45_000, asker.agent(PATH)
    sent = [agent.ask(Append("l", text), block=False) for text in ("before", large, "behind")]
    assert storing.wait(30)
    eventually(lambda: len(first._actors.find(PATH).waiting) == 1)  # the one before
    give_up(first, PATH)
    second.agent(PATH).set("owner", "second")
    gate.set()
    with pytest.raises(Fenced):
        blocked.get(timeout=30)
    mailbox = asker._actors.find(PATH)
    eventually(lambda: not isinstance(mailbox.runner, forwarding.Forwarding))  # the first host has refused it
    may_store.set()
    assert [reply.get(timeout=30).seq for reply in sent] == [3, 4, 5]
    assert second.agent(PATH).get("l") == ["before", large, "behind"]


def test_a_read_or_a_write_from_elsewhere_never_fences_a_handler(open_any: OpenSystem) -> None:
    class Slow(Agent):
        async def on_receive(self, message: Any) -> Any:
            await asyncio.sleep(0.02)
            self.append("l", message)
            return message

    first, second = open_any(agents={"slow": Slow}), open_any()
    agent = first.spawn(PATH, agent_type="slow", initial_state={"l": []})
    replies = [agent.ask(number, block=False) for number in range(20)]
    polls, done = 0, False
    while not done:
        second.agent(PATH).get()
        second.agent(PATH).status()
        second.agent(PATH).set("polls", polls)
        polls, done = polls + 1, replies[-1].done
    assert [reply.get(timeout=10) for reply in replies] == list(range(20))
    assert agent.get("l") == list(range(20))
    assert fence(first) == (1, first._services.owner)


def test_an_effect_of_a_fenced_handler_is_not_called(open_any: OpenSystem, gate: threading.Event) -> None:
    called = threading.Event()
    entered = threading.Event()

    class Effectful(Agent):
        def on_receive(self, message: Any) -> Any:
            self.set("n", 1)
            self.after_commit(called.set)
            entered.set()
            gate.wait()

    first, second = open_any(agents={"effectful": Effectful}), open_any(agents={"effectful": Effectful})
    reply = first.spawn(PATH, agent_type="effectful").ask("go", block=False)
    assert entered.wait(30)
    give_up(first, PATH)
    second.agent(PATH).set("other", 1)
    gate.set()
    with pytest.raises(Fenced):
        reply.get(timeout=10)
    first.close()
    assert not called.is_set()
    assert second.agent(PATH).get() == {"other": 1}


@pytest.mark.slow
def test_many_agents_move_between_systems(open_any: OpenSystem) -> None:
    first, second = open_any(), open_any()
    paths = [f"acme/a{number}" for number in range(100)]
    for path in paths:
        first.spawn(path, initial_state={"n": 0})
    for turn in range(1, 5):
        system = second if turn % 2 else first
        replies = [system.agent(path).ask(Set("n", turn), block=False) for path in paths]
        assert [reply.get(timeout=20).seq for reply in replies] == [turn + 1] * len(paths)
    assert {first.agent(path).get("n") for path in paths} == {4}


def test_a_host_whose_beat_does_not_go_through_begins_no_handler(
    open_any: OpenSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[Any] = []

    class Noting(Agent):
        def on_receive(self, message: Any) -> Any:
            begun.append(message)
            return message

    agent = open_any(agents={"noting": Noting}).spawn(PATH, agent_type="noting")
    assert agent.ask("before") == "before"
    monkeypatch.setattr(user_handler, "BEAT_WAIT_SECONDS", 0.05)
    with monkeypatch.context() as cut_off:
        cut_off.setattr(Membership, "may_begin", lambda membership: False)
        with pytest.raises(Unavailable):
            agent.ask("meanwhile")
        assert agent.set("a", 1).seq == 2, "what the log itself guards goes on"
    assert agent.ask("after") == "after"
    assert begun == ["before", "after"]


def test_what_was_sent_to_a_host_before_it_was_declared_dead_is_not_done_again_when_it_wakes_up(
    open_any: OpenSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next host had done it, and had given the tree up again: nothing that the log guards was in the way."""
    asker, sleeper = open_any(), open_any()
    sleeper.spawn(PATH, initial_state={"l": []})
    assert asker.agent(PATH).append("l", 0).seq == 2
    membership, links, old = sleeper._hosted.hosting.membership, sleeper._hosted._links, sleeper.host
    held, arrived, deliver = list[Any](), threading.Event(), links._deliver
    monkeypatch.setattr(links, "_deliver", lambda rows: (held.extend(rows), arrived.set()))
    monkeypatch.setattr(membership, "may_begin", lambda: False)
    membership._stop.set()
    membership._thread.join(30)

    reply = asker.agent(PATH).ask(Append("l", 1), block=False)
    assert arrived.wait(30)
    row = asker.log.hosts.find(old)
    assert asker.log.hosts.bury(old, row.beat)
    asker._hosted.hosting.membership.refresh()
    assert reply.get(timeout=30).seq == 3, "it was not begun, and the asker has the agent now"
    assert fence(asker)[1] == asker.host
    give_up(asker, PATH)

    deliver(held)
    eventually(lambda: fence(asker)[1] == old, what="claimed by a host that does not know that it is dead")
    assert asker.peek(PATH).memory == {"l": [0, 1]}
    membership.beat()
    monkeypatch.setattr(membership, "may_begin", lambda: True)
    assert sleeper.host != old
    assert sleeper.agent(PATH).append("l", 2).seq == 4
    assert asker.agent(PATH).get() == {"l": [0, 1, 2]}
    eventually(lambda: not sleeper._hosted.hosting.router.handling, what="outcomes of all that had arrived")


class Counting(Agent):
    def on_receive(self, message: object) -> object:
        self.set("n", self.get("n") + 1)
        return self.get("n")


@pytest.mark.parametrize("dead", ["the other host", "this host"])
def test_messages_that_come_while_the_routes_to_a_lost_host_are_ended_in_steps_keep_their_order_and_their_replies(
    open_any: OpenSystem, monkeypatch: pytest.MonkeyPatch, dead: str
) -> None:
    monkeypatch.setattr(dispatcher_module, "_STEP_SECONDS", 0.0)  # a step a message
    kinds, paths = {"counting": Counting}, [f"acme/a{number}" for number in range(8)]
    owner, asker = open_any(agents=kinds), open_any(agents=kinds)
    for path in paths:
        owner.spawn(path, agent_type="counting", initial_state={"l": [], "n": 0})
        asker.agent(path).append("l", 0)
    take_beats(monkeypatch, owner, asker)
    router, links, held = asker._hosted.hosting.router, owner._hosted._links, list[Any]()
    deliver = links._deliver
    monkeypatch.setattr(links, "_deliver", held.extend)
    sent = {path: [asker.agent(path).ask(Append("l", number), block=False) for number in (1, 2)] for path in paths}
    eventually(lambda: len(held) == 16 == router.waiting, what="messages that the other host does not handle")

    begun, left = threading.Event(), list[int]()
    late = {path: Envelope("count") for path in paths}

    def send_more() -> None:
        left.append(router.waiting)
        for path in paths:
            asker._actors.send(path, late[path])
        begun.set()

    if dead == "the other host":
        host_died = router.host_died
        monkeypatch.setattr(router, "host_died", lambda host, **how: (host_died(host, **how), send_more()))
        row = asker.log.hosts.find(owner.host)
        assert asker.log.hosts.bury(owner.host, row.beat)
        asker._hosted.hosting.membership.refresh()
    else:
        begin_again = asker._hosted._begin_again
        monkeypatch.setattr(asker._hosted, "_begin_again", lambda *hosts: (begin_again(*hosts), send_more()))
        assert asker.log.hosts.bury(asker.host, asker.log.hosts.find(asker.host).beat)
        asker._hosted.hosting.membership.beat()
    assert begun.wait(30)
    assert left[0] > 8, "control: most routes were not ended yet"
    if dead == "this host":
        monkeypatch.setattr(links, "_deliver", deliver)
        deliver(held)

    for path in paths:
        assert [reply.get(timeout=30).seq for reply in sent[path]] == [3, 4]
        assert late[path].get(timeout=30) == 1
        assert asker.agent(path).get() == {"l": [0, 1, 2], "n": 1}
        assert [event.seq for event in asker.events(path)] == [1, 2, 3, 4, 5]
    if dead == "the other host":
        owner._hosted.hosting.membership.beat()
        eventually(lambda: not len(owner._actors), what="it has dropped its agents before it closes")


def test_what_a_host_that_was_declared_dead_has_sent_is_not_done_again_by_one_that_wakes_up_later(
    open_any: OpenSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its process goes on under a new id, and has done it itself, as nobody had the tree, and has given that up."""
    asker, sleeper = open_any(), open_any()
    sleeper.spawn(PATH, initial_state={"l": []})
    assert asker.agent(PATH).append("l", 0).seq == 2
    membership, links, old = sleeper._hosted.hosting.membership, sleeper._hosted._links, asker.host
    held, arrived, deliver = list[Any](), threading.Event(), links._deliver
    take_beats(monkeypatch, sleeper, asker)
    monkeypatch.setattr(links, "_deliver", lambda rows: (held.extend(rows), arrived.set()))

    reply = asker.agent(PATH).ask(Append("l", 1), block=False)
    assert arrived.wait(30)
    give_up(sleeper, PATH)
    sleep(membership)
    assert sleeper.log.hosts.bury(old, sleeper.log.hosts.find(old).beat)
    asker._hosted.hosting.membership.beat()
    assert asker.host != old
    assert reply.get(timeout=30).seq == 3, "looked for in the log, not found, and done here"
    give_up(asker, PATH)

    deliver(held)
    eventually(lambda: fence(asker)[1] == sleeper.host, what="claimed by a host that has not looked at the others yet")
    membership.beat()
    assert sleeper.agent(PATH).append("l", 2).seq == 4
    assert asker.agent(PATH).get() == {"l": [0, 1, 2]}
    eventually(lambda: not sleeper._hosted.hosting.router.handling, what="outcomes of all that had arrived")


@pytest.mark.slow
def test_a_read_does_not_pass_what_was_sent_before_where_the_owner_is_full(
    open_any: OpenSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A small read is sent behind writes that wait for a confirmation: only one that is handled says that they are."""
    owner, asker = open_any(), open_any()
    owner.spawn(PATH, initial_state={"l": []})
    asker.agent(PATH).append("l", 0)
    monkeypatch.setattr(forwarding.Forwarding, "_asks_for_more_than_a_commit", lambda route, envelope: True)
    links, held, arrived, enqueue = owner._hosted._links, list[Any](), threading.Event(), owner._actors.enqueue
    deliver = links._deliver

    def hold_the_first(rows: list[Any]) -> None:
        if not held:
            held.append(rows.pop(0))
            arrived.set()
        if rows:
            deliver(rows)

    def refuse_lengths(path: str, envelope: Envelope) -> Any:
        if type(envelope.message) is Length:
            raise MailboxFull("full", agent=path)
        return enqueue(path, envelope)

    monkeypatch.setattr(links, "_deliver", hold_the_first)
    monkeypatch.setattr(owner._actors, "enqueue", refuse_lengths)
    reply = asker.agent(PATH).ask(Append("l", 1), block=False)
    assert arrived.wait(30)
    read = asker.agent(PATH).ask(Get("l"), block=False)
    router = asker._hosted.hosting.router
    eventually(lambda: router.sent >= 3 and router.waiting == 1, what="the small read was refused")
    monkeypatch.setattr(links, "_deliver", deliver)
    deliver(held)
    assert (reply.get(timeout=30).seq, read.get(timeout=30)) == (3, [0, 1])


@pytest.mark.slow
def test_a_host_sends_nothing_to_itself_where_its_core_does_not_know_its_new_id_yet(
    open_any: OpenSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, system = open_any(), open_any()
    first.spawn(PATH, initial_state={"l": []})
    give_up(first, PATH)
    services, asked, is_known = system._services, threading.Event(), activation.Activation._is_known_to_live

    def look(self: activation.Activation) -> bool:
        asked.set()
        return is_known(self)

    monkeypatch.setattr(activation.Activation, "_is_known_to_live", look)
    owner, services.owner = services.owner, "f" * 32
    reply = system.agent(PATH).ask(Append("l", 1), block=False)
    assert asked.wait(30)
    services.owner = owner
    assert reply.get(timeout=30).seq == 2
    assert system.agent(PATH).get() == {"l": [1]}


@pytest.mark.slow
@pytest.mark.parametrize("first", ["beat", "look_between"])
def test_what_a_host_that_has_closed_did_for_one_that_slept_past_its_lease_is_not_done_again(
    open_any: OpenSystem, monkeypatch: pytest.MonkeyPatch, first: str
) -> None:
    """It could send no replies, as the sleeper was declared dead, and has closed all the same."""
    monkeypatch.setattr(dispatcher_module, "_STEP_SECONDS", 0.0)
    sleeper, owner, other = open_any(), open_any(), open_any()
    paths = [f"acme/a{number}" for number in range(3)]
    for path in paths:
        owner.spawn(path, initial_state={"l": []})
        sleeper.agent(path).append("l", 0)
    memberships = take_beats(monkeypatch, sleeper, owner)
    links, held, arrived = owner._hosted._links, list[Any](), threading.Semaphore(0)
    deliver = links._deliver

    def hold(rows: list[Any]) -> None:
        held.extend(rows)
        arrived.release(len(rows))

    monkeypatch.setattr(links, "_deliver", hold)
    replies = [sleeper.agent(path).ask(Append("l", 1), block=False) for path in paths]
    for _ in paths:
        assert arrived.acquire(timeout=30)
    sleep(memberships[0])
    assert owner.log.hosts.bury(sleeper.host, owner.log.hosts.find(sleeper.host).beat)
    memberships[1].beat()
    monkeypatch.setattr(links, "_deliver", deliver)
    deliver(held)
    eventually(lambda: [other.peek(path).memory["l"] for path in paths] == [[0, 1]] * 3, what="done by the owner")
    owner.close()
    getattr(memberships[0], first)()
    memberships[0].beat()
    assert [reply.get(timeout=30).seq for reply in replies] == [3, 3, 3]
    assert [other.peek(path).memory["l"] for path in paths] == [[0, 1]] * 3


@pytest.mark.parametrize("ends", ["the beat goes through again", "the system closes"])
def test_an_effect_is_held_back_while_the_beat_does_not_go_through(
    open_any: OpenSystem, monkeypatch: pytest.MonkeyPatch, ends: str
) -> None:
    called, asked, is_beating = threading.Event(), threading.Semaphore(0), True

    def may_begin(membership: Membership) -> bool:
        if not is_beating:
            asked.release()
        return is_beating

    class Effectful(Agent):
        def on_receive(self, message: Any) -> Any:
            nonlocal is_beating
            self.set("n", 1)
            self.after_commit(called.set)
            is_beating = False

    monkeypatch.setattr(Membership, "may_begin", may_begin)
    system = open_any(agents={"effectful": Effectful})
    system.spawn(PATH, agent_type="effectful").ask("go")
    for _ in range(3):
        assert asked.acquire(timeout=10)
    assert not called.is_set()
    if ends == "the system closes":
        system.close()
        assert not called.is_set()
    else:
        is_beating = True
        assert called.wait(10)


def test_a_host_is_listed_with_the_types_of_agents_and_messages_that_it_knows(open_any: OpenSystem) -> None:
    registry = EventRegistry()
    system = open_any(agents={"waiting": Waiting}, registry=registry)
    row = next(record for record in open_any().hosts() if record.host == system.host)
    assert (row.state, row.agent_types, row.message_types) == ("up", ("waiting",), ())
    system.register("other", Waiting)
    row = next(record for record in system.hosts() if record.host == system.host)
    assert row.agent_types == ("other", "waiting")
    default = open_any()
    assert set(DECLARED.message_types()) == set(
        next(record for record in default.hosts() if record.host == default.host).message_types
    )


@pytest.mark.parametrize("ends", ["the time is up", "the system closes"])
def test_what_waits_for_a_beat_after_the_claim_is_refused_in_the_end(
    open_any: OpenSystem, monkeypatch: pytest.MonkeyPatch, ends: str
) -> None:
    owner, system = open_any(), open_any()
    owner.spawn(PATH, initial_state={"n": 1})
    give_up(owner, PATH)
    monkeypatch.setattr(activation, "BEAT_WAIT_SECONDS", 0.2 if ends == "the time is up" else 3_600.0)
    with monkeypatch.context() as cut_off:
        cut_off.setattr(system._hosted.hosting.membership, "may_begin", lambda: False)
        write, read = (system.agent(PATH).ask(message, block=False) for message in (Set("n", 2), Get("n")))
        eventually(lambda: fence(owner)[1] == system.host, what="claimed")
        if ends == "the system closes":
            assert not write.done, "control: it waits"
            system.close()
        with pytest.raises(Unavailable, match="nothing is begun"):
            write.get(timeout=30)
        assert read.get(timeout=30) == 1, "the log can be read"
    if ends == "the time is up":
        assert system.agent(PATH).set("n", 3).seq == 2
