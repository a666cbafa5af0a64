"""Operations of many requests, killed at each of them: nothing is half, and the operation can be done again."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import redis
from attrs import frozen

from duramen.actors import AgentSystem
from duramen.events import DuramenError
from faults.killed_process import CHILDREN, OPERATIONS, ROOT, TREE, Count, opened

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

    def run(self, operation: str, namespace: str, file: Path, at: int = 0, sent: str = "all") -> tuple[int, int]:
        """Exit code, and number of requests of a process that was not killed."""
        order = {"operation": operation, "namespace": namespace, "file": str(file), "at": at, "sent": sent}
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        code, requests = json.loads(self._process.stdout.readline())
        self.kills += code == -9
        return code, requests

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


def all_are(paths: list[str], before: str, afterwards: str) -> Check:
    """All of these agents are as before, or all are as afterwards."""

    def check(system: AgentSystem, file: Path) -> bool:
        found = {statuses(system).get(path, "absent") for path in paths}
        assert found in ({before}, {afterwards}), f"half: {statuses(system)}"
        return found == {afterwards}

    return check


def tree_is(before: str, afterwards: str) -> Check:
    """The root comes last: where it is as before, the operation was not done, and whoever repeats it completes it."""

    def check(system: AgentSystem, file: Path) -> bool:
        found = statuses(system)
        assert {found[path] for path in TREE} <= {before, afterwards}
        done = found[ROOT] == afterwards
        assert not done or {found[path] for path in TREE} == {afterwards}, f"half: {found}"
        return done

    return check


def memory_is_restored(path: str) -> Check:
    """Of a tree the root comes last."""

    def check(system: AgentSystem, file: Path) -> bool:
        found = {each: "since" not in system.agent(each).get() for each in TREE}
        assert not found[path] or path != ROOT or all(found.values()), f"half: {found}"
        return found[path]

    return check


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


def batch_is_whole(system: AgentSystem, file: Path) -> bool:
    found = system.agent(ROOT).get().get("batch", {})
    assert len(found) in (0, 20), "half"
    return bool(found)


def view_is_exact(system: AgentSystem, file: Path) -> bool:
    """Whatever was stored: each event was applied once."""
    with system.attach(Count(), name="count") as runner:
        runner.wait_for(system.agent(ROOT).set("after", True), timeout=20)
        assert runner.status == "live"
        assert runner.state == sum(entry.head.seq for entry in system.agents())
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


CASES = {
    "pause": Case(all_are([CHILDREN[0]], "running", "paused"), may_repeat=False),
    "pause the tree": Case(tree_is("running", "paused"), may_repeat=False),
    "resume": Case(memory_is_restored(CHILDREN[0])),
    "resume the tree": Case(memory_is_restored(ROOT)),
    "terminate": Case(all_are([CHILDREN[0]], "running", "terminated"), may_repeat=False),
    "terminate the tree": Case(tree_is("running", "terminated"), may_repeat=False),
    "spawn a sub-agent": Case(all_are([f"{ROOT}/c"], "absent", "running"), may_repeat=False),
    "export": Case(file_is_whole),
    "import": Case(all_are([*TREE], "absent", "running"), (), needs_file=True, may_repeat=False),
    "import to another path": Case(all_are(COPY, "absent", "running"), needs_file=True, may_repeat=False),
    "fork": Case(all_are(FORK[:1], "absent", "running"), may_repeat=False),
    "fork the tree": Case(all_are(FORK, "absent", "running"), may_repeat=False),
    "trim": Case(log_is_trimmed),
    "batch": Case(batch_is_whole),
    "attach a consumer": Case(view_is_exact),
    "rebuild a consumer": Case(view_is_exact, ("fill", "attach a consumer")),
    "remove a consumer": Case(consumer_is_removed, ("fill", "attach a consumer"), may_repeat=False),
}


def template_of(killing: Killing, case: Case, folder: Path) -> tuple[str, Path]:
    """A namespace that is prepared, and a session file."""
    namespace, file = f"t{uuid4().hex}", folder / "session"
    for operation in case.prepare:
        assert killing.run(operation, namespace, file)[0] == 0
    if case.needs_file:
        source = namespace if case.prepare else f"s{uuid4().hex}"
        if not case.prepare:
            assert killing.run("fill", source, file)[0] == 0
        assert killing.run("export", source, file)[0] == 0
    return namespace, file


def copied(client: redis.Redis, template: str) -> str:
    namespace = f"k{uuid4().hex}"
    with client.pipeline(transaction=False) as pipeline:
        for key in client.scan_iter(f"duramen:{{{template}*", count=1_000):
            pipeline.copy(key, key.replace(template.encode(), namespace.encode()))
        pipeline.execute()
    return namespace


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_an_operation_that_is_killed_at_any_request_is_not_half_done_and_can_be_done_again(
    killing: Killing, valkey_url: str, tmp_path: Path, name: str
) -> None:
    case = CASES[name]
    template, session = template_of(killing, case, tmp_path)
    with redis.Redis.from_url(valkey_url) as client:

        def once(at: int, sent: str) -> tuple[int, int]:
            namespace = copied(client, template)
            file = session if case.needs_file else tmp_path / uuid4().hex
            code, requests = killing.run(name, namespace, file, at, sent)
            assert code in (0, -9)
            with opened(valkey_url, namespace) as system:
                done = case.check(system, file)
                assert code or done or name.endswith("a consumer")
                try:
                    OPERATIONS[name](system, str(file))
                except DuramenError:
                    assert done, "it cannot be done again"
                    assert not case.may_repeat
                assert case.check(system, file) or name.endswith("a consumer")
                report = system.verify()
                assert report.ok, report.problems
            return code, requests

        code, requests = once(0, "all")
        assert code == 0
        assert requests > 0
        for at in range(1, requests + 1):
            for sent in ("nothing", "half", "all"):
                once(at, sent)
    assert killing.kills >= requests, "control: the processes were killed"
