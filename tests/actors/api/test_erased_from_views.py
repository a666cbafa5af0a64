"""Durable consumers take erased agents out of their views by `erase`, or rebuild; sinks out of their tables."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest

from duramen.actors import AgentSystem
from duramen.projections import KeyedProjection, Projection
from duramen.projections.consumers import consumer as consumer_module
from duramen.projections.consumers import standby as standby_module
from duramen.projections.projection import KeyedView
from duramen.projections.sessions import erasing as erasing_module
from sinks import SqliteSeen
from takeover import bury_others
from waiting import eventually

OpenSystem = Callable[..., AgentSystem]
PATH, OTHER, THIRD = "acme/alice", "acme/bob", "acme/carol"
WAIT = 30.0
NEXT_OF_PATH = {PATH: [1, 2], OTHER: [1, 2], THIRD: [1, 2]}


@pytest.fixture(autouse=True)
def look_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(consumer_module, "_HEARTBEAT", 0.05)
    monkeypatch.setattr(standby_module, "_LOOK", 0.05)


class Counted:
    """Counts the events that it is given of one agent: more of them mean that a view was rebuilt."""

    def __init__(self) -> None:
        self.of_other = 0

    def count(self, event: Any) -> None:
        self.of_other += event.agent == OTHER


class Entries(Counted, KeyedProjection[list[int]]):
    def key(self, event: Any) -> str:
        return str(event.agent)

    def apply(self, entry: list[int] | None, event: Any) -> list[int]:
        self.count(event)
        return [*(entry or []), event.seq]

    def erase(self, entries: KeyedView[list[int]], agent: str) -> Iterable[str]:
        return [key for key in entries if key == agent]


class Rebuilt(Counted, Projection[dict[str, list[int]]]):
    """Has no `erase`."""

    def initial(self) -> dict[str, list[int]]:
        return {}

    def apply(self, state: dict[str, list[int]], event: Any) -> dict[str, list[int]]:
        self.count(event)
        return {**state, event.agent: [*state.get(event.agent, ()), event.seq]}


class Whole(Rebuilt):
    def erase(self, state: dict[str, list[int]], agent: str) -> dict[str, list[int]]:
        return {path: seqs for path, seqs in state.items() if path != agent}


class Failing(Whole):
    def erase(self, state: dict[str, list[int]], agent: str) -> dict[str, list[int]]:
        raise LookupError(agent)


class ErasingSink(SqliteSeen):
    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.erased: list[str] = []
        self.deadlocks = 0
        """How many of the next transactions that erase are rolled back."""

    def erase(self, name: str, agents: Sequence[str], *, after: bytes | None) -> None:
        self._check_reachable()
        if self.deadlocks:
            self.deadlocks -= 1
            raise RuntimeError("deadlock detected")
        with self.database:
            self.database.execute("BEGIN IMMEDIATE")
            if self.cursor(name) != after:
                raise self.fenced(name)
            self.database.executemany("DELETE FROM seen WHERE agent = ?", [(agent,) for agent in agents])
        self.erased += agents


def fill(system: AgentSystem, runner: Any, *, saved: bool = False) -> None:
    """Write two events of each agent, and wait until the view has all of them."""
    for path in (PATH, OTHER, THIRD):
        system.spawn(path).set("n", 1)
    runner.wait_for(timeout=WAIT, saved=saved)


def state_of(runner: Any) -> dict[str, list[int]]:
    return dict(runner.state)


@pytest.mark.parametrize("kind", [Entries, Whole])
def test_a_view_drops_what_it_has_of_an_erased_agent_and_is_not_rebuilt(open_any: OpenSystem, kind: Any) -> None:
    system, view = open_any(), kind()
    with system.attach(view, name="view") as runner:
        fill(system, runner)
        assert state_of(runner) == {PATH: [1, 2], OTHER: [1, 2], THIRD: [1, 2]}
        assert system.erase(PATH).rebuilt == ("view",)
        eventually(lambda: PATH not in state_of(runner), what="the view is corrected")
        runner.wait_for(system.spawn(PATH).set("n", 1), timeout=WAIT, saved=True)
        assert state_of(runner) == {PATH: [1, 2], OTHER: [1, 2], THIRD: [1, 2]}
        assert view.of_other == 2
        assert system.log.consumer_store().find("view").request is None, "nothing of it waits"
    again = kind()
    with system.attach(again, name="view") as runner:
        runner.wait_for(timeout=WAIT)
        assert (state_of(runner)[PATH], again.of_other) == ([1, 2], 0), "what was stored is corrected, too"


@pytest.mark.parametrize("kind", [Entries, Whole])
def test_what_was_erased_while_it_did_not_run_goes_when_it_does(open_any: OpenSystem, kind: Any) -> None:
    system = open_any()
    with system.attach(kind(), name="view") as runner:
        fill(system, runner, saved=True)
    system.erase(PATH)
    system.erase(THIRD)
    receipt = system.spawn(PATH).set("n", 1)
    view = kind()
    with system.attach(view, name="view") as runner:
        runner.wait_for(receipt, timeout=WAIT)
        eventually(lambda: state_of(runner) == {PATH: [1, 2], OTHER: [1, 2]}, what="both are gone")
        assert view.of_other == 0


@pytest.mark.parametrize("kind", [Entries, Whole])
def test_a_view_that_has_the_next_agent_of_the_path_already_is_rebuilt(
    open_any: OpenSystem, kind: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    system, view, asked = open_any(), kind(), list[Any]()
    ask = erasing_module.request_erasures
    with system.attach(view, name="view") as runner:
        fill(system, runner)
        monkeypatch.setattr(erasing_module, "request_erasures", lambda *given: asked.append(given) or ([], []))
        system.erase(PATH)
        runner.wait_for(system.spawn(PATH).set("n", 1), timeout=WAIT)
        assert state_of(runner)[PATH] == [1, 2, 1, 2], "of two agents"
        ask(*asked[0])
        eventually(lambda: state_of(runner) == {PATH: [1, 2], OTHER: [1, 2], THIRD: [1, 2]}, what="it is rebuilt")
        assert view.of_other == 4


def test_a_view_whose_erase_raises_is_rebuilt(open_any: OpenSystem) -> None:
    system = open_any()
    with system.attach(Failing(), name="view") as runner:
        fill(system, runner)
        system.erase(PATH)
        eventually(lambda: state_of(runner) == {OTHER: [1, 2], THIRD: [1, 2]}, what="it is rebuilt")


def test_a_sink_erases_in_a_transaction_of_its_own_as_soon_as_its_database_can_be_reached(
    open_any: OpenSystem, tmp_path: Path
) -> None:
    system, sink = open_any(), ErasingSink(str(tmp_path / "seen.db"))
    with system.attach(sink, name="rows") as runner:
        fill(system, runner)
        sink.reachable = False
        erasure = system.erase(PATH)
        assert any("rows" in what and "erase()" in what for what in erasure.unreached)
        assert sink.erased == [] and PATH in sink.rows()
        sink.reachable = True
        eventually(lambda: PATH not in sink.rows(), what="the rows are gone")
        runner.wait_for(system.spawn(PATH).set("n", 1), timeout=WAIT)
        assert sink.rows() == {PATH: [1, 2], OTHER: [1, 2], THIRD: [1, 2]}
        assert sink.erased == [PATH]
    sink.close()


@pytest.mark.parametrize("deadlocks", [1, 4], ids=["tried again at once", "tried again later"])
def test_a_sink_that_failed_to_erase_is_asked_again_until_it_has(
    open_any: OpenSystem, tmp_path: Path, deadlocks: int
) -> None:
    system, sink = open_any(), ErasingSink(str(tmp_path / "seen.db"))
    with system.attach(sink, name="rows") as runner:
        fill(system, runner)
        sink.deadlocks = deadlocks
        system.erase(PATH)
        eventually(lambda: PATH not in sink.rows(), what="the rows are gone")
        eventually(lambda: system.log.consumer_store().find("rows").request is None, what="nothing waits")
        runner.wait_for(system.spawn(PATH).set("n", 1), timeout=WAIT)
        assert sink.rows() == {PATH: [1, 2], OTHER: [1, 2], THIRD: [1, 2]}
        assert (sink.deadlocks, sink.erased) == (0, [PATH])
    sink.close()


def test_a_sink_with_rows_of_the_next_agent_of_the_path_keeps_those_and_drops_others(
    open_any: OpenSystem, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    system, sink, asked = open_any(), ErasingSink(str(tmp_path / "seen.db")), list[Any]()
    ask = erasing_module.request_erasures
    with system.attach(sink, name="rows") as runner:
        fill(system, runner)
        monkeypatch.setattr(erasing_module, "request_erasures", lambda *given: asked.append(given) or ([], []))
        system.erase(PATH)
        system.erase(THIRD)
        runner.wait_for(system.spawn(PATH).set("n", 1), timeout=WAIT)
        for given in asked:
            ask(*given)
        eventually(lambda: THIRD not in sink.rows(), what="the rows of the other one are gone")
        eventually(lambda: system.log.consumer_store().find("rows").request is None, what="nothing waits")
        assert sink.rows() == {PATH: [1, 2, 1, 2], OTHER: [1, 2]}
        assert f"agents=['{PATH}']" in caplog.text and "erase_skipped" in caplog.text
    sink.close()


def test_a_sink_without_erase_keeps_its_rows_and_is_named(open_any: OpenSystem, tmp_path: Path) -> None:
    system, sink = open_any(), SqliteSeen(str(tmp_path / "seen.db"))
    with system.attach(sink, name="rows") as runner:
        fill(system, runner)
        assert any("rows" in what for what in system.erase(PATH).unreached)
        eventually(lambda: system.log.consumer_store().find("rows").request is None, what="it was asked")
        runner.wait_for(system.agent(OTHER).set("n", 2), timeout=WAIT)
        assert sink.rows() == {PATH: [1, 2], OTHER: [1, 2, 3], THIRD: [1, 2]}
    sink.close()


# -- several hosts -----------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("kind", [Entries, Whole, Rebuilt])
def test_who_stands_by_reads_nothing_of_an_erased_agent(open_any: OpenSystem, kind: Any) -> None:
    one, two = open_any(), open_any()
    first = one.attach(kind(), name="view", standby=True)
    fill(one, first, saved=True)
    second = two.attach(kind(), name="view", standby=True)
    assert (second.status, sorted(state_of(second))) == ("standby", [PATH, OTHER, THIRD])
    assert two.erase(PATH).rebuilt == ("view",)
    eventually(lambda: PATH not in state_of(second), what="the stored view is corrected")
    second.wait_for(two.spawn(PATH).set("n", 1), timeout=WAIT)
    assert state_of(second) == {PATH: [1, 2], OTHER: [1, 2], THIRD: [1, 2]}
    eventually(lambda: (first.status, second.status) == ("live", "standby"))


@pytest.mark.slow
@pytest.mark.parametrize("kind", [Entries, Whole, Rebuilt])
@pytest.mark.parametrize("ends", ["before", "after"])
def test_who_takes_over_carries_out_what_was_left(
    open_any: OpenSystem, kind: Any, ends: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = open_any(), open_any()
    first, held = one.attach(kind(), name="view", standby=True), threading.Event()
    fill(two, first, saved=True)
    view = kind()
    second = two.attach(view, name="view", standby=True)
    if ends == "before":
        first.close()
        two.erase(PATH)
    else:
        entered = threading.Event()

        def hang(moved: Any, *, urgent: bool) -> bool:
            entered.set()
            held.wait(WAIT)
            return False

        monkeypatch.setattr(first._consumer._running, "turn", hang)
        two.spawn("acme/dave")  # brings it here
        assert entered.wait(WAIT)
        two.erase(PATH)
        bury_others(two)
    eventually(lambda: second.status == "live" and PATH not in state_of(second), what="taken over, and corrected")
    held.set()
    second.wait_for(two.spawn(PATH).set("n", 1), timeout=WAIT, saved=True)
    dave = {"acme/dave": [1]} if ends == "after" else {}
    assert state_of(second) == {PATH: [1, 2], OTHER: [1, 2], THIRD: [1, 2], **dave}
    assert view.of_other == (2 if kind is Rebuilt else 0), "what was stored is not applied again, but for a rebuild"
    eventually(lambda: two.log.consumer_store().find("view").request is None, what="nothing waits")


@pytest.mark.slow
def test_a_sink_is_told_once_whoever_has_it(open_any: OpenSystem, tmp_path: Path) -> None:
    one, two = open_any(), open_any()
    sinks = [ErasingSink(str(tmp_path / "seen.db")) for _ in range(2)]
    first = one.attach(sinks[0], name="sink", standby=True)
    fill(two, first, saved=True)
    second = two.attach(sinks[1], name="sink", standby=True)
    two.erase(PATH)
    eventually(lambda: sinks[0].erased == [PATH], what="told to the one that runs")
    eventually(lambda: two.log.consumer_store().find("sink").request is None, what="nothing waits")
    first.close()
    two.erase(OTHER)
    eventually(lambda: sinks[1].erased == [OTHER], what="told to the one that has taken over")
    second.wait_for(two.agent(THIRD).set("n", 2), timeout=WAIT, saved=True)
    assert (sinks[0].erased, sinks[1].erased) == ([PATH], [OTHER])
    second.close()
    for sink in sinks:
        sink.close()


def test_one_that_takes_over_in_the_midst_of_an_erasure_erases_itself(
    open_any: OpenSystem, gate: threading.Event
) -> None:
    entered = threading.Event()

    class Held(Whole):
        def erase(self, state: dict[str, list[int]], agent: str) -> dict[str, list[int]]:
            entered.set()
            assert gate.wait(60)
            return super().erase(state, agent)

    one, two, view = open_any(), open_any(), Whole()
    first = one.attach(Held(), "view", standby=True)
    fill(one, first, saved=True)
    second = two.attach(view, "view", standby=True)
    two.erase(PATH)
    assert entered.wait(60)
    assert PATH in state_of(second), "nothing of it is stored"
    bury_others(two)
    eventually(lambda: PATH not in state_of(second), what="the next one has erased")
    eventually(lambda: two.log.consumer_store().find("view").request is None, what="nothing waits")
    assert (second.status, view.of_other) == ("live", 0)
    gate.set()
    eventually(lambda: first.status == "standby", what="what the first one has erased is not stored")
    receipt = two.spawn(PATH).set("n", 1)
    for runner in (second, first):
        runner.wait_for(receipt, timeout=WAIT, saved=True)
        assert state_of(runner) == NEXT_OF_PATH


@pytest.mark.slow
@pytest.mark.parametrize("is_buried", [False, True], ids=["closed", "buried alive"])
def test_a_sink_that_could_not_erase_does_so_once_where_it_is_taken_over(
    open_any: OpenSystem, tmp_path: Path, is_buried: bool
) -> None:
    one, two = open_any(), open_any()
    sinks = [ErasingSink(str(tmp_path / "seen.db")) for _ in range(2)]
    first = one.attach(sinks[0], "rows", standby=True)
    fill(one, first, saved=True)
    second = two.attach(sinks[1], "rows", standby=True)
    sinks[0].deadlocks = many = 1_000_000
    two.erase(PATH)
    eventually(lambda: sinks[0].deadlocks < many, what="it was asked to")
    assert PATH in sinks[1].rows()
    if is_buried:
        bury_others(two)
    else:
        first.close()
    eventually(lambda: PATH not in sinks[1].rows(), what="the rows are gone")
    eventually(lambda: two.log.consumer_store().find("rows").request is None, what="nothing waits")
    second.wait_for(two.spawn(PATH).set("n", 1), timeout=WAIT, saved=True)
    assert sinks[1].rows() == NEXT_OF_PATH
    assert [sink.erased for sink in sinks] == [[], [PATH]]
    for runner in (first, second):
        runner.close()
    for sink in sinks:
        sink.close()
