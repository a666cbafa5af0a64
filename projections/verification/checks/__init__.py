"""Checks of logs, upcasters and codecs, one call each."""

from __future__ import annotations

from .log import ReadAsWritten, check_log
from .upcaster import UpcastedEqualsNative, check_upcaster
from .values import check_values

__all__ = ["ReadAsWritten", "UpcastedEqualsNative", "check_log", "check_upcaster", "check_values"]
