"""The cache of vectors: the same in memory, on Valkey, on Redis."""

from __future__ import annotations

from contracts.places import Place, ServerPlace
from duramen.events.log.event_log import EventLog


def test_what_is_stored_is_loaded_in_order_and_what_is_not_is_none(log: EventLog) -> None:
    cache = log.embeddings("model")
    assert cache.load([b"a"]) == [None]
    assert cache.load([]) == []
    cache.store({})
    cache.store({b"a": b"1", b"\x00\xff\r\n": b"\x00\r\n"})
    cache.store({b"a": b"2", b"c": b""})
    assert cache.load([b"\x00\xff\r\n", b"missing", b"a", b"c", b"a"]) == [b"\x00\r\n", None, b"2", b"", b"2"]


def test_more_than_fits_into_one_command_is_stored_and_loaded(log: EventLog) -> None:
    values = {b"%d" % number: b"v%d" % number * 50 for number in range(1_000)}
    log.embeddings("model").store(values)
    assert log.embeddings("model").load(list(values)) == list(values.values())


def test_models_are_apart_and_one_is_found_again(place: Place) -> None:
    place.open().embeddings("one").store({b"a": b"1"})
    assert place.open().embeddings("two").load([b"a"]) == [None]
    assert place.open().embeddings("one").load([b"a"]) == [b"1"]


def test_the_name_of_a_model_stands_in_no_key(server: ServerPlace) -> None:
    server.open().embeddings("secret {name} of a *model*").store({b"a": b"1"})
    keys = [key.decode() for key in server.client.scan_iter(f"duramen:{{{server.namespace}*")]
    [key] = [key for key in keys if "embeddings" in key]
    assert key == server.keys.embeddings("secret {name} of a *model*")
    assert "secret" not in key
    assert key.startswith(server.keys.namespace)
