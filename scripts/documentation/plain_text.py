"""The site for programs: each page as Markdown beside its HTML, and `llms.txt`, which lists them."""

from __future__ import annotations

import re
from pathlib import Path

from sphinx import addnodes
from sphinx.application import Sphinx

__all__ = ["summary_of", "write_plain_text"]

_ENTRY = "docs/index.html"
_TO_ENTRY = (
    f'<!DOCTYPE html><meta charset="utf-8"><title>duramen</title>'
    f'<meta http-equiv="refresh" content="0; url={_ENTRY}"><a href="{_ENTRY}">duramen</a>\n'
)


def write_plain_text(app: Sphinx, failure: Exception | None) -> None:
    """Write what goes beside the HTML: the pages' text, `llms.txt`, and an entry that leads to the first page."""
    if failure is not None or app.builder.format != "html":
        return
    root, site = Path(app.srcdir), Path(app.outdir)
    for page in sorted(app.env.found_docs):
        copy = site / f"{page}.md"
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_text((root / f"{page}.md").read_text(encoding="utf-8"), encoding="utf-8")
    (site / "index.html").write_text(_TO_ENTRY, encoding="utf-8")
    (site / "llms.txt").write_text(_list_of_pages(app), encoding="utf-8")


def summary_of(text: str) -> str:
    """The first sentence below a page's title, without its markup; empty where there is none."""
    prose = re.sub(r"^(`{3,}).*?^\1$", "", text, flags=re.MULTILINE | re.DOTALL).partition("# ")[2]
    paragraphs = [part.strip() for part in prose.split("\n\n")[1:]]
    first = next((part for part in paragraphs if part and part[0] not in "#!|<-"), "")
    plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", " ".join(first.split())).replace("**", "")
    return re.split(r"(?<=[.:]) (?=[A-Z`])", plain, maxsplit=1)[0].rstrip(":")


def _list_of_pages(app: Sphinx) -> str:
    root = Path(app.srcdir)
    first = (root / f"{app.config.root_doc}.md").read_text(encoding="utf-8")
    lines = ["# duramen", "", f"> {summary_of(first)}", ""]
    for toctree in app.env.get_doctree(app.config.root_doc).findall(addnodes.toctree):
        lines += [f"## {toctree['caption']}", ""]
        lines += [_line_of(app, page) for listed in toctree["includefiles"] for page in _with_pages_below(app, listed)]
        lines.append("")
    return "\n".join(lines)


def _with_pages_below(app: Sphinx, page: str) -> list[str]:
    """The page, and those that are listed below it alone, such as the decision records."""
    return [page, *app.env.toctree_includes.get(page, ())]


def _line_of(app: Sphinx, page: str) -> str:
    summary = summary_of((Path(app.srcdir) / f"{page}.md").read_text(encoding="utf-8"))
    return f"- [{app.env.titles[page].astext()}]({page}.md)" + (f": {summary}" if summary else "")
