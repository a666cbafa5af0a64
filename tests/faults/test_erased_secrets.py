"""After an erasure, and once the append-only file is rewritten, no byte of what an agent held is left on the disk."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from functools import partial
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
import redis

from actors.work.jobs import REGISTRY, Job, worker
from duramen.actors import AgentHandle, AgentSystem, Record, Set, Settings
from duramen.events import DuramenError, Granularity, StepFailed
from duramen.projections import KeyedProjection
from waiting import eventually

PATH = "acme/alice"
SECRETS = [f"planted-{number:04}-{sha256(b'%d' % number).hexdigest()[:8]}" for number in range(1_000)]


class Texts(KeyedProjection[list[str]]):
    version = 1

    def key(self, event: Any) -> str:
        return str(event.agent)

    def apply(self, entry: list[str] | None, event: Any) -> list[str]:
        return [*(entry or []), repr(event.data)]


def embed(texts: list[str]) -> list[list[float]]:
    return [[float(byte) for byte in sha256(text.encode()).digest()[:8]] for text in texts]


def plant(system: AgentSystem, secrets: Iterator[str]) -> None:
    """Put a secret wherever an agent keeps something, and all others into its memory."""
    agent = system.spawn(PATH, initial_state={next(secrets): next(secrets)}, metadata={next(secrets): next(secrets)})
    agent.set("by", next(secrets), metadata={"by": next(secrets)})
    agent.append("list", next(secrets), command_id=next(secrets))
    agent.set("large", next(secrets) + "x" * 300_000)  # is kept as chunks beside the log
    agent.ask(Record("note", next(secrets), Granularity.ACTIVITY, metadata={"m": next(secrets)}))
    agent.pause(next(secrets), ttl=None, metadata={"m": next(secrets)}, reason=next(secrets))
    agent.resume()
    child = agent.spawn_child("child", initial_state={next(secrets): next(secrets)})
    with agent.stream(next(secrets)) as out:
        out.write(next(secrets))
    left = list(secrets)
    own, after = left[:700], iter(left[700:])
    for number, secret in enumerate(own):
        (child if number % 3 == 0 else agent).set(f"k{number}", secret)
    system.keep_keyframes(PATH)
    agent.terminate(
        task_description=next(after), lessons_learned=[next(after)], outcome_details={"d": next(after)}, cascade=True
    )
    again = system.spawn(PATH, session_id=next(after), agent_type=next(after))
    for number, secret in enumerate(after):
        again.set(f"l{number}", secret)


def found_on_disk(folder: Path) -> set[str]:
    stored = b"".join(file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file())
    return {secret for secret in SECRETS if secret.encode() in stored}


def found_in_keys(client: redis.Redis) -> set[str]:
    stored = b"".join(key + all_of(client, key) for key in client.scan_iter(count=1_000))
    return {secret for secret in SECRETS if secret.encode() in stored}


def all_of(client: Any, key: bytes) -> bytes:
    """All that a key holds; DUMP would compress it."""
    kind = client.type(key)
    if kind == b"string":
        return bytes(client.get(key) or b"")
    if kind == b"hash":
        return b"".join(part for pair in client.hgetall(key).items() for part in pair)
    return b"".join(client.lrange(key, 0, -1) if kind == b"list" else client.zrange(key, 0, -1))


def rewrite(client: redis.Redis) -> None:
    client.bgrewriteaof()
    states = ("aof_rewrite_in_progress", "aof_rewrite_scheduled")
    eventually(lambda: not any(client.info("persistence")[state] for state in states), 60)


@pytest.mark.slow
def test_no_byte_of_a_thousand_planted_secrets_is_left(tmp_path: Path) -> None:
    with AgentSystem.open(data_dir=tmp_path / "data", settings=Settings(snapshot_every=50)) as system:
        client = redis.Redis(connection_pool=system.log._server.pool)  # type: ignore[attr-defined]
        system.episodes.use_embedding(embed, name="bytes")
        with system.attach(Texts(), name="texts") as runner:
            plant(system, iter(SECRETS))
            vectors = len(client.hgetall(vectors_of(client))) if system.episodes.search("planted", by="meaning") else 0
            other = system.spawn("other/bob", initial_state={"n": 1})
            other.terminate(task_description="nothing secret")
            runner.wait_for(system.spawn("other/carol").set("n", 1), timeout=30, saved=True)
            fork = system.fork(PATH, to="other/fork")
            kept, file = fork.get(), BytesIO()
            system.export_session("other/fork", file)
            fork_secrets = {secret for secret in SECRETS if secret in repr(kept)}
            assert len(fork_secrets) > 200
            assert len(found_in_keys(client)) > 990, "control: they are found before, but for what was trimmed"
            assert vectors > 1, "control: one of its episode"
            assert any(b":chunks:" in key for key in client.scan_iter(count=1_000)), "control: of the large value"
            erasure = system.erase(PATH, rewrite=False)
            assert system.agent("other/fork").get() == kept, "forks live on"
            system.erase("other/fork", rewrite=False)
            eventually(lambda: "alice" not in repr(dict(runner.state)))
            runner.wait_for(other_change(system), timeout=30, saved=True)
            assert found_in_keys(client) == set()
            assert client.hlen(vectors_of(client)) < vectors
            assert found_on_disk(tmp_path / "data") != set(), "control: the file has what was written to it"
            rewrite(client)
            assert found_on_disk(tmp_path / "data") == set()
            assert erasure.agents == (PATH, f"{PATH}/child")
            assert system.verify().ok
            assert [found.episode.agent for found in system.episodes.search("secret", by="words")] == ["other/bob"]
            file.seek(0)
            system.import_session(file, to="other/import")
            assert system.agent("other/import").get() == kept, "and so do exports"


async def work(step_secrets: list[str], self: Any, message: Job) -> Any:
    """Leave a secret in each place where work can have one, and wait, run on, or end, as the message says."""
    kind, _, own = message.name.partition(" ")
    step, result, failing, failure, large, wait, about, reply = step_secrets
    await self.step(f"{kind} {step}", lambda: result)
    with suppress(StepFailed):
        await self.step(f"{kind} {failing}", partial(fail, failure))
    await self.step("large", lambda: large + "x" * 300_000)
    self.set(f"{kind}-{own}", own)
    if kind == "runs":
        await self.step("for long", asyncio.sleep, 3_600)
    if kind == "waits":
        await self.wait_for(f"{kind} {wait}", about=about)
    return reply


def fail(text: str) -> None:
    raise ValueError(text)


def plant_work(alice: AgentHandle, secrets: Iterator[str]) -> None:
    """Leave work that waits, runs, and has ended, an answer that nobody waits for, and reminders."""
    for kind in ("waits", "runs", "ends"):
        alice.send(Job(f"{kind} {next(secrets)}"), command_id=next(secrets), metadata={"m": next(secrets)})
    alice.answer(next(secrets), next(secrets))
    for number, secret in enumerate(secrets):
        alice.remind(secret, Job(f"ends {secret}"), every=timedelta(days=1 + number))


def kinds_of_unfinished(alice: AgentHandle) -> list[str]:
    return sorted(begun["kind"] for each in alice.unfinished() for begun in each.waits_for)


@pytest.mark.slow
def test_no_byte_of_unfinished_work_is_left(tmp_path: Path) -> None:
    """Of work that waits, is parked, or has ended, of early answers, and of reminders."""
    for_steps, planted = SECRETS[:8], SECRETS[:60]
    folder = tmp_path / "data"
    with AgentSystem.open(data_dir=folder, registry=REGISTRY, agents={"w": worker(partial(work, for_steps))}) as system:
        alice = system.spawn(PATH, agent_type="w")
        plant_work(alice, iter(planted[8:]))
        eventually(lambda: kinds_of_unfinished(alice) == ["step", "wait"], what="work that goes on no more")
        alice.pause()
        system.close(timeout=0.1)  # it would wait for the step
    other = worker(partial(work, for_steps[::-1]))
    with AgentSystem.open(data_dir=folder, registry=REGISTRY, agents={"w": other}) as system:
        client = redis.Redis(connection_pool=system.log._server.pool)  # type: ignore[attr-defined]
        alice = system.agent(PATH)
        alice.resume()
        eventually(lambda: any(each.parked for each in alice.unfinished()), what="parked: its steps have other names")
        assert found_in_keys(client) == set(planted), "control"
        assert len(system.unfinished()) == 2
        assert system.reminders()
        assert system.erase(PATH, rewrite=False).agents == (PATH,)
        assert (list(system.unfinished()), list(system.reminders())) == ([], [])
        assert found_in_keys(client) == set()
        assert found_on_disk(folder) == set(planted), "control: the file has what was written to it"
        rewrite(client)
        assert found_on_disk(folder) == set()
        assert system.verify().ok


NAMED = "acme/planted-path-of-a-guest"


async def deal(self: Any, message: Job) -> Any:
    """Ask the guest, have it fail, send it work, and cause something there; or, as the guest, cause something here."""
    if message.name == "guest":
        self.set("served", True)
        return await self.ask(PATH, Set("guest", "was here"))
    receipt = await self.ask(NAMED, Set("greeting", "hello"))
    assert receipt.agent == NAMED, "control: it is told"
    with suppress(DuramenError):
        await self.ask(f"{NAMED}/nobody", Set("greeting", "hello"))
    return (await self.send(NAMED, Job("guest"))).seq


@pytest.mark.slow
def test_no_byte_of_its_path_is_left_with_those_who_dealt_with_an_agent(tmp_path: Path) -> None:
    with AgentSystem.open(data_dir=tmp_path / "data", registry=REGISTRY, agents={"w": worker(deal)}) as system:
        client = redis.Redis(connection_pool=system.log._server.pool)  # type: ignore[attr-defined]
        alice, guest = system.spawn(PATH, agent_type="w"), system.spawn(NAMED, agent_type="w")
        alice.ask(Job("deal"))
        eventually(lambda: alice.get("guest", None) == "was here" and not guest.unfinished())
        [caused] = [event for event in system.events(PATH) if event.data.get("path") == "guest"]
        assert caused.causation_id is not None
        assert [event.agent for event in system.blame(PATH, "guest").causes][:1] == [NAMED], "control: it has a cause"
        system.erase(NAMED, rewrite=False)
        stored = b"".join(key + all_of(client, key) for key in client.scan_iter(count=1_000))
        assert PATH.encode() in stored, "control"
        assert b"planted-path" not in stored
        rewrite(client)
        files = b"".join(file.read_bytes() for file in sorted((tmp_path / "data").rglob("*")) if file.is_file())
        assert b"planted-path" not in files
        assert system.blame(PATH, "guest").causes == ()


def other_change(system: AgentSystem) -> Any:
    return system.agent("other/carol").set("n", 2)


def vectors_of(client: Any) -> bytes:
    [key] = [key for key in client.scan_iter(count=1_000) if b":embeddings:" in key]
    return bytes(key)
