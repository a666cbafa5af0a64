"""A LangGraph graph whose conversation is a duramen agent: run twice, looked at, and rewound.

Run it with `python examples/langgraph_time_travel.py`; it needs `pip install duramen[langgraph] langgraph`. The log
lives in the folder given as the first argument, or in one that is gone at the end.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.runnables import RunnableConfig
from langgraph.graph import END, START, MessagesState, StateGraph

from duramen import AgentSystem
from duramen.adapters.langgraph import DuramenSaver


def answer(state: MessagesState) -> dict[str, Any]:
    """A node; a real one would ask a model."""
    asked = state["messages"][-1].content
    return {"messages": [AIMessage(f"You said {asked!r}.")]}


def build(saver: DuramenSaver) -> Any:
    builder = StateGraph(MessagesState)
    builder.add_node("answer", answer)
    builder.add_edge(START, "answer")
    builder.add_edge("answer", END)
    return builder.compile(checkpointer=saver)


def main(folder: Path) -> None:
    config: RunnableConfig = {"configurable": {"thread_id": "user:42"}}
    with AgentSystem.open(data_dir=folder) as system:
        graph = build(DuramenSaver(system))
        for text in ("hello", "what is heartwood?"):
            graph.invoke({"messages": [HumanMessage(text)]}, config)

    # Another process, or the same one after a crash: the conversation is where it was.
    with AgentSystem.open(data_dir=folder) as system:
        saver = DuramenSaver(system)
        graph = build(saver)
        print("messages:", len(graph.get_state(config).values["messages"]))

        ends = [state for state in graph.get_state_history(config) if not state.next]
        graph.invoke({"messages": [HumanMessage("something else")]}, ends[-1].config)
        print("rewound:", [message.content for message in graph.get_state(config).values["messages"]])

        thread = saver.path("user:42")
        print("agent:", thread)
        print("intact:", system.verify(thread).ok)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory() as made:
            main(Path(made))
