"""Long-term memory: episodes of finished sessions, listed and searched."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Final

from .episode import Episode, Episodes, compose_episode, episode_id, episode_text
from .facets import EpisodeFilter
from .index import EpisodeIndex, Found
from .reader import EpisodeReader
from .record import EpisodeRecord, episode_put, erased_record, hash_of_text, unpack_record
from .word_index import WordIndex

if TYPE_CHECKING:
    from .embeddings import Embed, Embedding
    from .graph_vectors import GraphVectors
    from .vector_index import ExactVectors, Vector, VectorIndex
else:
    _OPTIONAL: Final = {
        "Embed": "embeddings",
        "Embedding": "embeddings",
        "ExactVectors": "vector_index",
        "GraphVectors": "graph_vectors",
        "Vector": "vector_index",
        "VectorIndex": "vector_index",
    }

    def __getattr__(name: str) -> object:
        """Import what needs numpy or usearch when it is first used."""
        module = _OPTIONAL.get(name)
        if module is None:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(f".{module}", __name__), name)


__all__ = [
    "Embed",
    "Embedding",
    "Episode",
    "EpisodeFilter",
    "EpisodeIndex",
    "EpisodeReader",
    "EpisodeRecord",
    "Episodes",
    "ExactVectors",
    "Found",
    "GraphVectors",
    "Vector",
    "VectorIndex",
    "WordIndex",
    "compose_episode",
    "episode_id",
    "episode_put",
    "episode_text",
    "erased_record",
    "hash_of_text",
    "unpack_record",
]
