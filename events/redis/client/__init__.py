"""How a server is spoken to."""

from __future__ import annotations

from .connection import our_settings, pool_of_client, pool_of_url, without_secrets
from .errors import Retry, classify, translate
from .health import Ask, Finding, check_server, eviction_policy, refuse_eviction, server_ask
from .lending import Lending, Loan
from .permissions import require_for_views, require_permissions
from .requests import RedisClient
from .resp import ProtocolError, PushParser
from .script import Script, argument, bulk, pack_wire
from .wire import LOST, PORTION, Waker, Wire

__all__ = [
    "LOST",
    "PORTION",
    "Ask",
    "Finding",
    "Lending",
    "Loan",
    "ProtocolError",
    "PushParser",
    "RedisClient",
    "Retry",
    "Script",
    "Waker",
    "Wire",
    "argument",
    "bulk",
    "check_server",
    "classify",
    "eviction_policy",
    "our_settings",
    "pack_wire",
    "pool_of_client",
    "pool_of_url",
    "refuse_eviction",
    "require_for_views",
    "require_permissions",
    "server_ask",
    "translate",
    "without_secrets",
]
