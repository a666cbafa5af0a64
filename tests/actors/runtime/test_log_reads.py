"""What only looks at an agent never claims it: it is answered from the log, and in order."""

from __future__ import annotations

import threading
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest

from duramen.actors import (
    Agent,
    AgentHandle,
    AgentSystem,
    Append,
    Get,
    GetStatus,
    Keys,
    ListCheckpoints,
    Pause,
    Set,
    Settings,
)
from duramen.actors.commands import GetReminders
from duramen.actors.runtime import Runtime, log_reads
from duramen.events import AgentFailed, AgentNotFound, DuramenError, InvalidPath, PathNotFound, SystemClosed
from takeover import give_up
from waiting import eventually

OpenSystem = Callable[..., AgentSystem]

PATH = "acme/alice"
READS: dict[str, Callable[[AgentHandle], Any]] = {
    "get": lambda agent: agent.get(),
    "a value": lambda agent: agent.get("plan/title"),
    "a default": lambda agent: agent.get("nowhere", 7),
    "a missing path": lambda agent: agent.get("nowhere"),
    "an invalid path": lambda agent: agent.get("plan//title"),
    "keys": lambda agent: agent.keys(),
    "keys of a subtree": lambda agent: agent.keys("plan"),
    "keys of a value": lambda agent: agent.keys("n"),
    "status": lambda agent: agent.status(),
    "checkpoints": lambda agent: agent.checkpoints(),
}
MESSAGES = (Get(), Keys(), GetStatus(), ListCheckpoints())


def outcome(call: Callable[[], Any]) -> Any:
    try:
        return call()
    except DuramenError as error:
        return (type(error), str(error), error.agent, error.seq, error.expected, error.actual)


def head_of(system: AgentSystem) -> Any:
    return system.log.head(PATH)


def is_active(system: AgentSystem) -> bool:
    mailboxes = [mailbox for page in system._actors.pages() for mailbox in page if mailbox.path == PATH]
    return any(isinstance(mailbox.runner, Runtime) for mailbox in mailboxes)


def furnished(system: AgentSystem, **options: Any) -> AgentHandle:
    """An agent with values and two checkpoints."""
    agent = system.spawn(PATH, initial_state={"n": 1, "plan": {"title": "t"}}, metadata={"team": "x"}, **options)
    agent.pause("early")
    agent.resume("early")
    agent.pause("late", metadata={"why": "lunch"})
    agent.resume("late")
    return agent


# -- the same replies, and nothing claimed -----------------------------------------------------------------------------


@pytest.mark.parametrize("read", READS)
@pytest.mark.parametrize("is_warm", [False, True])
@pytest.mark.parametrize("is_ended", [False, True])
def test_a_read_from_another_system_replies_as_the_owner_does_and_claims_nothing(
    open_any: OpenSystem, read: str, is_warm: bool, is_ended: bool
) -> None:
    owner, other = open_any(), open_any()
    mine, theirs = furnished(owner), other.agent(PATH)
    if is_ended:
        mine.terminate().raise_for_failure()
    if is_warm:
        theirs.status()
    expected, before = outcome(lambda: READS[read](mine)), head_of(owner)
    assert outcome(lambda: READS[read](theirs)) == expected
    assert head_of(owner) == before
    assert not is_active(other)


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_a_read_that_is_not_waited_for_claims_nothing_either(open_any: OpenSystem, message: Any) -> None:
    owner, other = open_any(), open_any()
    expected, before = furnished(owner).ask(message), head_of(owner)
    for _ in range(2):
        assert other.agent(PATH).ask(message, block=False).get(timeout=10) == expected
    assert head_of(owner) == before
    eventually(lambda: not is_active(other))


@pytest.mark.parametrize("timeout", [None, 30.0, 5.0])
def test_the_timeout_decides_about_the_thread_and_not_about_the_reply(
    open_any: OpenSystem, timeout: float | None
) -> None:
    furnished(open_any())
    theirs = open_any().agent(PATH)
    for _ in range(2):
        assert theirs.ask(Get("n"), timeout=timeout) == 1


def test_a_reply_shares_nothing_with_the_state_that_is_kept(open_any: OpenSystem) -> None:
    furnished(open_any())
    theirs = open_any().agent(PATH)
    for _ in range(2):
        theirs.get()["plan"]["title"] = "changed"
        metadata: Any = theirs.status().metadata
        metadata["team"] = "changed"
        metadata = theirs.checkpoints()[0].metadata
        metadata["why"] = "changed"
    assert theirs.get("plan/title") == "t"
    assert theirs.status().metadata == {"team": "x"}
    assert theirs.checkpoints()[0].metadata == {"why": "lunch"}


@pytest.mark.parametrize("read", READS)
def test_an_agent_that_never_was_is_not_found(open_any: OpenSystem, read: str) -> None:
    for _ in range(2):
        with pytest.raises(AgentNotFound, match="spawn it first"):
            READS[read](open_any().agent(PATH))


def test_an_agent_that_left_memory_is_read_and_stays_away(open_any: OpenSystem) -> None:
    system = open_any(settings=Settings(passivate_after=0.02))
    agent = furnished(system)
    eventually(lambda: not is_active(system))
    before = head_of(system)
    for _ in range(2):
        assert agent.get("n") == 1
        assert not is_active(system)
    assert head_of(system) == before
    agent.set("n", 2)
    assert agent.get("n") == 2


@pytest.mark.slow
def test_a_checkpoint_that_has_expired_is_listed_by_nobody(open_any: OpenSystem) -> None:
    mine, theirs = furnished(open_any()), open_any().agent(PATH)
    mine.pause("short", ttl=1)
    assert [each.checkpoint_id for each in theirs.checkpoints()] == ["short", "late", "early"]
    eventually(lambda: [each.checkpoint_id for each in theirs.checkpoints()] == ["late", "early"])
    assert mine.checkpoints() == theirs.checkpoints()


def test_a_system_without_the_class_reads_the_agent(open_any: OpenSystem) -> None:
    class Greeting(Agent):
        def on_receive(self, message: Any) -> Any:
            self.set("greeting", message)

    owner = open_any(agents={"greeting": Greeting})
    owner.spawn(PATH, agent_type="greeting").ask("hello")
    other = open_any()
    assert other.agent(PATH).get("greeting") == "hello"
    assert other.agent(PATH).status().agent_type == "greeting"


def test_a_closed_system_reads_nothing(open_any: OpenSystem) -> None:
    furnished(open_any())
    system = open_any()
    agent = system.agent(PATH)
    agent.get()
    system.close()
    with pytest.raises(SystemClosed):
        agent.get()


# -- beside a handler elsewhere ----------------------------------------------------------------------------------------


class Working(Agent):
    """Each handler waits until the test has read the agent from elsewhere, so many times."""

    read = threading.Semaphore(0)
    reads_each = 5

    def on_receive(self, message: Any) -> Any:
        self.append("done", message)
        for _ in range(self.reads_each):
            assert self.read.acquire(timeout=30)
        return message


@pytest.mark.slow
def test_handlers_commit_while_another_system_reads_as_fast_as_it_can(open_any: OpenSystem) -> None:
    Working.read = threading.Semaphore(0)
    owner, other = open_any(agents={"working": Working}), open_any()
    mine, theirs = owner.spawn(PATH, agent_type="working"), other.agent(PATH)
    before = head_of(owner).fence
    replies = [mine.ask(number, block=False) for number in range(20)]
    seen: list[list[int]] = []
    while not replies[-1].done:
        seen.append(theirs.get("done", []))
        assert theirs.status().status == "running"
        Working.read.release()
    assert [reply.get(timeout=10) for reply in replies] == list(range(20))
    assert mine.get("done") == theirs.get("done") == list(range(20))
    assert all(one == later[: len(one)] for one, later in pairwise(seen))
    assert head_of(owner).fence == before


def test_a_set_elsewhere_takes_an_agent_of_nobody(open_any: OpenSystem) -> None:
    """The control of the test above: what claims is seen in the fence."""
    owner, other = open_any(), open_any()
    owner.spawn(PATH)
    before = head_of(owner).fence
    give_up(owner, PATH)
    other.agent(PATH).set("n", 1)
    assert head_of(owner).fence != before


# -- in order ----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_read_sees_what_its_own_process_has_sent_before(open_any: OpenSystem) -> None:
    open_any().spawn(PATH, initial_state={"list": []})
    agent = open_any().agent(PATH)
    expected: list[int] = []
    for number in range(30):
        agent.get()  # the state is kept then, and a read would need no mailbox
        agent.tell(Append("list", number))
        expected.append(number)
        assert agent.get("list") == expected


def test_reads_are_answered_where_they_stand_in_the_mailbox(open_any: OpenSystem) -> None:
    open_any().spawn(PATH, initial_state={"n": 0})
    agent = open_any().agent(PATH)
    sent: list[Any] = []
    for number in range(1, 20):
        sent += [agent.ask(Get("n"), block=False), agent.ask(Set("n", number), block=False)]
    assert [reply.get(timeout=10) for reply in sent[::2]] == list(range(19))


def test_reads_before_a_message_leave_the_agent_where_it_is_until_then(
    open_any: OpenSystem, gate: threading.Event
) -> None:
    owner, other = open_any(), open_any()
    owner.spawn(PATH, initial_state={"n": 0})
    before = head_of(owner)
    agent = other.agent(PATH)
    heads: list[Any] = []
    read = agent.ask(Get("n"), block=False)
    read.add_done_callback(lambda: heads.append(head_of(owner)))
    agent.ask(Set("n", 1), block=False).get(timeout=10)
    assert (read.get(), heads) == (0, [before])


def test_a_read_behind_a_message_that_cannot_be_handled_is_answered(open_any: OpenSystem) -> None:
    def fail() -> Agent:
        raise OSError("no model")

    owner = open_any()
    owner.spawn(PATH, agent_type="kind", initial_state={"n": 1})
    owner.close()
    agent = open_any(agents={"kind": fail}).agent(PATH)
    refused = [agent.ask(Set("n", number), block=False) for number in range(3)]
    read = agent.ask(Get("n"), block=False)
    paused = agent.ask(Pause(), block=False)
    for reply in (*refused, paused):
        with pytest.raises(AgentFailed):
            reply.get(timeout=10)
    assert read.get(timeout=10) == 1


def test_each_of_many_waiting_reads_gets_its_own_reply_or_error(open_any: OpenSystem) -> None:
    open_any().spawn(PATH, initial_state={"n": 1})
    agent = open_any().agent(PATH)
    replies = [agent.ask(message, block=False) for message in (Get("n"), Get("x"), Keys("n"), Keys(), GetStatus())]
    assert replies[0].get(timeout=10) == 1
    for reply, error in ((replies[1], PathNotFound), (replies[2], InvalidPath)):
        with pytest.raises(error):
            reply.get(timeout=10)
    assert replies[3].get(timeout=10) == ["n"]
    assert replies[4].get(timeout=10).seq == 1


@pytest.mark.parametrize("block", [True, False])
def test_a_read_that_fails_in_a_worker_thread_answers_its_caller(
    open_any: OpenSystem, monkeypatch: pytest.MonkeyPatch, block: bool
) -> None:
    def fail(*_: object) -> Any:
        raise KeyError("secret")

    agent = open_any().spawn(PATH)
    with monkeypatch.context() as defect:
        defect.setitem(log_reads.READS, GetReminders, fail)
        with pytest.raises(AgentFailed, match="KeyError") as raised:
            if block:
                agent.ask(GetReminders(), timeout=30)
            else:
                agent.ask(GetReminders(), block=False).get(timeout=30)
    assert isinstance(raised.value.__cause__, KeyError)
    assert "secret" not in str(raised.value)
    assert not agent.reminders()


def test_a_read_for_which_there_is_no_thread_is_refused_by_a_typed_error(
    open_any: OpenSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: object) -> None:
        raise RuntimeError("can't start new thread")

    system = open_any()
    agent = system.spawn(PATH)
    with monkeypatch.context() as exhausted:
        exhausted.setattr(system._services.activations, "submit", refuse)
        with pytest.raises(AgentFailed, match="no thread"):
            agent.ask(GetReminders(), block=False)
    assert not agent.reminders()
