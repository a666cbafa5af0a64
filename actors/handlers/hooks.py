"""Hooks: functions of the user that run after a lifecycle transition was committed."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from copy import deepcopy
from typing import Any, TypeVar

from attrs import evolve

from duramen.events.logging import get_logger

from ..commands import LifecycleEvent
from ..dispatch import EventLoop, ProgramExit, ThreadPool

Hook = Callable[[LifecycleEvent], Awaitable[None] | None]
H = TypeVar("H", bound=Hook)


class LifecycleHooks:
    """Register with `@system.hooks.on_spawn`, `on_pause`, `on_resume`, `on_terminate`, `on_park`; sync or async.

    Hooks run after the transition's events are in the log and before the caller gets the result, one after another in
    the order of registration: functions in a worker thread, coroutines on the system's event loop. A hook that raises,
    or has not ended after its time-out, is logged and named in the result's `hook_errors`; it undoes nothing, and the
    next one runs. Replay never calls hooks. A hook may send messages, to the same agent too.
    """

    def __init__(self) -> None:
        self._hooks: dict[str, list[Hook]] = {"spawn": [], "pause": [], "resume": [], "terminate": [], "park": []}

    def on_spawn(self, hook: H) -> H:
        """Call `hook` after a session has started."""
        return self._add("spawn", hook)

    def on_pause(self, hook: H) -> H:
        """Call `hook` after a checkpoint was taken and the agent paused."""
        return self._add("pause", hook)

    def on_resume(self, hook: H) -> H:
        """Call `hook` after working memory was restored from a checkpoint."""
        return self._add("resume", hook)

    def on_terminate(self, hook: H) -> H:
        """Call `hook` after a session has ended."""
        return self._add("terminate", hook)

    def on_park(self, hook: H) -> H:
        """Call `hook` after work was parked: `data` has its `work`, `message`, `error` (a name) and `text`."""
        return self._add("park", hook)

    def remove(self, hook: Hook) -> None:
        """Remove `hook` from every transition that it was registered for."""
        for hooks in self._hooks.values():
            while hook in hooks:
                hooks.remove(hook)

    def registered(self, event_type: str) -> list[Hook]:
        """The hooks of one transition, in order."""
        return list(self._hooks[event_type])

    def _add(self, event_type: str, hook: H) -> H:
        self._hooks[event_type].append(hook)
        return hook


def run_hooks(
    hooks: list[Hook], event: LifecycleEvent, timeout: float, workers: ThreadPool, loop: EventLoop
) -> list[str]:
    """Run hooks one after another, each for at most `timeout` seconds; return a line for each that failed."""
    log = get_logger("hooks").bind(agent=event.agent, seq=event.seq, session_id=event.session_id)
    errors: list[str] = []
    for hook in hooks:
        name = getattr(hook, "__qualname__", type(hook).__qualname__)
        problem = _run_one(hook, event, timeout, workers, loop)
        if problem is not None:
            # Types and names only: an exception's text may quote the hook's argument.
            log.warning("hook_failed", hook=name, transition=event.event_type, problem=problem)
            errors.append(f"{name}: {problem}")
    return errors


def _run_one(hook: Hook, event: LifecycleEvent, timeout: float, workers: ThreadPool, loop: EventLoop) -> str | None:
    called: Future[Any] = Future()
    called.set_running_or_notify_cancel()  # a call cannot be taken back: it may end when nobody waits for it any more
    own = evolve(event, data=deepcopy(dict(event.data)), metadata=deepcopy(dict(event.metadata)))

    def call() -> None:
        try:
            called.set_result(hook(own))
        except BaseException as error:
            called.set_exception(error)

    waiting: Future[Any] = called
    try:
        workers.submit(call)
        result = called.result(timeout)
        if inspect.iscoroutine(result):
            waiting = loop.start(result)
            waiting.result(timeout)
    except ProgramExit as error:
        return type(error.__cause__).__name__
    except BaseException as error:
        if waiting.done():
            return type(error).__name__
        if waiting is called:
            called.add_done_callback(_close_coroutine)
        else:
            waiting.cancel()
        return f"not done after {timeout} s"
    return None


def _close_coroutine(called: Future[Any]) -> None:
    """Close the coroutine that a hook has returned after its time-out: nobody awaits it."""
    if called.exception() is None and inspect.iscoroutine(called.result()):
        called.result().close()
