"""Reading recorded sessions from files, and refusing what an agent could not hold before anything is written.

A session is a list of chat messages, or an object that has one in `traj` or `messages`, with `task_id`, `trial` and
`reward` where they are known. A file has sessions, or the messages of one. Messages of other programs are read as such,
see `shapes`.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from hashlib import sha256
from itertools import chain, islice
from typing import Any, Final, cast

from attrs import define, field, frozen

from duramen.events import Limits
from duramen.events.codec import Codec

from ..plain_data import as_dict, as_list, as_text
from .json_items import Item, Source, read_items
from .shapes import bodies_of, is_message, read_messages
from .strict_json import require_plain

_ENVELOPE: Final = 2 * 1024
"""Bytes of an event besides a message's content: names, ids, the envelope of a record."""
_SPARE_NODES: Final = 1_000
_SPARE_BYTES: Final = 2 * 1024 * 1024
"""Bytes of a checkpoint besides the messages: 10,000 command ids take 1 MB."""
_MOST_CALLS: Final = 200
_NOT_IN_NAMES: Final = re.compile(r"[^a-z0-9._-]+")
_LONGEST_NAME: Final = 100


@frozen
class RecordedSession:
    """One session. `name` is unique in its file and stable; `session_id` also has a digest of the content."""

    name: str
    session_id: str
    messages: list[dict[str, Any]]
    reward: int | float | None
    metadata: dict[str, Any]


def read_sessions(source: Source, limits: Limits, *, limit: int | None = None) -> Iterator[RecordedSession]:
    """The sessions of a file, read lazily. Raises InvalidRecording."""
    items = read_items(source)
    first = next(items)
    everything = chain((first,), items)
    names = _Names()
    if is_message(first.value):
        yield _session(source, names, everything, limits, first)
        return
    for item in islice(everything, limit):
        yield _session(source, names, _messages_of(item), limits, item)


def slug(text: str) -> str:
    """The text as a segment of an agent path; empty if it has no character that a segment may have."""
    return _NOT_IN_NAMES.sub("-", text.lower()).strip("-._")[:_LONGEST_NAME]


def _messages_of(item: Item) -> Iterator[Item]:
    """The entries of one session."""
    session = as_dict(item.value)
    bodies = [("", item.value)] if session is None else bodies_of(session)
    if not bodies:
        raise item.refuse("is neither a message (with a role) nor a session (with traj or messages)")
    if len(bodies) > 1 and bodies[0][0] == "traj":
        raise item.refuse("has both traj and messages; leave one out")
    for name, value in bodies:
        below = [name] if name else []
        messages = as_list(value)
        if messages is None:
            raise item.refuse("is not a list of messages", *below)
        if not messages:
            raise item.refuse("has no messages", *below)
        for index, message in enumerate(messages):
            yield Item(item.place, item.at(*below, index), message)


def _session(source: Source, names: _Names, messages: Iterator[Item], limits: Limits, item: Item) -> RecordedSession:
    """One session of the messages that entries stand for. `item` has its `reward`, `task_id` and `trial`."""
    collected = _Messages(limits)
    for entry in messages:
        for message in read_messages(entry, limits):
            collected.add(message)
    if not collected.messages:
        raise item.refuse("has no messages")
    facts = {} if is_message(item.value) else as_dict(item.value) or {}
    reward, known = _reward(item, facts), _identity(item, facts)
    name = names.of(known)
    content = json.dumps([collected.messages, reward], sort_keys=True).encode()
    session_id = f"{name}-{sha256(content).hexdigest()[:12]}"
    return RecordedSession(name, session_id, collected.messages, reward, {"recording": source.name, **known})


def _reward(item: Item, facts: dict[str, Any]) -> int | float | None:
    reward = facts.get("reward")
    if reward is None:
        return None
    if type(reward) not in (int, float) or not math.isfinite(reward):
        raise item.refuse("is not a number", "reward")
    return cast("int | float", reward)


def _identity(item: Item, facts: dict[str, Any]) -> dict[str, Any]:
    known = {name: facts[name] for name in ("task_id", "trial") if facts.get(name) is not None}
    for name, value in known.items():
        if type(value) not in (int, str) or len(str(value)) > _LONGEST_NAME:
            raise item.refuse(f"is neither a number nor a text of at most {_LONGEST_NAME} characters", name)
    return known


@define
class _Names:
    """Gives each session of a file a unique name: from its task and trial, else from its position."""

    _given: set[str] = field(factory=set[str])
    _count: int = 0

    def of(self, known: dict[str, Any]) -> str:
        self._count += 1
        wanted = self._wanted(known) or f"session-{self._count:04d}"
        name, again = wanted, 1
        while name in self._given:
            again += 1
            name = f"{wanted}-{again}"
        self._given.add(name)
        return name

    def _wanted(self, known: dict[str, Any]) -> str:
        task, trial = known.get("task_id"), known.get("trial")
        if task is None or not slug(str(task)):
            return ""
        name = slug(task) if isinstance(task, str) and not task.isdecimal() else f"task-{slug(str(task))}"
        return name if trial is None else slug(f"{name}-trial-{trial}")


class _Messages:
    """The messages of a session. `add` checks shape, values and the limits of an agent's memory."""

    def __init__(self, limits: Limits) -> None:
        self.messages: list[dict[str, Any]] = []
        self._limits = limits
        self._codec = Codec(limits)
        self._nodes = 0
        self._bytes = 0

    def add(self, item: Item) -> None:
        limits = self._limits
        nodes = require_plain(item.value, limits, item.place, item.at())
        self._check_shape(item)
        size = len(self._codec.pack(item.value))
        if size > limits.event_bytes - _ENVELOPE:
            raise item.refuse(f"takes {size} bytes, more than an event holds ({limits.event_bytes}); shorten it")
        self._nodes += nodes
        self._bytes += size
        if self._nodes > limits.state_nodes - _SPARE_NODES or self._bytes > limits.snapshot_bytes - _SPARE_BYTES:
            raise item.refuse("is one message too many: the session is larger than an agent's memory; split it")
        self.messages.append(item.value)

    def _check_shape(self, item: Item) -> None:
        message = as_dict(item.value)
        if message is None:
            raise item.refuse("is not a message: an object with a role")
        if not as_text(message.get("role")):
            raise item.refuse("has no role, or one that is no text")
        for name in ("name", "tool_call_id"):
            if message.get(name) is not None and as_text(message[name]) is None:
                raise item.refuse("is not a text", name)
        if message.get("tool_calls") is None:
            return
        calls = as_list(message["tool_calls"])
        if calls is None or len(calls) > _MOST_CALLS:
            raise item.refuse(f"is not a list of at most {_MOST_CALLS} calls", "tool_calls")
        for index, call in enumerate(calls):
            function = as_dict((as_dict(call) or {}).get("function")) or {}
            if as_text(function.get("name")) is None:
                raise item.refuse("is not a call: an object with the name of a function", "tool_calls", index)
