"""Opening the store that the options name."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path

from duramen.events.embedded import DataDirectory

from ..api import AgentSystem
from ..handlers import AgentFactory
from ..hosts import Placement
from .arguments import Options
from .errors import NoStore


@contextmanager
def opened(
    options: Options, *, create: bool = False, agents: Mapping[str, AgentFactory] | None = None, host: bool = True
) -> Generator[AgentSystem]:
    """Open the system, and close it. Without `host` no agent lives in it.

    Raises NoStore if there is no embedded store yet, unless `create` asks for one.
    """
    if not create:
        require_store(options)
    with open_system(options, agents, host=host) as system:
        yield system


def open_system(
    options: Options,
    agents: Mapping[str, AgentFactory] | None = None,
    *,
    placement: Placement = "local",
    host: bool = True,
) -> AgentSystem:
    """Open the system, for the caller to close. It makes the embedded store if there is none."""
    return AgentSystem.open(
        options.url,
        data_dir=options.data_dir if options.url is None else None,
        namespace=options.namespace,
        insecure=options.insecure,
        allow_eviction=options.allow_eviction,
        agents=agents,
        placement=placement,
        host=host,
    )


def require_store(options: Options) -> None:
    """Raise NoStore if the options name an embedded store that was never made."""
    if options.url is None and not DataDirectory(Path(options.data_dir)).owner_lock.exists():
        raise NoStore(
            f"there is no store in {options.data_dir}: `duramen run`, `spawn` and `serve` make one, --data-dir names "
            "another, --url a server"
        )
