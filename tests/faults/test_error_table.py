"""What servers refuse: each error has its class, the state stays, and what passes by itself is waited for."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Literal

import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st
from redis._parsers.base import BaseParser

from contracts.authors import Author, commit_one, head_of
from duramen.actors import AgentHandle, AgentSystem
from duramen.events.errors import DuramenError, InvalidMessage, NotPermitted, OutcomeUnknown, Unavailable, UnsafeServer
from duramen.events.log.records import Status
from duramen.events.redis.client.connection import pool_of_url
from duramen.events.redis.client.errors import Retry, classify_error, retry_pause, translate_error
from duramen.events.redis.log import RedisLog
from faults.evidence import Evidence
from naming import shown
from servers import Server
from waiting import eventually

AGENT = "acme/alice"
SAFE, AMBIGUOUS, FATAL = Retry.SAFE, Retry.AMBIGUOUS, Retry.FATAL


def of_server(text: str) -> Exception:
    """The error that redis-py makes of such a reply."""
    error: Exception = BaseParser.parse_error(text)
    return error


REPLIES: list[tuple[str, Retry, type[DuramenError], str]] = [
    ("LOADING Redis is loading the dataset in memory", SAFE, Unavailable, "LOADING"),
    ("BUSY Redis is busy running a script. You can only call SCRIPT KILL.", SAFE, Unavailable, "BUSY"),
    ("TRYAGAIN Multiple keys request during rehashing of slot", SAFE, Unavailable, "TRYAGAIN"),
    ("CLUSTERDOWN Hash slot not served", SAFE, Unavailable, "CLUSTERDOWN"),
    ("CLUSTERDOWN The cluster is down", SAFE, Unavailable, "CLUSTERDOWN"),
    (
        "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
        SAFE,
        Unavailable,
        "MASTERDOWN",
    ),
    ("NOSCRIPT No matching script. Please use EVAL.", SAFE, Unavailable, "NOSCRIPT"),
    ("MOVED 3999 127.0.0.1:6381", SAFE, Unavailable, "MOVED"),
    ("ASK 3999 127.0.0.1:6381", SAFE, Unavailable, "ASK"),
    ("READONLY You can't write against a read only replica.", FATAL, Unavailable, "READONLY"),
    (
        "READONLY You can't write against a read only replica. script: 5f, on @user_script:9.",
        FATAL,
        Unavailable,
        "READONLY",
    ),
    ("NOREPLICAS Not enough good replicas to write.", FATAL, Unavailable, "NOREPLICAS"),
    ("MISCONF Errors writing to the AOF file: No space left on device", FATAL, Unavailable, "MISCONF"),
    ("OOM command not allowed when used memory > 'maxmemory'.", FATAL, Unavailable, "OOM"),
    (
        "OOM command not allowed when used memory > 'maxmemory'. script: 5f, on @user_script:9.",
        FATAL,
        Unavailable,
        "OOM",
    ),
    (
        "ERR Error running script (call to f_5f): @user_script:9: @user_script: 9: -OOM command not allowed when used",
        FATAL,
        Unavailable,
        "OOM",
    ),
    ("NOAUTH Authentication required.", FATAL, NotPermitted, "NOAUTH"),
    ("WRONGPASS invalid username-password pair or user is disabled.", FATAL, NotPermitted, "WRONGPASS"),
    ("ERR invalid password", FATAL, NotPermitted, "WRONGPASS"),
    ("NOPERM this user has no permissions to run the 'set' command", FATAL, NotPermitted, "NOPERM"),
    ("NOPERM No permissions to access a key. script: 5f, on @user_script:9.", FATAL, NotPermitted, "NOPERM"),
    (
        "ERR The user executing the script can't run this command or subcommand script: 5f, on @user_script:9.",
        FATAL,
        NotPermitted,
        "NOPERM",
    ),
    ("ERR ACL failure in script: User x has no permissions to run the 'set' command", FATAL, NotPermitted, "NOPERM"),
    ("ERR Protocol error: unauthenticated multibulk length", FATAL, NotPermitted, "NOAUTH"),
    (
        "ERR The user executing the script can't access at least one of the keys mentioned in the command arguments",
        FATAL,
        NotPermitted,
        "NOPERM",
    ),
    ("WRONGTYPE Operation against a key holding the wrong kind of value", FATAL, UnsafeServer, "WRONGTYPE"),
    ("ERR AUTH <password> called without any password configured", FATAL, NotPermitted, "NOPASS"),
    ("ERR SELECT is not allowed in cluster mode", FATAL, UnsafeServer, "INCLUSTER"),
    ("ERR unknown subcommand 'LOAD'. Try SCRIPT HELP.", FATAL, NotPermitted, "NOCOMMAND"),
    ("ERR unknown command 'EVALSHA_RO'", FATAL, NotPermitted, "NOCOMMAND"),
    ("ERR DB index is out of range", FATAL, InvalidMessage, "NODATABASE"),
    ("SOMETHING that nobody has heard of", FATAL, Unavailable, "ERR"),
    ("ERR max number of clients reached", AMBIGUOUS, Unavailable, "ConnectionError"),
]
CONNECTION_ERRORS: list[Exception] = [
    redis.ConnectionError("Connection closed by server."),
    redis.TimeoutError("Timeout reading from socket"),
    redis.exceptions.ClusterError("TTL exhausted."),
    ConnectionResetError(104, "Connection reset by peer"),
    ConnectionRefusedError(111, "Connection refused"),
    BrokenPipeError(32, "Broken pipe"),
    FileNotFoundError(2, "No such file or directory"),
    TimeoutError("timed out"),
    OSError(113, "No route to host"),
]


@pytest.mark.parametrize(("text", "retry", "kind", "code"), REPLIES, ids=lambda value: str(value)[:50])
def test_each_refusal_of_a_server_has_its_class_and_its_advice(
    text: str, retry: Retry, kind: type[DuramenError], code: str
) -> None:
    error = of_server(text)
    assert classify_error(error) is retry
    told = translate_error(error, "append")
    assert type(told) is kind
    assert told.actual == code
    assert str(told).startswith("append: ")


@pytest.mark.parametrize(("text", "retry", "kind", "code"), REPLIES, ids=lambda value: str(value)[:50])
def test_a_refusal_after_a_lost_reply_leaves_the_outcome_unknown(
    text: str, retry: Retry, kind: type[DuramenError], code: str
) -> None:
    told = translate_error(of_server(text), "append", wrote=True)
    assert type(told) is OutcomeUnknown
    assert "same command id" in str(told)


@pytest.mark.parametrize("error", CONNECTION_ERRORS, ids=shown)
def test_a_lost_connection_may_have_carried_the_command(error: Exception) -> None:
    assert classify_error(error) is AMBIGUOUS
    assert type(translate_error(error, "read")) is Unavailable
    assert type(translate_error(error, "append", wrote=True)) is OutcomeUnknown


@pytest.mark.parametrize("error", [redis.TimeoutError("x"), TimeoutError("x")], ids=shown)
def test_a_time_out_is_called_one(error: Exception) -> None:
    assert "no answer in time" in str(translate_error(error, "append", wrote=True))


@given(
    text=st.sampled_from(
        [text.split(" ")[0] for text, *_ in REPLIES if not text.startswith(("MOVED", "ASK"))]
        + ["Command # 2 (RPUSH log", "Error running script"]
    ),
    payload=st.text(max_size=10),
    kind=st.sampled_from([of_server, redis.ResponseError, redis.ConnectionError, redis.DataError, OSError]),
    wrote=st.booleans(),
)
def test_nothing_of_a_servers_text_is_told(text: str, payload: str, kind: Any, wrote: bool) -> None:
    """redis-py puts the arguments of commands into it, and so payloads."""
    error = kind(f'{text} {{"api_key": "sk-secret{payload}"}} {payload}')
    told = translate_error(error, "append", wrote=wrote)
    assert "sk-secret" not in f"{told}{told.args}{told.actual}{told.expected}"


# -- real servers ----------------------------------------------------------------------------------------------------


@pytest.fixture(params=["valkey", "redis"])
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Server]:
    """A server of the test's own, in a directory that it may destroy."""
    kind: Literal["valkey", "redis"] = request.param
    with Server(kind=kind, tcp=True, directory=tmp_path).start() as running:
        yield running


@pytest.fixture
def evidence(server: Server) -> Evidence:
    return Evidence(server)


@pytest.fixture
def client(server: Server) -> Iterator[Any]:
    """Of whoever runs the server; over the Unix socket."""
    with server.client() as direct:
        yield direct


@pytest.fixture
def cleanup() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def log(server: Server, evidence: Evidence) -> RedisLog:
    return RedisLog(pool_of_url(f"{server.url}?socket_timeout=1"), namespace=evidence.namespace, retry_seconds=2.0)


@pytest.fixture
def agent(log: RedisLog, cleanup: ExitStack) -> AgentHandle:
    system = cleanup.enter_context(AgentSystem.open(log=log))
    agent = system.spawn(AGENT)
    agent.set("before", 0)
    return agent


def is_refused(agent: AgentHandle, evidence: Evidence, kind: type[DuramenError], code: str) -> None:
    """A command is refused with this error, again and again, and changes nothing; nor does it for the log itself."""
    before = evidence.items(AGENT), evidence.head(AGENT)
    for _ in range(2):
        with pytest.raises(kind) as caught:
            agent.set("a", 1, command_id="c-1")
        assert type(caught.value) is kind
        assert (caught.value.agent, caught.value.actual) == (AGENT, code)
    assert evidence.items(AGENT) == before[0]
    head = evidence.head(AGENT)
    assert head is not None
    assert before[1] is not None
    assert head[:3] == before[1][:3]


def works_again(agent: AgentHandle, evidence: Evidence) -> None:
    assert agent.set("a", 1, command_id="c-1").seq == 3
    assert agent.set("a", 1, command_id="c-1").seq == 3
    assert agent.get() == {"before": 0, "a": 1} == evidence.memory(AGENT)


def test_a_replica_is_refused_until_it_is_a_primary_again(agent: AgentHandle, evidence: Evidence, client: Any) -> None:
    client.replicaof("127.0.0.1", 1)
    is_refused(agent, evidence, Unavailable, "READONLY")
    client.replicaof("NO", "ONE")
    works_again(agent, evidence)


def test_too_few_replicas_are_told_and_nothing_is_written(agent: AgentHandle, evidence: Evidence, client: Any) -> None:
    client.config_set("min-replicas-to-write", 1)
    is_refused(agent, evidence, Unavailable, "NOREPLICAS")
    client.config_set("min-replicas-to-write", 0)
    works_again(agent, evidence)


def test_a_disk_that_cannot_be_written_is_told_and_nothing_is_written(
    agent: AgentHandle, evidence: Evidence, client: Any, tmp_path: Path
) -> None:
    client.config_set("save", "3600 1")
    shutil.rmtree(tmp_path)
    client.bgsave()
    eventually(lambda: client.info("persistence")["rdb_last_bgsave_status"] == "err")
    is_refused(agent, evidence, Unavailable, "MISCONF")
    client.config_set("stop-writes-on-bgsave-error", "no")
    works_again(agent, evidence)
    client.config_set("save", "")  # or it would try to save before it ends


def test_a_login_that_is_asked_for_all_at_once_is_told(agent: AgentHandle, evidence: Evidence, client: Any) -> None:
    assert client.ping()
    client.config_set("requirepass", "s3cr3t")
    client.client_kill_filter(_type="normal", skipme=True)
    with pytest.raises(NotPermitted) as caught:
        agent.get()
    assert caught.value.actual == "NOAUTH"
    client.config_set("requirepass", "")
    works_again(agent, evidence)


def test_a_wrong_password_is_told_at_once(server: Server, client: Any) -> None:
    client.config_set("requirepass", "s3cr3t")
    host, port = server.address
    for url, code in ((f"redis://:wrong@{host}:{port}", "WRONGPASS"), (f"redis://{host}:{port}", "NOAUTH")):
        with pytest.raises(NotPermitted) as caught:
            AgentSystem.open(url)
        assert caught.value.actual == code
        assert "wrong@" not in str(caught.value)


RIGHTS = (
    "reset on nopass ~duramen:* &duramen:* +evalsha +evalsha_ro +script|load +hmget +hset +hscan +llen +rpush +lrange "
    "+ltrim +exists +set +get +publish +ping +info +config|get"
)


def limited(server: Server, client: Any, namespace: str) -> RedisLog:
    client.execute_command("ACL", "SETUSER", "limited", *RIGHTS.split())
    host, port = server.address
    return RedisLog(pool_of_url(f"redis://limited:any@{host}:{port}"), namespace=namespace, retry_seconds=2.0)


@pytest.mark.parametrize("lost", ["-evalsha", "-rpush", "-hmget", "resetkeys"])
def test_a_permission_that_is_withdrawn_is_told_and_nothing_is_written(
    server: Server, client: Any, cleanup: ExitStack, lost: str
) -> None:
    evidence = Evidence(server)
    log = limited(server, client, evidence.namespace)
    agent = cleanup.enter_context(AgentSystem.open(log=log)).spawn(AGENT)
    agent.set("before", 0)
    client.execute_command("ACL", "SETUSER", "limited", lost)
    is_refused(agent, evidence, NotPermitted, "NOPERM")
    client.execute_command("ACL", "SETUSER", "limited", *RIGHTS.split())
    works_again(agent, evidence)


def test_a_user_who_may_not_load_scripts_is_told_so_each_time(server: Server, client: Any) -> None:
    """Two commands are under way then, and both replies belong to the first call, not one to the next."""
    log = limited(server, client, Evidence(server).namespace)
    author = Author(log, AGENT).fill(1)
    client.execute_command("ACL", "SETUSER", "limited", "-script|load")
    client.script_flush()
    for _ in range(20):
        with pytest.raises(NotPermitted):
            log.read(AGENT, 1, 1)
        assert head_of(log, AGENT).seq == 1
    with pytest.raises(NotPermitted):
        commit_one(log, author.append(b"x"))
    log.close()


def test_a_user_who_may_not_publish_loses_nothing_but_notices(
    server: Server, client: Any, cleanup: ExitStack, caplog: pytest.LogCaptureFixture
) -> None:
    evidence = Evidence(server)
    log = limited(server, client, evidence.namespace)
    client.execute_command("ACL", "SETUSER", "limited", "-publish")
    agent = cleanup.enter_context(AgentSystem.open(log=log)).spawn(AGENT)
    assert agent.set("a", 1).seq == 2
    assert evidence.sets(AGENT) == [("a", 1)]
    assert "notices_not_published" in caplog.text


# -- what passes by itself -------------------------------------------------------------------------------------------


def test_a_busy_server_is_waited_for(agent: AgentHandle, evidence: Evidence, server: Server, client: Any) -> None:
    client.config_set("lua-time-limit", 20)
    with ThreadPoolExecutor(2) as pool, server.client() as other:
        endless = pool.submit(other.eval, "while true do end", 0)
        eventually(lambda: _is_busy(client))
        waiting = pool.submit(agent.set, "a", 1, command_id="c-1")
        with pytest.raises(TimeoutError):
            waiting.result(0.1)
        client.script_kill()
        assert waiting.result(20).seq == 3
        with pytest.raises(redis.ResponseError):
            endless.result(20)
    works_again(agent, evidence)


def test_a_server_that_is_busy_for_too_long_is_given_up_and_nothing_was_written(
    agent: AgentHandle, evidence: Evidence, server: Server, client: Any
) -> None:
    client.config_set("lua-time-limit", 20)
    with ThreadPoolExecutor(1) as pool, server.client() as other:
        endless = pool.submit(other.eval, "while true do end", 0)
        eventually(lambda: _is_busy(client))
        with pytest.raises(Unavailable) as caught:
            agent.set("a", 1, command_id="c-1")
        assert (type(caught.value), caught.value.actual) == (Unavailable, "BUSY")
        client.script_kill()
        with pytest.raises(redis.ResponseError):
            endless.result(20)
    works_again(agent, evidence)


def _is_busy(client: Any) -> bool:
    try:
        client.ping()
    except redis.ResponseError as error:
        return "BUSY" in str(error)
    return False


def test_a_replica_without_its_primary_is_waited_for(agent: AgentHandle, evidence: Evidence, client: Any) -> None:
    client.config_set("replica-serve-stale-data", "no")
    client.replicaof("127.0.0.1", 1)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(agent.set, "a", 1, command_id="c-1")
        with pytest.raises(TimeoutError):
            waiting.result(0.1)
        client.replicaof("NO", "ONE")
        assert waiting.result(20).seq == 3
    works_again(agent, evidence)


# -- memory ----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_server_out_of_memory_refuses_whole_batches_and_takes_the_next_when_it_has_some(
    log: RedisLog, client: Any
) -> None:
    author = Author(log, AGENT).fill(1)
    client.config_set("maxmemory", int(client.info("memory")["used_memory"]) + 200_000)
    refused = None
    for _ in range(100):
        append = author.append(*(b"x" * 100 + body for body in author.bodies(500)))
        try:
            author.settle(append, commit_one(log, append))
        except Unavailable as error:
            refused = error
            break
    assert refused is not None
    assert (type(refused), refused.actual) == (Unavailable, "OOM")
    assert author.seq > 500
    head = head_of(log, AGENT)
    assert (head.seq, head.digest) == (author.seq, author.digest)
    assert client.llen(log.log_key(AGENT)) == author.seq
    page = log.read(AGENT, author.seq, 10)
    assert page is not None
    assert len(page.items) == 1
    client.config_set("maxmemory", 0)
    assert commit_one(log, append).status is Status.COMMITTED
    assert head_of(log, AGENT).seq == author.seq + 500
    assert client.llen(log.log_key(AGENT)) == author.seq + 500
    assert len(log.feed_page(log.partition_of(AGENT), 0, 1_000).entries) == author.seq // 500 + 2


def test_a_server_out_of_memory_is_told_to_each_caller_and_costs_no_state(
    agent: AgentHandle, evidence: Evidence, client: Any
) -> None:
    client.config_set("maxmemory", 1)
    is_refused(agent, evidence, Unavailable, "OOM")
    client.config_set("maxmemory", 0)
    works_again(agent, evidence)


def test_a_repeated_append_is_recognised_though_memory_is_out(log: RedisLog, client: Any) -> None:
    append = Author(log, AGENT).write(b"one")
    client.config_set("maxmemory", 1)
    assert commit_one(log, append).status is Status.DUPLICATE


def test_pauses_between_tries_grow_to_half_a_second_and_differ() -> None:
    longest = [0.02, 0.04, 0.08, 0.16, 0.32, 0.5, 0.5]
    for failures, most in enumerate(longest, 1):
        pauses = [retry_pause(failures) for _ in range(100)]
        assert all(most / 2 <= pause <= most for pause in pauses)
        assert len(set(pauses)) > 1, "processes that have lost a server together would come back together"
    assert retry_pause(1_000_000) <= 0.5
