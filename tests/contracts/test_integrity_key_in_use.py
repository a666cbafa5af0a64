"""A namespace has its integrity key for ever; what has one works as what has none."""

from __future__ import annotations

import hmac
from functools import partial
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.keyed import ALICE, EVERY_SECOND, KEY, OTHER, lie, lived, log_of
from contracts.places import Place, ServerPlace
from duramen.actors import AgentSystem
from duramen.events import AgentNotFound, InvalidMessage, MemoryLog, WrongKey
from duramen.events.codec.digest_chain import MAX_KEY_BYTES, MIN_KEY_BYTES, PLAIN, DigestChain
from duramen.events.codec.event_codec import NO_DIGEST
from duramen.projections.recorded import check_replay, load_log, record_log, recorded_in, save_log

# -- opening -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("made", "given", "says"),
    [
        (KEY, None, "give the same one"),
        (KEY, OTHER, "another integrity key"),
        (KEY, KEY + b"\0", "another integrity key"),
        (None, KEY, "without an integrity key"),
    ],
    ids=["none given", "another", "a longer one", "none used"],
)
def test_a_namespace_opens_with_what_it_was_made_with_and_nothing_else(
    server: ServerPlace, made: bytes | None, given: bytes | None, says: str
) -> None:
    lived(log_of(server, made))
    before: Any = server.client.hgetall(server.keys.namespace)
    assert (b"integrity" in before) is (made is not None)
    with pytest.raises(WrongKey, match=says) as caught:
        AgentSystem.open(server.url, namespace=server.namespace, integrity_key=given)
    assert not any(repr(key)[2:-1] in str(caught.value) or key.hex() in str(caught.value) for key in (KEY, OTHER))
    assert server.client.hgetall(server.keys.namespace) == before
    with AgentSystem.open(server.url, namespace=server.namespace, integrity_key=made) as system:
        assert system.verify().ok


def test_to_take_the_mark_of_the_key_away_lets_no_key_in(server: ServerPlace) -> None:
    lived(log_of(server, KEY))
    server.client.hdel(server.keys.namespace, "integrity")
    with pytest.raises(WrongKey):
        log_of(server, KEY)


@pytest.mark.parametrize("mark", ["", "0" * 32, "\xff" * 8, b"\xff\xfe", "x" * 10_000])
def test_a_mark_of_any_form_is_a_typed_error(server: ServerPlace, mark: Any) -> None:
    log_of(server, KEY)
    server.client.hset(server.keys.namespace, "integrity", mark)
    with pytest.raises(WrongKey):
        log_of(server, KEY)


def test_the_mark_of_one_namespace_is_not_that_of_another_with_the_same_key(server: ServerPlace) -> None:
    first, second = log_of(server, KEY), MemoryLog(integrity_key=KEY)
    assert first.chain.fingerprint(first.identity) != second.chain.fingerprint(second.identity)
    assert first.chain.fingerprint(first.identity) == second.chain.fingerprint(first.identity)


def test_the_key_is_nowhere_on_the_server(server: ServerPlace) -> None:
    lived(log_of(server, KEY), EVERY_SECOND)
    texts = [*(KEY[at : at + 8] for at in range(0, len(KEY), 8)), KEY.hex().encode()]
    names: list[bytes] = list(server.client.scan_iter(match=f"*{server.namespace}*"))
    assert len(names) > 5
    for name in names:
        stored: Any = server.client.dump(name)
        assert not any(text in stored for text in texts), name


@pytest.mark.parametrize(
    "key", [b"", b"x" * (MIN_KEY_BYTES - 1), b"x" * (MAX_KEY_BYTES + 1), "x" * 32, bytearray(32), 32, True]
)
def test_what_is_no_key_is_refused_and_not_shown(key: Any) -> None:
    for make in (partial(AgentSystem.open, "memory://"), MemoryLog):
        with pytest.raises(InvalidMessage, match="16 to 1024 bytes") as caught:
            make(integrity_key=key)
        assert "xxx" not in str(caught.value)


@pytest.mark.parametrize("size", [MIN_KEY_BYTES, 64, 65, MAX_KEY_BYTES])
def test_keys_of_any_size_within_the_bounds_do(size: int) -> None:
    with AgentSystem.open("memory://", integrity_key=b"k" * size) as system:
        system.spawn(ALICE).set("goal", 1)
        assert system.log.chain.is_keyed
        assert system.verify().ok


def test_an_open_log_takes_no_second_key() -> None:
    with pytest.raises(InvalidMessage, match="open log"):
        AgentSystem.open(log=MemoryLog(), integrity_key=KEY)


def test_the_environment_gives_a_key_where_no_other_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    def digest(**options: Any) -> bytes:
        with AgentSystem.open("memory://", **options) as system:
            return system.log.chain.digest(NO_DIGEST, b"body")

    text = "a key that is a text, with an é"
    plain = digest()
    assert plain == PLAIN.digest(NO_DIGEST, b"body")
    monkeypatch.setenv("DURAMEN_INTEGRITY_KEY", text)
    assert digest() == digest(integrity_key=text.encode()) != plain
    assert digest(integrity_key=KEY) == DigestChain(KEY).digest(NO_DIGEST, b"body")
    monkeypatch.setenv("DURAMEN_INTEGRITY_KEY", "")
    assert digest() == plain
    monkeypatch.setenv("DURAMEN_INTEGRITY_KEY", "short")
    with pytest.raises(InvalidMessage):
        digest()


# -- what a key makes --------------------------------------------------------------------------------------------------


def by_hand(key: bytes, purpose: bytes, data: bytes) -> bytes:
    return hmac.digest(hmac.digest(b"duramen " + purpose, key, "sha256"), data, "sha256")[:16]


@given(st.binary(min_size=MIN_KEY_BYTES, max_size=MAX_KEY_BYTES), st.binary(min_size=16, max_size=16), st.binary())
def test_digests_and_checksums_are_hmac_as_the_reference_says(key: bytes, previous: bytes, data: bytes) -> None:
    chain = DigestChain(key)
    assert chain.digest(previous, data) == by_hand(key, b"events", previous + data)
    assert chain.seal(data) == by_hand(key, b"snapshots", data) + data
    assert chain.fingerprint("identity") == by_hand(key, b"fingerprint", b"identity").hex()
    assert PLAIN.digest(previous, data) == sha256(previous + data).digest()[:16]
    assert PLAIN.seal(data) == sha256(data).digest()[:16] + data
    assert PLAIN.fingerprint("identity") == ""


@given(st.sampled_from([None, KEY]), st.lists(st.binary(max_size=40), max_size=5), st.data())
def test_items_follow_if_each_digest_is_right_and_not_otherwise(
    key: bytes | None, bodies: list[bytes], data: st.DataObject
) -> None:
    chain, digest, items = DigestChain(key), NO_DIGEST, list[bytes]()
    for one in bodies:
        digest = chain.digest(digest, one)
        items.append(digest + one)
    assert chain.verify_items(NO_DIGEST, items) == ([item[:16] for item in items], bodies)
    assert chain.unseal(chain.seal(b"state")) == b"state"
    if items:
        at = data.draw(st.integers(0, len(items) - 1))
        bit = data.draw(st.integers(0, 8 * len(items[at]) - 1))
        number = int.from_bytes(items[at]) ^ (1 << bit)
        items[at] = number.to_bytes(len(items[at]))
        assert chain.verify_items(NO_DIGEST, items) is None
        assert DigestChain(OTHER).verify_items(NO_DIGEST, items) is None


def test_a_chain_does_not_show_its_key() -> None:
    assert repr(DigestChain(KEY)) == "<DigestChain with a key>"
    assert repr(PLAIN) == "<DigestChain without a key>"


# -- everything else goes on -------------------------------------------------------------------------------------------


def test_an_agent_lives_and_comes_back_as_without_a_key(place: Place) -> None:
    lived(log_of(place, KEY), EVERY_SECOND)
    with AgentSystem.open(log=log_of(place, KEY), settings=EVERY_SECOND) as system:
        alice = system.agent(ALICE)
        assert alice.get("goal") == "be brief"
        alice.set("step", 1, command_id="c-1")
        alice.set("step", 1, command_id="c-1")
        fork = system.fork(ALICE, 2, to="acme/fork")
        fork.set("goal", "another course")
        assert system.origin("acme/fork") is not None
        system.trim(ALICE, keep_events=2)
        assert system.keep_keyframes(ALICE) == 0
        assert [event.seq for event, _ in system.replay(ALICE, from_seq=5)] == [5, 6]
        report = system.verify()
        assert report.ok, report


@pytest.mark.parametrize(
    ("key", "says"), [(None, "give the same one"), (OTHER, "another integrity key")], ids=["none", "another"]
)
def test_a_session_file_goes_only_where_its_key_is(place: Place, key: bytes | None, says: str) -> None:
    file = exported(KEY)
    with AgentSystem.open(log=log_of(place, key)) as elsewhere:
        with pytest.raises(WrongKey, match=says):
            elsewhere.import_session(BytesIO(file))
        with pytest.raises(AgentNotFound):
            elsewhere.agent(ALICE).get("goal")


def test_a_session_file_that_has_no_key_does_not_get_one(place: Place) -> None:
    file = exported(None)
    with AgentSystem.open(log=log_of(place, KEY)) as elsewhere:
        with pytest.raises(WrongKey, match="without an integrity key"):
            elsewhere.import_session(BytesIO(file))
        assert list(elsewhere.agents()) == []


def test_a_session_file_comes_back_with_equal_digests_under_its_key(place: Place) -> None:
    with AgentSystem.open(log=log_of(place, KEY)) as elsewhere:
        elsewhere.import_session(BytesIO(exported(KEY)))
        elsewhere.import_session(BytesIO(exported(KEY)), to="acme/bob")
        heads = {entry.agent: entry.head.seq for entry in elsewhere.agents()}
        assert heads == {ALICE: 3, "acme/bob": 3}
        assert elsewhere.verify().ok
        again = BytesIO()
        session = elsewhere.export_session(ALICE, again)
        with AgentSystem.open(log=MemoryLog(integrity_key=KEY)) as back:
            assert back.import_session(BytesIO(again.getvalue())).agents == session.agents


def exported(key: bytes | None) -> bytes:
    file = BytesIO()
    with AgentSystem.open(log=MemoryLog(integrity_key=key)) as system:
        alice = system.spawn(ALICE)
        alice.set("goal", "travel")
        alice.set("goal", "stay")
        system.trim(ALICE, keep_events=2)
        system.export_session(ALICE, file)
    return file.getvalue()


def test_logs_are_recorded_and_compared_without_their_key(place: Place, tmp_path: Path) -> None:
    log = log_of(place, KEY)
    lived(log, EVERY_SECOND)
    found = recorded_in(log, ALICE)
    assert found.states
    assert check_replay(found).ok
    save_log(record_log(log, ALICE), tmp_path / "alice.jsonl")
    assert check_replay(load_log(tmp_path / "alice.jsonl")).ok
    lie(place, log, 2)
    (difference,) = check_replay(recorded_in(log, ALICE)).differences
    assert (difference.kind, difference.seq) == ("error", 2)


def test_live_changes_come_with_a_key(place: Place) -> None:
    with AgentSystem.open(log=log_of(place, KEY)) as system, system.subscribe("acme/**") as changes:
        system.spawn(ALICE).set("goal", "travel")
        seen = list[int]()
        while len(seen) < 2:
            taken = changes.take(10, 10.0)
            assert taken, "no change came"
            seen += [change.event.seq for change in taken]
        assert seen == [1, 2]


@pytest.mark.slow
def test_an_embedded_server_keeps_its_key_too(tmp_path: Path) -> None:
    with AgentSystem.open(data_dir=tmp_path / "store", integrity_key=KEY) as system:
        system.spawn(ALICE).set("goal", "travel")
    for wrong in (None, OTHER):
        with pytest.raises(WrongKey):
            AgentSystem.open(data_dir=tmp_path / "store", integrity_key=wrong)
    with AgentSystem.open(data_dir=tmp_path / "store", integrity_key=KEY) as system:
        assert system.agent(ALICE).get("goal") == "travel"
        assert system.verify().ok
