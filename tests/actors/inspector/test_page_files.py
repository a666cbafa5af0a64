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
