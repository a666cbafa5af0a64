"""Reads of agents that are not in memory here: answered from the log, which claims nothing and activates nobody."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Final

from duramen.events import AgentFailed, AgentNotFound, DuramenError
from duramen.events.codec import Codec
from duramen.events.logging import get_logger, raised_at
from duramen.events.model import WithContents
from duramen.projections import AgentState

from ..commands import GetUnfinished, ListCheckpoints
from ..dispatch import Envelope
from ..handlers import READS, Services, drop_expired, load_reply, with_paths
from .append_errors import for_agent

_LEAST_SECONDS: Final = 20.0
"""Seconds that are more than one exchange takes with a server that does not answer."""


def can_read_here(services: Services, path: str, seconds: float | None) -> bool:
    """Whether a caller that waits `seconds` for the reply to one of `READS` may make it in its own thread.

    It can where no message of this process to the agent is under way, and one exchange will mostly do. Raises
    SystemClosed.
    """
    if seconds is not None and seconds < _LEAST_SECONDS:
        return False
    return not services.actors.has_mailbox(path) and path in services.folds


def read_in_worker(services: Services, path: str, envelope: Envelope) -> None:
    """As `answer_from_log` for one message, in a worker thread: returns at once.

    Raises SystemClosed, and AgentFailed where the machine gives no thread.
    """
    services.actors.has_mailbox(path)  # raises if the system is closed

    def read() -> None:
        try:
            answer_from_log(services, path, [envelope])
        except BaseException as error:  # a defect
            failure = AgentFailed(f"{path} cannot be read: {type(error).__name__}, at {raised_at(error)}", agent=path)
            failure.__cause__ = error
            envelope.refuse(failure)

    try:
        services.activations.submit(read)
    except RuntimeError as error:  # no more threads
        raise AgentFailed(f"no thread to read the log of {path}; ask again", agent=path) from error


def answer_from_log(services: Services, path: str, envelopes: Sequence[Envelope]) -> None:
    """Answer messages that only look, all from one state of the log. Blocks; never raises a DuramenError."""

    def look(state: AgentState, codec: Codec) -> None:
        for envelope in envelopes:
            message = envelope.message
            try:
                envelope.stage(READS[type(message)](state, message, path, codec))
            except DuramenError as error:
                envelope.stage_error(error)

    try:
        services.folds.read(path, look)
    except DuramenError as error:
        if not isinstance(error, AgentNotFound):
            get_logger("agent").warning("read_failed", agent=path, error=type(error).__name__)
        for envelope in envelopes:
            envelope.refuse(for_agent(error, path, error.seq or 0))
        return
    for envelope in envelopes:
        if type(envelope.message) is ListCheckpoints and envelope.error is None:
            try:
                envelope.stage(drop_expired(services.log, path, envelope.result))
            except DuramenError as error:
                envelope.stage_error(error)
        if type(envelope.message) is GetUnfinished and envelope.error is None:
            try:
                envelope.stage(with_paths(envelope.result, services.log_names))
            except DuramenError as error:
                envelope.stage_error(error)
        if type(envelope.result) is WithContents:
            envelope.late = partial(load_reply, services.log.contents, path)
        envelope.deliver()
