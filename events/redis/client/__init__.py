"""Connections to a server, its protocol, its errors and its health."""

from __future__ import annotations

from .cluster_client import ASKING, ClusterClient
from .cluster_nodes import Address, ClusterNodes, slot_of
from .connection import (
    Pool,
    client_of_pool,
    connection_settings,
    copy_pool,
    pool_of_client,
    pool_of_socket,
    pool_of_url,
    redact_url,
)
from .errors import Retry, classify_error, retry_pause, translate_error
from .health import Finding, check_cluster, check_server, command_runner, eviction_policy, refuse_eviction, refuse_mode
from .lender import ConnectionLender, LentConnections
from .permissions import require_consumer_permissions, require_permissions
from .pubsub import Subscriber
from .requests import FAILURES, HeldConnection, RedisClient, RunCommand
from .script import Script, encode_argument, encode_command, pack_for_lua
from .wire import CONNECTION_ERRORS, RECEIVE_BYTES, Waker, Wire, wait_for_any

__all__ = [
    "ASKING",
    "CONNECTION_ERRORS",
    "FAILURES",
    "RECEIVE_BYTES",
    "Address",
    "ClusterClient",
    "ClusterNodes",
    "ConnectionLender",
    "Finding",
    "HeldConnection",
    "LentConnections",
    "Pool",
    "RedisClient",
    "Retry",
    "RunCommand",
    "Script",
    "Subscriber",
    "Waker",
    "Wire",
    "check_cluster",
    "check_server",
    "classify_error",
    "client_of_pool",
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
    "slot_of",
    "translate_error",
    "wait_for_any",
]
