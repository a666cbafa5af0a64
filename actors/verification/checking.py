"""`check` for agents: their fold, and generated runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar, cast

from attrs import evolve
from hypothesis import HealthCheck, Phase, settings
from hypothesis import seed as hypothesis_seed
from hypothesis.stateful import run_state_machine_as_test
from hypothesis.strategies import SearchStrategy

from duramen.events import EventRegistry
from duramen.events.model import DECLARED
from duramen.projections.verification import (
    Report,
    check_subject,
    examples_wanted,
    is_inside_check,
    projection_laws,
    stored_logs,
)
from duramen.projections.verification import check as check_projection
from duramen.projections.verification.strategies import OwnFields, Types

from ..agent import Agent
from .agent_fold import agent_subject
from .interruption import check_interruptions
from .machine import AgentMachine, agent_machine

LIVES: Final = "every life keeps the laws"
_STEPS: Final = 15
_LESS: Final = 5

C = TypeVar("C", bound=type[Any])


def check(subject: Any, **arguments: Any) -> Report:
    """Check an agent, as `check_agent`, or a projection, as `duramen.projections.verification.check` does."""
    if isinstance(subject, type):
        agent = issubclass(subject, Agent)
    else:
        agent = callable(subject) and isinstance(subject(), Agent)
    return (
        check_agent(cast("Callable[[], Agent]", subject), **arguments)
        if agent
        else check_projection(subject, **arguments)
    )


def check_agent(
    factory: Callable[[], Agent],
    *,
    messages: SearchStrategy[Any] | None = None,
    registry: EventRegistry = DECLARED,
    types: Types | None = None,
    fields: OwnFields | None = None,
    examples: int | None = None,
    seed: int | None = None,
    url: str | None = None,
    steps: Mapping[str, Any] | None = None,
    answers: Mapping[str, Any] | None = None,
    any_order: bool = True,
) -> Report:
    """Check an `Agent` subclass, or a function without arguments that makes an agent.

    First the laws of projections are checked on its `apply`, with events of the `types` in `registry`. Then runs of 15
    steps mix its own `messages` with duramen's, a fifth as many runs as `examples`, see `agent_machine`; durable ones
    are left out there, and are interrupted everywhere, as `check_interruptions` does with `steps`, `answers` and
    `any_order`. Raises LawBroken; if a run broke the law, the error's notes list its steps.
    """
    report = check_subject(
        agent_subject(factory, registry),
        projection_laws(),
        stored_logs(registry, types, fields=fields),
        examples,
        seed,
    )
    runs = max(1, examples_wanted(examples) // _LESS)
    held = report.held
    if messages is not None:
        work = check_interruptions(
            factory,
            messages,
            registry=registry,
            steps=steps,
            answers=answers,
            any_order=any_order,
            examples=runs,
            seed=seed,
        )
        held += work.held
    machine = agent_machine(factory, messages=messages, registry=registry, url=url)
    check_machine(machine, runs, seed)
    return evolve(report, held=(*held, LIVES))


def check_machine(machine: type[AgentMachine], runs: int, seed: int | None = None) -> None:
    """Generate so many runs of a machine. Raises LawBroken with the shortest run found that breaks a law."""
    if is_inside_check():
        return
    derandomize = settings.get_profile(settings.get_current_profile_name()).derandomize
    how = settings(
        max_examples=runs,
        stateful_step_count=_STEPS,
        database=None,
        deadline=None,
        derandomize=derandomize and seed is None,
        phases=(Phase.generate, Phase.shrink),
        report_multiple_bugs=False,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
    )
    chosen = machine if seed is None else hypothesis_seed(seed)(machine)
    run_state_machine_as_test(chosen, settings=how)


def verified(**arguments: Any) -> Callable[[C], C]:
    """`check` as a class decorator, with its arguments: the module cannot be imported while a law is broken."""

    def checked(decorated: C) -> C:
        check(decorated, **arguments)
        return decorated

    return checked
