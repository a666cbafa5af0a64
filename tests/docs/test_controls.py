"""The checks of test_blocks say no to a page that does not work, and yes to one that does."""

from __future__ import annotations

from pathlib import Path

import pytest

from docs.checks import broken_links, complaints
from docs.pages import anchors, blocks
from docs.running import Failed, console_commands, run_console, run_python


def page_of(folder: Path, *lines: str) -> Path:
    page = folder / "page.md"
    page.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return page


def failure_of(folder: Path, *lines: str) -> str:
    with pytest.raises(Failed) as failed:
        run_python(blocks(page_of(folder, *lines)), folder)
    return str(failed.value)


def test_the_blocks_of_a_page_share_their_names_and_a_folder(tmp_path: Path) -> None:
    page = page_of(
        tmp_path,
        "```python",
        "import pathlib",
        "pathlib.Path('here').write_text('1')",
        "```",
        "~~~python",
        "assert (__name__, pathlib.Path('here').read_text()) == ('__main__', '1')",
        "~~~",
    )
    assert run_python(blocks(page), tmp_path) == 2
    assert (tmp_path / "here").exists()


def test_a_block_that_raises_fails_with_the_line_of_the_page(tmp_path: Path) -> None:
    said = failure_of(tmp_path, "# Title", "", "```python", "fine = 1", "assert not fine", "```")
    assert 'page.md", line 5' in said


def test_a_warning_fails(tmp_path: Path) -> None:
    said = failure_of(tmp_path, "```python", "import warnings", "warnings.warn('old', DeprecationWarning)", "```")
    assert "DeprecationWarning: old" in said


def test_a_resource_that_is_never_closed_fails(tmp_path: Path) -> None:
    assert "ResourceWarning" in failure_of(tmp_path, "```python", "file = open('x', 'w')", "```")


def test_an_exception_in_a_thread_fails(tmp_path: Path) -> None:
    said = failure_of(
        tmp_path,
        "```python",
        "import threading",
        "thread = threading.Thread(target=lambda: 1 / 0)",
        "thread.start()",
        "thread.join()",
        "```",
    )
    assert "ZeroDivisionError" in said


def test_a_block_in_a_list_is_run_without_its_indentation(tmp_path: Path) -> None:
    page = page_of(tmp_path, "- first", "", "  ```python", "  if True:", "      done = 1", "  ```")
    assert complaints(page) == []
    assert run_python(blocks(page), tmp_path) == 1


def test_a_fence_inside_a_longer_fence_is_text(tmp_path: Path) -> None:
    (block,) = blocks(page_of(tmp_path, "````text", "```", "inside", "```", "````"))
    assert block.text == "```\ninside\n```\n"


def test_a_fence_that_is_never_closed_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="never closed"):
        blocks(page_of(tmp_path, "```python", "1"))


def test_a_block_with_a_reason_may_be_skipped(tmp_path: Path) -> None:
    page = page_of(tmp_path, '```python skip="needs a cluster of your own"', "1 / 0", "```")
    assert complaints(page) == []
    assert [block.skip for block in blocks(page)] == ["needs a cluster of your own"]


@pytest.mark.parametrize(
    "lines",
    [
        ("```python skip", "1", "```"),
        ('```python skip=""', "1", "```"),
        ("```python notest", "1", "```"),
        ("```Python", "1", "```"),
        ("> ```python", "> 1", "> ```"),
        ("```py", "from duramen.actors import AgentSystem", "```"),
        ("```pycon", ">>> 1", "1", "```"),
        ("```sh", "$ duramen run", "```"),
        ("```bash", "duramen run", "```"),
        ("```console", "duramen run", "```"),
        ("```console chek", "$ duramen run", "```"),
    ],
    ids=lambda lines: " ".join(lines),
)
def test_a_block_that_would_silently_not_run_is_complained_about(tmp_path: Path, lines: tuple[str, ...]) -> None:
    assert complaints(page_of(tmp_path, *lines)) != []


@pytest.mark.parametrize(
    "lines", [("```text", "duramen", "```"), ("```sh", "scripts/test", "```"), ("```", "x", "```")]
)
def test_a_block_that_shows_no_use_of_the_library_is_left_alone(tmp_path: Path, lines: tuple[str, ...]) -> None:
    assert complaints(page_of(tmp_path, *lines)) == []


def test_a_command_that_fails_is_told(tmp_path: Path) -> None:
    (block,) = blocks(page_of(tmp_path, "```console", "$ duramen no-such-command", "```"))
    with pytest.raises(Failed, match="no-such-command"):
        run_console(block, tmp_path)


def test_only_duramen_commands_of_a_console_block_are_run(tmp_path: Path) -> None:
    (block,) = blocks(page_of(tmp_path, "```console", "$ touch made", "$ echo duramen", "```"))
    assert run_console(block, tmp_path) == 0
    assert not (tmp_path / "made").exists()


def test_a_backslash_continues_a_command_and_what_follows_is_its_output(tmp_path: Path) -> None:
    (block,) = blocks(page_of(tmp_path, "```console", "$ duramen show \\", "    acme/alice", "goal", "$ true", "```"))
    (show, true) = console_commands(block)
    assert (show.line.split(), show.shown) == (["duramen", "show", "acme/alice"], "goal")
    assert (true.line, true.shown) == ("true", "")


def test_links_must_lead_to_a_page_or_a_heading_of_the_project(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "other.md").write_text("# The `log`, in order\n")
    page = page_of(
        tmp_path,
        "## Here",
        "[a](docs/other.md) [b](docs/other.md#the-log-in-order) [c](#here)",
        "[d](https://example.org/x) `[e](none.md)`",
        "[f](docs/none.md) [g](docs/other.md#none) [h](#none) [i](../outside.md) ![j](none.png)",
        "[k]: none.md",
        "```text",
        "[l](none.md)",
        "```",
    )
    broken = ["docs/none.md", "docs/other.md#none", "#none", "../outside.md", "none.png", "none.md"]
    assert broken_links(page, tmp_path) == broken


def test_headings_with_the_same_words_are_numbered(tmp_path: Path) -> None:
    assert anchors(page_of(tmp_path, "# Use", "## Use", "### Use [it](x)!")) == {"use", "use-1", "use-it"}
