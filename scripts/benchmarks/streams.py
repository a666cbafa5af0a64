"""What a token of a live output costs its writer, beside a bare awaited XADD, alone and with readers."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Final

import redis
from attrs import define, field

from duramen.actors import AgentHandle, AgentSystem

from .figures import Kind, Sample, Verdict, ratio_of
from .options import Options
from .rounds import Wrong, alternate, timed
from .servers import Server
from .tables import Group, number, rate_table

__all__ = ["measure"]

_SECONDS: Final = 60.0
_AT_MOST: Final = 1.5
_READERS: Final = 20
_TOKEN: Final = "word "
_TOKENS_A_CALL: Final = 8
"""Tokens of a round for each call of a block."""
_STREAM: Final = "floor:stream"
_AGENT: Final = "bench/agent"


def measure(options: Options, folder: Path) -> Group:
    tokens = options.block * _TOKENS_A_CALL
    with Server(folder) as server:
        floor, alone, followed = alternate(
            [
                AwaitedAdds(server=server, tokens=tokens),
                Streamed(server=server, tokens=tokens, readers=0),
                Streamed(server=server, tokens=tokens, readers=_READERS),
            ],
            options.rounds,
        )
    verdicts = []
    for series, what in ((alone, "alone"), (followed, f"with {_READERS} readers")):
        found = ratio_of(series, floor, lambda sample: sample.wall / sample.operations)
        cpu = ratio_of(series, floor, lambda sample: (sample.cpu + sample.server) / sample.operations)
        text = f"a token of a live output, {what}: the writer's time against a bare awaited XADD"
        remark = f"{number(cpu.middle)}×"
        verdicts.append(Verdict(text, found, at_most=_AT_MOST, remark=remark, short=f"token, {what}"))
    return Group(
        "streams",
        "Live output",
        f"Outputs of {tokens} tokens, from the first token until the last one is on the server, and the whole recorded "
        "in the log. The readers are threads of another system in this process, so that they take the writer's CPU.",
        (rate_table("Tokens of one writer", [floor, alone, followed], [("XADD", floor)], "tokens/s"),),
        tuple(verdicts),
        (floor, alone, followed),
    )


@define(kw_only=True)
class AwaitedAdds:
    """XADD of each token, awaited before the next."""

    server: Server
    tokens: int
    name: str = "redis-py: awaited XADD"
    note: str = "one connection"
    kind: Kind = "floor"
    _client: redis.Redis = field(init=False)
    _added: int = 0

    def prepare(self) -> None:
        self._client = self.server.client()

    def run(self) -> Sample:
        self._added += self.tokens
        return timed(self._add, self.server)

    def _add(self) -> int:
        for _ in range(self.tokens):
            self._client.xadd(_STREAM, {"t": _TOKEN})
        return self.tokens

    def verify(self) -> None:
        if self._client.xlen(_STREAM) != self._added:
            raise Wrong("not every token is in the stream")

    def close(self) -> None:
        self._client.close()


@define(kw_only=True)
class Streamed:
    """The tokens of a live output, written by one thread and sent by the system's."""

    server: Server
    tokens: int
    readers: int
    name: str = field(init=False)
    note: str = field(init=False)
    kind: Kind = "ours"
    _system: AgentSystem = field(init=False)
    _reading: AgentSystem = field(init=False)
    _agent: AgentHandle = field(init=False)
    _round: int = 0
    _recorded: int = 0

    def __attrs_post_init__(self) -> None:
        self.name = f"duramen: live output, {self.readers} readers" if self.readers else "duramen: live output"
        self.note = "threads that iterate" if self.readers else "nobody reads"

    def prepare(self) -> None:
        namespace = f"streams-{self.readers}"
        self._system = AgentSystem.open(self.server.url, namespace=namespace)
        self._reading = AgentSystem.open(self.server.url, namespace=namespace, host=False)
        self._agent = self._system.spawn(_AGENT)

    def run(self) -> Sample:
        self._round += 1
        output, counts = f"round-{self._round}", list[int]()
        threads = [threading.Thread(target=self._read, args=(output, counts)) for _ in range(self.readers)]
        for thread in threads:
            thread.start()
        sample = timed(lambda: self._write(output), self.server)
        for thread in threads:
            thread.join(_SECONDS)
        if counts != [self.tokens] * self.readers:
            raise Wrong("a reader has not seen every token")
        return sample

    def _write(self, output: str) -> int:
        with self._agent.stream(output) as out:
            for _ in range(self.tokens):
                out.write(_TOKEN)
        return self.tokens

    def _read(self, output: str, counts: list[int]) -> None:
        with self._reading.follow(_AGENT, output, timeout=_SECONDS) as follower:
            counts.append(sum(1 for _ in follower))

    def verify(self) -> None:
        texts = [event.data["data"]["text"] for event in self._system.events(_AGENT, from_seq=2)]
        if texts != [_TOKEN * self.tokens] * self._round:
            raise Wrong("not every output is recorded whole")

    def close(self) -> None:
        self._reading.close()
        self._system.close()
