"""The file: the inspector's page with its styles and scripts inside, under a policy that lets nothing else in."""

from __future__ import annotations

import html
import os
import re
from base64 import b64encode
from collections.abc import Callable
from contextlib import nullcontext
from hashlib import sha256
from importlib.resources import files
from itertools import chain
from pathlib import Path
from typing import BinaryIO, Final

from duramen.projections.sessions import open_atomically

from ...api import AgentSystem
from .modules import bundle
from .recording import record

_BODY: Final = re.compile(r"<body>\n(.*)</body>", re.DOTALL)
_KINDS: Final = (".css", ".html", ".js", ".svg")
_START: Final = "main.js"
# The page asks `api.js`; here that module has the answers.
_REPLACED: Final = {"api.js": "recorded.js"}
_FIRST: Final = "recorded_answers.js"
_ESCAPES: Final = {ord(each): f"\\u{ord(each):04x}" for each in "<>&\u2028\u2029"}


def write_static_page(
    system: AgentSystem,
    path: str,
    file: str | os.PathLike[str] | BinaryIO,
    *,
    tree: bool = False,
    progress: Callable[[int], object] | None = None,
) -> int:
    """Write an agent, or with `tree` it and all below it, as one HTML file; the number of events in it.

    `file` is a path, replaced only once the page is complete, or a file open for bytes. The page needs no server, asks
    for nothing, and can change nothing. Agents may run meanwhile. `progress` is called with the events done. Raises
    AgentNotFound, TooLarge for more than fits into a page, what reading a log raises, and OSError.
    """
    answers, events = record(system, path, tree=tree, progress=progress)
    page = _page(path, answers)
    with open_atomically(Path(file)) if isinstance(file, str | os.PathLike) else nullcontext(file) as out:
        out.write(page)
    return events


def _page(title: str, answers: bytes) -> bytes:
    room = files("duramen.actors.inspector")
    found = chain(room.joinpath("page").iterdir(), room.joinpath("static").iterdir())
    held = {each.name: each.read_text("utf-8") for each in found if each.name.endswith(_KINDS)}
    body = _BODY.search(held["index.html"])
    assert body is not None
    script, style = bundle(held, (_FIRST, _START), _REPLACED), held["style.css"]
    icon = b64encode(held["icon.svg"].encode()).decode()
    policy = (
        f"default-src 'none'; script-src {_hash(script)}; style-src {_hash(style)}; img-src data:; base-uri 'none'; "
        "form-action 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
    )
    head = (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{html.escape(title)} · duramen</title>\n"
        f'<link rel="icon" href="data:image/svg+xml;base64,{icon}">\n<style>{style}</style>\n</head>\n'
    )
    # Inside a script element only "<" could end it; escaped, JSON stays JSON.
    data = answers.decode().translate(_ESCAPES)
    shown = f'<script type="application/json" id="recorded">{data}</script>\n<script>{script}</script>\n'
    return f"{head}<body>\n{body[1]}{shown}</body>\n</html>\n".encode()


def _hash(text: str) -> str:
    return f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'"
