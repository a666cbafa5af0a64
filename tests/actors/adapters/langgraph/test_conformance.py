"""LangGraph's own conformance suite, in full, on every kind of log."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from langgraph.checkpoint.conformance import checkpointer_test, validate
from langgraph.checkpoint.conformance.report import CapabilityReport

from clusters import Cluster
from duramen import AgentSystem
from duramen.adapters.langgraph import DuramenSaver


def report_on(saver: DuramenSaver) -> CapabilityReport:
    @checkpointer_test(name=type(saver).__name__)
    async def made() -> AsyncIterator[DuramenSaver]:
        yield saver

    return asyncio.run(validate(made))


@pytest.mark.slow
def test_the_saver_passes_every_case_of_the_suite_and_skips_none(system: AgentSystem) -> None:
    report = report_on(DuramenSaver(system))
    assert {name: found.failures for name, found in report.results.items() if found.failures} == {}
    assert (report.conformance_level(), sum(found.tests_skipped for found in report.results.values())) == ("FULL", 0)


@pytest.mark.slow
def test_the_saver_passes_every_case_on_a_cluster() -> None:
    with Cluster() as cluster, AgentSystem.open(cluster.url) as system:
        report = report_on(DuramenSaver(system))
    assert {name: found.failures for name, found in report.results.items() if found.failures} == {}
    assert report.conformance_level() == "FULL"


class Forgetful(DuramenSaver):
    async def aput_writes(self, *arguments: object, **named: object) -> None:
        """Stores nothing."""


@pytest.mark.slow
def test_the_suite_notices_a_saver_that_loses_writes() -> None:
    with AgentSystem.open("memory://") as system:
        assert report_on(Forgetful(system)).results["put_writes"].failures
