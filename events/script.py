"""Lua scripts as files of this package, called by digest and loaded when the server does not know them."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha1
from importlib.resources import files

__all__ = ["Script", "bulk"]


def bulk(arguments: Sequence[bytes]) -> bytes:
    """A command in the server's protocol (RESP), ready for a socket."""
    parts = [b"*%d\r\n" % len(arguments)]
    for argument in arguments:
        parts.append(b"$%d\r\n" % len(argument))
        parts.append(argument)
        parts.append(b"\r\n")
    return b"".join(parts)


class Script:
    """One script of `lua/`. `read_only` ones run as `EVALSHA_RO`, which a user without write rights may call too."""

    __slots__ = ("_command", "_digest", "load")

    def __init__(self, name: str, *, read_only: bool = False) -> None:
        text = files(__package__ or "").joinpath("lua", f"{name}.lua").read_bytes()
        # The server names scripts by SHA-1; no secret rests on it.
        self._digest = sha1(text, usedforsecurity=False).hexdigest().encode()
        self._command = b"EVALSHA_RO" if read_only else b"EVALSHA"
        self.load = bulk((b"SCRIPT", b"LOAD", text))

    def call(self, keys: Sequence[str], arguments: Sequence[bytes]) -> bytes:
        """The call, ready for a socket. The server answers NOSCRIPT when `load` has to be sent first."""
        encoded = [key.encode() for key in keys]
        return bulk([self._command, self._digest, b"%d" % len(keys), *encoded, *arguments])
