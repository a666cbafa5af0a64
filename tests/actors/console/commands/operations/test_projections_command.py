"""`duramen projections`: consumers of other processes are seen, waited for and repaired."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from attrs import evolve

from command_line import Duramen
from duramen.actors import AgentSystem
from duramen.events import Event
from duramen.events.embedded.server import EmbeddedServer
from duramen.projections import ConsumerInfo, Projection
from duramen.projections.consumers.registry import Consumers
from waiting import eventually


class Costs(Projection[int]):
    """Counts events; raises at one place while `broken`."""

    def __init__(self) -> None:
        self.broken = False

    def initial(self) -> int:
        return 0

    def apply(self, state: int, event: Event) -> int:
        if self.broken and event.seq == 2:
            raise ZeroDivisionError("the payload was 42")
        return state + 1


@pytest.fixture
def system(data_dir: Path) -> Iterator[AgentSystem]:
    """With two events, on the store of the command."""
    with EmbeddedServer.open(data_dir), AgentSystem.open(data_dir=data_dir) as found:
        found.spawn("acme/alice").set("n", 1)
        yield found


KEYS = [
    "name",
    "kind",
    "version",
    "scope",
    "status",
    "lag",
    "position",
    "applied",
    "skipped",
    "skips",
    "error",
    "updated_at",
    "building",
    "lags",
]


@pytest.mark.usefixtures("system")
def test_without_any_people_are_told_how_one_comes_to_be(duramen: Duramen) -> None:
    assert duramen("projections", "--json").data == []
    assert "system.attach" in duramen("projections").out


def test_they_are_listed_with_how_far_they_have_come(duramen: Duramen, system: AgentSystem) -> None:
    with system.attach(Costs(), name="costs") as runner:
        runner.wait_for(saved=True)
    (found,) = duramen("projections", "list", "--json").data
    assert list(found) == KEYS
    assert (found["name"], found["lag"], found["applied"], found["error"]) == ("costs", 0, 2, None)
    system.agent("acme/alice").set("n", 2)
    (row,) = [line.split() for line in duramen("projections").out.splitlines() if line.startswith("costs")]
    assert row[:5] == ["costs", found["status"], "1", "1", "2"]


@pytest.mark.slow
def test_one_that_is_parked_says_where_and_is_skipped_by_hand(duramen: Duramen, system: AgentSystem) -> None:
    costs = Costs()
    costs.broken = True
    with system.attach(costs, name="costs") as runner:
        eventually(lambda: system.consumers.get("costs").status == "parked")
        ran = duramen("projections", "wait", "costs")
        assert ran.code == 1
        assert "costs is parked: ZeroDivisionError at acme/alice@2" in ran.err
        assert "payload was" not in ran.err + duramen("projections").out + duramen("projections", "--json").out
        asked = duramen("projections", "skip", "costs", "--json")
        assert asked.data["agent"] == "acme/alice"
        assert asked.data["seq"] == 2
        assert duramen("projections", "wait", "costs").code == 0
        assert runner.state == 1
        (found,) = duramen("projections", "--json").data
        assert (found["skipped"], found["skips"], found["error"]) == (1, [["acme/alice", 2]], None)


@pytest.mark.slow
def test_one_that_is_parked_is_told_to_try_again(duramen: Duramen, system: AgentSystem) -> None:
    costs = Costs()
    costs.broken = True
    with system.attach(costs, name="costs") as runner:
        eventually(lambda: system.consumers.get("costs").status == "parked")
        costs.broken = False
        assert duramen("projections", "retry", "costs").out.startswith("costs: ")
        assert duramen("projections", "wait", "costs", "--json").data["lag"] == 0
        assert runner.state == 2


@pytest.mark.slow
def test_a_rebuild_is_waited_for_until_it_is_done(duramen: Duramen, system: AgentSystem) -> None:
    with system.attach(Costs(), name="costs") as runner:
        runner.wait_for(saved=True)
        before = runner.applied
        assert duramen("projections", "rebuild", "costs").code == 0
        ran = duramen("projections", "wait", "costs", "--json")
        assert (ran.code, ran.data["status"]) == (0, "live")
        assert (before, runner.state) == (2, 2)
        assert system.log.consumer_store().find("costs").request is None


def test_waiting_for_one_that_nobody_runs_ends_when_nothing_moves(duramen: Duramen, system: AgentSystem) -> None:
    with system.attach(Costs(), name="costs") as runner:
        runner.wait_for(saved=True)
    system.agent("acme/alice").set("n", 2)
    ran = duramen("projections", "wait", "costs", "--timeout", "0.3")
    assert (ran.code, ran.out) == (1, "")
    assert ran.err == "duramen: consumer costs has not moved for 0.3 s: does a process run it?\n"


def test_one_that_is_removed_is_gone_with_its_view(duramen: Duramen, system: AgentSystem) -> None:
    with system.attach(Costs(), name="costs") as runner:
        runner.wait_for(saved=True)
    assert duramen("projections", "remove", "costs", "--json").data["action"] == "remove"
    assert system.projections() == []


@pytest.mark.usefixtures("system")
@pytest.mark.parametrize("action", ["wait", "rebuild", "retry", "skip", "remove"])
def test_an_action_needs_the_name_of_one_that_is_known(duramen: Duramen, action: str) -> None:
    for words, said in (([], "takes the name of a consumer"), (["costs"], "costs was ever attached")):
        ran = duramen("projections", action, *words)
        assert (ran.code, ran.out) == (2, "")
        assert said in ran.err
        assert ran.err.count("\n") == 1


def test_those_of_the_library_itself_are_not_shown(
    duramen: Duramen, system: AgentSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    with system.attach(Costs(), name="costs") as runner:
        runner.wait_for(saved=True)
    (info,) = system.projections()

    def listed(consumers: Consumers) -> list[ConsumerInfo]:
        return [evolve(info, name="~own"), info]

    monkeypatch.setattr(Consumers, "list", listed)
    assert [found["name"] for found in duramen("projections", "--json").data] == ["costs"]
    assert "~own" not in duramen("projections").out
