"""Reading the threads of a saver: from working memory, and from the log what has left it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, Final

from langchain_core.runnables import RunnableConfig

from duramen.actors import AgentSystem, Get, GetStatus
from duramen.events import AgentNotFound, AgentPath, Erased, PropertyPath, Trimmed

from ..common import Ask, Steps, id_of, name_of
from .archive import seqs_of
from .places import Place, names_of, places_of
from .thread import LIVE, PAGES
from .tree import Found, Tree, found_at

_MOST_PATHS: Final = 4_096


class ThreadReader:
    """Reads the threads of one project, each an agent. Thread-safe."""

    def __init__(self, system: AgentSystem, project: str) -> None:
        """Raises InvalidPath for the project."""
        self._system = system
        self._project = AgentPath.of(project, "thread").project
        self.path_text = lru_cache(_MOST_PATHS)(self._make_path_text)
        """The agent path of a thread, as text. To make and check it takes as long as a tenth of a step."""

    def path(self, thread_id: str) -> AgentPath:
        """The agent path of a thread."""
        return AgentPath.of(self._project, name_of(thread_id))

    def _make_path_text(self, thread_id: str) -> str:
        return self.path(thread_id).text

    def read(self, thread_id: str, *segments: str) -> Steps[dict[str, Any]]:
        """What is below a path of working memory; empty if nothing is."""
        found: dict[str, Any] | None = yield from self.read_if_there(thread_id, *segments)
        return found or {}

    def read_if_there(self, thread_id: str, *segments: str) -> Steps[dict[str, Any] | None]:
        """As `read`; None if there is no agent."""
        try:
            tree: dict[str, Any] = yield Ask(self.path_text(thread_id), Get(PropertyPath.of(*segments), {}))
        except (AgentNotFound, Erased):
            return None
        return tree

    def read_old(self, thread_id: str, namespace: str, checkpoint_id: str) -> Steps[Tree]:
        """A namespace as it was when a checkpoint was in working memory; empty if it never was, or was trimmed."""
        pages = yield from self.read(thread_id, PAGES, namespace)
        seq = seqs_of(pages).get(checkpoint_id)
        return {} if seq is None else (yield from self._read_at(thread_id, namespace, seq))

    def _read_at(self, thread_id: str, namespace: str, seq: int) -> Steps[Tree]:
        path, property = self.path(thread_id), PropertyPath.of(LIVE, namespace)
        try:
            tree: Tree = yield lambda: self._system.state_at(path, seq).get(property, {})
        except Trimmed:
            return {}
        return tree

    def read_with(self, thread_id: str, namespace: str, checkpoint_id: str | None) -> Steps[Tree]:
        """A namespace with a checkpoint, from working memory or from the log; None: with its latest."""
        tree: Tree = yield from self.read(thread_id, LIVE, namespace)
        if checkpoint_id is None or checkpoint_id in tree.get("checkpoints", {}):
            return tree
        return (yield from self.read_old(thread_id, namespace, checkpoint_id))

    def find(self, thread_id: str, live: Tree, place: Place, old: dict[tuple[str, int], Tree]) -> Steps[Found | None]:
        """A checkpoint, from working memory or from the log. `old` keeps what was read of the log last."""
        if place.seq is None:
            return found_at(live, place.namespace, place.checkpoint_id)
        key = (place.namespace, place.seq)
        if key not in old:
            old.clear()
            old[key] = yield from self._read_at(thread_id, *key)
        return found_at(old[key], place.namespace, place.checkpoint_id)

    def look(
        self, thread_id: str, config: RunnableConfig | None, before: RunnableConfig | None
    ) -> Steps[tuple[Mapping[str, Tree], Sequence[Place]]]:
        """What a config means of a thread: namespaces in working memory, and checkpoints wherever they are."""
        namespace = None if config is None else config.get("configurable", {}).get("checkpoint_ns")
        if namespace is None:
            live = yield from self.read(thread_id, LIVE)
            pages = yield from self.read(thread_id, PAGES)
        else:
            live = {namespace: (yield from self.read(thread_id, LIVE, namespace))}
            pages = {namespace: (yield from self.read(thread_id, PAGES, namespace))}
        return live, places_of(live, pages, config, before)

    # -- threads -----------------------------------------------------------------------------------------------------

    def threads(self, config: RunnableConfig | None) -> Steps[Sequence[str]]:
        """The ids of the threads that a config means: one, or all."""
        if config is not None:
            return (names_of(config)[0],)
        paths: Sequence[AgentPath] = yield self.agents
        found: list[str] = []
        for path in paths:
            thread_id = id_of(path.name)
            if thread_id is None:  # a long one, which its spawn has; a copy has that of its origin
                thread_id = str((yield Ask(path.text, GetStatus())).metadata.get("thread_id"))
            if self.path(thread_id) == path:
                found.append(thread_id)
        return found

    def agents(self) -> Sequence[AgentPath]:
        """The agents of all threads. Blocks."""
        prefix = AgentPath.of(self._project, "-").text.removesuffix("-")
        paths = (AgentPath.parse(entry.agent) for entry in self._system.agents(prefix))
        return sorted(path for path in paths if path.is_root)
