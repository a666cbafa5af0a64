"""What the scripts do on a machine that lacks something: they set it up, or say what is missing."""

from __future__ import annotations

import ast
import os
from pathlib import Path

import pytest

import environment

SCRIPTS = Path(environment.__file__).parent


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder that is all of PATH; the user is root."""
    folder = tmp_path / "programs"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    return folder


def program(folder: Path, name: str, *lines: str) -> None:
    path = folder / name
    path.write_text("\n".join(("#!/bin/sh", *lines)) + "\n")
    path.chmod(0o755)


@pytest.mark.parametrize("name", ["environment.py", "bench", "run", "test"])
def test_an_old_python_reads_far_enough_to_be_refused(name: str) -> None:
    ast.parse((SCRIPTS / name).read_text(encoding="utf-8"), feature_version=(3, 7))


def test_without_a_new_enough_python_the_message_says_which_is_needed(
    programs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(environment, "OLDEST", (3, 90))
    monkeypatch.setattr(environment, "NEWEST", (3, 91))
    with pytest.raises(SystemExit) as stopped:
        environment.require_python("scripts/test")
    assert stopped.value.code == 2
    assert "needs Python 3.90 or newer" in capsys.readouterr().err


def test_a_redis_server_on_path_is_enough(programs: Path) -> None:
    program(programs, "redis-server")
    program(programs, "apt-get", "exit 1")
    assert environment.ensure_redis_server() is None


def test_where_nothing_can_be_installed_the_sentence_says_what_is_lacking(programs: Path) -> None:
    lacking = environment.ensure_redis_server()
    assert lacking is not None
    assert "no redis-server on PATH" in lacking
    assert "apt-get install redis-server" in lacking


def test_without_a_browser_the_sentence_says_what_is_lacking(programs: Path) -> None:
    lacking = environment.ensure_browser()
    assert lacking is not None
    assert "apt-get install chromium chromium-driver" in lacking
    program(programs, "chromedriver")
    assert environment.ensure_browser() is None


def test_somebody_who_is_not_root_is_not_asked_to_wait_for_apt_get(
    programs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    program(programs, "apt-get", f": > {programs}/called")
    assert environment.ensure_redis_server() is not None
    assert not (programs / "called").exists()


def test_apt_get_updates_and_then_installs(programs: Path) -> None:
    program(
        programs,
        "apt-get",
        f'echo "$2" >> {programs}/asked',
        f'[ "$2" = update ] || {{ : > {programs}/redis-server; /bin/chmod +x {programs}/redis-server; }}',
    )
    assert environment.ensure_redis_server() is None
    assert (programs / "asked").read_text().split() == ["update", "install"]


def test_what_apt_get_says_when_it_fails_is_shown(programs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    program(programs, "apt-get", "echo E: no such source", "exit 100")
    assert environment.ensure_redis_server() is not None
    shown = capsys.readouterr().err
    assert "E: no such source" in shown
    assert "FAILED: apt-get update" in shown
    assert "FAILED: apt-get install" in shown


def test_a_child_is_led_neither_to_other_code_nor_to_the_users_server(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("PYTHONPATH", "VIRTUAL_ENV", "DURAMEN_URL"):
        monkeypatch.setenv(name, "elsewhere")
    cleaned = environment.clean_environ(PYTHONPATH="scripts/typing")
    assert cleaned["PYTHONPATH"] == "scripts/typing"
    assert "elsewhere" not in cleaned.values()
    assert cleaned["PATH"] == os.environ["PATH"]
