"""A process that has a durable consumer, until somebody kills it."""

from __future__ import annotations

import sys
import threading

from duramen.actors import AgentSystem
from following import LastSeqs

if __name__ == "__main__":
    url, namespace = sys.argv[1:]
    system = AgentSystem.open(url, namespace=namespace, partitions=2)
    runner = system.attach(LastSeqs(), "seqs", standby=True)
    runner.wait_for(saved=True)
    print(runner.status, flush=True)
    threading.Event().wait()
