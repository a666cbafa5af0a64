"""Lua scripts as files of this package, called by digest and loaded when the server does not know them."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha1
from importlib.resources import files
from typing import Any

import msgpack

__all__ = ["Script", "argument", "bulk", "pack_wire", "read_script"]


def argument(data: bytes) -> bytes:
    """One argument in the server's protocol (RESP)."""
    return b"$%d\r\n%b\r\n" % (len(data), data)


def bulk(arguments: Sequence[bytes]) -> bytes:
    """A command in the server's protocol, ready for a socket."""
    return b"*%d\r\n%b" % (len(arguments), b"".join(map(argument, arguments)))


def read_script(name: str) -> bytes:
    """The source of a script of `events/redis/lua`."""
    return files("duramen.events.redis").joinpath("lua", f"{name}.lua").read_bytes()


class Script:
    """One script of `lua/`. `read_only` ones run as `EVALSHA_RO`, which a user without write rights may call too."""

    __slots__ = ("_name", "load")

    def __init__(self, name: str, *, read_only: bool = False) -> None:
        text = read_script(name)
        # The server names scripts by SHA-1; no secret rests on it.
        digest = sha1(text, usedforsecurity=False).hexdigest().encode()
        self._name = argument(b"EVALSHA_RO" if read_only else b"EVALSHA") + argument(digest)
        self.load = bulk((b"SCRIPT", b"LOAD", text))

    def call(self, keys: Sequence[str], arguments: Sequence[bytes]) -> bytes:
        """The call, ready for a socket. The server answers NOSCRIPT when `load` has to be sent first."""
        key_parts = b"".join([argument(key.encode()) for key in keys])
        argument_parts = b"".join([argument(data) for data in arguments])
        return self.call_of_parts(len(keys), key_parts, len(arguments), argument_parts)

    def call_of_parts(self, keys: int, key_parts: bytes, arguments: int, argument_parts: bytes) -> bytes:
        """The call of so many keys and arguments that are in the server's protocol already."""
        count = b"%d" % keys
        size = 3 + keys + arguments
        return b"*%d\r\n%b$%d\r\n%b\r\n%b%b" % (size, self._name, len(count), count, key_parts, argument_parts)


def pack_wire(value: Any) -> bytes:
    """For the server's Lua: its cmsgpack does not know msgpack's binary type, so bytes go as raw strings."""
    return msgpack.packb(value, use_bin_type=False)
