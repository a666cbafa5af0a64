"""A crew of agents at work while its hosts are killed at random moments, and what is wrong in the end.

    scripts/faults crew                       200 agents, 200 kills of one host after another
    scripts/faults crew --hosts 2 --seed 7    two hosts, of which one is killed at a time

Each agent does one errand after the other: five steps, two of them side by side, a wait, a sleep, changes of its
memory, and a word to another agent. Besides, hosts with new code take over in the middle, the server is killed, and
some agents are paused and resumed, forked, cancelled and terminated in the middle of their errands. A ledger outside
says which steps began and ended, when and with which key. In the end it is compared with the logs: no step began
after its result was in the log, none is missing, all attempts of a step had one key; replies and memory are those of
an undisturbed run, each word was said once, and nothing is left unfinished.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import threading
from collections import Counter, defaultdict
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from time import monotonic
from typing import IO, Any, TypeVar

from attrs import define, field, frozen

from crew.hosts import PARTNERS, Errand, partner_of, registry_of, reply_of
from crew.ledger import check_keys, check_steps, read_ledger
from duramen.actors import AgentHandle, AgentSystem
from duramen.events import AgentExists, AgentNotRunning, DuramenError, InvalidMessage, WorkParked, WorkStopped
from servers import Server, valkey_server

__all__ = ["Outcome", "Size", "run_crew"]

_TESTS = Path(__file__).parent.parent
_PATIENCE = 120.0
"""Seconds after which a call, tried again and again, is given up."""
_NAMESPACE = "crew"
_APPROVALS = 0.5
"""How many approvals come before they are waited for."""
T = TypeVar("T")


@frozen(kw_only=True)
class Size:
    agents: int = 200
    kills: int = 200
    hosts: int = 1
    callers: int = 4
    life: float = 1.0
    """Seconds that a host lives, at most, from when it is ready."""
    step: float = 0.02
    """Seconds that a step takes, at most."""
    server_kills: int = 5


@frozen
class Outcome:
    problems: list[str]
    counts: Counter[str]
    summary: str


class Hosts:
    """The program that starts and kills hosts. One thread uses it."""

    def __init__(self, server: Server, folder: Path, log: IO[str]) -> None:
        place = {"url": server.url, "namespace": _NAMESPACE, "ledger": str(folder / "ledger")}
        self.living: dict[str, int] = {}
        """The version of the code of each host that lives."""
        self._count = 0
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-W", "ignore", "-m", "crew.hosts", json.dumps(place)],
            env={**os.environ, "PYTHONPATH": str(_TESTS)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )

    def start(self, version: int) -> None:
        self._count += 1
        name = f"h{self._count}"
        self._order("start", name, str(version))
        self._expect("ready", name)
        self.living[name] = version

    def kill(self, name: str) -> None:
        del self.living[name]
        self._order("kill", name)
        self._expect("killed", name)

    def _order(self, *words: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(" ".join(words) + "\n")
        self._process.stdin.flush()

    def _expect(self, *words: str) -> None:
        assert self._process.stdout is not None
        said = self._process.stdout.readline().split()
        if said != list(words):
            raise AssertionError(f"a host said {said}, not {words}; see its log")

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(30)
        self._process.stdout.close()


@define(eq=False)
class Run:
    size: Size
    seed: int
    server: Server
    folder: Path
    hosts: Hosts
    say: Callable[[str], None]
    over: threading.Event = field(factory=threading.Event)
    problems: list[str] = field(factory=list[str])
    counts: Counter[str] = field(factory=Counter[str])
    errands: dict[str, list[tuple[str, int, int]]] = field(factory=lambda: defaultdict(list))
    """By agent: name, version and work of the errands that were done, in order."""
    version: int = 1
    _lock: threading.Lock = field(factory=threading.Lock)
    _systems: dict[int, AgentSystem] = field(factory=dict[int, AgentSystem])

    def run(self, stack: ExitStack) -> None:
        for version in (1, 2):
            self._systems[version] = stack.enter_context(self._open(version))
        for _ in range(self.size.hosts):
            self.hosts.start(1)
        for path in PARTNERS:
            self._spawn_partner(path)
        threads = [
            threading.Thread(target=self._watched, args=(self._call, number)) for number in range(self.size.callers)
        ]
        threads.append(threading.Thread(target=self._watched, args=(self._be_rough, 0)))
        for thread in threads:
            thread.start()
        try:
            self._kill_all()
        finally:
            self.over.set()
            for thread in threads:
                thread.join()
        self._judge()

    def _open(self, version: int) -> AgentSystem:
        return AgentSystem.open(self.server.url, namespace=_NAMESPACE, host=False, registry=registry_of(version))

    @property
    def system(self) -> AgentSystem:
        """A client with the code of today."""
        return self._systems[self.version]

    def count(self, what: str) -> None:
        with self._lock:
            self.counts[what] += 1

    def _watched(self, act: Callable[[int], None], number: int) -> None:
        try:
            act(number)
        except Exception as error:
            self.problems.append(f"{act.__name__} {number} ended with {type(error).__name__}: {error}")

    def _insist(self, call: Callable[[], T], *final: type[DuramenError]) -> T:
        """Call until it comes to something; each call says which command it is."""
        until = monotonic() + _PATIENCE
        while True:
            try:
                return call()
            except DuramenError as error:
                if isinstance(error, (InvalidMessage, *final)) or monotonic() > until:
                    raise
                self.count(f"tried again: {type(error).__name__}")
                self.over.wait(0.02)
                if self.over.is_set():
                    threading.Event().wait(0.02)

    # -- the callers -----------------------------------------------------------------------------------------------

    def _call(self, number: int) -> None:
        """Let some of the agents do one errand after another."""
        chance = random.Random(f"{self.seed}/caller/{number}")
        paths = [path_of(agent) for agent in range(number, self.size.agents, self.size.callers)]
        for path in paths:
            self._spawn(path, "s")
        rounds = 0
        while not self.over.is_set() or not rounds:
            rounds += 1
            sent = [(path, self._send(path, f"e{rounds}", chance)) for path in paths]
            chance.shuffle(sent)
            for path, (version, work) in sent:
                self._approve(path, f"e{rounds}", work)
            for path, (version, work) in sent:
                reply = self._result(path, work)
                if reply != reply_of(path, f"e{rounds}", version):
                    self.problems.append(f"{path}: e{rounds} replied {reply}")
                self.errands[path].append((f"e{rounds}", version, work))
                self.count("errands")

    def _spawn_partner(self, path: str) -> None:
        self._insist(lambda: self.system.spawn(path, initial_state={"errands": []}, exist_ok=True))

    def _spawn(self, path: str, session: str | None) -> AgentHandle:
        return self._insist(lambda: self.system.spawn(path, agent_type="crew", session_id=session, exist_ok=True))

    def _send(self, path: str, errand: str, chance: random.Random) -> tuple[int, int]:
        version, message = self.version, Errand(errand, self.size.step * chance.random())
        system = self._systems[version]
        receipt = self._insist(lambda: system.agent(path).send(message, command_id=errand))
        if chance.random() < _APPROVALS:
            self._approve(path, errand, receipt.seq)
        return version, receipt.seq

    def _approve(self, path: str, errand: str, work: int) -> None:
        value = f"by {errand}"
        self._insist(
            lambda: self.system.agent(path).answer("approval", value, command_id=f"{errand}-approval", work=work)
        )

    def _result(self, path: str, work: int) -> Any:
        def ask() -> Any:
            try:
                return self.system.agent(path).result(work, timeout=10)
            except WorkParked as error:
                if "without getting on" not in str(error):
                    self.problems.append(f"{path}: {error}")
                    raise
                self.count("parked after five crashes, and retried")
                self.system.agent(path).retry(work)
                raise

        return self._insist(ask, WorkStopped)

    # -- agents that are treated roughly -----------------------------------------------------------------------------

    def _be_rough(self, _: int) -> None:
        """Cancel, terminate and fork agents in the middle of their errands."""
        chance = random.Random(f"{self.seed}/rough")
        number = 0
        while not self.over.is_set():
            number += 1
            path, errand = f"rough/a{chance.randrange(8)}", f"r{number}"
            handle = self._spawn(path, None)
            version, work = self._send(path, errand, chance)
            self.over.wait(chance.random() * 0.3)
            act = chance.choice([self._cancel, self._terminate, self._fork, self._pause])
            ended = act(handle, errand, work)
            try:
                if not ended:
                    self._approve(path, errand, work)
                reply = self._result(path, work)
            except WorkStopped:
                self.count("stopped in the middle")
                if not ended:
                    self.problems.append(f"{path}: {errand} was stopped by nobody")
            else:
                if reply != reply_of(path, errand, version):
                    self.problems.append(f"{path}: {errand} replied {reply}")

    def _cancel(self, handle: AgentHandle, errand: str, work: int) -> bool:
        with suppress(InvalidMessage):  # it has ended
            self._insist(lambda: handle.cancel(work, command_id=f"{errand}-cancel"))
        self.count("cancelled")
        return True

    def _terminate(self, handle: AgentHandle, errand: str, work: int) -> bool:
        def end() -> None:
            with suppress(AgentNotRunning):  # it was terminated by the call before
                handle.terminate(command_id=f"{errand}-end").raise_for_failure()

        self._insist(end)
        self.count("terminated")
        return True

    def _fork(self, handle: AgentHandle, errand: str, work: int) -> bool:
        to = f"forks/{errand}"
        with suppress(AgentExists):  # the call before has made it
            self._insist(lambda: self.system.fork(handle.path, to=to), AgentExists)
        if self._insist(lambda: self.system.agent(to).unfinished()):
            self.problems.append(f"{to} was forked with unfinished work")
        self.count("forked")
        return False

    def _pause(self, handle: AgentHandle, errand: str, work: int) -> bool:
        self._insist(lambda: handle.pause(errand, command_id=f"{errand}-pause"))
        self.over.wait(0.1)
        self._insist(lambda: handle.resume(errand, command_id=f"{errand}-resume"))
        self.count("paused and resumed")
        return False

    # -- what happens --------------------------------------------------------------------------------------------------

    def _old_hosts(self) -> list[str]:
        """The hosts with old code: they end first, since they keep agents whose new messages they cannot handle."""
        return [name for name, version in self.hosts.living.items() if version < self.version]

    def _kill_all(self) -> None:
        chance, never = random.Random(f"{self.seed}/kills"), threading.Event()
        kills = self.size.kills
        server_kills = set(chance.sample(range(kills), min(self.size.server_kills, kills)))
        for number in range(kills):
            never.wait(self.size.life * chance.random())
            if number == kills // 2:
                self.version = 2  # from here on, hosts that start have new code, and so have callers
                self.hosts.start(2)
            self.hosts.kill(chance.choice(self._old_hosts() or list(self.hosts.living)))
            self.count("hosts killed")
            if number in server_kills:
                self.server.kill9()
                self.server.start()
                self.count("server killed")
            if len(self.hosts.living) < self.size.hosts:
                self.hosts.start(self.version)
            if number % 20 == 19:
                self.say(f"{number + 1} kills, {self.counts['errands']} errands, {len(self.problems)} problems")
            if self.problems:
                break
        for name in self._old_hosts():
            self.hosts.start(self.version)
            self.hosts.kill(name)

    # -- the end -----------------------------------------------------------------------------------------------------

    def _judge(self) -> None:
        ledger = read_ledger(self.folder / "ledger")
        unfinished = self._insist(lambda: self.system.unfinished())
        self.problems += [f"{work.agent}: {work.work} is unfinished" for work in unfinished]
        told = Counter(errand for path in PARTNERS for errand in self._memory(path)["errands"])
        self.problems += [f"{errand} was told {count} times" for errand, count in told.items() if count > 1]
        for path in [path_of(agent) for agent in range(self.size.agents)]:
            self._judge_memory(path)
            missing = [name for name, *_ in self.errands[path] if not told[f"{path} {name}"]]
            self.problems += [f"{path} did not tell {partner_of(path)} of {name}" for name in missing]
        for agent in {agent for agent, *_ in ledger}:
            if not self.system.verify(agent).ok:
                self.problems.append(f"{agent}: its log is damaged")
            logged, problems = check_steps(agent, list(self.system.events(agent)), ledger)
            self.counts["steps logged"] += logged
            self.problems += problems
        self.problems += check_keys(ledger)
        begun = [sum(line.what == "begin" for line in lines) for lines in ledger.values()]
        self.counts["steps begun"] += sum(begun)
        self.counts["steps repeated"] += sum(begun) - len(begun)

    def _memory(self, path: str) -> Any:
        return self._insist(lambda: self.system.agent(path).get())

    def _judge_memory(self, path: str) -> None:
        memory = self._memory(path)
        names = [name for name, _, _ in self.errands[path]]
        replies = [reply_of(path, name, 1) for name in names]
        last = replies[-1][0] if replies else None
        expected = {"one": last, "pairs": [reply[1] for reply in replies], "done": names}
        if {**memory, "drawn": None} != {**expected, "drawn": None}:
            self.problems.append(f"{path}: its memory is {memory}")


def path_of(agent: int) -> str:
    return f"p{agent % 16}/a{agent}"


def run_crew(size: Size, seed: int, folder: Path, say: Callable[[str], None] = lambda text: None) -> Outcome:
    """Run it on a server of its own, whose writes are on the disk when they are acknowledged."""
    begun = monotonic()
    with valkey_server(aof=True) as server, (folder / "log.txt").open("w") as log, ExitStack() as stack:
        hosts = Hosts(server, folder, log)
        stack.callback(hosts.close)
        run = Run(size, seed, server, folder, hosts, say)
        run.run(stack)
    counts = ", ".join(f"{what} {count}" for what, count in sorted(run.counts.items()))
    summary = f"seed {seed}, {size.agents} agents, {monotonic() - begun:.0f} s: {counts}; {len(run.problems)} problems"
    return Outcome(run.problems, run.counts, summary)


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="scripts/faults crew", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--agents", type=int, default=200)
    parser.add_argument("--kills", type=int, default=200, help="how often a host is killed")
    parser.add_argument("--hosts", type=int, default=1)
    parser.add_argument("--life", type=float, default=1.0, help="seconds between two kills, at most")
    parser.add_argument("--seed", type=int, default=None, help="of the moments; threads go their own way all the same")
    given = parser.parse_args()
    seed = random.SystemRandom().randrange(1 << 32) if given.seed is None else given.seed
    folder = Path(tempfile.mkdtemp(prefix="duramen-crew-"))
    begun = monotonic()
    print(f"seed {seed}, ledger and log in {folder}", flush=True)
    size = Size(agents=given.agents, kills=given.kills, hosts=given.hosts, life=given.life)
    outcome = run_crew(size, seed, folder, lambda text: print(f"{monotonic() - begun:7.1f} {text}", flush=True))
    for problem in outcome.problems[:50]:
        print(f"PROBLEM {problem}")
    print(outcome.summary)
    return 1 if outcome.problems else 0


if __name__ == "__main__":
    raise SystemExit(main())
