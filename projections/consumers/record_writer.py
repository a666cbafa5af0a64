"""Writing the record of a consumer's view, alone or together with the view."""

from __future__ import annotations

from collections.abc import Callable
from time import time_ns
from typing import Any

from attrs import evolve

from duramen.events.log import LIVE, ConsumerRecord, ConsumerStore, Saved, fenced


class RecordWriter:
    """Used by one thread."""

    def __init__(self, store: ConsumerStore, record: ConsumerRecord) -> None:
        self._store = store
        self.record = record
        """As it is in the store, as far as is known here."""

    def write(self, save: Callable[[ConsumerRecord], Saved], **changes: Any) -> Saved:
        """Save a record with changes; `current` is False where the store has an older one: then load the view again.

        Raises Fenced, and what `save` raises.
        """
        while True:
            record = evolve(self.record, updated_at=time_ns() // 1000, **changes)
            saved = save(record)
            if saved.current:
                self.record = evolve(record, revision=saved.revision)
                return saved
            if saved.revision <= self.record.revision:
                # The server lost a save that it had acknowledged. The view that it has is older, but whole.
                self.check_owner()
                return saved
            # A save of ours came through, and only its answer was lost: it holds nothing that is not here.
            self.record = evolve(self.record, revision=saved.revision)

    def check_owner(self) -> None:
        """Go back to the record that is stored. Raises Fenced if the view belongs to another process now."""
        stored = self._store.find(self.record.name)
        found = stored.live if self.record.slot == LIVE else stored.next
        if found is None or found.token != self.record.token:
            raise fenced(self.record.name, found)
        self.record = found

    def switch(self) -> None:
        """Make the view the live one, in one write. Raises Unavailable, Fenced."""
        self.record = self._store.switch(self.record)
