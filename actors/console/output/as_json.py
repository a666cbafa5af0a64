"""Plain data as JSON."""

from __future__ import annotations

import json
import math
from base64 import b64encode
from collections.abc import Mapping
from datetime import datetime
from enum import Enum
from typing import Any, cast

from duramen.events import Content, Granularity


def to_jsonable(value: Any) -> Any:
    """The value in types that JSON has.

    Datetimes become ISO 8601, granularities their name in lower case, bytes `{"$bytes": base64}`, NaN and the
    infinities `{"$float": name}`, content kept beside the log `{"$content": …}` with its digest and size.
    """
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, bytes):
        return {"$bytes": b64encode(value).decode()}
    if isinstance(value, Content):
        return {"$content": {"digest": value.digest.hex(), "size": value.size, "text": value.is_text}}
    if isinstance(value, Granularity):
        return value.name.lower()
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, float) and not math.isfinite(value):
        return {"$float": str(value)}
    if isinstance(value, Mapping):
        pairs = cast("Mapping[Any, Any]", value).items()
        return {str(key): to_jsonable(held) for key, held in pairs}
    if isinstance(value, (list, tuple)):
        return [to_jsonable(held) for held in cast("list[Any]", value)]
    return value


def to_json(value: Any, *, indent: int | None = None, for_people: bool = False) -> str:
    """JSON text, in ASCII unless it is for people to read."""
    return json.dumps(to_jsonable(value), indent=indent, ensure_ascii=not for_people, allow_nan=False)
