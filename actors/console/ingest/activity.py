"""The activity records of a chat message: completions, tool calls and their outputs."""

from __future__ import annotations

from typing import Any, Final

from ...commands import Record
from ..output import COMPLETION, TOOL_CALL, TOOL_OUTPUT
from ..plain_data import as_dict, as_list

_UNKNOWN: Final = "unknown"


def records_of(message: dict[str, Any], called: dict[str, str]) -> list[Record]:
    """The records of one message. `called` maps call ids to tools; the calls of this message are added to it."""
    role = message["role"]
    if role == "assistant":
        return [_completion(message), *_calls(message, called)]
    if role in ("tool", "function"):
        return [_output(message, called)]
    return []


def _completion(message: dict[str, Any]) -> Record:
    data: dict[str, Any] = {"content": message.get("content")}
    usage = as_dict(message.get("usage"))
    if usage is not None:
        data["usage"] = usage
    return Record(COMPLETION, data)


def _calls(message: dict[str, Any], called: dict[str, str]) -> list[Record]:
    records: list[Record] = []
    for call in as_list(message.get("tool_calls")) or []:
        function, call_id = call["function"], call.get("id")
        if type(call_id) is str:
            called[call_id] = function["name"]
        data = {"tool": function["name"], "tool_call_id": call_id, "arguments": function.get("arguments")}
        records.append(Record(TOOL_CALL, data))
    return records


def _output(message: dict[str, Any], called: dict[str, str]) -> Record:
    call_id = message.get("tool_call_id")
    tool = message.get("name") or called.get(call_id or "") or _UNKNOWN
    return Record(TOOL_OUTPUT, {"tool": tool, "tool_call_id": call_id, "result": message.get("content")})
