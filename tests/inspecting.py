"""Asks a running inspector as a program or as a browser would, over a socket of its own."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from attrs import frozen

from duramen.actors import AgentSystem
from duramen.actors.inspector import InspectorServer

_SECONDS = 60.0


@frozen
class Reply:
    """An answer in full."""

    status: int
    headers: dict[str, str]
    """Names in lower case."""
    body: bytes

    @property
    def data(self) -> Any:
        return json.loads(self.body)


@frozen
class Asker:
    """Asks one inspector, with its token unless told otherwise."""

    server: InspectorServer

    @property
    def token(self) -> str:
        return self.server.url.partition("token=")[2]

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.server.port}"

    def request(self, method: str, path: str, body: bytes | None = None, **headers: str) -> Reply:
        """Send exactly these headers, and `Host` unless it is among them; `_` in a name stands for `-`."""
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=_SECONDS)
        try:
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.putrequest(method, path, skip_host="Host" in named, skip_accept_encoding=True)
            for name, value in named.items():
                connection.putheader(name, value)
            if body is not None and "Content-Length" not in named:
                connection.putheader("Content-Length", str(len(body)))
            connection.endheaders(body)
            answer = connection.getresponse()
            found = {name.lower(): value for name, value in answer.getheaders()}
            return Reply(answer.status, found, answer.read())
        finally:
            connection.close()

    def get(self, path: str, **headers: str) -> Reply:
        return self.request("GET", path, Authorization=f"Bearer {self.token}", **headers)

    def ask(self, path: str) -> Any:
        """The data of an answer that is there."""
        reply = self.get(path)
        assert reply.status == 200, reply
        return reply.data

    def post(self, path: str, fields: Any, **headers: str) -> Reply:
        """As the page does it; headers that are given replace its own."""
        sent = {
            "Authorization": f"Bearer {self.token}",
            "Content_Type": "application/json",
            "X_Duramen_CSRF": self.ask("/api/session")["csrf"],
            "Origin": f"http://{self.host}",
            "Sec_Fetch_Site": "same-origin",
            **headers,
        }
        return self.request("POST", path, json.dumps(fields).encode(), **sent)


@contextmanager
def inspecting(system: AgentSystem, *, allow_actions: bool = False) -> Iterator[Asker]:
    with InspectorServer(system, allow_actions=allow_actions) as server:
        yield Asker(server)


@contextmanager
def live_messages(asker: Asker, last_id: str | None = None) -> Iterator[Iterator[tuple[str, str | None, Any]]]:
    """Kind, id and data of the server-sent events from now on, or after an id, without the beats between."""
    connection = http.client.HTTPConnection("127.0.0.1", asker.server.port, timeout=_SECONDS)
    headers = {"Authorization": f"Bearer {asker.token}"}
    if last_id is not None:
        headers["Last-Event-ID"] = last_id
    connection.request("GET", "/api/live", headers=headers)
    answer = connection.getresponse()
    assert answer.status == 200
    try:
        yield _parse(answer)
    finally:
        connection.close()


def _parse(answer: http.client.HTTPResponse) -> Iterator[tuple[str, str | None, Any]]:
    fields: dict[str, str] = {}
    while line := answer.readline().decode():
        if line != "\n":
            name, _, value = line.rstrip("\n").partition(": ")
            fields[name] = value
        elif fields:
            if fields["event"] != "beat":
                yield fields["event"], fields.get("id"), json.loads(fields["data"])
            fields = {}
