"""`duramen inspect` and `duramen serve --inspect` as processes: the first line is the address, and signals end them."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from command_line import Duramen, environment, start
from duramen.actors import AgentSystem

pytestmark = pytest.mark.slow  # each test starts a process and a server

SECONDS = 60


@contextmanager
def running(folder: Path, *words: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The process, and its first line."""
    process = start(folder, *words)
    try:
        assert process.stdout is not None
        yield process, process.stdout.readline()
    finally:
        process.kill()
        process.communicate(timeout=SECONDS)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    with AgentSystem.open(data_dir=tmp_path / ".duramen") as system:
        system.spawn("acme/alice", initial_state={"goal": "look"})
    return tmp_path


def get(url: str) -> tuple[int, bytes]:
    try:
        with urllib.request.urlopen(url, timeout=SECONDS) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_line_is_the_address_with_its_token_and_a_signal_ends_it(folder: Path, number: int) -> None:
    with running(folder, "inspect", "--port", "0", "--no-open") as (process, line):
        url = line.strip()
        assert get(url)[0] == 200
        assert get(url.partition("?")[0])[0] == 401
        process.send_signal(number)
        out, err = process.communicate(timeout=SECONDS)
        assert (process.returncode, out) == (0, "")
        assert "it only reads" in err
        assert url.partition("token=")[2] not in err


def test_an_exported_file_is_looked_into_without_a_store(folder: Path, tmp_path: Path) -> None:
    with AgentSystem.open(data_dir=folder / ".duramen") as system:
        system.export_session("acme/alice", tmp_path / "alice.duramen")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    with running(elsewhere, "inspect", "../alice.duramen", "--port", "0", "--no-open") as (_, line):
        url, _, token = line.strip().partition("?token=")
        request = urllib.request.Request(f"{url}api/agents", headers={"Authorization": f"Bearer {token}"})
        with urllib.request.urlopen(request, timeout=SECONDS) as answer:
            assert [row["path"] for row in json.load(answer)["rows"]] == ["acme", "acme/alice"]
    assert list(elsewhere.iterdir()) == []


def test_a_file_that_is_none_is_refused(duramen: Duramen, tmp_path: Path) -> None:
    ran = duramen("inspect", str(tmp_path / "missing"), "--no-open")
    assert ran.code == 2
    (tmp_path / "other").write_text("something else")
    assert duramen("inspect", str(tmp_path / "other"), "--no-open").code != 0


def test_json_says_what_it_may_do(folder: Path) -> None:
    with running(folder, "inspect", "--port", "0", "--no-open", "--allow-actions", "--json") as (_, line):
        found = json.loads(line)
        assert found["actions"] is True
        assert get(found["url"])[0] == 200


def test_without_its_packages_it_says_what_to_install(folder: Path) -> None:
    code = "import sys; sys.modules['uvicorn'] = None; from duramen.actors.console import main; sys.exit(main())"
    words = (sys.executable, "-P", "-c", code, "inspect", "--no-open")
    done = subprocess.run(words, cwd=folder, env=environment(), capture_output=True, text=True, timeout=SECONDS)
    assert (done.returncode, done.stdout) == (1, "")
    assert "pip install 'duramen[inspect]'" in done.stderr


def test_without_a_store_it_says_so(duramen: Duramen) -> None:
    ran = duramen("inspect", "--no-open")
    assert ran.code != 0
    assert "there is no store" in ran.err


@pytest.mark.parametrize("port", ["-1", "65536", "x", "80.5"])
def test_what_is_no_port_is_refused(duramen: Duramen, port: str) -> None:
    assert "is not a port" in duramen("inspect", "--port", port).err


def test_a_served_system_is_inspected(folder: Path) -> None:
    (folder / "shop.py").write_text("AGENTS = {}\n")
    words = ("serve", "shop:AGENTS", "--inspect", "--inspect-port", "0", "--json")
    with running(folder, *words) as (process, line):
        assert get(json.loads(line)["inspect"])[0] == 200
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=SECONDS)
        assert process.returncode == 0
