"""What the page may do to agents, where the inspector was started with `--allow-actions`."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Final, cast

from duramen.events import InvalidMessage

from ..api import AgentSystem

Fields = dict[str, Any]


def act(system: AgentSystem, name: str, body: bytes) -> dict[str, Any]:
    """Do what a page has asked for; says what was done. Raises InvalidMessage, and what the call raises."""
    action = _ACTIONS.get(name)
    if action is None:
        raise InvalidMessage("there is no such action", actual=name[:40])
    try:
        fields: object = json.loads(body)
    except (ValueError, RecursionError):
        raise InvalidMessage("an action takes a JSON object") from None
    if type(fields) is not dict:
        raise InvalidMessage("an action takes a JSON object")
    return action(system, cast("Fields", fields))


def _pause(system: AgentSystem, fields: Fields) -> dict[str, Any]:
    result = system.agent(_text(fields, "agent")).pause(checkpoint_id=_text(fields, "checkpoint", "") or None)
    result.raise_for_failure()
    return {"done": f"paused at checkpoint {result.data['checkpoint_id']}", "seq": result.data["seq"]}


def _resume(system: AgentSystem, fields: Fields) -> dict[str, Any]:
    checkpoint = _text(fields, "checkpoint", "") or None
    result = system.agent(_text(fields, "agent")).resume(checkpoint, clear_current=fields.get("clear") is True)
    result.raise_for_failure()
    return {"done": "resumed" if checkpoint is None else f"resumed from {checkpoint}", "seq": result.data["seq"]}


def _fork(system: AgentSystem, fields: Fields) -> dict[str, Any]:
    at = fields.get("seq")
    if type(at) is not int:
        raise InvalidMessage("a fork takes the seq where it begins", actual=at)
    made = system.fork(_text(fields, "agent"), at, to=_text(fields, "to"))
    return {"done": f"forked to {made.path.text}", "agent": made.path.text}


def _answer(system: AgentSystem, fields: Fields) -> dict[str, Any]:
    if "value" not in fields:
        raise InvalidMessage("an answer takes a value")
    agent, name = _text(fields, "agent"), _text(fields, "name")
    about = _shown_about(system, agent, name, fields) if "wait" in fields else None
    receipt = system.agent(agent).answer(
        name, fields["value"], work=_work(fields), command_id=_text(fields, "command"), about=about
    )
    return {"done": f"answered {name}", "seq": receipt.seq}


def _shown_about(system: AgentSystem, agent: str, name: str, fields: Fields) -> Any:
    """What the wait that began at seq `wait` is about. Raises InvalidMessage if the work does not wait there now."""
    for work in system.read_unfinished(agent):
        for item in work.waits_for if work.work == _work(fields) else ():
            if (item["kind"], item["name"], item["seq"]) == ("wait", name, fields["wait"]):
                return item["about"]
    raise InvalidMessage(
        f"work {fields['work']} of {agent} does not wait for {name} there any more: look at what it does now",
        agent=agent,
        expected=fields["wait"],
    )


def _cancel(system: AgentSystem, fields: Fields) -> dict[str, Any]:
    receipt = system.agent(_text(fields, "agent")).cancel(_work(fields))
    return {"done": f"cancelled work {fields['work']}", "seq": receipt.seq}


def _retry(system: AgentSystem, fields: Fields) -> dict[str, Any]:
    receipt = system.agent(_text(fields, "agent")).retry(_work(fields))
    return {"done": f"work {fields['work']} goes on", "seq": receipt.seq}


def _work(fields: Fields) -> int:
    work = fields.get("work")
    if type(work) is not int:
        raise InvalidMessage("this action takes work, a seq", actual=work)
    return work


def _text(fields: Fields, name: str, default: str | None = None) -> str:
    value = fields.get(name, default)
    if type(value) is not str:
        raise InvalidMessage(f"this action takes {name}, a text", actual=name)
    return value


_ACTIONS: Final[dict[str, Callable[[AgentSystem, Fields], dict[str, Any]]]] = {
    "answer": _answer,
    "cancel": _cancel,
    "fork": _fork,
    "pause": _pause,
    "resume": _resume,
    "retry": _retry,
}
