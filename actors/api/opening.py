"""Opens the log of a system: by url, by client, in a data directory, or a given one.

A client for servers takes longer to load than duramen itself: it is loaded when the first log on a server is opened.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, TypeAlias, cast

from attrs import frozen

from duramen.events import InvalidMessage, Limits, MemoryLog
from duramen.events.embedded import EmbeddedServer
from duramen.events.log import Durability, EventLog

if TYPE_CHECKING:
    import redis

    RedisClient: TypeAlias = redis.Redis | redis.RedisCluster
else:
    RedisClient = object  # what `typing.get_type_hints` finds, without loading that client

DATA_DIR: Final = ".duramen"
_KEY_VARIABLE: Final = "DURAMEN_INTEGRITY_KEY"


@frozen(eq=False, repr=False)
class OpenedLog:
    """An open log, and the function that closes it."""

    log: EventLog
    close: Callable[[], None]


def open_log(
    url: str | None,
    *,
    client: RedisClient | None,
    log: EventLog | None = None,
    data_dir: str | os.PathLike[str] | None,
    namespace: str,
    partitions: int,
    durability: str | None,
    limits: Limits,
    insecure: bool,
    allow_eviction: bool = False,
    integrity_key: bytes | None = None,
) -> OpenedLog:
    """Open a log, or check the given one. Raises InvalidMessage, Unavailable, NotPermitted, UnsafeServer, WrongKey."""
    if log is not None:
        if url is not None or client is not None or data_dir is not None or durability is not None:
            raise InvalidMessage("an open log is used as it is: give no url, client, data_dir or durability beside it")
        return _given(log, integrity_key)
    asked = None if durability is None else Durability.parse(durability)
    if integrity_key is None and os.environ.get(_KEY_VARIABLE):
        integrity_key = os.fsencode(os.environ[_KEY_VARIABLE])
    url = _url_of(url, client, data_dir)
    if url is None and client is None:
        return _embedded(
            data_dir or DATA_DIR,
            namespace=namespace,
            partitions=partitions,
            durability=asked,
            limits=limits,
            integrity_key=integrity_key,
        )
    if url == "memory://":
        return _in_memory(asked, partitions, limits, integrity_key)
    return _redis(
        url or "",
        client,
        insecure=insecure,
        namespace=namespace,
        partitions=partitions,
        durability=asked,
        limits=limits,
        allow_eviction=allow_eviction,
        integrity_key=integrity_key,
    )


def _url_of(url: str | None, client: RedisClient | None, data_dir: str | os.PathLike[str] | None) -> str | None:
    """The given url, or that of the environment if no place is given. Raises InvalidMessage for more than one place."""
    if client is not None and (url is not None or data_dir is not None):
        raise InvalidMessage("give one of url, client and data_dir")
    if data_dir is not None and not isinstance(cast("object", data_dir), (str, os.PathLike)):
        raise InvalidMessage("data_dir is the path of a folder")
    if data_dir is not None and url is not None:
        raise InvalidMessage("data_dir is for the embedded server; give it or a url, not both")
    if client is None and url is None and data_dir is None:
        return os.environ.get("DURAMEN_URL") or None
    return url


def _given(log: EventLog, integrity_key: bytes | None) -> OpenedLog:
    """Use the caller's log, which stays open when the system is closed."""
    if not callable(getattr(log, "writer", None)):
        raise InvalidMessage("log takes an open EventLog, such as MemoryLog()", actual=type(log).__name__)
    if integrity_key is not None:
        raise InvalidMessage("an open log has its integrity key: give it to that, as MemoryLog(integrity_key=…)")
    return OpenedLog(log, lambda: None)


def _in_memory(
    durability: Durability | None, partitions: int, limits: Limits, integrity_key: bytes | None
) -> OpenedLog:
    log = MemoryLog(partitions=partitions, limits=limits, integrity_key=integrity_key)
    if durability is not None:
        log.require_durability(durability)
    return OpenedLog(log, log.close)


def _redis(
    url: str,
    client: RedisClient | None,
    *,
    insecure: bool,
    namespace: str,
    partitions: int,
    durability: Durability | None,
    limits: Limits,
    allow_eviction: bool,
    integrity_key: bytes | None,
) -> OpenedLog:
    from duramen.events.redis import RedisLog
    from duramen.events.redis.client import pool_of_client, pool_of_url

    pool = pool_of_url(url, insecure=insecure) if client is None else pool_of_client(client)
    try:
        log = RedisLog(
            pool,
            namespace=namespace,
            partitions=partitions,
            durability=durability,
            limits=limits,
            allow_eviction=allow_eviction,
            integrity_key=integrity_key,
        )
    except BaseException:
        pool.disconnect()
        raise
    return OpenedLog(log, log.close)


def _embedded(
    data_dir: str | os.PathLike[str],
    *,
    namespace: str,
    partitions: int,
    durability: Durability | None,
    limits: Limits,
    integrity_key: bytes | None,
) -> OpenedLog:
    from duramen.events.redis import RedisLog
    from duramen.events.redis.client import pool_of_socket

    server = EmbeddedServer.open(data_dir)
    try:
        pool = pool_of_socket(server.socket_path)

        def ensure_server() -> None:
            pool.connection_kwargs["path"] = str(server.ensure())

        log = RedisLog(
            pool,
            namespace=namespace,
            partitions=partitions,
            durability=durability,
            limits=limits,
            ensure_server=ensure_server,
            integrity_key=integrity_key,
        )
    except BaseException:
        server.close()
        raise

    def close() -> None:
        log.close()
        server.close()

    return OpenedLog(log, close)
