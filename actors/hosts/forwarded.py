"""Mutations that one host sends to another."""

from __future__ import annotations

from typing import Any

from attrs import define


@define(eq=False)
class Forwarded:
    """A mutation without a command id, on its way to the host of its agent, and what identifies it for ever.

    Command ids of our own making would push the user's out of the agent's window; a mark in the log does not.
    """

    message: Any
    asker: str
    """The host where the caller is."""
    number: int
    """The asker's number for this message."""
    known_seq: int
    """The agent's seq when the message was first sent: its events come later."""


class Repeated(Forwarded):
    """A forwarded mutation that a host which is dead now may have carried out."""
