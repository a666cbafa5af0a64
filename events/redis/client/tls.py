"""Failures of TLS and of its files, and servers that speak TLS where none is expected, or none where it is."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from contextlib import closing
from typing import Any, Final, cast

import redis

from ...errors import InvalidMessage, Unavailable
from .sentinel import is_sentinel_pool

_PROBE_SECONDS: Final = 1.0
_CA_ADVICE: Final = (
    "the server's certificate is not signed by a CA that is known here: give the CA's file as ssl_ca_certs in the url"
)
_CERTIFICATES: Final = {
    2: _CA_ADVICE,
    18: _CA_ADVICE,
    19: _CA_ADVICE,
    20: _CA_ADVICE,
    21: _CA_ADVICE,
    9: "the server's certificate is not valid yet: compare the clocks",
    10: "the server's certificate has expired: renew it",
    62: "the server's certificate is for another host: connect by a name that stands in it",
    64: "the server's certificate is for another address: connect by a name or address that stands in it",
}
"""By OpenSSL's number of the failed check."""
_NO_TLS: Final = "what answers there does not speak TLS: use redis://, or the port that the server has for TLS"
_NO_CLIENT: Final = "the server wants a certificate of the client: give ssl_certfile and ssl_keyfile in the url"
_NO_COMMON: Final = "the server has no version or cipher of TLS in common with this program: change one of the two"
_REASONS: Final = {
    "HTTP_REQUEST": _NO_TLS,
    "RECORD_LAYER_FAILURE": _NO_TLS,
    "WRONG_VERSION_NUMBER": _NO_TLS,
    "SSLV3_ALERT_BAD_CERTIFICATE": _NO_CLIENT,
    "TLSV13_ALERT_CERTIFICATE_REQUIRED": _NO_CLIENT,
    "TLSV1_ALERT_UNKNOWN_CA": "the server does not accept the client's certificate: give one of a CA that it knows",
    "NO_CIPHERS_AVAILABLE": _NO_COMMON,
    "NO_PROTOCOLS_AVAILABLE": _NO_COMMON,
    "NO_SHARED_CIPHER": _NO_COMMON,
    "SSLV3_ALERT_HANDSHAKE_FAILURE": f"{_NO_COMMON}; or {_NO_CLIENT}",
    "TLSV1_ALERT_PROTOCOL_VERSION": _NO_COMMON,
    "UNSUPPORTED_PROTOCOL": _NO_COMMON,
}


def causes_of(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and those that it was raised from or in the handling of."""
    found: BaseException | None = error
    for _ in range(16):
        if found is None:
            return
        yield found
        found = found.__cause__ or found.__context__


def tls_problem(error: BaseException) -> str | None:
    """Return what is wrong with TLS, and what to do; None unless that is why, and trying again cannot help."""
    for cause in causes_of(error):
        if isinstance(cause, ssl.SSLCertVerificationError):
            return _CERTIFICATES.get(cause.verify_code, f"the server's certificate is refused: {cause.verify_message}")
        if isinstance(cause, ssl.SSLError) and cause.reason in _REASONS:
            return _REASONS[cause.reason]
    return None


def require_protocol(pool: redis.ConnectionPool) -> None:
    """Raise Unavailable if the server of a pool with TLS speaks plain RESP: its handshake would only time out.

    For the first connection. It opens up to two of its own, and waits at most 2 s.
    """
    if _uses_tls(pool) and not _answers_tls(pool) and _answers_ping(pool):
        raise Unavailable(f"look at the server: {_NO_TLS}", actual="WRONG_VERSION_NUMBER")


def check_tls_mismatch(pool: redis.ConnectionPool, error: Exception) -> None:
    """Raise Unavailable if a connection was closed because one side speaks TLS or wants a certificate."""
    is_closed = type(error) is redis.ConnectionError and not any(
        isinstance(cause, TimeoutError | ConnectionRefusedError) for cause in causes_of(error)
    )
    if is_closed and _uses_plain_tcp(pool) and _answers_tls(pool):
        raise Unavailable("look at the server: this port speaks TLS: use rediss://, or a port without") from None
    problem = _read_alert(pool) if is_closed and _uses_tls(pool) else None
    if problem is not None:
        raise Unavailable(f"look at the server: {problem}") from None


def check_tls_files(settings: dict[str, Any]) -> None:
    """Raise InvalidMessage for a file of a CA, certificate or key that cannot be used. Names the setting alone."""
    names = ("ssl_ca_certs", "ssl_ca_path", "ssl_certfile", "ssl_keyfile")
    ca_file, ca_path, certificate, key = (settings.get(name) for name in names)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    setting = "ssl_ca_certs"
    try:
        if ca_file is not None or ca_path is not None:
            context.load_verify_locations(ca_file, ca_path)
        setting = "ssl_certfile or ssl_keyfile"
        if certificate is not None:
            context.load_cert_chain(certificate, key, cast("Any", settings.get("ssl_password") or _no_password))
    except (OSError, ValueError, TypeError):
        raise InvalidMessage(
            f"{setting} cannot be used: give the path of a readable file in PEM format, the key that belongs to the "
            "certificate, and its password as ssl_password"
        ) from None


def _no_password() -> str:
    raise ValueError("the key has a password")  # OpenSSL would ask for it on the terminal


def _uses_tls(pool: redis.ConnectionPool) -> bool:
    return not is_sentinel_pool(pool) and issubclass(cast("type[Any]", pool.connection_class), redis.SSLConnection)


def _uses_plain_tcp(pool: redis.ConnectionPool) -> bool:
    plain = issubclass(cast("type[Any]", pool.connection_class), redis.Connection)
    return plain and not is_sentinel_pool(pool) and not _uses_tls(pool)


def _answers_tls(pool: redis.ConnectionPool) -> bool:
    try:
        with closing(_connect(pool)) as plain, closing(_unchecked_context().wrap_socket(plain)):
            return True
    except ssl.SSLError as error:
        return "ALERT" in (error.reason or "")  # only TLS answers with an alert
    except OSError:
        return False


def _read_alert(pool: redis.ConnectionPool) -> str | None:
    """Return why the server ends a connection after the handshake: TLS 1.3 checks the client's certificate then.

    A command that was sent meanwhile can make the alert unreadable, so none is sent here.
    """
    settings, context = pool.connection_kwargs, _unchecked_context()
    try:
        if settings.get("ssl_certfile"):
            context.load_cert_chain(settings["ssl_certfile"], settings.get("ssl_keyfile"), settings.get("ssl_password"))
        with closing(_connect(pool)) as plain, closing(context.wrap_socket(plain)) as encrypted:
            encrypted.recv(1)
    except OSError as error:
        return tls_problem(error)
    return None


def _answers_ping(pool: redis.ConnectionPool) -> bool:
    try:
        with closing(_connect(pool)) as plain:
            plain.sendall(b"PING\r\n")
            return plain.recv(1) in (b"+", b"-")
    except OSError:
        return False


def _unchecked_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # nothing is sent over it
    return context


def _connect(pool: redis.ConnectionPool) -> socket.socket:
    settings = pool.connection_kwargs
    return socket.create_connection((settings.get("host", "localhost"), settings.get("port", 6379)), _PROBE_SECONDS)
