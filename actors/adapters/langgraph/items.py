"""Items of a store as they stand in working memory: filters, time to live, ranking. Pure."""

from __future__ import annotations

import json
from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from operator import ge, gt, le, lt
from typing import Any, Final, cast

from attrs import evolve, frozen
from langgraph.store.base import Item, MatchCondition, SearchItem

from duramen.events import InvalidMessage
from duramen.projections.episodes import WordIndex

Namespace = tuple[str, ...]

_ORDERS: Final[Mapping[str, Callable[[Any, Any], bool]]] = {"$gt": gt, "$gte": ge, "$lt": lt, "$lte": le}


@frozen
class StoredItem:
    """An item with its time to live, in minutes, and the vectors of its fields."""

    namespace: Namespace
    key: str
    value: dict[str, Any]
    created_at: datetime
    updated_at: datetime
    ttl: float | None = None
    expires_at: datetime | None = None
    vectors: Mapping[str, bytes] = {}

    @classmethod
    def read(cls, namespace: Namespace, key: str, entry: Any, now: datetime) -> StoredItem | None:
        """The item of an entry; None if it has expired."""
        if not isinstance(entry, dict) or "value" not in entry:  # a time to live that came after the deletion
            return None
        item = cls(namespace, key, **cast("dict[str, Any]", entry))
        return None if item.expires_at is not None and item.expires_at <= now else item

    def as_entry(self) -> dict[str, Any]:
        return {
            "value": self.value,
            "created_at": self.created_at,
            "updated_at": self.updated_at,
            "ttl": self.ttl,
            "expires_at": self.expires_at,
            "vectors": dict(self.vectors),
        }

    def living_from(self, now: datetime) -> StoredItem:
        """The item, expiring its time to live after `now`."""
        return self if self.ttl is None else evolve(self, expires_at=now + timedelta(minutes=self.ttl))

    def as_item(self) -> Item:
        return Item(
            value=self.value,
            key=self.key,
            namespace=self.namespace,
            created_at=self.created_at,
            updated_at=self.updated_at,
        )

    def as_found(self, score: float | None) -> SearchItem:
        return SearchItem(self.namespace, self.key, self.value, self.created_at, self.updated_at, score)


def plain_value(value: Any) -> Any:
    """A value of JSON's kinds as plain data: mappings are dicts, tuples are lists."""
    if isinstance(value, Mapping):
        return {key: plain_value(child) for key, child in cast("Mapping[Any, Any]", value).items()}
    if isinstance(value, list | tuple):
        return [plain_value(child) for child in cast("Sequence[Any]", value)]
    return value


def fits(item: StoredItem, wanted: Mapping[str, Any] | None) -> bool:
    """Whether an item has all the values of a filter."""
    return all(_compare(item.value.get(key), value) for key, value in (wanted or {}).items())


def _compare(value: Any, wanted: Any) -> bool:
    if isinstance(wanted, dict):
        known = cast("dict[str, Any]", wanted)
        if any(key.startswith("$") for key in known):
            return all(_apply(value, operator, operand) for operator, operand in known.items())
        return isinstance(value, dict) and all(
            _compare(cast("dict[str, Any]", value).get(key), child) for key, child in known.items()
        )
    return bool(value == plain_value(wanted))


def _apply(value: Any, operator: str, operand: Any) -> bool:
    if operator in ("$eq", "$ne"):
        return bool(value == operand) is (operator == "$eq")
    order = _ORDERS.get(operator)
    if order is None:
        raise InvalidMessage(f"a filter knows $eq, $ne, $gt, $gte, $lt and $lte, not {operator[:40]!r}")
    numbers = isinstance(value, int | float) and isinstance(operand, int | float)
    return order(value, operand) if numbers or (isinstance(value, str) and isinstance(operand, str)) else False


def is_below(namespace: Namespace, conditions: Iterable[MatchCondition]) -> bool:
    """Whether a namespace begins, or ends, as all conditions say; "*" stands for any label."""
    for condition in conditions:
        wanted = condition.path
        labels = namespace[: len(wanted)] if condition.match_type == "prefix" else namespace[-len(wanted) :]
        if len(labels) < len(wanted):
            return False
        if any(pattern not in ("*", label) for label, pattern in zip(labels, wanted, strict=True)):
            return False
    return True


# -- ranking -----------------------------------------------------------------------------------------------------------

Ranked = list[tuple[StoredItem, float | None]]


def rank_by_words(items: Sequence[StoredItem], query: str) -> Ranked:
    """The items with any word of the query, best first, with BM25's score."""
    index = WordIndex()
    try:
        for number, item in enumerate(items):
            index.add(number, json.dumps(item.value, ensure_ascii=False, default=str))
        return [(items[number], score) for number, score in index.search(query)]
    finally:
        index.close()


def rank_by_meaning(items: Sequence[StoredItem], vector: Sequence[float]) -> Ranked:
    """The items by the cosine of their nearest vector, then those without a vector."""
    import numpy as np

    wanted = np.asarray(vector, dtype=np.float32)
    scored: list[tuple[StoredItem, float]] = []
    rest: Ranked = []
    for item in items:
        if item.vectors:
            held = np.stack([np.frombuffer(data, dtype=np.float32) for data in item.vectors.values()])
            lengths = np.linalg.norm(held, axis=1) * np.linalg.norm(wanted)
            scored.append((item, float(np.max(held @ wanted / np.where(lengths == 0, 1, lengths)))))
        else:
            rest.append((item, None))
    scored.sort(key=lambda each: each[1], reverse=True)
    return [*scored, *rest]


def pack_vector(vector: Sequence[float]) -> bytes:
    return array("f", vector).tobytes()
