"""A process whose consumer stands still while another process reads for it: run by the tests of its folder.

    python prefetch_process.py '{"url": …, "namespace": …, "fork": …}'

It says which process that is, and, where it was told to fork, which its own child is; then it waits to be killed.
"""

from __future__ import annotations

import json
import os
import sys
import threading

from duramen.actors import AgentSystem
from duramen.projections.consumers import prefetching
from following import Count
from prefetch_spy import spy_on


def main() -> None:
    told = json.loads(sys.argv[1])
    prefetching.LEAST_LAG = 1  # type: ignore[misc]
    prefetching.usable_cores = lambda: 2
    hold = threading.Event()
    with AgentSystem.open(told["url"], namespace=told["namespace"]) as system:
        spy = spy_on(setattr)
        projection = Count(hold=hold, at=1)
        system.attach(projection, "count")
        projection.reached.wait(60)
        forked = 0
        if told["fork"]:
            forked = os.fork()
            if not forked:
                hold.wait()
        print(spy.started[0].pid, forked, flush=True)
        hold.wait()


if __name__ == "__main__":
    main()
