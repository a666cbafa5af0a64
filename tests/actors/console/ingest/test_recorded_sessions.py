"""Recorded sessions live through an agent each: whole, once, and whatever is killed meanwhile.

On the recordings that lie beside the project where they do, else on copies of the sample that ships with it.
"""

from __future__ import annotations

import json
import os
import random
import signal
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve, frozen

from command_line import start
from duramen.actors import AgentSystem
from duramen.actors.console import main
from duramen.actors.console.ingest.json_items import sample_source
from duramen.actors.console.ingest.recordings import read_sessions
from duramen.actors.console.ingest.steps import steps_of
from duramen.events import Limits
from duramen.events.embedded.data_directory import DataDirectory
from duramen.events.embedded.process import ready_pid
from duramen.events.model.vocabulary import (
    ACTIVITY_RECORDED,
    EPISODE_RECORDED,
    MEMORY_APPENDED,
    PAUSED,
    RESUMED,
    SPAWNED,
    TERMINATED,
)
from duramen.projections import WorkingMemory, fold
from waiting import eventually, process_ends

BESIDE = Path(__file__).resolve().parents[5] / "shared" / "data" / "airline-sessions.json"
_COPIES = 15

_OF_THE_CLOCK = {"expires_at", "checkpoint_timestamp", "duration_seconds", "created_at"}

Story = list[tuple[Any, ...]]


@frozen
class Recording:
    """A file, and what is in it by agent path, without the reader that is tested here."""

    file: Path
    sessions: dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Recording:
    file = BESIDE
    if not BESIDE.exists():
        with sample_source().open() as sample:
            sessions = json.load(sample)
        file = tmp_path_factory.mktemp("recording") / "copies.json"
        copies = [{**session, "trial": trial} for trial in range(_COPIES) for session in sessions]
        file.write_text(json.dumps(copies), encoding="utf-8")
    sessions = json.loads(file.read_text(encoding="utf-8"))
    return Recording(file, {f"{file.stem}/{_name(session)}": session for session in sessions})


def _name(session: dict[str, Any]) -> str:
    task, trial = session["task_id"], session["trial"]
    return f"{task}-trial-{trial}" if isinstance(task, str) else f"task-{task}-trial-{trial}"


def run(recording: Recording, data_dir: Path, *words: str) -> int:
    return main(["run", str(recording.file), "--json", "--data-dir", str(data_dir), *words])


def without_clock(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    return {key: without_clock(held) for key, held in value.items() if key not in _OF_THE_CLOCK}


def stories(data_dir: Path) -> dict[str, Story]:
    """All that the log says of every agent, but not when."""
    with AgentSystem.open(data_dir=data_dir) as system:
        return {
            entry.agent: [
                (
                    event.seq,
                    event.type,
                    without_clock(event.data),
                    event.session_id,
                    event.command_id,
                    event.granularity,
                )
                for event in system.events(entry.agent)
            ]
            for entry in system.agents()
        }


def episodes(data_dir: Path) -> dict[str, Any]:
    with AgentSystem.open(data_dir=data_dir) as system:
        return {episode.id: without_clock(episode.as_data()) for episode in system.episodes.list()}


@frozen
class OpenedLog:
    """A store that the recording was run into, and what is in it."""

    recording: Recording
    data_dir: Path
    stories: dict[str, Story]
    episodes: dict[str, Any]
    size: int
    """Bytes that were written to its disk."""


@pytest.fixture(scope="module")
def undisturbed(recording: Recording, tmp_path_factory: pytest.TempPathFactory) -> OpenedLog:
    """After one run that nobody disturbed."""
    data_dir = tmp_path_factory.mktemp("undisturbed") / "data"
    assert run(recording, data_dir) == 0
    return OpenedLog(recording, data_dir, stories(data_dir), episodes(data_dir), written(data_dir))


def written(data_dir: Path) -> int:
    return sum(path.stat().st_size for path in data_dir.glob("appendonlydir/*.aof"))


def data_of(story: Story, kind: str) -> list[Any]:
    return [data for _, type_, data, *_ in story if type_ == kind]


# -- whole -----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_every_message_is_in_working_memory_before_its_session_ends_once_and_in_order(undisturbed: OpenedLog) -> None:
    wanted = {path: {"messages": session["traj"]} for path, session in undisturbed.recording.sessions.items()}
    with AgentSystem.open(data_dir=undisturbed.data_dir) as system:
        found: dict[str, Any] = {}
        for path in wanted:
            events = list(system.events(path))
            assert [event.type for event in events[-2:]] == [EPISODE_RECORDED, TERMINATED]
            found[path] = fold(WorkingMemory(), events[:-1]).memory
        assert sorted(entry.agent for entry in system.agents()) == sorted(wanted)
    assert found == wanted
    assert sum(len(memory["messages"]) for memory in found.values()) == sum(
        len(session["traj"]) for session in undisturbed.recording.sessions.values()
    )


def test_the_recording_is_the_one_that_is_known(recording: Recording) -> None:
    messages = sum(len(session["traj"]) for session in recording.sessions.values())
    known = (50, 1_504) if recording.file == BESIDE else (3 * _COPIES, 32 * _COPIES)
    assert (len(recording.sessions), messages) == known


def test_every_tool_call_result_and_completion_is_recorded_with_its_message(undisturbed: OpenedLog) -> None:
    for path, session in undisturbed.recording.sessions.items():
        calls, results, completions = [], [], []
        for message in session["traj"]:
            for call in message.get("tool_calls") or []:
                calls.append((call["function"]["name"], call["id"], call["function"]["arguments"]))
            if message["role"] == "tool":
                results.append((message["name"], message["tool_call_id"], message["content"]))
            if message["role"] == "assistant":
                completions.append((message["content"], message.get("usage")))
        records = data_of(undisturbed.stories[path], ACTIVITY_RECORDED)
        by_kind = {
            kind: [record["data"] for record in records if record["kind"] == kind]
            for kind in ("tool_call", "tool_output", "completion")
        }
        assert [(data["tool"], data["tool_call_id"], data["arguments"]) for data in by_kind["tool_call"]] == calls
        assert [(data["tool"], data["tool_call_id"], data["result"]) for data in by_kind["tool_output"]] == results
        assert [(data["content"], data.get("usage")) for data in by_kind["completion"]] == completions
        assert len(records) == len(calls) + len(results) + len(completions)


def test_a_message_and_its_records_are_one_command(undisturbed: OpenedLog) -> None:
    for path, story in undisturbed.stories.items():
        number = 0
        for _, kind, _, session_id, command_id, _ in story:
            number += kind == MEMORY_APPENDED
            if kind in (MEMORY_APPENDED, ACTIVITY_RECORDED):
                assert command_id == f"{session_id}/message-{number}", path


def test_each_session_is_paused_and_resumed_half_way_and_ends_as_the_recording_did(undisturbed: OpenedLog) -> None:
    for path, session in undisturbed.recording.sessions.items():
        story = undisturbed.stories[path]
        lifecycle = [kind for _, kind, *_ in story if kind not in (MEMORY_APPENDED, ACTIVITY_RECORDED)]
        assert lifecycle == [SPAWNED, PAUSED, RESUMED, EPISODE_RECORDED, TERMINATED]
        kinds = [kind for _, kind, *_ in story]
        before = kinds[: kinds.index(PAUSED)].count(MEMORY_APPENDED)
        assert before == len(session["traj"]) // 2
        assert data_of(story, PAUSED)[0]["checkpoint_id"] == "half-way"
        ((episode,), (end,)) = data_of(story, EPISODE_RECORDED), data_of(story, TERMINATED)
        outcome = {1.0: "success", 0.0: "failure"}[session["reward"]]
        assert (end["outcome"], episode["episode"]["outcome"]) == (outcome, outcome)
        assert episode["episode"]["outcome_details"] == {"reward": session["reward"]}
        first = next(message["content"] for message in session["traj"] if message["role"] == "user")
        assert episode["episode"]["task_description"] == first[:500]


def test_there_is_one_episode_a_session_with_its_tools(undisturbed: OpenedLog) -> None:
    assert len(undisturbed.episodes) == len(undisturbed.recording.sessions)
    for episode in undisturbed.episodes.values():
        session = undisturbed.recording.sessions[f"{episode['project_id']}/{episode['agent_instance_id']}"]
        tools = [message["name"] for message in session["traj"] if message["role"] == "tool"]
        assert [action["tool"] for action in episode["actions"]] == tools


# -- once ------------------------------------------------------------------------------------------------------------


def test_a_second_run_adds_no_event(undisturbed: OpenedLog, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert run(undisturbed.recording, undisturbed.data_dir) == 0
    assert json.loads(capsys.readouterr().out)["events_added"] == 0
    assert stories(undisturbed.data_dir) == undisturbed.stories


@pytest.mark.slow
def test_another_order_and_fewer_at_a_time_give_the_same(undisturbed: OpenedLog, tmp_path: Path) -> None:
    assert run(undisturbed.recording, tmp_path / "data", "--parallel", "3", "--limit", "2") == 0
    assert run(undisturbed.recording, tmp_path / "data", "--parallel", "7") == 0
    assert stories(tmp_path / "data") == undisturbed.stories


def test_who_starts_over_without_command_ids_has_messages_twice() -> None:
    """The control: what the tests below would find if a run did not know what is behind it."""
    source = sample_source()
    (session, *_) = read_sessions(source, Limits())
    messages: list[Any] = [step.message for step in steps_of(session)]
    steps = [evolve(message, command_id=None) for message in messages]
    with AgentSystem.open("memory://") as system:
        agent = system.agent("sample/naive")
        for message in [*steps[:4], *steps[1:-1]]:
            agent.ask(message)
        assert agent.get("messages") == [*session.messages[:3], *session.messages]


# -- whatever is killed ----------------------------------------------------------------------------------------------

_KILLS = 3
SEEDS = range(5)


@pytest.fixture
def chance(request: pytest.FixtureRequest) -> random.Random:
    """Seeded by the test's parameter; pytest shows what is printed here when the test fails."""
    seed = request.node.callspec.params["seed"]
    print(f"seed {seed}")
    return random.Random(seed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
def test_a_run_that_is_killed_and_run_again_ends_as_if_nothing_had_happened(
    undisturbed: OpenedLog, tmp_path: Path, chance: random.Random, seed: int
) -> None:
    data_dir = tmp_path / "data"
    for moment in moments(undisturbed, chance):
        with start(tmp_path, "run", str(undisturbed.recording.file), "--json", "--data-dir", str(data_dir)) as process:
            reaches(data_dir, moment)
            process.kill()
            assert process.wait(30) == -signal.SIGKILL, "it was under way"
        print(f"killed after {moment} of {undisturbed.size} bytes")
    assert_same(undisturbed, data_dir)


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
def test_a_run_whose_server_is_killed_ends_as_if_nothing_had_happened(
    undisturbed: OpenedLog, tmp_path: Path, chance: random.Random, seed: int
) -> None:
    data_dir = tmp_path / "data"
    with start(tmp_path, "run", str(undisturbed.recording.file), "--json", "--data-dir", str(data_dir)) as process:
        for moment in moments(undisturbed, chance):
            pid = reaches(data_dir, moment)
            assert process.poll() is None, "it was under way"
            os.kill(pid, signal.SIGKILL)
            assert process_ends(pid)
            print(f"server {pid} killed after {moment} of {undisturbed.size} bytes")
        out, err = process.communicate(timeout=120)
    # A server that is killed while it starts may end the run; mostly it goes on with the next one.
    assert process.returncode in (0, 3), err
    assert (json.loads(out)["sessions_done"] == len(undisturbed.recording.sessions)) == (process.returncode == 0)
    assert_same(undisturbed, data_dir)


def moments(undisturbed: OpenedLog, chance: random.Random) -> list[int]:
    """When to kill: after so many bytes on disk, which unlike a time does not depend on the machine."""
    return sorted(chance.randrange(undisturbed.size * 8 // 10) for _ in range(_KILLS))


def reaches(data_dir: Path, size: int) -> int:
    """Wait until so much is on disk; the process id of the server, which by then answers."""
    return eventually(lambda: written(data_dir) >= size and server_of(data_dir), 60, what=f"{size} bytes on disk")


def server_of(data_dir: Path) -> int:
    record = DataDirectory(data_dir).read_record() if data_dir.exists() else None
    pid = None if record is None else ready_pid(record.socket_path)
    return pid or 0


def assert_same(undisturbed: OpenedLog, data_dir: Path) -> None:
    assert run(undisturbed.recording, data_dir) == 0
    found = stories(data_dir)
    for path, story in undisturbed.stories.items():
        assert found.get(path) == story, path
    assert found.keys() == undisturbed.stories.keys()
    assert episodes(data_dir) == undisturbed.episodes
