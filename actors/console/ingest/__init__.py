"""Turning recorded sessions into agents."""

from __future__ import annotations

from .ingestion import Ingestion, Totals
from .plan import Plan, make_plan
from .steps import CHECKPOINT

__all__ = ["CHECKPOINT", "Ingestion", "Plan", "Totals", "make_plan"]
