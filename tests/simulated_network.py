"""A simulated network of hosts: channels that lose, repeat, delay and reorder, under one seed and a clock of its own.

Everything is a call in one thread, so that a schedule is run again by its seed. What stands on links (ownership,
routing) is tested on it too: give each host a `deliver` of its own, and schedule its steps with `at`.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Callable
from itertools import count
from math import inf
from random import Random
from typing import Any

from attrs import define

from duramen.actors.hosts.links import FrameCodec, LinkState, Row, Window
from duramen.events import Limits
from duramen.events.codec import Codec

__all__ = ["Faults", "SimulatedHost", "SimulatedNetwork"]

SECRET = b"a secret of the namespace"
_CODEC = Codec(Limits())


@define
class Faults:
    """What the channels do to each message; probabilities between 0 and 1, delays in seconds."""

    loss: float = 0.0
    repeat: float = 0.0
    reorder: float = 0.0
    """How often a message is delayed by itself; the others of a channel keep their order."""
    longest_delay: float = 0.003
    content_loss: float = 0.0
    """How often a content that is stored is gone when it is asked for."""


class SimulatedHost:
    """One host on the network: its links, and whether it is listening or paused."""

    def __init__(
        self, network: SimulatedNetwork, name: str, deliver: Callable[[str, Row], Any], window: Window
    ) -> None:
        self.name = name
        self.frames = FrameCodec(name, SECRET, 1, _CODEC)
        self.links = LinkState(self.frames, window=window, random=network.random)
        self.most_unheard = (0, 0)
        self._network = network
        self._deliver = deliver
        self._listens = True
        self._paused_until = -inf
        self._timer = inf

    @property
    def runs(self) -> bool:
        return self._network.now >= self._paused_until

    def send(self, peer: str, row: Row, *, bounded: bool = True) -> None:
        """As `Links.send`: raises what it raises."""
        self.links.send(peer, _CODEC.pack(row), bounded=bounded)
        self.flush()

    def receive(self, data: bytes) -> None:
        """A message of this host's channel has arrived."""
        if not self._listens:
            return
        if not self.runs:  # it stands in the socket until the process goes on
            self._network.at(self._paused_until, lambda: self.receive(data))
            return
        frame = self.frames.open(data)
        if frame is not None:
            contents = {key: self._network.content(self, key) for key in self.links.contents_needed(frame)}
            for row in self.links.receive(frame, contents, self._network.now):
                self._deliver(frame.sender, row)
        self.flush()

    def break_subscription(self, seconds: float) -> None:
        """Let the channel be lost, and be subscribed to anew after a while."""
        self._listens = False
        self._network.at(self._network.now + seconds, self._subscribe)

    def pause(self, seconds: float) -> None:
        """Let the process stand still, as under SIGSTOP; what arrives is there when it goes on."""
        self._paused_until = max(self._paused_until, self._network.now + seconds)
        self._network.at(self._paused_until, self.tick)

    def tick(self) -> None:
        if self.runs:
            self._timer = inf
            self.links.tick(self._network.now)
            self.flush()

    def flush(self) -> None:
        if not self.runs:
            return
        outgoing = self.links.emit(self._network.now)
        for key, content in outgoing.contents:
            self._network.store(key, content)
        for peer, data in outgoing.frames:
            self._network.publish(peer, data)
            stream = self.links.stream(peer)
            if stream is not None:
                frames, size = stream.unheard
                self.most_unheard = max(frames, self.most_unheard[0]), max(size, self.most_unheard[1])
        if self.links.due < self._timer:
            self._timer = self.links.due
            self._network.at(self._timer, self.tick)

    def _subscribe(self) -> None:
        self._listens = True
        self.links.note_new_subscription(self._network.now)
        self.flush()


class SimulatedNetwork:
    """Hosts, their channels, and the events to come. `run` lets time pass."""

    def __init__(self, seed: int, faults: Faults | None = None) -> None:
        self.random = Random(seed)
        self.faults = faults or Faults()
        self.now = 1000.0
        self.hosts: dict[str, SimulatedHost] = {}
        self.published = 0
        self._events: list[tuple[float, int, Callable[[], Any]]] = []
        self._number = count()
        self._last_arrival: dict[str, float] = defaultdict(float)
        self._contents: dict[str, bytes] = {}

    def add_host(self, name: str, deliver: Callable[[str, Row], Any], *, window: Window | None = None) -> SimulatedHost:
        host = self.hosts[name] = SimulatedHost(self, name, deliver, window or Window())
        return host

    def at(self, time: float, call: Callable[[], Any]) -> None:
        """Make a call at a time of the simulated clock; calls for one time are made in the order they were given."""
        heapq.heappush(self._events, (time, next(self._number), call))

    def heal(self) -> None:
        """Lose, repeat and reorder nothing from now on."""
        self.faults = Faults()

    def run(self, until: float, *, while_: Callable[[], bool] = lambda: True) -> None:
        """Make the calls that are due up to a time, as long as the condition holds."""
        while self._events and self._events[0][0] <= until and while_():
            time, _, call = heapq.heappop(self._events)
            self.now = max(self.now, time)
            call()
        if while_():
            self.now = max(self.now, until)

    def publish(self, host: str, data: bytes) -> None:
        """Send a message to a host's channel, as anybody may who can publish."""
        self.published += 1
        faults, random = self.faults, self.random
        for _ in range(2 if random.random() < faults.repeat else 1):
            if random.random() < faults.loss:
                continue
            arrival = self.now + random.uniform(0.0001, faults.longest_delay)
            if random.random() < faults.reorder:
                arrival += random.uniform(0, 10 * faults.longest_delay)
            else:
                arrival = self._last_arrival[host] = max(arrival, self._last_arrival[host])
            self.at(arrival, lambda: self._arrive(host, data))

    def store(self, key: str, content: bytes) -> None:
        self._contents[key] = content

    def content(self, host: SimulatedHost, key: str) -> Row | None:
        if self.random.random() < self.faults.content_loss:
            return None
        return host.frames.open_content(key, self._contents.get(key))

    def _arrive(self, host: str, data: bytes) -> None:
        if host in self.hosts:
            self.hosts[host].receive(data)
