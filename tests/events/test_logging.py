"""What is logged: facts, and never what smells of a secret."""

from __future__ import annotations

import logging
import re
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from duramen.events.logging import get_logger, redact

SECRET = "sk-live-123"
NAMES = [
    "password",
    "Password",
    "db_password",
    "passwd",
    "token",
    "access_token",
    "TOKEN",
    "secret",
    "client_secret",
    "authorization",
    "Authorization",
    "credential",
    "aws_credentials",
    "api_key",
    "api-key",
    "apikey",
    "OPENAI_API_KEY",
]


@pytest.mark.parametrize("name", NAMES)
def test_a_value_under_a_name_that_smells_of_a_secret_is_not_shown(name: str, caplog: pytest.LogCaptureFixture) -> None:
    get_logger("test").warning("something", **{name: SECRET, "agent": "acme/alice"})
    assert SECRET not in caplog.text
    assert "[redacted]" in caplog.text
    assert "acme/alice" in caplog.text


@pytest.mark.parametrize("name", NAMES)
def test_a_bound_value_is_not_shown_either(name: str, caplog: pytest.LogCaptureFixture) -> None:
    get_logger("test", **{name: SECRET}).bind(seq=7).error("something")
    assert SECRET not in caplog.text
    assert "seq=7" in caplog.text


def test_facts_are_shown(caplog: pytest.LogCaptureFixture) -> None:
    get_logger("test", agent="acme/alice").warning(
        "agent_fenced", seq=7, session_id="s-1", type="memory_set", bytes=120
    )
    for fact in ("agent_fenced", "acme/alice", "seq=7", "s-1", "memory_set", "bytes=120"):
        assert fact in caplog.text


@given(
    event=st.dictionaries(
        st.text(max_size=10) | st.sampled_from(NAMES), st.none() | st.integers() | st.text(max_size=5), max_size=6
    )
)
def test_only_values_are_taken_away_and_nothing_else(event: dict[str, object]) -> None:
    found = redact(None, "info", dict(event))
    assert list(found) == list(event)
    for name, value in event.items():
        assert found[name] in (value, "[redacted]")
        if name in NAMES:
            assert found[name] == "[redacted]"


@pytest.mark.slow
def test_nothing_below_warning_is_heard_unless_the_program_asks_for_it(caplog: pytest.LogCaptureFixture) -> None:
    get_logger("test").info("quiet")
    assert caplog.records == []
    caplog.set_level(logging.INFO, "duramen")
    get_logger("test").info("heard")
    assert [record.name for record in caplog.records] == ["duramen.test"]


# -- programs that have set up no logging ----------------------------------------------------------------------------

WARN = "from duramen.events.logging import get_logger as g; g('test', agent='acme/alice').warning('something', seq=7)"
WHOLE = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} WARNING duramen\.test event='something' agent='acme/alice' seq=7\n"
OURS = r"mine WARNING event='something' agent='acme/alice' seq=7\n"


@pytest.mark.parametrize(
    ("set_up", "expected"),
    [
        ("", WHOLE),
        ("logging.basicConfig(format='mine %(levelname)s %(message)s')", OURS),
        ("logging.getLogger('duramen').addHandler(logging.NullHandler())", ""),
        ("logging.getLogger('duramen.test').addHandler(logging.NullHandler())", ""),
        ("logging.getLogger('duramen').setLevel(logging.ERROR)", ""),
        ("logging.getLogger('duramen').propagate = False", WHOLE),
        ("logging.getLogger('else').addHandler(logging.NullHandler())", WHOLE),
        ("logging.disable()", ""),
        ("sys.stderr = None", ""),
    ],
)
@pytest.mark.slow
@pytest.mark.parametrize("first", [True, False])
def test_a_warning_is_a_whole_line_or_what_the_program_has_set_up(set_up: str, expected: str, first: bool) -> None:
    """Whether logging is set up before the library is used, or after."""
    lines = ["import logging, sys", set_up, WARN] if first else ["import logging, sys", SILENT, set_up, WARN]
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(lines)], capture_output=True, text=True, timeout=60, check=True
    )
    assert re.fullmatch(expected, done.stderr), done.stderr


SILENT = "from duramen.events.logging import get_logger; get_logger('early').info('nothing')"
