"""The pictures of the architecture are drawn from the code as it is, and its walks name files that are there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from layout import Import
from pictures.all import drawn
from pictures.rooms import graph_of, reduced
from pictures.walks import WALKS

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", sorted(drawn(ROOT)))
def test_a_picture_is_as_the_script_draws_it_today(name: str) -> None:
    stored = (ROOT / "docs" / "pictures" / name).read_text(encoding="utf-8")
    assert stored == drawn(ROOT)[name], "run `python scripts/pictures`"


@pytest.mark.parametrize("name", sorted(WALKS))
def test_a_walk_names_files_that_are_there(name: str) -> None:
    assert [step.place for step in WALKS[name].steps if not (ROOT / step.place).exists()] == []


@pytest.mark.parametrize("name", sorted(WALKS))
def test_a_walk_is_told_in_as_many_steps_as_its_picture_has(name: str) -> None:
    told = PAGE.split(f"(pictures/{name})")[1].split("\n#")[0]
    assert len(re.findall(r"^\d+\. ", told, re.MULTILINE)) == len(WALKS[name].steps)


def test_an_arrow_is_left_out_where_a_longer_way_says_the_same() -> None:
    imports = [
        Import(f"duramen.events.{importer}.x", 1, f"duramen.events.{imported}", "Name", False)
        for importer, imported in (("a", "b"), ("b", "c"), ("a", "c"), ("a", "d"))
    ]
    graph = graph_of(imports, "events", {"a", "b", "c", "d"})
    assert reduced(graph) == {"a": {"b", "d"}, "b": {"c"}}
