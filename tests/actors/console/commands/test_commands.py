"""Every command on an embedded store, one command line after the other, as a person would type them."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import redis
from attrs import fields

from command_line import Duramen
from duramen.actors import AgentSystem
from duramen.actors.console import main
from duramen.events import Event, Granularity
from duramen.events.embedded.server import EmbeddedServer
from duramen.projections import Episode

AGENT_KEYS = ["path", "status", "agent_type", "session_id", "seq", "updated_at"]


def instant(text: str) -> datetime:
    found = datetime.fromisoformat(text)
    assert found.tzinfo is not None
    return found


@pytest.fixture
def alice(duramen: Duramen, data_dir: Path) -> Iterator[Duramen]:
    """With a running agent acme/alice. The server runs between the commands too, which saves its many starts."""
    words = ["--session-id", "s-1", "--agent-type", "researcher", "--set", 'goal="x"', "--set", 'plan={"steps": [1]}']
    with EmbeddedServer.open(data_dir):
        assert duramen("spawn", "acme/alice", *words, "--metadata", "team=7").code == 0
        yield duramen


# -- spawn, pause, resume, terminate ----------------------------------------------------------------------------------


def test_spawn_starts_a_session_with_what_it_is_given(alice: Duramen) -> None:
    shown = alice("show", "acme/alice", "--json").data
    assert shown.pop("updated_at") == shown.pop("started_at")
    assert shown == {
        "path": "acme/alice",
        "status": "running",
        "agent_type": "researcher",
        "session_id": "s-1",
        "seq": 1,
        "paused_at": None,
        "metadata": {"team": 7},
        "memory": {"goal": "x", "plan": {"steps": [1]}},
    }


def test_a_lifecycle_command_prints_its_result_for_programs(duramen: Duramen) -> None:
    spawned = duramen("spawn", "acme/bob", "--session-id", "s-9", "--json")
    assert spawned.code == 0
    assert spawned.data.pop("duration_ms") > 0
    assert {name: spawned.data[name] for name in ("success", "event_type", "data")} == {
        "success": True,
        "event_type": "spawn",
        "data": {"session_id": "s-9", "initial_items": 0, "seq": 1},
    }


def test_a_lifecycle_command_tells_people_what_happened_in_a_line(alice: Duramen) -> None:
    assert alice("pause", "acme/alice", "--checkpoint-id", "lunch").out == (
        "acme/alice: paused at checkpoint lunch (seq 2, items saved: 2)\n"
    )
    assert alice("resume", "acme/alice", "lunch").out == (
        "acme/alice: resumed from checkpoint lunch (seq 3, items restored: 2)\n"
    )
    ended = alice("terminate", "acme/alice", "--outcome", "partial").out
    assert ended.startswith("acme/alice: session ended in partial (seq 5, items cleared: 2, episode ")


@pytest.mark.parametrize("json_", [False, True])
def test_an_expected_failure_is_exit_code_1_and_changes_nothing(alice: Duramen, json_: bool) -> None:
    flag = ["--json"] if json_ else []
    again = alice("spawn", "acme/alice", *flag)
    lost = alice("resume", "acme/alice", "nothing", *flag)
    nobody = alice("terminate", "acme/nobody", *flag)
    assert [ran.code for ran in (again, lost, nobody)] == [1, 1, 1]
    for ran in (again, lost, nobody):
        if json_:
            assert ran.data["success"] is False
            assert ran.err == ""
        else:
            assert ran.out == ""
            assert ran.err.startswith("duramen: ")
            assert ran.err.count("\n") == 1
    assert alice("show", "acme/alice", "--json").data["seq"] == 1


def test_resume_restores_the_checkpoint_or_lays_it_over(alice: Duramen, data_dir: Path) -> None:
    alice("pause", "acme/alice", "--checkpoint-id", "one")
    alice("resume", "acme/alice")
    with AgentSystem.open(data_dir=data_dir) as system:
        system.agent("acme/alice").set("goal", "y")
        system.agent("acme/alice").set("new", 1)
    alice("resume", "acme/alice", "one", "--keep-current")
    assert alice("show", "acme/alice", "", "--json").data == {"goal": "x", "plan": {"steps": [1]}, "new": 1}
    alice("resume", "acme/alice", "one")
    assert alice("show", "acme/alice", "", "--json").data == {"goal": "x", "plan": {"steps": [1]}}


@pytest.mark.parametrize(
    ("ttl", "seconds"), [("90s", 90), ("15m", 900), ("12h", 43_200), ("7d", 604_800), ("2w", 1_209_600)]
)
def test_a_checkpoint_lives_as_long_as_it_is_told(alice: Duramen, ttl: str, seconds: int) -> None:
    alice("pause", "acme/alice", "--ttl", ttl, "--metadata", 'why="lunch"')
    (checkpoint,) = alice("checkpoints", "acme/alice", "--json").data
    lives = instant(checkpoint["expires_at"]) - instant(checkpoint["timestamp"])
    assert abs(lives - timedelta(seconds=seconds)) < timedelta(seconds=1)
    assert checkpoint["metadata"] == {"why": "lunch"}


def test_a_checkpoint_that_never_expires_says_so(alice: Duramen) -> None:
    alice("pause", "acme/alice", "--ttl", "never")
    assert alice("checkpoints", "acme/alice", "--json").data[0]["expires_at"] is None
    assert "never" in alice("checkpoints", "acme/alice").out


def test_terminate_keeps_an_episode_and_clears_memory(alice: Duramen) -> None:
    words = ["--outcome", "failure", "--description", "Find it", "--lesson", "look", "--lesson", "listen"]
    assert alice("terminate", "acme/alice", *words).code == 0
    (episode,) = alice("episodes", "--json").data
    assert (episode["outcome"], episode["task_description"]) == ("failure", "Find it")
    assert episode["lessons_learned"] == ["look", "listen"]
    assert alice("show", "acme/alice", "--json").data["memory"] == {}


def test_terminate_can_keep_memory_and_leave_no_episode(alice: Duramen) -> None:
    assert alice("terminate", "acme/alice", "--no-episode", "--keep-memory").code == 0
    assert alice("episodes", "--json").data == []
    assert alice("show", "acme/alice", "goal", "--json").data == "x"


# -- agents -----------------------------------------------------------------------------------------------------------


def test_agents_prints_exactly_a_list_for_programs(alice: Duramen) -> None:
    alice("spawn", "acme/alice/helper")
    alice("spawn", "zoo/bob")
    alice("terminate", "zoo/bob")
    listed = alice("agents", "--json").data
    assert [list(entry) for entry in listed] == [AGENT_KEYS] * 3
    assert [(entry["path"], entry["status"], entry["seq"]) for entry in listed] == [
        ("acme/alice", "running", 2),  # its log says that it has a sub-agent
        ("acme/alice/helper", "running", 1),
        ("zoo/bob", "terminated", 3),
    ]
    assert (listed[0]["agent_type"], listed[0]["session_id"], listed[1]["agent_type"]) == ("researcher", "s-1", None)
    assert datetime.now(UTC) - instant(listed[0]["updated_at"]) < timedelta(minutes=5)


def test_agents_draws_a_tree_for_people(alice: Duramen) -> None:
    for path in ("acme/alice/helper/deep", "acme/zed", "acme/alice-2", "solo/one/two"):
        alice("spawn", path)
    rows = alice("agents").out.splitlines()[2:]
    assert [re.split(r"  +(?=running|$)", row)[0].rstrip() for row in rows] == [
        "acme",
        "├─ alice",
        "│  └─ helper",
        "│     └─ deep",
        "├─ alice-2",
        "└─ zed",
        "solo",
        "└─ one",
        "   └─ two",
    ]


def test_no_agents_is_an_empty_list_and_a_hint(alice: Duramen) -> None:
    assert alice("agents", "--namespace", "other", "--json").data == []
    assert "no agents yet" in alice("agents", "--namespace", "other").out


# -- show -------------------------------------------------------------------------------------------------------------


def test_show_prints_one_value_as_it_is(alice: Duramen) -> None:
    assert alice("show", "acme/alice", "plan/steps/0", "--json").data == 1
    assert alice("show", "acme/alice", "plan", "--json").data == {"steps": [1]}
    assert alice("show", "acme/alice", "goal").out == "x\n"


def test_show_has_a_form_for_what_json_has_none_for(alice: Duramen, data_dir: Path) -> None:
    time = datetime(2025, 1, 2, 3, 4, 5, tzinfo=UTC)
    with AgentSystem.open(data_dir=data_dir) as system:
        system.agent("acme/alice").set("odd", [b"\x00\x01", time, float("inf"), "é"])
    assert alice("show", "acme/alice", "odd", "--json").data == [
        {"$bytes": base64.b64encode(b"\x00\x01").decode()},
        "2025-01-02T03:04:05+00:00",
        {"$float": "inf"},
        "é",
    ]


def test_show_lets_no_text_drive_the_terminal(alice: Duramen, data_dir: Path) -> None:
    with AgentSystem.open(data_dir=data_dir) as system:
        system.agent("acme/alice").set("bad", "\x1b]0;title\x07\n[bold]no markup[/bold]\u202e")
    for words in (["show", "acme/alice"], ["show", "acme/alice", "bad"], ["log", "acme/alice"]):
        shown = alice(*words).out
        assert "[bold]no markup[/bold]" in shown
        assert not {"\x1b", "\x07", "\u202e"} & set(shown)


@pytest.mark.parametrize("path", ["nothing", "plan/steps/7", "goal/deeper"])
def test_a_property_that_is_not_there_is_exit_code_1(alice: Duramen, path: str) -> None:
    ran = alice("show", "acme/alice", path)
    assert ran.code in (1, 2)
    assert ran.err.count("\n") == 1


# -- log --------------------------------------------------------------------------------------------------------------


@pytest.fixture
def busy(alice: Duramen, data_dir: Path) -> Duramen:
    """acme/alice after 8 events: spawned, 2 × (set, record), paused, resumed, a trace that is logged."""
    with AgentSystem.open(data_dir=data_dir) as system:
        agent = system.agent("acme/alice")
        for number in (1, 2):
            agent.set("goal", number)
            agent.record("tool_output", {"tool": "search", "result": "found", "raw": b"\x01"}, command_id=f"c{number}")
        agent.pause("here")
        agent.resume("here")
    return alice


def test_log_prints_an_object_a_line_with_everything(busy: Duramen, data_dir: Path) -> None:
    lines = [json.loads(line) for line in busy("log", "acme/alice", "--json").out.splitlines()]
    assert [line["seq"] for line in lines] == [1, 2, 3, 4, 5, 6, 7]
    assert [set(line) for line in lines] == [{field.name for field in fields(Event)}] * 7
    record = lines[2]
    assert record["type"] == "activity_recorded"
    assert record["granularity"] == "activity"
    assert record["command_id"] == "c1"
    assert record["data"]["data"]["raw"] == {"$bytes": "AQ=="}
    with AgentSystem.open(data_dir=data_dir) as system:
        (stored,) = system.events("acme/alice", from_seq=3, to_seq=3)
    assert record["digest"] == stored.digest.hex()
    assert instant(record["time"]) == stored.time


def seqs(ran: Any) -> list[int]:
    return [int(line.split()[0]) for line in ran.out.splitlines()]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], [1, 2, 3, 4, 5, 6, 7]),
        (["--limit", "2"], [6, 7]),
        (["--limit", "100"], [1, 2, 3, 4, 5, 6, 7]),
        (["--from", "5"], [5, 6, 7]),
        (["--from", "3", "--limit", "2"], [3, 4]),
        (["--from", "100"], []),
        (["--granularity", "lifecycle"], [1, 6, 7]),
        (["--granularity", "state"], [1, 2, 4, 6, 7]),
        (["--granularity", "state", "--limit", "4"], [2, 4, 6, 7]),
        (["--granularity", "lifecycle", "--from", "2", "--limit", "1"], [6]),
    ],
)
def test_log_prints_the_events_that_were_asked_for(busy: Duramen, words: list[str], expected: list[int]) -> None:
    assert seqs(busy("log", "acme/alice", *words)) == expected


def test_log_tells_people_what_happened(busy: Duramen) -> None:
    lines = busy("log", "acme/alice").out.splitlines()
    for line, words in zip(
        lines,
        ["spawned, session s-1", "set goal: 1", "search → found", "set goal: 2", "search", "paused", "resumed"],
        strict=True,
    ):
        assert words in line


def test_the_end_of_a_long_log_is_found_from_the_end(alice: Duramen, data_dir: Path) -> None:
    with AgentSystem.open(data_dir=data_dir) as system:
        agent = system.agent("acme/alice")
        agent.pause("early")
        agent.resume("early")
        for block in range(4):
            with agent.batch() as batch:
                for number in range(150):
                    batch.set("n", 150 * block + number)
    assert seqs(alice("log", "acme/alice", "--limit", "3")) == [601, 602, 603]
    assert seqs(alice("log", "acme/alice", "--limit", "2", "--granularity", "lifecycle")) == [2, 3]
    assert seqs(alice("log", "acme/alice", "--limit", "9", "--granularity", "lifecycle")) == [1, 2, 3]


@pytest.mark.parametrize("words", [["log"], ["log", "--limit", "3"], ["log", "--from", "2"], ["show"], ["checkpoints"]])
def test_an_agent_that_is_not_there_is_exit_code_1(alice: Duramen, words: list[str]) -> None:
    ran = alice(words[0], "acme/nobody", *words[1:])
    assert (ran.code, ran.out) == (1, "")
    assert "there is no agent acme/nobody" in ran.err


# -- checkpoints and episodes -----------------------------------------------------------------------------------------


def test_checkpoints_are_listed_newest_first(alice: Duramen) -> None:
    for name in ("one", "two"):
        alice("pause", "acme/alice", "--checkpoint-id", name)
        alice("resume", "acme/alice")
    listed = alice("checkpoints", "acme/alice", "--json").data
    assert [list(entry) for entry in listed] == [
        ["checkpoint_id", "timestamp", "keys_count", "seq", "expires_at", "metadata"]
    ] * 2
    assert [(entry["checkpoint_id"], entry["keys_count"], entry["seq"]) for entry in listed] == [
        ("two", 2, 4),
        ("one", 2, 2),
    ]
    assert "two" in alice("checkpoints", "acme/alice").out


def test_a_checkpoint_that_is_gone_is_not_listed(alice: Duramen, data_dir: Path) -> None:
    alice("pause", "acme/alice", "--checkpoint-id", "one")
    with AgentSystem.open(data_dir=data_dir) as system:
        key = system.log.checkpoint_key("acme/alice", "one")
        assert system.log.exists([key]) == [True]
    with EmbeddedServer.open(data_dir) as server, redis.Redis(unix_socket_path=server.socket_path) as client:
        assert client.delete(key) == 1
    assert alice("checkpoints", "acme/alice", "--json").data == []
    assert "no checkpoint" in alice("checkpoints", "acme/alice").out


@pytest.fixture
def remembered(alice: Duramen) -> Duramen:
    """With three episodes: of acme/alice, acme/bob and zoo/cat."""
    alice("terminate", "acme/alice", "--description", "first")
    for path in ("acme/bob", "zoo/cat"):
        alice("spawn", path)
        alice("terminate", path, "--description", path)
    return alice


@pytest.mark.slow
def test_episodes_are_listed_newest_first_with_all_their_fields(remembered: Duramen) -> None:
    listed = remembered("episodes", "--json").data
    assert [entry["task_description"] for entry in listed] == ["zoo/cat", "acme/bob", "first"]
    assert all(set(entry) == {field.name for field in fields(Episode)} for entry in listed)
    assert "acme/bob" in remembered("episodes").out


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--project", "acme"], ["acme/bob", "first"]),
        (["--agent", "zoo/cat"], ["zoo/cat"]),
        (["--limit", "1"], ["zoo/cat"]),
        (["--project", "none"], []),
    ],
)
def test_episodes_can_be_chosen(remembered: Duramen, words: list[str], expected: list[str]) -> None:
    assert [entry["task_description"] for entry in remembered("episodes", *words, "--json").data] == expected


def test_one_episode_is_shown_by_its_id_or_the_beginning_of_it(remembered: Duramen) -> None:
    episode = remembered("episodes", "--json").data[1]
    assert remembered("episodes", episode["id"], "--json").data == episode
    assert remembered("episodes", episode["id"][:8], "--json").data == episode
    shown = remembered("episodes", episode["id"][:8]).out
    assert episode["id"] in shown
    assert "acme/bob" in shown


@pytest.mark.parametrize("wanted", ["", "0", "nothing-like-it"])
def test_an_episode_that_is_not_there_is_exit_code_1(remembered: Duramen, wanted: str) -> None:
    ran = remembered("episodes", wanted)
    assert (ran.code, ran.out) == (1, "")


# -- looking takes nothing over ---------------------------------------------------------------------------------------


def test_looking_does_not_take_an_agent_from_the_process_that_runs_it(duramen: Duramen, data_dir: Path) -> None:
    with AgentSystem.open(data_dir=data_dir) as system:
        agent = system.spawn("acme/alice")
        agent.pause("one")
        agent.resume("one")
        before = system.log.head("acme/alice")
        for words in (["agents"], ["show", "acme/alice"], ["log", "acme/alice"], ["checkpoints", "acme/alice"]):
            assert duramen(*words).code == 0
        assert duramen("episodes").code == 0
        assert duramen("doctor").code == 0
        assert system.log.head("acme/alice") == before
        agent.set("a", 1)
        # The control: a command that changes the agent is carried out here, where the agent lives.
        assert duramen("pause", "acme/alice").code == 0
        after = system.log.head("acme/alice")
        assert before is not None
        assert after is not None
        assert after.fence == before.fence
        assert after.seq == before.seq + 2


@pytest.mark.parametrize(
    "words",
    [
        ["agents"],
        ["show", "a/b"],
        ["log", "a/b"],
        ["checkpoints", "a/b"],
        ["episodes"],
        ["doctor"],
        ["pause", "a/b"],
        ["resume", "a/b"],
        ["terminate", "a/b"],
    ],
    ids=lambda words: words[0],
)
def test_where_no_store_is_none_is_made(duramen: Duramen, data_dir: Path, words: list[str]) -> None:
    ran = duramen(*words)
    assert (ran.code, ran.out) == (1, "")
    assert "there is no store in" in ran.err
    assert not data_dir.exists()


# -- the same on a server of the user's -------------------------------------------------------------------------------


def test_commands_work_on_a_server_by_url(
    duramen: Duramen, redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    where = ["--url", redis_url, "--namespace", f"t{tmp_path.name}"[:60]]
    assert duramen("spawn", "acme/alice", "--set", "a=1", *where).code == 0
    assert duramen("show", "acme/alice", "a", "--json", *where).data == 1
    assert [entry["path"] for entry in duramen("agents", "--json", *where).data] == ["acme/alice"]
    monkeypatch.setenv("DURAMEN_URL", redis_url)
    assert main(["show", "acme/alice", "--json", "--namespace", where[3]]) == 0
    # A data directory that is named goes before the environment.
    assert "there is no store" in duramen("agents", "--data-dir", str(tmp_path / "none")).err


def test_granularity_names_are_those_of_the_library(alice: Duramen) -> None:
    for level in Granularity:
        assert alice("log", "acme/alice", "--granularity", level.name.lower()).code == 0
