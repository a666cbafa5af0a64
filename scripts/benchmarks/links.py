"""What crosses to another process, beside an awaited PUBLISH there and back, and beside what stays in this one."""

from __future__ import annotations

import multiprocessing
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from queue import SimpleQueue
from typing import Any, ClassVar, Final, cast
from uuid import uuid4

import redis
from attrs import define, field

from duramen.actors import AgentHandle, AgentSystem
from duramen.actors.hosts.links import Links, Received, Row
from duramen.events.redis import RedisLog
from duramen.events.redis.client import pool_of_url

from .figures import Kind, Sample, Series, Verdict, ratio_of
from .latency import middle
from .options import Options
from .rounds import Contender, Wrong, alternate, timed, timed_calls
from .servers import Server
from .tables import Group, latency_table, number, rate_table

__all__ = ["measure"]

_SECONDS: Final = 30.0
_AT_MOST: Final = 2.0
_PROTOCOL: Final = 1
_THERE: Final = "floor:there"
_BACK: Final = "floor:back"
_AGENT: Final = "bench/agent"
_BLOCKS_A_ROUND: Final = 4
_CALLERS: Final = 64
_SETS: Final = "a set from a process that does not own the agent"


def measure(options: Options, folder: Path) -> Group:
    with Server(folder) as server, Server(folder, durable=True) as durable:
        floor, ours = _alternate(
            [
                AwaitedPublishes(server=server, calls=options.block, payload=options.payload),
                AwaitedRows(server=server, calls=options.block, payload=options.payload),
            ],
            options,
        )
        sets = _alternate(_sets(server, options), options)
        durable_sets = _alternate(_sets(durable, options, how=", AOF always"), options)
        many = _alternate(_sets(server, options, how=f", {_CALLERS} callers", callers=_CALLERS), options)
    verdicts = (
        _latency_verdict(
            "a row to another process and its answer: median latency against an awaited PUBLISH there and back",
            (floor, ours),
            _AT_MOST,
            "row to another process",
            aim=1.2,
        ),
        _latency_verdict(f"{_SETS}: median latency against one from its owner", sets, 4.0, "forwarded set", aim=2.0),
        _latency_verdict("the same, with AOF `always`", durable_sets, 2.0, "forwarded set, AOF always"),
        Verdict(
            f"{_SETS}, {_CALLERS} callers: throughput against that of its owner",
            ratio_of(many[1], many[0], lambda sample: sample.operations / sample.wall),
            at_least=0.5,
            remark=f"{number(_ratio_of_cpu(many))}×",
            short=f"forwarded sets, {_CALLERS} callers",
        ),
    )
    return Group(
        "links",
        "Between processes",
        f"Blocks of {options.block} round trips in turns, each awaited before the next. The other process answers each "
        "message with one of the same size. CPU is this process's and the server's.",
        (
            latency_table("Median latency of a round trip", [(floor, ours), sets, durable_sets]),
            rate_table(f"One agent, {_CALLERS} threads that await each set", many, [("owner", many[0])], "sets/s"),
        ),
        verdicts,
        (floor, ours, *sets, *durable_sets, *many),
    )


_Pair = tuple[Series, Series]


def _alternate(contenders: list[Contender], options: Options) -> _Pair:
    floor, ours = alternate(contenders, options.rounds * _BLOCKS_A_ROUND)
    return floor, ours


def _sets(server: Server, options: Options, *, how: str = "", callers: int = 1) -> list[Contender]:
    """Sets of one agent by its owner, and by another process."""
    calls = options.block * (_BLOCKS_A_ROUND if callers > 1 else 1)
    return [
        kind(server=server, calls=calls, payload=options.payload, callers=callers, name=kind.name_of_row + how)
        for kind in (AwaitedSets, ForwardedSets)
    ]


def _latency_verdict(what: str, pair: _Pair, at_most: float, short: str, aim: float | None = None) -> Verdict:
    return Verdict(
        what,
        ratio_of(pair[1], pair[0], middle),
        at_most=at_most,
        aim=aim,
        remark=f"{number(_ratio_of_cpu(pair))}×",
        short=short,
    )


def _ratio_of_cpu(pair: _Pair) -> float:
    return ratio_of(pair[1], pair[0], lambda sample: (sample.cpu + sample.server) / sample.operations).middle


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
    """`set` on an agent of this process, awaited; `callers` threads share the calls."""

    name_of_row: ClassVar[str] = "duramen: awaited set, in the owner"
    server: Server
    calls: int
    payload: int
    name: str
    callers: int = 1
    note: str = "an append"
    kind: Kind = "floor"
    _system: AgentSystem = field(init=False)
    _agent: AgentHandle = field(init=False)
    _count: int = 0

    @property
    def namespace(self) -> str:
        return f"{type(self).__name__}-{self.callers}"

    def prepare(self) -> None:
        self._system = AgentSystem.open(self.server.url, namespace=self.namespace)
        self._agent = self._find_agent()

    def _find_agent(self) -> AgentHandle:
        return self._system.spawn(_AGENT)

    def run(self) -> Sample:
        value = "x" * self.payload
        share = max(1, self.calls // self.callers)
        self._count += share * self.callers
        if self.callers == 1:
            return timed_calls([lambda: self._agent.set("value", value)] * share, self.server)
        return timed(lambda: self._call_in_threads(value, share), self.server)

    def _call_in_threads(self, value: str, share: int) -> int:
        def call() -> None:
            for _ in range(share):
                self._agent.set("value", value)

        threads = [threading.Thread(target=call) for _ in range(self.callers)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return share * self.callers

    def verify(self) -> None:
        if self._agent.status().seq != self._count + 1:
            raise Wrong("not every set is one event")

    def close(self) -> None:
        self._system.close()


@define(kw_only=True)
class ForwardedSets(AwaitedSets):
    """`set` on an agent of another process, awaited."""

    name_of_row: ClassVar[str] = "duramen: awaited set, from another process"
    note: str = "a frame there, an append, a frame back"
    kind: Kind = "ours"
    _peer: _Peer = field(init=False)

    def _find_agent(self) -> AgentHandle:
        self._peer = _Peer(partial(_own_an_agent, self.namespace), self.server.url)
        return self._system.agent(_AGENT)

    def close(self) -> None:
        super().close()
        self._peer.close()


def _own_an_agent(namespace: str, url: str, pipe: Connection) -> None:
    with AgentSystem.open(url, namespace=namespace) as system:
        system.spawn(_AGENT)
        pipe.send("up")
        _wait_for_end(pipe)
