"""Names of test cases that are the same in every process: without addresses, which no two of them share."""

from __future__ import annotations

import re
from typing import Final

__all__ = ["shown"]

_ADDRESS: Final = re.compile(r" at 0x[0-9a-fA-F]+")


def shown(value: object) -> str:
    """What a value looks like, in ASCII and at most 60 characters."""
    return _ADDRESS.sub("", ascii(value))[:60]
