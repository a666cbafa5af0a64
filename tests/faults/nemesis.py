"""Many followers of a fast stream while everything around them fails: each sees its exact suffix, once and in order.

What the tests do for some seconds can be done at full size by hand. From the folder above `tests`:

    PYTHONPATH=tests python -m faults.nemesis --followers 50 --rate 5000 --seconds 60 --seed 1

A writer's process paces a stream over many agents. Other processes follow it, five followers each: subscriptions with
callbacks and iterators that keep their cursor in a file, consumers with whole and keyed views, sinks in SQLite; a
third of the processes reaches the server through a proxy. Meanwhile, in an order that the seed decides, processes are
killed at random and between taking an event and storing that, followers are stopped and started, connections killed,
buffers overrun, the network cut, delayed and held, and the server killed and started again. The last event's notices
reach nobody, and half of the proxies hold all notices for good. Then every follower's account is compared with the
logs, which are read without the library.

It prints what it does and how long after the last acknowledgement the last follower was complete, and ends with 1 if
anything is wrong.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from time import monotonic
from typing import IO, Any

from attrs import define, field, frozen

from faults.evidence import Evidence
from faults.followers import PLACES
from faults.judgement import Judge, kept_of
from faults.proxy import FaultProxy
from servers import Server, redis_server, valkey_server
from streaming import Stream

__all__ = ["Child", "Outcome", "Size", "WriterProcess", "demonstrate", "environment", "told_of"]

FOLDER = Path(__file__).parent
CONSUMERS = ("whole", "keyed", "sink")
KINDS = ("callback", "whole", "iterator", "keyed", "values", "sink", "async", "batches")
SECONDS_TO_SETTLE = 60.0
QUIET_SECONDS = 1.5
SLOWEST = 3
ALARMS = ("Traceback", "callback_failed", "consumer_failed", "consumer_parked", "hub_failed", "subscription_ended")
"""What the processes never say, whatever happens around them."""


@frozen(kw_only=True)
class Size:
    followers: int
    rate: int
    """Events a second."""
    seconds: float
    each: int = 5
    """Followers in a process."""
    proxied: int = 3
    """Every so manieth process reaches the server through a proxy."""
    agents: int = 5
    """In a project; there are as many projects as processes."""
    pause: float = 0.5
    """Seconds between two faults, on average."""
    calm: float = 3.0
    """Seconds that the stream goes on when everybody is back: who has just been started reads what it has missed."""

    @property
    def projects(self) -> list[str]:
        return [f"project-{number}" for number in range(-(-self.followers // self.each))]

    @property
    def paths(self) -> list[str]:
        return [f"{project}/agent-{number}" for project in self.projects for number in range(self.agents)]


@frozen
class Outcome:
    problems: list[str]
    faults: Counter[str]
    summary: str


def told_of(number: int, size: Size, folder: Path) -> dict[str, Any]:
    """What a follower is told: every thirteenth follows all projects, the others one; some only a property."""
    process, place = divmod(number, size.each)
    kind = KINDS[number % len(KINDS)]
    project = None if number % 13 == 0 else size.projects[process]
    under = None if kind in CONSUMERS else "plan" if kind == "values" else (None, "plan", "status")[place % 3]
    agents = f"{project or '*'}/*"
    pattern = "**" if project is None else agents if kind in CONSUMERS else f"{agents}/**"
    if under is not None:
        pattern = f"{agents}/plan/**" if under == "plan" else f"{agents}/status"
    return {
        "name": f"f{number:02d}",
        "kind": kind,
        "pattern": pattern,
        "project": project,
        "under": under,
        "level": "STATE" if kind == "callback" else "TRACE",
        # Of a property nobody asks for the spawn, which is before the first subscription.
        "from_start": under is None and place % 2 == 0,
        "buffer": (1_000, 200)[place % 2],
        "path": str(folder / f"f{number:02d}.{'db' if kind == 'sink' else 'json'}"),
    }


def environment() -> dict[str, str]:
    """For processes that import what the tests import."""
    others = os.environ.get("PYTHONPATH")
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(FOLDER.parent), *([others] if others else [])])}


# -- processes ---------------------------------------------------------------------------------------------------------


@define(eq=False)
class Child:
    """A process of followers. Killed, it is started again; anything else that ends it is a problem."""

    place: Mapping[str, Any]
    log: IO[str]
    proxy: FaultProxy | None = None
    starts: int = 0
    problems: list[str] = field(factory=list[str])
    _process: subprocess.Popen[str] | None = None
    _answers: Stream | None = None
    _asked: int = 0

    @property
    def followers(self) -> list[Mapping[str, Any]]:
        found: list[Mapping[str, Any]] = self.place["followers"]
        return found

    @property
    def wide(self) -> bool:
        """Whether it hears of everything."""
        return any(told["pattern"] == "**" for told in self.followers)

    def start(self) -> None:
        command = [sys.executable, "-W", "ignore", str(FOLDER / "followers.py"), json.dumps(self.place)]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(
            command, stdin=pipe, stdout=pipe, stderr=self.log, text=True, env=environment()
        )
        assert self._process.stdout is not None
        self._answers = Stream(self._process.stdout.fileno())
        self.starts += 1

    def revive(self) -> bool:
        """Start it again if it has died; whether it had."""
        assert self._process is not None
        code = self._process.poll()
        if code is None:
            return False
        if code != -signal.SIGKILL:
            self.problems.append(f"a process of followers has ended by itself, with {code}; see its log")
        self.close()
        self.start()
        return True

    def signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def order(self, **order: Any) -> None:
        """Give an order and do not wait. One that is given to a process that has just died is lost."""
        assert self._process is not None
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps(order) + "\n")
            self._process.stdin.flush()

    def report(self) -> dict[str, Any]:
        """What its followers have seen by now. Where it dies before it answers, the next one is asked."""
        while True:
            self._asked += 1
            self.order(do="report", id=self._asked)
            assert self._answers is not None
            try:
                answer = json.loads(self._answers.line())
            except AssertionError:
                if self._process is None or self._process.wait(5) != -signal.SIGKILL:
                    raise
                self.revive()
                continue
            assert answer["id"] == self._asked
            found: dict[str, Any] = answer["followers"]
            return found

    def death(self, timeout: float) -> int:
        """How it has ended, within so many seconds."""
        assert self._process is not None
        return self._process.wait(timeout)

    def end(self) -> None:
        """Let it end by itself."""
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.close()
        assert self._process.wait(30) == 0, "a process of followers has failed at its end; see its log"
        self.close()

    def close(self) -> None:
        process = self._process
        if process is None:
            return
        process.kill()
        process.wait(30)
        for stream in (process.stdin, process.stdout):
            assert stream is not None
            with suppress(BrokenPipeError):
                stream.close()


class WriterProcess:
    """Writes the stream, from `start` to `finish`."""

    def __init__(self, place: Mapping[str, Any], log: IO[str]) -> None:
        command = [sys.executable, "-W", "ignore", str(FOLDER / "paced_writer.py"), json.dumps(place)]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=log, text=True, env=environment())
        assert self._process.stdout is not None
        self._answers = Stream(self._process.stdout.fileno())

    def writing(self) -> None:
        """Wait until all agents are there."""
        assert self._answers.line() == "writing"

    def finish(self) -> dict[str, Any]:
        """What it has written, when all is acknowledged."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        found: dict[str, Any] = json.loads(self._answers.line())
        return found

    def close(self) -> None:
        self._process.kill()
        self._process.wait(30)
        for stream in (self._process.stdin, self._process.stdout):
            assert stream is not None
            stream.close()


# -- what happens ------------------------------------------------------------------------------------------------------


@define(eq=False)
class Nemesis:
    """Deals one fault after the other from a shuffled deck, so that each comes again and again."""

    chance: random.Random
    server: Server
    children: Sequence[Child]
    say: Callable[[str], None]
    done: Counter[str] = field(factory=Counter[str])
    overrun: int = 0
    """Connections that the server has closed because their buffer was full."""
    _never: threading.Event = field(factory=threading.Event)
    _dealt: int = 0
    _deck: list[Callable[[], str]] = field(factory=list[Callable[[], str]])
    _stopped: list[tuple[Child, str]] = field(factory=list[tuple[Child, str]])

    def rage(self, seconds: float, pause: float) -> None:
        """For so long, and until each fault has come once."""
        until, self._deck = monotonic() + seconds, self._shuffled()
        dealt = len(self._deck)
        while monotonic() < until or self._dealt < dealt:
            self._dealt += 1
            self._rest(2 * pause * self.chance.random())
            self._revive()
            if not self._deck:
                self._deck = self._shuffled()
            act = self._deck.pop()
            self.done[act.__name__.strip("_")] += 1
            self.say(f"{act.__name__.strip('_').replace('_', ' ')}: {act()}")

    def make_peace(self) -> None:
        """Everything runs, and nothing is in its way."""
        for child in self.children:
            if child.proxy is not None:
                child.proxy.release()
        for child in self.children:
            child.order(do="live")
        for child, name in self._stopped:
            child.order(do="start", name=name)
        self._revive()

    def _rest(self, seconds: float) -> None:
        self._never.wait(seconds)

    def _revive(self) -> None:
        for child in self.children:
            if child.revive():
                self.done["died"] += 1

    def _shuffled(self) -> list[Callable[[], str]]:
        deck = [
            self._kill_process,
            self._kill_within,
            self._kill_within,
            self._kill_within,
            self._stop_follower,
            self._stop_follower,
            self._start_followers,
            self._kill_subscribers,
            self._kill_subscribers,
            self._kill_connections,
            self._overrun_buffers,
            self._sever,
            self._lose_requests,
            self._lose_replies,
            self._hold_bytes,
            self._delay_bytes,
            self._kill_server,
        ]
        self.chance.shuffle(deck)
        return deck

    # -- processes -----------------------------------------------------------------------------------------------------

    def _kill_process(self) -> str:
        child = self.chance.choice(self.children)
        child.signal(signal.SIGKILL)
        child.death(30)
        self._rest(self.chance.random() * 0.3)
        return child.followers[0]["name"]

    def _kill_within(self) -> str:
        child = self.chance.choice(self.children)
        told = self.chance.choice(child.followers)
        place = self.chance.choice(PLACES[told["kind"]])
        often = place in ("applied", "apply")
        after = self.chance.randint(1, 500 if often else 10)
        child.order(do="die", place=place, after=after)
        return f"{told['name']}, visit {after} of {place!r}"

    def _stop_follower(self) -> str:
        child = self.chance.choice(self.children)
        name = self.chance.choice(child.followers)["name"]
        child.order(do="stop", name=name)
        self._stopped.append((child, name))
        return str(name)

    def _start_followers(self) -> str:
        stopped, self._stopped = self._stopped, []
        for child, name in stopped:
            child.order(do="start", name=name)
        return str(len(stopped))

    # -- connections ---------------------------------------------------------------------------------------------------

    def _kill_subscribers(self) -> str:
        return self._kill_clients("pubsub")

    def _kill_connections(self) -> str:
        return self._kill_clients("normal")

    def _kill_clients(self, kind: str) -> str:
        with self.server.client() as opened:
            client: Any = opened
            return str(client.execute_command("CLIENT", "KILL", "TYPE", kind))

    def _overrun_buffers(self) -> str:
        """A process that does not read, at a server with little patience."""
        near = [child for child in self.children if child.wide and child.proxy is None]
        child = self.chance.choice(near)
        with self.server.client() as opened:
            client: Any = opened
            before = _overrun(client)
            client.config_set("client-output-buffer-limit", "pubsub 65536 32768 1")
            child.signal(signal.SIGSTOP)
            try:
                self._rest(1.0 + self.chance.random())
            finally:
                child.signal(signal.SIGCONT)
            client.config_set("client-output-buffer-limit", "pubsub 33554432 8388608 60")
            closed = _overrun(client) - before
        self.overrun += closed
        return f"{child.followers[0]['name']}, {closed} closed"

    # -- the network ---------------------------------------------------------------------------------------------------

    def _proxy(self) -> FaultProxy:
        return self.chance.choice([child.proxy for child in self.children if child.proxy is not None])

    def _sever(self) -> str:
        self._proxy().sever()
        return "all"

    def _lose_requests(self) -> str:
        count = self.chance.randint(1, 5)
        self._proxy().drop_request(self.chance.randint(1, 20), times=count)
        return str(count)

    def _lose_replies(self) -> str:
        count = self.chance.randint(1, 5)
        self._proxy().drop_reply(self.chance.randint(1, 20), times=count)
        return str(count)

    def _hold_bytes(self) -> str:
        """Nothing is closed, and nothing comes: of subscribers, of everybody else, or of all and in both directions."""
        proxy, seconds = self._proxy(), 0.3 + 1.5 * self.chance.random()
        what = self.chance.choice(["subscriptions", "answers", "everything"])
        if what == "everything":
            proxy.black_hole()
        else:
            proxy.hold_replies(containing=b"SUBSCRIBE" if what == "subscriptions" else b"")
            proxy.sever()
        self._rest(seconds)
        proxy.release()
        return f"{what} for {seconds:.1f} s"

    def _delay_bytes(self) -> str:
        proxy = self._proxy()
        for _ in range(5):
            proxy.black_hole()
            self._rest(0.1 * self.chance.random())
            proxy.release()
            self._rest(0.02)
        return "5 times up to 0.1 s"

    # -- the server ----------------------------------------------------------------------------------------------------

    def _kill_server(self) -> str:
        self.server.kill9()
        self._rest(self.chance.random() * 0.3)
        self.server.start(60)
        return "and started again"


def _overrun(client: Any) -> int:
    """Connections closed for a full buffer since the server was started; Redis before 7.2 does not say."""
    return int(client.info("stats").get("client_output_buffer_limit_disconnections", 0))


# -- the whole ---------------------------------------------------------------------------------------------------------


@define(eq=False)
class Demonstration:
    """Sets everything up in a folder, lets it run, and judges."""

    size: Size
    seed: int
    server: Server
    folder: Path
    say: Callable[[str], None]
    stack: ExitStack
    evidence: Evidence = field(init=False)
    log: IO[str] = field(init=False)
    children: list[Child] = field(factory=list[Child])

    def __attrs_post_init__(self) -> None:
        self.evidence = Evidence(self.server)
        self.log = self.stack.enter_context((self.folder / "log.txt").open("w"))

    def run(self) -> Outcome:
        size, chance = self.size, random.Random(self.seed)
        place = {**self._place(self.server.url), "agents": size.paths, "rate": size.rate, "seed": self.seed}
        writer = WriterProcess(place, self.log)
        self.stack.callback(writer.close)
        writer.writing()
        self._start_children()
        self._reports()  # each answers when all of its followers have begun
        nemesis = Nemesis(chance, self.server, self.children, self.say)
        nemesis.rage(size.seconds, size.pause)
        nemesis.make_peace()
        self._reports()
        threading.Event().wait(size.calm)
        for child in self.children:
            if child.proxy is not None and chance.random() < 0.5:
                child.proxy.hold_replies(containing=b"SUBSCRIBE")
        written = writer.finish()
        return self._judged(written, nemesis)

    def _place(self, url: str) -> dict[str, Any]:
        return {"url": url, "socket": self.server.socket_path, "namespace": self.evidence.namespace}

    def _start_children(self) -> None:
        told = [told_of(number, self.size, self.folder) for number in range(self.size.followers)]
        for number, first in enumerate(range(0, len(told), self.size.each)):
            proxy = None
            if number % self.size.proxied == self.size.proxied - 1:
                proxy = self.stack.enter_context(FaultProxy(self.server.socket_path))
            url = self.server.url if proxy is None else f"{proxy.url}?socket_timeout=2"
            child = Child({**self._place(url), "followers": told[first : first + self.size.each]}, self.log, proxy)
            self.stack.callback(child.close)
            self.children.append(child)
            child.start()

    def _reports(self) -> dict[str, Any]:
        return {name: report for child in self.children for name, report in child.report().items()}

    def _told(self) -> list[Mapping[str, Any]]:
        return [told for child in self.children for told in child.followers]

    def _settle(self) -> None:
        """Until nothing has come for a while, so that reading the logs takes no time away from followers."""
        never, until = threading.Event(), monotonic() + SECONDS_TO_SETTLE
        seen, since = None, monotonic()
        while monotonic() < until and monotonic() - since < QUIET_SECONDS:
            found = {name: report["seen"] for name, report in self._reports().items()}
            if found != seen:
                seen, since = found, monotonic()
            never.wait(0.5)

    def _judged(self, written: Mapping[str, Any], nemesis: Nemesis) -> Outcome:
        self._settle()
        judge = Judge.of(self.evidence, self.size.paths)
        problems = [problem for child in self.children for problem in child.problems]
        for agent, last in written["last"].items():
            if len(judge.logs[agent]) < last:
                problems.append(f"{agent}: {last} was acknowledged, and is not in the log")
        never, until = threading.Event(), monotonic() + SECONDS_TO_SETTLE
        while True:
            reports = self._reports()
            wrong = self._differences(judge, reports)
            if not wrong or monotonic() > until:
                break
            never.wait(0.2)
        for child in self.children:
            if child.proxy is not None:
                child.proxy.release()
        for child in self.children:
            child.end()
        problems += [line for line in self._said() if any(alarm in line for alarm in ALARMS)]
        return Outcome([*problems, *wrong], nemesis.done, self._summary(written, nemesis, reports))

    def _said(self) -> list[str]:
        return (self.folder / "log.txt").read_text().splitlines()

    def _differences(self, judge: Judge, reports: Mapping[str, Any]) -> list[str]:
        found: list[str] = []
        for told in self._told():
            found += judge.problems(told, reports[told["name"]])
            if told["kind"] in CONSUMERS:
                kept = judge.differences(told, kept_of(self.evidence, told), {})
                found += [f"{told['name']}, as it is stored: {difference}" for difference in kept]
        return found

    def _summary(self, written: Mapping[str, Any], nemesis: Nemesis, reports: Mapping[str, Any]) -> str:
        late = {name: max(0.0, report["at"] - written["at"]) for name, report in reports.items()}
        kinds = {told["name"]: f"{told['kind']} {told['pattern']}" for told in self._told()}
        order = sorted(late, key=lambda name: -late[name])
        views = [name for name in order if "saved_at" in reports[name]]
        others = [name for name in order if name not in views]

        def slowest(names: Sequence[str]) -> str:
            return ", ".join(f"{late[name]:.2f} s {name} ({kinds[name]})" for name in names[:SLOWEST])

        stored = max(report["saved_at"] - written["at"] for report in reports.values() if "saved_at" in report)
        seen = sum(entry[1] for report in reports.values() for entry in report["seen"].values())
        starts = sum(child.starts for child in self.children)
        return "\n".join(
            (
                f"seed {self.seed}: {written['events']:,} events in {written['seconds']:.1f} s, "
                f"{written['events'] / written['seconds']:,.0f} a second; {seen:,} seen by {len(reports)} followers",
                f"{starts} starts of {len(self.children)} processes, {nemesis.overrun} buffers overrun, "
                f"faults {dict(sorted(nemesis.done.items()))}, refused writes {written['errors']}",
                f"complete after the last acknowledgement: views {slowest(views)}; "
                f"subscriptions {slowest(others)}; half of all in {late[order[len(order) // 2]]:.2f} s",
                f"the last view stored in {max(0.0, stored):.2f} s; "
                f"the load was {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores",
            )
        )


def demonstrate(size: Size, seed: int, server: Server, say: Callable[[str], None] = print) -> Outcome:
    """Run it on a server that keeps what it has acknowledged. The folder with the log stays if something is wrong."""
    folder = Path(tempfile.mkdtemp(prefix="duramen-test-"))
    with ExitStack() as stack:
        began = monotonic()
        heard = Demonstration(size, seed, server, folder, lambda text: say(f"{monotonic() - began:6.1f} {text}"), stack)
        outcome = heard.run()
        say(outcome.summary)
    if outcome.problems:
        say(f"the log of the processes is {folder / 'log.txt'}")
    else:
        shutil.rmtree(folder)
    return outcome


def main() -> int:
    options = argparse.ArgumentParser(description="Followers of a stream while everything around them fails.")
    options.add_argument("--followers", type=int, default=50)
    options.add_argument("--rate", type=int, default=5_000, help="events a second")
    options.add_argument("--seconds", type=float, default=60.0)
    options.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1_000_000))
    options.add_argument("--server", choices=("valkey", "redis"), default="valkey")
    told = options.parse_args()
    size = Size(followers=told.followers, rate=told.rate, seconds=told.seconds)
    with (valkey_server if told.server == "valkey" else redis_server)(aof=True) as server:
        outcome = demonstrate(size, told.seed, server, lambda text: print(text, flush=True))
    for problem in outcome.problems:
        print(problem)
    return 1 if outcome.problems else 0


if __name__ == "__main__":
    sys.exit(main())
