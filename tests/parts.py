"""Which files of tests a run needs to import: those that hold quick tests, and of these one part of several."""

from __future__ import annotations

from collections.abc import Container
from functools import cache
from itertools import accumulate
from pathlib import Path
from typing import TypeVar

__all__ = ["FULL_RUN_ONLY", "combine_failures", "cut", "files_of_part", "is_slow_as_a_whole", "quick_files"]

Name = TypeVar("Name")

# Left to the full run, so that the loop of a developer stays under a minute: what starts many processes.
FULL_RUN_ONLY = (
    "tests/actors/console/",
    "tests/actors/api/test_episode_memory.py",
    "tests/actors/handlers/test_trimmer.py",
    "tests/actors/verification/",
    "tests/contracts/test_channel_examples.py",
    "tests/docs/",
    "tests/events/embedded/test_server.py",
    "tests/faults/",
    "tests/projections/integrity/test_verify.py",
    "tests/projections/history/test_recorded_past.py",
    "tests/projections/consumers/test_runner",
    "tests/projections/subscriptions/test_interleavings.py",
    "tests/projections/verification/",
    "tests/properties/test_planted_faults.py",
    "tests/test_bench.py",
    "tests/test_examples.py",
    "tests/test_leftovers.py",
    "tests/test_pytest_plugin.py",
)


@cache
def is_slow_as_a_whole(root: Path, path: Path) -> bool:
    """Whether all tests of a file are slow, which is seen without an import of it."""
    if path.relative_to(root).as_posix().startswith(FULL_RUN_ONLY):
        return True
    return "\npytestmark = pytest.mark.slow\n" in path.read_text(encoding="utf-8")


@cache
def quick_files(root: Path) -> dict[Path, int]:
    """The files with quick tests, and their sizes. Those of one folder follow each other: they import the same."""
    files = (path for path in (root / "tests").rglob("test_*.py") if not is_slow_as_a_whole(root, path))
    return {path: path.stat().st_size for path in sorted(files, key=lambda path: (path.parent, path.name))}


@cache
def files_of_part(root: Path, part: str) -> frozenset[Path]:
    """The files with quick tests that are in a part, as `cut` cuts them."""
    return frozenset(cut(quick_files(root), part))


def cut(sizes: dict[Name, int], part: str) -> list[Name]:
    """The names of a part: "2/4" is the second of four, each of neighbours and of about one size in sum."""
    number, parts = (int(word) for word in part.split("/"))
    if not 1 <= number <= parts:
        raise ValueError(f"{part!r} is no part: the first of four is 1/4, the last 4/4")
    total = sum(sizes.values())
    before = accumulate(sizes.values(), initial=0)
    return [name for name, at in zip(sizes, before, strict=False) if at * parts // total == number - 1]


def combine_failures(saved: dict[str, bool], own: dict[str, bool], files: Container[Path]) -> dict[str, bool]:
    """The tests that failed last: those of `files`, relative to the root, as `own` has them, the others as saved.

    Each part of a run saves all that it knows at its end, with what other parts have found at its own beginning.
    """
    others = {name for name in saved if Path(name.partition("::")[0]) not in files}
    return dict.fromkeys(sorted(others | {name for name in own if Path(name.partition("::")[0]) in files}), True)
