"""A difference as a pytest file that fails as long as the difference exists."""

from __future__ import annotations

from typing import Final

from duramen.events.model import OWN_TYPES

from .as_code import format_value
from .replay_check import ERROR, Difference
from .stored_log import StoredLog

_HEAD: Final = '''"""Today's code makes something else of a recorded log; written by duramen.

Difference after seq {seq} of {agent}: {what}.
"""

from __future__ import annotations

from datetime import datetime

import pytest

{imports}from duramen.events import Content
from duramen.projections.recorded import log_of, part_of, same, view_after

assert all((Content, datetime, pytest, part_of, same, view_after))  # not every log needs each of them


def test_a_recorded_log_is_folded_as_it_was() -> None:
{events}
'''


def as_test(found: Difference) -> str:
    """The text of a test file. For damaged bytes or a view of a projection, the test shows the log and fails.

    The file has the data of the events: treat it like the log.
    """
    log = found.log or StoredLog()
    head = _HEAD.format(
        seq=found.seq, agent=log.agent, what=_what(found), imports=_imports(log), events=_indented(log.code())
    )
    return head + _indented(_check(found)) + "\n"


def _what(found: Difference) -> str:
    return f"the view {found.name}" if found.name else f"the {found.kind}"


def _check(found: Difference) -> str:
    if found.kind == ERROR and found.log is not None:
        return f"view_after(events)  # raised {_line(found.actual)}"
    if found.state is not None:
        names = ", ".join(map(repr, found.names))
        return (
            f"expected = {format_value(found.state)}\n"
            f"actual = part_of(view_after(events), [{names}])\n"
            "assert same(actual, expected), actual"
        )
    return f"pytest.fail({f'expected {found.expected}, found {found.actual}'!r})"


def _line(text: str) -> str:
    return " ".join(text.split())[:100]


def _imports(log: StoredLog) -> str:
    types, lines = log.registry.types(), set[str]()
    for raw in log.raws():
        cls = types.get(raw[0])
        if raw[0] not in OWN_TYPES and cls is not None and cls.__module__ != "__main__":
            lines.add(f"import {cls.__module__}  # declares {raw[0]}\n")
    return "".join(sorted(lines)) + ("\n" if lines else "")


def _indented(text: str) -> str:
    return "\n".join(f"    {line}" if line else line for line in text.splitlines())
