"""Finds agents by the ids of their logs, by which events of other agents name them."""

from __future__ import annotations

import threading
from typing import Final

from duramen.events.log import EventLog
from duramen.events.model import compute_log_id, is_log_id, log_id, partition_of_log

_MOST: Final = 100_000
"""Paths held; then all are forgotten, and looked for again."""


def find_agent(log: EventLog, name: str) -> str | None:
    """Return the path of the agent whose log has this id; None if there is none. It reads one partition's directory."""
    agents = (entry.agent for entry in log.directory(partition_of_log(name, log.partitions)))
    return next((agent for agent in agents if compute_log_id(agent) == name), None)


class LogNames:
    """The paths of agents by the ids of their logs, for people to read. Holds a bounded number. Thread-safe."""

    def __init__(self, log: EventLog) -> None:
        self._log = log
        self._lock = threading.Lock()
        self._paths: dict[str, str] = {}

    def learn(self, agent: str) -> str:
        """Return the id of the log of an agent, whose path is known from now on."""
        name = log_id(agent)
        if name not in self._paths:
            self._remember({name: agent})
        return name

    def path(self, name: str) -> str:
        """Return the path of the agent whose log has this id, and what is no such id, or of no agent, as it is.

        An id that is not known reads the directory of a partition, once: later changes need not be seen. Blocks; raises
        Unavailable.
        """
        if not is_log_id(name):
            return name
        found = self._paths.get(name)
        if found is None:
            entries = self._log.directory(partition_of_log(name, self._log.partitions))
            read = {compute_log_id(entry.agent): entry.agent for entry in entries}
            found = read.setdefault(name, name)
            self._remember(read)
        return found

    def _remember(self, read: dict[str, str]) -> None:
        with self._lock:
            if len(self._paths) + len(read) > _MOST:
                self._paths = {}
            self._paths |= read
