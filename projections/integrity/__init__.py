"""Verification that what is stored is what was written."""

from __future__ import annotations

from .problem import Problem
from .verify import VerificationProgress, VerificationReport, verify

__all__ = ["Problem", "VerificationProgress", "VerificationReport", "verify"]
