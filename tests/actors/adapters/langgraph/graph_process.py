"""A process that runs a graph of two nodes side by side, one of which ends the process as often as it is told.

`python graph_process.py DATA_DIR RUNS DEATHS`: each node adds a line to the file RUNS before its work. The slow one
kills its process the first DEATHS times, once the other node's writes are stored.
"""

from __future__ import annotations

import os
import signal
import sys
from operator import add
from pathlib import Path
from typing import Annotated, Any, TypedDict

from langgraph.graph import START, StateGraph

from duramen import AgentSystem
from duramen.adapters.langgraph import DuramenSaver
from waiting import eventually


class State(TypedDict):
    log: Annotated[list[str], add]


def main(folder: str, runs: Path, deaths: int) -> None:
    with AgentSystem.open(data_dir=folder) as system:
        saver = DuramenSaver(system)
        config: Any = {"configurable": {"thread_id": "t", "checkpoint_ns": ""}}

        def ran(name: str) -> int:
            with runs.open("a") as file:
                file.write(f"{name}\n")
            return runs.read_text().split().count(name)

        def quick(state: State) -> dict[str, Any]:
            ran("quick")
            return {"log": ["quick"]}

        def slow(state: State) -> dict[str, Any]:
            if ran("slow") <= deaths:
                eventually(lambda: "quick" in written(), 20, what="the other node has been stored")
                os.kill(os.getpid(), signal.SIGKILL)
            return {"log": ["slow"]}

        def written() -> set[Any]:
            found = saver.get_tuple(config)
            writes = () if found is None else found.pending_writes or ()  # the checkpoint is stored beside the nodes
            return {line for _, _, value in writes if isinstance(value, list) for line in value}

        builder = StateGraph(State)
        builder.add_node("quick", quick)
        builder.add_node("slow", slow)
        builder.add_edge(START, "quick")
        builder.add_edge(START, "slow")
        graph = builder.compile(checkpointer=saver)
        begun = saver.get_tuple(config) is not None
        done = graph.invoke(None if begun else {"log": []}, config)
        print(",".join(done["log"]))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
