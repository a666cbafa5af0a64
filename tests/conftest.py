"""For all tests: how hard hypothesis looks, no foreign server, and a last look at what is left behind."""

from __future__ import annotations

import fcntl
import gc
import logging
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from clusters import Cluster
from defects import DefectLog
from leftovers import note_threads, processes_left, threads_left
from parts import FULL_RUN_ONLY, combine_failures, files_of_part, is_slow_as_a_whole
from servers import redis_server, valkey_server

# No deadlines, and no complaint about slow drawing: a slow machine is no defect. `ci` draws the same examples in each
# run, so that a red run is about the change that caused it; `default` draws new ones; `quick` is for the loop of a
# developer, and `thorough` for a change to what has laws.
# Choose with `--hypothesis-profile=thorough`.
_IN_CI = bool(os.environ.get("CI"))
_PATIENT = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("default", _PATIENT, max_examples=50)
settings.register_profile("ci", _PATIENT, max_examples=70, derandomize=True, database=None, print_blob=True)
settings.register_profile("quick", _PATIENT, max_examples=15, derandomize=_IN_CI)
settings.register_profile("thorough", _PATIENT, max_examples=2_000, print_blob=True)
settings.load_profile("ci" if _IN_CI else "default")

# A shell starts what it puts in the background with Ctrl-C ignored, and children inherit that: the programs whose
# answer to Ctrl-C is tested could then not hear it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# What was told to stop at the end of the last test gets this long.
_GRACE_SECONDS = 30.0


@pytest.fixture(scope="session")
def _threads_seen() -> dict[int, str]:
    """After which test each of the library's threads was first seen."""
    return {}


@pytest.fixture(scope="session", autouse=True)
def _nothing_left_behind(tmp_path_factory: pytest.TempPathFactory, _threads_seen: dict[int, str]) -> Iterator[None]:
    """Fail after the last test if a thread of the library or a program that a test started is still there.

    It is the first fixture of the session and so the last to go: the servers of other fixtures have stopped.
    """
    folder = tmp_path_factory.getbasetemp()
    yield
    threads = threads_left(_GRACE_SECONDS, _threads_seen)
    processes = processes_left(folder, _GRACE_SECONDS)
    for pid in processes:
        os.kill(pid, signal.SIGKILL)
    if threads or processes:
        pytest.fail(f"left behind by a test: threads {threads}, processes {processes}", pytrace=False)


@pytest.fixture(scope="session", autouse=True)
def _nobody_elses_server() -> Iterator[None]:
    """No test may reach the server that the user of this machine works with."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("DURAMEN_URL", raising=False)
        patch.delenv("DURAMEN_INTEGRITY_KEY", raising=False)
        yield


@pytest.fixture(scope="session")
def valkey_url() -> Iterator[str]:
    """A Valkey for all tests of the session that keep to a namespace of their own; nobody flushes it."""
    with valkey_server() as server:
        yield server.url


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    """A Redis, as `valkey_url`. Fails, and does not skip, where there is no `redis-server`."""
    with redis_server() as server:
        yield server.url


@pytest.fixture(scope="session")
def cluster_url() -> Iterator[str]:
    """A cluster of three primaries, as `valkey_url`."""
    with Cluster() as cluster:
        yield cluster.url


@pytest.fixture
def seed() -> int:
    """Of a test's random faults: the same each time, or what DURAMEN_TEST_SEED says. Shown where the test fails."""
    chosen = int(os.environ.get("DURAMEN_TEST_SEED", "12"))
    print(f"seed {chosen}: DURAMEN_TEST_SEED sets another one")
    return chosen


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--part", metavar="K/N", help="of the files with quick tests, collect the K-th part of N")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave files out before they are imported: those without a quick test, and those of other parts."""
    if not collection_path.match("test_*.py"):
        return None
    part = config.getoption("--part")
    if config.getoption("markexpr") == "not slow" and is_slow_as_a_whole(config.rootpath, collection_path):
        return True
    return True if part and collection_path not in files_of_part(config.rootpath, part) else None


@pytest.hookimpl(wrapper=True)
def pytest_sessionfinish(session: pytest.Session) -> Iterator[None]:
    """Keep what other parts have saved of failures, for `--lf`."""
    config = session.config
    part, failures = config.getoption("--part"), "cache/lastfailed"
    cache = config.cache if config.pluginmanager.hasplugin("cacheprovider") else None
    if not part or cache is None:
        yield
        return
    with (cache.mkdir("parts") / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        saved = cache.get(failures, {})
        yield
        files = {path.relative_to(config.rootpath) for path in files_of_part(config.rootpath, part)}
        cache.set(failures, combine_failures(saved, cache.get(failures, {}), files))


def pytest_collection_finish() -> None:
    """Keep thousands of collected tests out of what each collection of garbage looks through."""
    gc.freeze()


_LONGEST = ("tests/actors/verification/", "tests/faults/", "tests/test_bench.py", "tests/test_stages.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark as slow what belongs into the full run for what it is, not for how long each test takes.

    The longest files come first: no worker should begin with one of them when the others end.
    """
    items.sort(key=lambda item: not item.nodeid.startswith(_LONGEST))
    for item in items:
        second_server = any(mark in item.nodeid for mark in ("[redis", "-redis", "[cluster", "-cluster"))
        if item.nodeid.startswith(FULL_RUN_ONLY) or second_server:
            item.add_marker(pytest.mark.slow)


@pytest.fixture(autouse=True)
def _threads_noted(request: pytest.FixtureRequest, _threads_seen: dict[int, str]) -> Iterator[None]:
    yield
    note_threads(_threads_seen, request.node.nodeid)


@pytest.fixture(autouse=True)
def _handlers_stay() -> Iterator[None]:
    """Fail a test that leaves the handler of a signal behind: a later test's Ctrl-C would end nothing."""
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    yield
    after = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    assert after == before


@pytest.fixture(scope="session")
def _defects() -> Iterator[DefectLog]:
    defects, logger = DefectLog(), logging.getLogger("duramen")
    logger.addHandler(defects)
    yield defects
    logger.removeHandler(defects)


@pytest.fixture(autouse=True)
def _no_defect(request: pytest.FixtureRequest, _defects: DefectLog) -> Iterator[None]:
    """Fail a test whose system has logged a defect of the core, which goes on after that as if nothing was.

    Those that plant one are marked `provokes_defects`. Tests of the full run kill servers and processes: what is logged
    there is looked at by the tests themselves.
    """
    with _defects.watch() as found:
        yield
    node = request.node
    if found and node.get_closest_marker("provokes_defects") is None and node.get_closest_marker("slow") is None:
        pytest.fail(f"the core has logged a defect: {found}", pytrace=False)
