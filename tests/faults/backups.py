"""Backups of a namespace, and servers that lose what came after them."""

from __future__ import annotations

from servers import Server


def copied(server: Server, namespace: str, *, logs_only: bool = False) -> dict[bytes, bytes]:
    """A backup of a namespace, as its owner would take one; without consumers, if logs only are asked for."""
    with server.client() as client:
        return {key: client.dump(key) for key in client.scan_iter(_keys(namespace, logs_only))}


def restored(server: Server, namespace: str, backup: dict[bytes, bytes], *, logs_only: bool = False) -> None:
    """In one step, as a server that was failed over looks to its clients."""
    with server.client() as client:
        pipeline = client.pipeline(transaction=True)
        for key in client.scan_iter(_keys(namespace, logs_only)):
            pipeline.delete(key)
        for key, value in backup.items():
            pipeline.restore(key, 0, value)
        pipeline.execute()


def _keys(namespace: str, logs_only: bool) -> str:
    return f"duramen:{{{namespace}:*" if logs_only else f"duramen:{{{namespace}*"
