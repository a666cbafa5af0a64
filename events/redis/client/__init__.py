"""Connections to a server, its protocol, its errors and its health."""

from __future__ import annotations

from .connection import connection_settings, copy_pool, pool_of_client, pool_of_socket, pool_of_url, redact_url
from .errors import Retry, classify_error, retry_pause, translate_error
from .health import Finding, RunCommand, check_server, command_runner, eviction_policy, refuse_eviction, refuse_mode
from .held_connection import FAILURES, HeldConnection
from .lender import ConnectionLender, LentConnections
from .permissions import require_consumer_permissions, require_permissions
from .requests import RedisClient
from .resp import ProtocolError, PushParser
from .script import Script, encode_argument, encode_command, pack_for_lua
from .subscriber import Subscriber
from .wire import CONNECTION_ERRORS, RECEIVE_BYTES, Waker, Wire

__all__ = [
    "CONNECTION_ERRORS",
    "FAILURES",
    "RECEIVE_BYTES",
    "ConnectionLender",
    "Finding",
    "HeldConnection",
    "LentConnections",
    "ProtocolError",
    "PushParser",
    "RedisClient",
    "Retry",
    "RunCommand",
    "Script",
    "Subscriber",
    "Waker",
    "Wire",
    "check_server",
    "classify_error",
    "command_runner",
    "connection_settings",
    "copy_pool",
    "encode_argument",
    "encode_command",
    "eviction_policy",
    "pack_for_lua",
    "pool_of_client",
    "pool_of_socket",
    "pool_of_url",
    "redact_url",
    "refuse_eviction",
    "refuse_mode",
    "require_consumer_permissions",
    "require_permissions",
    "retry_pause",
    "translate_error",
]
