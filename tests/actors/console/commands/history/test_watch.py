"""`duramen watch` and `log --follow`: what other processes write is seen as it is committed, and nothing twice."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from command_line import Duramen, start
from duramen.actors import AgentSystem
from duramen.actors.console.serving import interruption
from duramen.events.embedded.server import EmbeddedServer
from duramen.events.model.cursor import Cursor
from servers import redis_server
from streaming import Stream

CURSOR = re.compile(r"^duramen: go on from here with --after ([0-9a-f]+)$", re.MULTILINE)


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """Where a store is that runs all the time."""
    with EmbeddedServer.open(tmp_path / ".duramen"):
        yield tmp_path


@pytest.fixture
def system(folder: Path) -> Iterator[AgentSystem]:
    """On that store, in a process other than the command's."""
    with AgentSystem.open(data_dir=folder / ".duramen") as found:
        yield found


class Watching:
    """A command that goes on until it is told to end."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        assert process.stderr is not None
        self.process = process
        self.out = Stream(process.stdout.fileno())
        self.err = Stream(process.stderr.fileno())

    def data(self) -> Any:
        return json.loads(self.out.line())

    def end(self, number: int = signal.SIGINT) -> str:
        """What is on stderr at the end; nothing more may be on stdout."""
        os.killpg(self.process.pid, number)
        out, err = self.process.communicate(timeout=30)
        assert (self.out.kept + out, self.process.returncode) == ("", 130)
        assert "Traceback" not in err
        return self.err.kept + err


@contextmanager
def watching(folder: Path, *words: str) -> Generator[Watching]:
    with start(folder, *words) as process:
        try:
            yield Watching(process)
        finally:
            process.kill()


def cursor_in(err: str) -> str:
    found = CURSOR.search(err)
    assert found is not None, err
    return found[1]


@pytest.mark.slow
def test_changes_of_another_process_come_as_they_are_committed(folder: Path, system: AgentSystem) -> None:
    alice = system.spawn("acme/alice", initial_state={"plan": {"steps": ["read"]}})
    with watching(folder, "watch", "acme/*/plan/**", "--json", "--values") as shown:
        assert shown.err.line() == "duramen: watching acme/*/plan/**; Ctrl-C ends"
        alice.set("goal", "x")
        alice.append("plan/steps", "write")
        change = shown.data()
        assert list(change) == ["agent", "seq", "paths", "event", "values"]
        assert (change["agent"], change["seq"], change["paths"]) == ("acme/alice", 3, ["plan/steps"])
        assert change["event"]["data"] == {"path": "plan/steps", "values": ["write"]}
        assert change["values"] == {"plan/steps": {"old": ["read"], "new": ["read", "write"]}}
        alice.delete("plan")
        assert shown.data()["values"] == {"plan": {"old": {"steps": ["read", "write"]}}}
        assert cursor_in(shown.end())


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_cursor_of_the_end_goes_on_with_the_very_next_change(
    folder: Path, system: AgentSystem, number: signal.Signals
) -> None:
    alice = system.spawn("acme/alice")
    alice.set("n", 0)
    with watching(folder, "watch", "--from-start", "--json") as shown:
        assert [shown.data()["seq"] for _ in range(2)] == [1, 2]
        cursor = cursor_in(shown.end(number))
    with alice.batch() as batch:
        for n in range(3):
            batch.set("n", n)
    with watching(folder, "watch", "--after", cursor, "--json", "--limit", "2") as shown:
        assert [shown.data()["seq"] for _ in range(2)] == [3, 4]
        assert shown.process.wait(30) == 0
        assert shown.process.stderr is not None
        cursor = cursor_in(shown.process.stderr.read())
    with watching(folder, "watch", "--after", cursor, "--json") as shown:
        assert shown.data()["seq"] == 5, "the cursor stands within the batch"
        shown.end()


@pytest.mark.slow
def test_followed_the_log_goes_on_with_what_comes(folder: Path, system: AgentSystem) -> None:
    alice = system.spawn("acme/alice")
    child = alice.spawn_child("helper")
    for n in range(5):
        alice.set("n", n)
    with watching(folder, "log", "acme/alice", "--follow", "--limit", "2", "--json") as shown:
        assert [shown.data()["seq"] for _ in range(2)] == [6, 7]
        child.set("not", "hers")
        alice.set("n", 5)
        alice.record("note", "y")
        assert [shown.data()["seq"] for _ in range(2)] == [8, 9]
        assert shown.end() == "duramen: go on from here with --from 10\n"
    with watching(folder, "log", "acme/alice", "-f", "--from", "9", "--limit", "2", "--json") as shown:
        assert shown.data()["seq"] == 9
        alice.set("n", 6)
        assert shown.data()["seq"] == 10
        assert shown.process.wait(30) == 0


@pytest.mark.slow
def test_a_server_of_the_users_is_watched_as_well(folder: Path) -> None:
    with (
        redis_server() as server,
        AgentSystem.open(server.url) as system,
        watching(folder, "watch", "--url", server.url, "--json") as shown,
    ):
        shown.err.line()
        system.spawn("acme/alice")
        assert shown.data()["event"]["type"] == "spawned"
        shown.end()


@pytest.mark.slow
def test_a_reader_that_has_enough_ends_it_quietly(folder: Path, system: AgentSystem) -> None:
    alice = system.spawn("acme/alice")
    with watching(folder, "watch", "--from-start", "--json") as shown:
        shown.data()
        assert shown.process.stdout is not None
        shown.process.stdout.close()
        alice.set("n", 1)
        assert shown.process.wait(30) == 0
        assert shown.process.stderr is not None
        assert "Traceback" not in shown.process.stderr.read()


# -- in this process ---------------------------------------------------------------------------------------------------


@pytest.fixture
def filled(duramen: Duramen, data_dir: Path) -> Iterator[Duramen]:
    """With some events of two agents."""
    with EmbeddedServer.open(data_dir):
        with AgentSystem.open(data_dir=data_dir) as system:
            alice, bob = system.spawn("acme/alice"), system.spawn("acme/bob")
            alice.set("plan", {"steps": []})
            alice.append("plan/steps", "\x1b[31mread")
            alice.set("plan/done", False)
            bob.record("note", "hello")
            alice.delete("plan/done")
        yield duramen


def seqs(out: str) -> list[tuple[str, int]]:
    return [(change["agent"], change["seq"]) for change in map(json.loads, out.splitlines())]


def test_people_see_who_did_what_and_with_values_what_it_changed(filled: Duramen) -> None:
    lines = filled("watch", "acme/alice/**", "--from-start", "--values", "--limit", "5").out.splitlines()
    assert re.sub(r"[0-9:-]+ [0-9:]+", "…", lines[0], count=1).startswith("…  acme/alice@1  spawned, session ")
    assert [line.split("  ", 1)[1].strip() for line in lines[1:]] == [
        'acme/alice@2  set plan: {"steps": []}',
        '+ plan: {"steps": []}',
        "acme/alice@3  appended 1 to plan/steps: \\u001b[31mread",
        '+ plan/steps/0: "\\u001b[31mread"',
        "acme/alice@4  set plan/done: false",
        "+ plan/done: false",
        "acme/alice@5  deleted plan/done",
        "- plan/done: false",
    ]


def test_a_level_leaves_out_what_is_finer(filled: Duramen) -> None:
    everything = seqs(filled("watch", "acme/bob/**", "--from-start", "--json", "--limit", "2").out)
    assert everything == [("acme/bob", 1), ("acme/bob", 2)]
    words = ["watch", "--granularity", "lifecycle", "--from-start", "--json", "--limit", "2"]
    assert sorted(seqs(filled(*words).out)) == [("acme/alice", 1), ("acme/bob", 1)]


def test_for_screens_it_may_come_in_bursts(filled: Duramen, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, Any]] = []
    subscribe = AgentSystem.subscribe

    def noted(system: AgentSystem, *words: Any, **options: Any) -> Any:
        asked.append(options)
        return subscribe(system, *words, **options)

    monkeypatch.setattr(AgentSystem, "subscribe", noted)
    assert filled("watch", "--from-start", "--latest-only", "--every", "0.2", "--limit", "1").code == 0
    assert filled("watch", "--from-start", "--limit", "1").code == 0
    assert [(options["latest_only"], options["every"]) for options in asked] == [(True, 0.2), (False, None)]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--after", "xyz"], "no cursor"),
        (["--after", "c0"], "no cursor"),
        (["acme//x"], "pattern"),
        (["--after", Cursor("a" * 32).to_text()], "another log"),
    ],
)
def test_what_cannot_be_watched_is_told_in_a_line(filled: Duramen, words: list[str], said: str) -> None:
    ran = filled("watch", *words)
    assert ran.code in (2, 4)
    assert ran.err.startswith("duramen: ")
    assert ran.err.count("\n") == 1
    assert said in ran.err


def test_nobody_is_followed_but_who_is_there(filled: Duramen) -> None:
    ran = filled("log", "acme/nobody", "--follow")
    assert ran.code == 1
    assert "there is no agent acme/nobody" in ran.err


def test_the_first_interruption_is_noted_and_the_second_one_ends_at_once() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with interruption() as stop:
        signal.raise_signal(signal.SIGTERM)
        assert stop.asked
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_signal_that_is_ignored_stays_ignored() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with interruption() as stop:
            signal.raise_signal(signal.SIGINT)
            assert not stop.asked
    finally:
        signal.signal(signal.SIGINT, before)
