"""The private directory of an embedded server: its checks, its files, and the path of the socket."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import stat
import tempfile
from pathlib import Path
from typing import Any

from attrs import define, frozen

from ..errors import Unavailable

# A socket's path has 108 bytes on Linux and 104 on macOS and the BSDs, including the closing NUL.
_SOCKET_PATH_BYTES = 103
_LOG_BYTES = 1024 * 1024
_TAIL_BYTES = 4096
_TAIL_LINES = 8
_SOCKET_NAME = "valkey.sock"
_SOCKET_DIRECTORY_PREFIX = "duramen-"

_CONFIG = """\
# Written at every start of the server; changes made here are lost.
dir {directory}
logfile {log}
daemonize no
port 0
protected-mode yes
unixsocket {socket}
unixsocketperm 700
enable-debug-command no
enable-module-command no
hide-user-data-from-log yes
always-show-logo no
appendonly yes
appendfsync always
no-appendfsync-on-rewrite no
aof-load-truncated yes
save ""
maxmemory-policy noeviction
proto-max-bulk-len 16mb
"""


@define(eq=False)
class FileLock:
    """An exclusive `flock` on a file of its own, held until the last process closes its descriptor.

    The file is never removed: a process that had opened it before would lock a file that no other process
    sees. `acquire` does not wait.
    """

    path: Path
    _descriptor: int | None = None

    @property
    def is_held(self) -> bool:
        """Whether this object holds the lock."""
        return self._descriptor is not None

    @property
    def descriptor(self) -> int:
        """The open descriptor, for a child process to inherit. Raises `ValueError` when the lock is not held."""
        if self._descriptor is None:
            raise ValueError(f"{self.path} is not locked")
        return self._descriptor

    def acquire(self) -> bool:
        """Take the lock if it is free; True if this object holds it now. Idempotent."""
        if self._descriptor is not None:
            return True
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return False
        except BaseException:
            os.close(descriptor)
            raise
        self._descriptor = descriptor
        return True

    def release(self) -> None:
        """Free the lock, also when a child process has inherited the descriptor."""
        if self._descriptor is not None:
            fcntl.flock(self._descriptor, fcntl.LOCK_UN)
            self.close_descriptor()

    def close_descriptor(self) -> None:
        """Close the descriptor of this process only; processes that inherited it still hold the lock."""
        if self._descriptor is not None:
            descriptor, self._descriptor = self._descriptor, None
            os.close(descriptor)


@frozen
class ServerRecord:
    """The owner's record of its server, by which other processes find it."""

    socket_path: str
    dies_with_owner: bool
    pid: int | None


@frozen(eq=False, repr=False)
class DataDirectory:
    """The paths in a data directory, and the files there that are not the server's own.

    Only this user can read them. Methods that write are for the process that holds `server.lock` or
    `owner.lock`; any process may read. Failing file operations raise `OSError`.
    """

    path: Path

    @classmethod
    def prepare(cls, data_dir: str | os.PathLike[str]) -> DataDirectory:
        """Create the directory (mode 0700), or check that it is private. Raises `Unavailable` if it is unusable.

        An existing directory that others may enter is made private if it is empty or a data directory already.
        Otherwise it is refused: its other files may be meant for others.
        """
        try:
            path = Path(os.path.realpath(data_dir))
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            status = path.stat()
            if status.st_uid != os.geteuid():
                raise Unavailable(
                    f"{path} belongs to another user; give a data_dir of your own",
                    expected=os.geteuid(),
                    actual=status.st_uid,
                )
            if stat.S_IMODE(status.st_mode) & 0o077:
                names = os.listdir(path)
                if names and "owner.lock" not in names:
                    raise Unavailable(
                        f"{path} is open to other users and holds other things; "
                        "run `chmod 700` on it, or give another data_dir"
                    )
                path.chmod(0o700)
        except FileExistsError:
            raise Unavailable(f"{data_dir} is not a directory; give another data_dir") from None
        except (OSError, ValueError) as error:
            raise Unavailable(f"the data_dir cannot be used: {error}; give another data_dir") from error
        return cls(path)

    @property
    def owner_lock(self) -> Path:
        """The lock file of the process that stops the server."""
        return self.path / "owner.lock"

    @property
    def server_lock(self) -> Path:
        """The lock file of the server itself: free only when no server runs on this directory."""
        return self.path / "server.lock"

    @property
    def log_file(self) -> Path:
        """The server's log, with what it printed before it opened its log."""
        return self.path / "valkey.log"

    @property
    def _record_file(self) -> Path:
        return self.path / "server.json"

    def choose_socket_path(self) -> str:
        """Choose the path of the server's socket: in this directory, or in the temp dir if that is too long.

        A directory that a killed owner left in the temp dir is used again, so that such directories do not pile up.
        """
        near = str(self.path / _SOCKET_NAME)
        if _fits(near):
            return near
        record = self.read_record()
        if record is not None:
            return record.socket_path
        far = str(Path(tempfile.mkdtemp(prefix=_SOCKET_DIRECTORY_PREFIX)) / _SOCKET_NAME)
        if not _fits(far):
            os.rmdir(os.path.dirname(far))
            raise Unavailable(
                f"{near} is too long for a socket, and so is the temp dir; give a shorter data_dir or TMPDIR"
            )
        return far

    def write_config(self, socket_path: str) -> str:
        """Write the server's settings, with every path quoted byte by byte; return the argument that names the file.

        The server takes a name with `*`, `?` or `[` for a pattern, in which a backslash escapes them.
        """
        path = self.path / "valkey.conf"
        text = _CONFIG.format(
            directory=quote_setting(str(self.path)),
            log=quote_setting(str(self.log_file)),
            socket=quote_setting(socket_path),
        )
        self._write(path, text)
        is_pattern = any(character in str(path) for character in "*?[")
        return re.sub(r"([\\*?\[\]])", r"\\\1", str(path)) if is_pattern else str(path)

    def write_record(self, record: ServerRecord) -> None:
        """Record the server for other processes. A socket in this directory is recorded as null."""
        near = record.socket_path == str(self.path / _SOCKET_NAME)
        content = {
            "directory": self._identity(),
            "socket": None if near else record.socket_path,
            "dies_with_owner": record.dies_with_owner,
            "pid": record.pid,
        }
        self._write(self._record_file, json.dumps(content))

    def read_record(self) -> ServerRecord | None:
        """Return the record, which may be stale, or None if there is none of this directory.

        A copied directory holds a copy of the record, which would lead to the server of the original and to
        another history. So the record names its directory by device and inode. All users share the temp dir:
        a socket there counts only if its directory is private to this user.
        """
        try:
            content: Any = json.loads(self._record_file.read_bytes())
            if content["directory"] != self._identity():
                return None
            socket_path = content["socket"] or str(self.path / _SOCKET_NAME)
            pid = None if content["pid"] is None else int(content["pid"])
            if not _is_private(os.path.dirname(socket_path)):
                return None
            return ServerRecord(str(socket_path), bool(content["dies_with_owner"]), pid)
        except (OSError, ValueError, LookupError, TypeError):
            return None

    def remove_record(self) -> None:
        """Remove the record, the socket and the socket's directory of a server that has ended.

        Files that cannot be removed stay and do no harm: no server answers at a stale record's socket.
        """
        record = self.read_record()
        if record is not None:
            with contextlib.suppress(OSError):
                os.unlink(record.socket_path)
            if os.path.dirname(record.socket_path) != str(self.path):
                with contextlib.suppress(OSError):
                    os.rmdir(os.path.dirname(record.socket_path))
        with contextlib.suppress(OSError):
            self._record_file.unlink()

    def rotate_log(self) -> int:
        """Rotate the log file if it is full, keeping one old file; return the current file's size in bytes."""
        with contextlib.suppress(FileNotFoundError):
            size = self.log_file.stat().st_size
            if size < _LOG_BYTES:
                return size
            self.log_file.replace(self.path / "valkey.log.1")
        return 0

    def log_tail(self, since: int) -> str:
        """Return the last lines of the log after byte `since`."""
        try:
            with self.log_file.open("rb") as log:
                end = log.seek(0, os.SEEK_END)
                log.seek(max(since, end - _TAIL_BYTES))
                lines = log.read().decode(errors="replace").splitlines()
        except FileNotFoundError:
            return "(nothing was logged)"
        return "\n".join(lines[-_TAIL_LINES:]) or "(nothing was logged)"

    def _identity(self) -> list[int]:
        status = self.path.stat()
        return [status.st_dev, status.st_ino]

    def _write(self, path: Path, text: str) -> None:
        """Replace a file in one step: readers see the old or the new content, never a part."""
        draft = path.with_name(path.name + ".new")
        draft.unlink(missing_ok=True)
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with open(descriptor, "w", encoding="ascii") as file:
            file.write(text)
        draft.replace(path)


def quote_setting(value: str) -> str:
    """Return a path as one quoted word of the server's settings, whatever bytes it has.

    Only plain characters are written as they are: a line break or a quote could begin another setting.
    """
    return '"' + "".join(_quote_byte(byte) for byte in os.fsencode(value)) + '"'


def _quote_byte(byte: int) -> str:
    character = chr(byte)
    return character if character.isascii() and (character.isalnum() or character in "/._-+ ") else f"\\x{byte:02x}"


def _fits(socket_path: str) -> bool:
    return len(os.fsencode(socket_path)) <= _SOCKET_PATH_BYTES


def _is_private(directory: str) -> bool:
    status = os.lstat(directory)
    is_own = stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid()
    return is_own and not stat.S_IMODE(status.st_mode) & 0o077
