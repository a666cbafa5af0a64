"""Commands for whoever operates a namespace: processes that serve it, checks, repairs and erasure."""

from __future__ import annotations

from .doctor import DOCTOR
from .erase import ERASE
from .hosts import HOSTS
from .inspect import INSPECT
from .mcp import MCP
from .projections import PROJECTIONS
from .serve import SERVE
from .verify import VERIFY

__all__ = ["DOCTOR", "ERASE", "HOSTS", "INSPECT", "MCP", "PROJECTIONS", "SERVE", "VERIFY"]
