"""A process that embeds in the background, and says each text it was asked for, until somebody kills it."""

from __future__ import annotations

import sys
import threading

from duramen.actors import AgentSystem

__all__ = ["embed"]


def embed(texts: list[str]) -> list[list[float]]:
    for text in texts:
        print(text.partition("\n")[0], flush=True)
    return [[float(len(text)), 1.0] for text in texts]


if __name__ == "__main__":
    url, namespace = sys.argv[1:]
    system = AgentSystem.open(url, namespace=namespace, partitions=2)
    system.episodes.use_embedding(embed, name="m", background=True)
    print("ready", flush=True)
    threading.Event().wait()
