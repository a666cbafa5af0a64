"""Who may ask the inspector what: this machine, with the token, from the inspector's own page."""

from __future__ import annotations

import secrets
from hmac import compare_digest
from http.cookies import CookieError, SimpleCookie
from typing import Final
from urllib.parse import parse_qs

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_CSRF_HEADER: Final = "x-duramen-csrf"
_MOST_BODY: Final = 256 * 1024
_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
)
HEADERS: Final = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Cache-Control": "no-store",
}
"""On every answer."""


class Access:
    """The secrets of one inspector, and the check of every request. None of them is logged or stored."""

    def __init__(self, port: int, *, allow_actions: bool) -> None:
        self.token = secrets.token_urlsafe(32)
        """In the address that is printed, or in the header `Authorization: Bearer …`."""
        self.csrf = secrets.token_urlsafe(32)
        """Asked of everything that changes something."""
        self.allow_actions = allow_actions
        self._session = secrets.token_urlsafe(32)
        self._cookie = f"duramen-inspector-{port}"
        self._hosts = frozenset(f"{name}:{port}" for name in ("127.0.0.1", "localhost", "[::1]"))

    def refuse(self, scope: Scope) -> Response | None:
        """The answer to a request that may not be; None to one that may."""
        headers = Headers(scope=scope)
        if headers.getlist("host") != [headers.get("host", "")] or headers.get("host", "").lower() not in self._hosts:
            return _refusal(421, "this address is not the inspector's: ask 127.0.0.1 with the port that was printed")
        is_change = scope["method"] not in ("GET", "HEAD")
        if not self._is_own_page(scope, headers, is_change=is_change):
            return _refusal(403, "another site has sent this request")
        if not (self.has_session(headers) or self.has_token(scope, headers)):
            return _refusal(401, "open the address that `duramen inspect` has printed, with its token")
        if not is_change:
            return None
        if not self.allow_actions:
            return _refusal(403, "this inspector only reads: start it with --allow-actions")
        if not compare_digest(headers.get(_CSRF_HEADER, "").encode(), self.csrf.encode()):
            return _refusal(403, "the request has not the page's own token")
        if headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            return _refusal(415, "actions are sent as application/json")
        length = headers.get("content-length", "")
        if not length.isdecimal() or int(length) > _MOST_BODY:
            return _refusal(413, f"a body has a length, of at most {_MOST_BODY} bytes")
        return None

    def _is_own_page(self, scope: Scope, headers: Headers, *, is_change: bool) -> bool:
        """Whether a browser says that the request comes from this page, or that a person has typed the address.

        Other programs send neither header, and then need the token alone.
        """
        site, origin = headers.get("sec-fetch-site"), headers.get("origin")
        own = f"http://{headers.get('host', '').lower()}"
        if origin is not None and origin.lower() != own:
            return False
        if is_change and site is not None and site != "same-origin":
            return False
        # A link elsewhere may open the page itself, which shows nothing without the token or the cookie.
        is_opening = scope["path"] == "/" and headers.get("sec-fetch-mode") == "navigate"
        return site in (None, "same-origin", "none") or is_opening

    def has_session(self, headers: Headers) -> bool:
        """Whether the cookie is there that the page got for the token."""
        try:
            found = SimpleCookie(headers.get("cookie", "")).get(self._cookie)
        except CookieError:
            return False
        return found is not None and compare_digest(found.value.encode(), self._session.encode())

    def has_token(self, scope: Scope, headers: Headers) -> bool:
        """Whether the token is there: in the header, or in the address of the page itself."""
        given = headers.get("authorization", "").removeprefix("Bearer ")
        if not given and scope["path"] == "/":
            given = parse_qs(scope["query_string"].decode("latin-1")).get("token", [""])[0]
        return compare_digest(given.encode(), self.token.encode())

    def start_session(self, response: Response) -> None:
        """Give the page its cookie."""
        response.set_cookie(self._cookie, self._session, httponly=True, samesite="strict", path="/")


class AccessMiddleware:
    """Checks every request, and puts the headers of security on every answer."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app = app
        self._access = access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return  # no web sockets here

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
            await send(message)

        refused = self._access.refuse(scope)
        await (self._app if refused is None else refused)(scope, receive, send_with_headers)


def _refusal(code: int, sentence: str) -> Response:
    return PlainTextResponse(f"duramen: {sentence}\n", code)
