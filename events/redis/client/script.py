"""Lua scripts of this package, called by digest, and the encoding of commands."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha1
from importlib.resources import files
from typing import Any

import msgpack


def encode_argument(data: bytes) -> bytes:
    """Encode one argument in the server's protocol (RESP)."""
    return b"$%d\r\n%b\r\n" % (len(data), data)


def encode_command(arguments: Sequence[bytes]) -> bytes:
    """Encode a command in the server's protocol (RESP), ready for a socket."""
    return b"*%d\r\n%b" % (len(arguments), b"".join(map(encode_argument, arguments)))


def read_script(name: str) -> bytes:
    """Read the source of a script of `events/redis/lua`, named by its folder and file: `agents/append`."""
    return files("duramen.events.redis").joinpath("lua", f"{name}.lua").read_bytes()


class Script:
    """One script of `lua/`. With `read_only` it runs as `EVALSHA_RO`, which a user without write rights may call."""

    __slots__ = ("_name", "load")

    def __init__(self, name: str, *, read_only: bool = False) -> None:
        text = read_script(name)
        # The server identifies scripts by SHA-1; no security depends on it.
        digest = sha1(text, usedforsecurity=False).hexdigest().encode()
        self._name = encode_argument(b"EVALSHA_RO" if read_only else b"EVALSHA") + encode_argument(digest)
        self.load = encode_command((b"SCRIPT", b"LOAD", text))

    def call(self, keys: Sequence[str], arguments: Sequence[bytes]) -> bytes:
        """Return the encoded call. The server answers NOSCRIPT if `load` has to be sent first."""
        key_parts = b"".join([encode_argument(key.encode()) for key in keys])
        argument_parts = b"".join([encode_argument(data) for data in arguments])
        return self.call_of_parts(len(keys), key_parts, len(arguments), argument_parts)

    def call_of_parts(self, keys: int, key_parts: bytes, arguments: int, argument_parts: bytes) -> bytes:
        """Return the call with `keys` keys and `arguments` arguments, given as encoded parts."""
        count = b"%d" % keys
        size = 3 + keys + arguments
        return b"*%d\r\n%b$%d\r\n%b\r\n%b%b" % (size, self._name, len(count), count, key_parts, argument_parts)


def pack_for_lua(value: Any) -> bytes:
    """Pack a value for Lua's cmsgpack, which lacks msgpack's binary type: bytes become raw strings."""
    return msgpack.packb(value, use_bin_type=False)
