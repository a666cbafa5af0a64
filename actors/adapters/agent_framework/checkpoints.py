"""A storage for checkpoints of the Agent Framework's workflows, each of which is an agent."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Collection
from datetime import datetime
from importlib import import_module
from typing import Any, Final

from agent_framework import WorkflowCheckpoint, WorkflowCheckpointException

from duramen.actors import AgentSystem, Batch, Get, Set
from duramen.events import AgentNotFound, AgentPath

from ..common import GONE, Ask, Steps, TextList, json_of, name_of, run_async, settle

_AT_ONCE: Final = 32
"""Checkpoints of a list that are read at the same time."""

_SMALL: Final = 48 * 1024
"""Characters of a checkpoint that is stored with the spawn of its agent."""


class DuramenCheckpointStorage:
    """A storage for checkpoints: each is an agent of `project`, whose metadata names the workflow and the time.

    The framework stores values that JSON has no form for as pickles, and reads back the types alone that it knows, that
    were registered with it, or that are among `allowed_checkpoint_types` ("module:qualname"); what could not be read
    back is refused when it is saved. This does not make a store safe that others may write to. Calls that change
    something wait for their outcome, also when they are cancelled. Raises the errors of the system, besides the
    framework's own.
    """

    def __init__(
        self,
        system: AgentSystem,
        *,
        project: str = "agent-framework-checkpoints",
        allowed_checkpoint_types: Collection[str] = (),
        durability: str | None = None,
    ) -> None:
        """`durability` is that of the stored checkpoints, by default the system's. Raises InvalidPath."""
        self._system = system
        self._project = AgentPath.of(project, "checkpoint").project
        self._allowed = frozenset(allowed_checkpoint_types)
        self._durability = durability
        # The framework's storages share this module, which it does not export.
        self._encoding: Any = import_module("agent_framework._workflows._checkpoint_encoding")

    def path(self, checkpoint_id: str) -> AgentPath:
        """The path of the agent that holds a checkpoint."""
        return AgentPath.of(self._project, name_of(checkpoint_id))

    async def save(self, checkpoint: WorkflowCheckpoint) -> str:
        """Store a checkpoint, in place of one of the same id. Raises WorkflowCheckpointException."""
        text = self._encode(checkpoint)
        checkpoint_id: str = checkpoint.checkpoint_id
        metadata = {
            "workflow_name": checkpoint.workflow_name,
            "checkpoint_id": checkpoint_id,
            "timestamp": checkpoint.timestamp,
        }
        agent = TextList(self.path(checkpoint_id), metadata, self._durability)
        await settle(run_async(self._system, _save(agent, text)))
        return checkpoint_id

    async def load(self, checkpoint_id: str) -> WorkflowCheckpoint:
        """The checkpoint of an id. Raises WorkflowCheckpointException where there is none."""
        text = await run_async(self._system, _load(self.path(checkpoint_id)))
        if text is None:
            raise WorkflowCheckpointException(f"No checkpoint found with ID {checkpoint_id}")
        return self._decode(text)

    async def list_checkpoints(self, *, workflow_name: str) -> list[WorkflowCheckpoint]:
        """The checkpoints of a workflow, oldest first."""
        ids = await self.list_checkpoint_ids(workflow_name=workflow_name)
        texts: list[str | None] = []
        for start in range(0, len(ids), _AT_ONCE):
            part = [run_async(self._system, _load(self.path(each))) for each in ids[start : start + _AT_ONCE]]
            texts += await asyncio.gather(*part)
        return [self._decode(text) for text in texts if text is not None]

    async def delete(self, checkpoint_id: str) -> bool:
        """Erase a checkpoint from the server. Returns False where there is none."""
        path = self.path(checkpoint_id)
        if await run_async(self._system, _load(path)) is None:
            return False
        try:
            await settle(self._system.aio.erase(path, rewrite=False))
        except AgentNotFound:
            return False
        return True

    async def get_latest(self, *, workflow_name: str) -> WorkflowCheckpoint | None:
        """The latest checkpoint of a workflow by its time; None where there is none."""
        for checkpoint_id in reversed(await self.list_checkpoint_ids(workflow_name=workflow_name)):
            text = await run_async(self._system, _load(self.path(checkpoint_id)))
            if text is not None:  # not deleted meanwhile
                return self._decode(text)
        return None

    async def list_checkpoint_ids(self, *, workflow_name: str) -> list[str]:
        """The ids of the checkpoints of a workflow, oldest first. Reads the list of all agents of the project."""
        prefix = AgentPath.of(self._project, "-").text.removesuffix("-")
        wanted = {"workflow_name": workflow_name}
        found = [entry.metadata async for entry in self._system.aio.agents(prefix, metadata=wanted)]
        found.sort(key=lambda metadata: datetime.fromisoformat(metadata["timestamp"]))
        return [metadata["checkpoint_id"] for metadata in found]

    def _encode(self, checkpoint: WorkflowCheckpoint) -> str:
        """The checkpoint as JSON. Raises WorkflowCheckpointException for one that could not be read back."""
        try:
            encoded = self._encoding.encode_checkpoint_value(checkpoint.to_dict())
            self._encoding.decode_checkpoint_value(encoded, allowed_types=self._allowed)
            return json_of(encoded)
        except WorkflowCheckpointException:
            raise
        except Exception as error:
            raise WorkflowCheckpointException(
                f"checkpoint {checkpoint.checkpoint_id} has values that could not be read back; "
                "name their types in allowed_checkpoint_types, or register them"
            ) from error

    def _decode(self, text: str) -> WorkflowCheckpoint:
        return WorkflowCheckpoint.from_dict(
            self._encoding.decode_checkpoint_value(json.loads(text), allowed_types=self._allowed)
        )


def _save(agent: TextList, text: str) -> Steps[None]:
    if len(text) <= _SMALL and (yield from agent.spawn({"checkpoint": text})):
        return  # one commit
    entries = yield from agent.make_entries([text])
    yield from agent.write(Batch([Set("checkpoint", entries[0])], durability=agent.durability))


def _load(path: AgentPath) -> Steps[str | None]:
    try:
        entry = yield Ask(path.text, Get("checkpoint", None))
    except GONE:
        return None
    return None if entry is None else (yield from TextList(path, {}).load(entry))
