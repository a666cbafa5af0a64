"""Contents that no event refers to any more: of trimmed events, of refused messages, and of writers that died."""

from __future__ import annotations

from typing import Final

from duramen.events.codec import CONTENT_MARK, DIGEST_SIZE
from duramen.events.model import contents_in

from ..state import AgentState
from .agent_log import AgentLog
from .trim_base import load_base

_DAY_MS: Final = 24 * 60 * 60 * 1000


def drop_orphans(agent_log: AgentLog, age_ms: int = _DAY_MS) -> int:
    """Remove the contents of an agent that nothing in its log refers to, and that are that old; how many.

    Younger ones may be of a message that is on its way. The events that are left are read only if there may be some.
    Checkpoints need no look: a log is not trimmed past them. Raises what reading the log raises.
    """
    log, agent = agent_log.log, agent_log.agent
    orphans = {each.digest for each in log.contents.list(agent) if each.age_ms >= age_ms}
    if not orphans:
        return 0
    base = load_base(agent_log)
    state = AgentState() if base is None else base.state
    orphans.difference_update(content.digest for content in contents_in([state.dump(), base and base.custom]))
    if orphans:
        _keep_referred(agent_log, state.seq, orphans)
    return log.contents.drop(agent, orphans, age_ms)


def _keep_referred(agent_log: AgentLog, after: int, orphans: set[bytes]) -> None:
    """Take the contents out of `orphans` that the events after a seq refer to. Decodes only events that may do so."""
    for page in agent_log.log.pages(agent_log.agent, after + 1, None):
        for item in page.items:
            if CONTENT_MARK in item:
                raw = agent_log.codec.decode(item[DIGEST_SIZE:])
                orphans.difference_update(content.digest for content in contents_in(raw))
        if not orphans:
            return
