"""Recordings of other programs as chat messages, known by their shape. Pure.

A chat message is an object with a `role`, and `content`, `tool_calls` and `tool_call_id` as in OpenAI's Chat API. What
another shape has besides stays in the message, so that nothing is lost.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any, Final

from duramen.events import Limits

from ..plain_data import as_dict, as_list, as_text
from .json_items import Item
from .strict_json import require_plain

_BODIES: Final = ("traj", "messages")
_LANGCHAIN: Final = {
    "human": "user",
    "ai": "assistant",
    "system": "system",
    "tool": "tool",
    "function": "tool",
    "chat": "user",
    "HumanMessage": "user",
    "AIMessage": "assistant",
    "SystemMessage": "system",
    "ToolMessage": "tool",
    "FunctionMessage": "tool",
    "HumanMessageChunk": "user",
    "AIMessageChunk": "assistant",
    "ToolMessageChunk": "tool",
}
_PYDANTIC_AI: Final = {
    "system-prompt": "system",
    "instructions": "system",
    "user-prompt": "user",
    "retry-prompt": "user",
    "tool-return": "tool",
    "builtin-tool-return": "tool",
}
"""Roles by `part_kind`; others are the assistant's."""
_NOTES: Final = ("leafUuid", "sessionId", "snapshot")
"""A line of Claude Code has one of these; it is no message if it has none in `message`."""

Message = dict[str, Any]


def is_message(value: Any) -> bool:
    """Whether a value is one message, or one entry of a recording of messages, rather than a session of them."""
    found = as_dict(value) or {}
    return ("role" in found and not any(name in found for name in _BODIES)) or _reader_of(found) is not None


def read_messages(item: Item, limits: Limits) -> Iterator[Item]:
    """The chat messages that one entry of a recording stands for; an entry of no known shape as it is.

    Raises InvalidRecording for one that could not be read back equal.
    """
    found = as_dict(item.value)
    reader = None if found is None else _reader_of(found)
    if found is None or reader is None:
        yield item
        return
    require_plain(found, limits, item.place, item.at())
    for message in reader(found):
        yield Item(item.place, item.where, message)


def _reader_of(value: Message) -> Callable[[Message], Iterator[Message]] | None:
    if any(name in value for name in _NOTES) and "role" not in value and as_text(value.get("type")) is not None:
        return _claude_code
    if as_list(value.get("parts")) is not None and value.get("kind") in ("request", "response"):
        return _pydantic_ai
    if value.get("lc") == 1 and as_dict(value.get("kwargs")) is not None:
        return _langchain_constructor
    if "role" in value:
        return _anthropic if _has_tools_inside(value) else _swe_agent if "tool_call_ids" in value else None
    kind = as_text(value.get("type")) or ""
    if kind in _LANGCHAIN and (as_dict(value.get("data")) is not None or "content" in value):
        return _langchain
    if kind == "reasoning" or kind.endswith(("_call", "_call_output")):
        return _responses
    return _swe_agent_step if "observation" in value and "action" in value else None


def _calls(*calls: tuple[Any, Any, Any]) -> list[Message]:
    """Calls of an id, a name and arguments, as the Chat API has them."""
    return [
        {
            "id": call_id,
            "type": "function",
            "function": {"name": name, "arguments": arguments if isinstance(arguments, str) else json.dumps(arguments)},
        }
        for call_id, name, arguments in calls
    ]


# -- OpenAI's Responses ------------------------------------------------------------------------------------------------


def _responses(value: Message) -> Iterator[Message]:
    kind, call_id = value["type"], value.get("call_id") or value.get("id")
    if kind == "reasoning":
        yield {**value, "role": "assistant", "content": value.get("content")}
    elif kind.endswith("_output"):
        yield {**value, "role": "tool", "tool_call_id": call_id, "content": value.get("output")}
    else:
        name = value.get("name") or kind.removesuffix("_call")
        arguments = value.get("arguments", value.get("action", value.get("input", {})))
        yield {
            **_without_name(value),
            "role": "assistant",
            "content": None,
            "tool_calls": _calls((call_id, name, arguments)),
        }


def _without_name(value: Message) -> Message:
    """Without the name of the tool, which in a chat message is that of the speaker."""
    return {key: each for key, each in value.items() if key != "name"}


# -- Anthropic, and Claude Code ----------------------------------------------------------------------------------------


def _blocks(value: Message) -> list[Message]:
    return [block for each in as_list(value.get("content")) or [] if (block := as_dict(each)) is not None]


def _has_tools_inside(value: Message) -> bool:
    kinds = [as_text(block.get("type")) or "" for block in _blocks(value)]
    return "tool_calls" not in value and any(kind.endswith(("tool_use", "tool_result")) for kind in kinds)


def _anthropic(value: Message) -> Iterator[Message]:
    """One message, and before it one for each result of a tool that is in it."""
    blocks = _blocks(value)
    results = [block for block in blocks if str(block.get("type")).endswith("tool_result")]
    for block in results:
        yield {**block, "role": "tool", "tool_call_id": block.get("tool_use_id"), "content": block.get("content")}
    uses = [block for block in blocks if str(block.get("type")).endswith("tool_use")]
    rest = [each for each in as_list(value.get("content")) or [] if each not in results]
    if rest or not results:
        calls = _calls(*((block.get("id"), block.get("name"), block.get("input", {})) for block in uses))
        yield {**value, "content": rest, **({"tool_calls": calls} if calls else {})}


def _claude_code(value: Message) -> Iterator[Message]:
    """The message of a line, with what stands around it; none for lines that are notes of the program."""
    message = as_dict(value.get("message"))
    if message is None or "role" not in message:
        return
    around = {"line": {key: each for key, each in value.items() if key not in ("message", "toolUseResult")}}
    for found in _anthropic(message) if _has_tools_inside(message) else iter((message,)):
        yield {**found, **around}


# -- LangChain ---------------------------------------------------------------------------------------------------------


def _langchain(value: Message) -> Iterator[Message]:
    data = as_dict(value.get("data"))
    yield _langchain_message(value["type"], {**value, **data} if data is not None else value)


def _langchain_constructor(value: Message) -> Iterator[Message]:
    names = as_list(value.get("id")) or [None]
    kwargs = value["kwargs"]
    yield _langchain_message(str(names[-1]), {**kwargs, "lc_id": names})


def _langchain_message(kind: str, value: Message) -> Message:
    message = {key: each for key, each in value.items() if key != "data" and each is not None}
    message["role"] = _LANGCHAIN.get(kind, as_text(value.get("role")) or "user")
    calls = [call for each in as_list(message.pop("tool_calls", None)) or [] if (call := as_dict(each)) is not None]
    if calls:
        message["tool_calls"] = _calls(*((call.get("id"), call.get("name"), call.get("args", {})) for call in calls))
    usage = as_dict(message.get("usage_metadata"))
    return message if usage is None else {**message, "usage": usage}


# -- pydantic-ai -------------------------------------------------------------------------------------------------------


def _pydantic_ai(value: Message) -> Iterator[Message]:
    """A message for each part of a request; one for all parts of a response."""
    parts = [part for each in value["parts"] if (part := as_dict(each)) is not None]
    if value["kind"] == "request":
        for part in parts:
            role = _PYDANTIC_AI.get(str(part.get("part_kind")), "user")
            is_retry = part.get("part_kind") == "retry-prompt" and part.get("tool_name")
            message = {**part, "role": "tool" if is_retry else role}
            yield {**message, "name": part["tool_name"]} if as_text(part.get("tool_name")) else message
        return
    texts = [text for part in parts if part.get("part_kind") == "text" and (text := as_text(part.get("content")))]
    calls = [part for part in parts if str(part.get("part_kind")).endswith("tool-call")]
    message = {**value, "role": "assistant", "content": "\n".join(texts) if texts else None}
    if calls:
        message["tool_calls"] = _calls(
            *((part.get("tool_call_id"), part.get("tool_name"), part.get("args", {})) for part in calls)
        )
    yield message


# -- SWE-agent ---------------------------------------------------------------------------------------------------------


def _swe_agent(value: Message) -> Iterator[Message]:
    ids = as_list(value["tool_call_ids"]) or []
    yield {**value, "tool_call_id": ids[0]} if ids and value["role"] == "tool" else value


def _swe_agent_step(value: Message) -> Iterator[Message]:
    """A step of a trajectory without history: what the model answered, and what came of it."""
    rest = {key: each for key, each in value.items() if key not in ("observation", "action", "response")}
    spoken = value.get("response") or value.get("thought")
    yield {**rest, "role": "assistant", "content": spoken, "tool_calls": _calls((None, "shell", value["action"]))}
    yield {"role": "tool", "name": "shell", "content": value["observation"]}


# -- sessions ----------------------------------------------------------------------------------------------------------


def bodies_of(session: Message) -> list[tuple[str, Any]]:
    """The parts of an object that is a session which have its messages, in their order, each with its key."""
    if "trajectory" in session:  # SWE-agent's history has what its trajectory has, and what came before
        name = "history" if session.get("history") else "trajectory"
        return [(name, session[name])]
    if session.get("object") == "response":  # of the Responses API; what was asked may lie beside it
        asked = session.get("input")
        before = [{"role": "user", "content": asked}] if isinstance(asked, str) else asked
        return [*([("input", before)] if before else []), ("output", session.get("output"))]
    bodies: list[tuple[str, Any]] = [(name, session[name]) for name in _BODIES if name in session]
    if session.get("system") and "messages" in session:  # Anthropic's
        bodies = [("system", [{"role": "system", "content": session["system"]}]), *bodies]
    choices = as_list(session.get("choices"))
    if choices:
        bodies.append(("choices", [(as_dict(each) or {}).get("message") for each in choices[:1]]))
    return bodies
