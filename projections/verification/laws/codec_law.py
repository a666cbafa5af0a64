"""The law of the codec."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from duramen.events import Limits
from duramen.events.codec import Codec
from duramen.events.model import OWN_TYPES, same_value

from ...recorded import StoredLog, portrait
from ..subject import Subject
from .law import Law


class EventsComeBackEqual(Law):
    """An event is read back equal in value and type, and its class makes an equal object of it."""

    name: ClassVar[str] = "events come back equal"

    def __init__(self, codec: Callable[[], Codec] | None = None) -> None:
        self._codec = codec or (lambda: Codec(Limits()))

    def check(self, subject: Subject, log: StoredLog) -> None:
        codec = self._codec()
        for seq, raw in enumerate(log.raws(), 1):
            decoded = codec.decode(codec.encode(raw)[0])
            if not same_value(decoded, raw):
                raise self.broken(f"the event at seq {seq} was read as another one", portrait(raw), portrait(decoded))
            if raw[0] not in OWN_TYPES and subject.registry.has_type(raw[0]):
                self._check_instance(subject, seq, raw)

    def _check_instance(self, subject: Subject, seq: int, raw: list[Any]) -> None:
        registry = subject.registry
        instance = registry.load(raw[0], raw[1], raw[4])
        name, version, data = registry.dump(instance)
        loaded = registry.load(name, version, data)
        self.compare(f"the object of seq {seq} does not come back equal", portrait(instance), portrait(loaded))
        if raw[1] == version and not same_value(data, raw[4]):
            raise self.broken(
                f"the object of seq {seq} would be stored with other data", portrait(raw[4]), portrait(data)
            )
