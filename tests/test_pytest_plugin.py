"""The pytest plugin folds recorded logs, passes on what was asked for, and leaves everybody else alone."""

from __future__ import annotations

import os
import subprocess
import sys
from configparser import ConfigParser
from pathlib import Path

import pytest
from attrs import evolve

from duramen.projections.recorded import StoredLog, recorded, save_log
from duramen.projections.recorded.as_code import items_of

pytest_plugins = ["pytester"]

ROWS = [("spawned", {}), ("memory_set", {"path": "a", "value": 1}), ("memory_set", {"path": "b", "value": 2})]
PLUGIN = "duramen.projections.pytest_plugin"


@pytest.fixture
def run(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """A folder with a recorded log; `pytest` runs there in a process of its own."""
    monkeypatch.delenv("DURAMEN_VERIFY_EXAMPLES", raising=False)
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)
    save_log(recorded(StoredLog(tuple(items_of(ROWS)))), pytester.path / "log.jsonl")
    return pytester


def pytest_in(run: pytest.Pytester, *arguments: str) -> pytest.RunResult:
    loaded = ["-p", PLUGIN] if not installed() else []
    return run.runpytest_subprocess("-p", "no:cacheprovider", *loaded, *arguments, timeout=100)


def installed() -> bool:
    from importlib.metadata import entry_points

    return any(entry.value == PLUGIN for entry in entry_points(group="pytest11"))


def test_a_recorded_log_is_folded_before_the_test(run: pytest.Pytester) -> None:
    run.makepyfile(
        """
        import pytest

        @pytest.mark.replay("log.jsonl")
        def test_it(recorded_log):
            assert len(recorded_log.items) == 3

        @pytest.mark.replay("log.jsonl")
        def test_without_the_fixture():
            pass
        """
    )
    pytest_in(run, "--strict-markers").assert_outcomes(passed=2)


def test_a_recorded_log_that_comes_to_something_else_fails_with_the_events(run: pytest.Pytester) -> None:
    sound = recorded(StoredLog(tuple(items_of(ROWS))))
    assert sound.changes is not None
    wrong = [*sound.changes[:2], [["set", ["memory", "b"], "old"]]]
    save_log(evolve(sound, changes=wrong), run.path / "log.jsonl")
    run.makepyfile(
        """
        import pytest

        @pytest.mark.replay("log.jsonl")
        def test_it():
            raise AssertionError("not reached")
        """
    )
    result = pytest_in(run)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "log.jsonl: today's code comes to something else than was recorded (state, seq 3)",
            "expected: {'memory/b': 'old'}",
            "actual:   {'memory/b': 2}",
            "events = log_of(",
            "    ('memory_set', {'path': 'b', 'value': 2}*),",
        ]
    )
    result.stdout.no_fnmatch_line("*'path': 'a'*")
    result.stdout.no_fnmatch_line("*not reached*")


def test_views_of_projections_are_compared_too(run: pytest.Pytester) -> None:
    run.makepyfile(
        """
        import pytest
        from duramen.projections import Timeline

        @pytest.mark.replay("log.jsonl", projections={"Timeline": Timeline()})
        def test_it():
            pass
        """
    )
    result = pytest_in(run)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*(view Timeline, seq 3)", "expected: no view of this name was recorded"])


@pytest.mark.parametrize(
    ("marker", "told"),
    [
        ('replay("gone.jsonl")', "*gone.jsonl*No such file*"),
        ('replay("test_it.py")', "*test_it.py is no recorded log*"),
        ("replay()", "*takes one file*"),
        ('replay("a", view=1)', "*takes one file*"),
    ],
)
def test_a_marker_without_a_log_fails_and_says_why(run: pytest.Pytester, marker: str, told: str) -> None:
    run.makepyfile(test_it=f"import pytest\n\n@pytest.mark.{marker}\ndef test_it(): pass")
    result = pytest_in(run)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines([told])


def test_the_fixture_needs_the_marker(run: pytest.Pytester) -> None:
    run.makepyfile("def test_it(recorded_log): pass")
    result = pytest_in(run)
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*recorded_log needs @pytest.mark.replay(file)*"])


def test_options_are_passed_on_and_taken_back(run: pytest.Pytester) -> None:
    run.makepyfile(
        """
        import os

        def test_it():
            assert os.environ["DURAMEN_VERIFY_EXAMPLES"] == "3"
            assert os.environ["DURAMEN_VERIFY_URL"] == "redis://:secret@host"
        """
    )
    result = pytest_in(run, "--duramen-verify-examples=3", "--duramen-verify-url=redis://:secret@host")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["duramen: verification with 3 examples a check, on a server"])
    result.stdout.no_fnmatch_line("*secret*")
    assert "DURAMEN_VERIFY_EXAMPLES" not in os.environ


def test_a_number_of_examples_that_is_none_is_a_usage_error(run: pytest.Pytester) -> None:
    result = pytest_in(run, "--duramen-verify-examples=none")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*--duramen-verify-examples takes a whole number*"])


def test_who_does_not_use_it_imports_no_hypothesis_and_sees_nothing(run: pytest.Pytester) -> None:
    run.makepyfile(
        """
        import sys

        def test_it():
            assert "duramen.projections.verification" not in sys.modules
            assert "duramen.projections.recorded" not in sys.modules
        """
    )
    result = pytest_in(run)
    result.assert_outcomes(passed=1)
    result.stdout.no_fnmatch_line("*duramen*verification*")


def test_the_plugin_brings_neither_agents_nor_threads_nor_hypothesis() -> None:
    program = (
        "import sys, threading, duramen.projections.pytest_plugin;"
        "print(sorted({'hypothesis', 'duramen.actors'} & set(sys.modules)), threading.active_count())"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.stdout == "[] 1\n", done.stderr


def test_pytest_finds_the_plugin_by_its_entry_point(run: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """As it is declared: an environment that was installed before the plugin was written does not know it."""
    declared = ConfigParser()
    declared.read(Path(__file__).parents[1] / "setup.cfg", encoding="utf-8")
    probe = run.mkdir("elsewhere") / "probe-1.0.dist-info"
    probe.mkdir()
    (probe / "METADATA").write_text("Metadata-Version: 2.1\nName: probe\nVersion: 1.0\n")
    (probe / "entry_points.txt").write_text(f"[pytest11]{declared['options.entry_points']['pytest11']}\n")
    monkeypatch.setenv("PYTHONPATH", str(probe.parent))
    run.makepyfile("def test_it(): pass")
    result = run.runpytest_subprocess("-p", "no:cacheprovider", "--duramen-verify-examples=3", timeout=100)
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["duramen: verification with 3 examples a check"])
    assert f"duramen = {PLUGIN}" in (probe / "entry_points.txt").read_text()
