"""The inspector: a page in the browser that shows agents, their past and what they do now. Reads only, unless allowed.

Needs `pip install 'duramen[inspect]'`.
"""

from __future__ import annotations

from .server import InspectorServer

__all__ = ["InspectorServer"]
