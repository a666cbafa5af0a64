"""DuramenStore does what LangGraph's store in memory does, and what that one leaves out: it lasts, and items expire."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from langgraph.store.base import BaseStore, InvalidNamespaceError
from langgraph.store.memory import InMemoryStore

from duramen import AgentSystem
from duramen.adapters.langgraph import DuramenStore
from duramen.adapters.langgraph.items import StoredItem
from duramen.events import InvalidMessage, ValueRefused

ITEMS: list[tuple[tuple[str, ...], str, dict[str, Any]]] = [
    (("users", "1", "memories"), "a", {"kind": "taste", "score": 3, "text": "likes pasta"}),
    (("users", "1", "memories"), "b", {"kind": "taste", "score": 7, "text": "likes chess", "of": {"by": "kim"}}),
    (("users", "1"), "profile/é", {"name": "Ada", "tags": ["x", "y"]}),
    (("users", "2", "memories"), "a", {"kind": "fact", "score": 5, "text": "lives in Rome"}),
    (("docs",), "", {"kind": "taste", "score": 3.5}),
    (("docs", "Ünter:@ /~"), "k" * 300, {"score": None}),
]


def filled(store: BaseStore) -> BaseStore:
    for namespace, key, value in ITEMS:
        store.put(namespace, key, value)
    store.put(("docs",), "gone", {"score": 1})
    store.delete(("docs",), "gone")
    store.delete(("docs",), "never there")
    store.delete(("never", "there"), "x")
    return store


def seen(items: Sequence[Any]) -> list[tuple[tuple[str, ...], str, dict[str, Any]]]:
    return sorted(((item.namespace, item.key, item.value) for item in items), key=repr)


SEARCHES: list[tuple[tuple[str, ...], dict[str, Any] | None]] = [
    ((), None),
    (("users",), None),
    (("users", "1"), None),
    (("users", "3"), None),
    (("users",), {"kind": "taste"}),
    (("users", "1", "memories"), {"score": {"$gt": 3, "$lte": 7}}),
    (("users",), {"kind": {"$ne": "taste"}}),
    (("users",), {"of": {"by": "kim"}}),
    (("users",), {"tags": ["x", "y"]}),
]


@pytest.mark.slow
def test_it_finds_what_the_store_in_memory_finds(system: AgentSystem) -> None:
    ours, theirs = filled(DuramenStore(system)), filled(InMemoryStore())
    for prefix, wanted in SEARCHES:
        found, expected = (store.search(prefix, filter=wanted, limit=50) for store in (ours, theirs))
        assert seen(found) == seen(expected), (prefix, wanted)
    for namespace, key, value in ITEMS:
        item = ours.get(namespace, key)
        assert item is not None
        assert item.value == value
    assert ours.get(("docs",), "gone") is None


LISTS: list[dict[str, Any]] = [
    {},
    {"prefix": ("users",)},
    {"prefix": ("users", "*", "memories")},
    {"suffix": ("memories",)},
    {"max_depth": 1},
    {"prefix": ("users",), "max_depth": 2},
    {"limit": 2},
    {"limit": 2, "offset": 1},
]


@pytest.mark.parametrize("arguments", LISTS, ids=repr)
def test_it_lists_the_namespaces_that_the_store_in_memory_lists(arguments: dict[str, Any]) -> None:
    with AgentSystem.open("memory://") as system:
        ours, theirs = filled(DuramenStore(system)), filled(InMemoryStore())
        for store in (ours, theirs):  # theirs lists a namespace that was only deleted from
            store.put(("never", "there"), "x", {})
        assert ours.list_namespaces(**arguments) == theirs.list_namespaces(**arguments)


def test_a_namespace_is_listed_as_long_as_it_has_an_item(system: AgentSystem) -> None:
    store = DuramenStore(system)
    store.put(("a", "b"), "k", {})
    assert DuramenStore(system).list_namespaces() == [("a", "b")]
    store.delete(("a", "b"), "k")
    assert store.list_namespaces() == []
    store.put(("a", "b"), "k", {})
    assert store.list_namespaces() == [("a", "b")]


def test_pages_of_a_search_are_disjoint_and_complete(system: AgentSystem) -> None:
    store = DuramenStore(system)
    for number in range(7):
        store.put(("n",), str(number), {"number": number})
    pages = [store.search(("n",), limit=3, offset=offset) for offset in (0, 3, 6)]
    assert [len(page) for page in pages] == [3, 3, 1]
    assert {item.value["number"] for page in pages for item in page} == set(range(7))


def test_an_update_keeps_when_an_item_was_created() -> None:
    times = iter(datetime(2026, 1, 1, tzinfo=UTC) + timedelta(hours=hour) for hour in range(10))
    with AgentSystem.open("memory://") as system:
        store = DuramenStore(system, now=lambda: next(times))
        store.put(("n",), "k", {"a": 1})
        store.put(("n",), "k", {"a": 2})
        item = store.get(("n",), "k")
    assert item is not None
    assert (item.value, item.updated_at - item.created_at) == ({"a": 2}, timedelta(hours=1))


@pytest.mark.slow
def test_an_item_expires_unless_it_is_read_in_time(system: AgentSystem) -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    store = DuramenStore(system, now=lambda: now, ttl={"default_ttl": 60, "refresh_on_read": True})
    store.put(("n",), "read", {})
    store.put(("n",), "searched", {})
    store.put(("n",), "left", {})
    store.put(("n",), "ever", {}, ttl=None)
    now += timedelta(minutes=59)
    assert store.get(("n",), "read") is not None
    assert [item.key for item in store.search(("n",), limit=2) if item.key == "searched"] == ["searched"]
    now += timedelta(minutes=2)
    assert {item.key for item in store.search(("n",), refresh_ttl=False)} == {"read", "searched", "ever"}
    assert store.get(("n",), "left") is None


@pytest.mark.slow
def test_a_sweep_deletes_what_has_expired_and_nothing_else(system: AgentSystem) -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    store = DuramenStore(system, now=lambda: now)
    for namespace in (("a",), ("a", "b")):
        store.put(namespace, "short", {}, ttl=1)
        store.put(namespace, "long", {}, ttl=60)
        store.put(namespace, "ever", {})
    now += timedelta(minutes=2)
    assert (asyncio.run(store.asweep()), store.sweep()) == (2, 0)
    assert set(system.agent(store.path(("a", "b"))).get("items")) == {"long", "ever"}


def test_an_item_that_is_read_while_a_sweep_looks_is_not_deleted(monkeypatch: pytest.MonkeyPatch) -> None:
    now, read_by_sweep = datetime(2026, 1, 1, tzinfo=UTC), list[str]()
    with AgentSystem.open("memory://") as system:
        store = DuramenStore(system, now=lambda: now)
        store.put(("n",), "k", {}, ttl=1)
        now += timedelta(minutes=2)
        real = StoredItem.read

        def read(namespace: Any, key: str, entry: Any, at: datetime) -> Any:
            found = real(namespace, key, entry, at)
            if not read_by_sweep:
                read_by_sweep.append(key)
                store.put(("n",), "k", {"new": True}, ttl=1)  # after the sweep has looked, before it deletes
            return found

        monkeypatch.setattr(StoredItem, "read", staticmethod(read))
        assert store.sweep() == 0
        item = store.get(("n",), "k")
    assert item is not None
    assert item.value == {"new": True}


def test_the_time_to_live_of_a_deleted_item_brings_nothing_back() -> None:
    with AgentSystem.open("memory://") as system:
        store = DuramenStore(system)
        store.put(("n",), "k", {}, ttl=1)
        store.delete(("n",), "k")
        system.agent(store.path(("n",))).set("items/k/expires_at", datetime.now(UTC))  # as by a read at that moment
        assert store.get(("n",), "k") is None
        assert store.search(("n",)) == []


# -- queries -----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_query_without_an_index_finds_words_best_first(system: AgentSystem) -> None:
    store = filled(DuramenStore(system))
    found = store.search(("users",), query="likes CHESS")
    assert [(item.key, item.score is not None) for item in found] == [("b", True), ("a", True)]
    assert store.search(("users",), query="football") == []


def embed(texts: Sequence[str]) -> list[list[float]]:
    """Two dimensions: food and games."""
    return [[float("pasta" in text or "food" in text), float("chess" in text or "game" in text)] for text in texts]


@pytest.mark.slow
def test_a_query_with_an_index_finds_by_meaning_what_the_store_in_memory_finds(system: AgentSystem) -> None:
    index: Any = {"dims": 2, "embed": embed, "fields": ["text"]}
    ours, theirs = filled(DuramenStore(system, index=index)), filled(InMemoryStore(index=index))
    for query in ("a game", "some food"):
        found, expected = (store.search(("users", "1"), query=query, limit=2) for store in (ours, theirs))
        assert [(item.key, item.score) for item in found] == [(item.key, item.score) for item in expected]
    later = DuramenStore(system, index=index).search(("users",), query="a game", limit=1)
    assert later[0].value["text"] == "likes chess"


def test_an_item_put_without_an_index_comes_last() -> None:
    with AgentSystem.open("memory://") as system:
        store = DuramenStore(system, index={"dims": 2, "embed": embed, "fields": ["text"]})
        store.put(("n",), "hidden", {"text": "a game of chess"}, index=False)
        store.put(("n",), "far", {"text": "food"})
        assert [item.key for item in store.search(("n",), query="chess")] == ["far", "hidden"]


def test_an_embedding_function_that_loses_texts_is_refused() -> None:
    with AgentSystem.open("memory://") as system:
        store = DuramenStore(system, index={"dims": 2, "embed": lambda texts: [], "fields": ["text"]})
        with pytest.raises(InvalidMessage, match="0 vectors of 1 texts"):
            store.put(("n",), "k", {"text": "x"})
        assert store.get(("n",), "k") is None


def test_everything_works_on_asyncio_with_an_async_embedding(system: AgentSystem) -> None:
    async def embed_later(texts: Sequence[str]) -> list[list[float]]:
        await asyncio.sleep(0)
        return embed(texts)

    async def use() -> list[str]:
        store = DuramenStore(system, index={"dims": 2, "embed": embed_later, "fields": ["text"]})
        await asyncio.gather(*[store.aput(("n",), text, {"text": text}) for text in ("pasta", "chess", "rain")])
        await store.adelete(("n",), "rain")
        assert await store.alist_namespaces() == [("n",)]
        return [item.key for item in await store.asearch(("n",), query="a game")]

    assert asyncio.run(use()) == ["chess", "pasta"]


# -- refusals ----------------------------------------------------------------------------------------------------------


def test_bad_input_is_refused_before_anything_is_stored() -> None:
    with AgentSystem.open("memory://") as system:
        store = DuramenStore(system)
        for namespace in ((), ("a.b",), ("",), ("langgraph",)):
            with pytest.raises(InvalidNamespaceError):
                store.put(namespace, "k", {})
        with pytest.raises(ValueRefused):
            store.put(("n",), "k", {"x": object()})
        with pytest.raises(InvalidMessage, match=r"not '\$near'"):
            filled(store).search(("docs",), filter={"score": {"$near": 1}})
        assert store.get(("n",), "k") is None
