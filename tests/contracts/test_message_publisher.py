"""What a publisher of messages promises, in memory and on servers, and what it does while a server is lost."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from certificates import Authority
from duramen.events.log import HostStore, MessagePublisher, MessageStream
from faults.proxy import FaultProxy
from linked_hosts import store_of
from servers import Server, valkey_server
from waiting import eventually


@pytest.fixture(params=["memory", "valkey", "redis", "cluster"])
def store(request: pytest.FixtureRequest) -> HostStore:
    url = "memory://" if request.param == "memory" else request.getfixturevalue(f"{request.param}_url")
    return store_of(url)


class Reader:
    """All that arrives on one host's channel."""

    def __init__(self, store: HostStore) -> None:
        self.host = uuid4().hex
        self.messages: list[bytes] = []
        self.stream: MessageStream = store.listen(self.host)
        eventually(lambda: self._receive() or self.stream.subscriptions, what="a subscription")

    def has(self, count: int) -> list[bytes]:
        eventually(lambda: self._receive() or len(self.messages) >= count, what=f"{count} messages")
        return self.messages

    def _receive(self) -> None:
        self.messages += self.stream.receive(0.01)


@pytest.fixture
def reader(store: HostStore) -> Iterator[Reader]:
    found = Reader(store)
    yield found
    found.stream.close()


@pytest.fixture
def publisher(store: HostStore) -> Iterator[MessagePublisher]:
    found = store.publisher()
    found.collect(30.0)
    yield found
    found.close()
    found.close()


def numbered(count: int, size: int = 100) -> list[bytes]:
    return [b"%010d" % number + b"." * size for number in range(count)]


def test_messages_arrive_in_the_order_in_which_they_were_published(publisher: MessagePublisher, reader: Reader) -> None:
    messages = numbered(100)
    for message in messages[:50]:
        publisher.publish([(reader.host, message)], [], 1000)
    publisher.publish([(reader.host, message) for message in messages[50:]], [], 1000)
    publisher.collect(30.0)
    assert publisher.is_ready and publisher.losses == 0
    assert reader.has(100) == messages


def test_contents_are_there_when_the_message_behind_them_arrives(
    store: HostStore, publisher: MessagePublisher, reader: Reader
) -> None:
    contents = {uuid4().hex: os.urandom(200_000) for _ in range(5)}
    for content_id, content in contents.items():
        publisher.publish([(reader.host, content_id.encode())], [(content_id, content)], 60_000)
        publisher.collect(30.0)
    for name in reader.has(5):
        assert store.get_content(name.decode()) == contents[name.decode()]


@pytest.fixture(params=["valkey", "redis", "redis with TLS"])
def patient(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Server, str]]:
    """A server and its URL; whoever waits for it when it hangs waits for good."""
    kind, _, is_encrypted = request.param.partition(" with ")
    config: dict[str, str] = {}
    if is_encrypted:
        authority = Authority.make(tmp_path / "ca")
        own = authority.sign("localhost", "localhost")
        config |= {"tls-cert-file": str(own.certificate), "tls-key-file": str(own.key)}
        config |= {"tls-ca-cert-file": str(authority.file), "tls-auth-clients": "no"}
    with Server(kind=kind, config=config, more_ports=("tls-port",) if is_encrypted else ()).start() as server:
        url = (
            f"rediss://localhost:{server.config['tls-port']}?ssl_ca_certs={authority.file}&"
            if is_encrypted
            else f"{server.url}?"
        )
        yield server, f"{url}socket_timeout=3600"


@pytest.mark.slow
def test_publishing_never_waits_for_a_server_that_hangs_and_all_of_it_arrives_when_it_goes_on(
    patient: tuple[Server, str],
) -> None:
    server, url = patient
    reader, publisher = Reader(store_of(server.url)), store_of(url).publisher()
    publisher.collect(30.0)
    messages = numbered(200, 60_000)  # more than the buffers of a socket take
    server.pause()
    for message in messages:
        publisher.publish([(reader.host, message)], [], 1000)
    assert not publisher.is_ready
    publisher.collect(0.05)
    assert not publisher.is_ready
    server.resume()
    eventually(lambda: publisher.collect(0.05) or publisher.is_ready)
    assert reader.has(200) == messages and publisher.losses == 0
    reader.stream.close()
    publisher.close()


def test_a_lost_connection_is_counted_and_opened_again() -> None:
    with Server(tcp=True).start() as server, FaultProxy(server.address) as proxy:
        store = store_of(proxy.url)
        reader, publisher = Reader(store_of(server.url)), store.publisher()
        publisher.collect(30.0)
        proxy.drop_reply(containing=b"PUBLISH")
        publisher.publish([(reader.host, b"carried out, not answered")], [], 1000)
        eventually(lambda: publisher.is_ready or publisher.losses)
        assert publisher.losses == 1 and not publisher.is_ready
        publisher.publish([(reader.host, b"not sent: there is no connection")], [], 1000)
        eventually(lambda: publisher.collect(0.05) or publisher.is_ready)
        publisher.publish([(reader.host, b"sent on the next one")], [], 1000)
        publisher.collect(30.0)
        assert reader.has(2) == [b"carried out, not answered", b"sent on the next one"]
        reader.stream.close()
        publisher.close()


def test_a_server_that_never_answers_costs_its_connection() -> None:
    with Server(tcp=True).start() as server, FaultProxy(server.address) as proxy:
        publisher = store_of(f"{proxy.url}?socket_timeout=0.3").publisher()
        publisher.collect(30.0)
        proxy.black_hole()
        publisher.publish([("0" * 32, b"lost in the dark")], [], 1000)
        eventually(lambda: publisher.collect(0.05) or publisher.losses)
        assert publisher.losses == 1
        proxy.release()
        eventually(lambda: publisher.collect(0.05) or publisher.is_ready)
        publisher.close()


@pytest.mark.slow
def test_what_the_server_refuses_costs_no_connection() -> None:
    with valkey_server() as server:
        store = store_of(server.url)
        reader, publisher = Reader(store), store.publisher()
        publisher.collect(30.0)
        client = server.client()
        client.config_set("maxmemory", "1")
        publisher.publish([(reader.host, b"its content was refused")], [("1" * 32, b"x")], 1000)
        publisher.collect(30.0)
        client.config_set("maxmemory", "0")
        assert publisher.is_ready and publisher.losses == 0
        assert reader.has(1) == [b"its content was refused"]
        assert store.get_content("1" * 32) is None
        reader.stream.close()
        publisher.close()
