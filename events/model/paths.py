"""Agent paths and property paths: the names of agents and of the values inside their state."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from hashlib import blake2b
from typing import Any, cast, final
from unicodedata import is_normalized
from uuid import UUID

from attrs import Factory, field, frozen

from ..errors import InvalidPath
from .values import describe_type, printable

# Part of the stored format, not of `Limits`: every process must read a path that one process could write.
MAX_AGENT_BYTES = 1024
MAX_PROPERTY_BYTES = 2 * 1024 * 1024
"""More than a key takes that fits into an event, also if each of its characters is escaped."""
MAX_PATH_SEGMENTS = 32

_CACHED = 8192
_CACHED_CHARACTERS = 1024
"""Longer texts are not cached."""
_INDEX_MAX = 2**63 - 1

_AGENT = "agent path"
_MAX_NAME = 128
_AGENT_RULE = f"use a project and one or more names, joined by '/', each a UUID or 1 to {_MAX_NAME} characters"
_RESERVED = frozenset({"", ".", "..", "*", "**"})
"""Segments that have another meaning in a text, or look as if they had."""
# C0, DEL and C1; the bidi controls, which make a name look like another one.
_HIDDEN = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
_NOT_ASCII = re.compile("[^\x20-\x7e]")
_SURROGATE = re.compile("[\ud800-\udfff]")
_ESCAPE = re.compile("~(?:([01])|u([0-9A-F]{4})|U(000[1-9A-F][0-9A-F]{4}|0010[0-9A-F]{4}))")


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


def _check_size(text: str, what: str, most: int = MAX_PROPERTY_BYTES) -> None:
    # A text has at least as many bytes as characters, so a huge text is refused without encoding it.
    size = len(text)
    if size <= most and not text.isascii():
        size = len(text.encode(errors="surrogatepass"))
    if size > most:
        raise InvalidPath(
            f"{what} is longer than {most} bytes; use shorter or fewer segments", expected=most, actual=size
        )


def split_text(text: object, what: str) -> tuple[str, ...]:
    """Split the text of a property path at "/", and undo the escapes. The empty text has no segments.

    `what` names the text in messages. Raises `InvalidPath`, also for another text than `join_text` makes.
    """
    parts = split_parts(text, what)
    return tuple(read_segment(part, position, what) for position, part in enumerate(parts, 1))


def segments_of_text(text: str) -> tuple[str, ...]:
    """Split a text that `join_text` has made. Checks nothing, so that it may have more segments than a path."""
    return tuple(map(unescape_segment, text.split("/"))) if text else ()


def split_parts(text: object, what: str) -> tuple[str, ...]:
    """Split a text at "/" into segments that are still escaped. Checks its size and their number."""
    exact = _text_of(text, what)
    _check_size(exact, what)
    if not exact:
        return ()
    _check_count(exact.count("/") + 1, what)
    return tuple(exact.split("/"))


def read_segment(part: str, position: int, what: str, escape: Callable[[str], str] | None = None) -> str:
    """Undo the escapes of a segment that `escape` has made. Raises `InvalidPath` for another text."""
    segment = unescape_segment(part)
    written = (escape or escape_segment)(segment)
    if written != part:
        raise InvalidPath(
            f"{what}: segment {position} '{printable(part)}' {_problem_of(part)}; for such a key write "
            f"'{printable(written)}', or use {'AgentPath' if what == _AGENT else 'PropertyPath'}.of, which writes it"
        )
    return segment


def unescape_segment(part: str) -> str:
    """Undo the escapes of a segment. Checks nothing: a "~" that escapes nothing stays."""
    if "~" not in part:
        return part
    return part[1:] if part[0] == "~" and part[1:] in _RESERVED else _ESCAPE.sub(_character_of, part)


def _character_of(found: re.Match[str]) -> str:
    named = found[1]
    return chr(int(found[2] or found[3], 16)) if named is None else "~/"[int(named)]


def join_text(segments: tuple[str, ...]) -> str:
    """Join segments with "/", escaped: the inverse of `split_text`. Checks nothing.

    As in RFC 6901 "~" is "~0" and "/" is "~1". An empty segment, ".", "..", "*" and "**" have a "~" before them;
    characters that cannot be seen, and all but ASCII in a segment that is not in Unicode form NFC, are "~u000A".
    """
    text = "/".join(segments)
    plain = text.isascii() and text.isprintable() and "~" not in text  # most
    if plain and text.count("/") < len(segments) and _RESERVED.isdisjoint(segments):
        return text
    return "/".join(map(escape_segment, segments))


def escape_segment(segment: str) -> str:
    """Write a segment as it stands in the text of a path."""
    if segment in _RESERVED:
        return f"~{segment}"
    text = segment.replace("~", "~0").replace("/", "~1")
    if text.isascii() and text.isprintable():
        return text
    written = _HIDDEN.sub(_code_of, text)
    if is_normalized("NFC", segment) and is_normalized("NFC", written):
        return written
    return _NOT_ASCII.sub(_code_of, text)


def _code_of(found: re.Match[str]) -> str:
    code = ord(found[0])
    return f"~u{code:04X}" if code < 0x10000 else f"~U{code:08X}"


def check_segments(segments: object, what: str) -> tuple[str, ...]:
    """Return the segments as exact strs. Raises `InvalidPath` if no value can have such keys.

    `what` names the path in messages.
    """
    checked = _texts_of(segments, what)
    for position, text in enumerate(checked, 1):
        if not text.isascii() and _SURROGATE.search(text):
            raise InvalidPath(
                f"{what}: segment {position} '{printable(text)}' has a lone surrogate, which has no encoding"
            )
    _check_size(join_text(checked), what)
    return checked


def _problem_of(part: str) -> str:
    """Why a segment of a text is not as it would be written."""
    if not part:
        return "is empty (a path neither begins nor ends with '/')"
    if part in _RESERVED:
        return "has another meaning and is no name"
    bad = _HIDDEN.search(part) or _SURROGATE.search(part)
    if bad is not None:
        return f"has the character U+{ord(bad.group()):04X}"
    if not is_normalized("NFC", part):
        return "is not in Unicode form NFC"
    if "~" in _ESCAPE.sub("", part):
        return "has a '~' that escapes nothing"
    return "has an escape that is not needed"


def _agent_segments(segments: tuple[str, ...]) -> tuple[str, ...]:
    what = _AGENT
    checked = _texts_of(segments, what)
    for position, segment in enumerate(checked, 1):
        if not 0 < len(segment) <= _MAX_NAME or _SURROGATE.search(segment):
            raise InvalidPath(f"{what}: segment {position} '{printable(segment)}' is not a name; {_AGENT_RULE}")
    text = join_text(checked)
    if len(checked) < 2:
        raise InvalidPath(f"{what} '{printable(text)}' has fewer than two segments; {_AGENT_RULE}")
    _check_size(text, what, MAX_AGENT_BYTES)
    return checked


def _property_segments(segments: tuple[str, ...]) -> tuple[str, ...]:
    return check_segments(segments, "property path")


def _agent_text(path: AgentPath) -> str:
    return join_text(path.segments)


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

    Any text of 1 to 128 characters can be a segment, such as the ids of other systems: "acme/user:42@example". The text
    form has the escapes of a property path: a "/" in an id is "~1", a "~" is "~0". A path has one text.

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
        """Build a path from ids, each one segment, without escapes: `of("acme", "a/b")` is "acme/a~1b".

        A UUID is written in lower case with hyphens.
        """
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
        return self if self.is_root else agent_path(join_text(self.segments[:2]))

    @property
    def parent(self) -> AgentPath | None:
        """The agent right above, None for a root agent."""
        return None if self.is_root else agent_path(join_text(self.segments[:-1]))

    def child(self, name: str | UUID) -> AgentPath:
        """Return the path of a child, one segment further down; the name is given without escapes."""
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

    Any key that a value may have can be a segment. In the text form a "~" is written "~0" and a "/" is written "~1";
    the empty key is "~", and the keys ".", "..", "*" and "**" have a "~" before them; characters that cannot be seen
    are "~u" and four digits, as "~u000A". A path has one text. A segment such as "0" is an index if the state has a
    list there and a key if it has a dict; the path alone does not say which. Every instance is valid; the
    constructors raise `InvalidPath`. Paths sort by segments, as text: "10" before "9".
    """

    segments: tuple[str, ...] = field(converter=_property_segments)
    text: str = field(init=False, eq=False, default=Factory(_property_text, takes_self=True))

    @classmethod
    def parse(cls, path: str | PropertyPath) -> PropertyPath:
        """Read the text form; return a path unchanged. The latest 8,192 texts are cached."""
        if isinstance(path, PropertyPath):
            return path
        text = _text_of(path, "property path")
        return _property_path_of(text) if len(text) <= _CACHED_CHARACTERS else _read_property_path(text)

    @classmethod
    def of(cls, *segments: str | int) -> PropertyPath:
        """Build a path from keys and indexes, given without escapes: `of("a/b", "", 0)` is "a~1b/~/0"."""
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
    _check_size(text, _AGENT, MAX_AGENT_BYTES)
    return AgentPath(split_text(text, _AGENT))


def _read_property_path(text: str) -> PropertyPath:
    return PropertyPath(split_text(text, "property path"))


_property_path_of = lru_cache(maxsize=_CACHED)(_read_property_path)


def agent_path(path: str | AgentPath) -> AgentPath:
    """Read an agent path, as `AgentPath.parse` does. Raises `InvalidPath`."""
    if type(path) is str:
        return _agent_path_of(path)
    if isinstance(path, AgentPath):
        return path
    return _agent_path_of(_text_of(path, "agent path"))


def agent_segments(text: str) -> Sequence[str]:
    """Split the text of an agent path into its segments, without escapes. Checks nothing."""
    return segments_of_text(text) if "~" in text else text.split("/")


def property_text(path: str | PropertyPath) -> str:
    """Return the text of a property path; fast for a cached one. Raises `InvalidPath`."""
    if type(path) is str and len(path) <= _CACHED_CHARACTERS:
        _property_path_of(path)
        return path
    return PropertyPath.parse(path).text


def property_segments(path: str | PropertyPath) -> tuple[str, ...]:
    """Return the unescaped segments of a property path; fast for a cached text. Raises `InvalidPath`."""
    if type(path) is str and len(path) <= _CACHED_CHARACTERS:
        return _property_path_of(path).segments
    return PropertyPath.parse(path).segments


def root_of(agent: str) -> str:
    """The root agent of an agent's tree: the first two segments of its path."""
    return "/".join(agent.split("/", 2)[:2])


def hash_of_root(agent: str) -> bytes:
    """The hash of the path of an agent's root, 8 bytes: the agent's partition follows from it."""
    return blake2b(root_of(agent).encode(), digest_size=8).digest()
