"""A LangGraph graph whose conversation is a duramen agent: run twice, rewound, and looked at in the inspector.

Run it with `python examples/langgraph_time_travel.py`; it needs `pip install duramen[langgraph] langgraph`. The log
lives in the folder given as the first argument, or in one that is gone at the end. With a folder, and `pip install
duramen[inspect]`, `duramen inspect --data-dir FOLDER` shows it in the browser: drag the timeline of `chat/user:42`, and
the conversation is that of any step, also of those that were taken back.
"""

from __future__ import annotations

import shlex
import sys
import tempfile
from pathlib import Path
from typing import Any

from langchain_core.messages import AIMessage, AnyMessage, HumanMessage
from langchain_core.runnables import RunnableConfig
from langgraph.graph import END, START, MessagesState, StateGraph

from duramen import AgentSystem
from duramen.actors import AgentHandle
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


def run(graph: Any, chat: AgentHandle, text: str, config: RunnableConfig) -> None:
    """Run the graph, and keep the conversation after each step readable beside what LangGraph stores, its own bytes."""
    for state in graph.stream({"messages": [HumanMessage(text)]}, config, stream_mode="values"):
        chat.set("messages", [as_plain(message) for message in state["messages"]])


def as_plain(message: AnyMessage) -> dict[str, Any]:
    return {"role": {"human": "user", "ai": "assistant"}.get(message.type, message.type), "content": message.content}


def main(folder: Path) -> None:
    config: RunnableConfig = {"configurable": {"thread_id": "user:42"}}
    with AgentSystem.open(data_dir=folder) as system:
        graph = build(DuramenSaver(system))
        chat = system.spawn("chat/user:42", exist_ok=True)
        for text in ("hello", "what is heartwood?"):
            run(graph, chat, text, config)

    # Another process, or the same one after a crash: the conversation is where it was.
    with AgentSystem.open(data_dir=folder) as system:
        saver = DuramenSaver(system)
        graph = build(saver)
        print("messages:", len(graph.get_state(config).values["messages"]))

        ends = [state for state in graph.get_state_history(config) if not state.next]
        chat = system.agent("chat/user:42")
        run(graph, chat, "something else", ends[-1].config)
        print("rewound:", [message.content for message in graph.get_state(config).values["messages"]])

        thread = saver.path("user:42")
        print("agent:", thread)
        was = system.state_at(chat.path, seq=5).memory.plain()["messages"]
        print("before that:", [message["content"] for message in was])
        print("intact:", system.verify(thread).ok)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]))
        print(f"to travel through it: duramen inspect --data-dir {shlex.quote(sys.argv[1])}")
    else:
        with tempfile.TemporaryDirectory() as made:
            main(Path(made))
