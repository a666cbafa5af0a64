"""Agent paths and property paths: the names of agents and of the values inside their state."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any, cast, final
from unicodedata import is_normalized
from uuid import UUID

from attrs import Factory, field, frozen

from ..errors import InvalidPath
from .values import describe_type, printable

# Part of the stored format, not of `Limits`: every process must read a path that one process could write.
MAX_PATH_BYTES = 1024
MAX_PATH_SEGMENTS = 32
MAX_SEGMENT_CHARACTERS = 128

_CACHED = 8192
_INDEX_MAX = 2**63 - 1

_AGENT_SEGMENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_AGENT_RULE = (
    "use a project and one or more names, joined by '/', each a UUID or 1 to 128 of A-Z a-z 0-9 . _ - "
    "that begins with a letter or digit"
)
_PROPERTY_RULE = (
    "use 1 to 128 characters in Unicode form NFC, without control or bidi characters, and not '.', '..', '*' or '**'"
)
# C0, DEL and C1; the bidi controls, which make a name look like another one; surrogates.
_FORBIDDEN = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_BAD_ESCAPE = re.compile("~(?![01])")


def _text_of(value: Any, what: str) -> str:
    """Return exactly a str, for a subclass (such as a `StrEnum`) its characters."""
    if type(value) is str:
        return value
    if issubclass(type(value), str):
        return str.__str__(value)
    raise InvalidPath(f"{what} is of type {describe_type(value)}; use a str")


def _texts_of(segments: object, what: str) -> tuple[str, ...]:
    if not isinstance(segments, tuple):
        raise InvalidPath(f"{what} is made of type {describe_type(segments)}; use a tuple of str, or `parse`")
    parts = cast("tuple[object, ...]", segments)
    _check_count(len(parts), what)
    return tuple(_text_of(part, f"{what}: segment {position}") for position, part in enumerate(parts, 1))


def _check_count(count: int, what: str) -> None:
    if count > MAX_PATH_SEGMENTS:
        raise InvalidPath(
            f"{what} has {count} segments; use at most {MAX_PATH_SEGMENTS}",
            expected=MAX_PATH_SEGMENTS,
            actual=count,
        )


def _check_size(text: str, what: str) -> None:
    # A text has at least as many bytes as characters, so a huge text is refused without encoding it.
    size = len(text)
    if size <= MAX_PATH_BYTES and not text.isascii():
        size = len(text.encode(errors="surrogatepass"))
    if size > MAX_PATH_BYTES:
        raise InvalidPath(
            f"{what} is longer than {MAX_PATH_BYTES} bytes; use shorter or fewer segments",
            expected=MAX_PATH_BYTES,
            actual=size,
        )


def split_text(text: object, what: str) -> tuple[str, ...]:
    """Split a text at "/" and undo the escapes. Checks the bounds of the whole, not the segments.

    `what` names the text in messages. The empty text has no segments. Raises `InvalidPath`.
    """
    exact = _text_of(text, what)
    _check_size(exact, what)
    if not exact:
        return ()
    _check_count(exact.count("/") + 1, what)
    parts = exact.split("/")
    if "~" not in exact:
        return tuple(parts)
    for position, part in enumerate(parts, 1):
        if _BAD_ESCAPE.search(part):
            raise InvalidPath(
                f"{what}: segment {position} '{printable(part)}' has a '~' that escapes nothing; "
                "write '~0' for '~' and '~1' for '/'"
            )
    return tuple(part.replace("~1", "/").replace("~0", "~") for part in parts)


def join_text(segments: tuple[str, ...]) -> str:
    """Join segments with "/", escaped as in RFC 6901: the inverse of `split_text`. Checks nothing."""
    text = "/".join(segments)
    if "~" not in text and text.count("/") < len(segments):
        return text
    return "/".join([segment.replace("~", "~0").replace("/", "~1") for segment in segments])


def check_segments(segments: object, what: str, wildcards: frozenset[str] = frozenset()) -> tuple[str, ...]:
    """Return the segments as exact strs. Raises `InvalidPath` if a property path cannot have them.

    `what` names the path in messages; `wildcards` are accepted as segments too.
    """
    checked = _texts_of(segments, what)
    for position, text in enumerate(checked, 1):
        problem = None if text in wildcards else _problem_of(text)
        if problem is not None:
            raise InvalidPath(f"{what}: segment {position} '{printable(text)}' {problem}; {_PROPERTY_RULE}")
    _check_size(join_text(checked), what)
    return checked


def _problem_of(segment: str) -> str | None:
    if not segment:
        return "is empty (a path neither begins nor ends with '/')"
    if len(segment) > MAX_SEGMENT_CHARACTERS:
        return f"is longer than {MAX_SEGMENT_CHARACTERS} characters"
    if segment in {".", "..", "*", "**"}:
        return "has another meaning and is no name"
    bad = _FORBIDDEN.search(segment)
    if bad is not None:
        return f"has the character U+{ord(bad.group()):04X}"
    if not is_normalized("NFC", segment):
        return "is not in Unicode form NFC"
    return None


def _agent_segments(segments: tuple[str, ...]) -> tuple[str, ...]:
    what = "agent path"
    checked = _texts_of(segments, what)
    for position, segment in enumerate(checked, 1):
        if _AGENT_SEGMENT.fullmatch(segment) is None:
            raise InvalidPath(f"{what}: segment {position} '{printable(segment)}' is not a name; {_AGENT_RULE}")
    if len(checked) < 2:
        raise InvalidPath(f"{what} '{printable('/'.join(checked))}' has fewer than two segments; {_AGENT_RULE}")
    _check_size("/".join(checked), what)
    return checked


def _property_segments(segments: tuple[str, ...]) -> tuple[str, ...]:
    return check_segments(segments, "property path")


def _agent_text(path: AgentPath) -> str:
    return "/".join(path.segments)


def _property_text(path: PropertyPath) -> str:
    return join_text(path.segments)


def _name_of_id(value: str | UUID) -> str:
    return str(value) if isinstance(value, UUID) else value


def _segment_of(value: Any) -> str:
    if type(value) is not int:
        return _text_of(value, "property path: a segment")
    if not 0 <= value <= _INDEX_MAX:  # before str(), which refuses huge ints with an error of its own
        raise InvalidPath("property path: an index is negative or too large; use 0 to 2**63 - 1")
    return str(value)


@final
@frozen(order=True, cache_hash=True, repr=False)
class AgentPath:
    """The name of an agent: a project, an agent, and its children below it; "acme/alice/helper".

    Every instance is valid; the constructors raise `InvalidPath`. Paths sort by segments, so that an agent comes
    before its children and a tree is contiguous. The agent of a path need not exist.
    """

    segments: tuple[str, ...] = field(converter=_agent_segments)
    text: str = field(init=False, eq=False, default=Factory(_agent_text, takes_self=True))

    @classmethod
    def parse(cls, path: str | AgentPath) -> AgentPath:
        """Read the text form; return a path unchanged. The latest 8,192 texts are cached."""
        return agent_path(path)

    @classmethod
    def of(cls, project_id: str | UUID, agent_instance_id: str | UUID, *children: str | UUID) -> AgentPath:
        """Build a path from ids, each one segment. A UUID is written in lower case with hyphens."""
        return cls(tuple(map(_name_of_id, (project_id, agent_instance_id, *children))))

    @property
    def project(self) -> str:
        """The first segment."""
        return self.segments[0]

    @property
    def name(self) -> str:
        """The last segment."""
        return self.segments[-1]

    @property
    def is_root(self) -> bool:
        """Whether this is a root agent: two segments."""
        return len(self.segments) == 2

    @property
    def root(self) -> AgentPath:
        """The root agent of this agent's tree; the path itself for a root agent."""
        return self if self.is_root else agent_path("/".join(self.segments[:2]))

    @property
    def parent(self) -> AgentPath | None:
        """The agent right above, None for a root agent."""
        return None if self.is_root else agent_path("/".join(self.segments[:-1]))

    def child(self, name: str | UUID) -> AgentPath:
        """Return the path of a child, one segment further down."""
        return AgentPath((*self.segments, _name_of_id(name)))

    def is_under(self, other: str | AgentPath) -> bool:
        """Whether `other` is an ancestor of this agent. No agent is under itself."""
        above = agent_path(other).segments
        return len(self.segments) > len(above) and self.segments[: len(above)] == above

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        return f"AgentPath.parse({self.text!r})"


@final
@frozen(order=True, cache_hash=True, repr=False)
class PropertyPath:
    """The name of a value inside an agent's state: "plan/steps/0/title"; the empty path is the whole state.

    In the text form a "~" of a segment is written "~0" and a "/" is written "~1". A segment such as "0" is an
    index if the state has a list there and a key if it has a dict; the path alone does not say which. Every
    instance is valid; the constructors raise `InvalidPath`. Paths sort by segments, as text: "10" before "9".
    """

    segments: tuple[str, ...] = field(converter=_property_segments)
    text: str = field(init=False, eq=False, default=Factory(_property_text, takes_self=True))

    @classmethod
    def parse(cls, path: str | PropertyPath) -> PropertyPath:
        """Read the text form; return a path unchanged. The latest 8,192 texts are cached."""
        if isinstance(path, PropertyPath):
            return path
        return _property_path_of(_text_of(path, "property path"))

    @classmethod
    def of(cls, *segments: str | int) -> PropertyPath:
        """Build a path from keys and indexes, given without escapes: `of("a/b", 0)` is "a~1b/0"."""
        return cls(tuple(map(_segment_of, segments)))

    @property
    def is_root(self) -> bool:
        """Whether this is the empty path."""
        return not self.segments

    @property
    def parent(self) -> PropertyPath | None:
        """The path right above, None for the empty path."""
        return PropertyPath(self.segments[:-1]) if self.segments else None

    def child(self, segment: str | int) -> PropertyPath:
        """Return the path one segment further down; the segment is given without escapes."""
        return PropertyPath((*self.segments, _segment_of(segment)))

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        return f"PropertyPath.parse({self.text!r})"


# Caches of pure functions: a program's paths are few and come with every command. Failures are not cached.
@lru_cache(maxsize=_CACHED)
def _agent_path_of(text: str) -> AgentPath:
    _check_size(text, "agent path")
    return AgentPath(tuple(text.split("/")))


@lru_cache(maxsize=_CACHED)
def _property_path_of(text: str) -> PropertyPath:
    return PropertyPath(split_text(text, "property path"))


def agent_path(path: str | AgentPath) -> AgentPath:
    """Read an agent path, as `AgentPath.parse` does. Raises `InvalidPath`."""
    if type(path) is str:
        return _agent_path_of(path)
    if isinstance(path, AgentPath):
        return path
    return _agent_path_of(_text_of(path, "agent path"))


def property_text(path: str | PropertyPath) -> str:
    """Return the text of a property path; fast for a cached one. Raises `InvalidPath`."""
    if type(path) is str:
        _property_path_of(path)
        return path
    PropertyPath.parse(path)
    return str(path)


def property_segments(path: str | PropertyPath) -> tuple[str, ...]:
    """Return the unescaped segments of a property path; fast for a cached text. Raises `InvalidPath`."""
    if type(path) is str:
        return _property_path_of(path).segments
    return PropertyPath.parse(path).segments
