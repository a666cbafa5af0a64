"""Durable work: what handlers do between two waits runs on a loop that the agent's log drives."""

from .loop import DurableLoop, Pending, WorkCancelled

__all__ = ["DurableLoop", "Pending", "WorkCancelled"]
