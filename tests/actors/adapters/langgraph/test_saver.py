"""What LangGraph's suite does not ask: graphs, what is stored, ids of any kind, large values, several processes."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from operator import add
from pathlib import Path
from typing import Annotated, Any, TypedDict
from uuid import uuid4

import pytest
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import empty_checkpoint
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.types import Command, interrupt

from duramen import AgentSystem
from duramen.actors.api import AgentHandle
from duramen.adapters.langgraph import DuramenSaver
from duramen.events import AgentExists, AgentNotFound, AgentPaused, CheckpointNotFound
from waiting import eventually

SAID = "a question of some length, as people ask them. " * 5


def conversation(saver: Any) -> Any:
    """A graph that answers each message with one."""
    builder = StateGraph(MessagesState)
    builder.add_node("answer", lambda state: {"messages": [AIMessage(SAID, id=f"a{len(state['messages'])}")]})
    builder.add_edge(START, "answer")
    builder.add_edge("answer", END)
    return builder.compile(checkpointer=saver)


def say(graph: Any, config: RunnableConfig, number: int) -> None:
    graph.invoke({"messages": [HumanMessage(SAID, id=f"h{number}")]}, config)


def on_thread(thread_id: str) -> RunnableConfig:
    return {"configurable": {"thread_id": thread_id, "checkpoint_ns": ""}}


def bytes_in_log(system: AgentSystem, path: str) -> int:
    """The bytes of all events of an agent, as stored."""
    head = system.log.head(path)
    assert head is not None
    total, seq = 0, 1
    while seq <= head.seq:
        page = system.log.read(path, seq, 1_000)
        assert page is not None
        total += sum(map(len, page.items))
        seq += len(page.items)
    return total


# -- what is stored ----------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_long_conversation_stores_little_more_than_what_was_said() -> None:
    with AgentSystem.open("memory://") as system:
        saver = DuramenSaver(system)
        graph, config = conversation(saver), on_thread("t-1")
        for number in range(100):
            say(graph, config, number)
        assert len(graph.get_state(config).values["messages"]) == 200
        steps = sum(1 for _ in saver.list(config))
        assert bytes_in_log(system, saver.path("t-1").text) / steps < 3_000  # the messages alone would take 20,000


def test_a_step_is_one_event(system: AgentSystem) -> None:
    saver, config = DuramenSaver(system), on_thread("t-1")
    stored = saver.put(
        config, {**empty_checkpoint(), "channel_values": {"a": [1], "b": ["x"]}}, {}, {"a": "1", "b": "1"}
    )
    before = system.agent(saver.path("t-1")).status().seq
    saver.put(stored, {**empty_checkpoint(), "channel_values": {"a": [2], "b": ["x", "y"]}}, {}, {"a": "2", "b": "2"})
    assert system.agent(saver.path("t-1")).status().seq == before + 1


@pytest.mark.slow
def test_a_value_of_twenty_megabytes_comes_back(system: AgentSystem) -> None:
    saver, config = DuramenSaver(system), on_thread("t-1")
    large = {"text": "x" * 20_000_000, "list": ["y" * 100] * 1_000}
    checkpoint = {
        **empty_checkpoint(),
        "channel_values": large,
        "channel_versions": {"text": "1", "list": "1"},
    }
    stored = saver.put(config, checkpoint, {}, {"text": "1", "list": "1"})
    other = DuramenSaver(system)
    found = other.get_tuple(stored)
    assert found is not None
    assert found.checkpoint["channel_values"] == large


# -- lists -------------------------------------------------------------------------------------------------------------

LISTS = [["a"], ["a", "b"], ["a", "b", "c"], ["a", "x"], ["a", "x", None], [], ["q"], ["q", b"r"], ["q", "r"], [1, 2]]


def test_a_list_reads_as_it_was_at_every_version_however_it_changed(system: AgentSystem) -> None:
    saver, config = DuramenSaver(system), on_thread("t-1")
    version, stored = None, []
    for value in LISTS:
        version = saver.get_next_version(version, None)
        checkpoint = {**empty_checkpoint(), "channel_values": {"l": value}, "channel_versions": {"l": version}}
        config = saver.put(config, checkpoint, {}, {"l": version})
        stored.append(config)
    for reader in (saver, DuramenSaver(system)):
        found = [reader.get_tuple(each).checkpoint["channel_values"]["l"] for each in stored]
        assert found == LISTS


def test_a_list_whose_beginning_is_gone_is_refused_and_not_read_in_part() -> None:
    with AgentSystem.open("memory://") as system:
        saver, config = DuramenSaver(system), on_thread("t-1")
        for version, value in (("1", ["a"]), ("2", ["a", "b"])):
            checkpoint = {**empty_checkpoint(), "channel_values": {"l": value}, "channel_versions": {"l": version}}
            config = saver.put(config, checkpoint, {}, {"l": version})
        system.agent(saver.path("t-1")).merge("live", {"": {"blobs": {"l": {"1": None}}}})
        with pytest.raises(CheckpointNotFound, match="'l' is gone: version '1'"):
            saver.get_tuple(config)


# -- graphs ------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_graph_goes_back_to_an_old_checkpoint_and_on_from_there(system: AgentSystem) -> None:
    saver = DuramenSaver(system)
    graph, config = conversation(saver), on_thread("t-1")
    for number in range(3):
        say(graph, config, number)
    past = [state for state in graph.get_state_history(config) if not state.next]
    assert [len(state.values["messages"]) for state in past] == [6, 4, 2]
    say(graph, past[2].config, 9)
    assert [message.id for message in graph.get_state(config).values["messages"]] == ["h0", "a1", "h9", "a3"]
    assert [message.id for message in graph.get_state(past[0].config).values["messages"]][-2:] == ["h2", "a5"]


def test_a_graph_that_waits_for_a_person_goes_on_with_the_answer(system: AgentSystem) -> None:
    def ask(state: dict[str, Any]) -> dict[str, Any]:
        return {"log": [interrupt("may I?")]}

    class State(TypedDict):
        log: Annotated[list[str], add]

    builder = StateGraph(State)
    builder.add_node("ask", ask)
    builder.add_edge(START, "ask")
    config = on_thread("t-1")
    asked = builder.compile(checkpointer=DuramenSaver(system)).invoke({"log": ["begun"]}, config)
    assert asked["__interrupt__"][0].value == "may I?"
    done = builder.compile(checkpointer=DuramenSaver(system)).invoke(Command(resume="yes"), config)
    assert done == {"log": ["begun", "yes"]}


def pending(found: Any) -> Any:
    return None if found is None else found.pending_writes


def test_a_finished_node_does_not_run_again_when_one_beside_it_has_failed(system: AgentSystem) -> None:
    ran: list[str] = []

    class State(TypedDict):
        log: Annotated[list[str], add]

    def fails_once(state: State) -> dict[str, Any]:
        ran.append("b")
        if ran.count("b") == 1:
            eventually(lambda: pending(saver.get_tuple(config)), what="what the other node wrote")
            raise RuntimeError("not yet")
        return {"log": ["b"]}

    def works(state: State) -> dict[str, Any]:
        ran.append("a")
        return {"log": ["a"]}

    builder = StateGraph(State)
    builder.add_node("a", works)
    builder.add_node("b", fails_once)
    builder.add_edge(START, "a")
    builder.add_edge(START, "b")
    config, saver = on_thread("t-1"), DuramenSaver(system)
    with pytest.raises(RuntimeError, match="not yet"):
        builder.compile(checkpointer=saver).invoke({"log": []}, config, durability="sync")
    done = builder.compile(checkpointer=DuramenSaver(system)).invoke(None, config)
    assert (done["log"], ran.count("a"), ran.count("b")) == (["a", "b"], 1, 2)


@pytest.mark.slow
def test_a_graph_runs_on_asyncio_and_gives_what_the_saver_in_memory_gives(system: AgentSystem) -> None:
    async def told(saver: Any) -> list[tuple[Any, int]]:
        graph, config = conversation(saver), on_thread("t-1")
        for number in range(3):
            await graph.ainvoke({"messages": [HumanMessage(SAID, id=f"h{number}")]}, config)
        states = [state async for state in graph.aget_state_history(config)]
        return [(state.metadata, len(state.values.get("messages", []))) for state in states]

    assert asyncio.run(told(DuramenSaver(system))) == asyncio.run(told(InMemorySaver()))


@pytest.mark.slow
def test_a_finished_node_never_runs_again_however_often_the_one_beside_it_is_killed(tmp_path: Path) -> None:
    deaths, runs = 2, tmp_path / "runs"
    program = Path(__file__).with_name("graph_process.py")
    line = [sys.executable, str(program), str(tmp_path / "data"), str(runs), str(deaths)]
    environ = {**os.environ, "PYTHONPATH": str(program.parents[3])}
    ended = [subprocess.run(line, env=environ, capture_output=True, text=True, timeout=60) for _ in range(deaths + 1)]
    assert [done.returncode for done in ended] == [-signal.SIGKILL] * deaths + [0], ended[-1].stderr
    assert runs.read_text().split().count("quick") == 1
    assert runs.read_text().split().count("slow") == deaths + 1
    assert ended[-1].stdout == "quick,slow\n"


# -- threads -----------------------------------------------------------------------------------------------------------

IDS = [
    "plain",
    "user:42@example.org/α β",
    "_",
    "x__",
    "x_5F",
    "-",
    "",
    "..",
    "h__",
    "日本語" * 100,
    "a" * 129,
    "sha256:x",
    "sha256:",
]


def test_threads_of_any_id_are_kept_apart_and_listed_by_their_ids(system: AgentSystem) -> None:
    saver = DuramenSaver(system)
    for thread_id in IDS:
        saver.put(on_thread(thread_id), empty_checkpoint(), {"run_id": thread_id}, {})
    assert {saver.get_tuple(on_thread(each)).metadata["run_id"] for each in IDS} == set(IDS)
    listed = {found.config["configurable"]["thread_id"] for found in saver.list(None)}
    assert listed == set(IDS)
    assert len(list(saver.list(None, limit=3))) == 3


@pytest.mark.slow
def test_conversations_that_go_from_process_to_process_lose_and_double_nothing(redis_url: str) -> None:
    namespace = f"workers-{uuid4().hex[:12]}"
    with ExitStack() as stack:
        workers = [stack.enter_context(AgentSystem.open(redis_url, namespace=namespace)) for _ in range(4)]
        graphs = [conversation(DuramenSaver(worker)) for worker in workers]

        def talk(number: int) -> list[str]:
            chance = random.Random(number)
            for turn in range(5):
                say(chance.choice(graphs), on_thread(f"t-{number}"), turn)
            return [each.id for each in chance.choice(graphs).get_state(on_thread(f"t-{number}")).values["messages"]]

        with ThreadPoolExecutor(8) as pool:
            said = list(pool.map(talk, range(8)))
    assert said == [["h0", "a1", "h1", "a3", "h2", "a5", "h3", "a7", "h4", "a9"]] * 8


def test_a_deleted_thread_is_erased_and_begins_anew(system: AgentSystem) -> None:
    saver, config = DuramenSaver(system), on_thread("t-1")
    graph = conversation(saver)
    say(graph, config, 0)
    saver.delete_thread("t-1")
    saver.delete_thread("t-1")
    assert system.log.head(saver.path("t-1").text) is None
    assert saver.get_tuple(config) is None
    say(graph, config, 1)
    assert [message.id for message in graph.get_state(config).values["messages"]] == ["h1", "a1"]


@pytest.mark.slow
def test_a_thread_that_another_process_has_deleted_begins_anew(redis_url: str) -> None:
    namespace = f"deleted-{uuid4().hex[:12]}"
    with ExitStack() as stack:
        one, two = (stack.enter_context(AgentSystem.open(redis_url, namespace=namespace)) for _ in range(2))
        config, graph = on_thread("t-1"), conversation(DuramenSaver(one))
        say(graph, config, 0)
        DuramenSaver(two).delete_thread("t-1")
        say(graph, config, 1)
        assert [message.id for message in graph.get_state(config).values["messages"]] == ["h1", "a1"]


def test_a_copy_goes_its_own_way(system: AgentSystem) -> None:
    saver = DuramenSaver(system)
    graph = conversation(saver)
    say(graph, on_thread("t-1"), 0)
    saver.copy_thread("t-1", "t-2")
    say(graph, on_thread("t-2"), 1)
    lengths = [len(graph.get_state(on_thread(each)).values["messages"]) for each in ("t-1", "t-2")]
    assert lengths == [2, 4]
    with pytest.raises(AgentExists):
        saver.copy_thread("t-1", "t-2")
    with pytest.raises(AgentNotFound):
        saver.copy_thread("nobody", "t-3")


@pytest.mark.slow
def test_a_paused_thread_refuses_steps_until_it_is_resumed(system: AgentSystem) -> None:
    saver, config = DuramenSaver(system), on_thread("t-1")
    graph = conversation(saver)
    say(graph, config, 0)
    thread: AgentHandle = system.agent(saver.path("t-1"))
    thread.pause()
    with pytest.raises(AgentPaused):
        say(graph, config, 1)
    thread.resume()
    say(graph, config, 2)
    assert len(graph.get_state(config).values["messages"]) == 4


@pytest.mark.slow
def test_pruning_leaves_the_latest_checkpoint_whole(system: AgentSystem) -> None:
    saver, config = DuramenSaver(system), on_thread("t-1")
    graph = conversation(saver)
    for number in range(3):
        say(graph, config, number)
    saver.prune(["t-1"])
    assert len(list(saver.list(config))) == 1
    assert len(DuramenSaver(system).get_tuple(config).checkpoint["channel_values"]["messages"]) == 6
    say(graph, config, 3)
    assert len(DuramenSaver(system).get_tuple(config).checkpoint["channel_values"]["messages"]) == 8


# -- writing without reading -------------------------------------------------------------------------------------------


def step(saver: DuramenSaver, config: RunnableConfig, items: list[str], version: str) -> RunnableConfig:
    """Put a checkpoint with a list, after what its task has written at the checkpoint before."""
    if "checkpoint_id" in config["configurable"]:
        saver.put_writes(config, [("l", items[-1])], f"task-{version}")
    checkpoint = {**empty_checkpoint(), "channel_values": {"l": items}, "channel_versions": {"l": version}}
    return saver.put(config, checkpoint, {}, {"l": version})


def appends_of(system: AgentSystem) -> int:
    """Exchanges with the log so far: events that were appended, and reads that were confirmed."""
    return system.load().appends_total


def test_a_step_reads_nothing_unless_somebody_else_has_written(system: AgentSystem) -> None:
    saver, items = DuramenSaver(system), [f"item-{number}" for number in range(20)]
    assert saver.get_tuple(on_thread("t-1")) is None
    before = appends_of(system)
    config = step(saver, on_thread("t-1"), items[:1], "01")
    for number in range(2, 11):
        config = step(saver, config, items[:number], f"{number:02}")
    assert appends_of(system) - before == 1 + 2 * 9
    assert system.agent(saver.path("t-1")).status().seq == 1 + 2 * 9
    other, before = DuramenSaver(system), appends_of(system)
    config = step(other, config, items[:11], "11")
    config = step(saver, config, items[:12], "12")
    assert appends_of(system) - before > 2 * 2, "control: both have looked"
    found = DuramenSaver(system).get_tuple(config)
    assert found is not None and found.checkpoint["channel_values"]["l"] == items[:12]
    assert len(list(saver.list(on_thread("t-1")))) == 12


def test_writes_that_come_before_their_checkpoint_are_there_with_it(system: AgentSystem) -> None:
    saver = DuramenSaver(system)
    config = step(saver, on_thread("t-1"), ["a"], "1")
    checkpoint, before = {**empty_checkpoint(), "channel_values": {}, "channel_versions": {}}, appends_of(system)
    later: RunnableConfig = {"configurable": {**config["configurable"], "checkpoint_id": checkpoint["id"]}}
    saver.put_writes(later, [("l", "b")], "task")
    saver.put(config, checkpoint, {}, {})
    assert appends_of(system) - before == 2
    saver.put_writes(later, [("l", "other")], "task")
    found = DuramenSaver(system).get_tuple(later)
    assert pending(found) == [("task", "l", "b")]


def test_writes_side_by_side_are_all_kept(system: AgentSystem) -> None:
    saver = DuramenSaver(system)
    config = step(saver, on_thread("t-1"), ["a"], "1")
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: saver.put_writes(config, [("l", number)], f"task-{number:02}"), range(24)))
    assert [value for _, _, value in pending(saver.get_tuple(config))] == list(range(24))
    config = step(saver, config, ["a", "b"], "2")
    assert len(list(saver.list(on_thread("t-1")))) == 2


def test_a_step_that_was_refused_is_not_taken_for_stored(system: AgentSystem) -> None:
    saver = DuramenSaver(system)
    config = step(saver, on_thread("t-1"), ["a"], "1")
    thread = system.agent(saver.path("t-1"))
    thread.pause()
    with pytest.raises(AgentPaused):
        saver.put_writes(config, [("l", "b")], "task")
    thread.resume()
    saver.put_writes(config, [("l", "b")], "task")
    assert pending(DuramenSaver(system).get_tuple(config)) == [("task", "l", "b")]


def test_what_another_saver_has_written_is_seen_when_a_thread_is_loaded(system: AgentSystem) -> None:
    one, other = DuramenSaver(system), DuramenSaver(system)
    config = step(one, on_thread("t-1"), ["a"], "1")
    assert other.get_tuple(on_thread("t-1")) is not None
    config = step(other, config, ["a", "b"], "2")
    found = one.get_tuple(on_thread("t-1"))
    assert found is not None and found.config["configurable"] == config["configurable"]
    before = appends_of(system)
    step(one, found.config, ["a", "b", "c"], "3")
    assert appends_of(system) - before == 2 + 2, "two looks and two writes, of which none was refused"
