"""A LangGraph store whose namespaces are agents."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any, Final

from langgraph.store.base import (
    BaseStore,
    GetOp,
    IndexConfig,
    Item,
    ListNamespacesOp,
    MatchCondition,
    Op,
    PutOp,
    Result,
    SearchItem,
    SearchOp,
    TTLConfig,
    ensure_embeddings,
    get_text_at_path,
    tokenize_path,
    validate_op_namespace,
)

from duramen.actors import AgentSystem, Batch, Get, GetStatus, Keys, Merge, Set, Spawn
from duramen.events import (
    AgentAlreadyRunning,
    AgentNotFound,
    AgentNotRunning,
    AgentPath,
    Erased,
    InvalidMessage,
    PropertyPath,
    VersionConflict,
)

from ..common import Ask, Either, Steps, name_of, run, run_async
from .items import (
    Namespace,
    Ranked,
    StoredItem,
    fits,
    is_below,
    pack_vector,
    plain_value,
    rank_by_meaning,
    rank_by_words,
)

_SHARDS: Final = 16
"""Agents among which the namespaces below one first label are listed."""
_GONE: Final = (AgentNotFound, AgentNotRunning, Erased)
_TRIES: Final = 20
"""How often a namespace is looked at again while others write to it."""
_MOST_LISTED: Final = 100_000
"""Namespaces that are known to be listed; without them each put would write to two agents."""


def _now() -> datetime:
    return datetime.now(UTC)


class DuramenStore(BaseStore):
    """A LangGraph store: each namespace is an agent of `project`, each item a value in its working memory.

    Items are found by namespace, by filter, by the words of a query, or with `index` by meaning. An item that has a
    time to live is not seen once it has expired; `sweep` deletes those. Thread-safe. Raises the errors of the system:
    `ValueRefused` for a value that is not plain data, `TooLarge` for one that is larger than an event may be.
    """

    supports_ttl = True

    def __init__(
        self,
        system: AgentSystem,
        *,
        project: str = "langgraph-store",
        durability: str | None = None,
        index: IndexConfig | None = None,
        ttl: TTLConfig | None = None,
        now: Callable[[], datetime] = _now,
    ) -> None:
        """`durability` is that of what is put; `now` is the clock of times to live. Raises InvalidPath."""
        self._system = system
        self._project = AgentPath.of(project, "namespace").project
        self._durability = durability
        self._embeddings = None if index is None else ensure_embeddings(index.get("embed"))
        fields = ["$"] if index is None else index.get("fields") or ["$"]
        self._fields = [(field, field if field == "$" else tokenize_path(field)) for field in fields]
        self.ttl_config = ttl
        self._now = now
        self._listed: set[Namespace] = set()

    def path(self, namespace: tuple[str, ...]) -> AgentPath:
        """The path of the agent that holds a namespace."""
        return AgentPath.of(self._project, name_of(".".join(namespace)))

    def batch(self, ops: Iterable[Op]) -> list[Result]:
        """Carry out operations: first those that read, then those that write, a namespace at a time, each at once."""
        return run(self._system, self._batch(list(ops)))

    async def abatch(self, ops: Iterable[Op]) -> list[Result]:
        """As `batch`."""
        return await run_async(self._system, self._batch(list(ops)))

    def sweep(self) -> int:
        """Delete the items that have expired, in all namespaces. Returns how many. Raises VersionConflict.

        A namespace that others write to all the while may be left for the next time: that is the VersionConflict.
        """
        return run(self._system, self._sweep())

    async def asweep(self) -> int:
        """As `sweep`."""
        return await run_async(self._system, self._sweep())

    def _batch(self, ops: Sequence[Op]) -> Steps[list[Result]]:
        puts: dict[tuple[Namespace, str], PutOp] = {}
        results: list[Result] = []
        for op in ops:
            validate_op_namespace(op)
            if isinstance(op, PutOp):
                puts[op.namespace, op.key] = op  # the last one of an item counts
                results.append(None)
            elif isinstance(op, GetOp):
                results.append((yield from self._get(op)))
            elif isinstance(op, SearchOp):
                results.append((yield from self._search(op)))
            else:
                results.append((yield from self._list(op)))
        yield from self._put(list(puts.values()))
        return results

    # -- reading -----------------------------------------------------------------------------------------------------

    def _get(self, op: GetOp) -> Steps[Item | None]:
        now = self._now()
        entry = yield from self._read(op.namespace, PropertyPath.of("items", op.key))
        item = StoredItem.read(op.namespace, op.key, entry, now)
        if item is None:
            return None
        yield from self._refresh([item] if op.refresh_ttl else [], now)
        return item.as_item()

    def _search(self, op: SearchOp) -> Steps[list[SearchItem]]:
        now = self._now()
        items: list[StoredItem] = []
        for namespace in (yield from self._namespaces(op.namespace_prefix)):
            items += (item for item in (yield from self._items(namespace, now)) if fits(item, op.filter))
        ranked: Ranked = [(item, None) for item in items]
        if op.query:
            ranked = yield from self._rank(items, op.query)
        page = ranked[op.offset : op.offset + op.limit]
        yield from self._refresh([item for item, _ in page] if op.refresh_ttl else [], now)
        return [item.as_found(score) for item, score in page]

    def _rank(self, items: Sequence[StoredItem], query: str) -> Steps[Ranked]:
        embeddings = self._embeddings
        if embeddings is None:
            return rank_by_words(items, query)
        vector = yield Either(lambda: embeddings.embed_query(query), lambda: embeddings.aembed_query(query))
        return rank_by_meaning(items, vector)

    def _list(self, op: ListNamespacesOp) -> Steps[list[tuple[str, ...]]]:
        """Namespaces with an item in them, sorted. Reads those that could be on the page, and before it."""
        conditions = op.match_conditions or ()
        begin = max((_fixed_part(condition) for condition in conditions), key=len, default=())
        found: dict[Namespace, None] = {}
        for namespace in sorted((yield from self._namespaces(begin))):
            shown = namespace[: op.max_depth]
            if shown not in found and is_below(namespace, conditions):
                if (yield from self._has_items(namespace)):
                    found[shown] = None
                if len(found) >= op.offset + op.limit:
                    break
        return list(found)[op.offset : op.offset + op.limit]

    def _has_items(self, namespace: Namespace) -> Steps[bool]:
        return bool((yield from self._items(namespace, self._now())))

    def _items(self, namespace: Namespace, now: datetime) -> Steps[Sequence[StoredItem]]:
        entries: dict[str, Any] = (yield from self._read(namespace, "items")) or {}
        found = (StoredItem.read(namespace, key, entry, now) for key, entry in entries.items())
        return [item for item in found if item is not None]

    def _read(self, namespace: Namespace, property: str | PropertyPath) -> Steps[Any]:
        try:
            return (yield Ask(self.path(namespace).text, Get(property, None)))
        except _GONE:
            return None

    # -- the list of namespaces --------------------------------------------------------------------------------------

    def _namespaces(self, begin: Namespace) -> Steps[list[Namespace]]:
        """The namespaces that begin with some labels, of which there may be items or not."""
        found: list[Namespace] = []
        for index in (yield from self._indexes(begin)):
            try:
                names: list[str] = yield Ask(index, Keys("namespaces"))
            except AgentNotFound:
                continue
            found += (tuple(name.split(".")) for name in names)
        return [namespace for namespace in found if namespace[: len(begin)] == begin]

    def _indexes(self, begin: Namespace) -> Steps[Sequence[str]]:
        if len(begin) > 1:
            return (self._index_of(begin),)
        if begin:
            return (self._index_of(begin), *(self._shard(begin[0], number) for number in range(_SHARDS)))
        paths: Sequence[str] = yield self._all_indexes
        return paths

    def _all_indexes(self) -> Sequence[str]:
        prefix = AgentPath.of(self._index_project, "-").text.removesuffix("-")
        return sorted(entry.agent for entry in self._system.agents(prefix))

    @property
    def _index_project(self) -> str:
        return f"{self._project}.index"

    def _index_of(self, namespace: Namespace) -> str:
        """The agent that lists a namespace: that of its first label alone, or a shard by its second."""
        if len(namespace) == 1:
            return AgentPath.of(self._index_project, name_of(namespace[0])).text
        return self._shard(namespace[0], sha256(namespace[1].encode()).digest()[0] % _SHARDS)

    def _shard(self, label: str, number: int) -> str:
        return AgentPath.of(self._index_project, name_of(f"{label}.{number}")).text

    def _enter(self, namespace: Namespace) -> Steps[None]:
        """List a namespace before its first item."""
        if namespace not in self._listed:
            index, name = self._index_of(namespace), ".".join(namespace)
            yield from self._write(index, Merge("namespaces", {name: True}))
            if len(self._listed) >= _MOST_LISTED:
                self._listed.clear()
            self._listed.add(namespace)

    # -- writing -----------------------------------------------------------------------------------------------------

    def _put(self, ops: Sequence[PutOp]) -> Steps[None]:
        vectors = yield from self._embed(ops)
        now = self._now()
        changes: dict[Namespace, list[Set | Merge]] = defaultdict(list)
        for op in ops:
            if op.value is None:
                changes[op.namespace].append(Merge("items", {op.key: None}))
                continue
            place = PropertyPath.of("items", op.key)
            before = StoredItem.read(op.namespace, op.key, (yield from self._read(op.namespace, place)), now)
            created_at = now if before is None else before.created_at
            held = vectors.get((op.namespace, op.key), {})
            item = StoredItem(op.namespace, op.key, plain_value(op.value), created_at, now, op.ttl, None, held)
            changes[op.namespace].append(Set(place, item.living_from(now).as_entry()))
        for namespace, operations in changes.items():
            message = Batch(operations, durability=self._durability)
            if any(isinstance(each, Set) for each in operations):
                yield from self._enter(namespace)
                yield from self._write(self.path(namespace).text, message)
            else:
                yield from self._delete(namespace, message)

    def _write(self, path: str, message: Batch | Merge) -> Steps[None]:
        try:
            yield Ask(path, message)
        except _GONE:
            result = yield Ask(path, Spawn())
            if not isinstance(result.error, AgentAlreadyRunning):
                result.raise_for_failure()
            yield Ask(path, message)

    def _delete(self, namespace: Namespace, message: Batch) -> Steps[None]:
        try:
            yield Ask(self.path(namespace).text, message)
        except _GONE:
            return

    def _embed(self, ops: Sequence[PutOp]) -> Steps[Mapping[tuple[Namespace, str], Mapping[str, bytes]]]:
        """The vectors of the texts of what is put, by item and field."""
        embeddings = self._embeddings
        texts = [] if embeddings is None else [each for op in ops for each in self._texts_of(op)]
        if embeddings is None or not texts:
            return {}
        asked = [text for _, _, text in texts]
        made: Sequence[Sequence[float]] = yield Either(
            lambda: embeddings.embed_documents(asked), lambda: embeddings.aembed_documents(asked)
        )
        if len(made) != len(asked):
            raise InvalidMessage(f"the embedding function made {len(made)} vectors of {len(asked)} texts")
        vectors: dict[tuple[Namespace, str], dict[str, bytes]] = defaultdict(dict)
        for (item, field, _), vector in zip(texts, made, strict=True):
            vectors[item][field] = pack_vector(vector)
        return vectors

    def _texts_of(self, op: PutOp) -> Iterable[tuple[tuple[Namespace, str], str, str]]:
        if op.value is None or op.index is False:
            return
        fields = self._fields if op.index is None else [(field, tokenize_path(field)) for field in op.index]
        for field, tokens in fields:
            for number, text in enumerate(get_text_at_path(op.value, tokens)):
                yield (op.namespace, op.key), f"{field}.{number}", text

    # -- time to live ------------------------------------------------------------------------------------------------

    def _refresh(self, items: Sequence[StoredItem], now: datetime) -> Steps[None]:
        for item in items:
            if item.ttl is not None:
                place = PropertyPath.of("items", item.key, "expires_at")
                yield from self._delete(item.namespace, Batch([Set(place, item.living_from(now).expires_at)]))

    def _sweep(self) -> Steps[int]:
        count = 0
        for namespace in (yield from self._namespaces(())):
            count += yield from self._sweep_one(namespace)
        return count

    def _sweep_one(self, namespace: Namespace) -> Steps[int]:
        path = self.path(namespace).text
        for tries_left in reversed(range(_TRIES)):
            try:
                seq: int = (yield Ask(path, GetStatus())).seq
                entries: dict[str, Any] = yield Ask(path, Get("items", {}))
                now = self._now()
                gone = [key for key, entry in entries.items() if StoredItem.read(namespace, key, entry, now) is None]
                if gone:
                    yield Ask(path, Merge("items", dict.fromkeys(gone), expected_seq=seq))
                return len(gone)
            except VersionConflict:  # an item may have been read or put anew: look again
                if not tries_left:
                    raise
            except _GONE:
                break
        return 0


def _fixed_part(condition: MatchCondition) -> Namespace:
    """The labels that all namespaces of a condition begin with."""
    if condition.match_type != "prefix":
        return ()
    path = condition.path
    return path[: path.index("*")] if "*" in path else path
