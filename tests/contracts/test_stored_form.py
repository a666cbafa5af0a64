"""What stands on a server, byte for byte. Golden: whoever changes one of these has changed the format."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
import redis

import msgpack
from contracts.authors import FENCE, Author, commit_one
from contracts.places import ServerPlace
from duramen.events.codec.event_codec import DIGEST_SIZE, NO_DIGEST, Codec, chain
from duramen.events.codec.snapshot import SnapshotRecord, pack_snapshot, unpack_snapshot
from duramen.events.errors import CorruptEvent, DuramenError, InvalidMessage, UnsafeServer
from duramen.events.feed.window_loader import WindowLoader
from duramen.events.log.event_log import EventLog
from duramen.events.log.records import Append, Base, Put, Status
from duramen.events.model.cursor import START, Mark
from duramen.events.model.event import Granularity
from duramen.events.model.limits import Limits

AGENT = "acme/alice"
TIME = 1_700_000_000_123_456
RAW: list[Any] = [
    "claim_found",
    2,
    int(Granularity.STATE),
    TIME,
    {
        "none": None,
        "bool": [True, False],
        "int": [0, -1, 2**63, -(2**63)],
        "float": -0.5,
        "text": "grün",
        "bytes": b"\x00\xff",
        "time": datetime(2024, 5, 6, 7, 8, 9, 10, tzinfo=timezone(timedelta(hours=2))),
        "utc": datetime(1969, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC),
    },
    "s-1",
    ["c-1", b"\x01\x02"],
    None,
    "order-7",
    {"by": "test"},
]
BODY = bytes.fromhex(
    "9aab636c61696d5f666f756e640202cf00060a241820224088a46e6f6e65c0a4626f6f6c92c3c2a3696e749400ffcf800000"
    "0000000000d38000000000000000a5666c6f6174cbbfe0000000000000a474657874a56772c3bc6ea56279746573c40200ff"
    "a474696d65c70c01000617c20e2a204a00001c20a3757463c70c01ffffffffffffffff00000000a3732d3192a3632d31c402"
    "0102c0a76f726465722d3781a26279a474657374"
)
ITEM = bytes.fromhex(
    "fc19b42acf466abb97f10a1412d5a8da9aab636c61696d5f666f756e640202cf00060a241820224088a46e6f6e65c0a4626f"
    "6f6c92c3c2a3696e749400ffcf8000000000000000d38000000000000000a5666c6f6174cbbfe0000000000000a474657874"
    "a56772c3bc6ea56279746573c40200ffa474696d65c70c01000617c20e2a204a00001c20a3757463c70c01ffffffffffffff"
    "ff00000000a3732d3192a3632d31c4020102c0a76f726465722d3781a26279a474657374"
)
HEAD = bytes.fromhex(
    "970100b0fc19b42acf466abb97f10a1412d5a8daad313a66697273742d6f776e6572cf00060a2418202240cf00060a2418202240ccba"
)
CLAIMED_HEAD = bytes.fromhex(
    "970100b0fc19b42acf466abb97f10a1412d5a8daa7323a6f776e6572cf00060a2418202241cf00060a2418202240ccba"
)
FEED_ENTRY = bytes.fromhex("94aa61636d652f616c696365010104")
NOTICE = bytes.fromhex(
    "9500019193aa61636d652f616c6963650191d9bafc19b42acf466abb97f10a1412d5a8da9aab636c61696d5f666f756e6402"
    "02cf00060a241820224088a46e6f6e65c0a4626f6f6c92c3c2a3696e749400ffcf8000000000000000d38000000000000000"
    "a5666c6f6174cbbfe0000000000000a474657874a56772c3bc6ea56279746573c40200ffa474696d65c70c01000617c20e2a"
    "204a00001c20a3757463c70c01ffffffffffffffff00000000a3732d3192a3632d31c4020102c0a76f726465722d3781a262"
    "79a4746573740004"
)
NOTICE_WITHOUT_EVENTS = bytes.fromhex("950001c20004")
SNAPSHOT = bytes.fromhex(
    "88c384c7ae6ba55f907acc3b06432a199701aa61636d652f616c69636507c410000102030405060708090a0b0c0d0e0fcf00"
    "060a2418202240a773746174652d3181a66d656d6f727982a4676f616ca178a16e9201cb4000000000000000"
)
DIRECTORY_LINE = bytes.fromhex("93a772756e6e696e67c0a3732d31")


@pytest.fixture
def codec() -> Codec:
    return Codec(Limits())


@pytest.fixture
def log(server: ServerPlace) -> EventLog:
    return server.open()


def snapshot() -> SnapshotRecord:
    return SnapshotRecord(AGENT, 7, bytes(range(16)), TIME, "state-1", {"memory": {"goal": "x", "n": [1, 2.0]}})


def first_append(log: EventLog) -> Append:
    return Append(
        agent=AGENT,
        log_key=log.log_key(AGENT),
        expected=0,
        previous=NO_DIGEST,
        fence=FENCE,
        items=[ITEM],
        levels=bytes([Granularity.STATE]),
        updated_at=TIME,
        create=True,
        entry=DIRECTORY_LINE,
        puts=(Put(log.snapshot_key(AGENT), SNAPSHOT),),
    )


# -- without a server ----------------------------------------------------------------------------------------------


def test_the_body_of_an_event_is_these_bytes(codec: Codec) -> None:
    body, data = codec.encode(RAW)
    assert body.hex() == BODY.hex()
    assert data == RAW[4]


def test_these_bytes_are_the_body_of_an_event(codec: Codec) -> None:
    assert codec.decode(BODY) == RAW


def test_an_item_is_the_digest_over_the_one_before_and_the_body(codec: Codec) -> None:
    assert ITEM.hex() == (chain(NO_DIGEST, BODY) + BODY).hex()
    assert ITEM[:DIGEST_SIZE].hex() == "fc19b42acf466abb97f10a1412d5a8da"
    assert chain(ITEM[:DIGEST_SIZE], BODY).hex() == "ed3c259758659bd85c572ecb50a07e00"


def test_a_snapshot_is_these_bytes(codec: Codec) -> None:
    assert pack_snapshot(snapshot(), codec, Limits()).hex() == SNAPSHOT.hex()


def test_these_bytes_are_a_snapshot(codec: Codec) -> None:
    assert unpack_snapshot(SNAPSHOT, AGENT, codec, Limits()) == snapshot()


# -- on a server -----------------------------------------------------------------------------------------------------


def raw(server: ServerPlace) -> Any:
    """redis-py's client, untyped: its answers are bytes here."""
    client: redis.Redis = server.client
    return client


def test_what_an_append_writes_is_these_bytes_under_these_keys(server: ServerPlace, log: EventLog) -> None:
    assert commit_one(log, first_append(log)).status is Status.COMMITTED
    client, tag = raw(server), f"duramen:{{{server.namespace}:03}}"
    identifier = "4c64f7e71452f44105238776d860009e"
    assert {name: client.type(name) for name in client.scan_iter(f"{tag}*")} == {
        f"{tag}:heads".encode(): b"hash",
        f"{tag}:directory".encode(): b"hash",
        f"{tag}:owners".encode(): b"hash",
        f"{tag}:feed".encode(): b"list",
        f"{tag}:log:{identifier}".encode(): b"list",
        f"{tag}:snapshot:{identifier}".encode(): b"string",
    }
    assert client.hgetall(f"{tag}:heads") == {AGENT.encode(): HEAD, b"2": b"1"}
    assert client.hgetall(f"{tag}:directory") == {AGENT.encode(): DIRECTORY_LINE}
    assert client.hgetall(f"{tag}:owners") == {AGENT.encode(): b"1:" + FENCE.partition(":")[2].encode()}
    assert client.lrange(f"{tag}:feed", 0, -1) == [FEED_ENTRY]
    assert client.lrange(f"{tag}:log:{identifier}", 0, -1) == [ITEM]
    assert client.get(f"{tag}:snapshot:{identifier}") == SNAPSHOT


def test_nothing_but_checkpoints_ever_expires(server: ServerPlace, log: EventLog) -> None:
    append = first_append(log)
    key = log.checkpoint_key(AGENT, "lunch")
    append.puts = (*append.puts, Put(key, b"x", ttl_ms=600_000))
    commit_one(log, append)
    log.claim([AGENT], "owner", 1)
    client = raw(server)
    ttls = {name: client.pttl(name) for name in client.scan_iter(f"duramen:{{{server.namespace}*")}
    assert 0 < ttls.pop(key.encode()) <= 600_000
    assert len(ttls) == 7
    assert set(ttls.values()) == {-1}


def test_a_head_knows_its_largest_event_or_never_says_so(server: ServerPlace, log: EventLog) -> None:
    """It is what allows readers to ask for a page without counting bytes: a guess that is too small would be harm."""
    author, heads = Author(log, AGENT), f"duramen:{{{server.namespace}:03}}:heads"

    def largest() -> list[Any]:
        return msgpack.unpackb(raw(server).hget(heads, AGENT), raw=True)[6:]

    found: list[Any] = []
    for bodies in ([b"x" * 10], [b"x" * 30, b"y"], [b"z"] * 3, [b"x", b"y" * 40, b"z"]):
        author.write(*bodies, levels=bytes([Granularity.STATE, Granularity.TRACE, Granularity.STATE][: len(bodies)]))
        found += largest()
    log.claim([AGENT], "owner", TIME)
    assert found + largest() == [26, 46, 46, 56, 56]
    packed: Any = msgpack.packb(msgpack.unpackb(raw(server).hget(heads, AGENT), raw=True)[:6], use_bin_type=False)
    raw(server).hset(heads, AGENT, packed)
    author.after_claim().write(b"x" * 5)
    assert largest() == []


def test_a_claim_changes_the_head_to_these_bytes(server: ServerPlace, log: EventLog) -> None:
    commit_one(log, first_append(log))
    log.claim([AGENT], "owner", TIME + 1)
    assert raw(server).hget(f"duramen:{{{server.namespace}:03}}:heads", AGENT) == CLAIMED_HEAD


@pytest.mark.parametrize(("limit", "message"), [(64 * 1024, "NOTICE"), (10, "NOTICE_WITHOUT_EVENTS")])
def test_a_notice_is_these_bytes_on_this_channel(server: ServerPlace, limit: int, message: str) -> None:
    log = server.open(limits=Limits(notice_bytes=limit))
    with server.subscribed(f"duramen:{{{server.namespace}:03}}:state".encode()) as subscription:
        commit_one(log, first_append(log))
        assert subscription.get_message(timeout=10)["data"] == globals()[message]


def test_the_namespace_stands_in_one_hash(server: ServerPlace, log: EventLog) -> None:
    assert raw(server).hgetall(f"duramen:{{{server.namespace}}}") == {
        b"format": b"1",
        b"partitions": b"16",
        b"identity": log.identity.encode(),
        b"episodes": b"1",
    }


@pytest.mark.parametrize("other", [b"2", b"0", b"1 ", b"\xff\x00" * 100])
def test_a_namespace_of_another_format_is_not_opened(server: ServerPlace, other: bytes) -> None:
    server.open()
    key = f"duramen:{{{server.namespace}}}"
    raw(server).hset(key, "format", other)
    before = raw(server).hgetall(key)
    with pytest.raises(InvalidMessage):
        server.open()
    assert raw(server).hgetall(key) == before


def test_a_key_of_somebody_elses_under_our_name_is_refused(server: ServerPlace) -> None:
    raw(server).rpush(f"duramen:{{{server.namespace}}}", "not ours")
    with pytest.raises(UnsafeServer):
        server.open()


@pytest.mark.parametrize("key", ["heads", "directory", "feed"])
def test_a_key_of_another_type_is_a_typed_error(server: ServerPlace, log: EventLog, key: str) -> None:
    raw(server).set(f"duramen:{{{server.namespace}:03}}:{key}", "not ours")
    with pytest.raises(UnsafeServer) as caught:
        commit_one(log, first_append(log))
    assert "not ours" not in str(caught.value)


@pytest.mark.parametrize("key", ["heads", "directory", "feed"])
def test_an_append_that_meets_a_key_of_another_type_writes_nothing(
    server: ServerPlace, log: EventLog, key: str
) -> None:
    """A script has no roll-back: what could fail after the first write must fail before it."""
    raw(server).set(f"duramen:{{{server.namespace}:03}}:{key}", "not ours")
    with pytest.raises(UnsafeServer):
        commit_one(log, first_append(log))
    assert raw(server).exists(log.log_key(AGENT)) == 0


def test_a_script_reads_what_was_written_before_it_was_changed(server: ServerPlace, log: EventLog) -> None:
    """Bytes of format 1 put there by hand, as an older version left them, are read and continued."""
    client, tag = raw(server), f"duramen:{{{server.namespace}:03}}"
    client.hset(f"{tag}:heads", AGENT, HEAD)
    client.rpush(log.log_key(AGENT), ITEM)
    client.rpush(f"{tag}:feed", FEED_ENTRY)
    client.hset(f"{tag}:heads", "2", "1")
    head = log.head(AGENT)
    assert head is not None
    assert (head.seq, head.base, head.digest, head.fence) == (1, 0, ITEM[:DIGEST_SIZE], FENCE)
    item = chain(head.digest, BODY) + BODY
    following = Append(AGENT, log.log_key(AGENT), 1, head.digest, FENCE, [item], b"\x02", updated_at=TIME)
    assert commit_one(log, following).status is Status.COMMITTED
    assert client.lrange(f"{tag}:feed", 0, 0) == [FEED_ENTRY]
    assert client.hget(f"{tag}:heads", "2") == b"2"


# -- damage of one agent ---------------------------------------------------------------------------------------------


def of_another_type(server: ServerPlace, log: EventLog) -> None:
    raw(server).delete(log.log_key(AGENT))
    raw(server).set(log.log_key(AGENT), "not ours")


def head_with(stored: bytes) -> Any:
    def damage(server: ServerPlace, log: EventLog) -> None:
        raw(server).hset(f"duramen:{{{server.namespace}:03}}:heads", AGENT, stored)

    return damage


DAMAGE = {
    "a list of another type": of_another_type,
    "a head that is nothing": head_with(b""),
    "a head that is poison": head_with(b"\xc1"),
    "a head that is cut": head_with(HEAD[:-1]),
    "a head that is a number": head_with(b"\x05"),
    "a head that is short": head_with(b"\x92\x01\x00"),
    "a head of other fields": head_with(msgpack.packb(["1", 0, "d", "1:a", 0, 0])),
    "a head with a largest event that is none": head_with(
        msgpack.packb([2, 0, "d" * 16, "1:a", 0, 0, "x"], use_bin_type=False)
    ),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_the_damage_of_one_agent_fails_no_other_of_its_batch(server: ServerPlace, log: EventLog, damage: Any) -> None:
    hurt, sound = Author(log, AGENT).fill(2), Author(log, f"{AGENT}/sound").fill(2)
    damage(server, log)
    for append in (hurt.append(b"x"), hurt.append(), hurt.append(b"x", expected=1), hurt.append(b"x", create=True)):
        following = sound.append(*sound.bodies(1))
        answers = log.commit(log.partition_of(AGENT), [append, following])
        assert answers[0].status is not Status.COMMITTED
        sound.settle(following, answers[1])
    assert commit_one(log, hurt.append(b"x")).status is Status.CORRUPT
    page = log.read(sound.agent, 1, 10)
    assert page is not None
    assert len(page.items) == 6


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_reading_pages_or_trimming_of_a_damaged_agent_raises_corrupt_event(
    server: ServerPlace, log: EventLog, damage: Any
) -> None:
    author = Author(log, AGENT).fill(2)
    damage(server, log)
    for call in (
        lambda: log.read(AGENT, 1, 10),
        lambda: list(log.pages(AGENT, 1, None)),
        lambda: log.trim(AGENT, Base(1, author.digest), b"state"),
    ):
        with pytest.raises(CorruptEvent) as caught:
            call()
        assert caught.value.agent == AGENT


def test_a_claim_of_an_agent_whose_list_has_another_type_says_that_it_has_no_length(
    server: ServerPlace, log: EventLog
) -> None:
    Author(log, AGENT).fill(2)
    of_another_type(server, log)
    (claim,) = log.claim([AGENT], "owner", 1)
    assert claim is not None
    assert claim.length == -1


@pytest.mark.parametrize("name", [name for name in DAMAGE if "head" in name])
def test_a_damaged_head_is_corrupt_to_its_readers_stays_as_it_is_and_hides_no_other_agent(
    server: ServerPlace, log: EventLog, name: str
) -> None:
    Author(log, AGENT).fill(2)
    Author(log, f"{AGENT}/sound").fill(2)
    DAMAGE[name](server, log)
    heads = f"duramen:{{{server.namespace}:03}}:heads"
    before = raw(server).hget(heads, AGENT)
    for call in (lambda: log.head(AGENT), lambda: log.claim([f"{AGENT}/sound", AGENT], "owner", 1)):
        with pytest.raises(CorruptEvent) as caught:
            call()
        assert caught.value.agent == AGENT
    assert raw(server).hget(heads, AGENT) == before
    assert {entry.agent: (entry.status, entry.head.seq) for entry in log.directory()} == {
        AGENT: ("damaged", 0),
        f"{AGENT}/sound": ("running", 2),
    }


def test_a_damaged_line_of_the_directory_hides_no_other_agent(server: ServerPlace, log: EventLog) -> None:
    for agent in (AGENT, f"{AGENT}/sound"):
        Author(log, agent).fill(1)
    for line in (b"", b"\xc1", b"\x91\x01", b"\x05"):
        raw(server).hset(f"duramen:{{{server.namespace}:03}}:directory", AGENT, line)
        assert {entry.agent: entry.status for entry in log.directory()} == {
            AGENT: "damaged",
            f"{AGENT}/sound": "running",
        }


@pytest.mark.parametrize("is_trimmed", [False, True], ids=["whole", "trimmed"])
@pytest.mark.parametrize("name", [name for name in DAMAGE if "head" in name])
def test_a_reader_of_the_feed_needs_no_head(server: ServerPlace, log: EventLog, name: str, is_trimmed: bool) -> None:
    hurt, sound = Author(log, AGENT), Author(log, f"{AGENT}/sound")
    for author in (hurt, sound):
        for _ in range(3):
            author.fill(1)
    items = server.items(log, AGENT)
    if is_trimmed:
        log.trim(AGENT, Base(1, items[0][:16]), b"state")
        log.trim_feed(3, 1)
    DAMAGE[name](server, log)
    sound.fill(2)
    window = WindowLoader(log, 3, level=4).load(Mark(1) if is_trimmed else START, ahead=False)
    assert window is not None
    assert window.problem is None
    expected = [*((AGENT, seq) for seq in range(1, 4)), *((sound.agent, seq) for seq in range(1, 6))]
    assert list(zip(window.agents, window.seqs, strict=True)) == expected[is_trimmed:]
    assert window.digests[2 - is_trimmed] == hurt.digest


def test_a_list_of_another_type_stops_the_reader_of_the_feed_at_its_event(server: ServerPlace, log: EventLog) -> None:
    sound = Author(log, f"{AGENT}/sound").fill(3)
    Author(log, AGENT).fill(3)
    of_another_type(server, log)
    window = WindowLoader(log, 3, level=4).load(START, ahead=False)
    assert window is not None
    assert window.agents == [sound.agent] * 3
    assert isinstance(window.problem, CorruptEvent)
    assert (window.problem.agent, window.problem.seq) == (AGENT, 1)


@pytest.mark.parametrize(
    "stored", [{"partitions": None}, {"partitions": "many"}, {"partitions": "0"}, {"identity": None}]
)
def test_a_namespace_that_is_not_whole_is_a_typed_error(server: ServerPlace, stored: dict[str, str | None]) -> None:
    server.open()
    key = f"duramen:{{{server.namespace}}}"
    for name, value in stored.items():
        if value is None:
            raw(server).hdel(key, name)
        else:
            raw(server).hset(key, name, value)
    with pytest.raises(DuramenError):
        server.open()
