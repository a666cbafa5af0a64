"""The servers of tests get ports that are free, also where somebody else takes one at the last moment."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

import sentinels
import servers
from certificates import Authority
from sentinels import Sentinels
from servers import Server


@pytest.fixture
def taken() -> Iterator[int]:
    """A port on which somebody else listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


class Ports:
    """Gives out a port that is taken as the first, second or third one."""

    def __init__(self, taken: int, place: int) -> None:
        self.taken, self.place, self.count, self.free_port = taken, place, 0, servers.free_port

    def next(self) -> int:
        self.count += 1
        return self.taken if self.count == self.place else self.free_port()


@pytest.mark.slow
@pytest.mark.parametrize(("place", "name"), [(1, "port"), (2, "cluster-port"), (3, "tls-port")])
def test_a_server_one_of_whose_ports_is_taken_meanwhile_starts_with_others(
    place: int, name: str, taken: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ports = Ports(taken, place)
    monkeypatch.setattr(servers, "free_port", ports.next)
    authority = Authority.make(tmp_path / "ca")
    own = authority.sign("localhost", "localhost")
    config = {
        "tls-cert-file": str(own.certificate),
        "tls-key-file": str(own.key),
        "tls-ca-cert-file": str(authority.file),
    }
    config["cluster-enabled"] = "yes"
    server = Server(kind="redis", tcp=True, config=config, more_ports=("cluster-port", "tls-port"))
    with server.start():
        count = ports.count
        assert count >= 6, f"{name} was taken"
        asked = [server.port, *(int(server.config[one]) for one in server.more_ports)]
        assert taken not in asked
        with server.client() as client:
            assert [int(client.config_get(one)[one]) for one in ("port", *server.more_ports)] == asked
        server.restart()
        assert ports.count == count


def test_a_server_that_cannot_start_for_another_reason_is_tried_once(monkeypatch: pytest.MonkeyPatch) -> None:
    ports = Ports(0, 0)
    monkeypatch.setattr(servers, "free_port", ports.next)
    with pytest.raises(AssertionError, match="no-such-setting"):
        Server(kind="redis", tcp=True, config={"no-such-setting": "1"}).start()
    assert ports.count == 1


@pytest.mark.slow
def test_a_sentinel_whose_port_is_taken_meanwhile_starts_with_another(
    taken: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    ports = Ports(taken, 2)
    monkeypatch.setattr(sentinels, "free_port", ports.next)
    with ExitStack() as stack:
        made = stack.enter_context(Sentinels(("127.0.0.1", 1)))
        assert ports.count >= 4
        assert taken not in made.ports
        for number in range(3):
            with made.client(number) as client:
                assert client.ping()
