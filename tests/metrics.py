"""Reading a page in Prometheus' text format, strictly."""

from __future__ import annotations

import re
from collections.abc import Iterator

__all__ = ["parse_metrics"]

_SAMPLE = re.compile(r'([a-z_]+)(\{[a-z]+="[^"\\\n]*"\})? ([0-9.e+-]+)')


def parse_metrics(page: str) -> Iterator[tuple[str, float]]:
    """Each value with its name and label; `AssertionError` for what Prometheus would refuse or misread."""
    assert page.endswith("\n")
    name = kind = ""
    seen: set[str] = set()
    for line in page.splitlines():
        if line.startswith("# HELP "):
            name, kind = line.split(" ")[2], ""
            assert name not in seen, f"{name} comes twice"
            seen.add(name)
        elif line.startswith("# TYPE "):
            assert line.split(" ")[2] == name
            kind = line.split(" ")[3]
            assert (kind == "counter") == name.endswith("_total")
        else:
            found = _SAMPLE.fullmatch(line)
            assert found is not None, line
            assert kind
            assert found[1] in (
                [f"{name}{end}" for end in ("_bucket", "_sum", "_count")] if kind == "histogram" else [name]
            )
            yield found[1] + (found[2] or ""), float(found[3])
