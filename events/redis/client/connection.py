"""Pools of connections to the user's server, from a url or a client, without redis-py's own retries.

redis-py 8 retries every command up to ten times by default: a bare `RPUSH` whose reply was lost three times stood
four times in the list (measured). Here the log sends again only what is safe to send again.
"""

from __future__ import annotations

import ipaddress
import os
import re
from typing import Any, Final, cast
from urllib.parse import parse_qs, unquote, unquote_to_bytes, urlencode, urlsplit

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from ...errors import InvalidMessage, UnsafeServer
from .sentinel import copy_sentinel_pool, is_sentinel_pool, parse_addresses, repeat_sentinel_pool, sentinel_pool
from .tls import check_tls_files

SOCKET_TIMEOUT: Final = 5.0
"""Seconds without a reply after which a connection is closed and opened again."""

_SCHEMES: Final = frozenset(("redis", "rediss", "unix"))
_NOT_UNDERSTOOD: Final = (
    "the url is not well formed; write redis://host:6379/0 or unix:///path, and the characters % / ? # @ [ ] of a user "
    "name or password percent-encoded, as urllib.parse.quote(password, safe='') does"
)
_SENTINEL_SCHEMES: Final = {"redis+sentinel": "redis", "rediss+sentinel": "rediss"}
_SENTINEL_FORM: Final = (
    "the url of sentinels is redis+sentinel://HOST:PORT,HOST:PORT/NAME or …/NAME/DATABASE, with the primary's name as "
    "the sentinels have it, and special characters percent-encoded"
)
_DATABASE: Final = re.compile(r"(/\d{0,9})?\Z", re.ASCII)
_LONGEST_TIMEOUT: Final = 86_400
# Allowed in the query. Not host, port or path: the destination has to be visible, and is checked.
_OPTIONS: Final = frozenset(
    ("client_name", "db", "max_connections", "protocol", "socket_connect_timeout", "socket_keepalive", "socket_timeout")
)
_SENTINEL_LOGIN: Final = ("sentinel_username", "sentinel_password")
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
# Settings of the user's client that its connections do not take, or that need RESP3, which duramen does not use. A
# stock client of redis-py 8 has most of them.
_NOT_OURS: Final = re.compile(
    r"(cache|cache_config|event_dispatcher|himport_registry|(oss_cluster_)?maint_notifications_.*|orig_.*)\Z"
)


def connection_settings(protocol: int = 2) -> dict[str, Any]:
    """Return the settings of every connection, of which users can change the version of the protocol alone."""
    return {
        "decode_responses": False,
        "retry": Retry(NoBackoff(), 0),
        "retry_on_timeout": False,
        "retry_on_error": [],
        "health_check_interval": 0,
        "protocol": protocol,
    }


def redact_url(url: str) -> str:
    """Return the url without user, password and query, also if it is not well formed."""
    scheme, separator, rest = url.partition("://")
    # A password may hold an unescaped / ? or #: it ends at the last @.
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
    """Return a pool of connections to a url.

    Raises InvalidMessage for a url that is not understood, UnsafeServer for one that would send passwords and
    payloads in the clear to another machine, or that switches TLS checks off.
    """
    if type(url) is str and url.partition("://")[0] in _SENTINEL_SCHEMES:
        return _pool_of_sentinels(url, insecure)
    options = _check_url(url)
    ours = connection_settings(_protocol_of(options))
    settings = {"socket_timeout": SOCKET_TIMEOUT, "socket_connect_timeout": SOCKET_TIMEOUT, **ours}
    try:
        # redis-py leaves the types of its settings open.
        pool: redis.ConnectionPool = cast("Any", redis.ConnectionPool).from_url(url, **settings)
        kwargs = pool.connection_kwargs
        kwargs.update(ours)
        if url.startswith("unix:"):
            kwargs["path"] = os.fsdecode(unquote_to_bytes(urlsplit(url).path))  # a path need not be text
        pool.connection_class(**kwargs)  # checks the settings; does not connect
    except (ValueError, TypeError, redis.RedisError):
        raise InvalidMessage(_NOT_UNDERSTOOD) from None
    if url.startswith("rediss:"):
        check_tls_files(kwargs)
    for name in ("socket_timeout", "socket_connect_timeout"):
        if not 0 < kwargs[name] <= _LONGEST_TIMEOUT:
            raise InvalidMessage(f"{name} in the url is not between 0 and {_LONGEST_TIMEOUT} seconds")
    if not insecure:
        _require_safe(url, options)
    return pool


def _pool_of_sentinels(url: str, insecure: bool) -> redis.ConnectionPool:
    """Return a pool to the primary that sentinels name. Raises what `pool_of_url` raises."""
    try:
        parts = urlsplit(url)
        login, at, hosts = parts.netloc.rpartition("@")
        addresses = parse_addresses(hosts)
        query = parse_qs(parts.query, keep_blank_values=True)
    except ValueError:
        raise InvalidMessage(_SENTINEL_FORM) from None
    service, _, database = parts.path.removeprefix("/").partition("/")
    if addresses is None or not service or parts.fragment:
        raise InvalidMessage(_SENTINEL_FORM)
    logins = {name: query.pop(name) for name in _SENTINEL_LOGIN if name in query}
    if any(len(values) != 1 for values in logins.values()):
        raise InvalidMessage(_SENTINEL_FORM)
    scheme = _SENTINEL_SCHEMES[parts.scheme]
    # The options are those of one server, and are checked as for one; its place is found later.
    options = urlencode(query, doseq=True)
    single = pool_of_url(f"{scheme}://{login}{at}localhost/{database}?{options}", insecure=insecure)
    settings = {name: value for name, value in single.connection_kwargs.items() if name not in ("host", "port")}
    encrypted = scheme == "rediss"

    def check_host(host: str) -> None:
        if not (encrypted or insecure or _is_local(host)):
            raise UnsafeServer(
                "redis+sentinel:// to another machine sends passwords and payloads in the clear: use "
                "rediss+sentinel://, or say insecure=True"
            )

    for host, _ in addresses:
        check_host(host)
    theirs = {name: value for name, value in settings.items() if name.startswith("ssl_")}
    return sentinel_pool(
        unquote(service),
        addresses,
        settings,
        encrypted=encrypted,
        sentinel_settings={
            **theirs,
            **{name.removeprefix("sentinel_"): values[0] for name, values in logins.items()},
            "ssl": encrypted,
            "retry": connection_settings()["retry"],
            "protocol": 2,
        },
        check_host=check_host,
    )


def pool_of_socket(path: str) -> redis.ConnectionPool:
    """Return a pool of connections to a Unix socket, whatever characters its path has."""
    settings: dict[str, Any] = {"socket_timeout": SOCKET_TIMEOUT, "socket_connect_timeout": SOCKET_TIMEOUT}
    settings.update(connection_settings())
    return redis.ConnectionPool(connection_class=cast("Any", redis.UnixDomainSocketConnection), path=path, **settings)


def _check_url(url: str) -> dict[str, list[str]]:
    """Check a url and return its query. Raises InvalidMessage without quoting the url, which may hold a secret."""
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
            "the url's scheme is not one of memory, redis, rediss, unix, redis+sentinel, rediss+sentinel; leave the "
            "url out for the embedded server"
        )
    unix = parts.scheme == "unix"
    is_clear = bool(parts.path) and host is None and port is None if unix else _DATABASE.match(parts.path) is not None
    if not is_clear or parts.fragment:
        raise InvalidMessage(_NOT_UNDERSTOOD)
    for name, values in options.items():
        known = name in _OPTIONS or (name in _TLS_OPTIONS and parts.scheme == "rediss")
        if not known or len(values) != 1:
            allowed = ", ".join(sorted(_OPTIONS | _TLS_OPTIONS))
            hint = "; or a ? of a password is not percent-encoded (%3F)" if "@" in parts.query else ""
            raise InvalidMessage(f"an option of the url is not known or given twice; there are {allowed}{hint}")
    return options


def _protocol_of(options: dict[str, list[str]]) -> int:
    version = options.get("protocol", ["2"])[0]
    if version not in ("2", "3"):
        raise InvalidMessage("protocol in the url is 2 or 3: RESP2, as long as nothing else is said, or RESP3")
    return int(version)


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
    """Return a new pool to the server of a user's client, with its credentials and TLS settings.

    Raises InvalidMessage for anything but a `redis.Redis`, also for a client for asyncio or for a cluster.
    """
    if not isinstance(cast("object", client), redis.Redis):
        raise InvalidMessage("client takes a redis.Redis, not one for asyncio or a cluster", actual=_type_name(client))
    theirs = client.connection_pool
    _refuse_imitation(theirs.connection_class)
    settings = {key: value for key, value in theirs.connection_kwargs.items() if not _NOT_OURS.match(key)}
    for name in ("socket_timeout", "socket_connect_timeout"):
        if settings.get(name) is None:
            settings[name] = SOCKET_TIMEOUT
    if issubclass(theirs.connection_class, redis.SSLConnection):
        check_tls_files(settings)
    settings.update(connection_settings())
    if is_sentinel_pool(theirs):
        return copy_sentinel_pool(theirs, settings)
    return redis.ConnectionPool(connection_class=theirs.connection_class, **settings)


def copy_pool(pool: redis.ConnectionPool) -> redis.ConnectionPool:
    """Return a new pool of connections to the same server, with the same settings and without any connection."""
    if is_sentinel_pool(pool):
        return repeat_sentinel_pool(pool)
    settings: dict[str, Any] = pool.connection_kwargs
    return redis.ConnectionPool(connection_class=pool.connection_class, **settings)


def _refuse_imitation(connection_class: type[Any]) -> None:
    if any(cls.__module__.partition(".")[0] == "fakeredis" for cls in connection_class.__mro__):
        raise InvalidMessage("fakeredis is no server: use memory:// for tests without one", actual="fakeredis")


def _type_name(value: object) -> str:
    return f"{type(value).__module__}.{type(value).__qualname__}"
