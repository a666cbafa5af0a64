"""Pools of connections to the user's server, from a url or a client, without redis-py's own retries.

redis-py 8 retries every command up to ten times by default: a bare `RPUSH` whose reply was lost three times stood
four times in the list (measured). Here the log sends again only what is safe to send again.
"""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final, cast
from urllib.parse import parse_qs, unquote, unquote_to_bytes, urlencode, urlsplit

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from ...errors import InvalidMessage, UnsafeServer
from .cluster_client import ClusterClient
from .cluster_nodes import Address, ClusterNodes
from .requests import RedisClient
from .sentinel import copy_sentinel_pool, is_sentinel_pool, parse_addresses, repeat_sentinel_pool, sentinel_pool
from .tls import check_tls_files

Pool = redis.ConnectionPool | ClusterNodes
"""Where connections come from: one server, or a cluster."""

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
_CLUSTER_SCHEMES: Final = {"redis+cluster": "redis", "rediss+cluster": "rediss"}
_CLUSTER_FORM: Final = (
    "the url of a cluster is redis+cluster://HOST:PORT,HOST:PORT with some of its nodes, without a database, and with "
    "special characters percent-encoded"
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


def driver_settings() -> dict[str, Any]:
    """Return the name and version that a connection tells its server.

    From 7.2 on, redis-py reads the version out of its installed package for each connection, if it is not given: most
    of the time that making one takes.
    """
    driver = getattr(redis, "DriverInfo", None)
    return {} if driver is None else {"driver_info": driver(lib_version=redis.__version__)}


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


def pool_of_url(url: str, *, insecure: bool = False) -> Pool:
    """Return a pool of connections to a url, or the nodes of a cluster.

    Raises InvalidMessage for a url that is not understood, UnsafeServer for one that would send passwords and
    payloads in the clear to another machine, or that switches TLS checks off.
    """
    if type(url) is str and url.partition("://")[0] in _SENTINEL_SCHEMES:
        return _pool_of_sentinels(url, insecure)
    if type(url) is str and url.partition("://")[0] in _CLUSTER_SCHEMES:
        return _nodes_of_url(url, insecure)
    return _pool_of_server(url, insecure)


def _pool_of_server(url: str, insecure: bool) -> redis.ConnectionPool:
    options = _check_url(url)
    ours = connection_settings(_protocol_of(options))
    timeouts = {"socket_timeout": SOCKET_TIMEOUT, "socket_connect_timeout": SOCKET_TIMEOUT}
    settings = {**timeouts, **driver_settings(), **ours}
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
        addresses = parse_addresses(hosts, 26_379)
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
    single = _pool_of_server(f"{scheme}://{login}{at}localhost/{database}?{options}", insecure)
    settings = {name: value for name, value in single.connection_kwargs.items() if name not in ("host", "port")}
    encrypted = scheme == "rediss"
    check_host = partial(_check_host, parts.scheme, encrypted or insecure)
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


def _check_host(scheme: str, is_safe: bool, host: str) -> None:
    """Raise UnsafeServer for another machine unless it is safe to send secrets there."""
    if not is_safe and not _is_local(host):
        raise UnsafeServer(
            f"{scheme}:// to another machine sends passwords and payloads in the clear: use "
            f"{scheme.replace('redis', 'rediss', 1)}://, or say insecure=True"
        )


def _nodes_of_url(url: str, insecure: bool) -> ClusterNodes:
    """Return the nodes of a cluster, of which the url names some. Raises what `pool_of_url` raises."""
    try:
        parts = urlsplit(url)
        login, at, hosts = parts.netloc.rpartition("@")
        addresses = parse_addresses(hosts, 6379)
    except ValueError:
        raise InvalidMessage(_CLUSTER_FORM) from None
    if addresses is None or parts.path not in ("", "/") or parts.fragment or "db" in parse_qs(parts.query):
        raise InvalidMessage(_CLUSTER_FORM)
    scheme = _CLUSTER_SCHEMES[parts.scheme]
    # The options are those of one server, and are checked as for one.
    single = _pool_of_server(f"{scheme}://{login}{at}localhost/?{parts.query}", insecure)
    check_host = partial(_check_host, parts.scheme, scheme == "rediss" or insecure)
    for host, _ in addresses:
        check_host(host)
    return _nodes(addresses, single, check_host)


def _nodes(
    addresses: Sequence[Address], single: redis.ConnectionPool, check_host: Callable[[str], None]
) -> ClusterNodes:
    """Return the nodes of a cluster. The settings are those of a pool to one of them."""
    shared = {name: value for name, value in single.connection_kwargs.items() if name not in ("host", "port", "db")}

    def pool_of(address: Address, seconds: float | None) -> redis.ConnectionPool:
        check_host(address[0])
        settings: dict[str, Any] = {**shared, "host": address[0], "port": address[1]}
        for name in ("socket_timeout", "socket_connect_timeout") if seconds is not None else ():
            settings[name] = min(seconds, settings[name])
        return redis.ConnectionPool(
            connection_class=single.connection_class, max_connections=single.max_connections, **settings
        )

    return ClusterNodes(addresses, pool_of)


def pool_of_socket(path: str) -> redis.ConnectionPool:
    """Return a pool of connections to a Unix socket, whatever characters its path has."""
    settings: dict[str, Any] = {"socket_timeout": SOCKET_TIMEOUT, "socket_connect_timeout": SOCKET_TIMEOUT}
    settings.update(connection_settings(), **driver_settings())
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
            "the url's scheme is not one of memory, redis, rediss, unix, redis+sentinel, rediss+sentinel, "
            "redis+cluster, rediss+cluster; leave the url out for the embedded server"
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


def pool_of_client(client: redis.Redis | redis.RedisCluster) -> Pool:
    """Return a new pool to the server of a user's client, or the nodes of its cluster, with its credentials and TLS.

    Raises InvalidMessage for anything but a `redis.Redis` or `redis.RedisCluster`, also for a client for asyncio.
    """
    if isinstance(client, redis.RedisCluster):
        return _nodes_of_client(client)
    if not isinstance(cast("object", client), redis.Redis):
        raise InvalidMessage(
            "client takes a redis.Redis or redis.RedisCluster, not one for asyncio", actual=_type_name(client)
        )
    return _pool_of_theirs(client.connection_pool)


def _nodes_of_client(client: redis.RedisCluster) -> ClusterNodes:
    nodes: list[Any] = cast("Any", client).get_nodes()
    addresses = [(str(node.host), int(node.port)) for node in nodes]
    theirs: redis.ConnectionPool = cast("Any", client).get_redis_connection(nodes[0]).connection_pool
    return _nodes(addresses, _pool_of_theirs(theirs), lambda host: None)


def _pool_of_theirs(theirs: redis.ConnectionPool) -> redis.ConnectionPool:
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


def copy_pool(pool: Pool) -> Pool:
    """Return a new pool of connections to the same server, with the same settings and without any connection."""
    if isinstance(pool, ClusterNodes):
        return pool.repeat()
    if is_sentinel_pool(pool):
        return repeat_sentinel_pool(pool)
    settings: dict[str, Any] = pool.connection_kwargs
    return redis.ConnectionPool(connection_class=pool.connection_class, **settings)


def client_of_pool(pool: Pool, *, retry_seconds: float, ensure_server: Callable[[], None] | None = None) -> RedisClient:
    """Return a client for a server, or for a cluster, which nobody but its administrator can start."""
    if isinstance(pool, ClusterNodes):
        return ClusterClient(pool, retry_seconds=retry_seconds)
    return RedisClient(pool, retry_seconds=retry_seconds, ensure_server=ensure_server)


def _refuse_imitation(connection_class: type[Any]) -> None:
    if any(cls.__module__.partition(".")[0] == "fakeredis" for cls in connection_class.__mro__):
        raise InvalidMessage("fakeredis is no server: use memory:// for tests without one", actual="fakeredis")


def _type_name(value: object) -> str:
    return f"{type(value).__module__}.{type(value).__qualname__}"
