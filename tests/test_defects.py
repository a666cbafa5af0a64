"""The look at what the core has logged finds what a test would otherwise pass over."""

from __future__ import annotations

import logging
import threading

import pytest

from defects import DefectLog
from duramen.actors import AgentSystem
from duramen.actors.dispatch import Dispatcher


def fail(_: object = None) -> None:
    raise ZeroDivisionError


@pytest.fixture
def log() -> DefectLog:
    return DefectLog()


@pytest.fixture(autouse=True)
def _handled(log: DefectLog) -> object:
    logger = logging.getLogger("duramen")
    logger.addHandler(log)
    yield
    logger.removeHandler(log)


def post_defect(dispatcher: Dispatcher) -> None:
    ended = threading.Event()
    dispatcher.post(fail)
    dispatcher.post(ended.set)
    assert ended.wait(10)


@pytest.mark.provokes_defects
def test_a_defect_in_the_core_is_found(log: DefectLog) -> None:
    with log.watch() as found, AgentSystem.open("memory://") as system:
        post_defect(system._services.dispatcher)
    assert len(found) == 1
    assert found[0].startswith("event='posted_work_failed' error='ZeroDivisionError'")


@pytest.mark.provokes_defects
def test_a_system_that_was_there_before_is_no_concern_of_the_test(log: DefectLog) -> None:
    with AgentSystem.open("memory://") as system:
        with log.watch() as found:
            post_defect(system._services.dispatcher)
        assert found == []
        with log.watch() as found:
            pass
        assert found == [], "nor is what was logged before"


def test_what_is_logged_on_purpose_is_no_defect(log: DefectLog) -> None:
    with log.watch() as found, AgentSystem.open("memory://") as system:
        reply = system.spawn("acme/alice").ask("nobody handles it", block=False)
        reply.add_done_callback(fail)
    assert found == []
