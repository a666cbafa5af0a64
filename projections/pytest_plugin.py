"""The pytest plugin: options of the verification kit, and recorded logs as tests.

Every pytest loads it where duramen is installed, so it imports the kit only when a test needs it.
"""

from __future__ import annotations

import os
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

if TYPE_CHECKING:
    from duramen.projections.recorded import RecordedLog

__all__ = [
    "pytest_addoption",
    "pytest_configure",
    "pytest_report_header",
    "pytest_runtest_call",
    "pytest_unconfigure",
    "recorded_log",
]

_SETTINGS: Final = {"duramen_verify_examples": "DURAMEN_VERIFY_EXAMPLES", "duramen_verify_url": "DURAMEN_VERIFY_URL"}
_Before = dict[str, str | None]
_BEFORE: Final = pytest.StashKey[_Before]()
_MARKER: Final = (
    "replay(file, projections={}): before the test, fold this recorded log (a path beside the test's file) with "
    "today's code; fail where it comes to something else than was recorded."
)


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("duramen", "verification of agents and projections")
    group.addoption(
        "--duramen-verify-examples",
        metavar="N",
        help="logs that each check generates, where the call does not say (DURAMEN_VERIFY_EXAMPLES)",
    )
    group.addoption(
        "--duramen-verify-url",
        metavar="URL",
        help="server that agents are checked on, instead of a log in memory (DURAMEN_VERIFY_URL)",
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", _MARKER)
    examples = config.getoption("duramen_verify_examples")
    if examples is not None and not (examples.isdecimal() and int(examples) > 0):
        raise pytest.UsageError(f"--duramen-verify-examples takes a whole number from 1 on, not {examples!r}")
    before = config.stash[_BEFORE] = {}
    for option, name in _SETTINGS.items():
        value = config.getoption(option)
        if value is not None:
            before[name] = os.environ.get(name)
            os.environ[name] = value


def pytest_unconfigure(config: pytest.Config) -> None:
    for name, value in config.stash.get(_BEFORE, _Before()).items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


def pytest_report_header(config: pytest.Config) -> str | None:
    """A line of the header if an option differs from its default; it shows no URL, which may have a password."""
    examples = config.getoption("duramen_verify_examples")
    where = "on a server" if config.getoption("duramen_verify_url") else ""
    options = ", ".join(filter(None, (f"{examples} examples a check" if examples else "", where)))
    return f"duramen: verification with {options}" if options else None


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, Any, Any]:
    for marker in item.iter_markers("replay"):
        _fold(item, marker)
    return (yield)


@pytest.fixture
def recorded_log(request: pytest.FixtureRequest) -> RecordedLog:
    """The recorded log of the test's `@pytest.mark.replay(file)`."""
    marker = request.node.get_closest_marker("replay")
    if marker is None:
        pytest.fail("recorded_log needs @pytest.mark.replay(file) at the test", pytrace=False)
    return _load(request.node, marker)


def _load(item: pytest.Item, marker: pytest.Mark) -> RecordedLog:
    from duramen.events import InvalidMessage
    from duramen.projections.recorded import load_log

    if len(marker.args) != 1 or set(marker.kwargs) - {"projections"}:
        pytest.fail("@pytest.mark.replay takes one file, and projections={name: projection}", pytrace=False)
    file = item.path.parent / Path(marker.args[0])
    try:
        return load_log(file)
    except (InvalidMessage, OSError) as error:
        pytest.fail(f"@pytest.mark.replay: {file}: {error}", pytrace=False)


def _fold(item: pytest.Item, marker: pytest.Mark) -> None:
    recorded = _load(item, marker)
    from duramen.projections.recorded import check_replay, smaller

    report = check_replay(recorded, projections=marker.kwargs.get("projections"))
    if report.ok:
        return
    found = smaller(report.differences[0])
    what = f"view {found.name}" if found.name else found.kind
    lines = [
        f"{marker.args[0]}: today's code comes to something else than was recorded ({what}, seq {report.events})",
        f"expected: {found.expected}",
        f"actual:   {found.actual}",
    ]
    pytest.fail("\n".join([*lines, *([found.log.code()] if found.log else [])]), pytrace=False)
