"""Operations of many requests, killed at each of them: nothing is half, and the operation can be done again.

An operation is first done undisturbed, which counts its requests. Then it is done once for each of these and for each
moment to die at it. A process that was to die at its n-th request either did or made fewer than n: a tree that comes
into memory together makes one request less than one that does not.

The law. What is one append, or is staged and then adopted in one step, is there wholly or not at all. A tree operation
is one append an agent, and the agent that it was asked of comes last. While that one is as before, the operation was
not done: each of the others is as before or as afterwards, nothing of their work is lost, and repeating the operation
completes it. As soon as that one is as afterwards, all are.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import redis
from attrs import frozen

from duramen.actors import AgentSystem
from duramen.events import CheckpointNotFound, DuramenError
from faults.killed_process import CHILD, HELPERS, OPERATIONS, ROOT, TREE, Count, PerAgent, opened
from waiting import eventually

PROGRAM = Path(__file__).with_name("killed_process.py")
COPY = [path.replace(ROOT, "acme/copy") for path in TREE]
FORK = [path.replace(ROOT, "acme/fork") for path in TREE]


Check = Callable[[AgentSystem, Path], bool]


class Killing:
    """Runs operations in processes of their own, one after the other."""

    def __init__(self, url: str, folder: Path) -> None:
        self.url = url
        self.folder = folder
        self.kills = 0
        self._process = subprocess.Popen(
            [sys.executable, "-P", str(PROGRAM), url],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={"PYTHONPATH": str(PROGRAM.parent.parent), "PATH": ""},
            text=True,
        )

    def run(self, operation: str, namespace: str, file: Path, at: int = 0, sent: str = "all") -> int | None:
        """How many requests the operation made; None: its process was killed at request `at`."""
        order = {"operation": operation, "namespace": namespace, "file": str(file), "at": at, "sent": sent}
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        code, requests = json.loads(self._process.stdout.readline())
        if code == -9:
            self.kills += 1
            return None
        assert code == 0
        assert at == 0 or requests < at, "control: it reached the request to die at, and lives"
        return int(requests)

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(30)
        self._process.stdout.close()


@pytest.fixture
def killing(valkey_url: str, tmp_path: Path) -> Iterator[Killing]:
    killing = Killing(valkey_url, tmp_path)
    yield killing
    killing.close()


# -- what may be found afterwards --------------------------------------------------------------------------------------
# Each returns whether the operation was done, and fails where a part of it was.


def statuses(system: AgentSystem) -> dict[str, str]:
    return {entry.agent: entry.status for entry in system.agents()}


def all_are(paths: Sequence[str], before: str, afterwards: str) -> Check:
    """All of these agents are as before, or all are as afterwards."""

    def check(system: AgentSystem, file: Path) -> bool:
        there = statuses(system)
        found = {there.get(path, "absent") for path in paths}
        assert found in ({before}, {afterwards}), f"half: {there}"
        return found == {afterwards}

    return check


def tree_is(before: str, afterwards: str) -> Check:
    """The root comes last: where it is as before, the operation was not done, and whoever repeats it completes it."""

    def check(system: AgentSystem, file: Path) -> bool:
        found = {path: status for path, status in statuses(system).items() if path in TREE}
        assert set(found.values()) <= {before, afterwards}
        no_work_is_lost(system, found)
        done = found[ROOT] == afterwards
        assert not done or set(found.values()) == {afterwards}, f"half: {found}"
        return done

    return check


def no_work_is_lost(system: AgentSystem, found: dict[str, str]) -> None:
    """Agents whose session has not ended have all they had."""
    for path in (path for path, status in found.items() if status != "terminated"):
        memory = system.peek(path).memory
        assert memory["since"] is True
        assert len(memory["list" if path == ROOT else "notes"]) in (6, 8), f"lost: {path}"


def memory_is_restored(path: str) -> Check:
    """Of a tree the root comes last."""

    def check(system: AgentSystem, file: Path) -> bool:
        found = {each: "since" not in system.agent(each).get() for each in TREE}
        assert not found[path] or path != ROOT or all(found.values()), f"half: {found}"
        return found[path]

    return check


def sub_agents_are_those_of_the_handler(system: AgentSystem, file: Path) -> bool:
    """What the handler wrote is there before its sub-agents; one that never came does not exist for anybody."""
    root, found = system.peek(ROOT), statuses(system)
    there = [path for path in HELPERS if path in found]
    assert "delegated" in root.memory or not there, "a sub-agent before its parent's record"
    assert set(root.children).intersection(HELPERS) == set(there), "half"
    assert all(system.peek(path).memory == {"task": "read"} for path in there), "half"
    return len(there) == len(HELPERS)


def file_is_whole(system: AgentSystem, file: Path) -> bool:
    if not file.exists():
        return False
    with opened(system_url(system), f"x{uuid4().hex}") as elsewhere:
        elsewhere.import_session(file)
        assert set(statuses(elsewhere)) == set(TREE)
        assert elsewhere.verify().ok
    return True


def system_url(system: AgentSystem) -> str:
    server: Any = system.log._server  # type: ignore[attr-defined]
    return f"unix://{server.pool.connection_kwargs['path']}"


def log_is_trimmed(system: AgentSystem, file: Path) -> bool:
    assert len(system.agent(ROOT).get("list")) == 8
    head = system.log.head(ROOT)
    assert head is not None
    return head.base > 0


def all_are_gone(paths: Sequence[str]) -> Check:
    """All of these agents are there, or all are gone; and then nothing names them, once the intent is gone."""
    whole = all_are(paths, "running", "absent")

    def check(system: AgentSystem, file: Path) -> bool:
        done, partition = whole(system, file), system.log.partition_of(ROOT)
        if not done or system.log.archive.erasing(partition):
            return done
        server: Any = system.log._server  # type: ignore[attr-defined]
        with redis.Redis(connection_pool=server.pool) as client:
            keys = list(client.scan_iter(f"duramen:{{{namespace_of(system)}*", count=10_000))
            pipeline = client.pipeline(transaction=False)
            for key in keys:
                pipeline.dump(key)
            for key, stored in zip(keys, pipeline.execute(), strict=True):
                named = key if stored is None else key + stored
                assert not any(path.encode() in named for path in paths if path != CHILD), key
        return True

    return check


def gone_from_the_view(system: AgentSystem, file: Path) -> bool:
    done = all_are(TREE, "running", "absent")(system, file)
    if done and not system.log.archive.erasing(system.log.partition_of(ROOT)):
        receipt = system.spawn(f"acme/{uuid4().hex}").set("after", True)
        with system.attach(Count(), name="count") as runner:
            runner.wait_for(receipt, timeout=60)
            eventually(lambda: runner.state == sum(entry.head.seq for entry in system.agents()))
    return done


def namespace_of(system: AgentSystem) -> str:
    return str(system.log._keys.namespace)[9:-1]  # type: ignore[attr-defined]


def batch_is_whole(system: AgentSystem, file: Path) -> bool:
    found = system.agent(ROOT).get().get("batch", {})
    assert len(found) in (0, 20), "half"
    return bool(found)


def view_is_exact(system: AgentSystem, file: Path) -> bool:
    """Whatever was stored: each event was applied once."""
    with system.attach(Count(), name="count") as runner:
        runner.wait_for(system.agent(ROOT).set("after", True), timeout=60)
        assert runner.status == "live"
        assert runner.state == sum(entry.head.seq for entry in system.agents())
    return False


def keyed_view_is_exact(system: AgentSystem, file: Path) -> bool:
    with system.attach(PerAgent(), name="count") as runner:
        runner.wait_for(system.agent(ROOT).set("after", True), timeout=60)
        assert runner.status == "live"
        assert dict(runner.state) == {entry.agent: entry.head.seq for entry in system.agents()}
    return False


def consumer_is_removed(system: AgentSystem, file: Path) -> bool:
    if [info.name for info in system.consumers.list()] == ["count"]:
        return view_is_exact(system, file)
    return True


@frozen
class Case:
    check: Check
    prepare: tuple[str, ...] = ("fill",)
    needs_file: bool = False
    may_repeat: bool = True
    """Whether the operation does not refuse to be done once more."""
    is_seen: bool = True
    """Whether the check can tell that the operation was done."""
    waits: bool = False
    """Whether it mostly waits: it is then killed twice at each request, and not three times."""


CASES = {
    "pause": Case(all_are([CHILD], "running", "paused"), may_repeat=False),
    "pause the tree": Case(tree_is("running", "paused"), may_repeat=False),
    "pause a tree that is paused in part": Case(
        tree_is("running", "paused"), ("fill", "pause a branch"), may_repeat=False
    ),
    "resume": Case(memory_is_restored(CHILD)),
    "resume the tree": Case(memory_is_restored(ROOT)),
    "end the pause of the tree": Case(tree_is("paused", "running"), ("fill", "pause the tree"), may_repeat=False),
    "terminate": Case(all_are([CHILD], "running", "terminated"), may_repeat=False),
    "terminate the tree": Case(tree_is("running", "terminated"), may_repeat=False),
    "terminate a tree that has ended in part": Case(
        tree_is("running", "terminated"), ("fill", "end a branch"), may_repeat=False
    ),
    "terminate in a handler": Case(tree_is("running", "terminated"), may_repeat=False),
    "spawn a sub-agent": Case(all_are([f"{ROOT}/c"], "absent", "running"), may_repeat=False),
    "spawn sub-agents in a handler": Case(sub_agents_are_those_of_the_handler, may_repeat=False),
    "export": Case(file_is_whole),
    "import": Case(all_are(TREE, "absent", "running"), (), needs_file=True, may_repeat=False),
    "import to another path": Case(all_are(COPY, "absent", "running"), needs_file=True, may_repeat=False),
    "fork": Case(all_are(FORK[:1], "absent", "running"), may_repeat=False),
    "fork the tree": Case(all_are(FORK, "absent", "running"), may_repeat=False),
    "erase": Case(all_are_gone(TREE)),
    "erase a branch": Case(all_are_gone([path for path in TREE if path.startswith(CHILD)])),
    "erase what a consumer has read": Case(gone_from_the_view, ("fill", "attach a consumer"), waits=True),
    "trim": Case(log_is_trimmed),
    "batch": Case(batch_is_whole),
    "attach a consumer": Case(view_is_exact, is_seen=False),
    "attach a keyed consumer": Case(keyed_view_is_exact, is_seen=False),
    "attach a new version of a consumer": Case(view_is_exact, ("fill", "attach a consumer"), is_seen=False),
    "rebuild a consumer": Case(view_is_exact, ("fill", "attach a consumer"), is_seen=False, waits=True),
    "remove a consumer": Case(consumer_is_removed, ("fill", "attach a consumer"), may_repeat=False),
}


def template_of(killing: Killing, case: Case, folder: Path) -> tuple[str, Path]:
    """A namespace that is prepared, and a session file."""
    namespace, file = f"t{uuid4().hex}", folder / "session"
    for operation in case.prepare:
        assert killing.run(operation, namespace, file)
    if case.needs_file:
        source = namespace if case.prepare else f"s{uuid4().hex}"
        if not case.prepare:
            assert killing.run("fill", source, file)
        assert killing.run("export", source, file)
    return namespace, file


class Template:
    """The keys of a namespace, to begin with again and again."""

    def __init__(self, client: redis.Redis, namespace: str) -> None:
        self._client = client
        self._namespace = namespace.encode()
        self._keys = list(client.scan_iter(f"duramen:{{{namespace}*", count=1_000))

    def copy(self) -> str:
        """A namespace that is as this one."""
        namespace = f"k{uuid4().hex}"
        with self._client.pipeline(transaction=False) as pipeline:
            for key in self._keys:
                pipeline.copy(key, key.replace(self._namespace, namespace.encode()))
            pipeline.execute()
        return namespace

    def remove(self, namespace: str) -> None:
        """Remove what there is of a namespace, which all later scans would come by."""
        keys = list(self._client.scan_iter(f"duramen:{{{namespace}*", count=10_000))
        if keys:
            self._client.delete(*keys)


class Tally:
    """Counts the kills of all cases of a run, in whichever processes pytest runs them."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def add(self, name: str, kills: int) -> None:
        """Note the kills of a case; the last case of a run finds out whether all together are enough."""
        with self._file.open("a") as lines:
            lines.write(json.dumps({name: kills}) + "\n")
        counts: dict[str, int] = {}
        for line in self._file.read_text().splitlines():
            counts |= json.loads(line)
        if counts.keys() == CASES.keys():
            assert sum(counts.values()) > 1_000
            assert len([kills for kills in counts.values() if kills > 30]) >= 16, "operations of many requests"


@pytest.fixture
def tally(tmp_path_factory: pytest.TempPathFactory) -> Tally:
    folder = tmp_path_factory.getbasetemp()
    return Tally((folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder) / "kills")


def moments(requests: int, case: Case) -> Iterator[tuple[int, str]]:
    """The requests to die at, and when: before the server has any of it, with a part, and with all of it."""
    for at in range(1, requests + 1):
        yield at, "nothing"
        yield at, "all"
        if not case.waits:
            yield at, "answered" if at % 2 else "half"


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", CASES)
def test_an_operation_that_is_killed_at_any_request_is_not_half_done_and_can_be_done_again(
    killing: Killing, tally: Tally, valkey_url: str, tmp_path: Path, name: str
) -> None:
    case = CASES[name]
    namespace, session = template_of(killing, case, tmp_path)
    with redis.Redis.from_url(valkey_url) as client:
        template = Template(client, namespace)

        def once(at: int, sent: str) -> int | None:
            namespace = template.copy()
            file = session if case.needs_file else tmp_path / uuid4().hex
            requests = killing.run(name, namespace, file, at, sent)
            with opened(valkey_url, namespace) as system:
                eventually(lambda: not system.log.archive.begun_erasures(), what="erasures that this host finishes")
                done = case.check(system, file)
                assert requests is None or done or not case.is_seen
                try:
                    OPERATIONS[name](system, str(file))
                except DuramenError:
                    assert done, "it cannot be done again"
                    assert not case.may_repeat
                assert case.check(system, file) or not case.is_seen
                report = system.verify()
                assert report.ok, report.problems
            template.remove(namespace)
            return requests

        requests = once(0, "all")
        assert requests, "control: it was not killed, and asked the server"
        for at, sent in moments(requests, case):
            once(at, sent)
    tally.add(name, killing.kills)


def copies_killed_in(killing: Killing, operation: str, url: str, folder: Path) -> Iterator[tuple[redis.Redis, str]]:
    """Copies of a namespace, in each of which the operation was killed at another of its requests."""
    namespace, file = template_of(killing, CASES[operation], folder)
    with redis.Redis.from_url(url) as client:
        template = Template(client, namespace)
        requests = killing.run(operation, template.copy(), file)
        assert requests
        for at in range(1, requests + 1):
            namespace = template.copy()
            killing.run(operation, namespace, file, at, "all")
            yield client, namespace


@pytest.mark.slow
def test_an_erasure_that_is_killed_at_any_request_is_finished_by_the_next_host_that_opens(
    killing: Killing, valkey_url: str, tmp_path: Path
) -> None:
    finished = 0
    for client, namespace in copies_killed_in(killing, "erase", valkey_url, tmp_path):
        begun = any(client.hgetall(key) for key in client.scan_iter(f"duramen:{{{namespace}*erasing", count=1_000))
        with opened(valkey_url, namespace) as system:
            if begun:
                eventually(lambda: not system.log.archive.begun_erasures())
                finished += 1
                assert all_are_gone(TREE)(system, tmp_path)
            else:
                assert set(statuses(system).values()) in ({"running"}, set())
            assert system.verify().ok
    assert finished >= 15, "control: most kills leave something to finish"


@pytest.mark.slow
def test_a_pause_of_a_tree_that_is_killed_at_any_request_can_be_taken_back_and_no_work_is_lost(
    killing: Killing, valkey_url: str, tmp_path: Path
) -> None:
    """The other way out of a half: instead of repeating it, the pause of whatever was paused is ended."""
    halves = 0
    for _ in range(5):  # one request leaves a half; where a beat is counted in between, another one is hit
        for _, namespace in copies_killed_in(killing, "pause the tree", valkey_url, tmp_path):
            halves += half_taken_back(valkey_url, namespace)
        if halves:
            break
    assert halves, "control: some kills leave a half"


def half_taken_back(url: str, namespace: str) -> bool:
    """End the pause of whatever was paused; whether that was a part of the tree."""
    with opened(url, namespace) as system:
        found = set(statuses(system).values())
        if found == {"running"}:
            with pytest.raises(CheckpointNotFound):
                OPERATIONS["end the pause of the tree"](system, "")
        else:
            OPERATIONS["end the pause of the tree"](system, "")
        assert set(statuses(system).values()) == {"running"}
        no_work_is_lost(system, statuses(system))
    return len(found) > 1
