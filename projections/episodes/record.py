"""An episode as it is stored in the list of its partition."""

from __future__ import annotations

from hashlib import blake2b
from typing import Any, Final, cast

from attrs import frozen

from duramen.events import CorruptEvent
from duramen.events.codec import Codec, DigestChain
from duramen.events.log import ADD_TO_LIST, EventLog, Put

from .episode import Episode

CHARACTERS: Final = 8_000
"""Characters of a text that are embedded: models take texts of a bounded length."""


@frozen
class EpisodeRecord:
    """An episode with the agent and the seq of the event that recorded it."""

    agent: str
    seq: int
    episode: Episode


def episode_put(log: EventLog, agent: str, seq: int, episode: dict[str, Any], codec: Codec) -> Put:
    """What an append with the event of an episode writes besides: the episode, at the end of its partition's list."""
    return Put(log.episodes_key(agent), log.chain.seal(codec.pack([agent, seq, episode])), ADD_TO_LIST)


def hash_of_text(text: str) -> bytes:
    """The hash by which the vector of a text is stored. Of a long text only the beginning is embedded."""
    return blake2b(text[:CHARACTERS].encode(), digest_size=16).digest()


def erased_record(codec: Codec, chain: DigestChain) -> bytes:
    """What stands in the place of the episode of an agent that was erased."""
    return chain.seal(codec.pack(["", 0, None]))


def unpack_record(stored: bytes, codec: Codec, chain: DigestChain) -> EpisodeRecord | None:
    """Read an item of a list of episodes; None for that of an agent that was erased. Raises CorruptEvent."""
    body = chain.unseal(stored)
    try:
        if body is not None:
            agent, seq, data = cast("list[Any]", codec.unpack(body))
            if not agent:
                return None
            return EpisodeRecord(agent, seq, Episode(**data))
    except (TypeError, ValueError):
        pass
    raise CorruptEvent("a stored episode is damaged; `verify` names its place")
