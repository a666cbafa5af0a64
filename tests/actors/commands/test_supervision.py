"""What becomes of an agent whose handler raises."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from duramen.actors import Agent, AgentSystem, Restart, Strategy, Supervision
from duramen.actors.commands.supervision import Decision, Supervisor
from duramen.events import AgentFailed, InvalidMessage

OpenSystem = Callable[..., AgentSystem]


class Fragile(Agent):
    """Counts in its object what it was asked, so that a new object shows."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = 0

    def on_receive(self, message: Any) -> Any:
        self.asked += 1
        if message == "break":
            self.set("trace", True)
            raise ZeroDivisionError("secret-in-a-message")
        return self.asked


def _kind(**policy: Any) -> type[Agent]:
    return type("Fragile_", (Fragile,), {"supervision": Supervision(**policy)})


def _break(agent: Any) -> None:
    with pytest.raises(ZeroDivisionError):
        agent.ask("break")


def test_by_default_the_agent_goes_on_with_its_object_and_state(open_any: OpenSystem) -> None:
    agent = open_any(agents={"f": Fragile}).spawn("acme/a", agent_type="f")
    _break(agent)
    assert agent.ask("count") == 2
    assert agent.get() == {}
    assert agent.status().seq == 1


def test_restart_brings_a_new_object_from_the_log(open_any: OpenSystem) -> None:
    kind = _kind(strategy="restart", first_pause=0.01)
    agent = open_any(agents={"f": kind}).spawn("acme/a", agent_type="f", initial_state={"kept": 1})
    _break(agent)
    assert agent.ask("count") == 1
    assert agent.get() == {"kept": 1}


def test_too_many_restarts_stop_the_agent(open_system: OpenSystem) -> None:
    kind = _kind(strategy="restart", restarts=2, first_pause=0.01)
    agent = open_system(agents={"f": kind}).spawn("acme/a", agent_type="f")
    for _ in range(3):
        _break(agent)
    assert agent.status().status == "failed"


def test_a_stopped_agent_is_visible_refuses_and_can_be_restarted(open_any: OpenSystem) -> None:
    system = open_any(agents={"f": _kind(strategy=Strategy.STOP)})
    agent = system.spawn("acme/a", agent_type="f")
    _break(agent)
    assert agent.status().status == "failed"
    assert [entry.status for entry in system.agents()] == ["failed"]
    failed = [event for event in system.events("acme/a") if event.type == "failed"]
    assert [event.data for event in failed] == [{"error": "ZeroDivisionError"}]
    for refused in (lambda: agent.set("a", 1), lambda: agent.ask("count"), agent.pause("x").raise_for_failure):
        with pytest.raises(AgentFailed):
            refused()
    assert agent.get() == {}  # reads work
    assert agent.restart().seq == 3
    assert agent.set("a", 1).seq == 4
    assert agent.restart().first_seq == 5  # runs already: nothing to log


def test_a_failed_agent_is_still_failed_after_the_system_was_opened_again(open_any: OpenSystem) -> None:
    kinds = {"f": _kind(strategy="stop")}
    first = open_any(agents=kinds)
    _break(first.spawn("acme/a", agent_type="f"))
    first.close()
    assert open_any(agents=kinds).agent("acme/a").status().status == "failed"


def test_a_parent_hears_of_a_child_that_escalates_and_may_restart_it(open_system: OpenSystem) -> None:
    heard: list[tuple[str, str]] = []
    restarted = threading.Event()
    systems: list[AgentSystem] = []

    class Parent(Agent):
        def on_child_failed(self, path: str, error: str) -> None:
            heard.append((path, error))
            systems[0].agent(path).ask(Restart())
            restarted.set()

    systems.append(open_system(agents={"p": Parent, "f": _kind(strategy="escalate")}))
    child = systems[0].spawn("acme/p", agent_type="p").spawn_child("c", agent_type="f")
    _break(child)
    assert restarted.wait(10)
    assert heard == [("acme/p/c", "ZeroDivisionError")]
    assert child.status().status == "running"


def test_a_refusal_of_duramens_own_is_no_failure(open_system: OpenSystem) -> None:
    class Asks(Agent):
        supervision = Supervision(strategy="stop")

        def on_receive(self, message: Any) -> None:
            self.set("..", 1)

    agent = open_system(agents={"f": Asks}).spawn("acme/a", agent_type="f")
    with pytest.raises(ValueError, match="path"):
        agent.ask("go")
    assert agent.status().status == "running"


def test_what_a_failure_says_stays_out_of_log_and_events(
    open_system: OpenSystem, caplog: pytest.LogCaptureFixture
) -> None:
    system = open_system(agents={"f": _kind(strategy="stop")})
    _break(system.spawn("acme/a", agent_type="f"))
    assert "ZeroDivisionError" in caplog.text
    assert "secret-in-a-message" not in caplog.text
    assert all("secret-in-a-message" not in repr(event) for event in system.events("acme/a"))


# -- policies ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("first_pause", [0, 0.0, 1e-300, 0.1])
def test_the_pause_grows_to_the_longest_and_has_no_end_however_many_restarts_there_are(first_pause: float) -> None:
    policy = Supervision(strategy="restart", restarts=10**6, within=1e9, first_pause=first_pause)
    supervisor = Supervisor()
    pauses = [supervisor.decide("acme/a", policy).pause for _ in range(1_200)]
    assert pauses == sorted(pauses)
    assert pauses[0] == first_pause
    assert pauses[-1] == (30.0 if first_pause else 0.0)
    assert policy.pause_before(10**9) == pauses[-1]


@pytest.mark.slow
def test_an_agent_is_alive_after_its_1025th_restart(open_system: OpenSystem) -> None:
    kind = _kind(strategy="restart", restarts=10**6, within=1e9, first_pause=0.0)
    agent = open_system(agents={"f": kind}).spawn("acme/a", agent_type="f")
    for _ in range(1_030):
        _break(agent)
    assert agent.ask("count") == 1


@pytest.mark.parametrize("strategy", [Strategy.RESTART, "restart"])
def test_a_strategy_alone_is_a_policy(open_system: OpenSystem, strategy: Any) -> None:
    kind = type("Alone", (Fragile,), {"supervision": strategy})
    agent = open_system(agents={"f": kind}).spawn("acme/a", agent_type="f")
    _break(agent)
    assert agent.ask("count") == 1, "a new object"


def _raising(self: Agent) -> Supervision:
    raise LookupError("secret-in-a-message")


def _answering(odd: object) -> property:
    return property(lambda self: odd)


@pytest.mark.parametrize("policy", [*map(_answering, (None, 3, "retsart", Supervision)), property(_raising)])
def test_an_agent_whose_policy_is_none_is_stopped_and_its_caller_gets_the_error(
    open_system: OpenSystem, caplog: pytest.LogCaptureFixture, policy: Any
) -> None:
    kind = type("Odd", (Fragile,), {"supervision": policy})
    agent = open_system(agents={"f": kind}).spawn("acme/a", agent_type="f")
    _break(agent)
    assert agent.status().status == "failed"
    assert "supervision_invalid" in caplog.text
    assert "secret-in-a-message" not in caplog.text


@pytest.mark.parametrize(
    "fields",
    [{"strategy": "retsart"}, {"strategy": None}]
    + [
        {name: value}
        for name in ("restarts", "within", "first_pause", "factor", "longest_pause")
        for value in (-1, float("nan"), float("inf"), "1", None, True)
    ],
    ids=str,
)
def test_a_policy_with_a_field_of_no_sense_is_refused_where_it_is_made(fields: dict[str, Any]) -> None:
    with pytest.raises(InvalidMessage):
        Supervision(**fields)


def test_other_policies_are_followed_at_once() -> None:
    assert Supervisor().decide("acme/a", Strategy.STOP) == Decision(Strategy.STOP)
