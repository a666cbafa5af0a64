"""The commands that change an agent: spawn, pause, resume, terminate."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from attrs import asdict

from duramen.events import AgentPath

from ...commands import LifecycleResult, Outcome, Pause, Resume, Spawn, Terminate
from ..arguments import Options, pairs
from ..exit_codes import ExitCode
from ..opening import opened
from ..output import Output, clean, text

__all__ = ["pause", "resume", "spawn", "terminate"]


def spawn(arguments: argparse.Namespace, options: Options, output: Output) -> ExitCode:
    """Start a session."""
    message = Spawn(
        session_id=arguments.session_id,
        agent_type=arguments.agent_type,
        initial_state=pairs(arguments.set),
        metadata=pairs(arguments.metadata),
    )
    return _send(arguments.path, message, options, output, create=True)


def pause(arguments: argparse.Namespace, options: Options, output: Output) -> ExitCode:
    """Keep working memory as a checkpoint."""
    message = Pause(
        checkpoint_id=arguments.checkpoint_id,
        ttl=arguments.ttl,
        metadata=pairs(arguments.metadata),
    )
    return _send(arguments.path, message, options, output)


def resume(arguments: argparse.Namespace, options: Options, output: Output) -> ExitCode:
    """Restore working memory from a checkpoint."""
    message = Resume(checkpoint_id=arguments.checkpoint, clear_current=not arguments.keep_current)
    return _send(arguments.path, message, options, output)


def terminate(arguments: argparse.Namespace, options: Options, output: Output) -> ExitCode:
    """End a session."""
    message = Terminate(
        outcome=Outcome(arguments.outcome),
        task_description=arguments.description,
        lessons_learned=arguments.lesson or [],
        consolidate_to_episodic=not arguments.no_episode,
        cleanup_working=not arguments.keep_memory,
    )
    return _send(arguments.path, message, options, output)


def _send(path: str, message: Any, options: Options, output: Output, *, create: bool = False) -> ExitCode:
    name = AgentPath.parse(path).text  # before anything is opened, or made
    with opened(options, create=create) as system:
        result: LifecycleResult = system.agent(name).ask(message)
    if output.as_json:
        output.data(asdict(result, recurse=False, filter=lambda attribute, _: attribute.name != "error"))
    elif result.success:
        output.line(text(f"{name}: {result.message} ({_details(result)})"))
    else:
        sys.stderr.write(f"duramen: {clean(result.message)}\n")
    return ExitCode.OK if result.success else ExitCode.FAILED


def _details(result: LifecycleResult) -> str:
    data = result.data
    items = {
        "spawn": "initial_items",
        "pause": "items_saved",
        "resume": "items_restored",
        "terminate": "items_cleared",
    }
    told = [f"seq {data['seq']}", f"{items[result.event_type].replace('_', ' ')}: {data[items[result.event_type]]}"]
    if data.get("episode_id"):
        told.append(f"episode {data['episode_id']}")
    return ", ".join(told)
