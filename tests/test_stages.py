"""The static stages of `scripts/test` see what they are there for: faults planted in a copy are found.

A checker that is configured wrongly tends to report no error at all, and nobody notices.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from time import monotonic

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parts import combine_failures, cut, quick_files
from processes import Commands, Running
from runner import Outcome, close, counts, run_all
from stages import GROUPS, PARTS, Command, Stage, all_stages
from tree import copy_project
from waiting import eventually

ROOT = Path(__file__).resolve().parents[1]

_FUTURE = "from __future__ import annotations\n\n"

# For each stage the files to plant, their text, and a pattern for the line that must complain.
FAULTS = {
    "format": {
        "events/planted.py": ("x = {  'a' :1}\n", r"events/planted"),
        "tests/planted.py": ("x = {  'a' :1}\n", r"tests/planted"),
    },
    "lint": {
        "projections/planted.py": ("import os\n", r"projections/planted"),
        "actors/planted.py": ("def public():\n    return eval('1')\n", r"actors/planted"),
    },
    "mypy": {
        "actors/planted.py": (_FUTURE + "def untyped(x):\n    return x\n", r"actors/planted.*no-untyped-def"),
        "events/planted.py": (_FUTURE + "x: int = 'text'\n", r"events/planted.*assignment"),
        "projections/planted.py": (
            _FUTURE + "from duramen.events.errors import Missing\n",
            r"projections/planted.*attr-defined",
        ),
        "tests/planted.py": ("from duramen.events.errors import Missing\n", r"tests/planted.*attr-defined"),
        "scripts/wrong.py": ("x: int = 'text'\n", r"scripts/wrong.*assignment"),
    },
    "pyright": {
        "events/planted.py": (
            _FUTURE + "x: int = 'text'\n",
            r"events/planted.*Type .*\n?.*reportAssignmentType",
        ),
        "actors/planted.py": (
            _FUTURE + "from duramen.events.errors import Missing\n",
            r"actors/planted.*Missing",
        ),
    },
    "layers": {
        "events/planted.py": ("import duramen.actors\n", r"duramen.events.planted -> duramen.actors"),
        "events/relative.py": (
            "from ..projections import x\n",
            r"duramen.events.relative -> duramen.projections",
        ),
        "projections/planted.py": (
            "from duramen.actors import x\n",
            r"duramen.projections.planted -> duramen.actors",
        ),
        "events/model/upward.py": (
            "from typing import TYPE_CHECKING\n\nif TYPE_CHECKING:\n    from ..log import EventLog\n",
            r"duramen.events.model.upward -> duramen.events.log",
        ),
        "events/log/past_the_door.py": (
            "from ..model.event import Event\n",
            r"past_the_door:1: take Event from duramen.events.model",
        ),
        "events/memory/one.py": ("def f():\n    from .two import g\n", r"a circle of imports: .*memory.one"),
        "events/memory/two.py": ("def g():\n    from .one import f\n", r"memory.two"),
        **{f"events/embedded/wide_{n}.py": ("", r"events/embedded: \d+ entries") for n in range(12)},
    },
    "security": {
        "events/planted.py": ("import pickle\n", r"events/planted.py:1"),
        "events/silenced.py": ("x = 1  # type: ignore\n", r"events/silenced.py:1"),
        "actors/planted.py": ("f = eval\n", r"actors/planted.py:1"),
        "projections/planted.py": ("x = 1\n# TODO: later\n", r"projections/planted.py:2"),
        "events/redis/lua/planted.lua": ("return loadstring(ARGV[1])()\n", r"planted.lua:1"),
    },
}


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return copy_project(ROOT, tmp_path / "copy")


def said(name: str, root: Path) -> tuple[bool, str]:
    """Run a stage in another tree: whether it passed, and all that it said."""
    stage = all_stages(root, Path(sys.executable))[name]
    ended = [_call(command, root) for command in stage.commands]
    return all(done.returncode == 0 for done in ended), "".join(done.stdout for done in ended)


def _call(command: Command, root: Path) -> subprocess.CompletedProcess[str]:
    environ = {**os.environ, **command.environ}
    return subprocess.run(
        command.line, cwd=root, env=environ, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )


def _of_other_tests(folder: str, names: list[str]) -> set[str]:
    """The caches that tests of type checkers write at the same time."""
    return {"types"} & set(names) if Path(folder) == ROOT / ".mypy_cache" else set()


@pytest.mark.slow
@pytest.mark.parametrize("stage", FAULTS)
def test_planted_faults_are_found(copy: Path, stage: str) -> None:
    cache = ROOT / ".mypy_cache"
    if stage == "mypy" and cache.exists():  # what was not planted need not be looked at again
        shutil.copytree(cache, copy / cache.name, ignore=_of_other_tests)
    if stage == "pyright":  # it reads all that the adapters import, for most of a minute
        shutil.rmtree(copy / "actors" / "adapters")
    for path, (text, _) in FAULTS[stage].items():
        (copy / path).write_text(text)
    passed, message = said(stage, copy)
    assert not passed
    assert [pattern for _, pattern in FAULTS[stage].values() if not re.search(pattern, message)] == []


@pytest.mark.slow
def test_imports_to_the_right_are_allowed(copy: Path) -> None:
    (copy / "actors" / "hosts" / "planted.py").write_text("import duramen.events\nimport duramen.projections\n")
    (copy / "projections" / "state" / "planted.py").write_text("from duramen.events import errors\n")
    passed, message = said("layers", copy)
    assert passed, message


@pytest.mark.slow
def test_words_that_only_look_dangerous_are_allowed(copy: Path) -> None:
    harmless = 'import re\n\nre.compile("no pickle")\nredis.eval("return 1")\n'
    (copy / "events" / "planted.py").write_text(harmless)
    passed, message = said("security", copy)
    assert passed, message


@pytest.mark.slow
def test_a_copy_holds_the_links_and_none_of_what_tools_leave(copy: Path) -> None:
    assert (copy / "scripts" / "typing" / "duramen" / "events").is_symlink()
    assert not any((copy / name).exists() for name in (".git", ".venv", "duramen.egg-info", ".mypy_cache"))


def test_groups_name_stages() -> None:
    known = all_stages(ROOT, Path(sys.executable))
    assert {name for group in GROUPS.values() for name in group} <= known.keys()


def test_one_failed_stage_fails_the_run_and_the_counts_are_added(capsys: pytest.CaptureFixture[str]) -> None:
    stage = Stage("tests", "", (), runs_pytest=True)
    good = Outcome(stage, True, 1.0, passed=3)
    bad = Outcome(stage, False, 1.0, passed=1, failed=2)
    assert close([good, good], None, 2.0) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "tests: 6 passed, 0 failed"
    assert close([good, bad], "LACKING: something", 2.0) == 1
    printed = capsys.readouterr().out.splitlines()
    assert printed[-1] == "tests: 4 passed, 2 failed"
    assert "LACKING: something" in printed


@pytest.mark.parametrize(
    ("report", "ok", "expected"),
    [
        (
            '<testsuites><testsuite tests="5" failures="1" errors="1" skipped="1"/></testsuites>',
            False,
            (2, 2, 1),
        ),
        (
            '<testsuites><testsuite tests="0" failures="0" errors="0" skipped="0"/></testsuites>',
            False,
            (0, 1, 0),
        ),
        (None, False, (0, 1, 0)),
    ],
)
def test_a_pytest_that_failed_never_counts_as_no_failure(
    tmp_path: Path, report: str | None, ok: bool, expected: tuple[int, int, int]
) -> None:
    path = tmp_path / "report.xml"
    if report is not None:
        path.write_text(report)
    assert counts(path, ok) == expected


@given(sizes=st.lists(st.integers(1, 200), min_size=1, max_size=30), parts=st.integers(1, 8))
def test_each_file_is_in_one_part_and_parts_are_of_about_one_size(sizes: list[int], parts: int) -> None:
    files = dict(enumerate(sizes))
    cuts = [cut(files, f"{number + 1}/{parts}") for number in range(parts)]
    assert sorted(name for part in cuts for name in part) == sorted(files)
    assert all(sum(files[name] for name in part) < sum(sizes) / parts + max(sizes) for part in cuts)


def test_a_part_saves_its_own_failures_and_keeps_those_of_the_others() -> None:
    files = {Path("tests/test_a.py"), Path("tests/test_b.py")}
    began_with = {"tests/test_a.py::test_mended": True, "tests/test_c.py::test_mended": True}
    saved = {**began_with, "tests/test_c.py::test_new": True}
    del saved["tests/test_c.py::test_mended"]
    own = {"tests/test_c.py::test_mended": True, "tests/test_b.py::test_new": True}
    assert combine_failures(saved, own, files) == {"tests/test_b.py::test_new": True, "tests/test_c.py::test_new": True}


@pytest.mark.parametrize("part", ["0/4", "5/4", "-1/4", "1/0"])
def test_a_part_that_does_not_exist_is_refused(part: str) -> None:
    with pytest.raises(ValueError, match="is no part"):
        cut({"a": 1}, part)


def test_the_quick_run_has_all_its_parts_and_what_is_picked_is_not_looked_for_in_each() -> None:
    whole = all_stages(ROOT, Path(sys.executable), quick=True)["tests"]
    assert [command.line[-1] for command in whole.commands] == list(PARTS)
    assert whole.beside
    files = quick_files(ROOT)
    assert all(cut(files, f"{number}/8") for number in range(1, 9))
    picked = all_stages(ROOT, Path(sys.executable), quick=True, pytest_arguments=("-k", "paths"))["tests"]
    assert len(picked.commands) == 1
    assert not [word for word in picked.commands[0].line if word.startswith("--part")]


def test_a_file_is_left_out_of_the_quick_run_only_if_all_its_tests_are_slow(tmp_path: Path) -> None:
    for name, text in {
        "tests/test_quick.py": "import pytest\n",
        "tests/test_both.py": "import pytest\n\n\n@pytest.mark.slow\ndef test_long() -> None: ...\n",
        "tests/test_slow.py": "import pytest\n\npytestmark = pytest.mark.slow\n",
        "tests/faults/test_fault.py": "import pytest\n",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert [path.name for path in quick_files(tmp_path)] == ["test_both.py", "test_quick.py"]


@pytest.mark.slow
def test_commands_beside_each_other_end_with_their_codes_and_print_what_they_wrote(
    capfdbinary: pytest.CaptureFixture[bytes],
) -> None:
    line = (sys.executable, "-c", "import sys; print(sys.argv[1]); sys.exit(int(sys.argv[1]))")
    with Commands() as commands:
        one, other = (commands.start((*line, code), dict(os.environ)) for code in ("3", "0"))
        assert (one.wait(monotonic() + 60), other.wait(monotonic() + 60)) == (3, 0)
    assert capfdbinary.readouterr().out == b"3\n0\n"


def test_a_command_that_is_late_is_killed_before_that_is_said(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    with Commands() as commands:
        late = commands.start((sys.executable, "-c", "import signal; signal.pause()"), dict(os.environ))
        with pytest.raises(subprocess.TimeoutExpired):
            late.wait(monotonic())
        assert late.wait(monotonic() + 60) == -signal.SIGKILL


@pytest.mark.slow
def test_all_commands_are_interrupted_before_any_is_waited_for(tmp_path: Path) -> None:
    """Each ends once both have been interrupted: one after the other they would have to be killed."""
    program = """
import pathlib, signal, sys, time
own, other = map(pathlib.Path, sys.argv[1:])
signal.signal(signal.SIGINT, signal.default_int_handler)
try:
    own.with_suffix(".begun").touch()
    while True:
        time.sleep(1)
except KeyboardInterrupt:
    own.touch()
    while not other.exists():
        time.sleep(0.01)
    own.with_suffix(".ended").touch()
"""
    files = [tmp_path / "one", tmp_path / "other"]
    with Commands() as commands:
        for pair in (files, files[::-1]):
            commands.start((sys.executable, "-c", program, *pair), dict(os.environ))
        eventually(lambda: all(file.with_suffix(".begun").exists() for file in files))
    assert [file.with_suffix(".ended").exists() for file in files] == [True, True]


def test_the_commands_of_a_stage_have_one_deadline(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    asked: list[float] = []

    def wait(running: Running, until: float) -> int:
        asked.append(until)
        return 0

    monkeypatch.setattr(Running, "wait", wait)
    (outcome,) = run_all([Stage("two", "", (Command((sys.executable, "-c", "")),) * 2, beside=True)], None)
    assert outcome.ok
    first, second = asked
    assert first == second
    capfd.readouterr()


@pytest.mark.slow
def test_a_stage_beside_others_fails_if_one_of_its_commands_does_and_counts_the_tests_of_all(
    capfd: pytest.CaptureFixture[str],
) -> None:
    program = (
        "import sys; open(sys.argv[2].partition('=')[2], 'w').write(sys.argv[1]); sys.exit('failures' in sys.argv[1])"
    )
    reports = ('<testsuite tests="3"/>', '<testsuite tests="2" failures="1"/>')
    commands = tuple(Command((sys.executable, "-c", program, report)) for report in reports)
    before = Stage("before", "", (Command((sys.executable, "-c", "")),))
    for picked, ok, passed, failed in ((commands, False, 4, 1), (commands[:1], True, 3, 0)):
        outcomes = run_all([before, Stage("tests", "", picked, runs_pytest=True, beside=True)], None)
        assert [outcome.stage.name for outcome in outcomes] == ["before", "tests"]
        assert outcomes[0].ok
        assert (outcomes[1].ok, outcomes[1].passed, outcomes[1].failed) == (ok, passed, failed)
    capfd.readouterr()
