"""A recorded log as a file: JSON Lines with the stored bytes and the change that each event made when recorded."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final, cast

from attrs import field, frozen

from duramen.events import AgentNotFound, CorruptEvent, EventRegistry, InvalidMessage, Limits
from duramen.events.codec import DIGEST_SIZE, Codec, decode_body
from duramen.events.log import EventLog
from duramen.events.model import DECLARED

from ..projection import Projection, fold
from ..state import AgentState, Op, advance, difference
from .portrait import portrait
from .recorded_state import view_of
from .sealing import read_items
from .stored_log import StoredLog

_KIND: Final = "duramen recorded log"
_FORMAT: Final = 1
_REMEMBERED: Final = 10_000


@frozen
class RecordedLog:
    """One agent's log with the states it led to when recorded.

    `changes` turn the view (`view_of`) before each event into the view after it; None: not recorded. `states` are views
    at some seqs, from snapshots. `views` are portraits of projections' states after the whole log.
    """

    agent: str
    items: Sequence[bytes]
    changes: Sequence[list[Op]] | None = None
    states: Mapping[int, dict[str, Any]] = field(factory=dict[int, dict[str, Any]])
    views: Mapping[str, str] = field(factory=dict[str, str])
    made_with: str = ""
    base: AgentState | None = None
    """The state that replaces trimmed events, or that a fork began with; None: the log is whole."""

    def stored(self) -> StoredLog:
        """The log without the states."""
        return StoredLog(tuple(self.items), self.agent)


def record_log(
    log: EventLog,
    agent: str,
    projections: Mapping[str, Projection[Any]] | None = None,
    *,
    registry: EventRegistry = DECLARED,
) -> RecordedLog:
    """Record an agent's whole log, with the states of today's code. Raises AgentNotFound and what reading raises."""
    if log.head(agent) is None:
        raise AgentNotFound(f"there is no agent {agent}; spawn it first", agent=agent)
    return recorded(StoredLog(tuple(read_items(log, agent)), agent, registry), projections)


def recorded(log: StoredLog, projections: Mapping[str, Projection[Any]] | None = None) -> RecordedLog:
    """Record a log with the change that each event makes today. Compares the whole state after each event."""
    state = AgentState()
    before = view_of(state)
    changes: list[list[Op]] = []
    for raw, item in zip(log.raws(), log.items, strict=True):
        advance(state, raw, item[:DIGEST_SIZE], _REMEMBERED)
        after = view_of(state)
        changes.append(difference(before, after))
        before = after
    views = {name: portrait(fold(one, log.events())) for name, one in (projections or {}).items()}
    return RecordedLog(log.agent, log.items, changes, views=views, made_with=_version())


def save_log(found: RecordedLog, file: str | Path) -> None:
    """Write a recorded log to a file: a header with the portraits of projections, then a line for each event.

    Raises InvalidMessage for a log that was trimmed or forked: the state it begins with belongs to one version of the
    code.
    """
    if found.base is not None:
        raise InvalidMessage(f"the log of {found.agent} does not begin at 1; only whole logs are kept in files")
    codec = Codec(Limits())
    types = [decode_body(found.agent, seq, item[DIGEST_SIZE:], codec)[0] for seq, item in enumerate(found.items, 1)]
    lines: list[dict[str, Any]] = [
        {
            "kind": _KIND,
            "format": _FORMAT,
            "agent": found.agent,
            "made_with": found.made_with,
            "views": dict(found.views),
        }
    ]
    for at, item in enumerate(found.items):
        line: dict[str, Any] = {"seq": at + 1, "type": types[at], "item": _text(item)}
        if found.changes is not None:
            line["change"] = _text(codec.pack(found.changes[at]))
        lines.append(line)
    Path(file).write_text("".join(f"{json.dumps(line, sort_keys=True)}\n" for line in lines), encoding="utf-8")


def load_log(file: str | Path) -> RecordedLog:
    """Read a file that `save_log` wrote. Raises InvalidMessage for another file, and OSError."""
    name = Path(file).name
    try:
        header, *lines = [json.loads(line) for line in Path(file).read_text(encoding="utf-8").splitlines()]
        known = (header["kind"], header["format"]) == (_KIND, _FORMAT)
        found = _from_lines(header, lines) if known else None
    except (ValueError, KeyError, TypeError, CorruptEvent) as error:
        raise InvalidMessage(f"{name} is no recorded log ({type(error).__name__}); record it again") from None
    if found is None:
        raise InvalidMessage(f"{name} is a recorded log of another format; read it with the version that wrote it")
    return found


def _from_lines(header: dict[str, Any], lines: Iterable[dict[str, Any]]) -> RecordedLog:
    codec = Codec(Limits())
    items: list[bytes] = []
    changes: list[list[Op]] = []
    for line in lines:
        items.append(_bytes(line["item"]))
        if "change" in line:
            changes.append(cast("list[Op]", codec.unpack(_bytes(line["change"]))))
    known = changes if len(changes) == len(items) else None
    return RecordedLog(header["agent"], items, known, views=header["views"], made_with=header["made_with"])


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _bytes(text: str) -> bytes:
    return base64.b64decode(text, validate=True)


def _version() -> str:
    try:
        return version("duramen")
    except PackageNotFoundError:  # running from a folder, not installed
        return ""
