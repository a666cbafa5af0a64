"""Build what would be published, look into it, and use it from outside the project.

Three promises: the wheel holds every file of the rooms and nothing else; the source distribution builds that
same wheel; and installed alone in an empty environment it imports, shows its command, and runs an agent.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path
from zipfile import ZipFile

from environment import ROOT, clean_environ
from tree import ROOMS, copy_project, files_below

SMOKE = """
import pathlib, sys
import duramen, duramen.actors, duramen.events, duramen.projections
from duramen import AgentSystem

for room in (duramen.actors, duramen.events, duramen.projections):
    folder = pathlib.Path(room.__file__).parent
    assert folder.is_relative_to(sys.prefix), f"{folder} is not in the clean environment"
    assert (folder / "py.typed").exists()
assert duramen.__version__

with AgentSystem.open("memory://") as system:
    alice = system.spawn("acme/alice", session_id="s-1", initial_state={"goal": "smoke"})
    receipt = alice.set("plan/steps", ["read", "think"])
    assert (receipt.seq, alice.get("plan/steps/1"), alice.get("goal")) == (2, "think", "smoke")
"""


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        source = copy_project(ROOT, work / "source")
        wheel = build(source, work)
        look_into(wheel, source)
        use(wheel, work)
    print(f"{wheel.name}: complete, the same from the source distribution, and it runs alone")
    return 0


def build(source: Path, work: Path) -> Path:
    """The wheel as published: through the source distribution. It must equal the one built from the tree."""
    call(sys.executable, "-m", "build", "--outdir", work / "published", source)
    call(sys.executable, "-m", "build", "--wheel", "--outdir", work / "direct", source)
    (published,) = (work / "published").glob("*.whl")
    (direct,) = (work / "direct").glob("*.whl")
    different = changed(contents(published), contents(direct))
    if different:
        raise SystemExit(f"The source distribution builds another wheel than the tree: {different}")
    return published


def look_into(wheel: Path, source: Path) -> None:
    held = {name: data for name, data in contents(wheel).items() if ".dist-info/" not in name}
    wanted = {f"duramen/{room}/{name}": data for room in ROOMS for name, data in files_below(source / room).items()}
    for place, package in (("/actors/front_door/", "/"), ("/actors/adapters/", "/adapters/")):
        wanted = {name.replace(place, package): data for name, data in wanted.items()}
    different = changed(held, wanted)
    if different:
        raise SystemExit(f"The wheel and the rooms differ (see packages and package_data in setup.cfg): {different}")


def use(wheel: Path, work: Path) -> None:
    call(sys.executable, "-m", "venv", work / "venv")
    outside = work / "outside"
    outside.mkdir()
    programs = work / "venv" / "bin"
    call(
        programs / "python",
        "-m",
        "pip",
        "install",
        "-qq",
        "--disable-pip-version-check",
        f"{wheel}[console]",
    )
    call(programs / "python", "-I", "-W", "error", "-c", SMOKE, cwd=outside)
    call(programs / "duramen", "--help", cwd=outside)


def contents(wheel: Path) -> dict[str, bytes]:
    with ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def changed(left: dict[str, bytes], right: dict[str, bytes]) -> list[str]:
    return sorted(name for name in left.keys() | right.keys() if left.get(name) != right.get(name))


def call(*line: str | Path, cwd: Path | None = None) -> None:
    """Run to the end; what it said is shown only where it failed."""
    words = [str(word) for word in line]
    done = subprocess.run(
        words,
        cwd=cwd,
        env=clean_environ(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise SystemExit(f"{done.stdout}\nFAILED: {' '.join(words)[:200]}: see above.")


if __name__ == "__main__":
    sys.exit(main())
