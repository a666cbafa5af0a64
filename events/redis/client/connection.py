"""Connections to the user's server: from a url or a client of theirs, never with redis-py's own retries.

redis-py 8 retries every command up to ten times by default: a bare `RPUSH` whose reply was lost three times stood
four times in the list (measured). Here only what is safe to send again is sent again, by the log.
"""

from __future__ import annotations

import ipaddress
import re
from typing import Any, Final, cast
from urllib.parse import parse_qs, urlsplit

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from ...errors import InvalidMessage, UnsafeServer

__all__ = ["SOCKET_TIMEOUT", "connection_settings", "pool_of_client", "pool_of_url", "redact_url"]

SOCKET_TIMEOUT: Final = 5.0
"""Seconds without an answer after which a connection is given up and opened anew."""

_SCHEMES: Final = frozenset(("redis", "rediss", "unix"))
_NOT_UNDERSTOOD: Final = "the url is not well formed; write redis://host:6379/0 or unix:///path"
_DATABASE: Final = re.compile(r"(/\d{0,9})?\Z", re.ASCII)
_LONGEST_TIMEOUT: Final = 86_400
# What may stand in the query. Not host, port or path: where it leads has to be seen at a glance, and is checked.
_OPTIONS: Final = frozenset(
    ("client_name", "db", "max_connections", "socket_connect_timeout", "socket_keepalive", "socket_timeout")
)
_TLS_OPTIONS: Final = frozenset(
    (
        "ssl_ca_certs",
        "ssl_ca_path",
        "ssl_cert_reqs",
        "ssl_certfile",
        "ssl_check_hostname",
        "ssl_ciphers",
        "ssl_keyfile",
        "ssl_min_version",
        "ssl_password",
    )
)
# What belongs to the user's client rather than to its connections, or goes with RESP3, which we do not speak. A stock
# client of redis-py 8 has most of these.
_NOT_OURS: Final = re.compile(
    r"(cache|cache_config|event_dispatcher|himport_registry|(oss_cluster_)?maint_notifications_.*|orig_.*)\Z"
)


def connection_settings() -> dict[str, Any]:
    """Of every connection, whatever users ask for."""
    return {
        "decode_responses": False,
        "retry": Retry(NoBackoff(), 0),
        "retry_on_timeout": False,
        "retry_on_error": [],
        "health_check_interval": 0,
        "protocol": 2,
    }


def redact_url(url: str) -> str:
    """The url as it may be shown: without user, password and query, also where it is not well formed."""
    scheme, separator, rest = url.partition("://")
    # A password with an unescaped / ? or # in it ends at the last @ all the same.
    shown = re.split(r"[?#]", rest.rpartition("@")[2], maxsplit=1)[0]
    return f"{scheme}{separator}{shown}" if separator else "(not a url)"


def _is_local(host: str) -> bool:
    if host in ("", "localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def pool_of_url(url: str, *, insecure: bool = False) -> redis.ConnectionPool:
    """Connections to a url.

    Raises InvalidMessage for one that is not understood, UnsafeServer for one that would carry passwords and
    payloads in the clear to another machine, or that switches TLS checks off.
    """
    options = _options(url)
    settings = {"socket_timeout": SOCKET_TIMEOUT, "socket_connect_timeout": SOCKET_TIMEOUT, **connection_settings()}
    try:
        # redis-py leaves the types of its settings open.
        pool: redis.ConnectionPool = cast("Any", redis.ConnectionPool).from_url(url, **settings)
        kwargs = pool.connection_kwargs
        kwargs.update(connection_settings())
        pool.connection_class(**kwargs)  # does not connect, only looks at what it is given
    except (ValueError, TypeError, redis.RedisError):
        raise InvalidMessage(_NOT_UNDERSTOOD) from None
    for name in ("socket_timeout", "socket_connect_timeout"):
        if not 0 < kwargs[name] <= _LONGEST_TIMEOUT:
            raise InvalidMessage(f"{name} in the url is not between 0 and {_LONGEST_TIMEOUT} seconds")
    if not insecure:
        _require_safe(url, options)
    return pool


def _options(url: str) -> dict[str, list[str]]:
    """The query of a url that we understand. Raises InvalidMessage, without a word of the url: it may be secret."""
    if type(url) is not str:
        raise InvalidMessage("a url is a str", actual=type(url).__name__)
    try:
        parts = urlsplit(url)
        options = parse_qs(parts.query, keep_blank_values=True)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise InvalidMessage(_NOT_UNDERSTOOD) from None
    if parts.scheme not in _SCHEMES:
        raise InvalidMessage(
            "the url's scheme is not one of memory, redis, rediss, unix; leave the url out for the embedded server"
        )
    unix = parts.scheme == "unix"
    place_is_clear = (
        bool(parts.path) and host is None and port is None if unix else _DATABASE.match(parts.path) is not None
    )
    if not place_is_clear or parts.fragment:
        raise InvalidMessage(_NOT_UNDERSTOOD)
    for name, values in options.items():
        known = name in _OPTIONS or (name in _TLS_OPTIONS and parts.scheme == "rediss")
        if not known or len(values) != 1:
            allowed = ", ".join(sorted(_OPTIONS | _TLS_OPTIONS))
            raise InvalidMessage(f"an option of the url is not known or given twice; there are {allowed}")
    return options


def _require_safe(url: str, options: dict[str, list[str]]) -> None:
    parts = urlsplit(url)
    if parts.scheme == "redis" and not _is_local(parts.hostname or ""):
        raise UnsafeServer(
            "redis:// to another machine sends passwords and payloads in the clear: use rediss://, or say insecure=True"
        )
    requirements = options.get("ssl_cert_reqs", ["required"])[0]
    checks_host = options.get("ssl_check_hostname", ["true"])[0].lower() in ("true", "yes", "1")
    if requirements != "required" or not checks_host:
        raise UnsafeServer(
            "the url switches the check of the server's certificate off: say insecure=True if you mean it"
        )


def pool_of_client(client: redis.Redis) -> redis.ConnectionPool:
    """Connections of our own to where a user's client connects, with its credentials and TLS settings.

    Raises InvalidMessage for what is not a `redis.Redis`: one for asyncio or for a cluster is none.
    """
    if not isinstance(cast("object", client), redis.Redis):
        raise InvalidMessage("client takes a redis.Redis, not one for asyncio or a cluster", actual=_name(client))
    theirs = client.connection_pool
    settings = {key: value for key, value in theirs.connection_kwargs.items() if not _NOT_OURS.match(key)}
    for name in ("socket_timeout", "socket_connect_timeout"):
        if settings.get(name) is None:
            settings[name] = SOCKET_TIMEOUT
    settings.update(connection_settings())
    return redis.ConnectionPool(connection_class=theirs.connection_class, **settings)


def _name(value: object) -> str:
    return f"{type(value).__module__}.{type(value).__qualname__}"
