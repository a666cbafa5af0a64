"""The battery: processes that share agents while everything around them fails, and what is wrong in the end.

    scripts/faults                          ten minutes, 10,000 agents, a seed of its own, which it prints
    scripts/faults --seconds 60 --seed 7    shorter, and the same faults in the same order again
    scripts/faults --only fill_memory       of the faults this one, or these
    scripts/faults --naive                  the control: callers that ask again without an id; it has to find that
    scripts/faults --naive clock, --naive key   controls: hosts that judge others by the time of day, or by keys with a
                                            time to live; it has to find that living hosts are declared dead

Hosts and clients call agents, each agent in its turn and a few more often, and note each call and its outcome.
Meanwhile, in an order that the seed decides, processes are killed, stopped, cut off from the server (now and then past
their lease), ended and started; requests and replies between them and the server are lost, with the connection; clocks
jump by an hour, or nothing runs in them while something holds the interpreter's lock; agents are taken over by force;
scripts are flushed, connections cut, memory is full while keys with a time to live are evicted, and the server is
killed, ended and held, now and then for 15 s. Then all calm down, the server's lists are read without the library, and
every operation is compared with them; no host may have been declared dead that lived and could reach the server.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from time import monotonic, time_ns
from typing import IO, Any

import redis
from attrs import asdict, define, field, frozen

import msgpack
from battery.checker import AgentLog, check_agent, check_fences, check_state
from battery.clock import VARIABLE, set_clock
from battery.consumer import NAME, Counts
from battery.history import Operation, read_histories
from battery.member import GIL_SECONDS, Place, path_of, pick_popular, spawn_early
from battery.naive import NAIVE
from duramen.actors import AgentSystem
from duramen.events import DuramenError
from faults.evidence import Evidence
from faults.proxy import FaultProxy
from servers import Server, valkey_server

__all__ = ["Outcome", "Size", "run_battery"]

TESTS = Path(__file__).parent.parent
_LEASE = 13.0
_LONGEST = 1.5
"""Faults go on for so many times as long where not all agents have had their turn, as on a busy machine."""
_RECENT = 20.0
_EXCUSING = 6.0
"""Of the last `_RECENT` seconds: whoever was silent for longer may be declared dead."""
_NOBODY = "nobody, since all hosts behind a proxy have ended"
_END_SECONDS = 300.0
_VIEW_SECONDS = 60.0


@frozen(kw_only=True)
class Size:
    seconds: float
    agents: int
    hosts: int = 4
    clients: int = 1
    callers: int = 6
    """Threads of calls in each process."""
    pause: float = 1.0
    """Seconds between two faults, in the mean."""
    naive: str | None = None
    """A control: see `Place`. One of leases ends as soon as a host has noticed that it was declared dead."""
    has_leases: bool = True
    """Whether faults also last longer than a lease."""
    only: tuple[str, ...] = ()
    """The faults that happen; none: all."""
    least: int = 0
    """How many faults there are in any case, also on a machine where each takes long."""


@frozen
class Outcome:
    problems: list[str]
    operations: Counter[str]
    """How often each kind of operation had each outcome."""
    faults: Counter[str]
    summary: str


@define(eq=False)
class Member:
    """One process of the battery."""

    place: Place
    log: IO[str]
    module: str = "battery.member"
    proxy: FaultProxy | None = None
    """What it reaches the server through."""
    process: subprocess.Popen[str] = field(init=False)
    is_ready: bool = False

    def __attrs_post_init__(self) -> None:
        set_clock(self.clock, 0)
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-W", "ignore", "-m", self.module, json.dumps(asdict(self.place))],
            env={**os.environ, "PYTHONPATH": str(TESTS), VARIABLE: str(self.clock)},
            stdout=subprocess.PIPE,
            stderr=self.log,
            text=True,
        )

    @property
    def clock(self) -> Path:
        return Path(self.place.history).with_suffix(".clock")

    def wait_until_ready(self) -> None:
        """Wait until it runs: a process that has just been started would die of SIGTERM."""
        assert self.process.stdout is not None
        if not self.is_ready:
            assert self.process.stdout.readline() == "ready\n", f"{self.place.name} did not start; see its log"
            self.is_ready = True

    def send_signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(30)

    def close(self) -> None:
        self.kill()
        if self.process.stdout is not None:
            self.process.stdout.close()


@define(eq=False)
class Battery:
    """Sets everything up in a folder, lets it run, and judges."""

    size: Size
    seed: int
    server: Server
    folder: Path
    say: Callable[[str], None]
    stack: ExitStack
    chance: random.Random = field(init=False)
    evidence: Evidence = field(init=False)
    log: IO[str] = field(init=False)
    members: list[Member] = field(factory=list[Member])
    consumer: Member = field(init=False)
    faults: Counter[str] = field(factory=Counter[str])
    problems: list[str] = field(factory=list[str])
    heads: dict[str, list[tuple[str, int]]] = field(factory=lambda: defaultdict(list))
    _names: int = 0
    _stored: dict[str, int] = field(factory=dict[str, int])
    """By agent: how many events there are in the end."""
    _never: threading.Event = field(factory=threading.Event)
    _silences: dict[str, list[tuple[float, float]]] = field(factory=lambda: defaultdict(list))
    """By process: when it was silent, and for how many seconds."""
    _excused: set[str] = field(factory=set[str])
    """Processes that were silent for so long that others may declare them dead."""

    def __attrs_post_init__(self) -> None:
        self.chance = random.Random(self.seed)
        self.evidence = Evidence(self.server)
        self._turns.touch()
        self.log = self.stack.enter_context((self.folder / "log.txt").open("w"))

    def run(self) -> Outcome:
        for number in range(self.size.hosts + self.size.clients):
            self._start(is_host=number < self.size.hosts)
        for member in self.members:
            member.wait_until_ready()
        with self._system() as system:
            spawn_early(system, self.size.agents)
        self.say("agents are there")
        self._start_consumer()
        self.consumer.wait_until_ready()
        with self._watching():
            self._rage()
            self._calm_down()
        operations = self._judge()
        return self._outcome(operations)

    def _start(self, *, is_host: bool) -> Member:
        member = self._process("h" if is_host else "c", is_host=is_host)
        self.members.append(member)
        return member

    def _start_consumer(self) -> None:
        self.consumer = self._process("v", is_host=False, module="battery.consumer")

    def _process(self, kind: str, *, is_host: bool, module: str = "battery.member") -> Member:
        self._names += 1
        name = f"{kind}{self._names}"
        proxy = None
        if is_host and self._names % 2:
            proxy = self.stack.enter_context(FaultProxy(self.server.address))
        place = Place(
            url=self.server.tcp_url if proxy is None else proxy.url,
            namespace=self.evidence.namespace,
            name=name,
            agents=self.size.agents,
            callers=self.size.callers,
            seed=self.seed,
            history=str(self.folder / f"{name}.jsonl"),
            turns=str(self._turns),
            is_host=is_host,
            naive=self.size.naive,
        )
        member = Member(place, self.log, module, proxy)
        self.stack.callback(member.close)
        return member

    # -- what happens ----------------------------------------------------------------------------------------------

    def _rage(self) -> None:
        begun, deck = monotonic(), self._shuffled()
        while not self._is_enough(monotonic() - begun) and not self._has_proof():
            self._never.wait(2 * self.size.pause * self.chance.random())
            self._notice_ends()
            if not deck:
                deck = self._shuffled()
            act = deck.pop()
            name = act.__name__.strip("_").replace("_", " ")
            self.faults[name] += 1
            self.say(f"{name}: {act()}")

    def _is_enough(self, seconds: float) -> bool:
        """Whether there were faults for long enough, enough of them, and all agents had their turn, if they ever do."""
        have_had_turns = self._turns.stat().st_size >= self.size.agents or seconds >= _LONGEST * self.size.seconds
        return seconds >= self.size.seconds and self.faults.total() >= self.size.least and have_had_turns

    @property
    def _turns(self) -> Path:
        return self.folder / "turns"

    def _has_proof(self) -> bool:
        """Whether a control of leases has shown what it is to show."""
        if self.size.naive not in NAIVE:
            return False
        return any('"buried"' in path.read_text() for path in self.folder.glob("*.jsonl"))

    def _shuffled(self) -> list[Callable[[], str]]:
        deck = [
            self._kill_host,
            self._kill_host,
            self._kill_client,
            self._kill_consumer,
            self._replace_host,
            self._add_or_end_host,
            self._stop_process,
            self._stop_process,
            self._take_over_by_force,
            self._take_over_by_force,
            self._flush_scripts,
            self._cut_connections,
            self._cut_subscriptions,
            self._hold_server,
            self._kill_server,
            self._end_server,
            self._jump_clock,
            self._jump_clock,
            self._cut_off_host,
            self._lose_requests,
            self._lose_replies,
            self._cut_proxy,
            self._fill_memory,
        ]
        if self.size.has_leases:
            deck += [
                self._stop_past_its_lease,
                self._cut_off_past_its_lease,
                self._hold_gil_past_its_lease,
                self._leave_server_away,
            ]
        if self.size.only:
            deck = [act for act in deck if act.__name__.strip("_") in self.size.only]
            assert deck, f"no fault has one of the names {self.size.only}"
        self.chance.shuffle(deck)
        return deck

    def _notice_ends(self) -> None:
        for member in list(self.members):
            code = member.process.poll()
            if code is not None:
                self.problems.append(f"{member.place.name} has ended by itself, with {code}; see its log")
                self.members.remove(member)
                self._start(is_host=member.place.is_host)

    def _pick(self, *, is_host: bool) -> Member:
        return self.chance.choice([one for one in self.members if one.place.is_host == is_host])

    def _end(self, member: Member) -> None:
        """Have a process end as a program does; what it says of its end is in its history."""
        if member in self.members:
            self.members.remove(member)

        def wait() -> None:
            try:
                member.wait_until_ready()
                member.send_signal(signal.SIGTERM)
                code = member.process.wait(_END_SECONDS)
            except subprocess.TimeoutExpired:
                self.problems.append(f"{member.place.name} did not end")
            except AssertionError as error:
                self.problems.append(str(error))
            else:
                if code != 0:
                    self.problems.append(f"{member.place.name} ended with {code}; see its log")

        waiting = threading.Thread(target=wait)
        waiting.start()
        self.stack.callback(waiting.join)

    def _kill(self, member: Member) -> str:
        self.members.remove(member)
        member.kill()
        started = self._start(is_host=member.place.is_host)
        return f"{member.place.name}, in its place {started.place.name}"

    def _kill_host(self) -> str:
        return self._kill(self._pick(is_host=True))

    def _kill_client(self) -> str:
        return self._kill(self._pick(is_host=False))

    def _kill_consumer(self) -> str:
        old = self.consumer
        old.kill()
        self._start_consumer()
        return f"{old.place.name}, in its place {self.consumer.place.name}"

    def _replace_host(self) -> str:
        old, new = self._pick(is_host=True), self._start(is_host=True)
        self._end(old)
        return f"{old.place.name} by {new.place.name}"

    def _add_or_end_host(self) -> str:
        hosts = [one for one in self.members if one.place.is_host]
        if len(hosts) > self.size.hosts:
            old = self._pick(is_host=True)
            self._end(old)
            return f"{old.place.name} ends"
        return f"{self._start(is_host=True).place.name} joins"

    def _stop_process(self) -> str:
        return self._stop(self.chance.choice(self.members), 3 * self.chance.random())

    def _stop_past_its_lease(self) -> str:
        return self._stop(self._pick(is_host=True), _LEASE)

    def _stop(self, member: Member, seconds: float) -> str:
        member.send_signal(signal.SIGSTOP)
        self._stay_silent(member, seconds)
        member.send_signal(signal.SIGCONT)
        return f"{member.place.name} for {seconds:.1f} s"

    def _stay_silent(self, member: Member, seconds: float) -> None:
        """Wait while a process cannot beat; it may be declared dead if it could not for most of a lease."""
        name, now = member.place.name, monotonic()
        silences = self._silences[name]
        silences.append((now, seconds))
        if sum(length for begun, length in silences if begun > now - _RECENT) > _EXCUSING:
            self._excused.add(name)
        self._never.wait(seconds)

    def _hold_gil_past_its_lease(self) -> str:
        member = self._pick(is_host=True)
        member.wait_until_ready()
        member.send_signal(signal.SIGUSR1)
        self._stay_silent(member, GIL_SECONDS)
        return f"of {member.place.name} for {GIL_SECONDS} s"

    def _cut_off_host(self) -> str:
        return self._cut_off(3 * self.chance.random())

    def _cut_off_past_its_lease(self) -> str:
        return self._cut_off(_LEASE)

    def _cut_off(self, seconds: float) -> str:
        """Let nothing pass between a host and the server, and close nothing; what was on its way arrives later."""
        found = self._pick_behind_proxy()
        if found is None:
            return _NOBODY
        member, proxy = found
        proxy.black_hole()
        self._stay_silent(member, seconds)
        proxy.release()
        return f"{member.place.name} for {seconds:.1f} s"

    def _pick_behind_proxy(self) -> tuple[Member, FaultProxy] | None:
        behind = [(one, one.proxy) for one in self.members if one.proxy is not None]
        return self.chance.choice(behind) if behind else None

    def _lose_requests(self) -> str:
        """Close connections in place of passing on a host's next scripts, mostly appends: none is run."""
        return self._strike(lambda proxy: proxy.drop_request(containing=b"EVALSHA", times=3))

    def _lose_replies(self) -> str:
        """Close connections in place of passing replies on: what was asked for is done, and nobody is told."""
        return self._strike(lambda proxy: proxy.drop_reply(containing=b"EVALSHA", times=3))

    def _cut_proxy(self) -> str:
        """Cut all connections of a host, wherever they are in the middle of."""
        return self._strike(FaultProxy.sever)

    def _strike(self, strike: Callable[[FaultProxy], object]) -> str:
        found = self._pick_behind_proxy()
        if found is None:
            return _NOBODY
        member, proxy = found
        strike(proxy)
        return f"of {member.place.name}"

    def _jump_clock(self) -> str:
        member, hours = self.chance.choice(self.members), self.chance.choice((-1, 0, 1))
        set_clock(member.clock, 3600 * hours)
        return f"of {member.place.name} to {hours:+} h"

    def _fill_memory(self) -> str:
        """Refuse what would be written, and evict whatever has a time to live."""
        seconds = 3 * self.chance.random()
        self._ask("CONFIG", "SET", "maxmemory-policy", "volatile-ttl", "maxmemory", "1")
        self._never.wait(seconds)
        self._ask("CONFIG", "SET", "maxmemory-policy", "noeviction", "maxmemory", "0")
        return f"for {seconds:.1f} s"

    def _take_over_by_force(self) -> str:
        numbers = [self.chance.randrange(self.size.agents) for _ in range(10)]
        numbers += [pick_popular(self.chance, self.size.agents) for _ in range(10)]
        paths = set(map(path_of, numbers))
        with suppress(DuramenError), self._system() as system:
            system.log.claim(sorted(paths), f"force-{self.chance.getrandbits(32):x}", time_ns() // 1000)
        return f"{len(paths)} agents"

    @contextmanager
    def _system(self) -> Iterator[AgentSystem]:
        with AgentSystem.open(self.server.tcp_url, namespace=self.evidence.namespace, host=False) as system:
            yield system

    def _flush_scripts(self) -> str:
        self._ask("SCRIPT", "FLUSH")
        return "all"

    def _cut_connections(self) -> str:
        return f"{self._ask('CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes')} of them"

    def _cut_subscriptions(self) -> str:
        return f"{self._ask('CLIENT', 'KILL', 'TYPE', 'pubsub')} of them"

    def _ask(self, *words: str) -> Any:
        with self.server.client() as client:
            return client.execute_command(*words)

    def _hold_server(self) -> str:
        seconds = 2 * self.chance.random()
        self.server.pause()
        self._never.wait(seconds)
        self.server.resume()
        return f"for {seconds:.1f} s"

    def _kill_server(self) -> str:
        self.server.kill9()
        return self._start_server()

    def _end_server(self) -> str:
        self.server.stop()
        return self._start_server()

    def _leave_server_away(self) -> str:
        self.server.kill9()
        return self._start_server(15.0)

    def _start_server(self, away: float | None = None) -> str:
        seconds = 3 * self.chance.random() if away is None else away
        self._never.wait(seconds)
        self.server.start()
        return f"away for {seconds:.1f} s"

    # -- heads, all the time -----------------------------------------------------------------------------------------

    @contextmanager
    def _watching(self) -> Iterator[None]:
        over = threading.Event()
        thread = threading.Thread(target=self._watch, args=(over,))
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def _watch(self, over: threading.Event) -> None:
        """Note how heads change: fences that go back, and logs."""
        while not over.wait(0.5):
            with suppress(redis.RedisError, OSError), self.server.client(socket_timeout=5) as client:
                self._note_heads(client)

    def _note_heads(self, client: Any) -> None:
        partitions = int(client.hget(f"duramen:{{{self.evidence.namespace}}}", "partitions") or 0)
        for number in range(partitions):
            rows = client.hgetall(f"duramen:{{{self.evidence.namespace}:{number:02d}}}:heads")
            for agent, row in rows.items():
                found = msgpack.unpackb(row, raw=True) if b"/" in agent else None
                if not isinstance(found, list):  # a count of the partition's, and no agent
                    continue
                seen, now = self.heads[agent.decode()], (found[3].decode(), found[0])
                if not seen or seen[-1] != now:
                    seen.append(now)

    # -- the end -----------------------------------------------------------------------------------------------------

    def _calm_down(self) -> None:
        self.say("all faults end")
        self._never.wait(3.0)
        self._notice_ends()
        if self.consumer.process.poll() is not None:
            self.problems.append(f"{self.consumer.place.name} has ended by itself; see its log")
        for member in list(self.members):
            self._end(member)
        self._end(self.consumer)
        self.stack.close()  # they have ended, or it is a problem

    def _judge(self) -> list[Operation]:
        read = read_histories(sorted(self.folder.glob("*.jsonl")))
        self.problems += read.problems
        self.problems += [f"{name} was declared dead, and lived" for name in read.buried if name not in self._excused]
        by_agent: dict[str, list[Operation]] = defaultdict(list)
        for one in read.operations:
            by_agent[one.agent].append(one)
        with self._system() as system:
            for agent, operations in by_agent.items():
                self._judge_agent(system, agent, operations)
            self._judge_view(system)
        for agent, seen in self.heads.items():
            self.problems += check_fences(agent, seen)
        return read.operations

    def _judge_agent(self, system: AgentSystem, agent: str, operations: Sequence[Operation]) -> None:
        try:
            events = self.evidence.events(agent)
        except AssertionError as error:  # the list itself is wrong
            self.problems.append(f"{agent}: {error}")
            return
        self._stored[agent] = len(events)
        log = AgentLog.of(events)
        self.problems += check_agent(agent, log, operations)
        if log.facts:
            self.problems += check_state(agent, log, system.agent(agent).get())

    def _judge_view(self, system: AgentSystem) -> None:
        """Compare the view, once its consumer has read everything, with what is stored."""
        runner = system.attach(Counts(), NAME)
        until = monotonic() + _VIEW_SECONDS
        while runner.status != "live" or runner.lag:
            if monotonic() > until:
                self.problems.append(f"the consumer is {runner.status} with lag {runner.lag} after {_VIEW_SECONDS} s")
                return
            self._never.wait(0.05)
        for agent, stored in self._stored.items():
            if not stored:
                continue
            seen = runner.state.get(agent)
            if seen != [stored, stored, 0]:
                self.problems.append(f"{agent}: the view has [events, last, gaps] {seen}, and {stored} are stored")

    def _outcome(self, operations: Sequence[Operation]) -> Outcome:
        counts: Counter[str] = Counter()
        for one in operations:
            counts[f"{one.kind} {'ok' if one.is_acknowledged else one.error or 'killed'}"] += 1
        done = sum(one.is_acknowledged for one in operations)
        took = max((one.ended or one.called) - one.called for one in operations) if operations else 0.0
        faults = ", ".join(f"{name} {count}" for name, count in sorted(self.faults.items()))
        summary = (
            f"seed {self.seed}: {len(operations)} operations, {done} acknowledged, the longest took {took:.1f} s; "
            f"{len({one.agent for one in operations}):,} of {self.size.agents:,} agents, {self._names} processes; "
            f"{faults}; "
            f"{len(self.problems)} problems"
        )
        return Outcome(self.problems, counts, self.faults, summary)


def run_battery(size: Size, seed: int, folder: Path, say: Callable[[str], None] = lambda text: None) -> Outcome:
    """Run it on a server of its own, whose writes are on the disk when they are acknowledged."""
    with valkey_server(tcp=True, aof=True) as server, ExitStack() as stack:
        return Battery(size, seed, server, folder, say, stack).run()


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="scripts/faults", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=600.0, help="how long faults happen")
    parser.add_argument("--agents", type=int, default=10_000)
    parser.add_argument("--hosts", type=int, default=4, help="processes that run agents, and call them")
    parser.add_argument("--clients", type=int, default=1, help="processes that only call")
    parser.add_argument("--callers", type=int, default=6, help="threads of calls in each process")
    parser.add_argument("--pause", type=float, default=1.0, help="seconds between two faults, in the mean")
    parser.add_argument("--seed", type=int, default=None, help="which faults, in which order")
    parser.add_argument("--only", nargs="+", default=(), metavar="FAULT", help="such as kill_host jump_clock")
    parser.add_argument(
        "--naive",
        nargs="?",
        const="callers",
        choices=("callers", *NAIVE),
        help="a control, which has to end with problems",
    )
    given = parser.parse_args()
    seed = random.SystemRandom().randrange(1 << 32) if given.seed is None else given.seed
    size = Size(
        seconds=given.seconds,
        agents=given.agents,
        hosts=given.hosts,
        clients=given.clients,
        callers=given.callers,
        pause=given.pause,
        naive=given.naive,
        only=tuple(given.only),
    )
    begun = monotonic()
    folder = Path(tempfile.mkdtemp(prefix="duramen-faults-"))
    print(f"seed {seed}, histories and logs in {folder}", flush=True)
    outcome = run_battery(size, seed, folder, lambda text: print(f"{monotonic() - begun:7.1f} {text}", flush=True))
    for what, count in sorted(outcome.operations.items()):
        print(f"{count:8} {what}")
    for problem in outcome.problems[:50]:
        print(f"PROBLEM {problem}")
    print(outcome.summary)
    return 1 if outcome.problems else 0


if __name__ == "__main__":
    raise SystemExit(main())
