"""What shells complete, and what `--debug` adds to an error."""

from __future__ import annotations

import io
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from command_line import Duramen
from duramen.actors.console import main
from duramen.actors.console.commands import COMMANDS
from duramen.actors.console.commands.completion import SHELLS

_ASK = 'source "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($#-1)); _duramen; echo "${COMPREPLY[@]}"'


def completed(script: Path, *words: str) -> list[str]:
    """What bash offers for the last word."""
    line = ["bash", "-c", _ASK, "bash", str(script), "duramen", *words]
    return subprocess.run(line, capture_output=True, text=True, check=True).stdout.split()


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["check"], ["check-work", "checkpoints"]),
        (["log", "acme/alice", "--gran"], ["--granularity"]),
        (["log", "acme/alice", "--granularity", ""], ["lifecycle", "state", "activity", "trace"]),
        (["log", "acme/alice", "--granularity", "s"], ["state"]),
        (["log", "acme/alice", "--limit", ""], []),
        (["projections", "re"], ["rebuild", "retry", "remove"]),
        (["no-such-command", "--"], []),
    ],
)
def test_bash_completes_commands_options_and_choices(
    duramen: Duramen, tmp_path: Path, words: list[str], offered: list[str]
) -> None:
    script = tmp_path / "completion.bash"
    script.write_text(duramen("completion", "bash").out)
    assert completed(script, *words) == offered


@pytest.mark.parametrize("shell", SHELLS)
def test_every_command_and_option_is_completed(duramen: Duramen, shell: str) -> None:
    script = duramen("completion", shell).out
    for command in COMMANDS:
        assert command.name in script
        for option in re.findall(r"^  (?:-\w, )?--([a-z-]+)", duramen(command.name, "--help").out, re.MULTILINE):
            assert re.search(rf"(--|-l ){option}\b", script), (command.name, option)


def test_summaries_come_through_as_they_are(duramen: Duramen) -> None:
    zsh, fish = (duramen("completion", shell).out for shell in ("zsh", "fish"))
    words = [word for line in zsh.splitlines() if "'" in line for word in shlex.split(line)]
    for command in COMMANDS:
        assert f"{command.name}:{command.summary}" in [word.replace("\\:", ":") for word in words]
        quoted = command.summary.replace("'", "\\'")
        assert f"-a {command.name} -d '{quoted}'" in fish
    assert any(word.startswith("*--url[server\\: redis\\://") for word in words), "a colon ends a part in zsh"
    assert "-l url -r -d 'server: redis://" in fish


def test_zsh_completes_at_the_first_time_also_from_its_folder_of_functions(duramen: Duramen) -> None:
    """There the file is the body of the function: it has to call what it has defined, and must not register it."""
    ending = 'if [[ "$funcstack[1]" == _duramen ]]; then\n    _duramen "$@"\nelse\n    compdef _duramen duramen\nfi\n'
    script = duramen("completion", "zsh").out
    assert script.startswith("#compdef duramen\n")
    assert script.endswith(ending)
    assert script.count("compdef _duramen") == 1


def test_completion_makes_no_store(duramen: Duramen, data_dir: Path) -> None:
    assert duramen("completion", "bash").code == 0
    assert not data_dir.exists()


def test_an_error_shows_where_it_comes_from_only_when_asked(duramen: Duramen) -> None:
    duramen("spawn", "acme/alice")
    plain, debug = duramen("show", "acme/bob"), duramen("show", "acme/bob", "--debug")
    assert plain.err.count("\n") == 1
    assert debug.err.startswith("Traceback (most recent call last):")
    assert debug.err.endswith(plain.err)
    assert debug.code == plain.code == 1


@pytest.mark.parametrize("debug", [False, True])
def test_an_error_that_nobody_expected_is_one_line_too(
    debug: bool, data_dir: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = io.StringIO()
    closed.close()
    monkeypatch.setattr(sys, "stdout", closed)
    assert main(["completion", "bash", *(["--debug"] if debug else [])]) == 1
    said = capsys.readouterr().err
    line = "duramen: unexpected ValueError: I/O operation on closed file; --debug shows where it comes from\n"
    assert said.endswith(line)
    assert (said == line) is not debug
