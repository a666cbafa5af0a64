"""Work in a fresh process, where memory tells something."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from typing import Any

__all__ = ["ask_child"]

_SECONDS = 1_800.0


def ask_child(work: Callable[..., dict[str, float]], *arguments: Any) -> dict[str, float]:
    """What `work` returns in a new process."""
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=_run, args=(sender, work, arguments))
    child.start()
    sender.close()  # so that a child that dies ends the wait
    try:
        if not receiver.poll(_SECONDS):
            raise RuntimeError("the child process did not answer")
        try:
            found: dict[str, float] = receiver.recv()
        except EOFError:
            raise RuntimeError("the child process failed; see above") from None
        return found
    finally:
        receiver.close()
        child.join(10)
        child.kill()
        child.join()


def _run(sender: Any, work: Callable[..., dict[str, float]], arguments: tuple[Any, ...]) -> None:
    sender.send(work(*arguments))
    sender.close()
