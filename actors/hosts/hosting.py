"""Where agents live: which of them this host may have, and which host has the others."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from hashlib import blake2b
from typing import Literal

from duramen.events import NoHost
from duramen.events.log import HostStore, Owner
from duramen.events.model import root_of

from .membership import PROTOCOL, Membership
from .router import Router
from .trees import Trees

Placement = Literal["local", "spread"]


class Hosting:
    """The place of each agent. Thread-safe; only `trees` and `router` belong to the core."""

    def __init__(
        self,
        store: HostStore,
        membership: Membership,
        router: Router,
        trees: Trees,
        *,
        agent_types: Collection[str],
        is_client: bool,
        placement: Placement,
    ) -> None:
        """`agent_types` are the types registered here, also later; a client has no agents."""
        self.store = store
        self.membership = membership
        self.router = router
        self.trees = trees
        self._agent_types = agent_types
        self._is_client = is_client
        self._placement = placement

    @property
    def is_client(self) -> bool:
        """Whether no agent lives here."""
        return self._is_client

    @property
    def spreads(self) -> bool:
        """Whether the trees here are placed by their paths, and move to a host that joins."""
        return self._placement == "spread" and not self._is_client and not self.membership.is_draining

    @property
    def is_local(self) -> bool:
        """Whether an agent that no host owns is placed on the host where it is asked for."""
        return self._placement == "local" and not self._is_client and not self.membership.is_draining

    def choose_host(self, path: str, owner: Owner, needed_type: str | None, *, was_forwarded: bool) -> str:
        """The host that has an agent, or is to have it. Blocks. Raises NoHost, also if that one is of another protocol.

        `needed_type` is the agent type whose class is needed, if one is. A message of another host is not sent on:
        where it finds no owner it is handled here, if that can be. A draining host takes what no other host can have.
        """
        here = self.membership.host
        if owner.host == here:
            return here
        if owner.host and self.membership.state_of(owner.host) != "dead":
            self._require_protocol(owner.host, path)
            return owner.host
        has_class = not self._is_client and (needed_type is None or needed_type in self._agent_types)
        can_be_here = has_class and not self.membership.is_draining
        if can_be_here and (was_forwarded or self._placement == "local"):
            return here
        candidates = [host for host in self._candidates(needed_type) if host != here]
        if not candidates and not can_be_here:
            self.membership.refresh()
            candidates = self._candidates(needed_type)
        if can_be_here or (has_class and not candidates):
            candidates.append(here)
        if not candidates:
            what = "agents" if needed_type is None else f"agents of type {needed_type!r}"
            raise NoHost(f"no host that is up takes {what}; start one, such as `duramen serve`", agent=path)
        return place(root_of(path), candidates)

    def has_class_elsewhere(self, agent_type: str | None) -> bool:
        """Whether a class of this type is registered on another host, but not here; as last seen, without asking."""
        if agent_type is None or agent_type in self._agent_types:
            return False
        return any(agent_type in record.agent_types for record in self.membership.peers())

    def _require_protocol(self, host: str, path: str) -> None:
        """Refuse what a host of another release would drop: it is not begun, and nobody would answer."""
        protocol = self.membership.protocol_of(host)
        if protocol != PROTOCOL:
            raise NoHost(
                f"the host that has this agent speaks version {protocol} of the protocol between hosts, this process "
                f"version {PROTOCOL}; run the same release in all processes, or end that host first",
                agent=path,
                expected=PROTOCOL,
                actual=protocol,
            )

    def _candidates(self, needed_type: str | None) -> list[str]:
        return [
            record.host
            for record in self.membership.peers()
            if record.state == "up" and (needed_type is None or needed_type in record.agent_types)
        ]


def place(root: str, hosts: Iterable[str]) -> str:
    """The host of a tree, by rendezvous hashing: each tree orders the hosts in its own way.

    So a host that comes takes its share from all others, one that goes leaves it to all others, and nothing else moves.
    """
    return max(hosts, key=lambda host: weight(root, host))


def is_better(root: str, host: str, other: str) -> bool:
    """Whether a tree prefers `host` to the other one."""
    return weight(root, host) > weight(root, other)


def weight(root: str, host: str) -> bytes:
    """The rank of a host for a tree; the greatest is first."""
    return blake2b(f"{host}/{root}".encode(), digest_size=8).digest()
