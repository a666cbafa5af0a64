"""The inspector's web server, in a thread of its own, on the loopback interface only."""

from __future__ import annotations

import asyncio
import socket
import threading
from types import TracebackType
from typing import Final, Self

from duramen.events import DuramenError, NotInstalled

from ..api import AgentSystem

try:
    import uvicorn
except ImportError:
    raise NotInstalled("the inspector needs more packages: pip install 'duramen[inspect]'") from None

from .access import Access
from .agents import AgentList
from .application import make_application
from .endpoints import Inspected
from .history import LogIndexes
from .live import LiveView

_LOOPBACK: Final = "127.0.0.1"
_START_SECONDS: Final = 10.0
_CLOSE_SECONDS: Final = 5.0


class CannotListen(DuramenError):
    """The port is taken, or may not be used."""


class InspectorServer:
    """Serves the inspector of an open system until it is closed. Use it in a `with` block.

    It reads only, unless `allow_actions`. It listens on 127.0.0.1, on a free port if `port` is 0. Closing it does not
    close the system. Raises CannotListen.
    """

    def __init__(
        self, system: AgentSystem, *, port: int = 0, namespace: str = "default", allow_actions: bool = False
    ) -> None:
        self._socket = _listen(port)
        self._port: int = self._socket.getsockname()[1]
        self._access = Access(self._port, allow_actions=allow_actions)
        self._agents = AgentList(system)
        self._indexes = LogIndexes()
        self._live = LiveView(system, self._agents)
        self._inspected = Inspected(system, self._agents, self._indexes, self._live, namespace, allow_actions)
        self._started = threading.Event()
        self._server: uvicorn.Server | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ended: asyncio.Event | None = None
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="duramen-inspector", daemon=True)
        self._thread.start()
        self._started.wait(_START_SECONDS)

    @property
    def address(self) -> str:
        """Where it listens, without the token."""
        return f"http://{_LOOPBACK}:{self._port}/"

    @property
    def url(self) -> str:
        """The address to open, with the token: a secret."""
        return f"{self.address}?token={self._access.token}"

    @property
    def port(self) -> int:
        return self._port

    def close(self) -> None:
        """End all streams, and stop answering. Idempotent."""
        if self._closed:
            return
        self._closed = True
        loop, ended, server = self._loop, self._ended, self._server
        if loop is not None and ended is not None and server is not None:
            server.should_exit = True
            loop.call_soon_threadsafe(ended.set)
        self._thread.join(_CLOSE_SECONDS)
        self._live.close()
        self._indexes.close()
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        finally:
            self._started.set()

    async def _serve(self) -> None:
        self._loop, self._ended = asyncio.get_running_loop(), asyncio.Event()
        application = make_application(self._inspected, self._access, self._ended)

        config = uvicorn.Config(
            application,
            http="h11",
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=2,
            limit_concurrency=200,
        )
        self._server = uvicorn.Server(config)
        self._started.set()
        await self._server.serve(sockets=[self._socket])


def _listen(port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((_LOOPBACK, port))
        listener.listen(128)
    except (OSError, OverflowError) as error:
        listener.close()
        raise CannotListen(f"cannot listen on {_LOOPBACK} port {port}: {error}; choose another with --port") from None
    return listener
