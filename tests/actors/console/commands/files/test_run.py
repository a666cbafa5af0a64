"""`duramen run`, in this process."""

from __future__ import annotations

import json
import re
import signal
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from command_line import Duramen
from duramen.actors import AgentSystem
from duramen.actors.console.ingest.ingestion import Ingestion

HELLO = [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "yes"}]
SUMMARY = {
    *{"sessions", "sessions_done", "sessions_known", "messages", "messages_added", "events_added"},
    *{"checkpoints_added", "episodes_added", "seconds", "events_per_second", "failures"},
}


def recording(folder: Path, name: str = "talks.json", value: Any = None) -> str:
    file = folder / name
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps([HELLO, HELLO] if value is None else value))
    return str(file)


def paths(duramen: Duramen) -> list[str]:
    return [entry["path"] for entry in duramen("agents", "--json").data]


# -- the sample ------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_sample_is_taken_in_once(duramen: Duramen) -> None:
    first, second = duramen("run", "--json"), duramen("run", "--json")
    assert (first.code, second.code) == (0, 0)
    assert set(first.data) == SUMMARY
    assert (first.data["sessions_done"], first.data["sessions_known"], first.data["failures"]) == (3, 0, [])
    assert first.data["messages_added"] == first.data["messages"] == 32
    assert (first.data["checkpoints_added"], first.data["episodes_added"]) == (3, 3)
    listed = duramen("agents", "--json").data
    assert sum(entry["seq"] for entry in listed) == first.data["events_added"]
    assert [(entry["path"], entry["status"], entry["agent_type"]) for entry in listed] == [
        ("sample/deployment-helper", "terminated", "recorded"),
        ("sample/refund-helper", "terminated", "recorded"),
        ("sample/research-assistant", "terminated", "recorded"),
    ]
    assert (second.data["sessions_known"], second.data["events_added"], second.data["messages_added"]) == (3, 0, 0)
    assert duramen("agents", "--json").data == listed


def test_the_sample_leaves_the_outcomes_tools_and_tokens_of_the_recordings(duramen: Duramen) -> None:
    duramen("run")
    found = {entry["agent_instance_id"]: entry for entry in duramen("episodes", "--json").data}
    assert {name: entry["outcome"] for name, entry in found.items()} == {
        "research-assistant": "success",
        "refund-helper": "success",
        "deployment-helper": "failure",
    }
    deployment = found["deployment-helper"]
    assert [action["tool"] for action in deployment["actions"]] == [
        *["get_release", "deploy", "check_health", "roll_back"]
    ]
    assert deployment["tokens_used"] > 0
    assert deployment["outcome_details"] == {"reward": 0.0}
    assert deployment["task_description"] == "Please bring version 2.4.0 of the billing service to production."


def test_the_summary_shows_people_what_was_done_and_what_to_try_next(duramen: Duramen, data_dir: Path) -> None:
    shown = duramen("run").out
    for words in (r"sessions +3", r"messages added +32", r"checkpoints +3", r"episodes +3", r"events added +81"):
        assert re.search(words, shown), words
    assert "already" not in shown
    assert "nothing to add" in duramen("run").out


def test_where_nothing_is_kept_nothing_is_there_to_try(duramen: Duramen) -> None:
    ran = duramen("run", "--url", "memory://")
    assert ran.code == 0
    assert "events added" in ran.out
    assert "what to try next" not in ran.out


@pytest.mark.slow
def test_what_to_try_next_can_be_tried(duramen: Duramen, data_dir: Path) -> None:
    shown = duramen("run").out
    commands = re.findall(r"^  duramen (.*?)  ", shown.partition("what to try next")[2], re.MULTILINE)
    assert 4 <= len(commands) <= 6
    for command in commands:
        words = command.split()
        assert words[-2:] == ["--data-dir", str(data_dir)]
        ran = duramen(*words)
        assert (ran.code, ran.err) == (0, ""), command
        assert ran.out
    assert duramen("run", "--json").data["events_added"] == 0, "and a later run still adds nothing"


# -- files -----------------------------------------------------------------------------------------------------------


def test_agents_are_named_by_file_and_session(duramen: Duramen, tmp_path: Path) -> None:
    files = [recording(tmp_path, "My Talks.json"), recording(tmp_path, "日本.json", HELLO)]
    assert duramen("run", *files).code == 0
    assert paths(duramen) == ["my-talks/session-0001", "my-talks/session-0002", "recording/session-0001"]


def test_a_project_can_be_given(duramen: Duramen, tmp_path: Path) -> None:
    assert duramen("run", recording(tmp_path), "--project", "acme").code == 0
    assert paths(duramen) == ["acme/session-0001", "acme/session-0002"]


def test_no_more_sessions_are_taken_in_than_asked_for(duramen: Duramen, tmp_path: Path) -> None:
    files = [recording(tmp_path), recording(tmp_path, "b.json"), recording(tmp_path, "c.json")]
    assert duramen("run", *files, "--limit", "3", "--json").data["sessions"] == 3
    assert paths(duramen) == ["b/session-0001", "talks/session-0001", "talks/session-0002"]
    assert duramen("run", *files, "--json").data["events_added"] == 3 * 8


def test_two_files_that_name_the_same_agents_are_refused_together(
    duramen: Duramen, tmp_path: Path, data_dir: Path
) -> None:
    files = [recording(tmp_path / "one"), recording(tmp_path / "two")]
    ran = duramen("run", *files)
    assert ran.code == 2
    assert "talks/session-0001" in ran.err
    assert not data_dir.exists()
    assert duramen("run", files[0]).code == duramen("run", files[1], "--project", "other").code == 0


def test_nothing_is_written_when_any_file_is_bad(duramen: Duramen, tmp_path: Path, data_dir: Path) -> None:
    files = [recording(tmp_path), recording(tmp_path, "bad.json", [HELLO, [{"role": "user"}, {"content": "x"}]])]
    ran = duramen("run", *files)
    assert (ran.code, ran.out) == (2, "")
    assert ran.err == "duramen: bad.json: /1/1 has no role, or one that is no text\n"
    assert not data_dir.exists()


def test_one_session_at_a_time_gives_the_same(duramen: Duramen, tmp_path: Path) -> None:
    assert duramen("run", recording(tmp_path), "--parallel", "1", "--json").data["events_added"] == 16


def test_a_session_that_cannot_be_taken_in_is_told_and_the_others_are(duramen: Duramen, tmp_path: Path) -> None:
    duramen("spawn", "talks/session-0001")
    ran = duramen("run", recording(tmp_path), "--json")
    assert ran.code == 1
    (failure,) = ran.data["failures"]
    assert (failure["path"], failure["error"]) == ("talks/session-0001", "AgentAlreadyRunning")
    assert ran.data["episodes_added"] == 1
    assert ran.err.startswith("duramen: talks/session-0001: ")


def test_many_failures_are_summed_up(duramen: Duramen, tmp_path: Path, data_dir: Path) -> None:
    with AgentSystem.open(data_dir=data_dir) as system:
        for number in range(1, 9):
            system.spawn(f"talks/session-{number:04d}")
        ran = duramen("run", recording(tmp_path, value=[HELLO] * 8))
    assert ran.code == 1
    assert len(ran.err.splitlines()) == 6
    assert "3 more sessions failed" in ran.err


# -- interrupted -----------------------------------------------------------------------------------------------------


def test_a_run_that_is_interrupted_says_how_far_it_came_and_is_carried_on(
    duramen: Duramen, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Interrupted(Ingestion):
        def _count(self, *step: Any) -> None:
            super()._count(*step)
            if self.totals.added_messages == 3:
                signal.raise_signal(signal.SIGINT)

    file = recording(tmp_path, value=[HELLO] * 4)
    monkeypatch.setattr(import_module("duramen.actors.console.commands.files.run"), "Ingestion", Interrupted)
    ran = duramen("run", file, "--parallel", "1")
    assert ran.code == 130
    assert "duramen: interrupted\n" in ran.err
    assert "1 of 4 sessions and 3 of 8 messages are in" in ran.err
    assert "what to try next" not in ran.out
    monkeypatch.undo()
    second = duramen("run", file, "--json").data
    # The command that was under way may have been committed.
    assert second["messages_added"] in (4, 5)
    assert second["sessions_known"] == 1
    assert [entry["seq"] for entry in duramen("agents", "--json").data] == [8] * 4
