"""Health checks of a server, for `duramen doctor`; every open runs some of them."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from typing import Any, Final, Literal, cast

import redis
from attrs import evolve, frozen

from ...errors import DuramenError, Unavailable, UnsafeServer
from ...log import Keys
from .cluster_client import ClusterClient
from .cluster_nodes import SLOTS, ClusterNodes
from .errors import translate_error
from .permissions import find_refused, grant_advice, join_names, list_commands
from .requests import RunCommand
from .script import encode_command, read_script
from .tls import check_tls_mismatch, require_protocol
from .wire import Wire

_REFUSED: Final = frozenset(("NOPERM", "NOCOMMAND", "ERR"))
"""Codes of the replies to a command that this user may not run, or that the server does not have."""

_IN_CLUSTER: Final = "this server is a node of a cluster, where keys are spread over several nodes"
_USE_CLUSTER: Final = "write redis+cluster://HOST:PORT, or give a redis.RedisCluster as client"
_IS_SENTINEL: Final = "this is a sentinel, which holds no data"
_USE_PRIMARY: Final = "write redis+sentinel://HOST:PORT/NAME, with the primary's name as the sentinel has it"
_NEARLY_FULL: Final = 0.9
_SKEW: Final = 1.0
_LEAST_REDIS: Final = (7, 0)


@frozen
class Finding:
    """The result of one check. `advice` says what to do; it is empty if nothing is to be done."""

    level: Literal["ok", "warning", "problem"]
    what: str
    advice: str = ""


def check_server(run: RunCommand, *, namespace: str = "default", in_cluster: bool = False) -> list[Finding]:
    """Check everything on which the durability of acknowledged events depends. Changes nothing on the server.

    In a cluster `run` asks one of its nodes; see `check_cluster`.

    A command that this user may not run is reported, and its check left out. Raises Unavailable if the server does
    not answer, NotPermitted if it refuses the login, InvalidPath for a bad namespace.
    """
    facts = _read_info(run)
    settings = _read_settings(run)
    findings = [] if facts else [_unknown("INFO", "version, memory and replication")]
    if facts:
        findings.append(_version(facts))
    findings.append(_persistence(facts, settings))
    findings.extend(_writes_fail(facts))
    findings.extend(_eviction(facts, settings))
    findings.extend(_memory(facts))
    findings.extend(_permissions(run, namespace, in_cluster=in_cluster))
    findings.extend(_replication(facts, settings, in_cluster=in_cluster))
    findings.append(_clock(run))
    return findings


def check_cluster(nodes: ClusterNodes, *, namespace: str = "default") -> list[Finding]:
    """Check each primary of a cluster, as `check_server`, and whether all slots are served. Raises the same.

    A primary that does not answer is a problem among others; Unavailable is raised if no node answers.
    """
    client = ClusterClient(nodes, retry_seconds=0.0)
    runners = client.runners()
    info: dict[str, str] = {}
    found: dict[Finding, list[str]] = {}
    for (host, port), run in zip(sorted(nodes.primaries), runners, strict=True):
        try:
            info = info or _parse_info(run("read the cluster's state", b"CLUSTER", b"INFO"))
            seen = check_server(run, namespace=namespace, in_cluster=True)
        except Unavailable as error:
            seen = [Finding("problem", f"does not answer: {error}", "start it, or promote its replica")]
        for finding in seen:
            found.setdefault(finding, []).append(f"{host}:{port}")
    findings = [_slots(len(runners), info)]
    for finding, where in found.items():
        everywhere = len(where) == len(runners)
        findings.append(finding if everywhere else evolve(finding, what=f"{', '.join(where)}: {finding.what}"))
    return findings


def _slots(primaries: int, info: Mapping[str, str]) -> Finding:
    served = _info_number(info, "cluster_slots_ok")
    what = f"a cluster of {primaries} primaries and {_info_number(info, 'cluster_known_nodes')} nodes"
    if served == SLOTS and info.get("cluster_state") == "ok":
        return Finding("ok", f"{what}: all slots are served")
    text = f"{what} that serves {served} of {SLOTS} slots: the agents in the others cannot be reached"
    return Finding("problem", text, "bring the nodes back, or give their slots to others")


def eviction_policy(run: RunCommand) -> str:
    """Return the server's `maxmemory-policy`; empty if this user may not read it."""
    reply = _try(run, "look at the server", b"CONFIG", b"GET", b"maxmemory-policy")
    if reply:
        return cast("list[bytes]", reply)[1].decode(errors="replace")
    info: Any = _try(run, "look at the server", b"INFO", b"memory")
    return _parse_info(info or b"").get("maxmemory_policy", "")


def refuse_eviction(policy: str) -> None:
    """Raise UnsafeServer for a policy that lets the server remove agents' logs."""
    if policy.startswith("allkeys-"):
        raise UnsafeServer(
            f"maxmemory-policy {policy} lets this server remove the logs of agents when memory runs short: set "
            "maxmemory-policy noeviction, or accept the loss with allow_eviction=True",
            expected="noeviction",
            actual=policy,
        )


def refuse_mode(run: RunCommand, *, in_cluster: bool = False) -> None:
    """Raise UnsafeServer for a server of another mode, a sentinel, and a Redis that is too old. Writes nothing."""
    facts = _greeting(run)
    mode = _mode(facts)
    if mode == "cluster" and not in_cluster:
        raise UnsafeServer(f"{_IN_CLUSTER}: {_USE_CLUSTER}", expected="standalone", actual=mode)
    if mode == "sentinel":
        raise UnsafeServer(
            f"{_IS_SENTINEL}: {_USE_PRIMARY}",
            expected="standalone",
            actual=mode,
        )
    finding = _version(facts) if facts else None
    if finding is not None and finding.level == "problem":
        raise UnsafeServer(f"{finding.what}: {finding.advice}", actual=facts.get("redis_version"))


def _mode(facts: Mapping[str, str]) -> str | None:
    return facts.get("mode") or facts.get("redis_mode") or facts.get("server_mode")  # Valkey 9 has the last


def _greeting(run: RunCommand) -> dict[str, str]:
    """Return mode and version of the server; empty if this user may learn neither."""
    info: Any = _try(run, "look at the server", b"INFO", b"server")
    if info is not None:
        return _parse_info(info)
    reply: Any = _try(run, "look at the server", b"HELLO")
    texts = [part.decode(errors="replace") for part in reply or () if isinstance(part, bytes)]
    return {"mode": texts[texts.index("mode") + 1]} if "mode" in texts[:-1] else {}


def command_runner(pool: redis.ConnectionPool) -> RunCommand:
    """Return a function that runs each command once, on a connection of its own, as servers may be unusable."""

    def run(doing: str, *command: bytes) -> Any:
        try:
            require_protocol(pool)
            wire = Wire(pool)
            try:
                wire.send(encode_command(command))
                return wire.read()
            finally:
                wire.discard()
        except (redis.RedisError, OSError) as error:
            check_tls_mismatch(pool, error)
            raise translate_error(error, doing) from None

    return run


# -- the server's replies ----------------------------------------------------------------------------------------------


def _try(run: RunCommand, doing: str, *command: bytes) -> Any:
    """Return the reply; None if this user may not run the command."""
    try:
        return run(doing, *command)
    except DuramenError as error:
        if error.actual in _REFUSED:
            return None
        raise


def _parse_info(info: bytes) -> dict[str, str]:
    pairs = (line.partition(":") for line in info.decode(errors="replace").splitlines())
    return {name: value for name, colon, value in pairs if colon}


def _read_info(run: RunCommand) -> dict[str, str]:
    info: Any = _try(run, "read the server's state", b"INFO")
    return _parse_info(info or b"")


def _read_settings(run: RunCommand) -> dict[str, str]:
    """Return the settings that matter, without those that this user may not read."""
    found: dict[str, str] = {}
    for pattern in (b"append*", b"save", b"maxmemory-policy", b"min-replicas-to-write"):
        reply: Any = _try(run, "read the server's settings", b"CONFIG", b"GET", pattern)
        if reply is None:
            break
        texts = [text.decode(errors="replace") for text in cast("list[bytes]", reply)]
        found.update(zip(texts[::2], texts[1::2], strict=True))
    return found


def _info_number(facts: Mapping[str, str], name: str) -> int:
    text = facts.get(name, "")
    return int(text) if text.isdecimal() else 0


def _unknown(command: str, what: str) -> Finding:
    return Finding(
        "warning",
        f"this user may not run {command}, so {what} could not be looked at",
        f"allow it for the check (+{command.lower().replace(' ', '|')}), or ask whoever runs the server",
    )


# -- findings ---------------------------------------------------------------------------------------------------------


def _version(facts: Mapping[str, str]) -> Finding:
    if "valkey_version" in facts:
        return Finding("ok", f"Valkey {facts['valkey_version']}")
    text = facts.get("redis_version", "")
    found = re.match(r"(\d+)\.(\d+)", text)
    if found is None:
        return Finding("warning", "the server does not tell its version", "use Redis 7.0 or newer, or Valkey")
    if (int(found[1]), int(found[2])) < _LEAST_REDIS:
        return Finding("problem", f"Redis {text} is too old", "use Redis 7.0 or newer, or Valkey")
    return Finding("ok", f"Redis {text}")


def _persistence(facts: Mapping[str, str], settings: Mapping[str, str]) -> Finding:
    appends = settings.get("appendonly") == "yes" or facts.get("aof_enabled") == "1"
    sync = settings.get("appendfsync", "")
    if appends and sync == "always":
        return Finding("ok", "append-only file, appendfsync always: what is acknowledged is on disk")
    if appends:
        return Finding(
            "warning",
            f"append-only file, appendfsync {sync or 'unknown'}: a killed server may lose acknowledged seconds",
            "set appendfsync always, or open with durability='fsync' (Redis 7.2 or newer, or Valkey)",
        )
    if not settings and not facts:
        return _unknown("CONFIG GET", "persistence")
    if settings and not settings.get("save"):
        return Finding(
            "problem",
            "nothing is written to disk: all agents are gone when this server stops",
            "set appendonly yes and appendfsync always",
        )
    return Finding(
        "warning",
        "no append-only file: what was acknowledged since the last snapshot (RDB) is lost when this server is killed",
        "set appendonly yes and appendfsync always",
    )


def _writes_fail(facts: Mapping[str, str]) -> list[Finding]:
    failing = [name for name in ("aof_last_write_status", "rdb_last_bgsave_status") if facts.get(name, "ok") != "ok"]
    if not failing:
        return []
    return [
        Finding("problem", f"the server fails to write to its disk ({', '.join(failing)})", "free or repair the disk")
    ]


def _eviction(facts: Mapping[str, str], settings: Mapping[str, str]) -> list[Finding]:
    policy = settings.get("maxmemory-policy") or facts.get("maxmemory_policy", "")
    if not policy:
        return [_unknown("CONFIG GET", "the eviction policy")]
    if policy.startswith("allkeys-"):
        return [
            Finding(
                "problem",
                f"maxmemory-policy {policy} lets the server remove the logs of agents when memory runs short",
                "set maxmemory-policy noeviction; until then only allow_eviction opens this server",
            )
        ]
    if policy.startswith("volatile-"):
        return [
            Finding(
                "warning",
                f"maxmemory-policy {policy}: checkpoints may be removed before they expire; logs stay",
                "set maxmemory-policy noeviction",
            )
        ]
    return [Finding("ok", f"maxmemory-policy {policy}: the server removes nothing by itself")]


def _memory(facts: Mapping[str, str]) -> list[Finding]:
    used, most = _info_number(facts, "used_memory"), _info_number(facts, "maxmemory")
    if not used:
        return []
    if not most:
        return [Finding("ok", f"{_size(used)} of memory in use, without a limit of the server's own")]
    share = f"{_size(used)} of {_size(most)} of memory in use ({used * 100 // most} %)"
    if used < most * _NEARLY_FULL:
        return [Finding("ok", share)]
    return [Finding("warning", share, "raise maxmemory or remove data: over the limit every write is refused")]


def _size(count: int) -> str:
    amount = float(count)
    for unit in ("bytes", "KiB", "MiB"):
        if amount < 1024:
            return f"{amount:.0f} {unit}" if unit == "bytes" else f"{amount:.1f} {unit}"
        amount /= 1024
    return f"{amount:.1f} GiB"


def _permissions(run: RunCommand, namespace: str, *, in_cluster: bool) -> list[Finding]:
    name: Any = _try(run, "ask for the user's name", b"ACL", b"WHOAMI")
    user = "this user" if name is None else f"user {name.decode(errors='replace')!r}"
    text = read_script("namespace/permissions")

    def probe(arguments: list[bytes]) -> list[Any]:
        digest = run("load a script", b"SCRIPT", b"LOAD", text)
        return [run("run a script", b"EVALSHA", digest, b"0", *arguments)]

    needed, wanted = list_commands(Keys(namespace), in_cluster=in_cluster)
    try:
        refused = find_refused(probe, needed)
        missed = find_refused(probe, wanted)
    except DuramenError as error:
        if error.actual not in _REFUSED:
            raise
        what = f"{user} may not load and run scripts (SCRIPT LOAD, EVALSHA), without which nothing works"
        return [Finding("problem", what, "grant +script|load +evalsha")]
    if refused is None or missed is None:
        return [Finding("warning", f"the server does not tell what {user} may do", "use Redis 7.0 or newer, or Valkey")]
    findings = [
        Finding("warning", f"{user} may not run {command.name}: {command.use}", grant_advice([command]))
        for command in missed
    ]
    if refused:
        what = f"{user} may not run {join_names(refused)}, without which agents cannot run"
        return [Finding("problem", what, grant_advice(refused)), *findings]
    return findings or [Finding("ok", f"{user} has every permission that is needed")]


def _replication(facts: Mapping[str, str], settings: Mapping[str, str], *, in_cluster: bool) -> list[Finding]:
    if facts.get("cluster_enabled") == "1" and not in_cluster:
        return [Finding("problem", _IN_CLUSTER, _USE_CLUSTER)]
    if _mode(facts) == "sentinel":
        return [Finding("problem", _IS_SENTINEL, _USE_PRIMARY)]
    if facts.get("role") == "slave":
        return [Finding("problem", "this server is a replica and takes no writes", "connect to its primary")]
    replicas, least = _info_number(facts, "connected_slaves"), _info_number(settings, "min-replicas-to-write")
    if least and replicas < least:
        what = f"{replicas} replicas are connected, and the server refuses writes below {least}"
        return [Finding("problem", what, "bring the replicas back, or lower min-replicas-to-write")]
    if replicas and not least:
        return [
            Finding(
                "warning",
                f"{replicas} replicas, but the server does not wait for them: a failover can lose acknowledged events",
                "set min-replicas-to-write 1, and open with durability='replicas:1' or more",
            )
        ]
    if replicas:
        return [Finding("ok", f"{replicas} replicas; writes are refused with fewer than {least}")]
    return []


def _clock(run: RunCommand) -> Finding:
    began = time.time()
    reply: Any = _try(run, "read the server's clock", b"TIME")
    ended = time.time()
    if reply is None:
        return _unknown("TIME", "its clock")
    theirs = int(reply[0]) + int(reply[1]) / 1_000_000
    # A difference shorter than the round trip may be the network's.
    ahead = theirs - ended if theirs > ended else min(0.0, theirs - began)
    if abs(ahead) <= _SKEW:
        return Finding("ok", "the server's clock agrees with this machine's")
    what = f"the server's clock is {abs(ahead):.0f} s {'ahead of' if ahead > 0 else 'behind'} this machine's"
    return Finding(
        "warning", what, "let both keep time with NTP: events bear our time, checkpoints expire by the server's"
    )
