from __future__ import annotations

import fcntl
import gc
import itertools
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import redis
from attrs import define
from hypothesis import given
from hypothesis import strategies as st

from duramen.events.embedded import server as server_module
from duramen.events.embedded.data_directory import DataDirectory, quote_setting
from duramen.events.embedded.process import is_loading
from duramen.events.embedded.server import EmbeddedServer
from duramen.events.errors import SystemClosed, Unavailable
from servers import Server
from waiting import eventually, process_ends

KEY = "log"
PRELUDE = """
import os, signal, sys, threading
import redis
import duramen.events.embedded as embedded
from duramen.events.errors import DuramenError, SystemClosed, Unavailable
directory, *arguments = sys.argv[1:]

def connect(server):
    return redis.Redis(unix_socket_path=server.socket_path, retry=None)

def say(*words):
    print(*words, flush=True)
"""


@define
class Program:
    """A Python program in a process of its own, in a session of its own; we talk to it line by line."""

    process: subprocess.Popen[str]

    @property
    def pid(self) -> int:
        return self.process.pid

    def hear(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def hear_all(self) -> list[str]:
        assert self.process.stdout is not None
        return self.process.stdout.read().splitlines()

    def tell(self, line: str = "") -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{line}\n")
        self.process.stdin.flush()

    def kill9(self) -> None:
        self.process.kill()
        self.process.wait(10)


@contextmanager
def program(code: str, directory: Path, *arguments: str) -> Iterator[Program]:
    line = [sys.executable, "-c", PRELUDE + code, str(directory), *arguments]
    pipe = subprocess.PIPE
    with subprocess.Popen(line, stdin=pipe, stdout=pipe, text=True, start_new_session=True) as process:
        try:
            yield Program(process)
        finally:
            process.kill()


OWNER = """
server = embedded.EmbeddedServer.open(directory)
say(server.pid, server.owner)
sys.stdin.readline()
"""

# As on a system where the kernel does not stop the server with its owner.
UNBOUND_OWNER = (
    "from duramen.events.embedded import server as module; module.can_die_with_parent = lambda: False" + OWNER
)


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    return tmp_path / "data"


def connect(server: EmbeddedServer) -> redis.Redis:
    return redis.Redis(unix_socket_path=server.socket_path, decode_responses=True)


def push(server: EmbeddedServer, *values: str) -> None:
    with connect(server) as client:
        client.rpush(KEY, *values)


def entries(server: EmbeddedServer) -> list[str]:
    with connect(server) as client:
        found = client.lrange(KEY, 0, -1)
    assert isinstance(found, list)
    return [str(entry) for entry in found]


def is_free(lock: Path) -> bool:
    with lock.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


def no_server_lives_on(directory: Path) -> bool:
    return is_free(directory / "server.lock")


def listening_ports(pid: int) -> set[str]:
    """Local addresses of a process's TCP and UDP sockets."""
    links: list[str] = []
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # it was closed meanwhile
            links.append(os.readlink(entry))
    sockets = {found[1] for link in links if (found := re.fullmatch(r"socket:\[(\d+)\]", link))}
    rows: list[list[str]] = []
    for table in ("tcp", "tcp6", "udp", "udp6"):
        path = Path(f"/proc/{pid}/net/{table}")
        rows += [row.split() for row in path.read_text().splitlines()[1:]] if path.exists() else []
    return {row[1] for row in rows if row[9] in sockets}


# Opening and closing


def test_the_server_runs_from_open_to_close(data_dir: Path) -> None:
    server = EmbeddedServer.open(data_dir)
    assert server.owner
    with connect(server) as client:
        assert client.info("server")["process_id"] == server.pid
    server.close()
    assert process_ends(server.pid, 0)
    assert no_server_lives_on(data_dir)


def test_data_is_there_when_the_directory_is_opened_again(data_dir: Path) -> None:
    with EmbeddedServer.open(data_dir) as server:
        push(server, "a", "b")
    with EmbeddedServer.open(data_dir) as server:
        assert entries(server) == ["a", "b"]


def test_closing_twice_is_closing_once(data_dir: Path) -> None:
    first = EmbeddedServer.open(data_dir)
    first.close()
    with EmbeddedServer.open(data_dir) as second:
        first.close()
        assert second.ensure() == second.socket_path


def test_a_closed_server_is_not_started_again(data_dir: Path) -> None:
    with EmbeddedServer.open(data_dir) as server:
        pass
    with pytest.raises(SystemClosed):
        server.ensure()
    assert no_server_lives_on(data_dir)


def test_a_server_that_is_forgotten_is_stopped(data_dir: Path) -> None:
    pid = EmbeddedServer.open(data_dir).pid
    gc.collect()
    assert process_ends(pid)
    assert no_server_lives_on(data_dir)


def test_the_server_outlives_the_thread_that_opened_it(data_dir: Path) -> None:
    with ThreadPoolExecutor(1) as pool:
        server = pool.submit(EmbeddedServer.open, data_dir).result()
    with server:
        assert not process_ends(server.pid, timeout=0.5)
        push(server, "a")


def test_the_url_leads_to_the_server_whatever_the_path_is(tmp_path: Path) -> None:
    with EmbeddedServer.open(tmp_path / "50% of ü?#") as server, redis.Redis.from_url(server.url) as client:
        assert client.ping()


def test_a_relative_directory_stays_what_it_was_when_it_was_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with EmbeddedServer.open() as server:
        assert server.data_dir == tmp_path / ".duramen"
        monkeypatch.chdir("/")
        os.kill(server.pid, signal.SIGKILL)
        process_ends(server.pid)
        server.ensure()
        assert entries(server) == []
    assert not Path("/.duramen").exists()


def test_a_server_that_takes_no_sigterm_from_us_takes_it_all_the_same(data_dir: Path) -> None:
    """The signal mask of a thread is inherited by what it starts."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    try:
        EmbeddedServer.open(data_dir).close()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    assert "bye bye" in (data_dir / "valkey.log").read_text()


# Nothing acknowledged is lost, and no process is left

EXITS = {
    "return": "",
    "close": "server.close()",
    "sys.exit": "sys.exit(3)",
    "exception": "raise RuntimeError('not handled')",
    "os._exit": "os._exit(3)",
    "SIGTERM": "os.kill(os.getpid(), signal.SIGTERM); signal.pause()",
    "SIGKILL": "os.kill(os.getpid(), signal.SIGKILL); signal.pause()",
}


@pytest.mark.slow
@pytest.mark.parametrize("way", EXITS)
def test_all_acknowledged_entries_survive_the_end_of_the_process(data_dir: Path, way: str) -> None:
    code = f"""
sys.excepthook = lambda *error: None
server = embedded.EmbeddedServer.open(directory)
client = connect(server)
say(server.pid)
for number in range(1000):
    client.rpush("{KEY}", number)
say("done")
{EXITS[way]}
"""
    with program(code, data_dir) as writer:
        pid = int(writer.hear())
        assert writer.hear() == "done"
        writer.process.wait(20)
        assert process_ends(pid)
    eventually(lambda: no_server_lives_on(data_dir))
    with EmbeddedServer.open(data_dir) as server:
        assert server.owner
        assert entries(server) == [str(number) for number in range(1000)]


def test_all_acknowledged_entries_survive_a_kill_in_the_middle(data_dir: Path) -> None:
    code = f"""
import itertools
server = embedded.EmbeddedServer.open(directory)
client = connect(server)
say(server.pid)
for number in itertools.count():
    client.rpush("{KEY}", number)
    say(number)
"""
    with program(code, data_dir) as writer:
        pid = int(writer.hear())
        acknowledged = [writer.hear() for _ in range(300)]
        writer.kill9()
        acknowledged += writer.hear_all()
        assert process_ends(pid)
    with EmbeddedServer.open(data_dir) as server:
        stored = entries(server)
    assert stored[: len(acknowledged)] == acknowledged
    assert len(stored) <= len(acknowledged) + 1


@pytest.mark.parametrize(
    "stage", ["owner.lock", "server.lock", "server.json", "valkey.log", "appendonlydir", "valkey.sock"]
)
def test_a_process_killed_while_opening_leaves_no_server(data_dir: Path, stage: str) -> None:
    with program(OWNER, data_dir) as owner:
        eventually((data_dir / stage).exists)
        owner.kill9()
        eventually(lambda: not (data_dir / "server.lock").exists() or no_server_lives_on(data_dir))
    with EmbeddedServer.open(data_dir) as server:
        assert server.owner
        assert entries(server) == []


def test_ctrl_c_does_not_reach_the_server(data_dir: Path) -> None:
    code = f"""
server = embedded.EmbeddedServer.open(directory)
try:
    say(server.pid)
    signal.pause()
except KeyboardInterrupt:
    say(sys.stdin.readline().strip())
    connect(server).rpush("{KEY}", "drained")
    say(server.pid)
"""
    with program(code, data_dir) as owner:
        pid = int(owner.hear())
        os.killpg(owner.pid, signal.SIGINT)
        assert not process_ends(pid, timeout=0.5)
        owner.tell("go on")
        assert owner.hear() == "go on"
        assert int(owner.hear()) == pid
        owner.process.wait(20)
    with EmbeddedServer.open(data_dir) as server:
        assert entries(server) == ["drained"]


# Several who open the same directory


def test_a_second_process_attaches_and_sees_the_data(data_dir: Path) -> None:
    code = f"""
server = embedded.EmbeddedServer.open(directory)
client = connect(server)
say(server.pid, server.owner, *client.lrange("{KEY}", 0, -1))
client.rpush("{KEY}", "theirs")
server.close()
say("closed")
"""
    with EmbeddedServer.open(data_dir) as server:
        push(server, "ours")
        with program(code, data_dir) as second:
            assert second.hear() == f"{server.pid} False b'ours'"
            assert second.hear() == "closed"
        assert not process_ends(server.pid, timeout=0.3)
        assert entries(server) == ["ours", "theirs"]


def test_the_second_open_of_one_process_attaches_to_the_first(data_dir: Path) -> None:
    with EmbeddedServer.open(data_dir) as first, EmbeddedServer.open(data_dir) as second:
        assert (first.owner, second.owner) == (True, False)
        assert first.pid == second.pid
        push(first, "a")
        first.close()
        assert not first.owner
        second.ensure()
        assert second.owner
        assert entries(second) == ["a"]


@pytest.mark.parametrize("way", ["closes", "is killed"])
def test_when_the_owner_leaves_an_attached_process_takes_over(data_dir: Path, way: str) -> None:
    with program(OWNER, data_dir) as owner:
        pid = int(owner.hear().split()[0])
        with EmbeddedServer.open(data_dir) as attached:
            assert (attached.pid, attached.owner) == (pid, False)
            push(attached, "a")
            if way == "closes":
                owner.tell()
            else:
                owner.kill9()
            assert process_ends(pid)
            attached.ensure()
            assert attached.owner
            assert attached.pid != pid
            assert entries(attached) == ["a"]
    assert no_server_lives_on(data_dir)


def test_of_many_that_open_at_once_one_owns_the_server_and_all_share_it(data_dir: Path) -> None:
    code = f"""
say("here")
sys.stdin.readline()
server = embedded.EmbeddedServer.open(directory)
say(server.pid, server.owner)
client = connect(server)
for number in range(50):
    client.rpush("{KEY}", f"{{os.getpid()}}-{{number}}")
say("done")
sys.stdin.readline()
server.close()
"""
    with (
        program(code, data_dir) as a,
        program(code, data_dir) as b,
        program(code, data_dir) as c,
        program(code, data_dir) as d,
    ):
        programs = (a, b, c, d)
        assert [each.hear() for each in programs] == ["here"] * 4
        for each in programs:
            each.tell()
        answers = [each.hear().split() for each in programs]
        assert len({pid for pid, _ in answers}) == 1
        assert sorted(owner for _, owner in answers) == ["False", "False", "False", "True"]
        assert [each.hear() for each in programs] == ["done"] * 4
        with EmbeddedServer.open(data_dir) as server:
            stored = entries(server)
        for each in programs:
            each.tell()
    assert sorted(stored) == sorted(f"{each.pid}-{number}" for each in programs for number in range(50))


def test_many_threads_that_lost_the_server_start_one(data_dir: Path) -> None:
    with EmbeddedServer.open(data_dir) as server, ThreadPoolExecutor(8) as pool:
        push(server, "a")
        killed = server.pid
        os.kill(killed, signal.SIGKILL)
        assert process_ends(killed)
        barrier = threading.Barrier(8)

        def lost() -> int:
            barrier.wait(10)
            server.ensure()
            return server.pid

        pids = {future.result() for future in [pool.submit(lost) for _ in range(8)]}
        assert len(pids) == 1
        assert killed not in pids
        assert (data_dir / "valkey.log").read_text().count("Ready to accept connections") == 2
        assert entries(server) == ["a"]


def test_ensure_changes_nothing_while_the_server_answers(data_dir: Path) -> None:
    with EmbeddedServer.open(data_dir) as server:
        before = (server.pid, server.socket_path)
        assert server.ensure() == server.socket_path
        assert (server.pid, server.socket_path) == before


def test_a_server_whose_socket_was_removed_is_replaced(data_dir: Path) -> None:
    with EmbeddedServer.open(data_dir) as server:
        push(server, "a")
        lost = server.pid
        os.unlink(server.socket_path)
        server.ensure()
        assert process_ends(lost)
        assert entries(server) == ["a"]


# Servers without an owner


def test_a_server_that_outlived_its_owner_is_adopted_and_stopped(data_dir: Path) -> None:
    with program(UNBOUND_OWNER, data_dir) as owner:
        pid = int(owner.hear().split()[0])
        owner.kill9()
    assert not process_ends(pid, timeout=0.5)  # nobody told it to stop: so it is the kernel that does elsewhere
    with EmbeddedServer.open(data_dir) as adopter:
        assert (adopter.pid, adopter.owner) == (pid, True)
        push(adopter, "a")
    assert process_ends(pid)
    assert no_server_lives_on(data_dir)
    with EmbeddedServer.open(data_dir) as server:
        assert entries(server) == ["a"]


def fill(server: EmbeddedServer, keys: int) -> None:
    with redis.Redis(unix_socket_path=server.socket_path) as client:
        client.mset({f"key {number}": "value" for number in range(keys)})
        client.bgrewriteaof()
        eventually(lambda: client.info("persistence")["aof_base_size"] > 400, what="a file in which each key is loaded")


def load_slowly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have servers that are started from now on take 10 ms a key to load."""
    write = DataDirectory.write_config

    def write_slow(directory: DataDirectory, socket_path: str) -> str:
        file = write(directory, socket_path)
        with Path(file).open("a") as config:
            config.write("key-load-delay 10000\nloading-process-events-interval-bytes 1024\n")
        return file

    monkeypatch.setattr(DataDirectory, "write_config", write_slow)


@pytest.mark.slow
def test_data_may_take_longer_to_load_than_a_server_to_start(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with EmbeddedServer.open(data_dir) as server:
        fill(server, 400)
    load_slowly(monkeypatch)
    with pytest.raises(Unavailable, match="not ready in time"):
        EmbeddedServer.open(data_dir, timeout=1.5)
    assert no_server_lives_on(data_dir)
    monkeypatch.setattr(server_module, "_READY_SECONDS", 1.5)
    with EmbeddedServer.open(data_dir) as loaded, redis.Redis(unix_socket_path=loaded.socket_path) as client:
        assert client.get("key 399") == b"value"
        with EmbeddedServer.open(data_dir) as attached:
            assert attached.pid == loaded.pid


@pytest.mark.slow
def test_a_server_that_loads_is_waited_for_by_the_next_call(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def gives_up(patience: server_module._Patience, directory: DataDirectory) -> bool:
        record = directory.read_record()
        return record is not None and is_loading(record.socket_path)

    with EmbeddedServer.open(data_dir) as server:
        fill(server, 200)
        load_slowly(monkeypatch)
        os.kill(server.pid, signal.SIGKILL)
        assert process_ends(server.pid)
        with monkeypatch.context() as impatient, pytest.raises(Unavailable, match="not ready in time"):
            impatient.setattr(server_module._Patience, "is_over", gives_up)
            server.ensure()
        record = DataDirectory.prepare(data_dir).read_record()
        assert record is not None
        server.ensure(60.0)
        assert server.pid == record.pid
    assert no_server_lives_on(data_dir)


def test_a_server_that_is_ready_when_the_time_is_over_has_just_loaded(data_dir: Path) -> None:
    directory = DataDirectory.prepare(data_dir)
    patience = server_module._Patience(-1.0, loads=True)
    with EmbeddedServer.open(data_dir):
        assert not patience.is_over(directory)
        assert patience.is_over(directory), "it has that time once"
    assert server_module._Patience(-1.0, loads=True).is_over(directory)


def test_a_server_that_hangs_without_an_owner_keeps_the_directory(data_dir: Path) -> None:
    with program(OWNER, data_dir) as owner:
        pid = int(owner.hear().split()[0])
        os.kill(pid, signal.SIGSTOP)
        owner.kill9()
    try:
        with pytest.raises(Unavailable, match=str(pid)):
            EmbeddedServer.open(data_dir, timeout=0.3)
        assert is_free(data_dir / "owner.lock")
    finally:
        os.kill(pid, signal.SIGCONT)
    with EmbeddedServer.open(data_dir) as server:
        assert server.owner
        assert server.pid != pid


def test_a_second_server_cannot_start_even_if_the_owners_lock_is_removed(data_dir: Path) -> None:
    with EmbeddedServer.open(data_dir) as server:
        os.kill(server.pid, signal.SIGSTOP)
        (data_dir / "owner.lock").unlink()
        try:
            with pytest.raises(Unavailable):
                EmbeddedServer.open(data_dir, timeout=0.3)
        finally:
            os.kill(server.pid, signal.SIGCONT)


# Forks


def test_a_forked_child_never_stops_the_server(data_dir: Path) -> None:
    code = f"""
server = embedded.EmbeddedServer.open(directory)
child = os.fork()
if not child:
    assert not server.owner
    try:
        server.ensure()
    except SystemClosed:
        server.close()
        sys.exit(7)
    sys.exit(1)
say(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), server.owner)
sys.stdin.readline()
connect(server).rpush("{KEY}", "a")
say(server.pid)
"""
    with program(code, data_dir) as parent:
        assert parent.hear() == "7 True"
        assert not is_free(data_dir / "owner.lock")
        parent.tell()
        pid = int(parent.hear())
        assert process_ends(pid)
    with EmbeddedServer.open(data_dir) as server:
        assert entries(server) == ["a"]


def test_a_forked_child_does_not_keep_the_directory_when_its_parent_is_killed(data_dir: Path) -> None:
    code = """
server = embedded.EmbeddedServer.open(directory)
if os.fork():
    say("forked")
sys.stdin.readline()
"""
    with program(code, data_dir) as parent:
        assert parent.hear() == "forked"
        parent.kill9()

        def opens_as_owner() -> bool:  # its server may take a moment to follow it
            with EmbeddedServer.open(data_dir) as server:
                return server.owner

        eventually(opens_as_owner)
        parent.tell()


# The directory, its socket and its files


def test_only_this_user_can_reach_the_server_and_its_files(data_dir: Path) -> None:
    old_mask = os.umask(0)
    try:
        with EmbeddedServer.open(data_dir) as server:
            push(server, "a")
            for path in (data_dir, *data_dir.rglob("*")):
                assert stat.S_IMODE(path.lstat().st_mode) & 0o077 == 0, path
            assert stat.S_IMODE(data_dir.stat().st_mode) == 0o700
            assert listening_ports(server.pid) == set()
    finally:
        os.umask(old_mask)


def test_a_listening_port_would_be_noticed() -> None:
    with Server(tcp=True) as server:
        server.start()
        assert len(listening_ports(server.pid)) == 1


def test_the_server_is_durable_and_bounded(data_dir: Path) -> None:
    expected = {
        "appendonly": "yes",
        "appendfsync": "always",
        "save": "",
        "maxmemory-policy": "noeviction",
        "proto-max-bulk-len": str(16 * 1024 * 1024),
        "protected-mode": "yes",
        "port": "0",
        "aof-load-truncated": "yes",
        "enable-debug-command": "no",
    }
    with EmbeddedServer.open(data_dir) as server, connect(server) as client:
        actual = {name: client.config_get(name)[name] for name in expected}
    assert actual == expected


def test_a_path_too_long_for_a_socket_has_it_in_a_private_directory_elsewhere(tmp_path: Path) -> None:
    deep = tmp_path.joinpath(*["d" * 50] * 4)
    code = "server = embedded.EmbeddedServer.open(directory); say(server.pid, server.socket_path)"
    with EmbeddedServer.open(deep) as server:
        place = Path(server.socket_path).parent
        assert deep not in place.parents
        assert stat.S_IMODE(place.stat().st_mode) == 0o700
        with program(code, deep) as second:
            assert second.hear() == f"{server.pid} {server.socket_path}"
        push(server, "a")
    assert not place.exists()
    with EmbeddedServer.open(deep) as server:
        assert entries(server) == ["a"]


def test_the_directory_of_a_socket_is_used_again_after_a_kill(tmp_path: Path) -> None:
    deep = tmp_path.joinpath(*["d" * 50] * 4)
    code = "server = embedded.EmbeddedServer.open(directory); say(server.socket_path); signal.pause()"
    with program(code, deep) as owner:
        socket_path = owner.hear()
        owner.kill9()
    with EmbeddedServer.open(deep) as server:
        assert server.socket_path == socket_path
    assert not Path(socket_path).parent.exists()


def test_a_copy_of_a_directory_has_a_server_and_a_history_of_its_own(tmp_path: Path) -> None:
    deep, copy = (tmp_path.joinpath(name, *["d" * 50] * 4) for name in ("one", "two"))
    with EmbeddedServer.open(deep) as original:
        push(original, "a")
        shutil.copytree(deep, copy)
        with EmbeddedServer.open(copy) as other:
            assert other.owner
            assert other.pid != original.pid
            assert other.socket_path != original.socket_path
            push(other, "theirs")
            assert entries(original) == ["a"]
            assert entries(other) == ["a", "theirs"]


def test_an_empty_directory_is_made_private(data_dir: Path) -> None:
    data_dir.mkdir()
    data_dir.chmod(0o755)
    with EmbeddedServer.open(data_dir):
        assert stat.S_IMODE(data_dir.stat().st_mode) == 0o700


def test_a_directory_that_others_use_is_refused_and_left_as_it_was(data_dir: Path) -> None:
    data_dir.mkdir()
    (data_dir / "letter").write_text("not ours")
    data_dir.chmod(0o755)
    with pytest.raises(Unavailable, match="chmod 700"):
        EmbeddedServer.open(data_dir)
    assert stat.S_IMODE(data_dir.stat().st_mode) == 0o755
    assert [path.name for path in data_dir.iterdir()] == ["letter"]


def test_a_directory_of_another_user_is_refused(data_dir: Path) -> None:
    if os.geteuid() == 0:
        data_dir.mkdir(0o700)
        os.chown(data_dir, 12345, 12345)
    else:
        data_dir = Path("/")
    with pytest.raises(Unavailable, match="another user"):
        EmbeddedServer.open(data_dir)


@pytest.mark.parametrize("place", ["", "below/it"])
def test_a_file_in_place_of_the_directory_is_refused(data_dir: Path, place: str) -> None:
    data_dir.write_text("mine")
    with pytest.raises(Unavailable, match="another data_dir"):
        EmbeddedServer.open(data_dir / place)
    assert data_dir.read_text() == "mine"


def test_a_path_cannot_smuggle_in_a_setting(tmp_path: Path) -> None:
    directory = tmp_path / 'a"\nport 6399\n# \\ ü \udcff\x07'
    with EmbeddedServer.open(directory) as server:
        assert listening_ports(server.pid) == set()
        push(server, "a")
        assert (directory / "appendonlydir").is_dir()
    with EmbeddedServer.open(directory) as server:
        assert entries(server) == ["a"]


@given(st.binary(max_size=50).filter(lambda path: b"\0" not in path))
def test_a_quoted_path_is_one_line_and_means_the_same_bytes(path: bytes) -> None:
    quoted = quote_setting(os.fsdecode(path))
    assert re.fullmatch(r'"([a-zA-Z0-9/._+ -]|\\x[0-9a-f]{2})*"', quoted)
    unquoted = re.sub(rb"\\x(..)", lambda found: bytes.fromhex(found[1].decode()), quoted[1:-1].encode())
    assert unquoted == path


# Starts that fail


def test_a_tail_that_was_cut_off_is_dropped_and_the_rest_is_there(data_dir: Path) -> None:
    with EmbeddedServer.open(data_dir) as server:
        for number in range(10):
            push(server, str(number))
    (log,) = (data_dir / "appendonlydir").glob("*.incr.aof")
    os.truncate(log, log.stat().st_size - 3)
    with EmbeddedServer.open(data_dir) as server:
        assert entries(server) == [str(number) for number in range(9)]
        push(server, "9")
    with EmbeddedServer.open(data_dir) as server:
        assert entries(server) == [str(number) for number in range(10)]


def test_a_damaged_file_is_reported_with_the_servers_own_words(data_dir: Path) -> None:
    with EmbeddedServer.open(data_dir) as server:
        for number in range(10):
            push(server, f"secret-{number}")
    (log,) = (data_dir / "appendonlydir").glob("*.incr.aof")
    content = bytearray(log.read_bytes())
    middle = content.index(b"*3", len(content) // 2)
    content[middle : middle + 2] = b"??"
    log.write_bytes(content)
    for _ in range(2):
        with pytest.raises(Unavailable, match="Bad file format") as caught:
            EmbeddedServer.open(data_dir)
        assert caught.value.actual == 1
        assert "secret" not in str(caught.value)
        assert no_server_lives_on(data_dir)
        assert is_free(data_dir / "owner.lock")
        assert not (data_dir / "server.json").exists()
        assert not (data_dir / "valkey.sock").exists()
    assert log.read_bytes() == content


# A limit of the size of files stands for a disk that is full: it needs no mount, and hits the server as well.
FULL_DISK = """
import resource
def only(room):
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, resource.RLIM_INFINITY))
"""


@pytest.mark.parametrize("room", [0, 300])
def test_a_disk_without_room_is_reported_and_leaves_nothing(data_dir: Path, room: int) -> None:
    code = f"""{FULL_DISK}
only({room})
try:
    embedded.EmbeddedServer.open(directory)
except Unavailable as error:
    say("Unavailable")
"""
    with program(code, data_dir) as opener:
        assert opener.hear_all() == ["Unavailable"]
    with EmbeddedServer.open(data_dir) as server:
        assert server.owner


def test_when_the_disk_is_full_what_was_acknowledged_stays(data_dir: Path) -> None:
    code = f"""{FULL_DISK}
only(4000)
server = embedded.EmbeddedServer.open(directory)
client = connect(server)
acknowledged = failures = 0
while failures < 2:
    try:
        client.rpush("{KEY}", acknowledged)
        acknowledged += 1
    except redis.RedisError:
        failures += 1
        server.ensure()
say(acknowledged)
"""
    with program(code, data_dir) as writer:
        acknowledged = int(writer.hear())
        assert writer.process.wait(20) == 0
    assert acknowledged > 0
    with EmbeddedServer.open(data_dir) as server:
        assert entries(server) == [str(number) for number in range(acknowledged)]


def test_a_platform_without_a_server_is_told_to_give_a_url(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.system", lambda: "Plan 9")
    with pytest.raises(Unavailable, match="url"):
        EmbeddedServer.open(data_dir)
    assert not data_dir.exists()


def test_the_log_does_not_grow_for_ever(data_dir: Path) -> None:
    with EmbeddedServer.open(data_dir):
        pass
    log = data_dir / "valkey.log"
    log.write_text("old\n" * 300_000)
    with EmbeddedServer.open(data_dir):
        pass
    assert "old" not in log.read_text()
    assert (data_dir / "valkey.log.1").read_text().startswith("old")


def test_a_directory_can_be_opened_again_at_once_after_every_close(data_dir: Path) -> None:
    for number in itertools.islice(itertools.count(), 5):
        with EmbeddedServer.open(data_dir) as server:
            assert server.owner
            push(server, str(number))
            assert entries(server) == [str(each) for each in range(number + 1)]
