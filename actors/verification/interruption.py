"""The laws of durable work: interrupted after any append, and taken up again from the log, it comes to the same."""

from __future__ import annotations

import inspect
import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final, TypeAlias, cast

from attrs import define, field
from hypothesis import strategies as st
from hypothesis.errors import Flaky
from hypothesis.strategies import SearchStrategy

from duramen.events import DuramenError, EventRegistry, Limits
from duramen.events.codec import Codec
from duramen.events.model import DECLARED, WORK_ENDED
from duramen.projections.recorded import StoredLog, portrait, read_items
from duramen.projections.recovery import AgentLog, rebuild
from duramen.projections.state import open_work
from duramen.projections.verification import LawBroken, Report, examples_wanted, find_smallest
from duramen.projections.verification.laws import EARLIER, LATER, freeze_clock

from ..agent import Agent
from ..commands import Spawn
from ..specification import KIND, RecordedLog, ScriptedWork, StepCall, WorkScript, replace_by

GOES_ON: Final = "work that is interrupted goes on from its log"
SAME_END: Final = "an interruption changes nothing"
ANY_ORDER: Final = "the order in which steps end does not matter"

_PATH: Final = "project/agent"
_MOST_MESSAGES: Final = 2
_SECONDS: Final = 20.0

_Replace: TypeAlias = Callable[[StepCall, Callable[..., Any]], Callable[..., Any]]
_Outcome: TypeAlias = tuple[Any, "Exception | None"]
_StepName: TypeAlias = tuple[Any, ...]


@define(eq=False)
class _StepResults:
    """What the steps of the first run have returned or raised, so that later runs are told the same.

    A step that was not logged when its process died runs again; that it returns something else then is no fault of the
    handler's.
    """

    known: dict[tuple[_StepName, int], _Outcome] = field(factory=dict[tuple[_StepName, int], _Outcome])

    def replace_in_a_run(self, before: _Replace) -> _Replace:
        """What replaces the steps of one run."""
        counts: Counter[_StepName] = Counter()

        def replace(call: StepCall, function: Callable[..., Any]) -> Callable[..., Any]:
            name = call.agent, call.command_id, call.name, _pack(call)
            counts[name] += 1
            return self._replacement(call, (*name, counts[name]), before(call, function))

        return replace

    def _replacement(self, call: StepCall, step: _StepName, function: Callable[..., Any]) -> Callable[..., Any]:
        if inspect.iscoroutinefunction(function):

            async def on_loop(*arguments: Any, **keywords: Any) -> Any:
                attempt = step, call.attempt
                if attempt not in self.known:
                    try:
                        self.known[attempt] = await function(*arguments, **keywords), None
                    except Exception as error:
                        self.known[attempt] = None, error
                return _repeat(self.known[attempt])

            return on_loop

        def in_thread(*arguments: Any, **keywords: Any) -> Any:
            attempt = step, call.attempt
            if attempt not in self.known:
                try:
                    self.known[attempt] = function(*arguments, **keywords), None
                except Exception as error:
                    self.known[attempt] = None, error
            return _repeat(self.known[attempt])

        return in_thread


def _pack(call: StepCall) -> bytes:
    with suppress(DuramenError):  # the step itself is refused
        return Codec(Limits()).pack([list(call.arguments), dict(call.keywords)])
    return b""


def _repeat(outcome: _Outcome) -> Any:
    value, error = outcome
    if error is not None:
        raise error
    return value


@define(eq=False)
class _Run:
    """One run of all messages: what has come of it."""

    log: RecordedLog
    begun: int
    """How many appends there were when the message was accepted."""
    most_at_once: int
    end: str
    """A portrait of replies, working memory and the state of `apply`."""
    parked: Mapping[str, Any] | None = None


def check_interruptions(
    factory: Callable[[], Agent],
    messages: SearchStrategy[Any],
    *,
    registry: EventRegistry = DECLARED,
    steps: Mapping[str, Any] | None = None,
    answers: Mapping[str, Any] | None = None,
    agents: Mapping[str, Callable[[], Agent]] | None = None,
    any_order: bool = True,
    examples: int | None = None,
    seed: int | None = None,
) -> Report:
    """Check that durable messages come to the same wherever their work is interrupted.

    One or two messages are drawn, `examples` times. The work of the last durable one runs to its end, after the others,
    and then again from the log as it was after each append, in a new agent object and at another time of the clock.
    Each step is called once, and one that would run again is told the same; `steps` replaces it: a function, an error
    to raise, or else a result, by name. `answers` are for waits: a value, or a function of what the wait is about. A
    wait without an answer expires, or stays. Sleeps and deadlines pass at once. `agents` are the types of others that
    it spawns; their work is interrupted with it. With `any_order`, steps side by side may end in any order without a
    difference.

    Raises LawBroken with the shortest log found; TimeoutError if nothing happens for 20 s.
    """
    subject = str(getattr(factory, "__qualname__", type(factory()).__qualname__))
    found = _Interruption(subject, factory, registry, replace_by(steps or {}), answers or {}, any_order, agents or {})
    found.check(messages, examples, seed)
    return Report(subject, tuple(sorted(found.checked)), examples=examples_wanted(examples))


@define(eq=False)
class _Interruption:
    """Checks the work of one class of agents."""

    subject: str
    factory: Callable[[], Agent]
    registry: EventRegistry
    replace: _Replace
    answers: Mapping[str, Any]
    any_order: bool
    agents: Mapping[str, Callable[[], Agent]]
    checked: set[str] = field(factory=set[str])
    """The laws that were looked at."""
    found: list[LawBroken] = field(factory=list[LawBroken])

    def check(self, messages: SearchStrategy[Any], examples: int | None, seed: int | None) -> None:
        """Check the work of drawn messages. Raises LawBroken with the shortest log found."""
        drawn = st.lists(messages, min_size=1, max_size=_MOST_MESSAGES)
        with suppress(Flaky):  # what depends on a global may be well the second time
            find_smallest(drawn, self._is_broken, examples, seed)
        if self.found:
            raise min(self.found, key=lambda broken: (len(broken.log or ()), len(broken.example or "")))

    def _is_broken(self, messages: Sequence[Any]) -> bool:
        while messages and not self._is_durable(messages[-1]):
            messages = messages[:-1]
        if not messages:
            return False
        chance = random.getstate()
        try:
            self._interrupt_everywhere(messages)
        except LawBroken as broken:
            self.found.append(broken)
            return True
        finally:
            random.setstate(chance)
        return False

    def _interrupt_everywhere(self, messages: Sequence[Any]) -> None:
        """Let the work of messages end, and then again from the log as it was after each append."""
        results, classes = _StepResults(), type(self.factory()).__mro__[:-1]
        random.seed(0)
        with freeze_clock(EARLIER, classes):
            first = self._run(RecordedLog(), messages, results)
        self.checked |= {GOES_ON, SAME_END}
        with freeze_clock(LATER, classes):
            for count in range(first.begun, len(first.log.appends)):
                before = first.log.until(count)
                random.seed(count)
                self._compare(before, first, self._run(first.log.until(count), messages, results), SAME_END)
            if self.any_order and first.most_at_once > 1:
                self.checked.add(ANY_ORDER)
                before = first.log.until(first.begun)
                latest = self._run(first.log.until(first.begun), messages, results, choose=lambda count: count - 1)
                self._compare(before, first, latest, ANY_ORDER)

    def _run(
        self,
        log: RecordedLog,
        messages: Sequence[Any],
        results: _StepResults,
        choose: Callable[[int], int] = lambda count: 0,
    ) -> _Run:
        """Send the messages, the last one also where the log has it already, and let its work end."""
        script = WorkScript(results.replace_in_a_run(self.replace), self.answers, choose)
        with ScriptedWork(
            log, self.factory, script, registry=self.registry, seconds=_SECONDS, agents=self.agents
        ) as work:
            if not log.appends:
                self._prepare(work, messages[:-1])
            receipt = work.send(_PATH, messages[-1], f"message-{len(messages)}")
            begun = log.count_until(_PATH, receipt.seq)
            work.most_at_once = 0
            work.run()
            problem = next(iter(work.system.check_work()), None)
            pieces = open_work(work.state(_PATH))
        found = _Run(log, begun, work.most_at_once, self._end(log))
        found.parked = next((piece["parked"] for piece in pieces.values() if piece["parked"] is not None), None)
        if found.parked is None and problem is not None:
            found.parked = {"text": problem.text, "expected": problem.expected, "actual": problem.actual}
        return found

    def _prepare(self, work: ScriptedWork, messages: Sequence[Any]) -> None:
        """Spawn the agent, and have it handle messages to their end."""
        agent = work.system.agent(_PATH)
        agent.ask(Spawn(agent_type=KIND, session_id="s-1"))
        for number, message in enumerate(messages, 1):
            if self._is_durable(message):
                work.send(_PATH, message, f"message-{number}")
                work.run()
            else:
                with suppress(Exception):  # of its handler; this is about the last message
                    agent.ask(message, timeout=_SECONDS)

    def _end(self, log: RecordedLog) -> str:
        fold = self.factory().actor_fold(self.registry)
        agent_log = AgentLog(log, _PATH, Limits())
        rebuilt = rebuild(agent_log, fold_of=lambda _: fold, use_snapshot=False)
        replies: list[Any] = []
        for event in agent_log.events(1, rebuilt.state.seq):
            if event.type == WORK_ENDED:
                error = event.data["error"]
                replies.append([event.data["how"], event.data["reply"], error and error.get("kind", error["types"])])
        return portrait({"replies": replies, "memory": rebuilt.state.memory, "state": rebuilt.custom})

    def _compare(self, before: RecordedLog, first: _Run, again: _Run, law: str) -> None:
        """Raise LawBroken unless a run from `before` has come to the end of the first one."""
        parked = again.parked
        if parked is not None:
            raise self._broken(GOES_ON, parked["text"], before, parked["expected"], parked["actual"])
        if again.end != first.end:
            raise self._broken(law, "its end is another", before, first.end, again.end)

    def _broken(self, law: str, why: str, log: RecordedLog, expected: Any, actual: Any) -> LawBroken:
        stored = StoredLog(tuple(read_items(log, _PATH)), _PATH, self.registry)
        return LawBroken(law, why, subject=self.subject, log=stored, expected=str(expected), actual=str(actual))

    def _is_durable(self, message: Any) -> bool:
        return self.registry.is_durable(cast("type[Any]", type(message)))
