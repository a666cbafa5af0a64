"""What the command says to bad arguments, and which exit code it ends with."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from command_line import Duramen
from duramen.actors.console.commands import COMMANDS
from duramen.actors.console.exit_codes import EXPLAINED, ExitCode
from servers import redis_server


@pytest.mark.parametrize(
    "words",
    [
        ["fly"],
        ["run", "--limit", "0"],
        ["run", "--limit", "-1"],
        ["run", "--limit", "1e3"],
        ["run", "--parallel", "9" * 400],
        ["run", "--no-such-option"],
        ["show"],
        ["show", "a/b", "c", "d"],
        ["log", "a/b", "--granularity", "some"],
        ["log", "a/b", "--from", "0"],
        ["log", "a/b", "--limit", "١"],
        ["spawn", "a/b", "--set", "goal"],
        ["spawn", "a/b", "--set", "=1"],
        ["spawn", "a/b", "--set", "goal=hello"],
        ["spawn", "a/b", "--metadata", "x={"],
        ["spawn", "a/b", "--set", "x=" + "[" * 100_000],
        ["pause", "a/b", "--ttl", "7"],
        ["pause", "a/b", "--ttl", "-7d"],
        ["pause", "a/b", "--ttl", "soon"],
        ["terminate", "a/b", "--outcome", "great"],
        ["agents", "--url", "redis://x", "--data-dir", "y"],
        ["watch", "--after", "c0", "--from-start"],
        ["watch", "--every", "0"],
        ["watch", "--every", "-1"],
        ["watch", "--every", "nan"],
        ["watch", "a/b", "c/d"],
        ["projections", "explode", "x"],
        ["projections", "wait", "x", "--timeout", "inf"],
        ["episodes", "search", "x", "--outcome", "great"],
        ["replay"],
        ["replay", "a/b", "--from", "0"],
        ["diff"],
        ["diff", "a/b", "1", "2", "3"],
        ["blame"],
        ["verify", "--workers", "65"],
        ["export", "a/b"],
        ["import"],
        ["fork", "a/b"],
    ],
    ids=lambda words: " ".join(words)[:60],
)
def test_bad_arguments_are_exit_code_2_with_the_usage(duramen: Duramen, data_dir: Path, words: list[str]) -> None:
    ran = duramen(*words)
    assert (ran.code, ran.out) == (2, "")
    assert "usage: duramen" in ran.err
    assert "error:" in ran.err
    assert not data_dir.exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["chekpoints"], "there is no command 'chekpoints'; did you mean `checkpoints`?"),
        (["get"], "there is no command 'get'; did you mean `show`?"),
        (["zzz"], "there is no command 'zzz'; `duramen --help` lists them"),
        (["log", "a/b", "--type", "x"], "duramen log: error: unrecognized arguments: --type x"),
    ],
)
def test_what_is_not_known_is_named_with_what_to_do(duramen: Duramen, words: list[str], said: str) -> None:
    ran = duramen(*words)
    assert (ran.code, ran.out, said in ran.err) == (2, "", True), ran.err
    assert len(ran.err.splitlines()[-1]) <= 80


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["spawn", "nobody"], "fewer than two segments"),
        (["spawn", "../etc"], "agent path"),
        (["spawn", "a/b/\x1b[31m"], "agent path"),
        (["spawn", "a/" + "x" * 2000], "agent path"),
        (["show", "a/b", "x//y"], "property path"),
        (["show", "a/b", "*"], "property path"),
        (["log", ""], "agent path"),
        (["watch", "a//b"], "pattern"),
        (["watch", "--after", "c0"], "no cursor"),
        (["replay", "nobody"], "fewer than two segments"),
        (["diff", "a/b"], "two moments"),
        (["diff", "a/b", "1", "--other", "nobody"], "fewer than two segments"),
        (["verify", "a/b", "nobody"], "fewer than two segments"),
        (["export", "nobody", "x"], "fewer than two segments"),
        (["import", "missing"], "No such file"),
        (["import", "setup.cfg", "--to", "nobody"], "fewer than two segments"),
        (["fork", "a/b", "--to", "nobody"], "fewer than two segments"),
        (["episodes", "search"], "words to look for"),
        (["projections", "list", "x"], "takes no name"),
        (["projections", "rebuild"], "takes the name"),
        (["run", "missing.json"], "cannot be read"),
        (["run", "--project", "n" * 129, "--limit", "1"], "agent path"),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, list) else "",
)
def test_what_cannot_be_used_is_exit_code_2_and_makes_no_store(
    duramen: Duramen, data_dir: Path, words: list[str], said: str
) -> None:
    ran = duramen(*words)
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.startswith("duramen: ")
    assert said in ran.err
    assert ran.err.count("\n") == 1
    assert "\x1b" not in ran.err
    assert not data_dir.exists()


@pytest.mark.parametrize(
    "words",
    [
        ["spawn", "a/b", "--session-id", ""],
        ["spawn", "a/b", "--session-id", "x" * 201],
        ["spawn", "a/b", "--agent-type", "\x1b[31m"],
        ["spawn", "a/b", "--set", "x=" + str(2**64)],
        ["spawn", "a/b", "--set", 'x="\\ud800"'],
        ["spawn", "a/b", "--namespace", "a b"],
    ],
    ids=lambda words: " ".join(words)[:40],
)
def test_values_that_an_agent_does_not_take_are_exit_code_2(duramen: Duramen, words: list[str]) -> None:
    ran = duramen(*words)
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.startswith("duramen: ")
    assert ran.err.count("\n") == 1
    assert duramen("agents", "--json").data == []


@pytest.mark.parametrize(
    "url", ["redis://example.com", "http://localhost", "redis://[", "rediss://h?ssl_cert_reqs=none", "redis://h:x"]
)
def test_a_url_that_cannot_be_used_is_told_in_a_line(duramen: Duramen, url: str) -> None:
    for command in (["agents"], ["doctor"], ["run", "--limit", "1"]):
        ran = duramen(*command, "--url", url)
        assert ran.code in (2, 3)
        assert ran.err.startswith("duramen: ")
        assert ran.err.count("\n") == 1


def test_a_secret_in_a_url_is_never_repeated(duramen: Duramen, redis_url: str) -> None:
    with redis_server() as server:
        server.client().execute_command("ACL SETUSER me on >sk-secret ~* &* +@all")
        url = server.url.replace("unix://", "unix://me:sk-secret@")
        for words in (["run"], ["doctor"], ["agents"]):
            ran = duramen(*words, "--url", url)
            assert ran.code in (0, 3)  # nothing is written to disk there: doctor complains
            assert "sk-secret" not in ran.out + ran.err
        wrong = duramen("agents", "--url", url.replace("sk-secret", "sk-wrong"))
        assert wrong.code == 3
        assert "sk-wrong" not in wrong.err
        assert "user name or password is wrong" in wrong.err


def test_a_server_that_may_evict_logs_is_exit_code_3_unless_it_is_allowed(duramen: Duramen) -> None:
    with redis_server(config={"maxmemory-policy": "allkeys-lru"}) as server:
        refused = duramen("agents", "--url", server.url)
        assert refused.code == 3
        assert "allkeys-lru" in refused.err
        assert duramen("agents", "--url", server.url, "--allow-eviction").code == 0


def test_without_a_command_the_help_is_shown(duramen: Duramen) -> None:
    ran = duramen()
    assert ran.code == 2
    assert "commands:" in ran.err


def test_the_help_explains_the_exit_codes(duramen: Duramen) -> None:
    ran = duramen("--help")
    assert ran.code == 0
    assert EXPLAINED in ran.out
    explained = {int(number) for number in re.findall(r"^  (\d+) ", EXPLAINED, re.MULTILINE)}
    assert explained == {code.value for code in ExitCode}


def test_every_command_has_help_of_its_own(duramen: Duramen) -> None:
    listed = re.findall(r"^    ([a-z-]+)\s", duramen("--help").out, re.MULTILINE)
    assert listed == [command.name for command in COMMANDS]
    for command in listed:
        ran = duramen(command, "--help")
        assert ran.code == 0
        for option in ("--url", "--data-dir", "--namespace", "--json", "--insecure", "-v"):
            assert option in ran.out, (command, option)


def test_no_help_is_wider_than_eighty_columns(duramen: Duramen, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    for words in ((), *((command.name,) for command in COMMANDS)):
        assert [line for line in duramen(*words, "--help").out.splitlines() if len(line) > 80] == [], words


def test_the_version_is_told(duramen: Duramen) -> None:
    ran = duramen("--version")
    assert ran.code == 0
    assert re.fullmatch(r"duramen \d+\.\d+\.\d+\S*\n", ran.out)
