"""The private directory of an embedded server: who may use it, what lies in it, where its socket is."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import stat
import tempfile
from pathlib import Path
from typing import Any

from attrs import define, frozen

from ..errors import Unavailable

__all__ = ["DataDirectory", "FileLock", "ServerRecord", "config_quoted"]

# A socket's path has 108 bytes on Linux and 104 on macOS and the BSDs, the closing NUL among them.
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
    """An exclusive `flock` on a file of its own. It ends with the last process that has its descriptor.

    The file is never removed: a process that had opened it before would then lock a file that nobody else
    sees. `acquire` does not wait.
    """

    path: Path
    _descriptor: int | None = None

    @property
    def held(self) -> bool:
        """Whether this object has the lock."""
        return self._descriptor is not None

    @property
    def descriptor(self) -> int:
        """The open descriptor, for a child process to inherit; `ValueError` when the lock is not held."""
        if self._descriptor is None:
            raise ValueError(f"{self.path} is not locked")
        return self._descriptor

    def acquire(self) -> bool:
        """Take the lock if it is free; True if it is held now. Asking again while it is held is fine."""
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
        """Free the lock for everybody, also where a child process still has the descriptor."""
        if self._descriptor is not None:
            fcntl.flock(self._descriptor, fcntl.LOCK_UN)
            self.drop()

    def drop(self) -> None:
        """Close our descriptor only: the lock lives on in the processes that inherited it."""
        if self._descriptor is not None:
            descriptor, self._descriptor = self._descriptor, None
            os.close(descriptor)


@frozen
class ServerRecord:
    """What the owner wrote down about its server, so that other processes find it."""

    socket_path: str
    dies_with_owner: bool
    pid: int | None


@frozen
class DataDirectory:
    """The paths in a data directory, and the files that are written there besides the server's own.

    All of it is readable by this user only. Methods that write are for the process that holds `server.lock`
    or `owner.lock`; reading is for all. Failing file operations raise `OSError`.
    """

    path: Path

    @classmethod
    def prepare(cls, data_dir: str | os.PathLike[str]) -> DataDirectory:
        """Make the directory (mode 0700) or check that it is private; `Unavailable` if it cannot be used.

        An existing directory that others may enter is made private if it is empty or already ours; otherwise
        it is refused, since closing it could break what else is kept in it.
        """
        try:
            path = Path(os.path.realpath(data_dir))
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            facts = path.stat()
            if facts.st_uid != os.geteuid():
                raise Unavailable(
                    f"{path} belongs to another user; give a data_dir of your own",
                    expected=os.geteuid(),
                    actual=facts.st_uid,
                )
            if stat.S_IMODE(facts.st_mode) & 0o077:
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
        """Locked by the process that is to stop the server."""
        return self.path / "owner.lock"

    @property
    def server_lock(self) -> Path:
        """Locked by the server itself: free only when no server lives on this directory."""
        return self.path / "server.lock"

    @property
    def log_file(self) -> Path:
        """What the server logged, and what it printed before it had opened its log."""
        return self.path / "valkey.log"

    @property
    def _record_file(self) -> Path:
        return self.path / "server.json"

    def place_socket(self) -> str:
        """Choose the path of the server's socket: here, or where that is too long, below the temp dir.

        A directory there that a killed owner left is used again, so that it does not stay for ever.
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

    def write_config(self, socket_path: str) -> Path:
        """Write the server's settings; every path in them is quoted byte by byte."""
        path = self.path / "valkey.conf"
        text = _CONFIG.format(
            directory=config_quoted(str(self.path)),
            log=config_quoted(str(self.log_file)),
            socket=config_quoted(socket_path),
        )
        self._write(path, text)
        return path

    def write_record(self, record: ServerRecord) -> None:
        """Tell other processes of the server. A socket in this directory is recorded as null."""
        near = record.socket_path == str(self.path / _SOCKET_NAME)
        content = {
            "directory": self._identity(),
            "socket": None if near else record.socket_path,
            "dies_with_owner": record.dies_with_owner,
            "pid": record.pid,
        }
        self._write(self._record_file, json.dumps(content))

    def read_record(self) -> ServerRecord | None:
        """Return what `write_record` wrote, or None if there is nothing that belongs to this directory.

        The record may be stale. A copy of a directory has a copy of its record, which would lead to the
        server of the original and to another history: so the record names its directory by device and
        inode. The temp dir is everybody's: a socket there counts only in a directory private to this user.
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

    def forget_server(self) -> None:
        """Remove the record, the socket and the socket's directory of a server that is gone.

        What cannot be removed stays, and harms nobody: a stale record is one that nobody answers to.
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

    def start_log(self) -> int:
        """Make room in the log file (one old file is kept) and return the size it has now, in bytes."""
        with contextlib.suppress(FileNotFoundError):
            size = self.log_file.stat().st_size
            if size < _LOG_BYTES:
                return size
            self.log_file.replace(self.path / "valkey.log.1")
        return 0

    def log_tail(self, since: int) -> str:
        """Return the last lines that were logged after position `since`."""
        try:
            with self.log_file.open("rb") as log:
                end = log.seek(0, os.SEEK_END)
                log.seek(max(since, end - _TAIL_BYTES))
                lines = log.read().decode(errors="replace").splitlines()
        except FileNotFoundError:
            return "(nothing was logged)"
        return "\n".join(lines[-_TAIL_LINES:]) or "(nothing was logged)"

    def _identity(self) -> list[int]:
        facts = self.path.stat()
        return [facts.st_dev, facts.st_ino]

    def _write(self, path: Path, text: str) -> None:
        """Replace a file in one step: whoever reads it sees the old or the new content, never a part."""
        draft = path.with_name(path.name + ".new")
        draft.unlink(missing_ok=True)
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with open(descriptor, "w", encoding="ascii") as file:
            file.write(text)
        draft.replace(path)


def config_quoted(value: str) -> str:
    """Write a path as one quoted word of the server's settings, whatever bytes it has.

    Only plain characters stand for themselves: a line break or a quote could begin a setting of its own.
    """
    return '"' + "".join(_quoted_byte(byte) for byte in os.fsencode(value)) + '"'


def _quoted_byte(byte: int) -> str:
    character = chr(byte)
    return character if character.isascii() and (character.isalnum() or character in "/._-+ ") else f"\\x{byte:02x}"


def _fits(socket_path: str) -> bool:
    return len(os.fsencode(socket_path)) <= _SOCKET_PATH_BYTES


def _is_private(directory: str) -> bool:
    facts = os.lstat(directory)
    own = stat.S_ISDIR(facts.st_mode) and facts.st_uid == os.geteuid()
    return own and not stat.S_IMODE(facts.st_mode) & 0o077
