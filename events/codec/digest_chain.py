"""The digests of a log's events and the checksums of its snapshots, with a key or without."""

from __future__ import annotations

import hmac
from collections.abc import Callable, Sequence
from hashlib import sha256
from typing import Final, cast

from ..errors import InvalidMessage, WrongKey
from .event_codec import DIGEST_SIZE, chain

MIN_KEY_BYTES: Final = 16
MAX_KEY_BYTES: Final = 1024

_BLOCK: Final = 64  # bytes; the block of SHA-256 in HMAC
_INNER: Final = bytes(byte ^ 0x36 for byte in range(256))
_OUTER: Final = bytes(byte ^ 0x5C for byte in range(256))


class DigestChain:
    """Computes one log's digests: by SHA-256, or, with a key, by HMAC, which only holders of the key can do.

    Digests of events reveal nothing about those of snapshots, and neither reveal the key, which is not stored.
    Immutable and thread-safe. Raises InvalidMessage for a key that is not 16 to 1024 bytes.
    """

    __slots__ = ("_checksum", "_fingerprint", "_messages", "digest")

    def __init__(self, key: bytes | None = None) -> None:
        self.digest: Callable[[bytes, bytes], bytes]
        """Digest of an event: 16 bytes over the digest of the previous event and its own body."""
        self._checksum: Callable[[bytes], bytes]
        self._fingerprint: Callable[[bytes], bytes] | None
        self._messages: bytes | None = None
        if key is None:
            self.digest, self._checksum, self._fingerprint = chain, _plain_checksum, None
            return
        if type(cast("object", key)) is not bytes or not MIN_KEY_BYTES <= len(key) <= MAX_KEY_BYTES:
            raise InvalidMessage(
                f"an integrity key is {MIN_KEY_BYTES} to {MAX_KEY_BYTES} bytes, best made by `secrets.token_bytes(32)`"
            )
        self.digest = _keyed_digest(_derive_key(key, b"events"))
        self._checksum = _keyed_checksum(_derive_key(key, b"snapshots"))
        self._fingerprint = _keyed_checksum(_derive_key(key, b"fingerprint"))
        self._messages = _derive_key(key, b"messages")

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {'with' if self.is_keyed else 'without'} a key>"

    @property
    def is_keyed(self) -> bool:
        """Whether the chain has a key."""
        return self._fingerprint is not None

    def verify_items(self, previous: bytes, items: Sequence[bytes]) -> tuple[list[bytes], list[bytes]] | None:
        """Split stored items into digests and bodies; None unless they continue the chain after `previous`."""
        digests = [item[:DIGEST_SIZE] for item in items]
        bodies = [item[DIGEST_SIZE:] for item in items]
        # Each link is checked against the digest stored before it: the chain holds if all links hold.
        links = zip([previous, *digests], bodies, strict=False)
        if self.is_keyed:
            made = [self.digest(before, body) for before, body in links]
        else:  # as `chain`, without a call
            made = [sha256(before + body).digest()[:DIGEST_SIZE] for before, body in links]
        return (digests, bodies) if made == digests else None

    def seal(self, body: bytes) -> bytes:
        """Return the bytes of a snapshot with their checksum before them."""
        return self._checksum(body) + body

    def unseal(self, stored: bytes) -> bytes | None:
        """Return the bytes after the checksum; None if they do not match it."""
        body = stored[DIGEST_SIZE:]
        return body if self._checksum(body) == stored[:DIGEST_SIZE] else None

    def fingerprint(self, identity: str) -> str:
        """Return a text that identifies the key for this identity, to be stored with it; empty without a key."""
        return "" if self._fingerprint is None else self._fingerprint(identity.encode()).hex()

    def message_secret(self, identity: str) -> bytes | None:
        """Return 32 bytes that key the messages between processes of a log of this identity; None without a key."""
        return None if self._messages is None else hmac.digest(self._messages, identity.encode(), "sha256")

    def require_key(self, identity: str, fingerprint: str, what: str) -> None:
        """Raise WrongKey unless `fingerprint` is that of this key, or both are without a key."""
        if hmac.compare_digest(self.fingerprint(identity).encode(), fingerprint.encode()):
            return
        if not self.is_keyed:
            raise WrongKey(
                f"{what} was written with an integrity key: give the same one (`integrity_key`, or the environment "
                "variable DURAMEN_INTEGRITY_KEY)"
            )
        if not fingerprint:
            raise WrongKey(f"{what} was written without an integrity key, so no key can verify it: give no key for it")
        raise WrongKey(f"{what} was written with another integrity key: give that one")


def _derive_key(key: bytes, purpose: bytes) -> bytes:
    # The key is the message: as the key of an HMAC it would equal itself with zero bytes appended.
    return hmac.digest(b"duramen " + purpose, key, "sha256")


def _plain_checksum(body: bytes) -> bytes:
    return sha256(body).digest()[:DIGEST_SIZE]


def _keyed_checksum(key: bytes) -> Callable[[bytes], bytes]:
    def keyed_sum(body: bytes) -> bytes:
        return hmac.digest(key, body, "sha256")[:DIGEST_SIZE]

    return keyed_sum


def _keyed_digest(key: bytes) -> Callable[[bytes, bytes], bytes]:
    """Return HMAC-SHA256 with the key's part computed once: `hmac.digest` takes twice as long."""
    padded = key.ljust(_BLOCK, b"\0")
    begin, end = sha256(padded.translate(_INNER)).copy, sha256(padded.translate(_OUTER)).copy

    def keyed_digest(previous: bytes, body: bytes) -> bytes:
        inner, outer = begin(), end()
        inner.update(previous + body)
        outer.update(inner.digest())
        return outer.digest()[:DIGEST_SIZE]

    return keyed_digest


PLAIN: Final = DigestChain()
"""The chain without a key."""
