"""Another host takes an agent over though its host lives: what happens to a host that was buried alive."""

from __future__ import annotations

from duramen.actors import AgentSystem


def give_up(system: AgentSystem, path: str) -> None:
    """Make an agent's tree nobody's, without a word to the host that has it in memory: whoever asks next claims it."""
    hosts = system._store.log.hosts
    hosts.release(path, hosts.owner(path)[0])


def bury_others(system: AgentSystem) -> None:
    """Declare the hosts of before dead: a server that has lost their end lists them, and their process, ours, lives."""
    for record in system.hosts():
        if record.host != system.host:
            system._store.log.hosts.bury(record.host, record.beat)
    system._hosted.hosting.membership.refresh()
