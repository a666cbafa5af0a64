"""What only shows once the project is installed somewhere else, checked where it is written."""

from __future__ import annotations

import os
import subprocess
import sys
from configparser import ConfigParser
from importlib.metadata import entry_points, version
from pathlib import Path

import pytest

import duramen
import duramen.actors

ROOT = Path(__file__).resolve().parents[1]
ROOMS = ("actors", "events", "projections")
DOOR = "actors/front_door"
"""The folder of the package `duramen` itself, whose name is not that of its place."""
ADAPTERS = "actors/adapters"
"""The folder of `duramen.adapters`, a package beside the rooms."""


@pytest.fixture
def setup() -> ConfigParser:
    parser = ConfigParser()
    parser.read(ROOT / "setup.cfg", encoding="utf-8")
    return parser


def test_the_installed_version_is_the_one_in_setup_cfg(setup: ConfigParser) -> None:
    assert version("duramen") == setup["metadata"]["version"]


def test_every_folder_with_code_is_declared_as_a_package(setup: ConfigParser) -> None:
    folders = {path.parent for room in ROOMS for path in (ROOT / room).rglob("*.py")}
    found = {folder.relative_to(ROOT).as_posix() for folder in folders}
    assert set(setup["options"]["packages"].split()) == {package_of(folder) for folder in found}


def test_every_package_is_mapped_to_its_folder(setup: ConfigParser) -> None:
    lines = setup["options"]["package_dir"].strip().splitlines()
    mapped = dict(line.split(" = ") for line in lines)
    assert {name: package_of(folder) for name, folder in mapped.items()} == {name: name for name in mapped}
    assert list(mapped) == setup["options"]["packages"].split()


def package_of(folder: str) -> str:
    if folder == DOOR:
        return "duramen"
    place = folder.removeprefix("actors/") if folder.startswith(ADAPTERS) else folder
    return f"duramen.{place.replace('/', '.')}"


def test_every_package_has_a_front_door() -> None:
    folders = {path.parent for room in ROOMS for path in (ROOT / room).rglob("*.py")}
    assert [folder for folder in folders if not (folder / "__init__.py").exists()] == []


@pytest.mark.parametrize("room", [*ROOMS, DOOR, ADAPTERS])
def test_a_room_says_that_it_is_typed(room: str) -> None:
    assert (ROOT / room / "py.typed").exists()


def test_type_checkers_reach_the_front_door_through_a_relative_link() -> None:
    link = ROOT / "scripts" / "typing" / "duramen" / "__init__.py"
    assert os.readlink(link) == f"../../../{DOOR}/__init__.py"
    assert link.samefile(duramen.__file__)


def test_the_front_door_gives_what_the_rooms_give() -> None:
    from duramen import Agent, AgentSystem

    assert (Agent, AgentSystem) == (duramen.actors.Agent, duramen.actors.AgentSystem)
    assert duramen.__version__ == version("duramen")
    misspelt = "Agnt"  # written out, a type checker finds it
    with pytest.raises(AttributeError, match="no attribute 'Agnt'"):
        getattr(duramen, misspelt)


def test_the_front_door_alone_loads_no_room() -> None:
    code = "import duramen, sys; assert duramen.__version__; print([n for n in sys.modules if 'duramen.' in n])"
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_the_extra_all_is_every_extra_that_users_need(setup: ConfigParser) -> None:
    extras = set(setup["options.extras_require"]) - {"all", "bench", "dev", "docs", "test"}
    assert setup["options.extras_require"]["all"].split() == [f"duramen[{','.join(sorted(extras))}]"]


@pytest.mark.parametrize("room", [*ROOMS, ADAPTERS])
def test_type_checkers_reach_a_room_through_a_relative_link(room: str) -> None:
    link = ROOT / "scripts" / "typing" / "duramen" / Path(room).name
    assert os.readlink(link) == f"../../../{room}"
    assert link.resolve() == ROOT / room


def test_the_command_is_installed() -> None:
    (command,) = entry_points(group="console_scripts", name="duramen")
    assert callable(command.load())


def test_the_newest_changes_are_written_down() -> None:
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert f"## [{version('duramen')}]" in changes or "## [Unreleased]" in changes
