"""Reminders: durable messages that are due at times which stand in the log."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from math import nan
from typing import Any, cast

import pytest

from actors.work.jobs import PATH, REGISTRY, Job, spawn_worker, types_of, worker
from duramen.actors import AgentHandle, AgentSystem
from duramen.actors.commands import Accept, Remind
from duramen.events import AgentPaused, InvalidMessage, MailboxFull, MemoryLog, TooLarge
from waiting import eventually

OpenSystem = Callable[..., AgentSystem]
HOUR = timedelta(hours=1)


class Clock:
    """The time of systems, which a test moves. It is later than any real one: a host that opens finds nothing due."""

    def __init__(self) -> None:
        self.now = 4_102_444_800_000_000

    def __call__(self) -> int:
        return self.now

    def move(self, by: timedelta) -> None:
        self.now += by // timedelta(microseconds=1)


@pytest.fixture
def clock() -> Clock:
    return Clock()


async def note(self: Any, message: Job) -> None:
    self.append("notes", message.name)


class Hosts:
    """One host after another, each later than the one before."""

    def __init__(self, open_system: OpenSystem, clock: Clock) -> None:
        self._open_system = open_system
        self._clock = clock
        self.system = self._open()

    def _open(self) -> AgentSystem:
        system = self._open_system(registry=REGISTRY, agents={"worker": worker(note)})
        system._services.now = self._clock
        return system

    def later(self, by: timedelta) -> AgentHandle:
        """The agent on the next host, at work after so much time."""
        self.system.close()
        self._clock.move(by)
        self.system = self._open()
        return at_work(self.system.agent(PATH))


@pytest.fixture
def hosts(open_system: OpenSystem, clock: Clock) -> Hosts:
    return Hosts(open_system, clock)


@pytest.fixture
def alice(hosts: Hosts) -> AgentHandle:
    return hosts.system.spawn(PATH, agent_type="worker")


def at_work(alice: AgentHandle) -> AgentHandle:
    """The agent in memory, after its look at what is due; a paused one takes answers."""
    for _ in range(2):
        alice.answer("looked", True)
    return alice


def notes(alice: AgentHandle) -> Any:
    return alice.get("notes", [])


def due_events(system: AgentSystem) -> list[Any]:
    return [event for event in system.events(PATH) if event.type == "reminder_due"]


def settle(alice: AgentHandle, count: int) -> None:
    eventually(lambda: len(notes(alice)) == count and not alice.unfinished(), what=f"{count} deliveries")


def test_a_reminder_is_a_message_at_its_time(open_any: OpenSystem) -> None:
    system = open_any(registry=REGISTRY)
    alice = spawn_worker(system, note)
    alice.remind("soon", Job("tea"), at=datetime.now(UTC) + timedelta(days=1))
    [reminder] = alice.reminders()
    assert (reminder.agent, reminder.name, reminder.message_type, reminder.every) == (PATH, "soon", "job", None)
    at = datetime.now(UTC) + timedelta(milliseconds=60)
    alice.remind("soon", Job("tea"), at=at)
    settle(alice, 1)
    assert notes(alice) == ["tea"]
    [due] = due_events(system)
    assert due.time >= at
    assert alice.reminders() == []
    at_end = types_of(system)
    assert at_end[at_end.index("reminder_due") + 1] == "work_accepted"


def test_a_reminder_that_comes_again_keeps_its_times(hosts: Hosts, alice: AgentHandle) -> None:
    alice.remind("hourly", Job("look"), every=HOUR)
    first = alice.reminders()[0].due
    alice = hosts.later(HOUR + timedelta(minutes=7))
    settle(alice, 1)
    assert alice.reminders()[0].due == first + HOUR
    alice = hosts.later(timedelta(minutes=52))
    assert len(due_events(hosts.system)) == 1  # the control: a minute too early
    alice = hosts.later(timedelta(minutes=2))
    settle(alice, 2)
    assert alice.reminders()[0].due == first + 2 * HOUR


@pytest.mark.parametrize(("missed", "delivered"), [("once", 1), ("skip", 0), ("all", 5)])
def test_missed_times_are_made_up_for_as_asked(hosts: Hosts, alice: AgentHandle, missed: Any, delivered: int) -> None:
    alice.remind("hourly", Job("look"), every=HOUR, missed=missed)
    first = alice.reminders()[0].due
    alice = hosts.later(5.5 * HOUR)
    eventually(lambda: sum(event.data["ticks"] for event in due_events(hosts.system)) == 5)
    settle(alice, delivered)
    assert alice.reminders()[0].due == first + 5 * HOUR
    alice = hosts.later(HOUR)  # late by half an hour, which is not a missed one
    settle(alice, delivered + 1)


def test_it_is_due_first_at_its_time_and_then_each_period(hosts: Hosts, alice: AgentHandle, clock: Clock) -> None:
    night = datetime.fromtimestamp(clock.now / 1e6, UTC) + 3 * HOUR
    alice.remind("nightly", Job("sum up"), at=night, every=timedelta(days=1))
    alice = hosts.later(4 * HOUR)
    settle(alice, 1)
    assert alice.reminders()[0].due == night + timedelta(days=1)


def test_a_reminder_is_replaced_by_one_of_its_name_and_removed(hosts: Hosts, alice: AgentHandle) -> None:
    alice.remind("one", Job("first"), every=HOUR)
    alice.remind("two", Job("other"), every=HOUR)
    alice.remind("one", Job("second"), every=2 * HOUR)
    assert alice.remove_reminder("two").seq == alice.remove_reminder("two").seq
    [left] = alice.reminders()
    assert (left.name, left.every) == ("one", 2 * HOUR)
    alice = hosts.later(2 * HOUR)
    settle(alice, 1)
    assert notes(alice) == ["second"]


def test_the_end_of_a_session_removes_its_reminders(hosts: Hosts, alice: AgentHandle) -> None:
    alice.remind("hourly", Job("look"), every=HOUR)
    alice.terminate()
    assert alice.reminders() == []
    hosts.system.spawn(PATH, agent_type="worker")
    assert hosts.later(2 * HOUR).reminders() == []
    assert due_events(hosts.system) == []


def test_a_paused_agent_is_reminded_when_it_goes_on(hosts: Hosts, alice: AgentHandle) -> None:
    alice.remind("hourly", Job("look"), every=HOUR)
    alice.pause("lunch")
    alice = hosts.later(3 * HOUR)
    assert due_events(hosts.system) == []
    alice.resume("lunch")
    settle(alice, 1)


def test_a_handler_sets_and_removes_reminders_with_what_else_it_does(open_system: OpenSystem) -> None:
    async def plan(self: Any, message: Job) -> None:
        self.remind("later", Job("later"), every=HOUR)
        self.remind("never", Job("never"), every=HOUR)
        self.remove_reminder("never")
        if message.name == "fail":
            raise LookupError("no plan")
        await self.wait_for("go")

    system = open_system(registry=REGISTRY)
    alice = spawn_worker(system, plan)
    with pytest.raises(LookupError):
        alice.ask(Job("fail"))
    assert alice.reminders() == []  # the control: what a handler discards
    receipt = alice.send(Job())
    eventually(lambda: [each.name for each in alice.reminders()] == ["later"])
    system.close()
    again = open_system(registry=REGISTRY, agents={"worker": worker(plan)})
    again.agent(PATH).answer("go", work=receipt)  # it is run again, and does what its log has
    again.agent(PATH).result(receipt)
    assert types_of(again).count("reminder_set") == 2


def test_an_agent_out_of_memory_is_found_when_its_reminder_is_due(open_any: OpenSystem) -> None:
    first = open_any(registry=REGISTRY)
    spawn_worker(first, note).remind("soon", Job("tea"), at=datetime.now(UTC) + timedelta(milliseconds=200))
    first.close()
    second = open_any(registry=REGISTRY, agents={"worker": worker(note)})
    eventually(lambda: second.agent(PATH).get("notes", []) == ["tea"])
    assert types_of(second).count("reminder_due") == 1


def test_a_reminder_waits_while_its_agent_has_too_much_unfinished_work(
    hosts: Hosts, alice: AgentHandle, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice.remind("hourly", Job("look"), every=HOUR)
    monkeypatch.setattr("duramen.actors.work.reminders._FULL_SECONDS", 0.01)
    with monkeypatch.context() as patched:
        patched.setattr("duramen.actors.commands.work.MOST_UNFINISHED", 0)
        alice = hosts.later(HOUR)
        assert due_events(hosts.system) == []  # neither the mark nor the message
    settle(alice, 1)


def test_forks_and_imports_do_not_remind_a_second_time(hosts: Hosts, alice: AgentHandle, tmp_path: Any) -> None:
    alice.remind("hourly", Job("look"), every=HOUR)
    hosts.system.fork(PATH, to="acme/fork")
    assert hosts.system.agent("acme/fork").reminders() == []
    file = tmp_path / "session"
    hosts.system.export_session(PATH, file)
    with AgentSystem.open(log=MemoryLog(), registry=REGISTRY, agents={"worker": worker(note)}) as elsewhere:
        elsewhere._services.now = hosts._clock
        elsewhere.import_session(file)
        copied = elsewhere.agent(PATH)
        hosts._clock.move(HOUR)
        at_work(copied)
        eventually(lambda: [each.is_parked for each in copied.reminders()] == [True])
        assert due_events(elsewhere) == []
        copied.remind("hourly", Job("look here"), every=HOUR)  # how it is taken over
        assert [each.is_parked for each in copied.reminders()] == [False]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({}, "`at` a time, `every` so many seconds"),
        ({"every": 0.01}, "from 0.1 on"),
        ({"every": 60, "missed": "never"}, "one of once, skip, all"),
        ({"at": datetime.min, "every": 1}, "with a time zone"),
        ({"at": datetime(2030, 1, 1, tzinfo=UTC), "missed": "all"}, "however late"),
        ({"at": datetime.max.replace(tzinfo=timezone(-HOUR))}, "years 1 to 9999 of UTC"),
    ],
)
def test_reminders_that_say_no_time_are_refused(alice: AgentHandle, arguments: Any, told: str) -> None:
    with pytest.raises(InvalidMessage, match=told):
        alice.remind("x", Job(), **arguments)
    assert alice.reminders() == []


def test_what_cannot_be_reminded_of_is_refused(alice: AgentHandle, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InvalidMessage, match="not durable"):
        alice.remind("x", "plain", every=60)
    with pytest.raises(TooLarge, match="keep what it is about in working memory"):
        alice.remind("x", Job("x" * 20_000), every=60)
    monkeypatch.setattr("duramen.actors.commands.reminders.MOST_REMINDERS", 1)
    alice.remind("x", Job(), every=60)
    alice.remind("x", Job(), every=90)
    with pytest.raises(MailboxFull, match="remove some"):
        alice.remind("y", Job(), every=60)
    alice.pause()
    with pytest.raises(AgentPaused):
        alice.remind("x", Job(), every=60)


@pytest.mark.parametrize(
    "message",
    [
        Remind("x", "job", 3),
        Remind("x", "job", 3, at=cast("int", "tomorrow")),
        Remind("x", "job", 3, at=cast("int", nan)),
        Remind("x", "job", 3, at=10**18),
        Remind("x", "job", 3, every=0),
        Remind("x", "job", 3, every=-5),
        Remind("x", "job", 3, every=cast("int", 1e9)),
        Remind("x", "job", 3, every=10**9, missed=cast("Any", "never")),
        Remind("x", "job", cast("int", "3"), every=10**9),
        Remind("x", cast("str", None), 3, every=10**9),
        Remind("", "job", 3, every=10**9),
        Accept("job", cast("int", "3")),
        Accept("", 3),
    ],
)
def test_messages_that_callers_fill_in_themselves_are_checked_like_calls(alice: AgentHandle, message: Any) -> None:
    with pytest.raises(InvalidMessage):
        alice.ask(message)
    assert alice.status().seq == 1
    assert (alice.reminders(), alice.unfinished()) == ([], [])
