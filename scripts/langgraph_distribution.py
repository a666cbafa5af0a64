"""Write the distribution `langgraph-checkpoint-duramen`, by which LangGraph's users find the saver, and build it.

python scripts/langgraph_distribution.py FOLDER

It has two modules, `langgraph.checkpoint.duramen` and `langgraph.store.duramen`, which name what is in
`duramen.adapters.langgraph`, and depends on this version of `duramen[langgraph]`. FOLDER gets the source distribution
and the wheel. `build` has to be installed, as it is in `.venv`; it fetches setuptools.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from configparser import ConfigParser
from pathlib import Path

from environment import ROOT, clean_environ

__all__ = ["write_project"]

MODULES = {
    "checkpoint": ("A LangGraph checkpointer on duramen.", "DuramenSaver"),
    "store": ("A LangGraph store on duramen.", "DuramenStore"),
}
PROJECT = """\
[build-system]
requires = ["setuptools>=77"]
build-backend = "setuptools.build_meta"

[project]
name = "langgraph-checkpoint-duramen"
version = "{version}"
description = "LangGraph checkpointer and store on duramen: Redis or Valkey without modules, or an embedded one"
readme = "README.md"
license = "Apache-2.0"
license-files = ["LICENSE"]
requires-python = "{python}"
dependencies = ["duramen[langgraph]=={version}"]

[tool.setuptools.packages.find]
namespaces = true
include = ["langgraph.*"]

[tool.setuptools.package-data]
"*" = ["py.typed"]
"""
README = """\
# langgraph-checkpoint-duramen

A LangGraph checkpointer and store on [duramen](https://pypi.org/project/duramen/): each thread is an agent, each step
one commit, on a plain Redis or Valkey without modules, or on an embedded one. This distribution installs
`duramen[langgraph]` and names what is in it.

```python
from duramen import AgentSystem
from langgraph.checkpoint.duramen import DuramenSaver

system = AgentSystem.open()
graph = builder.compile(checkpointer=DuramenSaver(system))
```
"""


def main() -> int:
    if len(sys.argv) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as folder:
        project = write_project(Path(folder) / "langgraph-checkpoint-duramen")
        line = [sys.executable, "-m", "build", "--outdir", str(Path(sys.argv[1]).resolve()), project]
        return subprocess.run(line, env=clean_environ(), check=False).returncode


def write_project(folder: Path) -> Path:
    """Write the sources of the distribution into a new folder. Returns the folder."""
    setup = ConfigParser()
    setup.read(ROOT / "setup.cfg")
    folder.mkdir(parents=True)
    project = PROJECT.format(version=setup["metadata"]["version"], python=setup["options"]["python_requires"])
    (folder / "pyproject.toml").write_text(project)
    (folder / "README.md").write_text(README)
    (folder / "LICENSE").write_bytes((ROOT / "LICENSE").read_bytes())
    for name, (says, what) in MODULES.items():
        module = folder / "langgraph" / name / "duramen"
        module.mkdir(parents=True)
        (module / "py.typed").touch()
        (module / "__init__.py").write_text(
            f'"""{says}"""\n\nfrom duramen.adapters.langgraph import {what}\n\n__all__ = ["{what}"]\n'
        )
    return folder


if __name__ == "__main__":
    sys.exit(main())
