"""`open` says why a server cannot be used: at once where trying again cannot help, and without a secret."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import redis

from certificates import Authority, Certificate
from duramen.actors import AgentSystem
from duramen.events.embedded.process import ServerProcess, can_die_with_parent, ready_pid
from duramen.events.errors import DuramenError, InvalidMessage, NotPermitted, Unavailable, UnsafeServer
from duramen.events.redis.client import check_server, command_runner, pool_of_client, pool_of_url
from duramen.events.redis.log import RedisLog
from servers import Server, free_port, redis_server, redis_server_binary
from waiting import eventually

SECRET = "s3cr3t"

pytestmark = pytest.mark.slow  # each test starts servers of its own

Refused = tuple[type[DuramenError], str]
NO_CA: Refused = (Unavailable, "not signed by a CA that is known here: give the CA's file as ssl_ca_certs")
NO_TLS: Refused = (Unavailable, "does not speak TLS: use redis://")
TLS: Refused = (Unavailable, "this port speaks TLS: use rediss://")
OTHER_HOST: Refused = (Unavailable, "certificate is for another host")
EXPIRED: Refused = (Unavailable, "certificate has expired")
NO_CLIENT: Refused = (Unavailable, "wants a certificate of the client: give ssl_certfile and ssl_keyfile")
NO_COMMON: Refused = (Unavailable, "no version or cipher of TLS in common")
CA_FILE: Refused = (InvalidMessage, "ssl_ca_certs cannot be used")
KEY_FILE: Refused = (InvalidMessage, "ssl_certfile or ssl_keyfile cannot be used")
WRONG: Refused = (NotPermitted, "user name or password is wrong; in a url, write % / ? # @")
NO_DATABASE: Refused = (InvalidMessage, "no database of this number")
CLUSTER: Refused = (UnsafeServer, "write redis+cluster://")


def refused_at_once(url: str, expected: Refused) -> None:
    """Neither `open` nor the doctor tries again: with an hour for it they would not be back in time."""
    kind, words = expected
    asks: list[Callable[[redis.ConnectionPool], object]] = [lambda pool: RedisLog(pool, retry_seconds=3600.0)]
    if kind is not UnsafeServer:  # the doctor reports that as a finding
        asks.append(lambda pool: command_runner(pool)("look", b"LLEN", b"k"))
    for ask in asks:
        ended: list[BaseException] = []

        def run(ask: Any = ask, ended: list[BaseException] = ended) -> None:
            try:
                ask(pool_of_url(url, insecure=True))
            except BaseException as error:
                ended.append(error)

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        thread.join(30)
        assert not thread.is_alive(), "it tries again what cannot succeed"
        (error,) = ended
        assert type(error) is kind, error
        assert words in str(error)
        assert SECRET not in f"{error}{error.args}{vars(error)}"
        assert error.__suppress_context__ or error.__context__ is None


# -- TLS ---------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority.make(tmp_path_factory.mktemp("tls") / "ca")


@pytest.fixture(scope="module")
def other_ca(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority.make(tmp_path_factory.mktemp("tls") / "other")


@pytest.fixture(scope="module")
def own(ca: Authority) -> Certificate:
    return ca.sign("localhost", "localhost", "127.0.0.1")


def tls_server(ca: Authority, certificate: Certificate, **settings: str) -> tuple[Server, int]:
    config = {
        "tls-cert-file": str(certificate.certificate),
        "tls-key-file": str(certificate.key),
        "tls-ca-cert-file": str(ca.file),
        "tls-auth-clients": "no",
        **{name.replace("_", "-"): value for name, value in settings.items()},
    }
    server = redis_server(tcp=True, config=config, more_ports=("tls-port",))
    return server, int(server.config["tls-port"])


@pytest.fixture(scope="module")
def encrypted(ca: Authority, own: Certificate) -> Iterator[tuple[Server, int]]:
    server, port = tls_server(ca, own)
    with server:
        yield server, port


def test_a_server_with_tls_is_used_when_its_ca_is_given(encrypted: tuple[Server, int], ca: Authority) -> None:
    """Control for the tests below."""
    for host in ("localhost", "127.0.0.1"):
        with AgentSystem.open(f"rediss://{host}:{encrypted[1]}?ssl_ca_certs={ca.file}", namespace=host) as system:
            system.spawn("acme/alice").set("a", 1)


def test_a_certificate_that_cannot_be_checked_is_refused_at_once(
    encrypted: tuple[Server, int], ca: Authority, other_ca: Authority, tmp_path: Path
) -> None:
    url = f"rediss://:{SECRET}@localhost:{encrypted[1]}/0"
    refused_at_once(url, NO_CA)
    refused_at_once(f"{url}?ssl_ca_certs={other_ca.file}", NO_CA)
    (tmp_path / "no-certificate").write_text(SECRET)
    for name in ("no-certificate", f"{SECRET}-is-not-there"):
        with pytest.raises(CA_FILE[0], match=CA_FILE[1]) as caught:
            AgentSystem.open(f"{url}?ssl_ca_certs={tmp_path / name}")
        assert SECRET not in str(caught.value)


def test_tls_on_one_side_only_is_refused_at_once(encrypted: tuple[Server, int], ca: Authority) -> None:
    server, port = encrypted
    refused_at_once(f"redis://:{SECRET}@localhost:{port}", TLS)
    refused_at_once(f"rediss://:{SECRET}@localhost:{server.port}?ssl_ca_certs={ca.file}", NO_TLS)


def test_tls_on_one_side_only_is_refused_where_a_client_certificate_or_a_password_is_wanted(
    ca: Authority, own: Certificate
) -> None:
    server, port = tls_server(ca, own, tls_auth_clients="yes")
    with server:
        server.client().config_set("requirepass", SECRET)
        refused_at_once(f"redis://localhost:{port}", TLS)
        refused_at_once(f"rediss://localhost:{server.port}?ssl_ca_certs={ca.file}", NO_TLS)


@pytest.mark.parametrize(
    ("subject", "days", "expected"), [("elsewhere.example", 30, OTHER_HOST), ("localhost", -1, EXPIRED)]
)
def test_a_certificate_of_another_host_or_time_is_refused_at_once(
    ca: Authority, subject: str, days: int, expected: Refused
) -> None:
    server, port = tls_server(ca, ca.sign(f"server{days}", subject, days=days))
    with server:
        refused_at_once(f"rediss://localhost:{port}?ssl_ca_certs={ca.file}", expected)


@pytest.mark.parametrize("protocols", ["TLSv1.2", "TLSv1.3"])
def test_a_missing_client_certificate_is_told_at_once(ca: Authority, own: Certificate, protocols: str) -> None:
    server, port = tls_server(ca, own, tls_auth_clients="yes", tls_protocols=protocols)
    with server:
        url = f"rediss://localhost:{port}?ssl_ca_certs={ca.file}"
        refused_at_once(url, NO_CLIENT)
        with pytest.raises(KEY_FILE[0], match=KEY_FILE[1]):
            AgentSystem.open(f"{url}&ssl_certfile={own.certificate}&ssl_keyfile={ca.folder / 'ca.key'}")
        AgentSystem.open(f"{url}&ssl_certfile={own.certificate}&ssl_keyfile={own.key}").close()


def test_a_version_of_tls_that_the_server_does_not_have_is_told_at_once(ca: Authority, own: Certificate) -> None:
    server, port = tls_server(ca, own, tls_protocols="TLSv1.2")
    with server:
        refused_at_once(f"rediss://localhost:{port}?ssl_ca_certs={ca.file}&ssl_min_version=772", NO_COMMON)


def test_a_client_of_the_users_own_gets_the_same_causes(encrypted: tuple[Server, int], other_ca: Authority) -> None:
    port = encrypted[1]
    with pytest.raises(Unavailable, match="CA that is known here"):
        AgentSystem.open(client=redis.Redis("localhost", port, ssl=True, ssl_ca_certs=str(other_ca.file)))
    with pytest.raises(InvalidMessage, match="ssl_ca_certs cannot be used"):
        AgentSystem.open(client=redis.Redis("localhost", port, ssl=True, ssl_ca_certs="/nowhere.pem"))
    with pytest.raises(Unavailable, match="use rediss://"):
        AgentSystem.open(client=redis.Redis("localhost", port))


# -- login, database, commands -----------------------------------------------------------------------------------------


def test_a_password_that_is_wrong_or_not_encoded_is_told_at_once() -> None:
    password = f"{SECRET}/a?b#c@d%41"
    with redis_server(tcp=True) as server:
        host = f"localhost:{server.port}"
        refused_at_once(f"redis://:{SECRET}@{host}", (NotPermitted, "has none for this user: leave it out"))
        server.client().config_set("requirepass", password)
        AgentSystem.open(f"redis://:{quote(password, safe='')}@{host}").close()
        refused_at_once(f"redis://{host}", (NotPermitted, "wants a password"))
        refused_at_once(f"redis://:{SECRET}x@{host}", WRONG)
        refused_at_once(f"redis://bob:{SECRET}@{host}", WRONG)
        refused_at_once(f"redis://:{quote(password, safe='%')}@{host}", WRONG)
        for unencoded in (password, password.replace("/", ""), f"{SECRET}#x", f"[{SECRET}"):
            with pytest.raises(InvalidMessage, match="percent-encoded") as caught:
                AgentSystem.open(f"redis://:{unencoded}@{host}/0")
            assert SECRET not in str(caught.value)


@pytest.mark.parametrize("database", ["/16", "/999999999", "?db=16"])
def test_a_database_that_the_server_does_not_have_is_told_at_once(database: str) -> None:
    with redis_server(tcp=True) as server:
        AgentSystem.open(f"{server.tcp_url}/15").close()
        refused_at_once(server.tcp_url + database, NO_DATABASE)


@pytest.mark.parametrize("command", ["EVALSHA", "SCRIPT", "HMGET", "RPUSH", "SELECT"])
def test_a_disabled_command_is_named_at_once_and_nothing_is_written(command: str, tmp_path: Path) -> None:
    (tmp_path / "disabled.conf").write_text(f'rename-command {command} ""\n')
    with redis_server(tcp=True, config={"include": str(tmp_path / "disabled.conf")}) as server:
        with pytest.raises(NotPermitted, match=command):
            RedisLog(pool_of_url(f"{server.tcp_url}/{3 if command == 'SELECT' else 0}"), retry_seconds=3600.0)
        assert server.client().dbsize() == 0


@pytest.mark.parametrize("command", ["CONFIG", "HELLO", "CLIENT"])
def test_a_disabled_command_that_is_not_needed_keeps_nobody_out(command: str, tmp_path: Path) -> None:
    (tmp_path / "disabled.conf").write_text(f'rename-command {command} ""\n')
    with redis_server(tcp=True, config={"include": str(tmp_path / "disabled.conf")}) as server:
        AgentSystem.open(server.tcp_url).close()


# -- what is no single server ------------------------------------------------------------------------------------------


def test_a_node_of_a_cluster_is_refused_before_anything_is_written() -> None:
    with redis_server(tcp=True, config={"cluster-enabled": "yes"}, more_ports=("cluster-port",)) as server:
        client = server.client()
        refused_at_once(server.tcp_url, CLUSTER)
        refused_at_once(f"{server.tcp_url}/3", CLUSTER)
        client.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
        eventually(lambda: b"cluster_state:ok" in client.execute_command("CLUSTER", "INFO"), what="the cluster's state")
        refused_at_once(server.tcp_url, CLUSTER)
        client.execute_command("ACL", "SETUSER", "few", "on", "nopass", "~*", "&*", "+@all", "-info")
        refused_at_once(server.tcp_url.replace("//", "//few:any@"), CLUSTER)
        assert client.dbsize() == 0


def test_a_sentinel_is_refused_at_once(tmp_path: Path) -> None:
    port = free_port()
    config, path = tmp_path / "sentinel.conf", str(tmp_path / "s")
    config.write_text(f"port {port}\nunixsocket {path}\nsentinel monitor main 127.0.0.1 1 1\n")
    process = ServerProcess()
    process.start(
        [redis_server_binary(), config, "--sentinel"],
        directory=tmp_path,
        log_file=tmp_path / "log",
        die_with_parent=can_die_with_parent(),
    )
    try:
        eventually(lambda: ready_pid(path) == process.pid, what="the sentinel's start")
        url = f"redis://localhost:{port}/0"
        refused_at_once(url, (UnsafeServer, "this is a sentinel, which holds no data"))
        problems = [found.what for found in check_server(command_runner(pool_of_url(url))) if found.level == "problem"]
        assert "this is a sentinel, which holds no data" in problems
    finally:
        process.stop(10.0)


def test_another_protocol_is_refused_at_once() -> None:
    with http.server.HTTPServer(("127.0.0.1", 0), http.server.SimpleHTTPRequestHandler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            refused_at_once(
                f"redis://:{SECRET}@localhost:{server.server_port}", (Unavailable, "no Redis or Valkey server")
            )
        finally:
            server.shutdown()


def test_a_client_that_only_imitates_a_server_is_refused() -> None:
    imitation = type("FakeConnection", (redis.Connection,), {"__module__": "fakeredis._connection"})
    client = redis.Redis(connection_pool=redis.ConnectionPool(connection_class=imitation))
    with pytest.raises(InvalidMessage, match="fakeredis is no server: use memory://"):
        pool_of_client(client)


# -- where trying again may help ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "cause"),
    [
        ("redis://localhost:1", "connection refused: nothing listens there"),
        ("rediss://localhost:1", "connection refused: nothing listens there"),
        ("unix:///nowhere/at/all.sock", "there is no socket at this path"),
        ("rediss://no-such-host.invalid", "the host's name is not known"),
    ],
)
def test_a_server_that_may_still_come_is_waited_for_and_then_the_cause_is_told(url: str, cause: str) -> None:
    with pytest.raises(Unavailable, match=f"{cause}; check that the server runs"):
        RedisLog(pool_of_url(url), retry_seconds=0.1)


def test_a_server_that_comes_while_it_is_waited_for_is_used() -> None:
    with redis_server(tcp=True) as server:
        server.stop()
        opened: list[RedisLog] = []
        thread = threading.Thread(
            target=lambda: opened.append(RedisLog(pool_of_url(server.tcp_url), retry_seconds=60.0))
        )
        thread.start()
        server.start()
        thread.join(60)
        assert len(opened) == 1
        opened[0].close()
