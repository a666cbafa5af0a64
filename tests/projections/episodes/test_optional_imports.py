"""Vector search is imported from `duramen.projections.episodes`, which itself needs neither numpy nor usearch."""

from __future__ import annotations

import subprocess
import sys

import pytest

_PROGRAM = """
import sys
sys.modules["numpy"] = sys.modules["usearch"] = None
from duramen.projections.episodes import EpisodeIndex
print("imported")
from duramen.projections.episodes import {name}
"""


@pytest.mark.slow
def test_the_package_is_imported_without_numpy_and_usearch_and_only_vector_search_fails() -> None:
    for name in ("ExactVectors", "VectorIndex", "GraphVectors", "Embedding"):
        ran = subprocess.run([sys.executable, "-c", _PROGRAM.format(name=name)], capture_output=True, text=True)
        assert ran.stdout == "imported\n", ran.stderr
        assert "Error" in ran.stderr, name


def test_vector_search_is_imported_from_the_package() -> None:
    from duramen.projections import episodes

    assert {episodes.ExactVectors.__name__, episodes.VectorIndex.__name__} == {"ExactVectors", "VectorIndex"}
    assert episodes.GraphVectors.__name__ == "GraphVectors"
    with pytest.raises(AttributeError):
        episodes.__getattr__("graph_vector")
