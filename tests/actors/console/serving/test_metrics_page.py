"""The page `/metrics`: what Prometheus reads is what has happened."""

from __future__ import annotations

import importlib
import threading
from collections.abc import Callable
from typing import Any

import pytest

from duramen.actors import Agent, AgentSystem
from duramen.actors.console.serving.metrics_page import metrics_page
from duramen.events import Fenced
from duramen.projections import Projection
from metrics import parse_metrics
from takeover import give_up
from waiting import eventually

OpenSystem = Callable[..., AgentSystem]
PATH = "acme/alice"


def read(system: AgentSystem) -> dict[str, float]:
    return dict(parse_metrics(metrics_page(is_ready=True, load=system.load(), lags=system.consumers.lags())))


def test_batches_are_counted_by_their_size_and_by_their_time(open_any: OpenSystem) -> None:
    system = open_any()
    agent = system.spawn(PATH)
    for number in range(10):
        agent.set("n", number)
    found = read(system)
    assert found["duramen_append_batch_size_count"] == found["duramen_append_batches_total"] == 11
    assert found["duramen_append_batch_size_sum"] == found["duramen_appends_total"] == 11
    assert found['duramen_append_batch_size_bucket{le="1"}'] == 11
    assert found["duramen_commit_seconds_count"] == found['duramen_commit_seconds_bucket{le="+Inf"}'] == 11
    assert 0 < found["duramen_commit_seconds_sum"] < 60


def test_appends_that_are_sent_together_are_one_batch_of_their_number(open_any: OpenSystem) -> None:
    system = open_any(partitions=1)
    for number in range(100):
        system.spawn(f"acme/a{number}")
    before = read(system)
    gathered = threading.Event()
    system._services.dispatcher.post(lambda: gathered.wait(10))  # the core is busy meanwhile
    for number in range(100):
        system.agent(f"acme/a{number}").tell("no message of ours")
    replies = [system.agent(f"acme/a{number}").ask(_set(number), block=False) for number in range(100)]
    gathered.set()
    for reply in replies:
        reply.get(timeout=10)
    after = read(system)
    batches = after["duramen_append_batches_total"] - before["duramen_append_batches_total"]
    assert batches < after["duramen_appends_total"] - before["duramen_appends_total"]
    assert after['duramen_append_batch_size_bucket{le="1"}'] < after["duramen_append_batch_size_count"]


def _set(number: int) -> Any:
    from duramen.actors import Set

    return Set("n", number)


def test_recoveries_forwards_and_fences_are_counted_where_they_happen(
    open_any: OpenSystem, gate: threading.Event
) -> None:
    entered = threading.Event()

    class Slow(Agent):
        def on_receive(self, message: Any) -> None:
            entered.set()
            gate.wait()
            self.set("n", message)

    first, second = open_any(agents={"slow": Slow}), open_any(agents={"slow": Slow})
    first.spawn(PATH, agent_type="slow")
    second.agent(PATH).set("m", 1)
    assert read(second)["duramen_forwards_total"] == read(first)["duramen_forwards_taken_total"] == 1
    assert read(second)["duramen_recoveries_total"] == 0
    reply = first.agent(PATH).ask(1, block=False)
    assert entered.wait(10)
    give_up(first, PATH)
    third = open_any(agents={"slow": Slow})
    third.agent(PATH).set("l", 1)
    gate.set()
    with pytest.raises(Fenced):
        reply.get(timeout=10)
    assert read(first)["duramen_fences_total"] == 1
    assert [read(system)["duramen_recoveries_total"] for system in (first, second, third)] == [0, 0, 1]
    assert [read(system)["duramen_fences_total"] for system in (first, second, third)] == [1, 0, 0]


def test_the_lag_of_a_consumer_that_hangs_grows(open_any: OpenSystem, gate: threading.Event) -> None:
    system = open_any()

    class Stuck(Projection[int]):
        version = 1

        def initial(self) -> int:
            return 0

        def apply(self, state: int, event: Any) -> int:
            gate.wait()
            return state + 1

    system.attach(Stuck(), "stuck")
    agent = system.spawn(PATH)
    agent.set("n", 1)
    assert read(system)['duramen_consumer_lag{consumer="stuck"}'] == 2
    gate.set()
    eventually(lambda: read(system)['duramen_consumer_lag{consumer="stuck"}'] == 0)


def test_a_late_beat_is_counted(open_system: OpenSystem, monkeypatch: pytest.MonkeyPatch) -> None:
    system = open_system()
    membership = system._hosted.hosting.membership
    membership.beat()
    assert read(system)["duramen_late_beats_total"] == 0
    now = membership._clock()
    monkeypatch.setattr(membership, "_clock", lambda: now + 5.1)
    membership.beat()
    assert read(system)["duramen_late_beats_total"] == 1


def test_what_somebody_else_publishes_to_the_host_is_counted(open_any: OpenSystem) -> None:
    system = open_any()
    system.log.hosts.publish(system.host, b"\x93 no frame of any host")
    eventually(lambda: read(system)["duramen_frames_refused_total"] == 1)


def test_prometheus_own_parser_reads_the_same(system: AgentSystem) -> None:
    system.spawn(PATH).set("n", 1)
    page = metrics_page(is_ready=True, load=system.load(), lags={"view-1": 3})
    parser = importlib.import_module("prometheus_client.parser")
    theirs: dict[str, float] = {}
    for family in parser.text_string_to_metric_families(page):
        for sample in family.samples:
            labels = "".join(f'{{{name}="{value}"}}' for name, value in sample.labels.items())
            theirs[sample.name + labels] = sample.value
    ours = dict(parse_metrics(page))
    assert {name.replace("+Inf", "inf") for name in theirs} == {name.replace("+Inf", "inf") for name in ours}
    assert ours['duramen_consumer_lag{consumer="view-1"}'] == 3


def test_a_system_that_is_not_open_yet_is_not_ready_and_has_no_counts() -> None:
    assert dict(parse_metrics(metrics_page(is_ready=False, load=None, lags={}))) == {"duramen_ready": 0}
