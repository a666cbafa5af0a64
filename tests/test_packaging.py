"""What only shows once the project is installed somewhere else, checked where it is written."""

from __future__ import annotations

import os
from configparser import ConfigParser
from importlib.metadata import entry_points, version
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ROOMS = ("actors", "events", "projections")


@pytest.fixture
def setup() -> ConfigParser:
    parser = ConfigParser()
    parser.read(ROOT / "setup.cfg", encoding="utf-8")
    return parser


def test_the_installed_version_is_the_one_in_setup_cfg(setup: ConfigParser) -> None:
    assert version("duramen") == setup["metadata"]["version"]


def test_every_folder_with_code_is_declared_as_a_package(setup: ConfigParser) -> None:
    folders = {path.parent for room in ROOMS for path in (ROOT / room).rglob("*.py")}
    found = {f"duramen.{folder.relative_to(ROOT).as_posix().replace('/', '.')}" for folder in folders}
    assert set(setup["options"]["packages"].split()) == found


def test_every_package_is_mapped_to_its_folder(setup: ConfigParser) -> None:
    lines = setup["options"]["package_dir"].strip().splitlines()
    mapped = dict(line.split(" = ") for line in lines)
    assert mapped == {
        name: name.removeprefix("duramen.").replace(".", "/") for name in setup["options"]["packages"].split()
    }


def test_every_package_has_a_front_door() -> None:
    folders = {path.parent for room in ROOMS for path in (ROOT / room).rglob("*.py")}
    assert [folder for folder in folders if not (folder / "__init__.py").exists()] == []


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_says_that_it_is_typed(room: str) -> None:
    assert (ROOT / room / "py.typed").exists()


@pytest.mark.parametrize("room", ROOMS)
def test_type_checkers_reach_a_room_through_a_relative_link(room: str) -> None:
    link = ROOT / "scripts" / "typing" / "duramen" / room
    assert os.readlink(link) == f"../../../{room}"
    assert link.resolve() == ROOT / room


def test_the_command_is_installed() -> None:
    (command,) = entry_points(group="console_scripts", name="duramen")
    assert callable(command.load())


def test_the_newest_changes_are_written_down() -> None:
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert f"## [{version('duramen')}]" in changes or "## [Unreleased]" in changes
