"""Connections to the user's server: from a url or a client of theirs, never with redis-py's own retries.

redis-py 8 retries every command up to ten times by default: a bare `RPUSH` whose reply was lost three times stood
four times in the list (measured). Here only what is safe to send again is sent again, by the log.
"""

from __future__ import annotations

import ipaddress
from typing import Any, Final, cast
from urllib.parse import parse_qs, urlsplit

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from .errors import InvalidMessage, UnsafeServer

__all__ = ["SOCKET_TIMEOUT", "pool_of_client", "pool_of_url", "without_secrets"]

SOCKET_TIMEOUT: Final = 5.0
"""Seconds without an answer after which a connection is given up and opened anew."""

_SCHEMES: Final = frozenset(("redis", "rediss", "unix"))
# What belongs to the user's client rather than to its connections, or must be ours.
_NOT_OURS: Final = frozenset(("cache", "cache_config", "event_dispatcher", "maint_notifications_pool_handler"))


def _our_settings() -> dict[str, Any]:
    return {
        "decode_responses": False,
        "retry": Retry(NoBackoff(), 0),
        "retry_on_timeout": False,
        "retry_on_error": [],
        "health_check_interval": 0,
        "protocol": 2,
    }


def without_secrets(url: str) -> str:
    """The url as it may be shown: without user, password and query."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


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
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
    except ValueError:
        raise InvalidMessage("the url is not well formed; write redis://host:6379/0 or unix:///path") from None
    if parts.scheme not in _SCHEMES:
        raise InvalidMessage(
            f"url scheme {parts.scheme[:20]!r} is not one of memory, redis, rediss, unix; "
            "leave the url out for the embedded server"
        )
    if not insecure:
        if parts.scheme == "redis" and not _is_local(host):
            raise UnsafeServer(
                "redis:// to another machine sends passwords and payloads in the clear: use rediss://, "
                "or say insecure=True"
            )
        if parse_qs(parts.query).get("ssl_cert_reqs", ["required"])[-1] != "required":
            raise UnsafeServer(
                "ssl_cert_reqs switches the check of the server's certificate off: say insecure=True if you mean it"
            )
    settings = {"socket_timeout": SOCKET_TIMEOUT, "socket_connect_timeout": SOCKET_TIMEOUT, **_our_settings()}
    try:
        return cast("redis.ConnectionPool", cast("Any", redis.ConnectionPool).from_url(url, **settings))
    except (ValueError, TypeError):
        raise InvalidMessage("the url is not well formed; write redis://host:6379/0 or unix:///path") from None


def pool_of_client(client: redis.Redis) -> redis.ConnectionPool:
    """Connections of our own to where a user's client connects, with its credentials and TLS settings."""
    theirs = client.connection_pool
    kwargs: dict[str, Any] = theirs.connection_kwargs
    settings = {key: value for key, value in kwargs.items() if key not in _NOT_OURS}
    if settings.get("socket_timeout") is None:
        settings["socket_timeout"] = SOCKET_TIMEOUT
    settings.update(_our_settings())
    return redis.ConnectionPool(connection_class=theirs.connection_class, **settings)
