"""Hosts that own, ask, release, pause, die and are buried, on the simulated network and one log, under one seed.

Links, lease, store and log are the real ones; what stands between them, routing, is the protocol in its smallest form.
Calls of the server take time; their replies are lost, and copies of them arrive late. `History` is what happened, and
`problems` what must not have.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from functools import partial
from itertools import count
from typing import Any, Protocol

from attrs import define, evolve, field, frozen

import msgpack
from duramen.actors.hosts import BEAT_SECONDS, LEASE_SECONDS, SUSPENDED_SECONDS, LeaseJudge
from duramen.events.codec import NO_DIGEST
from duramen.events.log import Answer, Append, Head, HostRecord, Owner, Status
from duramen.events.memory import MemoryLog
from simulated_network import Faults, SimulatedHost, SimulatedNetwork

__all__ = ["History", "Rules", "TimeToLive", "run_owners"]

AGENTS = ("acme/alice", "acme/bob")
_RETRY = 0.3
"""Seconds after which a call without a reply is sent again."""


class Judge(Protocol):
    def look(self, records: Iterable[HostRecord], now: float) -> list[HostRecord]: ...


class TimeToLive:
    """The control: a lease that ends by the server's clock, whatever that does."""

    def __init__(self) -> None:
        self._ends: dict[str, tuple[int, float]] = {}

    def look(self, records: Iterable[HostRecord], now: float) -> list[HostRecord]:
        ended: list[HostRecord] = []
        for record in records:
            beat, ends = self._ends.get(record.host, (-1, 0.0))
            if beat != record.beat:
                beat, ends = self._ends[record.host] = record.beat, now + LEASE_SECONDS
            if now >= ends and not record.has_ended:
                ended.append(record)
        return ended


@frozen
class Rules:
    """The protocol, and what the controls leave out of it."""

    judge: Callable[[], Judge] = LeaseJudge
    claims_last: bool = True
    """False: an agent is claimed before it is folded, and whatever stands there."""
    releases_as_held: bool = True
    """False: a release gives up whatever the host has by then."""
    resends_in_order: bool = True
    """False: a message that came to the wrong host is sent again by itself."""
    begins_confirmed: bool = True
    """False: an agent begins as soon as it is claimed, whether or not its host is known to live."""
    drops_former: bool = True
    """False: what was sent to a host is done, too, by the host that its process goes on as."""
    doubts_buried: bool = True
    """False: a message of a host that was declared dead counts as sent for the first time, though it may be done."""


@define
class History:
    """What happened: commands by client and number, with the agent they were for."""

    sent: dict[tuple[str, int], str] = field(factory=dict)
    acknowledged: dict[tuple[str, int], int] = field(factory=dict)
    alive: set[str] = field(factory=set)
    """Clients that have not died."""
    beats: dict[str, float] = field(factory=dict)
    """When each host last beat on the server."""
    wrong: list[str] = field(factory=list)
    """What was seen to be wrong when it happened."""
    claims: int = 0
    releases: int = 0
    burials: int = 0
    fenced: int = 0

    def problems(self, log: MemoryLog) -> list[str]:
        found = list(self.wrong)
        for agent in AGENTS:
            marks = marks_of(log, agent)
            if len(set(marks)) < len(marks):
                found.append(f"{agent}: a command stands twice in the log")
            for client in {client for client, _ in marks}:
                numbers = [number for one, number in marks if one == client]
                if numbers != sorted(numbers):
                    found.append(f"{agent}: the commands of {client} stand in another order: {numbers}")
            for command, seq in self.acknowledged.items():
                if self.sent[command] == agent and marks[seq - 2 : seq - 1] != [command]:
                    found.append(f"{agent}: {command} was acknowledged at {seq}, where it does not stand")
        lost = [one for one in self.sent if one[0] in self.alive and one not in self.acknowledged]
        if lost:
            found.append(f"never answered: {lost}")
        return found


def marks_of(log: MemoryLog, agent: str) -> list[tuple[str, int]]:
    """Client and number of each event after the first, which made the agent."""
    page = log.read(agent, 1, 100_000)
    assert page is not None
    found: list[tuple[str, int]] = []
    for item in page.items[1:]:
        client, number = msgpack.unpackb(item[16:])
        found.append((client, number))
    return found


@define(eq=False)
class _Held:
    epoch: int
    fence: str
    seq: int
    digest: bytes
    marks: dict[tuple[str, int], int]
    queue: list[_Ask] = field(factory=list)
    busy: bool = False
    """Whether an append is under way, or the release."""
    begun: bool = False
    """Whether a beat has gone through after the claim, or shortly before."""


@frozen
class _Ask:
    sender: str
    """The id of the host that asked."""
    client: str
    number: int
    attempt: int
    repeated: bool
    """Whether it may have been done before. Only then is it looked for in the log."""


@define(eq=False)
class _Route:
    target: str | None = None
    attempt: int = 0
    looking: bool = False


class _Node:
    """One process: a client of its own commands, and a host under one id after the other."""

    def __init__(self, world: _World, name: str) -> None:
        self.world = world
        self.name = name
        self.dead_hosts: set[str] = set()
        self.pending: dict[str, list[int]] = {agent: [] for agent in AGENTS}
        self.lost: set[int] = set()
        """Commands whose host died, that of this process included, before it had answered."""
        self.routes = {agent: _Route() for agent in AGENTS}
        self.ended = False
        self.late = 0.0
        """Seconds from when it goes on after a pause to its first beat."""
        self._ids = count(1)
        self._numbers = count(1)
        self._open()
        self._beaten_at = world.network.now
        world.store.join(HostRecord(self.id))
        world.after(world.network.random.uniform(0, BEAT_SECONDS), self._round)

    def _open(self) -> None:
        self.id = f"{self.name}{next(self._ids)}"
        self.judge = self.world.rules.judge()
        self.holds: dict[str, _Held] = {}
        self.waiting: dict[str, list[_Ask]] = {}
        self.highest: dict[tuple[str, str], int] = defaultdict(int)
        self.endpoint: SimulatedHost = self.world.network.add_host(self.id, partial(self._deliver, self.id))

    @property
    def paused_until(self) -> float:
        return self.endpoint._paused_until

    def pause(self, seconds: float) -> None:
        """Stop, mostly in the middle of something."""
        if self.world.network.random.random() < 0.7:
            self.command(next(iter(self.holds), AGENTS[0]))
        self.endpoint.pause(seconds)

    def die(self) -> None:
        self.ended = True
        self.world.network.hosts.pop(self.id, None)
        self.world.history.alive.discard(self.name)

    # -- the server ------------------------------------------------------------------------------------------------

    def call(self, act: Callable[[], Any], then: Callable[[Any], None]) -> None:
        """Ask the server. `then` is not called if this host has another id by then."""
        world, host, random = self.world, self.id, self.world.network.random

        def arrive(result: Any) -> None:
            if self.ended or self.id != host:
                return
            if not self.endpoint.runs:
                world.network.at(self.paused_until, partial(arrive, result))
                return
            then(result)

        def leave() -> None:
            # A process that is stopped between what it has decided and what it sends sends it when it goes on.
            if self.endpoint.runs or random.random() < 0.5:
                execute()
            else:
                world.network.at(self.paused_until + world.delay(), execute)

        def execute() -> None:
            result, faults = act(), world.network.faults
            if random.random() < faults.repeat:
                world.after(random.uniform(0, 5), act)
            if random.random() < faults.loss:
                world.after(_RETRY, execute)
            else:
                world.after(world.delay(), partial(arrive, result))

        world.after(world.delay(), leave)

    # -- beats -----------------------------------------------------------------------------------------------------

    def _round(self) -> None:
        if self.ended:
            return
        if not self.endpoint.runs:
            self.world.network.at(self.paused_until + self.late, self._round)
            return
        self.world.after(BEAT_SECONDS, self._round)
        sent = self.world.network.now
        self.call(partial(self.world.beat, self.id), partial(self._beaten, sent))

    def _beaten(self, sent: float, beat: int | None) -> None:
        if beat is None:
            self._join_again()
            return
        self.call(self.world.store.hosts, partial(self._look, sent))

    def _look(self, beaten_at: float, records: list[HostRecord]) -> None:
        for record in self.judge.look(records, self.world.clock()):
            if record.host != self.id:
                bury = partial(self.world.bury, record.host, record.beat)
                self.call(bury, partial(self._buried, record.host))
        for record in records:
            if record.has_ended:
                self._note_dead(record.host)
        self._beaten_at = beaten_at
        for agent in list(self.holds):
            self._work(agent)

    def _buried(self, host: str, is_dead: bool) -> None:
        if is_dead:
            self._note_dead(host)

    def _note_dead(self, host: str) -> None:
        if host in self.dead_hosts or host == self.id:
            return
        self.dead_hosts.add(host)
        self.endpoint.links.forget(host)
        for agent, route in self.routes.items():
            if route.target == host:
                self.lost.update(self.pending[agent])
                self._route_again(agent)

    def _join_again(self) -> None:
        old, waiting = self.id, self.waiting
        self.world.network.hosts.pop(old, None)
        self.dead_hosts.add(old)
        self._open()
        for host in self.dead_hosts:
            self.endpoint.links.forget(host)
        self.world.store.join(HostRecord(self.id))
        for route in self.routes.values():
            route.looking = False
        for agent in AGENTS:
            self.lost.update(self.pending[agent])
            self._route_again(agent)
        if not self.world.rules.drops_former:
            for agent, asks in waiting.items():
                for ask in asks:
                    if ask.client != self.name:
                        self._handle_ask(agent, ask)

    # -- asking ----------------------------------------------------------------------------------------------------

    def command(self, agent: str) -> None:
        if self.ended:
            return
        if not self.endpoint.runs:
            self.world.network.at(self.paused_until, partial(self.command, agent))
            return
        number = next(self._numbers)
        self.world.history.sent[self.name, number] = agent
        self.pending[agent].append(number)
        route = self.routes[agent]
        if route.target is None:
            self._find(agent)
        else:
            self._ask(agent, number)

    def _route_again(self, agent: str) -> None:
        self.routes[agent].target = None
        if self.pending[agent]:
            self._find(agent)

    def _find(self, agent: str) -> None:
        route = self.routes[agent]
        if not route.looking:
            route.looking = True
            self.call(partial(self.world.look, agent), partial(self._found, agent))

    def _found(self, agent: str, found: tuple[Owner, bool]) -> None:
        owner, lives = found
        route = self.routes[agent]
        route.looking = False
        route.target = owner.host if lives and owner.host not in self.dead_hosts else self.id
        route.attempt += 1
        for number in list(self.pending[agent]):
            self._ask(agent, number)

    def _ask(self, agent: str, number: int) -> None:
        route = self.routes[agent]
        assert route.target is not None
        ask = _Ask(self.id, self.name, number, route.attempt, number in self.lost)
        if route.target == self.id:
            self._handle_ask(agent, ask)
        else:
            self._send(route.target, ["ask", agent, self.name, number, route.attempt, ask.repeated])

    def _send(self, peer: str, row: list[Any]) -> None:
        if peer not in self.dead_hosts:
            self.endpoint.send(peer, row, bounded=False)

    def _deliver(self, host: str, sender: str, row: list[Any]) -> None:
        if self.ended or (host != self.id and (self.world.rules.drops_former or row[0] != "ask")):
            return
        match row:
            case ["ask", str(agent), str(client), int(number), int(attempt), bool(repeated)]:
                self._handle_ask(agent, _Ask(sender, client, number, attempt, repeated))
            case ["reply", str(agent), int(number), int(seq)]:
                self._replied(agent, number, seq)
            case ["not_mine", str(agent), int(number), int(attempt)]:
                self._not_mine(agent, number, attempt)
            case _:
                raise AssertionError(row)

    def _replied(self, agent: str, number: int, seq: int) -> None:
        if number in self.pending[agent]:
            self.pending[agent].remove(number)
            self.world.history.acknowledged[self.name, number] = seq

    def _not_mine(self, agent: str, number: int, attempt: int) -> None:
        if not self.world.rules.resends_in_order:
            if number in self.pending[agent]:  # the control: this one alone, wherever the owner is by then
                self.call(partial(self.world.look, agent), partial(self._ask_alone, agent, number))
        elif attempt == self.routes[agent].attempt:
            self._route_again(agent)

    def _ask_alone(self, agent: str, number: int, found: tuple[Owner, bool]) -> None:
        owner, lives = found
        self.routes[agent].target = owner.host if lives and owner.host not in self.dead_hosts else self.id
        self._ask(agent, number)

    # -- owning ----------------------------------------------------------------------------------------------------

    def _handle_ask(self, agent: str, ask: _Ask) -> None:
        if self.world.rules.resends_in_order:
            if ask.attempt < self.highest[ask.client, agent]:
                return
            self.highest[ask.client, agent] = ask.attempt
        ask = self._doubted(ask)
        held = self.holds.get(agent)
        if held is not None:
            held.queue.append(ask)
            self._work(agent)
        elif agent in self.waiting:
            self.waiting[agent].append(ask)
        else:
            self.waiting[agent] = [ask]
            self._activate(agent)

    def _activate(self, agent: str) -> None:
        if self.world.rules.claims_last:
            self.call(partial(self.world.look, agent), partial(self._looked, agent))
        else:
            self.call(partial(self.world.seize, agent, self.id), partial(self._seized, agent))

    def _looked(self, agent: str, found: tuple[Owner, bool]) -> None:
        owner, lives = found
        if owner.host != self.id and lives:
            for ask in self.waiting.pop(agent, ()):
                self._refuse(agent, ask)
            return
        self.call(partial(self.world.fold, agent), partial(self._folded, agent, owner))

    def _folded(self, agent: str, owner: Owner, folded: tuple[Head, dict[tuple[str, int], int]]) -> None:
        head, marks = folded
        self.call(partial(self.world.claim, agent, owner, head, self.id), partial(self._claimed, agent, marks))

    def _claimed(self, agent: str, marks: dict[tuple[str, int], int], answer: Any) -> None:
        if not answer.claimed:
            self._activate(agent)
            return
        head = answer.head
        queue = self.waiting.pop(agent, [])
        self.holds[agent] = _Held(answer.owner.epoch, head.fence, head.seq, head.digest, marks, queue)
        self._work(agent)

    def _seized(self, agent: str, head: Head) -> None:
        def hold(folded: tuple[Head, dict[tuple[str, int], int]]) -> None:
            there, marks = folded
            queue = self.waiting.pop(agent, [])
            self.holds[agent] = _Held(0, head.fence, there.seq, there.digest, marks, queue)
            self._work(agent)

        self.call(partial(self.world.fold, agent), hold)

    @property
    def may_begin(self) -> bool:
        return self.world.network.now - self._beaten_at < SUSPENDED_SECONDS

    def _work(self, agent: str) -> None:
        held = self.holds.get(agent)
        if held is None:
            return
        # A host that slept past its lease may claim a tree that its successor had, and has given up. Its messages of
        # before were sent elsewhere meanwhile: from the first beat on it knows, or the fence tells.
        if not held.begun and (self.may_begin or not self.world.rules.begins_confirmed):
            held.begun = True
            held.queue[:] = map(self._doubted, held.queue)
        while held.begun and not held.busy and held.queue:
            ask = held.queue[0]
            seq = held.marks.get((ask.client, ask.number)) if ask.repeated else None
            if seq is None:
                held.busy = True
                append = self.world.append_of(agent, held, (ask.client, ask.number))
                self.call(partial(self.world.commit, append), partial(self._committed, agent, held, append))
            else:
                held.queue.pop(0)
                self._reply(agent, ask, seq)

    def _doubted(self, ask: _Ask) -> _Ask:
        """A message of a host that was declared dead may have been sent again, under its new id, and done."""
        is_doubtful = ask.sender in self.dead_hosts and self.world.rules.doubts_buried
        return evolve(ask, repeated=True) if is_doubtful else ask

    def _committed(self, agent: str, held: _Held, append: Append, answer: Answer) -> None:
        if self.holds.get(agent) is not held:
            return
        held.busy = False
        ask = held.queue[0]
        if answer.status in (Status.COMMITTED, Status.DUPLICATE):
            held.seq, held.digest = held.seq + 1, append.items[0][:16]
            held.marks[ask.client, ask.number] = held.seq
            self._reply(agent, held.queue.pop(0), held.seq)
            self._work(agent)
            return
        history = self.world.history
        history.fenced += 1
        record = self.world.store.find(self.id)
        if answer.status is not Status.FENCED:
            history.wrong.append(f"{self.id}: an append of {agent} was answered {answer.status.name}")
        elif record is not None and not record.has_ended:
            history.wrong.append(f"{self.id} lives, and {agent} was claimed from it")
        del self.holds[agent]
        for one in held.queue:
            self._refuse(agent, one)

    def release(self, agent: str) -> None:
        held = self.holds.get(agent)
        if self.ended or held is None or held.busy or held.queue or not self.endpoint.runs:
            return
        held.busy = True
        self.call(partial(self.world.release, agent, Owner(held.epoch, self.id)), partial(self._released, agent, held))

    def _released(self, agent: str, held: _Held, _: bool) -> None:
        if self.holds.get(agent) is held:
            del self.holds[agent]
            if held.queue:  # taken until the release was written
                self.waiting[agent] = held.queue
                self._activate(agent)

    def _reply(self, agent: str, ask: _Ask, seq: int) -> None:
        if ask.client == self.name:
            self._replied(agent, ask.number, seq)
        else:
            self._send(ask.sender, ["reply", agent, ask.number, seq])

    def _refuse(self, agent: str, ask: _Ask) -> None:
        # What was sent under this attempt after it must not be taken either, even if the tree comes here meanwhile.
        key = ask.client, agent
        self.highest[key] = max(self.highest[key], ask.attempt + 1)
        if ask.client == self.name:
            self._not_mine(agent, ask.number, ask.attempt)
        else:
            self._send(ask.sender, ["not_mine", agent, ask.number, ask.attempt])


class _World:
    """The network, the server, and the history of both."""

    def __init__(self, seed: int, rules: Rules, faults: Faults) -> None:
        self.network = SimulatedNetwork(seed, faults)
        self.rules = rules
        self.jump = 0.0
        self.log = MemoryLog(partitions=1, clock=self.clock)
        self.store = self.log.hosts
        self.history = History()
        for agent in AGENTS:
            held = _Held(0, "1:nobody", 0, NO_DIGEST, {})
            append = self.append_of(agent, held, ("maker", 0), create=True)
            assert self.commit(append).status is Status.COMMITTED
            self.store.release(agent, Owner(1, "nobody"))

    def clock(self) -> float:
        """What leases are counted by: `jump` is what somebody has set it forward by."""
        return self.network.now + self.jump

    def after(self, seconds: float, call: Callable[[], Any]) -> None:
        self.network.at(self.network.now + seconds, call)

    def delay(self) -> float:
        return self.network.random.uniform(0.0002, self.network.faults.longest_delay)

    def beat(self, host: str) -> int | None:
        self.history.beats[host] = self.network.now
        return self.store.beat(host, 0)

    def bury(self, host: str, beat: int) -> bool:
        record = self.store.find(host)
        done = self.store.bury(host, beat)
        if done and record is not None and not record.has_ended:
            self.history.burials += 1
            silent = self.network.now - self.history.beats.get(host, 0.0)
            if silent < LEASE_SECONDS:
                self.history.wrong.append(f"{host} was buried {silent:.1f} s after a beat")
        return done

    def look(self, agent: str) -> tuple[Owner, bool]:
        """The owner, and whether it is one that lives."""
        owner, _ = self.store.owner(agent)
        record = self.store.find(owner.host)
        return owner, record is not None and not record.has_ended

    def fold(self, agent: str) -> tuple[Head, dict[tuple[str, int], int]]:
        head = self.log.head(agent)
        assert head is not None
        return head, {mark: number for number, mark in enumerate(marks_of(self.log, agent), 2)}

    def claim(self, agent: str, seen: Owner, head: Head, host: str) -> Any:
        answer = self.store.claim(agent, seen, head, host, 0)
        self.history.claims += answer.claimed
        return answer

    def seize(self, agent: str, host: str) -> Head:
        (claim,) = self.log.claim([agent], host, 0)
        assert claim is not None
        return claim.head

    def release(self, agent: str, held: Owner) -> bool:
        self.history.releases += 1
        if not self.rules.releases_as_held:
            there, _ = self.store.owner(agent)
            held = there if there.host == held.host else held
        return self.store.release(agent, held)

    def append_of(self, agent: str, held: _Held, mark: tuple[str, int], *, create: bool = False) -> Append:
        body: bytes = msgpack.packb(mark)
        item = self.log.chain.digest(held.digest, body) + body
        key = self.log.log_key(agent)
        return Append(agent, key, held.seq, held.digest, held.fence, [item], b"\x02", create=create)

    def commit(self, append: Append) -> Answer:
        return self.log.commit(0, [append])[0]


def _sleep_past_lease(world: _World, nodes: list[_Node]) -> None:
    """Stop a host that messages are on the way to, and have its successor give the tree up before it wakes up."""
    network, random = world.network, world.network.random
    sleeper, *others = random.sample(nodes, 3)
    agent, begin = random.choice(AGENTS), network.now
    sleeper.late = random.choice((0.0, 0.2, BEAT_SECONDS))
    network.at(begin, partial(sleeper.command, agent))
    for seconds in (1.0, 1.95, 2.05, 2.5):  # the first one is how it learns who has the agent
        network.at(begin + seconds, partial(others[0].command, agent))
    network.at(begin + 1.9, partial(sleeper.release, agent))
    network.at(begin + 2, partial(sleeper.endpoint.pause, 20.0))
    for seconds in (15, 17, 19, 20, 21, 21.9):
        for node in others:
            network.at(begin + seconds, partial(node.release, agent))


def _sleep_side_by_side(world: _World, nodes: list[_Node]) -> None:
    """Stop a host that messages are on the way to, and their sender, so that the sender alone is declared dead.

    The third one stops between the two burials. The sender goes on under another id, and has the tree until it gives it
    up, before the first one wakes up.
    """
    network, random = world.network, world.network.random
    sleeper, sender, third = random.sample(nodes, 3)
    agent, begin = random.choice(AGENTS), network.now
    network.at(begin, partial(sleeper.command, agent))
    for seconds in (1.0, 1.95, 2.05, 2.3):
        network.at(begin + seconds, partial(sender.command, agent))
    network.at(begin + 1.9, partial(sleeper.release, agent))
    network.at(begin + 2, partial(sleeper.endpoint.pause, 20.0))
    network.at(begin + 2.5, partial(sender.endpoint.pause, random.uniform(9.5, 13)))
    network.at(begin + random.uniform(11, 15), partial(third.endpoint.pause, 15.0))
    for seconds in (16, 17, 18, 19, 20, 21, 21.9):
        network.at(begin + seconds, partial(sender.release, agent))


def run_owners(
    seed: int, rules: Rules | None = None, *, jumps: bool = False, sleeps: bool = False, both_sleep: bool = False
) -> tuple[History, list[str]]:
    """Run one schedule of a minute, let the network heal, and wait for all replies. Returns history and problems.

    With `jumps` the clock of the leases is set forward, with `sleeps` a host sleeps for longer than its lease, and with
    `both_sleep` one that has sent it messages, too.
    """
    world = _World(seed, rules or Rules(), Faults())
    network, random = world.network, world.network.random
    network.faults = Faults(
        loss=random.choice((0, 0.02, 0.2)),
        repeat=random.choice((0, 0.05, 0.3)),
        reorder=random.choice((0, 0.05)),
        longest_delay=random.choice((0.002, 0.05)),
    )
    nodes = [_Node(world, name) for name in "abc"]
    world.history.alive = {node.name for node in nodes}
    for _ in range(random.choice((5, 30))):
        node, agent = random.choice(nodes), random.choice(AGENTS)
        when = network.now + random.uniform(0, 30)
        for _ in range(random.choice((1, 3))):
            network.at(when, partial(node.command, agent))
    for _ in range(random.choice((0, 4, 12))):
        node, agent = random.choice(nodes), random.choice(AGENTS)
        network.at(network.now + random.uniform(0, 30), partial(node.release, agent))
    for _ in range(random.choice((0, 1, 3))):
        node, seconds = random.choice(nodes), random.choice((1.0, 8.0, 20.0))
        network.at(network.now + random.uniform(0, 30), partial(node.pause, seconds))
    if random.random() < 0.2:
        network.at(network.now + random.uniform(0, 30), nodes[0].die)
    if jumps:
        network.at(network.now + random.uniform(5, 25), lambda: setattr(world, "jump", 3600.0))
    if sleeps:
        _sleep_past_lease(world, nodes)
    if both_sleep:
        _sleep_side_by_side(world, nodes)
    network.run(network.now + 32)
    network.heal()
    network.run(network.now + 150, while_=lambda: any(any(node.pending.values()) for node in nodes if not node.ended))
    return world.history, world.history.problems(world.log)
