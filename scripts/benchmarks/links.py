"""What crosses to another process, beside an awaited PUBLISH there and back, and beside what stays in this one."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Final, cast
from uuid import uuid4

import redis
from attrs import define, field

from duramen.actors import AgentHandle, AgentSystem
from duramen.actors.hosts.links import Links, Received, Row
from duramen.events.redis import RedisLog
from duramen.events.redis.client import pool_of_url

from .figures import Kind, Sample, Verdict, ratio_of
from .latency import middle
from .options import Options
from .rounds import Wrong, alternate, timed_calls
from .servers import Server
from .tables import Group, latency_table, number

__all__ = ["measure"]

_SECONDS: Final = 30.0
_AT_MOST: Final = 2.0
_SETS_AT_MOST: Final = 4.0
_PROTOCOL: Final = 1
_THERE: Final = "floor:there"
_BACK: Final = "floor:back"
_AGENT: Final = "bench/agent"
_BLOCKS_A_ROUND: Final = 4


def measure(options: Options, folder: Path) -> Group:
    with Server(folder) as server:
        floor, ours, local, forwarded = alternate(
            [
                AwaitedPublishes(server=server, calls=options.block, payload=options.payload),
                AwaitedRows(server=server, calls=options.block, payload=options.payload),
                AwaitedSets(server=server, calls=options.block, payload=options.payload),
                ForwardedSets(server=server, calls=options.block, payload=options.payload),
            ],
            options.rounds * _BLOCKS_A_ROUND,
        )
    sets = ratio_of(forwarded, local, middle)
    sets_cpu = ratio_of(forwarded, local, lambda sample: sample.cpu + sample.server)
    found = ratio_of(ours, floor, middle)
    cpu = ratio_of(ours, floor, lambda sample: sample.cpu + sample.server)
    what = "a row to another process and its answer: median latency against an awaited PUBLISH there and back"
    verdict = Verdict(
        what, found, at_most=_AT_MOST, aim=1.2, remark=f"{number(cpu.middle)}×", short="row to another process"
    )
    crossing = "a set from a process that does not own the agent: median latency against one from its owner"
    sets_verdict = Verdict(
        crossing, sets, at_most=_SETS_AT_MOST, aim=2.0, remark=f"{number(sets_cpu.middle)}×", short="forwarded set"
    )
    return Group(
        "links",
        "Between processes",
        f"Blocks of {options.block} round trips in turns, each awaited before the next. The other process answers each "
        "message with one of the same size. CPU is this process's and the server's.",
        (latency_table("Median latency of a round trip", [(floor, ours), (local, forwarded)]),),
        (verdict, sets_verdict),
        (floor, ours, local, forwarded),
    )


class _Peer:
    """Another process, which runs `work(url, pipe)` until its pipe is closed; it says hello once it is up."""

    def __init__(self, work: Callable[[str, Connection], None], url: str) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=work, args=(url, theirs))
        self._process.start()
        theirs.close()
        if not self._pipe.poll(_SECONDS):
            raise RuntimeError("the other process did not start")
        self.hello = cast("str", self._pipe.recv())

    def close(self) -> None:
        self._pipe.close()
        self._process.join(_SECONDS)
        self._process.kill()
        self._process.join()


def _wait_for_end(pipe: Connection) -> None:
    with suppress(EOFError):
        pipe.recv()


@define(kw_only=True)
class AwaitedPublishes:
    """PUBLISH, awaited, and the message that the other process publishes in answer."""

    server: Server
    calls: int
    payload: int
    name: str = "redis-py: awaited PUBLISH there and back"
    note: str = "a connection to publish and one to listen, in each process"
    kind: Kind = "floor"
    _client: redis.Redis = field(init=False)
    _stream: Any = field(init=False)
    _peer: _Peer = field(init=False)
    _answers: int = 0

    def prepare(self) -> None:
        self._client = self.server.client()
        self._stream = _subscribed(self._client, _BACK)
        self._peer = _Peer(_answer_publishes, self.server.url)

    def run(self) -> Sample:
        message = b"x" * self.payload
        return timed_calls([lambda: self._call(message)] * self.calls, self.server)

    def _call(self, message: bytes) -> None:
        self._client.publish(_THERE, message)
        answer = self._stream.get_message(timeout=_SECONDS)
        if answer is None or answer["data"] != message:
            raise Wrong("another answer than the message")
        self._answers += 1

    def verify(self) -> None:
        if self._answers % self.calls:
            raise Wrong("not every message was answered")

    def close(self) -> None:
        self._stream.close()
        self._client.close()
        self._peer.close()


def _subscribed(client: redis.Redis, channel: str) -> Any:
    stream = cast("Any", client).pubsub(ignore_subscribe_messages=False)
    stream.subscribe(channel)
    stream.get_message(timeout=_SECONDS)
    return stream


def _answer_publishes(url: str, pipe: Connection) -> None:
    client = redis.Redis.from_url(url)
    stream = _subscribed(client, _THERE)
    pipe.send("up")
    while not pipe.poll(0):
        message = stream.get_message(timeout=0.2)
        if message is not None:
            client.publish(_BACK, message["data"])


@define(kw_only=True)
class AwaitedRows:
    """A row over `Links`, and the row that the other process sends in answer from its links' thread."""

    server: Server
    calls: int
    payload: int
    name: str = "duramen: a row over links there and back"
    note: str = "authenticated and numbered; the caller waits for the links' thread"
    kind: Kind = "ours"
    _links: Links = field(init=False)
    _peer: _Peer = field(init=False)
    _answers: SimpleQueue[Row] = field(factory=SimpleQueue[Row])
    _count: int = 0

    def prepare(self) -> None:
        host = uuid4().hex
        self._links = Links(host, _hosts(self.server.url), _PROTOCOL, self._put)
        self._links.start(_SECONDS)
        self._peer = _Peer(_answer_rows, self.server.url)

    def _put(self, rows: list[Received]) -> None:
        for _, row in rows:
            self._answers.put(row)

    def run(self) -> Sample:
        text = "x" * self.payload
        return timed_calls([lambda: self._call(text)] * self.calls, self.server)

    def _call(self, text: str) -> None:
        row = [self._count, text]
        self._links.add(self._peer.hello, row)
        self._links.flush()
        if self._answers.get(timeout=_SECONDS) != row:
            raise Wrong("another answer than the row")
        self._count += 1

    def verify(self) -> None:
        if self._links.counters or not self._links.wait_until_heard(_SECONDS):
            raise Wrong("frames were dropped, or not heard")

    def close(self) -> None:
        self._links.close(_SECONDS)
        self._peer.close()


def _hosts(url: str) -> Any:
    return RedisLog(pool_of_url(url)).hosts


def _answer_rows(url: str, pipe: Connection) -> None:
    host = uuid4().hex
    links: Links

    def answer(rows: list[Received]) -> None:
        for peer, row in rows:
            links.add(peer, row)
        links.flush()

    links = Links(host, _hosts(url), _PROTOCOL, answer)
    links.start(_SECONDS)
    pipe.send(host)
    _wait_for_end(pipe)
    links.close(_SECONDS)


@define(kw_only=True)
class AwaitedSets:
    """`set` on an agent of this process, awaited."""

    server: Server
    calls: int
    payload: int
    name: str = "duramen: awaited set, in the owner"
    note: str = "an append"
    kind: Kind = "floor"
    _system: AgentSystem = field(init=False)
    _agent: AgentHandle = field(init=False)
    _count: int = 0

    def prepare(self) -> None:
        self._system = AgentSystem.open(self.server.url, namespace=type(self).__name__)
        self._agent = self._find_agent()

    def _find_agent(self) -> AgentHandle:
        return self._system.spawn(_AGENT)

    def run(self) -> Sample:
        value = "x" * self.payload
        return timed_calls([lambda: self._call(value)] * self.calls, self.server)

    def _call(self, value: str) -> None:
        self._agent.set("value", value)
        self._count += 1

    def verify(self) -> None:
        if self._agent.status().seq != self._count + 1:
            raise Wrong("not every set is one event")

    def close(self) -> None:
        self._system.close()


@define(kw_only=True)
class ForwardedSets(AwaitedSets):
    """`set` on an agent of another process, awaited."""

    name: str = "duramen: awaited set, from another process"
    note: str = "a frame there, an append, a frame back"
    kind: Kind = "ours"
    _peer: _Peer = field(init=False)

    def _find_agent(self) -> AgentHandle:
        self._peer = _Peer(_own_an_agent, self.server.url)
        return self._system.agent(_AGENT)

    def close(self) -> None:
        super().close()
        self._peer.close()


def _own_an_agent(url: str, pipe: Connection) -> None:
    with AgentSystem.open(url, namespace=ForwardedSets.__name__) as system:
        system.spawn(_AGENT)
        pipe.send("up")
        _wait_for_end(pipe)
