"""The messages of a model and its user, as working memory holds them at one moment."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from duramen.projections.history import TracedState

from .encoding import as_dict, as_list, latest
from .log_index import is_failure
from .windows import brief

MOST_MESSAGES: Final = 50
_TEXT: Final = 16 * 1024
_RESULT: Final = 4 * 1024
_DEPTH: Final = 3
_MOST_CALLS: Final = 20


def conversation(state: TracedState, before: int | None) -> dict[str, Any]:
    """The last messages in front of number `before`, of the longest list of messages in working memory."""
    found = max(_lists(state.memory, state.setters, (), 0), key=lambda each: len(each[1]), default=None)
    if found is None:
        return {"seq": state.seq, "path": None, "count": 0, "first": 0, "messages": []}
    path, messages, setters = found
    end = len(messages) if before is None else max(0, min(before, len(messages)))
    first = max(0, end - MOST_MESSAGES)
    names = _tool_names(messages)
    return {
        "seq": state.seq,
        "path": "/".join(path),
        "count": len(messages),
        "first": first,
        "messages": [_message(messages[at], at, latest(setters[at]), names) for at in range(first, end)],
    }


def _lists(value: Any, setters: Any, path: tuple[str, ...], depth: int) -> Iterator[tuple[tuple[str, ...], Any, Any]]:
    listed, held = as_list(value), as_dict(value)
    if listed:
        if all(type((as_dict(each) or {}).get("role")) is str for each in listed[:10]):
            yield path, listed, setters
    elif held is not None and depth < _DEPTH:
        for key, child in held.items():
            yield from _lists(child, setters.get(key), (*path, key), depth + 1)


def _tool_names(messages: list[Any]) -> dict[str, str]:
    names: dict[str, str] = {}
    for message in messages:
        for call in _calls(as_dict(message) or {}):
            if type(call.get("id")) is str:
                names[call["id"]] = _function(call)[0]
    return names


def _message(message: Any, at: int, seq: int, names: dict[str, str]) -> dict[str, Any]:
    held = as_dict(message) or {}
    text = _text(held.get("content"))
    role = str(held.get("role", ""))[:40]
    is_result = role in ("tool", "function")
    most = _RESULT if is_result else _TEXT
    row: dict[str, Any] = {"at": at, "seq": seq, "role": role, "text": text[:most], "length": len(text)}
    calls = [_function(call) for call in _calls(held)][:_MOST_CALLS]
    if calls:
        row["calls"] = [{"tool": name[:200], "arguments": arguments[:_RESULT]} for name, arguments in calls]
    if is_result:
        row["tool"] = str(held.get("name") or names.get(str(held.get("tool_call_id")), ""))[:200]
        row["failed"] = is_failure(held)
    return row


def _calls(message: dict[str, Any]) -> list[dict[str, Any]]:
    found = (as_dict(call) for call in as_list(message.get("tool_calls")) or [])
    return [call for call in found if call is not None]


def _function(call: dict[str, Any]) -> tuple[str, str]:
    held = as_dict(call.get("function")) or call
    arguments = held.get("arguments")
    shown = arguments if type(arguments) is str else brief(arguments, _RESULT)
    return str(held.get("name", "")), "" if arguments is None else shown


def _text(content: Any) -> str:
    """The text of a message's content: a text, or a list of parts."""
    if type(content) is str:
        return content
    listed = as_list(content)
    if listed is not None:
        parts = [part if type(part) is str else (as_dict(part) or {}).get("text") for part in listed]
        return "\n".join(part for part in parts if type(part) is str)
    return "" if content is None else brief(content, _RESULT)
