"""An agent of your own: it searches, keeps what it finds, and remembers it after a restart.

Run it with `python examples/research_agent.py`. It needs no server and no model: the agent's log is an embedded
Valkey in a temporary folder, and the "llm" looks its answers up in a table.
"""

from __future__ import annotations

import sys
import tempfile
from typing import Any, TypedDict

from attrs import frozen

from duramen.actors import Agent, AgentHandle, AgentSystem
from duramen.events import event_type

LIBRARY = {
    "what is heartwood?": ("The old, dead wood inside a tree.", "botany.example/wood"),
    "what is duramen?": ("Another word for heartwood.", "words.example/duramen"),
}


# -- what happens: facts of this agent, kept for ever under these names ------------------------------------------------


@event_type("claim_found")
@frozen
class ClaimFound:
    text: str
    source: str


@event_type("question_left_open")
@frozen
class QuestionLeftOpen:
    question: str


# -- what is asked -----------------------------------------------------------------------------------------------------


@frozen
class Find:
    question: str


@frozen
class Report:
    """Asks for the agent's own state."""


# -- the agent ---------------------------------------------------------------------------------------------------------


class Sources(TypedDict):
    """What is folded from the agent's own events."""

    sources: dict[str, int]
    open: list[str]


class Researcher(Agent[Sources]):
    def on_receive(self, message: Any) -> Any:
        match message:
            case Find(question):
                return self.find(question)
            case Report():
                return self.state
            case _:
                return super().on_receive(message)

    def find(self, question: str) -> str | None:
        """Runs in a worker thread, so a slow model stalls nobody else. All it emits is one atomic batch."""
        answer = ask_llm(question)
        self.record("completion", {"tokens_used": len(question.split())})
        if answer is None:
            self.emit(QuestionLeftOpen(question))
            return None
        text, source = answer
        self.emit(ClaimFound(text, source))
        self.append("claims", text)
        # An effect on the world waits until the log has the claim; replay never repeats it.
        self.after_commit(lambda: say(f"committed: {text}"))
        return text

    def initial(self) -> Sources:
        return {"sources": {}, "open": []}

    def apply(self, state: Sources, event: Any) -> Sources:
        """The fold of the agent's own events: pure, since it runs again at every recovery."""
        match event:
            case ClaimFound(_, source):
                count = state["sources"].get(source, 0) + 1
                return {**state, "sources": {**state["sources"], source: count}}
            case QuestionLeftOpen(question):
                return {**state, "open": [*state["open"], question]}
        return state


def ask_llm(question: str) -> tuple[str, str] | None:
    return LIBRARY.get(question.lower())


def say(line: str) -> None:
    """Print a line whole: effects run in threads of their own."""
    sys.stdout.write(f"{line}\n")


def work(alice: AgentHandle) -> None:
    for question in ("What is heartwood?", "What is duramen?", "Who is asking?"):
        say(f"answer: {alice.ask(Find(question))}")


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        with AgentSystem.open(data_dir=folder, agents={"researcher": Researcher}) as system:
            work(system.spawn("acme/alice", agent_type="researcher", initial_state={"goal": "words for wood"}))

        # A new system, as after a restart: the agent comes back from its log with the first message.
        with AgentSystem.open(data_dir=folder, agents={"researcher": Researcher}) as system:
            alice = system.agent("acme/alice")
            say(f"sources: {sorted(alice.ask(Report())['sources'])}")
            say(f"open: {alice.ask(Report())['open']}")
            say(f"claims: {len(alice.get('claims'))}")
            alice.terminate("partial", lessons_learned=["ask fewer questions at once"])
            episode = system.episodes.list(agent="acme/alice")[0]
            say(f"episode: {episode.outcome}, {episode.tokens_used} tokens, learned {episode.lessons_learned}")


if __name__ == "__main__":
    main()
