"""What a class of agents may have: its names, its settings, its methods."""

from __future__ import annotations

import inspect
from typing import Any

from duramen.events import InvalidMessage

from ..commands import Supervision


def reserved_names(base: type[Any]) -> dict[str, str]:
    """The names of `base` that a subclass must not have, and what each of them is."""
    names = {name for name in dir(base) if not name.startswith(("__", "_abc_"))}
    names -= {"on_receive", "initial", "apply", "on_child_failed"}
    names -= {"supervision", "own_thread", "on_paused", "state_version", "system"}
    reserved = dict.fromkeys(names, "a call or an attribute that every agent has; choose another name")
    hook = "a hook that is never called, as agents leave memory and come back: use __init__, on_receive or system.hooks"
    return reserved | dict.fromkeys(("on_start", "on_stop", "on_failure"), hook)


def check_settings(cls: type[Any]) -> None:
    """Raise InvalidMessage for attributes with values that agents cannot run by; what is computed is not looked at."""
    given: dict[str, object] = {
        name: inspect.getattr_static(cls, name) for name in ("supervision", "own_thread", "on_paused", "state_version")
    }
    fixed: dict[str, Any] = {name: value for name, value in given.items() if not hasattr(value, "__get__")}
    if fixed.get("on_paused", "refuse") not in ("refuse", "handle"):
        raise InvalidMessage(f"{cls.__name__}.on_paused is 'refuse' or 'handle'")
    if type(fixed.get("own_thread", False)) is not bool:
        raise InvalidMessage(f"{cls.__name__}.own_thread is True or False", actual=fixed["own_thread"])
    if type(fixed.get("state_version", 1)) is not int:
        raise InvalidMessage(f"{cls.__name__}.state_version is a whole number", actual=fixed["state_version"])
    if not isinstance(fixed.get("supervision", Supervision()), Supervision):
        Supervision(strategy=fixed["supervision"])


def check_methods(cls: type[Any]) -> None:
    """Raise InvalidMessage for a class whose own methods cannot be called as they will be."""
    for name in ("on_receive", "on_child_failed", "initial", "apply"):
        method = getattr(cls, name)
        if not callable(method):
            raise InvalidMessage(f"{cls.__name__}.{name} is a method", actual=type(method).__name__)
        if inspect.isgeneratorfunction(method) or inspect.isasyncgenfunction(method):
            raise InvalidMessage(f"{cls.__name__}.{name} is a generator; return a value instead of yielding")
        if name in ("initial", "apply") and inspect.iscoroutinefunction(method):
            raise InvalidMessage(f"{cls.__name__}.{name} is a coroutine; a log is folded without waiting: use `def`")
