"""The distribution for LangGraph's users names what duramen has, and asks for this version of it."""

from __future__ import annotations

import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest

from langgraph_distribution import write_project


def test_its_modules_name_the_saver_and_the_store(tmp_path: Path) -> None:
    import langgraph.checkpoint
    import langgraph.store

    from duramen.adapters.langgraph import DuramenSaver, DuramenStore

    project = write_project(tmp_path / "made")
    for name, package, ours in (
        ("checkpoint", langgraph.checkpoint, DuramenSaver),
        ("store", langgraph.store, DuramenStore),
    ):
        module = project / "langgraph" / name / "duramen" / "__init__.py"
        assert not (module.parents[1] / "__init__.py").exists()  # it lies beside what LangGraph has there
        assert package.__spec__ is not None
        assert package.__spec__.origin is None
        named: dict[str, object] = {}
        exec(module.read_text(), named)
        assert named[ours.__name__] is ours
        assert named["__all__"] == [ours.__name__]


@pytest.mark.slow
def test_it_asks_for_this_version(tmp_path: Path) -> None:
    project = tomllib.loads((write_project(tmp_path / "made") / "pyproject.toml").read_text())["project"]
    assert project["version"] == version("duramen")
    assert project["dependencies"] == [f"duramen[langgraph]=={version('duramen')}"]
