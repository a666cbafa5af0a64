"""The commands that look back, prove and carry: what they say is what the library says."""

from __future__ import annotations

import base64
import json
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from io import BytesIO, TextIOWrapper
from pathlib import Path
from typing import Any

import pytest
import redis

from command_line import Duramen
from duramen.actors import AgentSystem
from duramen.actors.console.arguments.moments import parse_moment
from duramen.actors.console.output.changed_values import find_changes
from duramen.events import Event
from duramen.events.embedded.server import EmbeddedServer
from duramen.events.log.keys import Keys, partition_of
from duramen.projections.recorded import RecordedLog, record_log, save_log
from duramen.projections.state.missing import MISSING
from servers import redis_server

ALICE = "acme/alice"


def lived(system: AgentSystem) -> None:
    """Nine events of alice, of every kind that changes values; two of her helper, one of bob."""
    alice = system.spawn(ALICE, session_id="s-1", initial_state={"plan": {"steps": ["read"]}, "n": 0})
    alice.append("plan/steps", {"do": "write"})
    alice.record("tool_output", {"tool": "search", "result": 7})
    alice.pause("lunch")
    alice.resume("lunch")
    alice.merge("", {"n": None, "profile": {"tone": "dry"}})
    alice.set("plan/steps/0", "\x1b[31mread")
    alice.spawn_child("helper").set("x", 1)
    alice.delete("plan/steps/0")
    system.spawn("acme/bob", initial_state={"n": 0})


@pytest.fixture
def data(data_dir: Path) -> Iterator[Path]:
    """A store with some past."""
    with EmbeddedServer.open(data_dir):
        with AgentSystem.open(data_dir=data_dir) as system:
            lived(system)
        yield data_dir


@pytest.fixture
def system(data: Path) -> Iterator[AgentSystem]:
    with AgentSystem.open(data_dir=data) as found:
        yield found


pytestmark = pytest.mark.usefixtures("data")


def rows(out: str) -> list[Any]:
    return [json.loads(line) for line in out.splitlines()]


# -- moments -----------------------------------------------------------------------------------------------------------


def test_a_moment_is_a_seq_a_time_a_checkpoint_or_now() -> None:
    assert parse_moment("412") == 412
    assert parse_moment("2025-01-31T12:00:00+02:00") == datetime(2025, 1, 31, 10, tzinfo=UTC)
    midnight = parse_moment("2025-01-31")
    assert isinstance(midnight, datetime)
    assert midnight.utcoffset() is not None
    assert parse_moment("lunch") == "lunch"
    assert parse_moment("20250131T120000Z-0a1b2c3d") == "20250131T120000Z-0a1b2c3d", "what pause makes up is no time"
    assert parse_moment("now") is None


@pytest.mark.parametrize("name", ["412", "2025-01-31", "now", "lunch", "checkpoint:x"])
def test_a_checkpoint_that_looks_like_something_else_can_be_named(name: str) -> None:
    assert parse_moment(f"checkpoint:{name}") == name


# -- show --at, diff, blame --------------------------------------------------------------------------------------------


def test_an_agent_is_shown_as_it_was(duramen: Duramen, system: AgentSystem) -> None:
    shown = duramen("show", ALICE, "--at", "2", "--json").data
    assert (shown["seq"], shown["status"], shown["session_id"]) == (2, "running", "s-1")
    assert shown["memory"] == {"plan": {"steps": ["read", {"do": "write"}]}, "n": 0}
    assert list(shown) == list(duramen("show", ALICE, "--json").data)
    assert duramen("show", ALICE, "plan/steps/0", "--at", "2").out == "read\n"
    assert duramen("show", ALICE, "--at", "2", "plan/steps/0").out == "read\n", "options may stand between"
    assert duramen("show", ALICE, "--at", "lunch", "--json").data["memory"]["n"] == 0
    third = list(system.events(ALICE))[2]
    just = duramen("show", ALICE, "--at", third.time.isoformat(), "--json").data
    before = duramen("show", ALICE, "--at", (third.time - timedelta(microseconds=1)).isoformat(), "--json").data
    assert (just["seq"] >= 3, before["seq"]) == (True, 2)


@pytest.mark.parametrize(
    ("at", "code"), [("999", 2), ("nothing", 1), ("checkpoint:3", 1)], ids=["no seq", "no checkpoint", "no id"]
)
def test_a_moment_that_never_was_is_an_error_in_a_line(duramen: Duramen, at: str, code: int) -> None:
    ran = duramen("show", ALICE, "--at", at)
    assert (ran.code, ran.out) == (code, "")
    assert ran.err.startswith("duramen: ")
    assert ran.err.count("\n") == 1


def test_a_difference_names_paths_with_old_and_new(duramen: Duramen) -> None:
    found = duramen("diff", ALICE, "1", "6", "--json").data
    assert (found["a"]["seq"], found["b"]["seq"]) == (1, 6)
    assert found["removed"] == {"n": 0}
    assert found["added"] == {"plan/steps/1": {"do": "write"}, "profile": {"tone": "dry"}}
    lines = duramen("diff", ALICE, "1", "6").out.splitlines()
    assert lines[:2] == ["--- acme/alice at 1", "+++ acme/alice at 6"]
    assert "- n: 0" in lines
    assert '+ plan/steps/1: {"do": "write"}' in lines
    assert duramen("diff", ALICE, "lunch", "4").out.splitlines()[-1] == "  no difference"
    assert duramen("diff", ALICE, "1", "--other", "acme/bob", "--json").data["b"] == {"agent": "acme/bob", "seq": 1}
    assert duramen("diff", ALICE).code == 2


def test_blame_names_the_event_that_set_a_value(duramen: Duramen) -> None:
    found = duramen("blame", ALICE, "profile/tone", "--json").data
    assert (found["agent"], found["property"], found["seq"], found["type"]) == (
        ALICE,
        "profile/tone",
        6,
        "memory_merged",
    )
    assert duramen("blame", ALICE, "plan", "--at", "2", "--json").data["leaves"] == {
        "plan/steps/0": 1,
        "plan/steps/1/do": 2,
    }
    assert "set by acme/alice@7" in duramen("blame", ALICE, "plan/steps/0", "--at", "7").out
    assert duramen("blame", ALICE, "nothing").code == 1


# -- replay ------------------------------------------------------------------------------------------------------------


def test_a_replay_tells_of_each_event_what_it_changed(duramen: Duramen, system: AgentSystem) -> None:
    told = rows(duramen("replay", ALICE, "--json").out)
    events = list(system.events(ALICE))
    assert [row["event"]["seq"] for row in told] == [event.seq for event in events]
    by_type = {row["event"]["type"]: row["changes"] for row in told}
    assert by_type["memory_appended"] == {"plan/steps/1": {"new": {"do": "write"}}}
    assert by_type["memory_merged"] == {"n": {"old": 0}, "profile": {"new": {"tone": "dry"}}}
    assert by_type["memory_set"] == {"plan/steps/0": {"old": "read", "new": "\x1b[31mread"}}
    assert by_type["memory_deleted"] == {
        "plan/steps/0": {"old": "\x1b[31mread", "new": {"do": "write"}},
        "plan/steps/1": {"old": {"do": "write"}},
    }
    assert by_type["activity_recorded"] == {}
    assert told[3]["status"] == "paused"


def test_the_changes_of_a_replay_add_up_to_the_state(system: AgentSystem) -> None:
    past = system.replay(ALICE)
    before = past.state
    for event, after in past:
        expected = system.diff(ALICE, before.seq, after.seq)
        changed = find_changes(event, before, after)
        assert {path for path, (old, _) in changed.items() if old is MISSING} == set(expected.added), event
        assert {path for path, (_, new) in changed.items() if new is MISSING} == set(expected.removed), event
        both = {path for path, pair in changed.items() if MISSING not in pair}
        assert both == set(expected.changed), event
        before = after


def test_people_see_a_line_a_change_that_does_nothing_to_their_terminal(duramen: Duramen) -> None:
    ran = duramen("replay", ALICE, "--from", "6", "--to", "7", "--step")  # no terminal here: lines
    lines = [line.strip() for line in ran.out.splitlines()]
    assert len(lines) == 5
    assert lines[1:3] == ["- n: 0", '+ profile: {"tone": "dry"}']
    assert lines[4] == '~ plan/steps/0: "read" → "\\u001b[31mread"'
    assert "\x1b" not in ran.out


def test_a_replay_of_what_is_not_there_is_an_error_in_a_line(duramen: Duramen) -> None:
    for words, code in ((["acme/nobody"], 1), ([ALICE, "--to", "99"], 2), ([ALICE, "--from", "99"], 2)):
        ran = duramen("replay", *words)
        assert (ran.code, ran.out, ran.err.count("\n")) == (code, "", 1)


def test_of_a_trimmed_log_what_is_left_is_shown(duramen: Duramen, system: AgentSystem) -> None:
    for n in range(5):
        system.agent("acme/bob").set("n", n)
    assert system.trim("acme/bob", keep_events=2).base == 4
    assert [row["event"]["seq"] for row in rows(duramen("replay", "acme/bob", "--json").out)] == [5, 6]
    assert [row["seq"] for row in rows(duramen("log", "acme/bob", "--json").out)] == [5, 6]
    assert duramen("replay", "acme/bob", "--from", "1").code == 1


# -- verify ------------------------------------------------------------------------------------------------------------


def flip(data_dir: Path, agent: str, seq: int) -> None:
    """Change a bit of a stored event, as a failing disk would."""
    with EmbeddedServer.open(data_dir) as server, redis.Redis(unix_socket_path=str(server.socket_path)) as client:
        key = Keys("default").log(partition_of(agent, 16), agent)
        item = bytearray(client.lindex(key, seq - 1))
        item[-1] ^= 1
        client.lset(key, seq - 1, bytes(item))


def test_a_sound_store_is_exit_code_0(duramen: Duramen) -> None:
    ran = duramen("verify", "--json")
    assert (ran.code, ran.data["ok"], ran.data["problems"]) == (0, True, [])
    assert ran.data["agents"] == 3
    assert duramen("verify").out.startswith(f"ok: {ran.data['events']} events of 3 agents")
    tree = duramen("verify", ALICE, "--tree", "--json").data
    alone = duramen("verify", ALICE, ALICE, "--json").data
    assert (tree["agents"], alone["agents"]) == (2, 1)
    assert duramen("verify", "acme/nobody").code == 1


def test_damage_is_named_and_is_exit_code_4(duramen: Duramen, data: Path) -> None:
    flip(data, ALICE, 3)
    ran = duramen("verify", "--json")
    assert (ran.code, ran.data["ok"]) == (4, False)
    assert {(problem["agent"], problem["seq"]) for problem in ran.data["problems"]} >= {(ALICE, 3)}
    shown = duramen("verify", "acme/bob", ALICE)
    assert shown.code == 4
    assert "acme/alice@3" in shown.out
    assert duramen("verify", "acme/bob").code == 0


# -- export, import, fork ----------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_what_is_exported_is_imported_with_equal_digests(duramen: Duramen, tmp_path: Path) -> None:
    file = str(tmp_path / "alice.duramen")
    written = duramen("export", ALICE, file, "--tree", "--json").data
    assert [carried["agent"] for carried in written["agents"]] == [ALICE, f"{ALICE}/helper"]
    other = str(tmp_path / "other")
    taken = duramen("import", file, "--json", "--data-dir", other).data
    assert taken["agents"] == written["agents"]
    assert duramen("verify", "--data-dir", other).code == 0
    moved = duramen("import", file, "--to", "acme/moved")
    assert moved.out.startswith("acme/moved: 9 events taken in (seq 9, digest ")
    again = duramen("import", file)
    assert (again.code, again.err.count("\n")) == (1, 1)


def test_an_export_to_another_server_and_by_pipes(
    duramen: Duramen, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    written = BytesIO()
    with monkeypatch.context() as patched:
        patched.setattr(sys, "stdout", TextIOWrapper(written, write_through=True))
        assert duramen("export", ALICE, "-").code == 0
        session = written.getvalue()
    monkeypatch.setattr(sys, "stdin", TextIOWrapper(BytesIO(session)))
    with redis_server() as server:
        assert duramen("import", "-", "--url", server.url).code == 0
        assert duramen("verify", "--url", server.url).code == 0
        assert duramen("diff", ALICE, "1", "--url", server.url).code == 0
    capsys.readouterr()


def test_events_are_exported_as_json_lines(duramen: Duramen, tmp_path: Path, system: AgentSystem) -> None:
    file = tmp_path / "alice.jsonl"
    assert duramen("export", ALICE, str(file), "--jsonl").out == f"{ALICE}: 9 events written to {file}\n"
    assert [row["seq"] for row in rows(file.read_text())] == [event.seq for event in system.events(ALICE)]


def test_a_page_without_a_server_is_exported(duramen: Duramen, tmp_path: Path, system: AgentSystem) -> None:
    file = tmp_path / "alice.html"
    assert duramen("export", ALICE, str(file), "--html").out == f"{ALICE}: 9 events written to {file}\n"
    assert file.read_text().startswith("<!doctype html>")
    assert duramen("export", ALICE, "-", "--html").out.startswith("<!doctype html>")
    assert duramen("export", ALICE, str(file), "--html", "--jsonl").code == 2


@pytest.mark.parametrize("command", ["export", "import"])
@pytest.mark.parametrize("name", ["", "/", ".", "no/such/folder/file"])
def test_a_file_that_cannot_be_used_is_told_in_a_line(duramen: Duramen, command: str, name: str) -> None:
    ran = duramen(command, *([ALICE] if command == "export" else []), name)
    assert (ran.code, ran.out, ran.err.count("\n")) == (2, "", 1)
    assert ran.err.startswith("duramen: ")


def test_a_file_that_cannot_be_read_makes_no_store(duramen: Duramen, tmp_path: Path) -> None:
    other = tmp_path / "other"
    assert duramen("import", "missing", "--data-dir", str(other)).code == 2
    assert not other.exists()


def test_a_damaged_session_file_leaves_no_agent(duramen: Duramen, tmp_path: Path) -> None:
    file = tmp_path / "alice.duramen"
    duramen("export", ALICE, str(file))
    damaged = bytearray(file.read_bytes())
    damaged[len(damaged) // 2] ^= 255
    file.write_bytes(bytes(damaged))
    ran = duramen("import", str(file), "--to", "acme/copy")
    assert ran.code in (2, 4), "how much of it can be read depends on the place"
    assert ran.err.count("\n") == 1
    assert duramen("show", "acme/copy").code == 1


def test_a_fork_goes_on_from_a_moment(duramen: Duramen) -> None:
    made = duramen("fork", ALICE, "--at", "lunch", "--to", "acme/other", "--session-id", "s-2", "--json").data
    assert (made["agent"], made["origin"], made["origin_seq"]) == ("acme/other", ALICE, 4)
    assert (made["status"], made["session_id"]) == ("running", "s-2")
    assert duramen("show", "acme/other", "n").out == "0\n"
    assert duramen("diff", ALICE, "3", "--other", "acme/other", "--json").data["changed"] == {}
    assert duramen("verify").code == 0
    again = duramen("fork", ALICE, "--to", "acme/other")
    assert (again.code, again.err.count("\n")) == (1, 1)
    assert duramen("fork", ALICE).code == 2


# -- verify --replay ---------------------------------------------------------------------------------------------------


def test_logs_that_fold_as_they_were_recorded_are_exit_code_0(
    duramen: Duramen, system: AgentSystem, tmp_path: Path
) -> None:
    file = tmp_path / "alice.log"
    save_log(record_log(system.log, ALICE), file)
    ran = duramen("verify", "--replay", str(file), "acme/bob", "--json")
    assert (ran.code, ran.data["ok"], ran.data["agents"], ran.data["events"]) == (0, True, 2, 10)
    assert duramen("verify", "--replay").out.startswith("ok: 12 events of 3 logs")


def test_a_log_that_folds_to_something_else_becomes_a_short_test(
    duramen: Duramen, system: AgentSystem, tmp_path: Path
) -> None:
    found = record_log(system.log, ALICE)
    assert found.changes is not None
    changes = [[] if index == 6 else change for index, change in enumerate(found.changes)]
    file = tmp_path / "alice.log"
    save_log(RecordedLog(found.agent, found.items, changes), file)
    ran = duramen("verify", "--replay", str(file), "--tests", str(tmp_path), "--json")
    assert (ran.code, ran.data["ok"]) == (4, False)
    (difference,) = ran.data["differences"]
    assert (difference["agent"], difference["kind"], difference["seq"]) == (ALICE, "state", 7)
    assert difference["test_events"] <= 5
    assert "def test_" in Path(difference["test"]).read_text()
    shown = duramen("verify", "--replay", str(file), "--tests", str(tmp_path))
    assert shown.code == 4
    assert difference["test"] in shown.out
    assert "read" not in shown.out, "no value is shown"


def test_the_users_own_types_are_known_when_their_module_is_named(
    duramen: Duramen, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "types_of_a_console_test.py").write_text("LOADED = True\n")
    assert duramen("verify", "--replay", ALICE, "--import", "types_of_a_console_test").code == 0
    assert sys.modules.pop("types_of_a_console_test").LOADED
    ran = duramen("verify", "--replay", ALICE, "--import", "no_such_module_anywhere")
    assert (ran.code, ran.err.count("\n")) == (2, 1)


# -- episodes search ---------------------------------------------------------------------------------------------------


def test_episodes_are_searched_by_words_best_first(duramen: Duramen, system: AgentSystem) -> None:
    system.agent("acme/bob").terminate(task_description="Refund for a kettle", lessons_learned=["quote the policy"])
    system.spawn("beta/carol").terminate(task_description="The refund policy, explained")
    system.spawn("beta/dan").terminate("failure", task_description="A train to Paris")
    found = duramen("episodes", "search", "--json", "explained", "refund").data
    assert [hit["project_id"] for hit in found] == ["beta", "acme"]
    assert found[0]["score"] >= found[1]["score"] > 0
    assert len(duramen("episodes", "search", "refund", "--project", "acme", "--json").data) == 1
    assert len(duramen("episodes", "search", "refund", "--limit", "1", "--json").data) == 1
    assert duramen("episodes", "search", "refund", "--outcome", "failure", "--json").data == []
    assert len(duramen("episodes", "--outcome", "failure", "--json").data) == 1
    lines = duramen("episodes", "search", "refund").out.splitlines()
    assert len(lines) == 3
    assert "no episode has any of these words" in duramen("episodes", "search", "xylophone").out
    for words in (["search"], ["search", " "], ["0123", "4567"]):
        assert duramen("episodes", *words).code == 2


def test_bytes_and_events_of_unknown_types_are_shown(duramen: Duramen, system: AgentSystem) -> None:
    system.agent("acme/bob").set("raw", b"\x00\xff")
    (row,) = rows(duramen("replay", "acme/bob", "--from", "2", "--json").out)
    assert row["changes"] == {"raw": {"new": {"$bytes": base64.b64encode(b"\x00\xff").decode()}}}
    event: Event = list(system.events("acme/bob"))[-1]
    assert event.data["value"] == b"\x00\xff"
