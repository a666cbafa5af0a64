"""A pool of connections to the primary that sentinels name, wherever it is at the moment."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, cast

import redis
from redis.exceptions import NoPermissionError
from redis.sentinel import (
    MasterNotFoundError,
    Sentinel,
    SentinelConnectionPool,
    SentinelManagedConnection,
    SentinelManagedSSLConnection,
)

from ...errors import InvalidMessage, NotPermitted

Address = tuple[str, int]

_SENTINEL_SECONDS: Final = 1.0
"""How long a sentinel may take to answer: the others are asked then."""


class _Discovery(Sentinel):
    """Asks more than half of the sentinels, and believes the latest configuration that one of them knows."""

    def __init__(self, addresses: Sequence[Address], settings: dict[str, Any], check: Callable[[str], None]) -> None:
        timeouts = {"socket_timeout": _SENTINEL_SECONDS, "socket_connect_timeout": _SENTINEL_SECONDS}
        cast("Any", super()).__init__(addresses, sentinel_kwargs={**settings, **timeouts})
        self._check = check

    def discover_master(self, service_name: str) -> Address:
        """Return the primary's address.

        Raises MasterNotFoundError, which passes, if there is none now; InvalidMessage if the sentinels that answer do
        not know the name, NotPermitted if they want another password, and what the check of the address raises.
        """
        states: list[dict[str, Any]] = []
        answered = 0
        sentinels: list[Any] = cast("Any", self).sentinels
        for sentinel in sentinels:
            try:
                masters: dict[str, Any] = sentinel.sentinel_masters()
            except (redis.AuthenticationError, NoPermissionError):
                raise NotPermitted(
                    "the sentinel refuses the login: give sentinel_username and sentinel_password in the url"
                ) from None
            except (redis.ConnectionError, redis.TimeoutError):
                continue
            except redis.ResponseError:
                raise InvalidMessage("what answers there is no sentinel: check host and port") from None
            answered += 1
            if service_name in masters:
                states.append(masters[service_name])
            if answered > len(sentinels) // 2:
                break
        if not states and answered:
            raise InvalidMessage(
                "the sentinels know no primary of this name; the url is redis+sentinel://HOST:PORT/NAME"
            )
        latest = max(states, key=lambda state: int(state.get("config-epoch", 0)), default=None)
        if latest is None or latest["is_sdown"] or latest["is_odown"] or not latest["is_master"]:
            raise MasterNotFoundError("no primary")
        self._check(latest["ip"])
        return latest["ip"], latest["port"]


class _PrimaryConnection(SentinelManagedConnection):
    """A connection without TLS that is closed again unless it leads to a primary."""

    def connect_to(self, address: Address) -> None:
        cast("Any", super()).connect_to(address)
        _require_primary(self)


class _EncryptedPrimaryConnection(SentinelManagedSSLConnection):
    """A connection with TLS that is closed again unless it leads to a primary."""

    def connect_to(self, address: Address) -> None:
        cast("Any", super()).connect_to(address)
        _require_primary(self)


def _require_primary(connection: Any) -> None:
    """Raise ConnectionError unless the server says that it is a primary: sentinels may be late."""
    connection.send_command("ROLE", check_health=False)
    try:
        role = connection.read_response(disable_decoding=True)
    except redis.ResponseError:
        return  # this user may not ask; a replica will refuse the first write
    if role[0] != b"master":
        connection.disconnect()
        raise redis.ConnectionError("the server is no primary")


def sentinel_pool(
    service: str,
    addresses: Sequence[Address],
    settings: dict[str, Any],
    *,
    encrypted: bool,
    sentinel_settings: dict[str, Any],
    check_host: Callable[[str], None],
) -> redis.ConnectionPool:
    """Return a pool whose connections lead to the primary of that moment; one that is demoted is left.

    `check_host` is called with each address before it is connected to, and raises if it must not be.
    """
    discovery = _Discovery(addresses, sentinel_settings, check_host)
    kind = _EncryptedPrimaryConnection if encrypted else _PrimaryConnection
    pool: redis.ConnectionPool = cast("Any", SentinelConnectionPool)(
        service, discovery, connection_class=kind, **settings
    )
    return pool


def is_sentinel_pool(pool: redis.ConnectionPool) -> bool:
    """Whether a pool asks sentinels where to connect to, so that its settings have no host."""
    return isinstance(pool, SentinelConnectionPool)


def repeat_sentinel_pool(pool: redis.ConnectionPool) -> redis.ConnectionPool:
    """Return a pool like one of ours, without any connection, that asks the same sentinels."""
    ours = cast("Any", pool)
    settings = {name: value for name, value in ours.connection_kwargs.items() if name != "connection_pool"}
    repeated: redis.ConnectionPool = cast("Any", SentinelConnectionPool)(
        ours.service_name, ours.sentinel_manager, connection_class=ours.connection_class, **settings
    )
    return repeated


def copy_sentinel_pool(pool: redis.ConnectionPool, settings: dict[str, Any]) -> redis.ConnectionPool:
    """Return a pool of our own that asks the sentinels of a user's pool, with their logins, about its primary."""
    theirs = cast("Any", pool)
    asked = [sentinel.connection_pool.connection_kwargs for sentinel in theirs.sentinel_manager.sentinels]
    return sentinel_pool(
        theirs.service_name,
        [(each["host"], each["port"]) for each in asked],
        {name: value for name, value in settings.items() if name not in ("connection_pool", "host", "port")},
        encrypted=issubclass(theirs.connection_class, redis.SSLConnection),
        sentinel_settings=dict(theirs.sentinel_manager.sentinel_kwargs),
        check_host=lambda host: None,
    )


def parse_addresses(text: str, default_port: int) -> list[Address] | None:
    """Return the addresses in `host:port,host:port`, where a port may be left out; None if it is not well formed."""
    found: list[Address] = []
    for part in text.split(","):
        host, colon, port = part.rpartition(":") if not part.endswith("]") else (part, "", "")
        if not colon:
            host, port = part, str(default_port)
        host = host.removeprefix("[").removesuffix("]")
        if not host or not port.isdecimal() or not 0 < int(port) < 65_536:
            return None
        found.append((host, int(port)))
    return found
