"""The site is built from the pages as they are: links, names and summaries; a fault in a page fails the build."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import duramen.actors
import duramen.events
from docs.pages import ROOT
from documentation.pages import documented_names, prepare_page
from documentation.plain_text import summary_of


def prepared(root: Path, docname: str, text: str) -> str:
    source = [text]
    app: Any = SimpleNamespace(srcdir=root)
    prepare_page(app, docname, source)
    return source[0]


def built(root: Path) -> subprocess.CompletedProcess[str]:
    """Build the pages of a folder as `scripts/docs` does."""
    sphinx = [
        sys.executable,
        "-P",
        "-m",
        "sphinx",
        "-W",
        "--keep-going",
        "-q",
        "-c",
        str(ROOT / "scripts/documentation"),
    ]
    return subprocess.run([*sphinx, str(root), str(root / "site")], capture_output=True, text=True)


def test_a_link_to_a_folder_becomes_its_text_and_other_links_stay(tmp_path: Path) -> None:
    (tmp_path / "examples").mkdir()
    (tmp_path / "docs").mkdir()
    text = "[the programs](../examples), [one](../examples/one.py), [far](https://example.org/x), ![p](../examples)"
    assert prepared(tmp_path, "docs/page", text) == text.replace("[the programs](../examples)", "the programs")


def test_the_decisions_are_listed_below_their_page_alone(tmp_path: Path) -> None:
    assert "toctree" in prepared(tmp_path, "docs/decisions/README", "# Decision records\n")
    assert prepared(tmp_path, "docs/README", "# Other\n") == "# Other\n"


def test_every_name_of_a_door_is_documented_once() -> None:
    of_actors, of_events = documented_names("duramen.actors"), documented_names("duramen.events")
    assert ".. autoclass:: duramen.actors.AgentSystem\n   :members:" in of_actors
    assert ".. autofunction:: duramen.actors.server_sent_events" in of_actors
    shown = (of_actors + of_events).count("```{eval-rst}")
    assert shown == len({*duramen.actors.__all__, *duramen.events.__all__})
    assert "Receipt" in duramen.actors.__all__
    assert "`Receipt`" in of_events
    assert "`Receipt`" not in of_actors


@pytest.mark.parametrize(
    ("text", "summary"),
    [
        ("# Title\n\nIt does *one* thing. And more.\n", "It does *one* thing."),
        ("# Title\n\n`duramen` is [here](x.md): **look**.\n", "`duramen` is here: look."),
        (
            "# Title\n\n```python\n# not this\n\nx = 1\n```\n\n![p](q)\n\nThis one,\nover two lines:\n\n- a\n",
            "This one, over two lines",
        ),
        ("# Title\n", ""),
    ],
)
def test_the_summary_of_a_page_is_its_first_sentence(text: str, summary: str) -> None:
    assert summary_of(text) == summary


@pytest.mark.slow
def test_a_link_that_leads_nowhere_fails_the_build(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    page = tmp_path / "docs" / "index.md"
    page.write_text(
        "# First\n\nOne sentence.\n\n## Below\n\n[here](#below)\n\n```{toctree}\n:caption: More\n\nother\n```\n"
    )
    below = "\n```{toctree}\n:hidden:\n\nbelow\n```\n"
    (tmp_path / "docs" / "other.md").write_text(f"# Other\n\nWhat it is. And why.\n{below}")
    (tmp_path / "docs" / "below.md").write_text("# Below\n\nIt is listed, too.\n")
    done = built(tmp_path)
    assert done.returncode == 0, done.stderr
    listed = "- [Other](docs/other.md): What it is.\n- [Below](docs/below.md): It is listed, too.\n"
    assert listed in (tmp_path / "site" / "llms.txt").read_text()
    assert (tmp_path / "site" / "docs" / "other.md").read_text().startswith("# Other")
    page.write_text(page.read_text() + "\n[nowhere](none.md)\n")
    done = built(tmp_path)
    assert done.returncode != 0
    assert "'none.md'" in done.stderr
