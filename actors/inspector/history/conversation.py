"""The messages of a model and its user, as working memory holds them at one moment."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from attrs import define, field

from duramen.events import Content
from duramen.projections.history import TracedState

from .encoding import as_dict, as_list, latest
from .log_index import is_failure
from .windows import brief

MOST_MESSAGES: Final = 50
_TEXT: Final = 16 * 1024
_RESULT: Final = 4 * 1024
_RESULTS: Final = ("tool", "function")
_DEPTH: Final = 3
_MOST_CALLS: Final = 20


def conversation(state: TracedState, before: int | None) -> dict[str, Any]:
    """The last messages in front of number `before`, of the longest list of messages in working memory."""
    found = _longest(state)
    if found is None:
        return {"seq": state.seq, "path": None, "count": 0, "first": 0, "messages": []}
    path, messages, setters = found
    end = len(messages) if before is None else max(0, min(before, len(messages)))
    first = max(0, end - MOST_MESSAGES)
    names = _tool_names(messages)
    return {
        "seq": state.seq,
        "path": list(path),
        "count": len(messages),
        "first": first,
        "messages": [_message(messages[at], at, latest(setters[at]), names) for at in range(first, end)],
    }


@define
class ConversationRecord:
    """The conversation at every moment of a log: which message stood where, from which seq on."""

    _messages: list[dict[str, Any]] = field(factory=list[dict[str, Any]])
    _places: list[list[list[int]]] = field(factory=list[list[list[int]]])
    """By position: from which seq on which message stood there."""
    _counts: list[list[int]] = field(factory=list[list[int]])
    """From which seq on there were how many."""
    _held: list[tuple[Any, int]] = field(factory=list[tuple[Any, int]])
    """What stands at each position now, with its setter."""
    _listed: Any = None

    def add(self, state: TracedState) -> None:
        """Take in the next state."""
        _, listed, setters = _longest(state) or ((), [], [])
        if listed is self._listed:
            return
        self._listed = listed
        for at, message in enumerate(listed):
            setter = latest(setters[at])
            held = self._held[at] if at < len(self._held) else None
            if held is None or held[1] != setter or (held[0] is not message and held[0] != message):
                self._put(state.seq, at, message, setter)
        del self._held[len(listed) :]
        self._counts.append([state.seq, len(listed)])

    def _put(self, seq: int, at: int, message: Any, setter: int) -> None:
        if at == len(self._held):
            self._held.append((message, setter))
        else:
            self._held[at] = message, setter
        if at == len(self._places):
            self._places.append([])
        is_result = (as_dict(message) or {}).get("role") in _RESULTS
        names = _tool_names([held for held, _ in self._held]) if is_result else {}
        self._places[at].append([seq, len(self._messages)])
        self._messages.append(_message(message, at, setter, names))

    def data(self) -> dict[str, Any]:
        """What was taken in, as JSON types."""
        return {"messages": self._messages, "places": self._places, "counts": self._counts}


def _longest(state: TracedState) -> tuple[tuple[str, ...], Any, Any] | None:
    return max(_lists(state.memory, state.setters, (), 0), key=lambda each: len(each[1]), default=None)


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
    is_result = role in _RESULTS
    most = _RESULT if is_result else _TEXT
    row: dict[str, Any] = {"at": at, "seq": seq, "role": role, "text": text[:most], "length": len(text)}
    content = held.get("content")
    if isinstance(content, Content):
        row["beside"] = content.size
    elif type(content) is str and len(text) > most:
        row["cut"] = True
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
    return "" if content is None or isinstance(content, Content) else brief(content, _RESULT)
