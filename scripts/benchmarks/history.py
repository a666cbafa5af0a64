"""Looking at the past of a long log beside a short one: steps, states, blame, forks; and folding all of it again."""

from __future__ import annotations

import random
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, cast

import redis
from attrs import define, evolve, field

import msgpack
from duramen.actors import AgentSystem
from duramen.events.codec.event_codec import DIGEST_SIZE
from duramen.events.helper_process import usable_cores
from duramen.projections import PastState, Replay
from duramen.projections.recorded import check_logs
from duramen.projections.recorded.workers.pool import helpers_for
from duramen.projections.recovery.keyframes import EVERY

from .figures import Kind, Sample, Series, Verdict, ratio_of
from .latency import middle
from .options import Options
from .recovery import fill
from .rounds import Wrong, alternate, timed, timed_calls
from .servers import Server
from .tables import Group, Table, latency_table, number, rate_table
from .throughput import cpu_ratio, rate
from .work import agent_name

__all__ = ["measure"]

_AGENT: Final = agent_name(0)
_SHORT: Final = 1_000
_STRIDE: Final = 400
"""Steps in one direction: more than are at hand, so that a walk has to fold anew."""
_PAGE: Final = 500
_MOST: Final = 1.5
_MOST_READ: Final = 2.0
_MOST_BLAME: Final = 4.0


def measure(options: Options, folder: Path) -> Group:
    looks = max(1, options.block // 5)
    with Server(folder) as server:
        logs = [_Log(server, "short", _SHORT), _Log(server, "long", options.grown_events)]
        for log in logs:
            fill(server, log.namespace, log.events, options.payload)
        walks = alternate([_Walk(log) for log in logs], options.rounds * 2)
        jumps = alternate([_Jumps(log, looks) for log in logs], options.rounds * 2)
        states = alternate(
            [_Pages(logs[1], looks), _Reads(logs[1], looks), _States(logs[1], looks), _Blames(logs[1], looks)],
            options.rounds,
        )
        forks = alternate([_Forks(log, looks) for log in logs], options.rounds * 2)
        again = alternate([_Decoded(logs[1]), _Folded(logs[1]), _FoldedTogether(logs[1])], options.rounds)
    return _group(options, walks, jumps, states, forks, again)


@define
class _Log:
    """A log of one agent that has made one mutation after the other, each with its number in the text."""

    server: Server
    namespace: str
    events: int

    def open(self) -> AgentSystem:
        return AgentSystem.open(self.server.url, namespace=self.namespace)

    @property
    def words(self) -> str:
        return f"a log of {self.events:,} events"

    def check(self, who: str, seq: int, found: PastState) -> None:
        """Raises Wrong unless it is the state at a seq: event 1 is the spawn, event 2 mutation 0."""
        number = seq - 2
        if found.seq != seq or not str(found.get(f"note-{number % 10}", "")).startswith(f"{number:09d} "):
            raise Wrong(f"{who}: another state than that of {seq}")


@define
class _Look:
    """Looks at one log, each time at places drawn by chance; what comes back is checked after each round."""

    log: _Log
    calls: int = 1
    kind: Kind = "ours"
    note: str = ""
    _system: AgentSystem = field(init=False)
    _random: random.Random = field(factory=lambda: random.Random(1))

    @property
    def name(self) -> str:
        raise NotImplementedError

    def prepare(self) -> None:
        self._system = self.log.open()
        if self.log.events >= 2 * EVERY and not self._system.log.archive.keyframes(_AGENT):
            raise Wrong(f"{self.log.words} has no keyframes")

    def seqs(self, margin: int = 2) -> list[int]:
        return [self._random.randint(margin, self.log.events - margin) for _ in range(self.calls)]

    def verify(self) -> None: ...

    def close(self) -> None:
        self._system.close()


# -- steps -------------------------------------------------------------------------------------------------------------


@define
class _Walk(_Look):
    """Forward, back past where it began, and forward again, from a place drawn by chance."""

    note: str = f"{_STRIDE} forward, {2 * _STRIDE} back, {_STRIDE} forward; some states are at hand, others folded anew"

    @property
    def name(self) -> str:
        return f"duramen: walking {self.log.words}"

    def run(self) -> Sample:
        (start,) = self.seqs(_STRIDE + 2)
        replay = self._system.replay(_AGENT)
        replay.seek(start)
        sample = timed(lambda: self._walk(replay), self.log.server)
        self.log.check(self.name, start, replay.state)
        return sample

    def _walk(self, replay: Replay) -> int:
        for move, count in ((replay.step, _STRIDE), (replay.back, 2 * _STRIDE), (replay.step, _STRIDE)):
            for _ in range(count):
                if move() is None:
                    raise Wrong(f"{self.name}: it ended at {replay.seq}")
        return 4 * _STRIDE


@define
class _Jumps(_Look):
    """A step somewhere, by somebody who has seen nothing of the log."""

    note: str = "a new replay each time: nothing is at hand, all is folded anew"

    @property
    def name(self) -> str:
        return f"duramen: a jump and a step in {self.log.words}"

    def run(self) -> Sample:
        return timed_calls([_after(self._jump, seq) for seq in self.seqs()], self.log.server)

    def _jump(self, seq: int) -> None:
        replay = self._system.replay(_AGENT)
        replay.seek(seq)
        found = replay.step() if seq % 2 else replay.back()
        if found is None or found[1].seq != seq + (1 if seq % 2 else -1):
            raise Wrong(f"{self.name}: no step from {seq}")


# -- states ------------------------------------------------------------------------------------------------------------


@define
class _States(_Look):
    note: str = "a keyframe, and the events since, checked and folded"

    @property
    def name(self) -> str:
        return "duramen: state_at a random seq"

    def run(self) -> Sample:
        return timed_calls([_after(self._look, seq) for seq in self.seqs()], self.log.server)

    def _look(self, seq: int) -> None:
        self.log.check(self.name, seq, self._system.state_at(_AGENT, seq))


@define
class _Blames(_Look):
    note: str = "the event that has set a value, at a random seq; somebody has asked before"

    @property
    def name(self) -> str:
        return "duramen: blame at a random seq"

    def prepare(self) -> None:
        super().prepare()
        self._system.keep_keyframes(_AGENT)

    def run(self) -> Sample:
        return timed_calls([_after(self._look, seq) for seq in self.seqs(12)], self.log.server)

    def _look(self, seq: int) -> None:
        oldest = seq - 9
        found = self._system.blame(_AGENT, f"note-{(oldest - 2) % 10}", seq)
        if found.seq != oldest:
            raise Wrong(f"{self.name}: {found.seq} and not {oldest}")


@define
class _Reads(_Look):
    note: str = "system.events(): each checked and made an Event"

    @property
    def name(self) -> str:
        return f"duramen: {EVERY:,} events read"

    def run(self) -> Sample:
        starts = [min(seq, self.log.events - EVERY + 1) for seq in self.seqs()]
        return timed_calls([_after(self._read, start) for start in starts], self.log.server)

    def _read(self, start: int) -> None:
        if len(list(self._system.events(_AGENT, from_seq=start, to_seq=start + EVERY - 1))) != EVERY:
            raise Wrong(f"{self.name}: events are missing from {start} on")


@define
class _Pages(_Look):
    kind: Kind = "floor"
    note: str = "nothing is checked"
    _client: redis.Redis = field(init=False)
    _key: str = ""

    @property
    def name(self) -> str:
        return f"redis-py: LRANGE of {EVERY:,} events + msgpack.unpackb"

    def prepare(self) -> None:
        super().prepare()
        self._client = self.log.server.client()
        self._key = self._system.log.log_key(_AGENT)

    def run(self) -> Sample:
        starts = [min(seq, self.log.events - EVERY + 1) for seq in self.seqs()]
        return timed_calls([_after(self._read, start) for start in starts], self.log.server)

    def _read(self, start: int) -> None:
        items = cast("list[bytes]", self._client.lrange(self._key, start - 1, start + EVERY - 2))
        if len([msgpack.unpackb(item[DIGEST_SIZE:]) for item in items]) != EVERY:
            raise Wrong(f"{self.name}: events are missing from {start} on")

    def close(self) -> None:
        self._client.close()
        super().close()


# -- forks -------------------------------------------------------------------------------------------------------------


@define
class _Forks(_Look):
    """Forks at seqs drawn by chance, each to a path of its own."""

    note: str = "at a random seq; state and first event of the fork are written in one step"
    _made: dict[str, int] = field(factory=dict[str, int])

    @property
    def name(self) -> str:
        return f"duramen: fork of {self.log.words}"

    def run(self) -> Sample:
        return timed_calls([_after(self._fork, seq) for seq in self.seqs()], self.log.server)

    def _fork(self, seq: int) -> None:
        target = f"fork/number-{len(self._made)}"
        self._system.fork(_AGENT, seq, to=target)
        self._made[target] = seq

    def verify(self) -> None:
        heads = {entry.agent: entry.head for entry in self._system.agents()}
        for path, seq in self._made.items():
            if path not in heads or (heads[path].base, heads[path].seq) != (seq, seq + 1):
                raise Wrong(f"{self.name}: {path} is no fork at {seq}")
            if self._system.state_at(path).memory != self._system.state_at(_AGENT, seq).memory:
                raise Wrong(f"{self.name}: {path} has another state than its origin at {seq}")
        if heads[_AGENT].seq != self.log.events:
            raise Wrong(f"{self.name}: the origin was changed")


# -- all of it again ---------------------------------------------------------------------------------------------------


@define
class _Decoded(_Pages):
    note: str = "in pages; no digest checked, nothing folded, nothing compared"

    @property
    def name(self) -> str:
        return "redis-py: LRANGE in pages + msgpack.unpackb"

    def run(self) -> Sample:
        return timed(self._read_all, self.log.server)

    def _read_all(self) -> int:
        count = 0
        while True:
            items: Any = self._client.lrange(self._key, count, count + _PAGE - 1)
            count += len([msgpack.unpackb(item[DIGEST_SIZE:]) for item in items])
            if len(items) < _PAGE:
                break
        if count != self.log.events:
            raise Wrong(f"{self.name}: {count} events were read")
        return count


@define
class _Folded(_Look):
    workers: int = 1
    note: str = (
        "as duramen verify --replay --workers 1 does: chain, types, fold, the states that are kept; with progress"
    )

    @property
    def name(self) -> str:
        return "duramen: a stored log folded again and compared"

    def run(self) -> Sample:
        before = _children()
        sample = timed(self._fold, self.log.server)
        return evolve(sample, cpu=sample.cpu + _children() - before)

    def _fold(self) -> int:
        told: list[int] = []
        (report,) = check_logs(
            self._system.log, [_AGENT], workers=self.workers, progress=lambda events, _: told.append(events)
        )
        if not report.ok or report.events != self.log.events or len(told) < self.log.events // 10_000:
            raise Wrong(f"{self.name}: {report.events} events, {len(report.differences)} differences")
        return report.events


@define
class _FoldedTogether(_Folded):
    """With the workers that the command takes by itself; their CPU is in the sample."""

    workers: int = field(factory=usable_cores)
    note: str = field(init=False)

    def __attrs_post_init__(self) -> None:
        many = helpers_for(self.log.events, self.workers)
        self.note = (
            f"as duramen verify --replay does by itself here: {many} processes, their start included"
            if many
            else "as duramen verify --replay does by itself here: too few processors or events for other processes"
        )

    @property
    def name(self) -> str:
        return "duramen: the same, on all processors"


def _children() -> float:
    """CPU seconds of the processes that this one has started, and that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _after(look: Callable[[int], None], seq: int) -> Callable[[], object]:
    return lambda: look(seq)


def _group(
    options: Options,
    walks: list[Series],
    jumps: list[Series],
    states: list[Series],
    forks: list[Series],
    again: list[Series],
) -> Group:
    long = f"{options.grown_events:,} events"
    bare, read, states_at, blamed = states
    anew, alone = ratio_of(jumps[1], jumps[0], middle), ratio_of(again[1], again[0], rate)
    verdicts = (
        Verdict(
            f"one step forward or back in a log of {long}: time against one of {_SHORT:,}",
            ratio_of(walks[1], walks[0], lambda sample: sample.wall / sample.operations),
            at_most=_MOST,
            remark=f"{_cpu(walks[1], walks[0])}; after a jump {number(anew.middle)}×",
            short=f"a step in {long}",
        ),
        Verdict(
            f"state_at a random seq of {long}: time against reading {EVERY:,} events",
            ratio_of(states_at, read, middle),
            at_most=_MOST_READ,
            remark=f"{_cpu(states_at, read)}; against the floor {number(ratio_of(states_at, bare, middle).middle)}×",
            short=f"state_at in {long}",
        ),
        Verdict(
            f"blame at a random seq of {long}: time against state_at",
            ratio_of(blamed, states_at, middle),
            at_most=_MOST_BLAME,
            remark=_cpu(blamed, states_at),
            short=f"blame in {long}",
        ),
        Verdict(
            f"fork of a log of {long}: time against one of {_SHORT:,}",
            ratio_of(forks[1], forks[0], middle),
            at_most=_MOST,
            remark=_cpu(forks[1], forks[0]),
            short=f"fork of {long}",
        ),
        Verdict(
            f"verify --replay of {long}: events/s against LRANGE + unpackb",
            ratio_of(again[2], again[0], rate),
            at_least=0.5,
            remark=f"{cpu_ratio(again[2], again[0])}; in one process {number(alone.middle)}×",
            short=f"verify --replay of {long}",
        ),
    )
    return Group(
        "history",
        "The past",
        "Of one agent that sets texts under ten keys; keyframes are those that it kept by itself. Places are drawn by "
        "chance, and what is found there is compared.",
        (
            rate_table("Steps a second", walks, [("the first", walks[0])], "steps/s"),
            latency_table("A jump to a random seq, and a step", [(jumps[0], jumps[1])], "the first"),
            _once(latency_table("The state at a random seq", [(bare, read), (bare, states_at), (bare, blamed)])),
            latency_table("A fork", [(forks[0], forks[1])], "the first"),
            rate_table("All of it again, events a second", again, [("floor", again[0])], "events/s"),
        ),
        verdicts,
        (*walks, *jumps, *states, *forks, *again),
    )


def _once(table: Table) -> Table:
    """Without the second row of the floor that both are compared with."""
    return evolve(table, rows=tuple(dict.fromkeys(table.rows)))


def _cpu(above: Series, below: Series) -> str:
    """As the ratio would be if only the CPU of caller and server counted."""
    found = ratio_of(above, below, lambda sample: (sample.cpu + sample.server) / sample.operations)
    return f"{number(found.middle)}×"
