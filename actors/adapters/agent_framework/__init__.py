"""Microsoft's Agent Framework on duramen: checkpoints of workflows, histories. Extra: `duramen[agent-framework]`."""

from __future__ import annotations

from .checkpoints import DuramenCheckpointStorage
from .history import DuramenHistoryProvider

__all__ = ["DuramenCheckpointStorage", "DuramenHistoryProvider"]
