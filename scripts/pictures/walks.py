"""The ways through the code, a step a box: what happens, in which file, and in whose thread or process.

Each walk is told in docs/architecture.md with the same numbers. A test holds the files to be there.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise

from pictures.svg import Box, arrow, page, text

__all__ = ["WALKS", "Step", "Walk", "draw_walk"]

WIDTH, TOP, GAP, MARGIN = 980, 58, 20, 24


@dataclass(frozen=True)
class Step:
    """One box. `lane` counts from 0; `place` is the file or folder that the step lies in."""

    lane: int
    place: str
    head: str
    body: str

    @property
    def kind(self) -> str:
        """The room, which gives the colour."""
        return self.place.split("/")[0]


@dataclass(frozen=True)
class Walk:
    """A picture: lanes from left to right, steps from top to bottom."""

    title: str
    lanes: tuple[str, ...]
    steps: tuple[Step, ...]


WALKS = {
    "mutation.svg": Walk(
        "The way of one mutation",
        ("threads of the program", "the core: one thread at a time", "the server"),
        (
            Step(
                0,
                "actors/api/handles/memory.py",
                "ask",
                "alice.set(…) puts a message and a future for its reply into the agent's mailbox.",
            ),
            Step(
                1,
                "actors/runtime/active/runtime.py",
                "turn",
                "The agent takes the messages that wait and handles one after another.",
            ),
            Step(
                1,
                "actors/commands/decider.py",
                "decide",
                "State and message in; events, or a typed refusal, out. Pure.",
            ),
            Step(
                1,
                "actors/handlers/turn.py",
                "encode and fold",
                "Each event is encoded, checked to come back equal, gets its digest, and changes the state.",
            ),
            Step(
                1,
                "actors/dispatch/journal.py",
                "batch",
                "The appends of all agents of a partition that wait are one batch; several are under way.",
            ),
            Step(
                2,
                "events/redis/lua/agents/append.lua",
                "append",
                "Checks fence, position and digest of every append; then writes log, head and feed; publishes last.",
            ),
            Step(
                1,
                "actors/runtime/active/committing.py",
                "settle",
                "Committed: the replies leave. Else each caller gets a typed error, and the state is rebuilt.",
            ),
            Step(0, "actors/dispatch/reply.py", "receipt", "ask returns. Hooks and effects run in worker threads."),
        ),
    ),
    "recovery.svg": Walk(
        "The way of a recovery",
        ("the core", "a worker thread", "the log"),
        (
            Step(
                0,
                "actors/runtime/activation.py",
                "activate",
                "A message has come for an agent that is not in memory. It waits in the mailbox.",
            ),
            Step(
                1,
                "actors/hosts/hosting.py",
                "place",
                "A worker thread looks up the host that has the agent. If it is another, messages go there.",
            ),
            Step(1, "actors/runtime/activation.py", "make", "The agent object, by its type's class or function."),
            Step(
                1,
                "projections/recovery/rebuild.py",
                "start",
                "The latest snapshot, if checksum and form fit; else the base of a trimmed log; else nothing.",
            ),
            Step(
                2,
                "events/log/reading.py",
                "read",
                "Pages of events from the next seq on. Each must continue the chain of digests.",
            ),
            Step(
                1,
                "projections/state/agent_state.py",
                "fold",
                "Each event changes the state, by the same function as in a turn.",
            ),
            Step(
                1,
                "actors/runtime/activation.py",
                "compare",
                "Seq and digest must be those of the head; otherwise the agent does not start.",
            ),
            Step(
                2, "events/redis/lua/hosts/claim.lua", "claim", "A new fence, if owner and head are as they were seen."
            ),
            Step(0, "actors/runtime/active/runtime.py", "run", "The agent handles what waited in its mailbox."),
        ),
    ),
    "subscription.svg": Walk(
        "The way of an event to a subscription",
        ("the log", "the hub: one thread a system", "a thread of a pool"),
        (
            Step(
                0,
                "events/redis/lua/agents/append.lua",
                "publish",
                "A notice: agents, positions, and the events if small.",
            ),
            Step(1, "events/redis/notices.py", "receive", "One connection listens for all subscriptions."),
            Step(
                1,
                "events/feed/reader.py",
                "join",
                "Events of a notice are taken if they continue the chain; else they are read from the log.",
            ),
            Step(
                1,
                "projections/subscriptions/matcher.py",
                "match",
                "All patterns at once: which subscriptions, by which property paths.",
            ),
            Step(
                1,
                "projections/subscriptions/intake.py",
                "take in",
                "A live partition takes the change in. Without room it catches up from the log by itself.",
            ),
            Step(2, "projections/subscriptions/callbacks.py", "deliver", "One call at a time, in order."),
            Step(
                1,
                "projections/subscriptions/follower.py",
                "confirm",
                "Once a second: are there events without a notice, does the log have what notices said?",
            ),
        ),
    ),
    "consumer.svg": Walk(
        "The way of an event to a durable consumer",
        ("the log", "the consumer's thread", "where the view is stored"),
        (
            Step(
                1,
                "projections/consumers/consumer.py",
                "open",
                "Claims the name; the last one to do so owns it. Loads view and cursor.",
            ),
            Step(
                1,
                "events/feed/window.py",
                "read",
                "A window of the feed of each partition, and the events it names, checked by their digests.",
            ),
            Step(
                0,
                "events/prefetch/worker.py",
                "read ahead",
                "Far behind, a second process reads; it is lent connections and knows no password.",
            ),
            Step(
                1,
                "projections/consumers/view_builder.py",
                "fold",
                "The projection's own code; an exception parks this consumer alone.",
            ),
            Step(
                2,
                "projections/consumers/view_storage.py",
                "store",
                "View and cursor in one write, under the owner's token: on the server, or in the user's database.",
            ),
            Step(
                1,
                "projections/consumers/waiters.py",
                "wake",
                "Whoever waits for a receipt is told; then the thread waits for the next notice.",
            ),
        ),
    ),
    "verify-replay.svg": Walk(
        "The way of verify --replay",
        ("the command", "helper processes: no store, no key", "the log or a file"),
        (
            Step(
                0,
                "actors/console/commands/operations/verify_replay.py",
                "ask",
                "Imports the user's modules, so that event types and upcasters are known.",
            ),
            Step(
                2,
                "projections/recorded/segments.py",
                "cut",
                "A log is cut where states of it are stored, so that its segments fold at the same time.",
            ),
            Step(
                0,
                "projections/recorded/workers/pool.py",
                "hand out",
                "A thread for each helper reads events and sends them.",
            ),
            Step(
                1,
                "projections/recorded/workers/worker.py",
                "fold and compare",
                "From the state at a segment's start to the one stored at its end, with today's code.",
            ),
            Step(
                0,
                "projections/recorded/replay_check.py",
                "look again",
                "What was not found equal is folded here once more, and the difference is named.",
            ),
            Step(
                0,
                "projections/recorded/shrinking.py",
                "shrink",
                "The same difference, shown by as few events as can be found; written as a pytest file.",
            ),
        ),
    ),
}


def draw_walk(walk: Walk) -> str:
    """The picture as SVG."""
    lanes = len(walk.lanes)
    width = (WIDTH - 2 * MARGIN - (lanes - 1) * GAP) / lanes
    lefts = [MARGIN + lane * (width + GAP) for lane in range(lanes)]
    content = [text(left + 4, 36, name, "head") for left, name in zip(lefts, walk.lanes, strict=True)]
    boxes, y = [], float(TOP)
    for number, step in enumerate(walk.steps, 1):
        box = Box(lefts[step.lane], y, width, 0, step.kind, f"{number}  {step.head}", step.body).fitted()
        box = replace(box, height=box.height + 20)
        boxes.append(box)
        y += box.height + GAP
    separators = " ".join(f"M{left - GAP / 2:g} 20 V{y - 4:g}" for left in lefts[1:])
    content.append(f'  <path class="lane" d="{separators}"/>')
    content += [arrow(path) for path in _ways(boxes)]
    for box, step in zip(boxes, walk.steps, strict=True):
        content += [*box.draw(), text(box.x + 12, box.y + box.height - 10, step.place, "place")]
    about = " ".join(f"{number}. {step.body}" for number, step in enumerate(walk.steps, 1))
    return page(walk.title, about, WIDTH, y + 8, content)


def _ways(boxes: list[Box]) -> Iterator[str]:
    """From each box to the next: straight down in a lane, else out at the side and down onto the other."""
    for here, there in pairwise(boxes):
        if here.x == there.x:
            yield f"M{here.x + here.width / 2:g} {here.y + here.height:g} V{there.y - 1:g}"
            continue
        to_right = there.x > here.x
        side = here.x + here.width if to_right else here.x
        end = there.x + there.width / 2
        yield f"M{side:g} {here.y + here.height / 2:g} H{end:g} V{there.y - 1:g}"
