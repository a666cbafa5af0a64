from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from leftovers import processes_left, threads_left


@contextmanager
def program(folder: Path, *, name: str | None = None, detached: bool = False) -> Iterator[int]:
    """A program that works in `folder` until it is let go; yields its process id."""
    code = "import os, sys; print(os.getpid(), flush=True); sys.stdin.read()"
    executable = sys.executable
    if name is not None:
        link = folder / name
        link.symlink_to(sys.executable)
        executable = str(link)
    line = [executable, "-c", code]
    if detached:
        fork = "import subprocess, sys; subprocess.Popen(sys.argv[1:], start_new_session=True)"
        line = [sys.executable, "-c", fork, *line]
    process = subprocess.Popen(line, cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield int(process.stdout.readline())
    finally:
        process.stdin.close()
        process.stdout.read()
        process.stdout.close()
        process.wait()


def test_a_program_that_works_in_the_folder_is_found_until_it_ends(tmp_path: Path) -> None:
    with program(tmp_path) as pid:
        assert pid in processes_left(tmp_path, 0)
    assert pid not in processes_left(tmp_path, 30)


def test_a_program_that_was_detached_from_us_is_found_all_the_same(tmp_path: Path) -> None:
    with program(tmp_path, detached=True) as pid:
        assert pid in processes_left(tmp_path, 0)
    assert pid not in processes_left(tmp_path, 30)


def test_a_server_of_ours_is_found_wherever_it_works(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    other = tmp_path / "other"
    other.mkdir()
    with program(elsewhere, name="some-server") as server, program(other, name="something") as harmless:
        left = processes_left(tmp_path / "unrelated", 0)
        assert server in left
        assert harmless not in left


def test_the_tests_themselves_are_not_left_behind(tmp_path: Path) -> None:
    assert os.getpid() not in processes_left(Path.cwd(), 0)


def test_only_threads_of_the_library_are_found_and_only_while_they_live() -> None:
    before = threads_left(0)  # of the servers of the whole session, and of tests before that end only now
    leave = threading.Event()
    ours = threading.Thread(target=leave.wait, name="duramen-control")
    other = threading.Thread(target=leave.wait, name="control")
    ours.start()
    other.start()
    try:
        assert set(threads_left(0)) - set(before) == {"duramen-control"}
    finally:
        leave.set()
        other.join()
    ours.join()
    assert set(threads_left(0)) <= set(before)
