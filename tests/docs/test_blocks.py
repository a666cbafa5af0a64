"""What README and docs show is run as it stands there, and their links lead somewhere."""

from __future__ import annotations

from pathlib import Path

import pytest

from docs.checks import broken_links, complaints
from docs.pages import ROOT, Block, blocks, pages
from docs.running import run_console, run_python

PAGES = [pytest.param(page, id=page.relative_to(ROOT).as_posix()) for page in pages()]
# What a reader saves as files and runs in order: test_tutorial follows it.
FOLLOWED = {*(ROOT / "docs" / "tutorial").glob("*.md")}


def to_run(page: Path, language: str) -> list[Block]:
    shown = [] if page in FOLLOWED else blocks(page)
    return [block for block in shown if block.language == language and block.skip is None]


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES)
def test_the_python_blocks_of_a_page_run_in_order_without_a_warning(page: Path, tmp_path: Path) -> None:
    folder = tmp_path / "reader"
    folder.mkdir()
    assert run_python(to_run(page, "python"), folder) == len(to_run(page, "python"))


@pytest.mark.slow
@pytest.mark.parametrize("page", ["README.md", "docs/guide/getting-started.md"])
def test_a_page_that_a_newcomer_starts_with_can_be_run_twice(page: str, tmp_path: Path) -> None:
    shown = to_run(ROOT / page, "python")
    folder = tmp_path / "reader"
    folder.mkdir()
    assert [run_python(shown, folder) for _ in range(2)] == [len(shown)] * 2
    # A session that was left running, as by a reader who stops after the first block.
    run_python(shown[:1], folder)
    assert run_python(shown, folder) == len(shown)


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES)
def test_the_duramen_commands_of_a_page_end_well(page: Path, tmp_path: Path) -> None:
    for block in to_run(page, "console"):
        run_console(block, tmp_path)


@pytest.mark.parametrize("page", PAGES)
def test_a_page_shows_no_block_that_is_silently_left_out(page: Path) -> None:
    assert complaints(page) == []


@pytest.mark.parametrize("page", PAGES)
def test_the_links_of_a_page_lead_somewhere(page: Path) -> None:
    assert broken_links(page) == []


def test_readme_is_among_the_pages() -> None:
    assert ROOT / "README.md" in pages()


def test_what_is_shown_as_a_piece_of_an_example_stands_in_it() -> None:
    mark = "a piece of examples/"
    shown = [(block, block.skip or "") for page in pages() for block in blocks(page)]
    pieces = [(block, ROOT / "examples" / why.removeprefix(mark)) for block, why in shown if why.startswith(mark)]
    assert {file.name for _, file in pieces} == {"view_in_postgres.py"}
    assert [block.place for block, file in pieces if block.text not in file.read_text(encoding="utf-8")] == []
