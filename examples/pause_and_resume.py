"""An agent that is killed in the middle of its work, and carries on: run this program twice.

    python examples/pause_and_resume.py FOLDER     works, keeps a checkpoint, works on, and is killed (exit status 137)
    python examples/pause_and_resume.py FOLDER     finds the agent as it was, goes back to the checkpoint, finishes

Without FOLDER it does both in a temporary one. The log is an embedded Valkey in FOLDER.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile

from duramen.actors import AgentSystem
from duramen.events import AgentNotFound

PATH = "acme/writer"


def first_run(system: AgentSystem) -> None:
    writer = system.spawn(PATH, session_id="draft-1", initial_state={"title": "Rings of a tree", "paragraphs": []})
    writer.append("paragraphs", "A tree grows a ring a year.")
    writer.pause("before lunch", reason="lunch")
    print("paused at 'before lunch'", flush=True)
    writer.resume("before lunch")
    receipt = writer.append("paragraphs", "This one will turn out to be wrong.")
    print(f"acknowledged seq {receipt.seq}, {receipt.durability}; now this process is killed", flush=True)
    os.kill(os.getpid(), signal.SIGKILL)


def second_run(system: AgentSystem) -> None:
    writer = system.agent(PATH)
    print(f"found {len(writer.get('paragraphs'))} paragraphs, status {writer.status().status}")
    for checkpoint in writer.checkpoints():
        print(f"checkpoint {checkpoint.checkpoint_id!r} at seq {checkpoint.seq}")
    result = writer.resume("before lunch").raise_for_failure()
    print(f"went back: {result.data['items_restored']} items, {len(writer.get('paragraphs'))} paragraph")
    writer.append("paragraphs", "The old rings are the heartwood.")
    # With a command id, asking again is safe: if the receipt got lost, this is not done twice.
    writer.set("finished", True, command_id="finish")
    again = writer.set("finished", True, command_id="finish")
    print(f"finished at seq {again.seq}")
    print(writer.terminate(task_description="Wrote about rings").message)
    print(f"the log has {sum(1 for _ in system.events(PATH))} events, the wrong paragraph among them")


def run(folder: str) -> None:
    with AgentSystem.open(data_dir=folder) as system:
        try:
            system.peek(PATH)
        except AgentNotFound:
            first_run(system)
        else:
            second_run(system)


def main() -> None:
    if len(sys.argv) > 1:
        run(sys.argv[1])
        return
    with tempfile.TemporaryDirectory() as folder:
        killed = subprocess.run([sys.executable, __file__, folder], check=False)
        assert killed.returncode == -signal.SIGKILL
        run(folder)


if __name__ == "__main__":
    main()
