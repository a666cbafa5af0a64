"""Another process that listens, and one that keeps the server busy: what a notification is measured with."""

from __future__ import annotations

import multiprocessing
import threading
import time
from collections.abc import Callable
from functools import partial
from multiprocessing.connection import Connection
from typing import Any, Final

from duramen.actors import AgentSystem
from duramen.actors.commands.messages import Set
from duramen.projections.subscriptions.change import Change

from .ours import spawn_many

__all__ = [
    "CHANNEL",
    "WorkerClient",
    "hear_many",
    "hear_redis",
    "hear_us",
    "load_redis",
    "load_us",
    "sleep_through",
    "watched_patterns",
]

CHANNEL: Final = "bare:channel"
_PROBE: Final = "probe "
_BATCHES: Final = 500
"""Batches of load a second."""
_SECONDS: Final = 60.0

Heard = dict[int, float]


class WorkerClient:
    """A process that runs `work(connection, ...)` until it is told to end."""

    def __init__(self, work: Callable[..., None], *arguments: Any) -> None:
        context = multiprocessing.get_context("spawn")
        self._mine, theirs = context.Pipe()
        self._process = context.Process(target=work, args=(theirs, *arguments), daemon=True)
        self._process.start()
        theirs.close()
        self.ask(None)  # it is ready when it answers

    def ask(self, question: object) -> Any:
        """Send something and wait for the answer."""
        self._mine.send(question)
        if not self._mine.poll(_SECONDS):
            raise RuntimeError("the other process does not answer")
        return self._mine.recv()

    def close(self) -> None:
        self._mine.close()
        self._process.join(5)
        self._process.kill()
        self._process.join()


def _answer(connection: Connection, heard: Heard, complete: threading.Condition) -> None:
    """Answer `(first, last)` with the times at which those probes were heard, once all were; None at once."""
    while True:
        try:
            asked = connection.recv()
        except EOFError:
            return
        if asked is None:
            connection.send(None)
            continue
        wanted = range(asked[0], asked[1])
        with complete:
            complete.wait_for(partial(heard.keys().__ge__, set(wanted)), _SECONDS)
            connection.send([heard.get(number) for number in wanted])


def hear_redis(connection: Connection, socket_path: str) -> None:
    """Hear messages with redis-py, as they come."""
    import redis

    heard: Heard = {}
    complete = threading.Condition()
    channel = redis.Redis(unix_socket_path=socket_path).pubsub()
    channel.subscribe(CHANNEL)
    channel.get_message(timeout=_SECONDS)  # the confirmation

    def listen() -> None:
        for message in channel.listen():
            now = time.perf_counter()
            text = bytes(message["data"]).decode()
            if text.startswith(_PROBE):
                with complete:
                    heard[int(text[len(_PROBE) :].split()[0])] = now
                    complete.notify()

    threading.Thread(target=listen, daemon=True).start()
    _answer(connection, heard, complete)


def hear_us(connection: Connection, url: str, namespace: str) -> None:
    """Hear changes with a subscription's callback."""
    heard: Heard = {}
    complete = threading.Condition()

    def note(change: Change) -> None:
        now = time.perf_counter()
        text = change.event.data.get("value")
        if isinstance(text, str) and text.startswith(_PROBE):
            with complete:
                heard[int(text[len(_PROBE) :].split()[0])] = now
                complete.notify()

    with AgentSystem.open(url, namespace=namespace) as system, system.subscribe("bench/**", note):
        _answer(connection, heard, complete)


def watched_patterns(count: int) -> list[str]:
    """Patterns as screens and tools use them: single properties, agents, kinds of properties; few match an event."""
    shapes = (
        "bench/agent-{0}/**",
        "bench/*/plan-{0}/**",
        "other-{0}/*/status",
        "bench/agent-{0}/note-1",
        "**/task-{0}",
    )
    return [shapes[number % len(shapes)].format(number) for number in range(count)]


def hear_many(connection: Connection, url: str, namespace: str, patterns: int) -> None:
    """Hear changes with so many subscriptions; answers a number when its hub has seen the log as it is then."""
    with AgentSystem.open(url, namespace=namespace) as system:
        subscriptions = [system.subscribe(pattern, lambda _: None) for pattern in watched_patterns(patterns)]
        while True:
            try:
                asked = connection.recv()
            except EOFError:
                return
            rest, deadline = threading.Event(), time.monotonic() + _SECONDS
            while asked is not None and any(each.lag for each in subscriptions) and time.monotonic() < deadline:
                rest.wait(0.01)
            connection.send(asked)


def sleep_through(connection: Connection, url: str, namespace: str) -> None:
    """Subscribe with a callback that never returns; answers `()` with how often it was called, None at once."""
    calls: list[int] = []
    called, morning = threading.Event(), threading.Event()

    def sleep(change: Change) -> None:
        calls.append(change.seq)
        called.set()
        morning.wait()

    with AgentSystem.open(url, namespace=namespace) as system, system.subscribe("bench/**", sleep):
        while True:
            try:
                asked = connection.recv()
            except EOFError:
                morning.set()
                return
            if asked is not None:
                called.wait(_SECONDS)
            connection.send(None if asked is None else len(calls))


def load_redis(connection: Connection, socket_path: str, rate: int, payload: int) -> None:
    """Publish so many messages a second."""
    import redis

    client = redis.Redis(unix_socket_path=socket_path)

    def send(count: int) -> None:
        pipeline = client.pipeline(transaction=False)
        for _ in range(count):
            pipeline.rpush("bare:log", b"x" * payload)
            pipeline.publish(CHANNEL, b"x" * payload)
        pipeline.execute()

    _keep_busy(connection, rate, send)


def load_us(connection: Connection, url: str, namespace: str, rate: int, payload: int) -> None:
    """Make so many mutations a second, of 50 agents."""
    with AgentSystem.open(url, namespace=namespace) as system:
        names = [f"bench/load-{number}" for number in range(50)]
        spawn_many(system, names)
        handles = [system.agent(name) for name in names]

        def send(count: int) -> None:
            for reply in [handles[n % 50].ask(Set("note", "x" * payload), block=False) for n in range(count)]:
                reply.get(timeout=_SECONDS)

        _keep_busy(connection, rate, send)


def _keep_busy(connection: Connection, rate: int, send: Callable[[int], None]) -> None:
    rest, started, sent = threading.Event(), time.monotonic(), 0
    count = max(1, rate // _BATCHES)
    while True:
        if connection.poll():
            try:
                connection.send((sent, time.monotonic() - started) if connection.recv() is not None else None)
            except EOFError:
                return
        send(count)
        sent += count
        rest.wait(max(0.0, started + sent / rate - time.monotonic()))
