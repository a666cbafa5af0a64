"""Which agents a page asks for, and in which rows they are shown."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Final

from attrs import frozen

_DIGITS: Final = re.compile(r"[0-9]+")


@frozen
class Query:
    """Which rows to show: words and `status:` or `type:` in `text`, one status, and what is folded."""

    text: str = ""
    status: str = ""
    closed: frozenset[str] = frozenset()


def open_tree(paths: Sequence[str], closed: frozenset[str]) -> tuple[list[str], dict[str, int]]:
    """The rows for sorted paths, each project's before its agents; and how many agents each project has."""
    rows: list[str] = []
    projects: dict[str, int] = {}
    for project, members in groupby(paths, _project):
        inside = list(members)
        projects[project] = len(inside)
        rows.append(project)
        if project not in closed:
            rows += _not_below(inside, closed) if closed else inside
    return rows, projects


def _project(path: str) -> str:
    return path[: path.index("/")]


def _not_below(paths: Sequence[str], closed: frozenset[str]) -> Iterator[str]:
    """The paths but for those below a closed one, which comes before them."""
    hidden = ""
    for path in paths:
        if not hidden or not path.startswith(hidden):
            yield path
            hidden = f"{path}/" if path in closed else ""


def sort_key(path: str) -> str:
    """Parents before what is below them, and numbers in their order."""
    return _DIGITS.sub(_pad, path).replace("/", "\0")


def _pad(digits: re.Match[str]) -> str:
    return digits[0].zfill(20)


def parse_query(query: Query) -> tuple[list[str], set[str], set[str]]:
    """The words, the statuses and the agent types that a query names."""
    wanted: list[str] = []
    statuses, types = {query.status} if query.status else set[str](), set[str]()
    for word in query.text.lower().split():
        name, colon, value = word.partition(":")
        if colon and name == "status":
            statuses.add(value)
        elif colon and name == "type":
            types.add(value)
        else:
            wanted.append(word)
    return wanted, statuses, types
