"""What the page's files promise each other."""

from __future__ import annotations

import re
from importlib.resources import files

PAGE = files("duramen.actors.inspector").joinpath("page")


def test_all_modules_are_asked_for_at_once() -> None:
    """Else the browser finds them one import after another, and each costs a round trip before the first row."""
    index = PAGE.joinpath("index.html").read_text("utf-8")
    named = re.findall(r'"/page/([\w.]+\.js)"', index)
    assert sorted(named) == sorted(each.name for each in PAGE.iterdir() if each.name.endswith(".js"))


def test_no_module_groups_by_what_came_to_browsers_in_2024() -> None:
    """A browser of the year before would fail at it, and there is no step between that would write it otherwise."""
    modules = {each.name: each.read_text("utf-8") for each in PAGE.iterdir() if each.name.endswith(".js")}
    assert "places.js" in modules
    assert [name for name, text in modules.items() if re.search(r"\b(groupBy|withResolvers)\(", text)] == []
