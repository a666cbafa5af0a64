"""How a server is spoken to."""

from __future__ import annotations

from .connection import connection_settings, pool_of_client, pool_of_url, redact_url
from .errors import Retry, classify_error, translate_error
from .health import Finding, RunCommand, check_server, command_runner, eviction_policy, refuse_eviction
from .lender import ConnectionLender, LentConnections
from .permissions import require_consumer_permissions, require_permissions
from .requests import RedisClient
from .resp import ProtocolError, PushParser
from .script import Script, argument, bulk, pack_wire
from .wire import CONNECTION_ERRORS, RECEIVE_BYTES, Waker, Wire

__all__ = [
    "CONNECTION_ERRORS",
    "RECEIVE_BYTES",
    "ConnectionLender",
    "Finding",
    "LentConnections",
    "ProtocolError",
    "PushParser",
    "RedisClient",
    "Retry",
    "RunCommand",
    "Script",
    "Waker",
    "Wire",
    "argument",
    "bulk",
    "check_server",
    "classify_error",
    "command_runner",
    "connection_settings",
    "eviction_policy",
    "pack_wire",
    "pool_of_client",
    "pool_of_url",
    "redact_url",
    "refuse_eviction",
    "require_consumer_permissions",
    "require_permissions",
    "translate_error",
]
