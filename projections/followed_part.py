"""A partition as a hub reads it."""

from __future__ import annotations

from attrs import define, field

from duramen.events.cursor import Mark
from duramen.events.feed_reader import FeedReader
from duramen.events.hearsay import Hearsay
from duramen.events.last_digests import LastDigests

from .intake import Intake

__all__ = ["FollowedPart"]


@define(eq=False)
class FollowedPart:
    """Where the hub is in it, and what of that is only hearsay."""

    reader: FeedReader
    mark: Mark
    """Behind everything that was handed out."""
    known: LastDigests
    heard: Hearsay = field(factory=Hearsay)
    hearers: set[Intake] = field(factory=set[Intake])
    """Who was given something that is among `heard`."""
