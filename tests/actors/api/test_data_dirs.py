"""A system's data directory may have any name that a folder can have."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from duramen.actors import AgentSystem
from duramen.actors.console.main import main
from duramen.events.embedded import EmbeddedServer

pytestmark = pytest.mark.slow  # each test starts servers of its own

NAMES = {
    "hash": "a#b",
    "question mark": "a?db=3",
    "percent": "a%20b%",
    "brackets": "[x]",
    "star": "*",
    "braces": "{a,b}",
    "tab": "a\tb",
    "newline": "a\nb\r",
    "space": " a b ",
    "quotes": "a'b\"c",
    "backslash": "a\\nb",
    "backslash and star": "a\\*b[",
    "at and colon": "user:secret@host:1",
    "dollar": "$HOME~",
    "dash": "--port",
    "no ASCII": "dürämen-漢",
    "no text": os.fsdecode(b"\xff\xfe"),
    "slashes of a url": "unix:",
}


@pytest.mark.parametrize("name", NAMES)
def test_a_folder_of_any_name_keeps_agents(name: str, tmp_path: Path) -> None:
    folder = tmp_path / NAMES[name]
    with AgentSystem.open(data_dir=folder) as system:
        system.spawn("acme/alice").set("a", 1)
        assert (folder / "appendonlydir").is_dir()
        with EmbeddedServer.open(folder) as attached, AgentSystem.open(attached.url) as other:
            assert other.agent("acme/alice").get() == {"a": 1}, "the url leads to the same server"
        os.kill(attached.pid, signal.SIGKILL)  # it is started and connected to again
        system.agent("acme/alice").set("b", 2)
    assert main(["doctor", "--data-dir", str(folder)]) == 0
    with AgentSystem.open(data_dir=folder) as system:
        assert system.agent("acme/alice").get() == {"a": 1, "b": 2}
    assert [entry.name for entry in tmp_path.iterdir()] == [NAMES[name]]


@pytest.mark.parametrize("name", ["a#b?c%20d", "[x]*"])
def test_a_long_path_below_a_temp_dir_of_any_name_keeps_agents(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The socket of a path that is too long for one lies in the temp dir."""
    temporary = Path("/tmp") / f"duramen-test-{os.getpid()}{name}"
    temporary.mkdir()
    try:
        program = (
            "import sys; from duramen.actors import AgentSystem\n"
            "with AgentSystem.open(data_dir=sys.argv[1]) as system: system.spawn('acme/alice').set('a', 1)\n"
            "with AgentSystem.open(data_dir=sys.argv[1]) as system: print(system.agent('acme/alice').get('a'))\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", program, str(tmp_path / ("long" * 40) / name)],
            env={**os.environ, "TMPDIR": str(temporary)},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.stdout == "1\n", done.stderr
        assert list(temporary.iterdir()) == []
    finally:
        temporary.rmdir()
