"""What binds a log together: the digests of its events, and the checksums of its snapshots; with a key, or without."""

from __future__ import annotations

import hmac
from collections.abc import Callable, Sequence
from hashlib import sha256
from typing import Final, cast

from ..errors import InvalidMessage, WrongKey
from .event_codec import DIGEST_SIZE, chain

__all__ = ["LEAST_KEY", "MOST_KEY", "PLAIN", "DigestChain"]

LEAST_KEY: Final = 16
MOST_KEY: Final = 1024

_BLOCK: Final = 64  # of SHA-256, as HMAC has it
_INNER: Final = bytes(byte ^ 0x36 for byte in range(256))
_OUTER: Final = bytes(byte ^ 0x5C for byte in range(256))


class DigestChain:
    """How one log makes its digests. Without a key by SHA-256: everybody can. With one by HMAC: its holders only.

    What is made of the key for events tells nothing of what is made of it for snapshots, and neither of them the key,
    which is not kept. Immutable and thread-safe. Raises InvalidMessage for a key that is not 16 to 1024 bytes.
    """

    __slots__ = ("_name", "_sum", "digest")

    def __init__(self, key: bytes | None = None) -> None:
        self.digest: Callable[[bytes, bytes], bytes]
        """Of an event: 16 bytes over the digest of the one before it and its own body."""
        self._sum: Callable[[bytes], bytes]
        self._name: Callable[[bytes], bytes] | None
        if key is None:
            self.digest, self._sum, self._name = chain, _plain_sum, None
            return
        if type(cast("object", key)) is not bytes or not LEAST_KEY <= len(key) <= MOST_KEY:
            raise InvalidMessage(
                f"an integrity key is {LEAST_KEY} to {MOST_KEY} bytes, best made by `secrets.token_bytes(32)`"
            )
        self.digest = _keyed_digest(_derived(key, b"events"))
        self._sum = _keyed_sum(_derived(key, b"snapshots"))
        self._name = _keyed_sum(_derived(key, b"fingerprint"))

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {'with' if self.is_keyed else 'without'} a key>"

    @property
    def is_keyed(self) -> bool:
        """Whether a key is used."""
        return self._name is not None

    def verify_items(self, previous: bytes, items: Sequence[bytes]) -> tuple[list[bytes], list[bytes]] | None:
        """Digests and bodies of stored items that continue the chain behind `previous`; None if one does not."""
        digests = [item[:DIGEST_SIZE] for item in items]
        bodies = [item[DIGEST_SIZE:] for item in items]
        # Each link by itself, with the digest that is stored before it: all of them hold, or the chain does not.
        links = zip([previous, *digests], bodies, strict=False)
        if self.is_keyed:
            made = [self.digest(before, body) for before, body in links]
        else:  # as `chain` does, without a call
            made = [sha256(before + body).digest()[:DIGEST_SIZE] for before, body in links]
        return (digests, bodies) if made == digests else None

    def seal(self, body: bytes) -> bytes:
        """A snapshot's bytes with their checksum before them."""
        return self._sum(body) + body

    def unseal(self, stored: bytes) -> bytes | None:
        """The bytes behind the checksum; None if it is not theirs."""
        body = stored[DIGEST_SIZE:]
        return body if self._sum(body) == stored[:DIGEST_SIZE] else None

    def fingerprint(self, identity: str) -> str:
        """What may be stored to tell a wrong key by, beside the identity of what it is used for; empty without one."""
        return "" if self._name is None else self._name(identity.encode()).hex()

    def require(self, identity: str, fingerprint: str, what: str) -> None:
        """Raise WrongKey unless this is the key whose fingerprint was stored, or neither has one."""
        if hmac.compare_digest(self.fingerprint(identity).encode(), fingerprint.encode()):
            return
        if not self.is_keyed:
            raise WrongKey(
                f"{what} was written with an integrity key: give the same one (`integrity_key`, or the environment "
                "variable DURAMEN_INTEGRITY_KEY)"
            )
        if not fingerprint:
            raise WrongKey(f"{what} was written without an integrity key, so none can vouch for it: give no key for it")
        raise WrongKey(f"{what} was written with another integrity key: give that one")


def _derived(key: bytes, purpose: bytes) -> bytes:
    # The key is what is hashed: as the key of an HMAC it would be the same with zero bytes behind it.
    return hmac.digest(b"duramen " + purpose, key, "sha256")


def _plain_sum(body: bytes) -> bytes:
    return sha256(body).digest()[:DIGEST_SIZE]


def _keyed_sum(key: bytes) -> Callable[[bytes], bytes]:
    def keyed_sum(body: bytes) -> bytes:
        return hmac.digest(key, body, "sha256")[:DIGEST_SIZE]

    return keyed_sum


def _keyed_digest(key: bytes) -> Callable[[bytes, bytes], bytes]:
    """HMAC-SHA256. What it does with the key alone is done once: `hmac.digest` takes twice as long."""
    padded = key.ljust(_BLOCK, b"\0")
    begin, end = sha256(padded.translate(_INNER)).copy, sha256(padded.translate(_OUTER)).copy

    def keyed_digest(previous: bytes, body: bytes) -> bytes:
        inner, outer = begin(), end()
        inner.update(previous + body)
        outer.update(inner.digest())
        return outer.digest()[:DIGEST_SIZE]

    return keyed_digest


PLAIN: Final = DigestChain()
"""Without a key."""
