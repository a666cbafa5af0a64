"""The bounds on events, batches and agents, so that none of them can exhaust what all share."""

from __future__ import annotations

from attrs import asdict, frozen

from ..errors import InvalidMessage


@frozen(kw_only=True)
class Limits:
    """Bounds checked before anything is sent to the server: sizes in bytes, and counts.

    Raising a limit is safe for the data, not for the memory of readers: one MiB of empty maps took 74 MiB
    of memory when decoded (measured with msgpack 1.2.4). Raises InvalidMessage for what is no whole number from 1 on.
    """

    event_bytes: int = 256 * 1024
    batch_events: int = 256
    batch_bytes: int = 1024 * 1024
    restore_bytes: int = 12 * 1024 * 1024
    """Size of the event that a resume writes: the difference between the state and its checkpoint."""
    content_bytes: int = 64 * 1024 * 1024
    """The texts and bytes of one value together, where it is too large for an event and they are kept in chunks; or one
    result of a step."""
    depth: int = 64
    container_items: int = 65_536
    text_bytes: int = 1024 * 1024
    event_nodes: int = 100_000
    state_nodes: int = 500_000
    snapshot_bytes: int = 15 * 1024 * 1024
    """Below 16 MiB, which the embedded server accepts as one argument."""
    mailbox_messages: int = 10_000
    stash_messages: int = 1_000
    page_events: int = 500
    page_bytes: int = 1024 * 1024
    notice_bytes: int = 64 * 1024
    """A larger notice carries positions only; its readers fetch the events from the log."""
    commands_remembered: int = 10_000
    """How many of an agent's latest command ids are recognised when a command is repeated."""

    def __attrs_post_init__(self) -> None:
        for name, value in asdict(self).items():
            if type(value) is not int or value < 1:
                raise InvalidMessage(f"limit {name} takes a whole number, from 1 on", actual=value)
