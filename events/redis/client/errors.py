"""Translates errors of the server and of redis-py into typed errors: the only place that does."""

from __future__ import annotations

import re
import socket
from enum import Enum
from random import SystemRandom
from typing import Any, Final

import redis
from redis import exceptions as theirs
from redis.sentinel import MasterNotFoundError

from ...errors import DuramenError, InvalidMessage, NotPermitted, OutcomeUnknown, Unavailable, UnsafeServer
from .tls import causes_of, tls_problem


class Retry(Enum):
    """Whether a command may be sent again after an error."""

    SAFE = "safe"
    """The command did not run and the cause passes by itself: send the same bytes again."""
    AMBIGUOUS = "ambiguous"
    """The command may have run: send the same bytes again, never new ones."""
    FATAL = "fatal"
    """The command did not run and will not until something is changed."""


_random: Final = SystemRandom()
_FIRST_PAUSE: Final = 0.02
_LONGEST_PAUSE: Final = 0.5


def retry_pause(failures: int) -> float:
    """Return the seconds to wait after so many failures in a row: 20 ms at first, then twice as long, up to 0.5 s.

    Half of it is random, so that processes which have lost a server together do not come back to it together.
    """
    longest: float = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2.0 ** min(max(failures - 1, 0), 8))
    return longest * (1 + _random.random()) / 2


_ADVICE: Final = {
    "LOADING": "the server is loading its data; it passes by itself",
    "BUSY": "the server is busy with a script; it passes by itself",
    "TRYAGAIN": "the slot is being moved; it passes by itself",
    "CLUSTERDOWN": "the cluster has no owner for the slot; it passes when the failover ends",
    "MASTERDOWN": "the replica has lost its primary; it passes when the link is back",
    "NOSCRIPT": "the server has forgotten the script; it is loaded again",
    "MOVED": "the slot has moved to another node; the client follows",
    "ASK": "the slot is being moved; the client follows",
    "OOM": "the server is out of memory: raise maxmemory or remove data; nothing was written",
    "MISCONF": "the server cannot write to its disk: free space or repair it; nothing was written",
    "NOREPLICAS": "too few replicas are connected; bring them back or lower min-replicas-to-write",
    "READONLY": "this server is a replica: connect to the primary",
    "NOAUTH": "the server wants a password: put it into the url",
    "WRONGPASS": "user name or password is wrong; in a url, write % / ? # @ [ ] of a password percent-encoded",
    "NOPASS": "a password was given, but the server has none for this user: leave it out",
    "NODATABASE": "the server has no database of this number: give a lower one, or raise `databases` in its settings",
    "NOCOMMAND": "the server lacks a command that is needed: it is disabled or renamed, or the server is too old",
    "INCLUSTER": "this server is a node of a cluster: write redis+cluster://, without a database",
    "NOCLUSTER": "this server is no node of a cluster: write redis://",
    "NOPERM": "this user lacks a permission: `duramen doctor` lists those that are needed",
    "WRONGTYPE": "a key of this namespace holds something else: use another namespace",
}
# Error replies with the code ERR.
_TEXTS: Final = {
    "ACL failure in script": "NOPERM",  # Valkey
    "The user executing the script can't": "NOPERM",  # Redis 7.0
    "Protocol error: unauthenticated": "NOAUTH",  # to a command of more than 10 arguments or 16 KiB
    "AUTH <password> called without any password": "NOPASS",
    "DB index is out of range": "NODATABASE",
    "invalid DB index": "NODATABASE",
    "SELECT is not allowed in cluster mode": "INCLUSTER",
    "This instance has cluster support disabled": "NOCLUSTER",
    "unknown command": "NOCOMMAND",
    "Unknown subcommand": "NOCOMMAND",
    "unknown subcommand": "NOCOMMAND",
}
_NAME: Final = re.compile(r"unknown command [`'\"]?([A-Za-z_]{1,20})['`\"]?(?![A-Za-z_])")
_PASSING: Final = frozenset(("LOADING", "BUSY", "TRYAGAIN", "CLUSTERDOWN", "MASTERDOWN", "NOSCRIPT", "MOVED", "ASK"))
_OUR_CODES: Final = frozenset(("NOPASS", "NODATABASE", "NOCOMMAND", "INCLUSTER", "NOCLUSTER"))
"""The codes that are not the server's, but ours, for replies with the code ERR."""
_KINDS: Final[dict[str, type[DuramenError]]] = {
    "NOAUTH": NotPermitted,
    "WRONGPASS": NotPermitted,
    "NOPASS": NotPermitted,
    "NOPERM": NotPermitted,
    "NOCOMMAND": NotPermitted,
    "NODATABASE": InvalidMessage,
    "INCLUSTER": UnsafeServer,
    "NOCLUSTER": InvalidMessage,
    "WRONGTYPE": UnsafeServer,
}
"""The class of each error that is not Unavailable."""


def _error_code(error: Exception) -> str:
    """Return the server's error code. redis-py strips it from the text of errors it has classes for."""
    code = getattr(error, "status_code", None)  # since redis-py 7; NOAUTH and WRONGPASS share a class
    if code in _ADVICE:
        return str(code)
    known: dict[type[Any], str] = {
        theirs.BusyLoadingError: "LOADING",
        theirs.NoScriptError: "NOSCRIPT",
        theirs.ReadOnlyError: "READONLY",
        theirs.OutOfMemoryError: "OOM",
        theirs.NoPermissionError: "NOPERM",
        theirs.AuthenticationError: "WRONGPASS",
        theirs.AuthenticationWrongNumberOfArgsError: "WRONGPASS",
        theirs.TryAgainError: "TRYAGAIN",
        theirs.ClusterDownError: "CLUSTERDOWN",
        theirs.MasterDownError: "MASTERDOWN",
        theirs.MovedError: "MOVED",
        theirs.AskError: "ASK",
    }
    text = str(error)
    for beginning, meant in _TEXTS.items():
        if text.removeprefix("ERR ").startswith(beginning):
            return meant
    for cls in type(error).__mro__:
        if cls in known:
            return known[cls]
    first = text.split(" ", 1)[0]
    if first in _ADVICE:
        return first
    # Inside a script the code can stand after "ERR Error running script …: ".
    return next((code for code in _ADVICE if f" {code} " in text or f"-{code} " in text), "ERR")


def classify_error(error: Exception) -> Retry:
    """Return whether the command may be sent again after this error of redis-py."""
    # LOADING is a ConnectionError to redis-py, but the server has answered: nothing ran.
    code = _error_code(error)
    if code in _PASSING:
        return Retry.SAFE
    if code in _ADVICE or _lasting_problem(error) is not None:
        return Retry.FATAL
    if isinstance(error, (redis.ConnectionError, redis.TimeoutError, OSError)):
        return Retry.AMBIGUOUS
    # redis-py's cluster client gives up on a slot that moves with this text; the command may have run before.
    return Retry.AMBIGUOUS if "TTL exhausted" in str(error) else Retry.FATAL


def translate_error(error: Exception, doing: str, *, wrote: bool = False) -> DuramenError:
    """Return our error for one of redis-py's, without its text: redis-py quotes arguments, and so payloads, in it.

    `wrote` says that the command may have changed something, so that a lost reply is an unknown outcome.
    """
    code, lasting = _error_code(error), _lasting_problem(error)
    advice = lasting or _advice_for(code, error)
    if advice is not None:
        actual = type(error).__name__ if lasting else code
        if wrote:
            # An earlier try of the same bytes may have come through before the server began to refuse them.
            message = f"{doing}: no answer at first, then {advice}; ask again with the same command id"
            return OutcomeUnknown(message, actual=actual)
        return _KINDS.get(code, Unavailable)(f"{doing}: {advice}", actual=actual)
    if classify_error(error) is Retry.AMBIGUOUS:
        what = _connection_problem(error)
        if wrote:
            return OutcomeUnknown(f"{doing}: {what}; ask again with the same command id", actual=type(error).__name__)
        return Unavailable(f"{doing}: {what}; check that the server runs and try again", actual=type(error).__name__)
    problem = f"{doing}: the server answered with an error ({type(error).__name__})"
    if wrote:
        return OutcomeUnknown(f"{problem}; ask again with the same command id", actual=code)
    return Unavailable(problem, actual=code)


def _advice_for(code: str, error: Exception) -> str | None:
    name = _NAME.search(str(error)) if code == "NOCOMMAND" else None
    if code in _OUR_CODES:
        return f"{_ADVICE[code]} ({name[1].upper()})" if name else _ADVICE[code]
    return f"{code}: {_ADVICE[code]}" if code in _ADVICE else None


def _lasting_problem(error: Exception) -> str | None:
    """Return why no connection can be made, and what to do; None if trying again may help."""
    if isinstance(error, redis.InvalidResponse):
        return "what answers there is no Redis or Valkey server: check host and port"
    for cause in causes_of(error):
        if isinstance(cause, PermissionError):
            return "this user may not use the server's socket: change its mode or owner (unixsocketperm)"
        if isinstance(cause, OSError) and str(cause) == "AF_UNIX path too long":
            return "the path of the socket is too long: use one of at most 103 bytes"
    return tls_problem(error)


def _connection_problem(error: Exception) -> str:
    """Return what became of a connection, as far as is known."""
    for cause in causes_of(error):
        if isinstance(cause, (redis.TimeoutError, TimeoutError)):
            return "no answer in time"
        if isinstance(cause, MasterNotFoundError):
            return "no sentinel answers and names a primary that is up"
        if isinstance(cause, socket.gaierror):
            return "the host's name is not known"
        if isinstance(cause, ConnectionRefusedError):
            return "connection refused: nothing listens there"
        if isinstance(cause, FileNotFoundError):
            return "there is no socket at this path"
        if "max number of clients reached" in str(cause):
            return "the server has no connection left (maxclients)"
    return "connection lost or refused"
