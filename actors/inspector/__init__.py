"""The inspector: a page in the browser that shows agents, their past and what they do now. Reads only, unless allowed.

Needs `pip install 'duramen[inspect]'`.
"""

from __future__ import annotations

from .server import InspectorServer
from .static import write_static_page

__all__ = ["InspectorServer", "write_static_page"]
