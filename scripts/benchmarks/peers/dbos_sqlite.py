# mypy: disable-error-code="import-not-found,import-untyped"
"""DBOS on its SQLite default: a workflow a handler, all started together; its own threads run them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final
from uuid import uuid4

from dbos import DBOS

from ..figures import Kind, Sample
from ..rounds import Wrong, timed

__all__ = ["DbosSteps"]

_SAID: Final = "each step is a row of its own"


@DBOS.step()
def _answer(payload: int) -> str:
    return "x" * payload


@DBOS.workflow()
def _work(steps: int, payload: int) -> int:
    for _ in range(steps):
        _answer(payload)
    return steps


class DbosSteps:
    """Workflows of so many steps each."""

    kind: Kind = "peer"
    name = "DBOS"
    note = _SAID

    def __init__(self, folder: Path, handlers: int, steps: int, payload: int) -> None:
        self._folder = folder
        self._handlers = handlers
        self._steps = steps
        self._payload = payload
        self._done: list[str] = []

    def prepare(self) -> None:
        path = self._folder / f"dbos-{uuid4().hex}.sqlite"
        settings: Any = {
            "name": "bench",
            "system_database_url": f"sqlite:///{path}",
            "run_admin_server": False,
            "log_level": "ERROR",
        }
        DBOS(config=settings)
        DBOS.launch()

    def run(self) -> Sample:
        return timed(self._run)

    def _run(self) -> int:
        started = [DBOS.start_workflow(_work, self._steps, self._payload) for _ in range(self._handlers)]
        self._done += [workflow.workflow_id for workflow in started]
        return sum(workflow.get_result() for workflow in started)

    def verify(self) -> None:
        for workflow in self._done[:: max(1, len(self._done) // 20)]:
            found = len(DBOS.list_workflow_steps(workflow))
            if found != self._steps:
                raise Wrong(f"{self.name}: a workflow has {found} steps, not {self._steps}")

    def close(self) -> None:
        DBOS.destroy()
