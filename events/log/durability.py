"""How safe an append is when it is acknowledged."""

from __future__ import annotations

import re
from typing import Final, cast

from attrs import frozen

from ..errors import InvalidMessage

_FORM: Final = re.compile(r"(memory|fsync|replicas[:(](\d{1,2})\)?)\Z")


@frozen
class Durability:
    """`memory`: the server has it. `fsync`: its disk has it. `replicas:n`: the server and `n` replicas have it.

    None of them is a consensus: a failover to a replica that lagged loses what that replica lacked. `replicas:n`
    makes that less likely, and a call that cannot be confirmed raises `Unconfirmed`.
    """

    level: str
    replicas: int = 0

    @classmethod
    def parse(cls, text: str) -> Durability:
        """From `memory`, `fsync`, `replicas:2`. Raises InvalidMessage."""
        found = _FORM.match(text) if type(cast("object", text)) is str else None
        if found is None or found[2] == "0":
            raise InvalidMessage(f"durability {str(text)[:40]!r} is not one of memory, fsync, replicas:n")
        if found[2]:
            return cls("replicas", int(found[2]))
        return cls(text)

    def __str__(self) -> str:
        return f"replicas:{self.replicas}" if self.replicas else self.level
