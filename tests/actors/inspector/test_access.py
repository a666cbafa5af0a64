"""Who is refused by the inspector: each test has the request that is answered beside the one that is not."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from duramen.actors import AgentSystem
from duramen.actors.inspector import InspectorServer
from duramen.events import DuramenError
from inspecting import Asker, inspecting

ADDRESSES = ("/", "/page/main.js", "/api/session", "/api/agents", "/api/live", "/api/nothing")


@pytest.fixture(scope="module")
def reading() -> Iterator[tuple[AgentSystem, Asker]]:
    with AgentSystem.open("memory://") as system, inspecting(system) as asker:
        yield system, asker


@pytest.fixture(scope="module")
def changing() -> Iterator[tuple[AgentSystem, Asker]]:
    with AgentSystem.open("memory://") as system, inspecting(system, allow_actions=True) as asker:
        yield system, asker


@pytest.fixture
def asker(reading: tuple[AgentSystem, Asker]) -> Asker:
    """Asks an inspector that only reads, the same for all tests here."""
    return reading[1]


@pytest.mark.parametrize("path", ADDRESSES)
def test_without_token_and_cookie_nothing_is_answered(asker: Asker, path: str) -> None:
    reply = asker.request("GET", path)
    assert (reply.status, b"printed" in reply.body) == (401, True)


def test_a_wrong_token_is_refused(asker: Asker) -> None:
    wrong = f"Bearer {asker.token[:-1]}{'a' if asker.token[-1] != 'a' else 'b'}"
    assert asker.request("GET", "/api/session", Authorization=wrong).status == 401
    assert asker.get("/api/session").status == 200


def test_the_token_counts_in_the_address_of_the_page_alone(asker: Asker) -> None:
    assert asker.request("GET", f"/?token={asker.token}").status == 200
    assert asker.request("GET", f"/api/session?token={asker.token}").status == 401


def test_the_token_is_exchanged_for_a_cookie_that_scripts_and_other_sites_cannot_use(asker: Asker) -> None:
    cookie = asker.request("GET", f"/?token={asker.token}").headers["set-cookie"]
    assert asker.token not in cookie
    assert {"httponly", "samesite=strict", "path=/"} <= {part.strip().lower() for part in cookie.split(";")}
    assert asker.request("GET", "/api/session", Cookie=cookie.partition(";")[0]).status == 200
    name = cookie.partition("=")[0]
    assert asker.request("GET", "/api/session", Cookie=f"{name}=guessed").status == 401


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:{port}", "127.0.0.1", "127.0.0.1:1", "10.0.0.1:{port}", ""]
)
def test_another_host_is_refused_even_with_the_token(asker: Asker, host: str) -> None:
    reply = asker.get("/api/session", Host=host.format(port=asker.server.port))
    assert reply.status in (400, 421)


@pytest.mark.parametrize("host", ["127.0.0.1:{port}", "localhost:{port}", "LOCALHOST:{port}"])
def test_the_names_of_this_machine_are_answered(asker: Asker, host: str) -> None:
    assert asker.get("/api/session", Host=host.format(port=asker.server.port)).status == 200


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "https://127.0.0.1:{port}", "http://127.0.0.1:1"])
def test_a_request_of_another_origin_is_refused(asker: Asker, origin: str) -> None:
    assert asker.get("/api/session", Origin=origin.format(port=asker.server.port)).status == 403
    assert asker.get("/api/session", Origin=f"http://{asker.host}").status == 200


@pytest.mark.parametrize("path", ["/api/session", "/api/live", "/page/main.js"])
@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_another_site_gets_nothing_of_the_page(asker: Asker, path: str, site: str) -> None:
    assert asker.get(path, Sec_Fetch_Site=site, Sec_Fetch_Mode="cors").status == 403


def test_a_link_elsewhere_opens_the_page_and_nothing_else(asker: Asker) -> None:
    assert asker.get("/", Sec_Fetch_Site="cross-site", Sec_Fetch_Mode="navigate").status == 200
    assert asker.get("/", Sec_Fetch_Site="cross-site", Sec_Fetch_Mode="no-cors").status == 403
    assert asker.get("/api/agents", Sec_Fetch_Site="cross-site", Sec_Fetch_Mode="navigate").status == 403


def test_actions_are_refused_unless_they_are_allowed(reading: tuple[AgentSystem, Asker]) -> None:
    system, asker = reading
    system.spawn("acme/alice")
    reply = asker.post("/api/actions/pause", {"agent": "acme/alice"})
    assert (reply.status, b"--allow-actions" in reply.body) == (403, True)
    assert system.agent("acme/alice").status().status == "running"


@pytest.mark.parametrize(
    ("header", "value", "code"),
    [
        ("X_Duramen_CSRF", "guessed", 403),
        ("X_Duramen_CSRF", "", 403),
        ("Origin", "http://evil.example", 403),
        ("Sec_Fetch_Site", "none", 403),
        ("Sec_Fetch_Site", "same-site", 403),
        ("Content_Type", "text/plain", 415),
        ("Content_Type", "application/x-www-form-urlencoded", 415),
        ("Authorization", "Bearer guessed", 401),
        ("Host", "evil.example", 421),
    ],
)
def test_an_action_needs_all_that_the_page_sends(
    changing: tuple[AgentSystem, Asker], header: str, value: str, code: int
) -> None:
    system, acting = changing
    path = f"acme/a{abs(hash((header, value)))}"
    system.spawn(path)
    assert acting.post("/api/actions/pause", {"agent": path}, **{header: value}).status == code
    assert system.agent(path).status().status == "running"
    assert acting.post("/api/actions/pause", {"agent": path}).status == 200
    assert system.agent(path).status().status == "paused"


def test_an_action_is_no_get_and_its_body_is_bounded(changing: tuple[AgentSystem, Asker]) -> None:
    system, acting = changing
    system.spawn("acme/alice")
    assert acting.get("/api/actions/pause").status == 405
    large = acting.post("/api/actions/pause", {"agent": "acme/alice", "more": "x" * 300_000})
    assert large.status == 413
    assert system.agent("acme/alice").status().status == "running"


@pytest.mark.parametrize("path", ["/", "/page/main.js", "/api/session", "/api/nothing", "/nothing"])
def test_every_answer_has_the_headers_of_security(asker: Asker, path: str) -> None:
    for reply in (asker.get(path), asker.request("GET", path)):
        policy = reply.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
        assert reply.headers["x-content-type-options"] == "nosniff"
        assert reply.headers["cache-control"] == "no-store"
        assert reply.headers["referrer-policy"] == "no-referrer"
        assert "access-control-allow-origin" not in reply.headers


def test_it_listens_on_this_machine_alone(asker: Asker) -> None:
    others = {info[4][0] for info in socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET)} - {"127.0.0.1"}
    for address in [*others, "127.0.0.2"]:
        with socket.socket() as other, pytest.raises(OSError):
            other.settimeout(1)
            other.connect((address, asker.server.port))


def test_a_port_that_is_taken_is_a_typed_error(reading: tuple[AgentSystem, Asker]) -> None:
    system, asker = reading
    with pytest.raises(DuramenError, match="--port"):
        InspectorServer(system, port=asker.server.port)


@pytest.mark.parametrize("path", ["/page/../server.py", "/page/%2e%2e%2fserver.py", "/page/__init__.py", "/page/"])
def test_no_other_file_is_given(asker: Asker, path: str) -> None:
    assert asker.get(path).status == 404
