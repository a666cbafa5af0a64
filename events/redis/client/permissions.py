"""The commands that a user of the server must be allowed to run; the server itself is asked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, cast

from attrs import frozen

from ...errors import NotPermitted
from ...log import Keys
from ...model import Granularity
from .script import pack_for_lua

_OF_CHANNELS: Final = frozenset(("PUBLISH", "SUBSCRIBE", "UNSUBSCRIBE", "SPUBLISH", "SSUBSCRIBE", "SUNSUBSCRIBE"))

Probe = Callable[[list[bytes]], list[Any]]
"""Runs the script `permissions` with the given arguments on each server, and returns the replies."""


@frozen(eq=False, repr=False)
class Command:
    """A command that duramen runs. `use` says what does not work without it."""

    name: str
    arguments: tuple[bytes, ...]
    use: str = ""


def require_permissions(probe: Probe, keys: Keys, *, in_cluster: bool = False) -> None:
    """Raise NotPermitted if this user may not run a command that agents need.

    Call it before the first write: a script that is refused a command half-way is not rolled back.
    """
    _require(probe, list_commands(keys, in_cluster=in_cluster)[0])


def require_consumer_permissions(probe: Probe, keys: Keys) -> None:
    """Raise NotPermitted if this user may not run a command that stored views need."""
    _require(probe, _consumer_commands(keys))


def _require(probe: Probe, needed: Sequence[Command]) -> None:
    refused = find_refused(probe, needed)
    if refused:
        raise NotPermitted(
            f"this user may not run {join_names(refused)} on the keys duramen:*; {grant_advice(refused)}",
            actual=join_names(refused),
        )


def list_commands(keys: Keys, *, in_cluster: bool = False) -> tuple[list[Command], list[Command]]:
    """Return the commands that agents need, and those that only a part of the library needs."""
    sharded = "S" if in_cluster else ""
    agent = "project/agent"
    hash_, log = keys.heads(0).encode(), keys.log(0, agent).encode()
    text = keys.checkpoint(0, agent, "checkpoint").encode()
    channel = keys.channel(0, Granularity.STATE).encode()
    digest = b"0" * 40
    needed = [
        Command("EVALSHA", (digest, b"1", hash_)),
        Command("EVALSHA_RO", (digest, b"1", hash_)),
        Command("SCRIPT LOAD", (b"",)),
        Command("HMGET", (hash_, b"field")),
        Command("HSET", (hash_, b"field", b"value")),
        Command("LLEN", (log,)),
        Command("RPUSH", (log, b"value")),
        Command("LRANGE", (log, b"0", b"0")),
        Command("SET", (text, b"value")),
        Command("GET", (text,)),
        Command("EXISTS", (text,)),
        *([Command("CLUSTER SLOTS", ()), Command("CLUSTER INFO", ()), Command("ASKING", ())] if in_cluster else []),
    ]
    wanted = [
        *_consumer_commands(keys),
        Command("HSCAN", (hash_, b"0"), "agents cannot be listed, nor agents of a machine that has died be taken over"),
        Command("LSET", (log, b"0", b"value"), "agents cannot be erased"),
        Command("LTRIM", (log, b"0", b"-1"), "logs cannot be trimmed"),
        *_keyframe_commands(keys.keyframe_seqs(0, agent).encode()),
        *_unfinished_commands(keys.unfinished(0).encode()),
        Command(
            f"{sharded}PUBLISH",
            (channel, b"value"),
            "new events are committed, but nobody is notified of them, and no other process can be asked",
        ),
        Command(
            f"{sharded}SUBSCRIBE",
            (channel,),
            "new events are looked for only once in a while, and other processes are not heard",
        ),
        Command(f"{sharded}UNSUBSCRIBE", (channel,), "notices that no subscriber wants any more still arrive"),
        Command("PEXPIRE", (text, b"1"), "live output cannot be written, nor what is too large for an event"),
        Command(
            "TIME", (), "what is too large for an event cannot be kept, and unfinished work is due by our own clock"
        ),
        Command("PING", (), "a subscriber's connection that is silently dead is not noticed"),
    ]
    return needed, wanted


def _unfinished_commands(unfinished: bytes) -> list[Command]:
    return [
        Command("ZRANK", (unfinished, b"agent"), "more than a page of unfinished work is not found again"),
    ]


def _keyframe_commands(seqs: bytes) -> list[Command]:
    use = "looking far back takes as long as reading up to that point"
    return [
        Command("ZADD", (seqs, b"1", b"1"), use),
        Command("ZRANGE", (seqs, b"0", b"-1"), use),
        Command("ZREM", (seqs, b"1"), "trimming a log of thousands of events ends with an error, though it is done"),
    ]


def _consumer_commands(keys: Keys) -> list[Command]:
    views, live = keys.views.encode(), keys.view("name", "live").encode()
    use = "projections cannot be attached"
    return [
        Command("HDEL", (views, b"field"), use),
        Command("UNLINK", (live,), use),
        Command("RENAME", (live, live), use),
    ]


def find_refused(probe: Probe, commands: Sequence[Command]) -> list[Command] | None:
    """Return those of the commands that this user may not run on some server; None if one cannot tell."""
    lines = [[*command.name.encode().split(), *command.arguments] for command in commands]
    replies = probe([pack_for_lua(lines)])
    if any(reply is None for reply in replies):
        return None
    refused = {number for reply in replies for number in cast("list[int]", reply)}
    return [commands[number - 1] for number in sorted(refused)]


def join_names(commands: Sequence[Command]) -> str:
    return ", ".join(command.name for command in commands)


def grant_advice(commands: Sequence[Command]) -> str:
    rules = [f"+{command.name.lower().replace(' ', '|')}" for command in commands]
    rules.append("&duramen:*" if commands[0].name in _OF_CHANNELS else "~duramen:*")
    return f"grant {' '.join(rules)}"
