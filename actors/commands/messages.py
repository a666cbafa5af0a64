"""The messages that agents understand out of the box.

Each is immutable, and copies the dicts and lists that it is made with. `command_id` makes a mutation safe to send
again: the same id with the same payload gives the first result, with another payload `CommandConflict`. An agent
remembers its latest 10,000 ids (`Limits`). `durability` (`memory`, `fsync`, `replicas:n`) is what the reply waits for;
None: the system's. `expected_seq` is the seq that the agent must be at: VersionConflict at another; an id that is known
is answered first. `metadata` of a mutation of memory is carried by its events.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any, ClassVar, Final, Literal, TypedDict, Unpack, cast
from uuid import UUID

from attrs import field, frozen

from duramen.events import Granularity, PlainData, PropertyPath, Receipt
from duramen.events.model import Seconds, copy_plain
from duramen.projections.state import REQUIRED

from .message import Message, Mutation, copy_mapping
from .results import AgentStatus, Checkpoint, LifecycleResult, Outcome, nothing
from .retention import Retention

DEFAULT_TTL: Final = timedelta(days=7)
HANDLED: Final = "duramen.handled"
"""The kind of the record of a command whose handler has emitted nothing: it holds the reply."""

WhenPaused = Literal["refuse", "stash"]
OutcomeText = Literal["success", "failure", "partial"]

_MAPPINGS: Final = ("initial_state", "metadata", "levels")


# -- lifecycle ---------------------------------------------------------------------------------------------------------


@frozen(kw_only=True)
class Spawn(Message[LifecycleResult]):
    """Start a session. Fails if one runs; after `Terminate` a new one starts on the same log."""

    content_field: ClassVar = "initial_state"

    session_id: str | UUID | None = None
    agent_type: str | UUID | None = None
    initial_state: Mapping[str, Any] = field(factory=nothing, converter=copy_mapping)
    metadata: Mapping[str, Any] = field(factory=nothing, converter=copy_mapping)
    granularity: Granularity = Granularity.ACTIVITY
    levels: Mapping[str, Granularity] = field(factory=nothing, converter=copy_mapping)
    """Granularity by kind of activity, where it differs."""
    parent: str | None = None
    expires_after: Seconds | None = None
    """How long the agent lives without a change; then it is erased, with all below it. None: for ever."""
    command_id: str | None = None
    durability: str | None = None


class SpawnArguments(TypedDict, total=False):
    """The fields of `Spawn` as arguments of calls, where None stands for an empty mapping."""

    session_id: str | UUID | None
    agent_type: str | UUID | None
    initial_state: Mapping[str, Any] | None
    metadata: Mapping[str, Any] | None
    granularity: Granularity
    levels: Mapping[str, Granularity] | None
    expires_after: Seconds | None
    command_id: str | None
    durability: str | None


def spawn_message(parent: str | None = None, **arguments: Unpack[SpawnArguments]) -> Spawn:
    """Make a `Spawn` of the arguments of a call."""
    given = {name: value for name, value in arguments.items() if value is not None or name not in _MAPPINGS}
    return Spawn(parent=parent, **cast("dict[str, Any]", given))


@frozen(kw_only=True)
class Pause(Message[LifecycleResult]):
    """Store the whole working memory as a named checkpoint, and refuse or stash mutations until `Resume`."""

    checkpoint_id: str | None = None
    """Text of 1 to 200 characters; None makes one up. An id that was used before names the newer one from now on."""
    ttl: Seconds | None = DEFAULT_TTL
    """How long the checkpoint is stored; None: for ever."""
    metadata: Mapping[str, Any] = field(factory=nothing, converter=copy_mapping)
    when_paused: WhenPaused = "refuse"
    """Mutations of a paused agent: `refuse` (AgentPaused), or `stash` (in memory, until the resume)."""
    reason: str | None = None
    cascade: bool = False
    """Pause all sub-agents too, at one consistent cut, each at a checkpoint of this id."""
    command_id: str | None = None
    durability: str | None = None
    expected_seq: int | None = None


@frozen(kw_only=True)
class Resume(Message[LifecycleResult]):
    """Restore working memory from a checkpoint; the agent is alive, paused or not."""

    checkpoint_id: str | None = None
    """None: the latest checkpoint that has not expired."""
    clear_current: bool = True
    """True makes working memory equal the checkpoint; False adds the checkpoint's items to it, replacing equal keys."""
    cascade: bool = False
    """Resume the whole tree: all that one cascade has paused, or with `checkpoint_id` all to their checkpoint of it."""
    command_id: str | None = None
    durability: str | None = None
    expected_seq: int | None = None


@frozen(kw_only=True)
class Terminate(Message[LifecycleResult]):
    """End the session: store it as an episode, clear working memory."""

    outcome: Outcome | OutcomeText = Outcome.SUCCESS
    task_description: str | None = None
    outcome_details: PlainData = field(default=None, converter=copy_plain)
    lessons_learned: Sequence[str] = field(default=(), converter=copy_plain)
    context_summary: str | None = None
    importance_score: float = 0.6
    reason: str | None = None
    consolidate_to_episodic: bool = True
    cleanup_working: bool = True
    cascade: bool = True
    """End the sub-agents first, except those that may outlive their parent."""
    command_id: str | None = None
    durability: str | None = None
    expected_seq: int | None = None


@frozen
class ListCheckpoints(Message[list[Checkpoint]]):
    """List the checkpoints that have not expired, newest first."""


@frozen
class Restart(Mutation[Receipt]):
    """Let a failed agent handle messages again."""

    command_id: str | None = None
    durability: str | None = None


@frozen
class ChildFailed:
    """A sub-agent was stopped; its parent's `on_child_failed` handles it."""

    path: str
    error: str
    """The exception's type. Its text is left out: it may quote a message."""


@frozen
class AdoptChild(Mutation[Receipt]):
    """Add a sub-agent that is about to be spawned; sent by `AgentHandle.spawn_child`."""

    path: str
    outlives: bool = False
    """Whether it lives on when this agent's session ends."""
    command_id: str | None = None
    durability: str | None = None


@frozen
class Hold:
    """Hold the agent after this turn; a cascade sends it to sub-agents."""


# -- working memory ----------------------------------------------------------------------------------------------------


@frozen
class Get(Message[Any]):
    """Get a copy of the value at a property path; the empty path is the whole working memory."""

    path: str | PropertyPath = ""
    default: Any = REQUIRED


@frozen
class Keys(Message[list[str]]):
    """Get the keys of the subtree at a property path; the empty path gives the items."""

    path: str | PropertyPath = ""


@frozen
class GetMany(Message[list[Any]]):
    """Get copies of the values at several property paths, in their order, all as of one seq."""

    paths: Sequence[str | PropertyPath] = field(converter=copy_plain)
    default: Any = REQUIRED


@frozen
class Length(Message[int]):
    """Get the number of elements of the list at a property path, or of keys of the dict there."""

    path: str | PropertyPath = ""


@frozen
class Slice(Message[list[Any]]):
    """Get a copy of a part of the list at a property path: from `start` up to, not with, `stop`, as Python slices."""

    path: str | PropertyPath
    start: int | None = None
    stop: int | None = None


@frozen
class Set(Mutation[Receipt]):
    """Set the value at a property path; subtrees on the way are made."""

    content_field: ClassVar = "value"

    path: str | PropertyPath
    value: PlainData
    command_id: str | None = None
    durability: str | None = None

    def __init__(
        self,
        path: str | PropertyPath,
        value: PlainData,
        command_id: str | None = None,
        durability: str | None = None,
        *,
        expected_seq: int | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        # Most messages are of this class. What attrs generates finds each field by name, in 1.7 times the time.
        _set_path(self, path)
        kind: type[Any] = type(value)
        _set_value(self, copy_plain(value) if kind is dict or kind is list else value)
        _set_command_id(self, command_id)
        _set_durability(self, durability)
        _set_expected_seq(self, expected_seq)
        _set_metadata(self, None if metadata is None else copy_mapping(metadata))


def _setter(kind: type[Any], name: str) -> Callable[[object, object], None]:
    """What sets a field of a new message, which nobody can do later."""
    return cast("Callable[[object, object], None]", kind.__dict__[name].__set__)


_set_path: Final = _setter(Set, "path")
_set_value: Final = _setter(Set, "value")
_set_command_id: Final = _setter(Set, "command_id")
_set_durability: Final = _setter(Set, "durability")
_set_expected_seq: Final = _setter(Mutation, "expected_seq")
_set_metadata: Final = _setter(Mutation, "metadata")


@frozen
class Delete(Mutation[Receipt]):
    """Remove the value at a property path; PathNotFound if the path does not exist."""

    path: str | PropertyPath
    command_id: str | None = None
    durability: str | None = None


@frozen
class Append(Mutation[Receipt]):
    """Add one value to the end of the list at a property path; a list is made if the path does not exist."""

    content_field: ClassVar = "value"

    path: str | PropertyPath
    value: PlainData = field(converter=copy_plain)
    command_id: str | None = None
    durability: str | None = None


@frozen
class Extend(Mutation[Receipt]):
    """Add values to the end of the list at a property path; a list is made if the path does not exist."""

    content_field: ClassVar = "values"

    path: str | PropertyPath
    values: Sequence[PlainData] = field(converter=copy_plain)
    command_id: str | None = None
    durability: str | None = None


@frozen
class Pop(Mutation[Any]):
    """Take a value out of the list or dict at a property path, and return it.

    `key` is the position of an element, from the end if it is negative, or the key of a dict, as it is. Without a
    `default`, PathNotFound if nothing is there.
    """

    path: str | PropertyPath
    key: int | str = -1
    default: PlainData = field(default=REQUIRED, converter=copy_plain)
    command_id: str | None = None
    durability: str | None = None


@frozen
class Merge(Mutation[Receipt]):
    """Apply a JSON merge patch (RFC 7386) at a property path: None removes, dicts merge, the rest replaces."""

    content_field: ClassVar = "patch"

    path: str | PropertyPath
    patch: PlainData = field(converter=copy_plain)
    command_id: str | None = None
    durability: str | None = None


@frozen
class Record(Mutation[Receipt]):
    """Log an activity that is no state, such as a tool's output; only if the agent's granularity includes it.

    `tokens_used` in `data` (or `usage.total_tokens`) is counted for the session's episode; kind `tool_output` with
    `tool` in `data` becomes one of the episode's actions.
    """

    content_field: ClassVar = "data"

    kind: str
    data: PlainData = field(default=None, converter=copy_plain)
    level: Granularity = Granularity.ACTIVITY
    command_id: str | None = None
    durability: str | None = None


Operation = Set | Delete | Append | Extend | Merge | Record


@frozen
class Batch(Mutation[Receipt]):
    """Commit several mutations together, or none of them."""

    operations: Sequence[Operation] = field(converter=copy_plain)
    command_id: str | None = None
    durability: str | None = None


def may_hold_content(message: object) -> bool:
    """Whether a message is one of duramen's whose texts and bytes may be larger than an event."""
    return isinstance(message, Batch) or (isinstance(message, Message) and message.content_field is not None)


@frozen(kw_only=True)
class SetGranularity(Mutation[Receipt]):
    """Change how much activity is logged from now on: in all, or by kind (None removes a kind's own level)."""

    level: Granularity | None = None
    levels: Mapping[str, Granularity | None] = field(factory=nothing, converter=copy_mapping)
    command_id: str | None = None
    durability: str | None = None


@frozen
class SetRetention(Mutation[Receipt]):
    """Change the retention of the agent's log; None: that of the system."""

    retention: Retention | None
    command_id: str | None = None
    durability: str | None = None


@frozen
class GetStatus(Message[AgentStatus]):
    """Get the agent's `AgentStatus`."""
