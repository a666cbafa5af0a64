"""What the inspector answers: the same as the library, as JSON that loses no type, bounded."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

import pytest
from attrs import frozen

from duramen.actors import Agent, AgentSystem
from duramen.actors.inspector.agent_query import Query
from duramen.actors.inspector.agents import AgentList
from duramen.actors.inspector.static.recording import record
from duramen.events import Event, Granularity, message_type
from duramen.projections import Projection
from inspecting import Asker, inspecting, live_messages
from reading_pages import read_node, state_in
from waiting import eventually

PATH = "acme/alice"
ODD: dict[str, Any] = {
    "large": 2**63,
    "small": -(2**53) - 1,
    "zero": -0.0,
    "three": 3.0,
    "int": 3,
    "bytes": b"\x00\xff",
    "time": datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC),
    "infinite": float("inf"),
    "yes": True,
    "none": None,
    "text": "a <b>\u202e",
    "deep": [{"a": [[]]}, {}],
}


@message_type("inspected_wish", durable=True)
@frozen
class Wish:
    what: str


class Patient(Agent):
    async def on_receive(self, message: Any) -> Any:
        return await self.wait_for("fulfilment", about=message.what)


@pytest.fixture(scope="module")
def refusing() -> Iterator[Asker]:
    """Asks an inspector with actions what is refused, and so changes nothing: the same for all tests here."""
    with AgentSystem.open("memory://") as system, inspecting(system, allow_actions=True) as asker:
        system.spawn(PATH)
        yield asker


def segments(*path: str) -> str:
    return quote(json.dumps(path))


def test_types_that_json_loses_come_through(system: AgentSystem, asker: Asker) -> None:
    system.spawn(PATH, initial_state=ODD)
    node = asker.ask(f"/api/window?agent={PATH}")["events"][0]["writes"]
    read = {path[0]: read_node(value) for path, value, *_ in node}
    assert {key: (type(value), repr(value)) for key, value in read.items()} == {
        key: (type(value), repr(value)) for key, value in ODD.items()
    }


def test_a_window_leads_to_the_state_at_each_seq(system: AgentSystem, asker: Asker) -> None:
    alice = system.spawn(PATH, initial_state={"plan": {"steps": ["read"]}, "n": 1})
    alice.append("plan/steps", "write")
    alice.set("plan/steps/0", {"title": "look"})
    alice.merge("plan", {"owner": "kim", "steps": None, "x": {"y": [1, 2]}})
    alice.record("note", {"text": "hello"}, level=Granularity.ACTIVITY)
    alice.pause(checkpoint_id="c")
    alice.resume()
    alice.delete("plan/x/y/0")
    alice.delete("plan")
    alice.set("n", 2)
    alice.resume("c", clear_current=True)
    last = system.peek(PATH).seq
    window = asker.ask(f"/api/window?agent={PATH}&seq={last}")
    assert [event["seq"] for event in window["events"]] == list(range(1, last + 1))
    for seq in range(last + 1):
        memory, setters = state_in(window, seq)
        assert memory == system.state_at(PATH, seq).memory.plain(), seq
        if memory:
            for path, leaf in system.blame(PATH, "", seq).leaves.items():
                held: Any = setters
                for segment in path.split("/"):
                    held = held[int(segment)] if isinstance(held, list) else held[segment]
                assert held == leaf.seq, (seq, path)


@pytest.mark.slow
def test_windows_of_a_long_log_begin_where_the_last_ended(system: AgentSystem, asker: Asker) -> None:
    alice = system.spawn(PATH)
    for turn in range(5):
        with alice.batch() as batch:
            for number in range(100):
                batch.set(f"k{number % 7}/n", turn * 100 + number)
    seqs = [asker.ask(f"/api/window?agent={PATH}&seq={seq}") for seq in (1, 200, 201, 402, 501)]
    assert [(window["from"], window["to"]) for window in seqs] == [
        (0, 200),
        (0, 200),
        (200, 400),
        (400, 501),
        (400, 501),
    ]
    for window in seqs:
        assert state_in(window, window["to"])[0] == system.state_at(PATH, window["to"]).memory.plain()


@pytest.mark.slow
def test_bounds_hold_for_large_values(system: AgentSystem, asker: Asker) -> None:
    alice = system.spawn(PATH)
    alice.merge("many", {f"key {number}": number for number in range(10_000)})
    alice.set("long", "x" * 200_000)
    deep: Any = "bottom"
    for _ in range(60):
        deep = [deep]
    alice.set("deep", deep)
    reply = asker.get(f"/api/window?agent={PATH}")
    assert len(reply.body) < 300_000
    many = asker.ask(f"/api/state?agent={PATH}&path={segments('many')}")["node"]
    assert (many["n"], len(many["c"])) == (10_000, 100)
    more = asker.ask(f"/api/state?agent={PATH}&path={segments('many')}&first=9950")["node"]
    assert [row[0] for row in more["c"]] == [f"key {number}" for number in range(9_950, 10_000)]
    assert asker.ask(f"/api/state?agent={PATH}&path={segments('long')}")["node"]["n"] == 200_000


@pytest.mark.parametrize("large", [1_000_000, 100_000], ids=["beside the log", "in the log"])
@pytest.mark.parametrize("kind", [str, bytes])
def test_long_values_are_read_part_by_part(system: AgentSystem, asker: Asker, kind: type, large: int) -> None:
    text = "".join(f"{number:>9}\n" for number in range(large // 10))
    value = text if kind is str else text.encode()
    alice = system.spawn(PATH, initial_state={"docs": [{"a/b": value}]})
    alice.record("tool_output", {"tool": "read", "result": value})
    places = (
        {"of": "memory", "seq": 2, "path": segments("docs", "0", "a/b")},
        {"of": "memory", "seq": 1, "property": "docs/0", "path": segments("a/b")},
        {"of": "event", "seq": 2, "path": segments("data", "result")},
    )
    for place in places:
        asked, parts, first = "&".join(f"{name}={held}" for name, held in place.items()), [], 0
        while first < large:
            reply = asker.get(f"/api/long?agent={PATH}&{asked}&first={first}")
            assert len(reply.body) < 100_000
            assert (reply.data["first"], reply.data["length"]) == (first, large)
            parts.append(reply.data["part"])
            first = reply.data["next"]
        whole = "".join(parts) if kind is str else b"".join(map(bytes.fromhex, parts))
        assert whole == value
        assert asker.ask(f"/api/long?agent={PATH}&{asked}&first={2 * large}")["part"] == ""


def test_only_texts_and_bytes_are_read_part_by_part(system: AgentSystem, asker: Asker) -> None:
    system.spawn(PATH, initial_state={"list": [1], "text": "short"})
    for place in (f"of=memory&path={segments('list')}", "of=event&seq=1"):
        assert asker.get(f"/api/long?agent={PATH}&{place}").data["error"] == "InvalidMessage"
    assert asker.get(f"/api/long?agent={PATH}&of=event&seq=7").status == 404
    assert asker.ask(f"/api/long?agent={PATH}&of=memory&path={segments('text')}")["part"] == "short"


def test_a_value_that_grows_is_counted_where_it_is_not_sent(system: AgentSystem, asker: Asker) -> None:
    alice = system.spawn(PATH, initial_state={"list": list(range(500)), "dict": {str(n): n for n in range(500)}})
    alice.append("list", 500)
    alice.set("dict/new", 1)
    alice.set("dict/499", 1)
    writes = [event["writes"] for event in asker.ask(f"/api/window?agent={PATH}")["events"]]
    assert writes[1:] == [
        [[["list", "500"], 500, 2, 1]],
        [[["dict", "new"], 1, 3, 1]],
        [[["dict", "499"], 1, 4]],
    ]


def test_keys_may_have_any_characters(system: AgentSystem, asker: Asker) -> None:
    system.spawn(PATH, initial_state={"a": {"b/c": {"": "found"}}})
    assert asker.ask(f"/api/state?agent={PATH}&path={segments('a', 'b/c', '')}")["node"] == "found"


def test_the_conversation_is_that_of_the_moment(system: AgentSystem, asker: Asker) -> None:
    alice = system.spawn(PATH)
    alice.append("messages", {"role": "user", "content": "hello"})
    call = {"id": "1", "function": {"name": "look", "arguments": '{"at": "it"}'}}
    alice.append("messages", {"role": "assistant", "content": None, "tool_calls": [call]})
    alice.append("messages", {"role": "tool", "tool_call_id": "1", "content": "Error: no"})
    found = asker.ask(f"/api/conversation?agent={PATH}")
    assert [(each["role"], each["seq"]) for each in found["messages"]] == [("user", 2), ("assistant", 3), ("tool", 4)]
    assert found["messages"][1]["calls"] == [{"tool": "look", "arguments": '{"at": "it"}'}]
    assert (found["messages"][2]["tool"], found["messages"][2]["failed"]) == ("look", True)
    assert [each["text"] for each in asker.ask(f"/api/conversation?agent={PATH}&seq=2")["messages"]] == ["hello"]


def test_the_timeline_marks_checkpoints_tool_calls_and_errors(system: AgentSystem, asker: Asker) -> None:
    alice = system.spawn(PATH)
    alice.record("tool_call", {"tool": "look", "tool_call_id": "1", "arguments": "{}"})
    alice.record("tool_output", {"tool": "look", "tool_call_id": "1", "result": "Error: no"})
    alice.append("messages", {"role": "user", "content": "hello"})
    alice.pause(checkpoint_id="lunch")
    found = asker.ask(f"/api/timeline?agent={PATH}")
    assert (found["complete"], found["from"], found["to"]) == (True, 1, 5)
    rows = {lane: [(row[1], row[2], row[3]) for row in marks] for lane, marks in found["lanes"].items()}
    assert rows == {
        "lifecycle": [(1, "spawned", ""), (5, "checkpoint", "lunch")],
        "messages": [(4, "user", "hello")],
        "tools": [(2, "failed", "look")],
        "errors": [(3, "tool", "look")],
    }
    assert sum(row[2] for row in found["bins"]) == 5
    assert found["places"] == sorted(found["places"])


def test_diff_blame_and_event_are_those_of_the_library(system: AgentSystem, asker: Asker) -> None:
    alice = system.spawn(PATH, initial_state={"a": 1})
    alice.set("a", 2, command_id="c-1")
    alice.set("b", 3)
    diff = asker.ask(f"/api/diff?agent={PATH}&a=1&b=3")
    assert diff["counts"] == {"added": 1, "removed": 0, "changed": 1}
    assert sorted(row[:2] for row in diff["rows"]) == [["added", "b"], ["changed", "a"]]
    blame = asker.ask(f"/api/blame?agent={PATH}&path={segments('a')}")
    assert (blame["seq"], blame["command"], blame["event"]["type"]) == (2, "c-1", "memory_set")
    event = asker.ask(f"/api/event?agent={PATH}&seq=2")
    assert (event["type"], event["command"], read_node(event["data"])) == (
        "memory_set",
        "c-1",
        {"path": "a", "value": 2},
    )


def test_blame_leads_through_a_resume_and_a_fork_to_the_event_that_first_set_the_value(
    system: AgentSystem, asker: Asker
) -> None:
    alice = system.spawn(PATH, initial_state={"goal": "look"})
    with alice.batch(command_id="c-1") as batch:
        batch.record("tool_output", {"tool": "price", "result": 40})
        batch.set("price", 40)
    alice.pause(checkpoint_id="before")
    alice.resume()
    alice.set("price", 50)
    alice.resume("before")
    seq = alice.status().seq
    window = asker.ask(f"/api/window?agent={PATH}")
    memory, setters = state_in(window, seq)
    assert (memory["price"], setters["price"]) == (40, 3), "as the memory beside it shows"
    system.fork(PATH, seq, to="acme/bob")
    for agent, carriers in ((PATH, ["resumed"]), ("acme/bob", ["forked", "resumed"])):
        blame = asker.ask(f"/api/blame?agent={agent}&path={segments('price')}")
        assert (blame["agent"], blame["seq"], blame["command"]) == (PATH, 3, "c-1")
        assert (blame["event"]["type"], blame["tool"]["tool"]) == ("memory_set", "price")
        assert [each["type"] for each in blame["carried"]] == carriers


def test_agents_come_as_a_tree_that_is_filtered_and_folded(system: AgentSystem, asker: Asker) -> None:
    for path in ("acme/desk-10", "acme/desk-9", "lab/probe"):
        system.spawn(path, agent_type="support")
    system.agent("acme/desk-9").spawn_child("ledger")
    system.agent("lab/probe").pause()

    def rows(query: str) -> list[tuple[str, int]]:
        return [(row["path"], row["depth"]) for row in asker.ask(f"/api/agents?{query}")["rows"]]

    eventually(lambda: len(rows("")) == 6 and ("lab/probe", 1) in rows("status=paused"), what="all are listed")
    everything = [
        ("acme", 0),
        ("acme/desk-9", 1),
        ("acme/desk-9/ledger", 2),
        ("acme/desk-10", 1),
        ("lab", 0),
        ("lab/probe", 1),
    ]
    assert rows("") == everything
    assert rows("closed=acme") == [("acme", 0), *everything[4:]]
    assert rows("closed=acme/desk-9") == [everything[0], everything[1], *everything[3:]]
    assert rows("text=desk-1") == [("acme", 0), ("acme/desk-10", 1)]
    assert rows("status=paused") == rows("text=status:paused") == everything[4:]
    assert rows("first=3&count=2") == everything[3:5]
    answer = asker.ask("/api/agents?status=paused")
    assert answer["counts"] == {"running": 3, "paused": 1, "all": 4}
    last = {row["path"]: row["last"][:2] for row in asker.ask("/api/agents")["rows"] if "last" in row}
    assert last["lab/probe"] == [2, "paused"]


def test_an_agent_that_is_spawned_later_is_listed(system: AgentSystem, asker: Asker) -> None:
    with live_messages(asker) as messages:
        assert next(messages)[0] == "hello"
        assert asker.ask("/api/agents")["total"] == 0
        system.spawn(PATH)
        assert next(found for kind, _, found in messages if kind == "changes")["agents"][0]["path"] == PATH
    assert [row["path"] for row in asker.ask("/api/agents")["rows"]] == ["acme", PATH]


def test_the_events_that_were_followed_are_the_activity_of_an_agent(system: AgentSystem, asker: Asker) -> None:
    with live_messages(asker) as messages:
        assert next(messages)[0] == "hello"
        alice = system.spawn(PATH)
        with alice.batch() as batch:
            for number in range(4):
                batch.set("n", number)

        def counted() -> bool:
            rows = {row["path"]: row for row in asker.ask("/api/agents")["rows"]}
            return PATH in rows and sum(rows[PATH]["activity"]) == 5

        assert eventually(counted, what="five events are counted, each once")


def test_the_stream_goes_on_at_its_cursor(system: AgentSystem, asker: Asker) -> None:
    alice = system.spawn(PATH)
    with live_messages(asker) as messages:
        assert next(messages)[0] == "hello"
        alice.set("a", 1)
        kind, cursor, data = next(messages)
        assert (kind, data["agents"][0]["seq"]) == ("changes", 2)
    alice.set("a", 2)  # while nobody listens
    with live_messages(asker, cursor) as messages:
        assert next(messages)[0] == "hello"
        found = next(messages)[2]["agents"][0]
        assert (found["path"], found["seq"], found["count"], found["last"][2]) == (PATH, 3, 1, "set a")


def test_a_cursor_of_another_log_begins_anew(system: AgentSystem, asker: Asker) -> None:
    with live_messages(asker, "00ff") as messages:
        assert next(messages)[0] == "reset"


@pytest.mark.parametrize(
    ("address", "code", "error"),
    [
        ("head?agent=acme/nobody", 404, "AgentNotFound"),
        ("head?agent=", 400, "InvalidPath"),
        ("window?agent=acme/alice&seq=99", 400, "InvalidMessage"),
        ("window?agent=acme/alice&seq=-1", 400, "InvalidMessage"),
        ("window?agent=acme/alice&seq=9999999999999999", 400, "InvalidMessage"),
        ("state?agent=acme/alice&path=%5B%22x%22%5D", 404, "PathNotFound"),
        ("state?agent=acme/alice&path=x", 400, "InvalidMessage"),
        ("event?agent=acme/alice&seq=9", 404, "PathNotFound"),
        ("diff?agent=acme/alice&a=0&b=9", 400, "InvalidMessage"),
    ],
)
def test_what_is_not_there_is_a_typed_error(refusing: Asker, address: str, code: int, error: str) -> None:
    reply = refusing.get(f"/api/{address}")
    assert (reply.status, reply.data["error"]) == (code, error)


def test_episodes_are_listed_and_searched(system: AgentSystem, asker: Asker) -> None:
    for name, outcome, words in (("a", "success", "refund a flight"), ("b", "failure", "book a hotel")):
        system.spawn(f"acme/{name}").terminate(outcome=outcome, task_description=words)

    def agents(query: str) -> list[str]:
        return [episode["agent"] for episode in asker.ask(f"/api/episodes?{query}")["episodes"]]

    assert agents("") == ["acme/b", "acme/a"]
    assert agents("text=fli") == ["acme/a"]
    assert agents("outcome=failure") == ["acme/b"]
    assert agents("text=hotel&outcome=success") == []


def test_resume_and_fork_do_what_they_say(system: AgentSystem, acting: Asker) -> None:
    alice = system.spawn(PATH, initial_state={"n": 1})
    alice.pause(checkpoint_id="c")
    assert acting.post("/api/actions/resume", {"agent": PATH}).status == 200
    alice.set("n", 2)
    forked = acting.post("/api/actions/fork", {"agent": PATH, "seq": 1, "to": "acme/bob"})
    assert forked.data["agent"] == "acme/bob"
    assert (system.agent("acme/bob").get("n"), alice.get("n")) == (1, 2)
    assert acting.post("/api/actions/resume", {"agent": PATH, "checkpoint": "c"}).status == 200
    assert alice.get("n") == 1
    refused = acting.post("/api/actions/resume", {"agent": PATH, "checkpoint": "none"})
    assert (refused.status, refused.data["error"]) == (404, "CheckpointNotFound")


@pytest.mark.parametrize("body", [[], "x", {"agent": 1}, {"agent": PATH}, {"agent": PATH, "seq": "1", "to": "acme/b"}])
def test_an_action_without_its_fields_is_refused(refusing: Asker, body: Any) -> None:
    assert refusing.post("/api/actions/fork", body).status == 400


@message_type("inspected_refund", durable=True)
@frozen
class Refund:
    order: str


async def plan(order: str) -> dict[str, Any]:
    return {"order": order, "amount": 40}


class Support(Agent):
    async def on_receive(self, message: Any) -> Any:
        planned = await self.step("plan", plan, message.order)
        verdict = await self.wait_for("approval", about=planned)
        self.set("verdict", verdict)
        return verdict


def waiting_work(asker: Asker) -> list[dict[str, Any]]:
    return [work for work in asker.ask("/api/work")["work"] if any(each["kind"] == "wait" for each in work["waits"])]


def test_unfinished_work_is_listed_and_answered(system: AgentSystem, acting: Asker) -> None:
    system.register("support", Support)
    receipt = system.spawn(PATH, agent_type="support").send(Refund("o-1"))
    [work] = eventually(lambda: waiting_work(acting), what="the handler waits")
    assert (work["agent"], work["work"], work["message_type"], work["parked"]) == (PATH, 2, "inspected_refund", None)
    [wait] = work["waits"]
    assert (wait["name"], read_node(wait["about"])) == ("approval", {"order": "o-1", "amount": 40})
    fields = {"agent": PATH, "work": 2, "name": "approval", "value": {"ok": True}, "command": "answer-1"}
    assert acting.post("/api/actions/answer", fields).status == 200
    assert system.agent(PATH).result(receipt) == {"ok": True}
    assert acting.post("/api/actions/answer", fields).status == 200, "sent twice, it is one answer"
    assert acting.ask("/api/work") == {"work": [], "total": 0, "more": False, "oldest": None}
    lanes = eventually(lambda: acting.ask(f"/api/timeline?agent={PATH}")["lanes"])
    assert [row[2:4] for row in lanes["tools"]] == [["step", "plan"], ["wait", "approval"]]
    assert all(row[4] is not None for row in lanes["tools"]), "each lasts until its result"


def test_work_is_cancelled(system: AgentSystem, acting: Asker) -> None:
    system.register("support", Support)
    system.spawn(PATH, agent_type="support").send(Refund("o-1"))
    eventually(lambda: waiting_work(acting), what="the handler waits")
    assert acting.post("/api/actions/cancel", {"agent": PATH, "work": 2}).status == 200
    assert eventually(lambda: acting.ask("/api/work")["work"] == [])
    assert acting.post("/api/actions/cancel", {"agent": PATH, "work": 2}).status == 400


def test_work_is_answered_by_nobody_where_the_inspector_only_reads(system: AgentSystem, asker: Asker) -> None:
    system.register("support", Support)
    system.spawn(PATH, agent_type="support").send(Refund("o-1"))
    eventually(lambda: waiting_work(asker), what="the handler waits")
    fields = {"agent": PATH, "work": 2, "name": "approval", "value": 1, "command": "c"}
    assert asker.post("/api/actions/answer", fields).status == 403
    assert waiting_work(asker)


def test_an_agent_is_shown_while_a_handler_of_it_blocks(system: AgentSystem, asker: Asker) -> None:
    entered, gate = threading.Event(), threading.Event()

    class Busy(Patient):
        async def on_receive(self, message: Any) -> Any:
            if isinstance(message, Wish):
                return await super().on_receive(message)
            entered.set()
            return await asyncio.to_thread(gate.wait, 60)

    system.register("busy", Busy)
    busy = system.spawn(PATH, agent_type="busy")
    busy.send(Wish("peace"))
    eventually(lambda: waiting_work(asker), what="the work waits")
    reply = busy.ask({"block": True}, block=False)
    try:
        assert entered.wait(30)
        assert asker.ask(f"/api/head?agent={PATH}")["work"] == [1, "waits for you"]
        assert [work["message_type"] for work in asker.ask(f"/api/work?agent={PATH}")["work"]] == ["inspected_wish"]
        assert [work["message_type"] for work in asker.ask("/api/work")["work"]] == ["inspected_wish"]
        listed = AgentList(system)
        for event in system.events(PATH):
            listed.note(event)
        [_, row] = listed.rows(Query("status:unfinished"), 0, 10)["rows"]
        assert row["work"] == (1, "waits for you"), "as what has changed since the directory was read is counted"
        recorded, _ = record(system, PATH, tree=False, progress=None)
        assert [work["message_type"] for work in json.loads(recorded)["work"]] == ["inspected_wish"]
        assert not reply.done, "the handler has blocked all the while"
    finally:
        gate.set()
    assert reply.get(timeout=30) is True


def test_a_damaged_log_is_answered_up_to_the_damage_and_hides_no_work_of_others(
    open_system: Callable[..., AgentSystem],
) -> None:
    first = open_system(agents={"support": Support})
    for path in (PATH, "acme/bob"):
        first.spawn(path, agent_type="support").send(Refund("o-1"))
    waiting = [("approval", PATH), ("approval", "acme/bob")]
    eventually(
        lambda: sorted((w.waits_for[0]["name"], w.agent) for w in first.unfinished() if w.waits_for) == waiting,
        what="both handlers wait",
    )
    first.close()
    log: Any = first.log
    held = log._storage.logs[log.log_key(PATH)]
    held[3] = held[3][:-1] + bytes([held[3][-1] ^ 1])
    reader = open_system(host=False)
    assert [work.agent for work in reader.unfinished()] == ["acme/bob"]
    with inspecting(reader) as asker:
        assert [work["agent"] for work in asker.ask("/api/work")["work"]] == ["acme/bob"]
        head = asker.ask(f"/api/head?agent={PATH}")
        assert (head["seq"], head["damage"]["seq"], head["status"], head["work"]) == (3, 4, "running", None)
        window = asker.ask(f"/api/window?agent={PATH}&seq=3")
        assert (window["to"], [event["seq"] for event in window["events"]]) == (3, [1, 2, 3])
        assert asker.get(f"/api/window?agent={PATH}&seq=4").data["error"] == "CorruptEvent"
        assert asker.ask("/api/head?agent=acme/bob")["damage"] is None


def test_a_forks_and_a_trimmed_log_are_shown_from_where_they_begin(system: AgentSystem, asker: Asker) -> None:
    alice = system.spawn(PATH)
    for number in range(30):
        alice.set("n", number)
    system.trim(PATH, keep_events=5)
    base = asker.ask(f"/api/head?agent={PATH}")["base"]
    assert base > 0
    window = asker.ask(f"/api/window?agent={PATH}&seq={base}")
    assert (window["from"], state_in(window, 31)[0]) == (base, {"n": 29})
    assert asker.ask(f"/api/timeline?agent={PATH}")["from"] == base + 1
    assert asker.get(f"/api/window?agent={PATH}&seq=1").data["error"] == "Trimmed"
    system.fork(PATH, 31, to="acme/bob")
    assert state_in(asker.ask("/api/window?agent=acme/bob"), 32)[0] == {"n": 29}


class Picky(Projection[int]):
    def initial(self) -> int:
        return 0

    def apply(self, state: int, event: Event) -> int:
        if event.type == "memory_set":
            raise KeyError(event.seq)
        return state + 1


def test_hosts_and_consumers_are_listed_with_what_they_hold(system: AgentSystem) -> None:
    alice = system.spawn(PATH)
    alice.set("n", 1)
    alice.set("n", 2)
    system.attach(Picky(), "picky")
    eventually(lambda: system.projections()[0].status == "parked", what="it is parked")
    with inspecting(system) as asker:
        asker.ask("/api/agents")
        answer = asker.ask("/api/hosts")
    [found], [own] = answer["consumers"], answer["hosts"]
    where = system.log.partition_of(PATH)
    assert (found["partitions"], found["stopped"]) == (system.log.partitions, where)
    assert found["lags"] == [2 if number == where else 0 for number in range(system.log.partitions)]
    assert (found["error"]["agent"], found["error"]["seq"]) == (PATH, 2)
    [info] = system.projections()
    assert (info.lags[where], sum(info.lags.values())) == (2, info.lag)
    assert (own["self"], own["state"], own["claimed"], own["beat"] >= 0) == (True, "up", 1, True)
    assert answer["beats"] == [2.5, 10.0]


def test_many_partitions_are_summed_up() -> None:
    with AgentSystem.open("memory://", partitions=100) as system, inspecting(system) as asker:
        system.attach(Picky(), "picky", types=["memory_set"])
        system.spawn(PATH).set("n", 1)

        def parked() -> Any:
            [found] = asker.ask("/api/hosts")["consumers"]
            return found["status"] == "parked" and found

        found = eventually(parked, what="it is parked")
        assert (found["partitions"], len(found["lags"])) == (100, 25)
        assert (sum(found["lags"]), found["lags"][found["stopped"]] > 0) == (found["lag"], True)


def test_agents_are_listed_with_their_host_and_unfinished_work(system: AgentSystem) -> None:
    system.register("patient", Patient)
    wish = system.spawn(PATH, agent_type="patient").send(Wish("peace"))
    system.spawn("acme/idle")
    with inspecting(system) as asker:

        def listed(query: str = "") -> dict[str, Any]:
            rows = asker.ask(f"/api/agents?{query}")["rows"]
            return {row["path"]: (row["work"], row["host"]) for row in rows if "work" in row}

        host, waits = system.host[:8], [1, "waits for you"]
        assert eventually(lambda: listed() == {PATH: (waits, host), "acme/idle": (None, host)}, what="work is counted")
        assert eventually(lambda: list(listed("status=unfinished")) == [PATH])
        system.spawn("acme/later", agent_type="patient").send(Wish("more"))
        system.agent(PATH).answer("fulfilment", "granted", work=wish)
        wanted = {PATH: (None, host), "acme/idle": (None, host), "acme/later": (waits, host)}
        assert eventually(lambda: listed() == wanted, what="what came and ended since is counted, too")
        assert eventually(lambda: list(listed("status=unfinished")) == ["acme/later"])
