"""What a log in memory has of a span, as a server's script would answer."""

from __future__ import annotations

from .codec import DIGEST_SIZE
from .log import Base, Head, Span, Stretch

__all__ = ["stretch_of"]


def stretch_of(span: Span, head: Head | None, base: Base | None, stored: list[bytes], most_bytes: int) -> Stretch:
    """Up to the event that reaches `most_bytes`; `stored` is all that the agent's list has."""
    if head is None:
        return Stretch(-1, -1, span.from_seq, [])
    first = max(span.from_seq, head.base + 1)
    if not span.count:
        return Stretch(head.base, head.seq, first, _digest(span, head, base, stored))
    items: list[bytes] = []
    for item in stored[first - head.base - 1 : max(0, span.from_seq + span.count - head.base - 1)]:
        items.append(item)
        most_bytes -= len(item)
        if most_bytes <= 0:
            break
    return Stretch(head.base, head.seq, first, items)


def _digest(span: Span, head: Head, base: Base | None, stored: list[bytes]) -> list[bytes]:
    if span.from_seq <= head.base:
        return [base.digest] if base is not None and base.seq == span.from_seq else []
    at = span.from_seq - head.base - 1
    return [item[:DIGEST_SIZE] for item in stored[at : at + 1]]
