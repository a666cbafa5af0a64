"""A live output as server-sent events, for browsers."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

from duramen.events import DuramenError

from .follower import OutputFollower


async def server_sent_events(follower: OutputFollower) -> AsyncIterator[str]:
    """The events of a `text/event-stream` response: a message a token, its data JSON text, its id the position.

    A browser that comes back sends the last id as `Last-Event-ID`: give it to `follow` as `after`. The last event is
    `end`, or `error` with the kind of the error; then the browser should close the stream.
    """
    async with follower:
        try:
            async for token in follower:
                yield f"id: {follower.position}\ndata: {json.dumps(token)}\n\n"
        except DuramenError as error:
            yield f"event: error\ndata: {json.dumps(type(error).__name__)}\n\n"
        else:
            yield f"id: {follower.position}\nevent: end\ndata: {follower.seq}\n\n"
