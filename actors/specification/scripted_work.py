"""Durable work on a log in memory, for the kits: steps end one at a time, answers come from a script, time is skipped.

The agents run in the real runtime. Only the functions of their steps are held until it is their turn.
"""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from functools import partial
from time import monotonic
from typing import Any, Final, TypeAlias

from attrs import define, field, fields_dict

from duramen.events import EventRegistry, Limits, MemoryLog, Receipt
from duramen.events.log import Answer, Append, Notice, Status
from duramen.events.model import copy_plain
from duramen.projections import AgentState
from duramen.projections.recovery import AgentLog, StateFold
from duramen.projections.state import ASK, RUNNING, STEP, WAIT, Item, open_work

from ..agent import Agent
from ..api import AgentSystem
from ..dispatch import Envelope
from ..work import TakeUp, current_execution

KIND: Final = "specified"
"""The agent type under which the agents of a script are registered."""

_BEGIN: Final = 1_704_067_200_000_000
_MICROSECONDS: Final = 1_000_000
_MOST_ACTS: Final = 2_000
"""Sleeps, steps and answers of one run: time that is skipped ends no handler that sleeps in a loop."""
_Place: TypeAlias = tuple[str, int, int]
"""Agent, work and number of what a handler waits for."""


@define(eq=False)
class ManualClock:
    """A clock in µs since the epoch that stands still until it is set. Callable from any thread."""

    time: int = _BEGIN

    def __call__(self) -> int:
        return self.time


class RecordedLog(MemoryLog):
    """A log in memory, and its clock. It keeps its appends, so that it can be made as it was after each of them."""

    def __init__(self, clock: ManualClock | None = None) -> None:
        self.time = made = clock or ManualClock()
        super().__init__(partitions=1, clock=lambda: made.time / _MICROSECONDS)
        self.identity = KIND  # the same in each run, and so are keys of steps and what handlers draw
        self.appends: list[Append] = []

    def _commit(self, partition: int, batch: Sequence[Append]) -> list[Answer]:
        answers = super()._commit(partition, batch)
        self.appends += [
            _copy(append)
            for append, answer in zip(batch, answers, strict=True)
            if answer.status is Status.COMMITTED and append.items
        ]
        return answers

    def count_until(self, agent: str, seq: int) -> int:
        """How many appends there were when an agent's log had this seq."""
        at = (number for number, one in enumerate(self.appends, 1) if one.agent == agent)
        return next(
            number for number in at if self.appends[number - 1].expected + len(self.appends[number - 1].items) >= seq
        )

    def until(self, count: int) -> RecordedLog:
        """Make the log as it was after so many appends, and its clock. The host that wrote them is gone."""
        log = RecordedLog(ManualClock(self.appends[count - 1].updated_at))
        for append in self.appends[:count]:
            log._commit(0, [append])
        return log


def _copy(append: Append) -> Append:
    """A copy of an append, which goes on as a turn. Nothing is due in it: no host is to look for work by itself."""
    values: dict[str, Any] = {name: getattr(append, name) for name in fields_dict(Append)}
    values |= {"items": list(append.items), "due_ms": None}
    return Append(**values)


@define(eq=False)
class StepCall:
    """A step that a handler has begun."""

    agent: str
    work: int
    command_id: str | None
    """Of the durable message."""
    number: int
    name: str
    arguments: tuple[Any, ...]
    keywords: Mapping[str, Any]
    attempt: int = 0
    """Which attempt it is, from 1 on; known when its function is called."""


@define
class WorkScript:
    """What happens outside of the agents."""

    replace: Callable[[StepCall, Callable[..., Any]], Callable[..., Any]]
    """The function that is called in place of a step's: one that it makes of the call and the step's own."""
    answers: Mapping[str, Any] = field(factory=dict[str, Any])
    """The answer to each wait of a name, or a function of what the wait is about."""
    choose: Callable[[int], int] = field(default=lambda count: 0)
    """Which of so many steps side by side ends next; they are in the order in which they were begun."""


def replace_by(steps: Mapping[str, Any]) -> Callable[[StepCall, Callable[..., Any]], Callable[..., Any]]:
    """What replaces steps by name: with functions, errors that they raise, or else what they return."""

    def replace(call: StepCall, function: Callable[..., Any]) -> Callable[..., Any]:
        if call.name not in steps:
            return function
        found = steps[call.name]
        return found if callable(found) and not _is_error(found) else lambda *_, **__: _give(found)

    return replace


def _is_error(found: object) -> bool:
    return isinstance(found, BaseException) or (isinstance(found, type) and issubclass(found, BaseException))


def _give(found: Any) -> Any:
    if _is_error(found):
        raise found
    return copy_plain(found)


class _SteppedSystem(AgentSystem):
    """A system whose clock and timers are moved by hand."""

    def stop_clock(self, clock: ManualClock) -> None:
        self._services.now = clock

    def skip_to(self, clock: ManualClock, time: int, seconds: float) -> None:
        """Set the clock and let as much time pass for the timers; wait at most `seconds` until that is done.

        It is done in the core, which sets timers by this clock: no time passes between its look at the clock and that.
        """
        skipped = threading.Event()

        def skip() -> None:
            left = (time - clock.time) / _MICROSECONDS
            clock.time = time
            self._services.timers.skip(left)
            skipped.set()

        self._services.dispatcher.post(skip)
        skipped.wait(seconds)

    def take_up(self, path: str) -> None:
        """Bring an agent into memory for its work, as a host does that finds it."""
        self._actors.send(path, Envelope(TakeUp(), wanted=False))


class ScriptedWork:
    """Runs the durable work of agents from a script, on a log that may have some of it. A context manager.

    One thread uses it. Agents of type `KIND` are made by `make`; their steps are run one after another.
    """

    def __init__(
        self,
        log: RecordedLog,
        make: Callable[[], Agent],
        script: WorkScript,
        *,
        registry: EventRegistry,
        seconds: float,
        agents: Mapping[str, Callable[[], Agent]] | None = None,
    ) -> None:
        """`agents` makes those of other types.

        `seconds` is how long it waits for something to happen before it raises TimeoutError.
        """
        self._log = log
        self._clock = log.time
        self._script = script
        self._seconds = seconds
        self._changed = threading.Condition()
        self._changes = 0
        self._held: dict[_Place, tuple[StepCall, Future[None]]] = {}
        self._folds: dict[str, StateFold] = {}
        self.made: list[Agent] = []
        """The objects of agents, in the order in which they were made."""
        self.most_at_once = 0
        """How many steps were under way side by side, at most."""
        self._stop_listening = log.listen(self._hear)
        self.system = _SteppedSystem.open(log=log, registry=registry)
        self.system.stop_clock(log.time)
        for kind, factory in {**(agents or {}), KIND: make}.items():
            self.system.register(kind, partial(self._made, factory))

    def __enter__(self) -> ScriptedWork:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop_listening()
        with self._changed:
            held, self._held = list(self._held.values()), {}
        for _call, gate in held:
            gate.cancel()
        self.system.close(self._seconds)

    def send(self, path: str, message: object, command_id: str) -> Receipt:
        """Send a durable message, unless the log has it."""
        return self.system.agent(path).send(message, command_id=command_id)

    def run(self) -> None:
        """Let all work go on until it has ended or parked, or waits for an answer that the script does not have.

        Raises TimeoutError if it is still not done after so many sleeps, steps and answers that it may have no end.
        """
        for path in self._log.archive.agents():
            if open_work(self.state(path)):
                self.system.take_up(path)
        for _ in range(_MOST_ACTS):
            act = self._next_act()
            if act is None:
                return
            act()
        raise TimeoutError(f"it goes on after {_MOST_ACTS:,} sleeps, steps and answers; give its handler an end")

    def state(self, path: str) -> AgentState:
        """The state of an agent as its log has it now."""
        fold = self._folds.setdefault(path, StateFold(path, Limits(), None))
        fold.apply_all(AgentLog(self._log, path, Limits()).events_after(fold.state, None))
        return fold.state

    # -- steps -----------------------------------------------------------------------------------------------------

    def _made(self, factory: Callable[[], Agent]) -> Agent:
        agent = factory()
        real = agent.step

        async def step(name: Any, function: Any, *arguments: Any, at_most_once: bool = False, **options: Any) -> Any:
            if not callable(function):
                return await real(name, function, *arguments, **options)
            execution = current_execution(agent)
            identity = execution.identity
            keywords: dict[str, Any] = options.get("keywords") or {}
            number = execution.loop.last_number + 1
            call = StepCall(agent.path, identity.work, identity.command_id, number, name, arguments, keywords)
            return await real(name, self._hold(call, function), *arguments, **options)

        vars(agent)["step"] = step
        self.made.append(agent)
        return agent

    def _hold(self, call: StepCall, function: Callable[..., Any]) -> Callable[..., Any]:
        """A function that waits for its turn, and then does what the script has for it."""
        chosen = self._script.replace(call, function)
        place = call.agent, call.work, call.number

        def wait_in_line() -> Future[None]:
            gate: Future[None] = Future()
            with self._changed:
                self._held[place] = call, gate
                self._changed.notify_all()
            return gate

        if not inspect.iscoroutinefunction(chosen):

            def in_thread(*arguments: Any, **keywords: Any) -> Any:
                wait_in_line().result()
                return chosen(*arguments, **keywords)

            return in_thread

        async def on_loop(*arguments: Any, **keywords: Any) -> Any:
            await asyncio.wrap_future(wait_in_line())
            return await chosen(*arguments, **keywords)

        return on_loop

    # -- what happens next -----------------------------------------------------------------------------------------

    def _hear(self, _: Notice) -> None:
        with self._changed:
            self._changes += 1
            self._changed.notify_all()

    def _next_act(self) -> Callable[[], None] | None:
        """Wait until nothing goes on by itself, and return what is to happen then; None: nothing can."""
        until, seen = monotonic() + self._seconds, -1
        with self._changed:
            while True:
                if self._changes != seen:
                    until, seen = monotonic() + self._seconds, self._changes
                found = _Situation()
                for path in self._log.archive.agents():
                    self._look_at(path, found)
                if not found.is_busy:
                    act = self._act(found)
                    if act is not None or not found.is_asking:
                        return act
                if not self._changed.wait(until - monotonic()):
                    raise TimeoutError(f"nothing has happened for {self._seconds:g} s; a step may not end")

    def _look_at(self, path: str, found: _Situation) -> None:
        state = self.state(path)
        if state.status != RUNNING:
            return
        for work, piece in open_work(state).items():
            if piece["parked"] is not None:
                continue
            found.is_busy |= not piece["pending"]
            for number, item in piece["pending"].items():
                self._look_at_item((path, int(work), int(number)), item, found)

    def _look_at_item(self, place: _Place, item: Item, found: _Situation) -> None:
        due = item["due"]
        if item["result"] is not None:
            found.is_busy = True
        elif item["kind"] == ASK:
            found.is_asking = True
        elif place in self._held:
            found.steps.append((place, item))
        elif item["kind"] == STEP and due is None:
            found.is_busy = True  # its function is about to be called
        elif due is not None and due <= self._clock.time:
            found.is_busy = True
        else:
            if item["kind"] == WAIT and item["name"] in self._script.answers:
                found.waits.append((place, item))
            if due is not None:
                found.dues.append(due)

    def _act(self, found: _Situation) -> Callable[[], None] | None:
        self.most_at_once = max(self.most_at_once, len(found.steps))
        if found.steps:
            chosen, item = found.steps[self._script.choose(len(found.steps))]
            call, gate = self._held.pop(chosen)
            call.attempt = item["attempts"] + 1
            return lambda: gate.set_result(None)
        if found.waits:
            (path, work, _), item = min(found.waits, key=lambda wait: wait[1]["begun"])
            answer = self._script.answers[item["name"]]
            value = answer(item["about"]) if callable(answer) else answer
            return lambda: self._answer(path, work, item["name"], value)
        if found.dues:
            due = min(found.dues)
            return lambda: self.system.skip_to(self._clock, due, self._seconds)
        return None

    def _answer(self, path: str, work: int, name: str, value: Any) -> None:
        self.system.agent(path).answer(name, value, work=work)


@define(eq=False)
class _Situation:
    """What the agents wait for."""

    is_busy: bool = False
    """Whether something goes on by itself."""
    is_asking: bool = False
    steps: list[tuple[_Place, Item]] = field(factory=list["tuple[_Place, Item]"])
    """Steps that wait for their turn."""
    waits: list[tuple[_Place, Item]] = field(factory=list["tuple[_Place, Item]"])
    """Waits whose answers the script has."""
    dues: list[int] = field(factory=list[int])
