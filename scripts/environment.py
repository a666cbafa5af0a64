"""What the project's scripts need before they start: a virtual environment of their own, a Redis server.

Everything lives in `.venv` beside this folder. It is made when it is missing and renewed when `setup.cfg`,
`pyproject.toml`, the Python behind it or the place of the project has changed; otherwise nothing is asked of
the network. This file is kept to what any Python since 3.7 can read, so that an old one ends in a sentence.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

__all__ = [
    "NEWEST",
    "OLDEST",
    "ROOT",
    "clean_environ",
    "ensure_browser",
    "ensure_redis_server",
    "ensure_venv",
    "require_python",
]

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
STAMP = VENV / "duramen.json"
OLDEST = (3, 11)
NEWEST = (3, 15)
PATIENCE = {"PIP_RETRIES": "7", "PIP_TIMEOUT": "60"}


def require_python(script: str) -> None:
    """Go on under Python 3.11 or newer: this one, or the newest on PATH. Exits where there is none."""
    if sys.version_info >= OLDEST:
        return
    for minor in range(NEWEST[1], OLDEST[1] - 1, -1):
        other = shutil.which(f"python3.{minor}")
        if other is not None:
            os.execv(other, [other, script, *sys.argv[1:]])
    stop(
        f"duramen needs Python {OLDEST[0]}.{OLDEST[1]} or newer. This is {sys.version.split()[0]} "
        f"({sys.executable}), and no newer one is on PATH. Install one and run this again."
    )


def ensure_venv(extras: Sequence[str]) -> Path:
    """The Python of `.venv`, with the project installed editable and at least these extras."""
    with alone():
        stamp = read_stamp()
        wanted = sorted({*extras, *stamp["extras"]})
        if stamp == stamp_for(wanted) and PYTHON.exists():
            return PYTHON
        say("Setting up .venv: a minute or two the first time, and again only when the requirements change.")
        # The programs in .venv/bin know where they are: a project that was moved needs new ones.
        if stamp["place"] not in ("", str(ROOT)) or not works():
            make_venv()
        STAMP.unlink(missing_ok=True)
        install(wanted)
        STAMP.write_text(json.dumps(stamp_for(wanted)))
    return PYTHON


def ensure_redis_server() -> str | None:
    """Install Debian's `redis-server` where that is possible; where it is not, a sentence that says so."""
    if shutil.which("redis-server") is None:
        apt_install("redis-server")
    if shutil.which("redis-server") is not None:
        return None
    return (
        "LACKING: no redis-server on PATH, so every test that needs a Redis server will fail. "
        "Install it (Debian, Ubuntu: apt-get install redis-server; macOS: brew install redis)."
    )


def ensure_browser() -> str | None:
    """Install Debian's Chromium and its driver where that is possible; where it is not, a sentence that says so."""
    if shutil.which("chromedriver") is None:
        apt_install("chromium", "chromium-driver")
    if shutil.which("chromedriver") is not None:
        return None
    return (
        "LACKING: no chromedriver on PATH, so the tests of the inspector in a browser will fail. "
        "Install it with a Chromium (Debian: apt-get install chromium chromium-driver)."
    )


def clean_environ(**more: str) -> dict[str, str]:
    """The environment for a child: without what could lead it to other code or to somebody's server.

    Nor without compiled files, as some containers have it: every worker of pytest, and every process that a test
    starts, would compile the library and rewrite the tests again. That took a third of the quick loop.

    pip asks a package index that fails for a while more often than it would by itself.
    """
    misleading = {
        "PYTHONPATH",
        "PYTHONHOME",
        "PYTHONDONTWRITEBYTECODE",
        "VIRTUAL_ENV",
        "MYPYPATH",
        "PYTEST_ADDOPTS",
    }
    kept = {
        name: value for name, value in os.environ.items() if name not in misleading and not name.startswith("DURAMEN_")
    }
    return {**PATIENCE, **kept, **more}


def say(sentence: str) -> None:
    print(sentence, file=sys.stderr, flush=True)


def stop(sentence: str) -> NoReturn:
    say(sentence)
    raise SystemExit(2)


@contextmanager
def alone() -> Iterator[None]:
    """Two scripts started together must not both write `.venv`: the second waits here for the first."""
    folder = os.open(ROOT, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


def stamp_for(extras: list[str]) -> dict[str, list[str] | str]:
    """What `.venv` was made from: it is renewed whenever one of these is no longer so."""
    digest = hashlib.sha256()
    for name in ("setup.cfg", "pyproject.toml"):
        digest.update((ROOT / name).read_bytes())
    return {
        "place": str(ROOT),
        "python": os.path.realpath(PYTHON),
        "asked": digest.hexdigest(),
        "extras": extras,
    }


def read_stamp() -> dict[str, list[str] | str]:
    try:
        return json.loads(STAMP.read_text())
    except (OSError, ValueError):
        return {"place": "", "extras": []}


def works() -> bool:
    """Whether `.venv` is a usable one: an interrupted set-up leaves a folder without pip."""
    if not PYTHON.exists():
        return False
    probe = f"import pip, sys; sys.exit(sys.version_info < {OLDEST})"
    return subprocess.run([PYTHON, "-c", probe], check=False, capture_output=True).returncode == 0


def make_venv() -> None:
    made = venv()
    if made.returncode != 0 and "ensurepip" in made.stdout and apt_install("python3-venv"):
        made = venv()
    if made.returncode != 0:
        stop(f"{made.stdout}\nCould not make .venv with {sys.executable}: see above.")


def venv() -> subprocess.CompletedProcess[str]:
    return heard([sys.executable, "-m", "venv", "--clear", str(VENV)], {})


def install(extras: list[str]) -> None:
    target = f".[{','.join(extras)}]"
    # Of most modules of the frameworks that there are adapters for, nobody ever needs the compiled form.
    pip = [str(PYTHON), "-m", "pip", "install", "-qq", "--disable-pip-version-check", "--no-input", "--no-compile"]
    if subprocess.run([*pip, "--editable", target], cwd=ROOT, env=clean_environ(), check=False).returncode != 0:
        stop(f"Could not install duramen and its requirements ({target}) into .venv: see pip's message above.")


def apt_install(*packages: str) -> bool:
    """Install Debian packages, where there is an apt-get and we may use it; whether that went well."""
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        return False
    say(f"Installing {' and '.join(packages)} with apt-get ...")
    # An update can fail for one stale source and the package still be there: the install decides.
    for arguments in (["update"], ["install", "--yes", "--no-install-recommends", *packages]):
        done = heard(["apt-get", "--quiet", *arguments], {"DEBIAN_FRONTEND": "noninteractive"})
        if done.returncode != 0:
            say(f"{done.stdout}\nFAILED: apt-get {' '.join(arguments)}: see above.")
    return done.returncode == 0


def heard(line: list[str], environ: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Run to the end without a terminal, keeping all that was said in `stdout`."""
    return subprocess.run(
        line,
        env=clean_environ(**environ),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
