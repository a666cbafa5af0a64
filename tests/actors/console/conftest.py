"""The command on an embedded store of the test's own."""

from __future__ import annotations

from pathlib import Path

import pytest

from command_line import Duramen, Ran
from duramen.actors.console import main


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    """Where the embedded server of the test keeps its data; not made yet."""
    return tmp_path / "data"


@pytest.fixture
def duramen(data_dir: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Duramen:
    """The command, called in this process."""
    monkeypatch.setenv("COLUMNS", "200")

    def run(*words: str) -> Ran:
        capsys.readouterr()
        elsewhere = not words or {"--url", "--data-dir", "--help", "--version"} & set(words)
        code = main([*words, *([] if elsewhere else ["--data-dir", str(data_dir)])])
        shown = capsys.readouterr()
        return Ran(code, shown.out, shown.err)

    return run
