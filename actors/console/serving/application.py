"""The application that `MODULE:NAME` names: agent types, or a function that gives them or opens the system itself."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, cast

from attrs import field, frozen

from duramen.events import DuramenError
from duramen.events.logging import raised_at
from duramen.events.model import describe_type

from ...agent import Agent
from ...api import AgentSystem
from ...handlers import AgentFactory
from ..arguments import Options, load_named
from ..errors import UnusableCode
from ..opening import open_system

_KINDS = "a mapping of agent types to Agent subclasses, or a function"


@frozen
class Application:
    """What to run. At most one of `agents`, `make` and `prepare` is given."""

    name: str
    agents: Mapping[str, AgentFactory] = field(factory=dict[str, AgentFactory])
    make: Callable[[], Any] | None = None
    """A function without parameters: returns agent types, or an open system."""
    prepare: Callable[[AgentSystem], Any] | None = None
    """A function of the open system: adds hooks, consumers, subscriptions; may return agent types, or None."""

    def open(self, options: Options) -> AgentSystem:
        """Open the system with all that the application has, for the caller to close.

        Raises UnusableCode for what is none of these, and where the user's own code raises.
        """
        if self.prepare is None:
            made = self.agents if self.make is None else self._call(self.make)
            if isinstance(made, AgentSystem):
                return self._given(made, options)
            return open_system(options, self._types(made), placement="spread")
        system = open_system(options, placement="spread")
        try:
            for agent_type, factory in self._types(self._call(self.prepare, system) or {}).items():
                system.register(agent_type, factory)
        except BaseException:
            system.close()
            raise
        return system

    def _given(self, system: AgentSystem, options: Options) -> AgentSystem:
        if options.given:
            system.close()
            raise UnusableCode(
                f"{self.name} opens its system itself; leave {' '.join(options.given[::2])} out, or let it return "
                "agent types"
            )
        return system

    def _call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return function(*arguments)
        except DuramenError:
            raise
        except Exception as error:  # the user's own code
            raise UnusableCode(f"{self.name} raised {type(error).__name__} at {raised_at(error)}") from error

    def _types(self, made: Any) -> Mapping[str, AgentFactory]:
        if inspect.iscoroutine(made):
            made.close()
            raise UnusableCode(f"{self.name} is async; give a plain function")
        if not isinstance(made, Mapping):
            raise UnusableCode(f"{self.name} returned a {type(made).__name__} in place of agent types, a mapping")
        return cast("Mapping[str, AgentFactory]", made)


def load_application(text: str) -> Application:
    """Import the application that `MODULE:NAME` names. Raises UnusableCode."""
    found: Any = load_named(text)
    kind = describe_type(found)
    if isinstance(found, Mapping):
        return Application(text, cast("Mapping[str, AgentFactory]", found))
    if isinstance(found, type) and issubclass(found, Agent):
        raise UnusableCode(f"{text} is one Agent class; give {_KINDS}: AGENTS = {{'my-type': {found.__name__}}}")
    if isinstance(found, AgentSystem) or not callable(cast("object", found)):
        raise UnusableCode(f"{text} is of type {kind}; give {_KINDS}")
    function = cast("Callable[..., Any]", found)
    needed = _parameters(function)
    if needed > 1:
        raise UnusableCode(f"{text} takes {needed} arguments; a function takes none, or the open system")
    return Application(text, prepare=function) if needed else Application(text, make=function)


def _parameters(function: Any) -> int:
    """How many positional arguments a function has to be given."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return 0
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return sum(one.kind in positional and one.default is inspect.Parameter.empty for one in parameters)
