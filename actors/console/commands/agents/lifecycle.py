"""Sending a lifecycle message, and printing its result."""

from __future__ import annotations

from typing import Any

from attrs import asdict

from duramen.events import AgentPath

from ....commands import LifecycleResult, Spawn
from ...arguments import Options, with_options
from ...exit_codes import ExitCode
from ...opening import opened
from ...output import Output, clean, text, write_note


def send_lifecycle(path: str, message: Any, options: Options, output: Output, *, create: bool = False) -> ExitCode:
    """Send the message and print its result. `create` makes the store if there is none. Raises InvalidPath."""
    name = AgentPath.parse(path).text  # before anything is opened, or made
    with opened(options, create=create) as system, output.waiting(f"waiting for {clean(name)}"):
        spawns = isinstance(message, Spawn)
        result: LifecycleResult = system.send_spawn(name, message) if spawns else system.agent(name).ask(message)
    if output.as_json:
        output.data(asdict(result, recurse=False, filter=lambda attribute, _: attribute.name != "error"))
    elif result.success:
        output.line(text(f"{name}: {result.message} ({_details(result)})"))
    else:
        write_note(clean(with_options(result.message)))
    return ExitCode.OK if result.success else ExitCode.FAILED


def _details(result: LifecycleResult) -> str:
    data = result.data
    items = {
        "spawn": "initial_items",
        "pause": "items_saved",
        "resume": "items_restored",
        "terminate": "items_cleared",
    }[result.event_type]
    details = [f"seq {data['seq']}", f"{items.replace('_', ' ')}: {data[items]}"]
    if data.get("episode_id"):
        details.append(f"episode {data['episode_id']}")
    return ", ".join(details)
