"""Connections to the user's server: where they lead is seen at a glance, and no secret is ever shown."""

from __future__ import annotations

import importlib.metadata
from typing import Any

import pytest
import redis
import redis.asyncio
from hypothesis import given
from hypothesis import strategies as st
from redis.backoff import NoBackoff
from redis.credentials import UsernamePasswordCredentialProvider
from redis.retry import Retry

from duramen.events.errors import InvalidMessage, UnsafeServer
from duramen.events.redis.client.connection import SOCKET_TIMEOUT, pool_of_client, pool_of_url, redact_url
from naming import shown
from servers import Server, valkey_server

SECRET = "s3cr3t"


# -- what may be shown -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://localhost:6379/0", "redis://localhost:6379/0"),
        (f"redis://user:{SECRET}@host:6379/0", "redis://host:6379/0"),
        (f"rediss://:{SECRET}@host/1?ssl_password={SECRET}", "rediss://host/1"),
        (f"unix://user:{SECRET}@/run/redis.sock?db=1", "unix:///run/redis.sock"),
        ("unix:///run/redis.sock", "unix:///run/redis.sock"),
        (f"redis://host/0?password={SECRET}", "redis://host/0"),
        (f"redis://host/0#{SECRET}", "redis://host/0"),
        # Not well formed, as passwords make them that nobody has escaped:
        (f"redis://:a/{SECRET}@host/0", "redis://host/0"),
        (f"redis://:a?{SECRET}@host/0", "redis://host/0"),
        (f"redis://:a#{SECRET}@host/0", "redis://host/0"),
        (f"redis://:a@{SECRET}@host/0", "redis://host/0"),
        (f"redis://:[{SECRET}@host/0", "redis://host/0"),
        (SECRET, "(not a url)"),
        ("", "(not a url)"),
    ],
)
def test_a_url_is_shown_without_its_secrets(url: str, shown: str) -> None:
    assert redact_url(url) == shown


@given(
    user=st.text(max_size=5),
    before=st.text(max_size=8),
    after=st.text(max_size=8),
    scheme=st.sampled_from(["redis", "rediss", "unix"]),
)
def test_no_password_of_any_form_is_shown(user: str, before: str, after: str, scheme: str) -> None:
    assert SECRET not in redact_url(f"{scheme}://{user}:{before}{SECRET}{after}@host:1/0?x={SECRET}")


BAD_URLS = [
    "",
    SECRET,
    f"http://:{SECRET}@host",
    f"{SECRET}://host",
    f"redis+sentinel://:{SECRET}@host",
    f"redis://:{SECRET}@[::1/0",
    f"redis://:{SECRET}@host:99999",
    f"redis://:{SECRET}@host:port",
    f"redis://:a/{SECRET}@localhost/0",
    f"redis://:a?{SECRET}@localhost/0",
    f"redis://:a#{SECRET}@localhost/0",
    f"redis://:{SECRET}@localhost/zero",
    f"redis://:{SECRET}@localhost/-1",
    f"redis://:{SECRET}@localhost/0/1",
    f"redis://:{SECRET}@localhost?db=x",
    f"redis://:{SECRET}@localhost?socket_timeout=0",
    f"redis://:{SECRET}@localhost?socket_timeout=-1",
    f"redis://:{SECRET}@localhost?socket_timeout=nan",
    f"redis://:{SECRET}@localhost?socket_timeout=inf",
    f"redis://:{SECRET}@localhost?socket_connect_timeout=soon",
    f"redis://:{SECRET}@localhost?unknown=1",
    f"redis://localhost?password={SECRET}",
    f"redis://:{SECRET}@localhost?connection_class=x",
    f"redis://:{SECRET}@localhost?credential_provider=x",
    f"redis://:{SECRET}@localhost?ssl_cert_reqs=required",
    f"rediss://:{SECRET}@localhost?ssl_cert_reqs=nonsense",
    "unix://",
    f"unix://:{SECRET}@",
    "unix://run/redis.sock",
]


@pytest.mark.parametrize("url", BAD_URLS)
@pytest.mark.parametrize("insecure", [False, True])
def test_a_url_that_is_not_understood_is_a_typed_error_without_its_secrets(url: str, insecure: bool) -> None:
    with pytest.raises(InvalidMessage) as caught:
        pool_of_url(url, insecure=insecure)
    assert SECRET not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


@pytest.mark.parametrize("url", [None, 5, b"redis://localhost", ["redis://localhost"]])
def test_a_url_that_is_no_text_is_refused(url: Any) -> None:
    with pytest.raises(InvalidMessage):
        pool_of_url(url)


# -- what is safe ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        "redis://localhost",
        "redis://localhost:6380/3",
        "redis://127.0.0.1",
        "redis://127.9.9.9:1",
        "redis://[::1]:6379",
        "redis://",
        f"redis://user:{SECRET}@localhost?db=2",
        "unix:///run/redis.sock",
        "unix:///run/redis.sock?db=2",
        "rediss://redis.example.com",
        "rediss://redis.example.com?ssl_cert_reqs=required&ssl_check_hostname=true",
    ],
)
def test_what_stays_on_this_machine_or_is_encrypted_is_taken(url: str) -> None:
    pool_of_url(url)


@pytest.mark.parametrize(
    "url",
    [
        "redis://redis.example.com",
        f"redis://user:{SECRET}@10.0.0.5:6379/0",
        "redis://192.168.1.1",
        "redis://[2001:db8::1]",
        "redis://0.0.0.0",
        "redis://localhost.example.com",
        "redis://127.0.0.1.example.com",
        "redis://localhost@example.com",
        "redis://LOCALHOST.",
    ],
)
def test_a_connection_in_the_clear_to_another_machine_is_refused_unless_meant(url: str) -> None:
    with pytest.raises(UnsafeServer, match="insecure=True") as caught:
        pool_of_url(url)
    assert SECRET not in str(caught.value)
    pool_of_url(url, insecure=True)


@pytest.mark.parametrize(
    "query",
    [
        "ssl_cert_reqs=none",
        "ssl_cert_reqs=optional",
        "ssl_check_hostname=false",
        "ssl_check_hostname=0",
        "ssl_check_hostname=no",
        "ssl_check_hostname=",
    ],
)
def test_an_encrypted_connection_that_checks_nothing_is_refused_unless_meant(query: str) -> None:
    url = f"rediss://:{SECRET}@redis.example.com?{query}"
    with pytest.raises(UnsafeServer, match="insecure=True"):
        pool_of_url(url)
    pool_of_url(url, insecure=True)


@pytest.mark.parametrize(
    "url",
    [
        "rediss://h?ssl_cert_reqs=none&ssl_cert_reqs=required",
        "rediss://h?ssl_cert_reqs=required&ssl_cert_reqs=none",
        "redis://?host=redis.example.com",
        "redis://localhost?host=redis.example.com",
        "unix:///run/redis.sock?host=redis.example.com",
        "redis://localhost?port=1",
        "unix:///run/redis.sock?path=/other",
        "redis://localhost?username=a",
    ],
)
def test_a_query_cannot_lead_elsewhere_than_the_url_says(url: str) -> None:
    """redis-py takes host and port from the query too, and the first of two; a check must not look at the other."""
    for insecure in (False, True):
        with pytest.raises(InvalidMessage):
            pool_of_url(url, insecure=insecure)


# -- settings that must be ours ----------------------------------------------------------------------------------------


def is_ours(pool: redis.ConnectionPool) -> None:
    settings: dict[str, Any] = pool.connection_kwargs
    assert settings["decode_responses"] is False
    assert settings["protocol"] == 2
    assert settings["retry_on_timeout"] is False
    assert settings["retry_on_error"] == []
    assert settings["health_check_interval"] == 0
    assert settings["retry"].get_retries() == 0
    assert settings["socket_timeout"] > 0
    assert settings["socket_connect_timeout"] > 0


def test_a_url_gives_connections_that_never_retry_by_themselves() -> None:
    pool = pool_of_url("redis://localhost")
    is_ours(pool)
    assert pool.connection_kwargs["socket_timeout"] == SOCKET_TIMEOUT


def test_stock_settings_of_redis_py_do_retry() -> None:
    """Control: were it otherwise, there would be nothing to switch off."""
    assert redis.Redis().connection_pool.connection_kwargs["retry"].get_retries() > 0


@pytest.mark.parametrize(
    "option", ["decode_responses=true", "retry_on_timeout=true", "health_check_interval=3", "retry=3"]
)
def test_a_url_cannot_switch_our_settings_off(option: str) -> None:
    with pytest.raises(InvalidMessage):
        pool_of_url(f"redis://localhost?{option}")


def test_time_outs_of_a_url_are_taken() -> None:
    settings = pool_of_url("redis://localhost?socket_timeout=0.5&socket_connect_timeout=2").connection_kwargs
    assert (settings["socket_timeout"], settings["socket_connect_timeout"]) == (0.5, 2)


# -- a client of the user's --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def server() -> Any:
    with valkey_server(tcp=True) as running:
        with running.client() as client:
            client.config_set("requirepass", SECRET)  # not from the start: whoever starts it looks whether it answers
        yield running


def ping(pool: redis.ConnectionPool) -> Any:
    connection: Any = pool.get_connection()
    try:
        connection.send_command("GET", "key")
        return connection.read_response()
    finally:
        pool.release(connection)
        pool.disconnect()


CLIENTS: dict[str, dict[str, Any]] = {
    "stock": {},
    "decoding": {"decode_responses": True, "encoding": "latin-1"},
    "RESP3": {"protocol": 3},
    "retrying": {"retry": Retry(NoBackoff(), 10), "retry_on_error": [redis.ConnectionError]},
    "pinging": {"health_check_interval": 1},
    "without time-outs": {"socket_timeout": None, "socket_connect_timeout": None},
    "single": {"single_connection_client": True},
    "bounded": {"max_connections": 1},
    "named": {"client_name": "mine"},
}


@pytest.mark.parametrize("options", CLIENTS.values(), ids=CLIENTS)
@pytest.mark.parametrize("unix", [False, True], ids=["tcp", "unix"])
def test_connections_go_where_the_clients_go_and_behave_as_ours(
    server: Server, options: dict[str, Any], unix: bool
) -> None:
    where: dict[str, Any] = (
        {"unix_socket_path": server.socket_path} if unix else dict(zip(("host", "port"), server.address, strict=True))
    )
    with redis.Redis(**where, password=SECRET, db=3, **options) as client:
        client.set("key", "value")
        pool = pool_of_client(client)
        is_ours(pool)
        assert ping(pool) == b"value"
        assert client.get("key") in ("value", b"value")


def test_a_clients_credential_provider_is_asked(server: Server) -> None:
    provider = UsernamePasswordCredentialProvider(password=SECRET)
    with redis.Redis(unix_socket_path=server.socket_path, credential_provider=provider) as client:
        assert ping(pool_of_client(client)) is None


def test_a_client_made_from_a_url_or_a_pool_is_taken(server: Server) -> None:
    host, port = server.address
    url = f"redis://:{SECRET}@{host}:{port}/3"
    for client in (
        redis.Redis.from_url(url),
        redis.Redis(connection_pool=redis.BlockingConnectionPool.from_url(url, timeout=1)),
        redis.Redis.from_pool(redis.ConnectionPool.from_url(url)),
    ):
        with client:
            client.set("key", "value")
            assert ping(pool_of_client(client)) == b"value"


def test_the_clients_own_pool_is_left_alone(server: Server) -> None:
    with redis.Redis(unix_socket_path=server.socket_path, password=SECRET) as client:
        before = dict(client.connection_pool.connection_kwargs)
        pool = pool_of_client(client)
        ping(pool)
        assert pool is not client.connection_pool
        assert client.connection_pool.connection_kwargs == before


@pytest.mark.parametrize(
    "client", [None, 5, "redis://localhost", redis.asyncio.Redis(), redis.ConnectionPool(), redis.Redis], ids=shown
)
def test_what_is_no_client_is_refused(client: Any) -> None:
    with pytest.raises(InvalidMessage):
        pool_of_client(client)


@pytest.mark.parametrize("version", ["2", "3"])
def test_the_version_of_the_protocol_is_that_of_the_url(valkey_url: str, version: str) -> None:
    assert pool_of_url(valkey_url).connection_kwargs["protocol"] == 2
    pool = pool_of_url(f"{valkey_url}?protocol={version}")
    client = redis.Redis(connection_pool=pool)
    assert f"resp={version}" in client.execute_command("CLIENT", "INFO").decode()
    pool.disconnect()


@pytest.mark.parametrize("version", ["", "1", "4", "x", "2.0"])
def test_another_version_of_the_protocol_is_refused(version: str) -> None:
    with pytest.raises(InvalidMessage, match="protocol"):
        pool_of_url(f"redis://127.0.0.1?protocol={version}")


def test_a_server_is_told_which_redis_py_it_is_and_the_package_is_not_read_for_each_connection(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    host, port = server.address
    pool = pool_of_url(f"redis://:{SECRET}@{host}:{port}/0")
    read: list[str] = []
    monkeypatch.setattr(importlib.metadata, "version", read.append)
    with redis.Redis(connection_pool=pool) as client:
        told = client.client_info()
    assert (told["lib-name"], told["lib-ver"]) == ("redis-py", redis.__version__)
    assert read == []
    redis.Connection()  # control
    assert read == ["redis"]
