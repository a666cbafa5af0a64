"""A process of several subscribers and consumers that prove what they have seen: run by `nemesis`.

    python followers.py '{"url": …, "socket": …, "namespace": …, "followers": [{"name": …, "kind": …, …}, …]}'

Each keeps, for every agent, `[first seq, count, last seq, running hash of seq and digest]`. That is equal to what the
log gives if and only if each event was seen once and in order. A subscriber keeps it in a file together with its
cursor, written in one step; a consumer's is its view.

Orders come as lines of JSON: `die` (kill yourself at the n-th visit of a place), `live` (do not), `stop` and `start`
one of them, `report`, which is answered with a line. The process ends at the end of its input.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sqlite3
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from hashlib import blake2b
from pathlib import Path
from time import monotonic
from typing import Any

import redis
from attrs import define, field

import msgpack
from duramen.actors import AgentSystem
from duramen.events import Cursor, DuramenError, Event, Granularity
from duramen.projections import MISSING, Change, KeyedProjection, Projection, Runner, Sink, Subscription

__all__ = ["PLACES", "PageResult", "heads_of", "noted", "rows_of"]

PageResult = dict[str, list[Any]]
"""By agent: first seq, count, last seq, hash."""

PLACES: Mapping[str, Sequence[str]] = {
    "callback": ("applied", "written", "saved"),
    "batches": ("applied", "written", "saved"),
    "iterator": ("applied", "written", "saved"),
    "async": ("applied", "written", "saved"),
    "values": ("applied", "written", "saved"),
    "whole": ("apply", "dump"),
    "keyed": ("apply", "dump"),
    "sink": ("before commit", "after commit"),
}
"""By kind of follower: where it can be killed between taking an event and having stored that it has."""

_SAVE_SECONDS = 0.25
# One step each: at every step Python lets other threads go first, which takes long where there is much to do.
_GET_ROWS = "SELECT json_group_object(agent, json(entry)) FROM seen WHERE agent IN (SELECT value FROM json_each(?))"
_PUT_ROWS = "INSERT OR REPLACE INTO seen SELECT key, value FROM json_each(?)"
_PAUSE = 0.1


class Death:
    """Comes at the n-th visit of a place."""

    def __init__(self) -> None:
        self._left: dict[str, int] = {}

    def arm(self, place: str, after: int) -> None:
        self._left[place] = after

    def disarm(self) -> None:
        self._left = {}

    def passes(self, place: str) -> None:
        if place in self._left:
            self._left[place] -= 1
            if self._left[place] <= 0:
                os.kill(os.getpid(), signal.SIGKILL)


def noted(entry: Sequence[Any] | None, seq: int, digest: bytes) -> list[Any]:
    """What is known of an agent after one more event."""
    first, count, before = (seq, 0, "") if entry is None else (entry[0], entry[1], entry[3])
    own = blake2b(bytes.fromhex(before) + seq.to_bytes(8) + digest, digest_size=16)
    return [first, count + 1, seq, own.hexdigest()]


def heads_of(client: Any, namespace: str) -> dict[str, int]:
    """The last seq of each agent, past the library."""
    partitions = int(client.hget(f"duramen:{{{namespace}}}", "partitions"))
    with client.pipeline(transaction=False) as pipeline:
        for number in range(partitions):
            pipeline.hgetall(f"duramen:{{{namespace}:{number:02d}}}:heads")
        found = pipeline.execute()
    return {
        agent.decode(): int(msgpack.unpackb(head, raw=True)[0])
        for heads in found
        for agent, head in heads.items()
        if b"/" in agent
    }


def rows_of(path: str) -> PageResult:
    """What is committed in a `Table`."""
    with closing(sqlite3.connect(path, timeout=30)) as database:
        return {agent: json.loads(entry) for agent, entry in database.execute("SELECT agent, entry FROM seen")}


def written(path: Path, content: Any, between: Callable[[], None]) -> None:
    """Put `content` in the place of what the file holds, in one step."""
    beside = path.with_suffix(".new")
    beside.write_text(json.dumps(content))
    between()
    beside.replace(path)


# -- subscribers -------------------------------------------------------------------------------------------------------


class Subscriber:
    """Goes on behind the cursor in its file. With `control` it makes the mistake of that name, which must be found."""

    def __init__(self, told: Mapping[str, Any], place: Mapping[str, Any], death: Death) -> None:
        self.told, self._place, self._death = told, place, death
        self._path = Path(told["path"])
        self._control = told.get("control")
        self.seen: PageResult = {}
        self.at = self.saved_at = 0.0
        self.problems: list[str] = []
        self.error = ""
        self._begun: dict[str, Any] = {}
        self._taken = 0
        self._subscription: Subscription | None = None
        self._ready = threading.Event()
        self._given_up = False
        self._thread: threading.Thread | None = None

    def start(self, system: AgentSystem) -> None:
        """Subscribe. Raises DuramenError or redis.RedisError; then another one may try."""
        kept = json.loads(self._path.read_text()) if self._path.exists() else None
        try:
            if kept is None:
                self._begin(system)
            else:
                self.seen, self._begun = kept["seen"], kept["begun"]
                self._subscribe(system, after=Cursor.from_text(kept["cursor"]))
        except BaseException:
            if self._subscription is not None:
                self._given_up = True
                self._ready.set()
                self._subscription.close()
            raise
        self._follow()

    def stop(self) -> None:
        if self._subscription is not None:
            assert self._subscription.close(30), "a callback hangs"
            if self._thread is not None:
                self._thread.join(30)
            self._save()

    def report(self) -> dict[str, Any]:
        subscription = self._subscription
        error = "" if subscription is None or subscription.error is None else repr(subscription.error)
        failures = 0 if subscription is None else subscription.failures
        return {
            "seen": dict(self.seen),
            "begun": self._begun,
            "at": self.at,
            "error": self.error or error or (f"{failures} calls have raised" if failures else ""),
            "problems": self.problems,
            "lag": 0 if subscription is None else subscription.lag,
        }

    def _begin(self, system: AgentSystem) -> None:
        """For the first time: note where all agents are, before and after."""
        with redis.Redis(unix_socket_path=self._place["socket"]) as client:
            before = heads_of(client, self._place["namespace"])
            self._subscribe(system, from_start=self.told["from_start"])
            after = heads_of(client, self._place["namespace"])
        self._begun = {} if self.told["from_start"] else {"before": before, "after": after}
        # Nothing was taken yet: a callback waits for `_follow`, and an iterator for its first step.
        self._save()

    def _subscribe(self, system: AgentSystem, **where: Any) -> None:
        kind = self.told["kind"]
        callback = {"callback": self._call, "values": self._call, "batches": self._call_batch}.get(kind)
        self._subscription = system.subscribe(
            self.told["pattern"],
            callback,
            granularity=Granularity[self.told["level"]],
            values=kind == "values",
            batches=kind == "batches",
            buffer=self.told["buffer"],
            **where,
        )

    def _follow(self) -> None:
        kind = self.told["kind"]
        if kind in ("iterator", "async"):
            work = self._iterate if kind == "iterator" else lambda: asyncio.run(self._iterate_async())
            self._thread = threading.Thread(target=self._guarded, args=(work,), daemon=True)
            self._thread.start()
        self._ready.set()

    def _guarded(self, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception as error:
            self.error = repr(error)

    def _iterate(self) -> None:
        assert self._subscription is not None
        for change in self._subscription:
            self._take(change)
            self._save_if_due()

    async def _iterate_async(self) -> None:
        assert self._subscription is not None
        async for change in self._subscription:
            self._take(change)
            self._save_if_due()

    def _call(self, change: Change) -> None:
        self._call_batch([change])

    def _call_batch(self, changes: list[Change]) -> None:
        assert self._ready.wait(60)
        if self._given_up:
            return
        # The cursor stands behind the changes of the last call: only here it fits what was seen.
        self._save_if_due()
        for change in changes:
            self._take(change)

    def _take(self, change: Change) -> None:
        self._taken += 1
        if self._control == "deaf" and self._taken == self.told["at"]:
            return
        entry = self.seen.get(change.agent)
        if entry is not None and change.seq <= entry[2]:
            self.problems.append(f"{change.agent}: {change.seq} after {entry[2]}")
        if (change.agent, change.seq, change.event.digest) != (
            change.event.agent,
            change.event.seq,
            change.event.digest,
        ):
            self.problems.append(f"{change.agent}: {change.seq} names another event")
        self.seen[change.agent] = noted(entry, change.seq, change.event.digest + _values(change))
        self.at = monotonic()
        self._death.passes("applied")

    def _save_if_due(self) -> None:
        if monotonic() - self.saved_at >= _SAVE_SECONDS:
            self._save()

    def _save(self) -> None:
        assert self._subscription is not None
        kept = {"seen": self.seen, "begun": self._begun, "cursor": self._subscription.cursor.to_text()}
        if self._control == "careless":  # what was seen, and how far it is, in two steps
            before = json.loads(self._path.read_text()) if self._path.exists() else kept
            written(self._path, {**kept, "cursor": before["cursor"]}, lambda: None)
            self._death.passes("between")
        written(self._path, kept, lambda: self._death.passes("written"))
        self._death.passes("saved")
        self.saved_at = monotonic()


def _values(change: Change) -> bytes:
    if change.values is None:
        return b""
    plain = [[path, *(None if value is MISSING else value for value in pair)] for path, pair in change.values.items()]
    return json.dumps(plain).encode()


# -- consumers ---------------------------------------------------------------------------------------------------------


@define(eq=False)
class Clock:
    """When something was last applied and stored. Beside the view, to measure: the view does not depend on it."""

    death: Death
    at: float = 0.0
    saved_at: float = 0.0

    def applied(self) -> None:
        self.at = monotonic()
        self.death.passes("apply")

    def dumped(self) -> None:
        self.saved_at = monotonic()
        self.death.passes("dump")


class Whole(Projection[Mapping[str, list[Any]]]):
    def __init__(self, clock: Clock) -> None:
        self.clock = clock

    def initial(self) -> Mapping[str, list[Any]]:
        return {}

    def apply(self, state: Mapping[str, list[Any]], event: Event) -> Mapping[str, list[Any]]:
        after = {**state, event.agent: noted(state.get(event.agent), event.seq, event.digest)}
        self.clock.applied()
        return after

    def dump(self, state: Mapping[str, list[Any]]) -> Any:
        self.clock.dumped()
        return dict(state)


class Keyed(KeyedProjection[list[Any]]):
    def __init__(self, clock: Clock) -> None:
        self.clock = clock

    def key(self, event: Event) -> str:
        return event.agent

    def apply(self, entry: list[Any] | None, event: Event) -> list[Any]:
        after = noted(entry, event.seq, event.digest)
        self.clock.applied()
        return after

    def dump(self, entry: list[Any]) -> Any:
        self.clock.dumped()
        return entry


class Table(Sink):
    """A row an agent, in SQLite."""

    def __init__(self, path: str, clock: Clock) -> None:
        self.path, self.clock = path, clock
        self.database = sqlite3.connect(path, check_same_thread=False, timeout=30, isolation_level=None)
        self.database.execute("PRAGMA journal_mode = WAL")
        self.database.execute("PRAGMA synchronous = OFF")  # processes are killed here, not the machine
        self.database.execute("CREATE TABLE IF NOT EXISTS seen (agent TEXT PRIMARY KEY, entry TEXT)")
        self.database.execute("CREATE TABLE IF NOT EXISTS cursors (name TEXT PRIMARY KEY, cursor BLOB)")

    def cursor(self, name: str) -> bytes | None:
        row = self.database.execute("SELECT cursor FROM cursors WHERE name = ?", (name,)).fetchone()
        return None if row is None else row[0]

    def write(self, name: str, events: Sequence[Event], *, after: bytes | None, cursor: bytes) -> None:
        with self.database:
            self.database.execute("BEGIN IMMEDIATE")
            if self.cursor(name) != after:
                raise self.fenced(name)
            self.database.execute(_PUT_ROWS, (json.dumps(self._folded(events)),))
            self.database.execute("INSERT OR REPLACE INTO cursors VALUES (?, ?)", (name, cursor))
            self.clock.death.passes("before commit")
        self.clock.at = self.clock.saved_at = monotonic() if events else self.clock.at
        self.clock.death.passes("after commit")

    def reset(self, name: str) -> None:
        raise AssertionError("nobody has asked for this")

    def close(self) -> None:
        self.database.close()

    def _folded(self, events: Sequence[Event]) -> PageResult:
        agents = json.dumps(list({event.agent for event in events}))
        changed: PageResult = json.loads(self.database.execute(_GET_ROWS, (agents,)).fetchone()[0])
        for event in events:
            changed[event.agent] = noted(changed.get(event.agent), event.seq, event.digest)
        return changed


class ConsumerOf:
    """A durable consumer; its view is in the store."""

    def __init__(self, told: Mapping[str, Any], place: Mapping[str, Any], death: Death) -> None:
        self.told = told
        self._clock = Clock(death)
        self._table: Table | None = None
        self._runner: Runner[Any] | None = None

    def start(self, system: AgentSystem) -> None:
        """Attach. Raises DuramenError, and can be called again then."""
        kind = self.told["kind"]
        if kind == "sink" and self._table is None:
            self._table = Table(self.told["path"], self._clock)
        projection: Any = {"whole": Whole, "keyed": Keyed}[kind](self._clock) if kind != "sink" else self._table
        self._runner = system.attach(
            projection,
            self.told["name"],
            agents=self.told["pattern"],
            granularity=Granularity[self.told["level"]],
        )

    def stop(self) -> None:
        if self._runner is not None:
            assert self._runner.close(30), "a consumer hangs"
        if self._table is not None:
            self._table.close()

    def report(self) -> dict[str, Any]:
        runner, clock = self._runner, self._clock
        if runner is None:
            return {"seen": {}, "begun": {}, "at": 0.0, "saved_at": 0.0, "error": "not attached", "problems": []}
        seen = rows_of(self._table.path) if self._table is not None else dict(runner.state)
        return {
            "seen": seen,
            "begun": {},
            "at": clock.at,
            "saved_at": clock.saved_at,
            "error": "" if runner.error is None else repr(runner.error),
            "problems": [],
            "status": runner.status,
        }


# -- the process -------------------------------------------------------------------------------------------------------


@define(eq=False)
class Process:
    system: AgentSystem
    death: Death
    followers: dict[str, Subscriber | ConsumerOf] = field(factory=dict[str, Subscriber | ConsumerOf])
    stopped: set[str] = field(factory=set[str])

    def start(self, told: Mapping[str, Any], place: Mapping[str, Any]) -> None:
        """Until it succeeds: the server may be away, or the network."""
        never = threading.Event()
        while True:
            is_consumer = told["kind"] in ("whole", "keyed", "sink")
            follower = (ConsumerOf if is_consumer else Subscriber)(told, place, self.death)
            try:
                follower.start(self.system)
            except (DuramenError, redis.RedisError):
                never.wait(_PAUSE)
            else:
                self.followers[told["name"]] = follower
                return

    def obey(self, order: Mapping[str, Any], place: Mapping[str, Any]) -> None:
        match order["do"]:
            case "die":
                self.death.arm(order["place"], order["after"])
            case "live":
                self.death.disarm()
            case "stop" if order["name"] not in self.stopped:
                self.followers[order["name"]].stop()
                self.stopped.add(order["name"])
            case "start" if order["name"] in self.stopped:
                self.start(self.followers[order["name"]].told, place)
                self.stopped.discard(order["name"])
            case "report":
                found = {name: follower.report() for name, follower in self.followers.items()}
                print(json.dumps({"id": order["id"], "followers": found}), flush=True)
            case _:
                pass  # to stop what is stopped, to start what runs: this is a new process


def opened(place: Mapping[str, Any]) -> AgentSystem:
    never = threading.Event()
    while True:
        try:
            return AgentSystem.open(place["url"], namespace=place["namespace"])
        except DuramenError:
            never.wait(_PAUSE)


def main() -> None:
    place = json.loads(sys.argv[1])
    with opened(place) as system:
        process = Process(system, Death())
        for told in place["followers"]:
            process.start(told, place)
        for line in sys.stdin:
            process.obey(json.loads(line), place)


if __name__ == "__main__":
    main()
