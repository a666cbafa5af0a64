"""Path patterns: the agents and properties that a reader selects."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import final

from attrs import Factory, field, frozen

from ..errors import InvalidPath
from .paths import AgentPath, PropertyPath, check_segments, escape_segment, read_segment, split_parts
from .values import describe_type, printable

_WHAT = "path pattern"


class Wildcard(StrEnum):
    """A segment of a pattern that stands for others. As text it equals a key, so it is told apart by identity."""

    ONE = "*"
    ANY = "**"


_WILDCARDS = {wildcard.value: wildcard for wildcard in Wildcard}


class _Read(tuple[str, ...]):
    """Segments read from a text, in which a "*" is a key."""

    __slots__ = ()


def _pattern_segments(segments: tuple[str, ...]) -> tuple[str, ...]:
    checked = check_segments(segments, _WHAT)
    if type(segments) is _Read:
        return tuple(segments)
    for position, segment in enumerate(checked, 1):
        if segment not in _WILDCARDS:
            _check_stars(segment, position)
    return tuple(_WILDCARDS.get(segment, segment) for segment in checked)


def _check_stars(part: str, position: int) -> None:
    if "*" in part:
        raise InvalidPath(
            f"{_WHAT}: segment {position} '{printable(part)}' has a '*' next to other characters; "
            "use '*' for one whole segment, '**' for any number, and '~u002A' for a '*' in a key"
        )


def _read_step(part: str, position: int) -> str:
    wildcard = _WILDCARDS.get(part)
    if wildcard is not None:
        return wildcard
    if part not in ("~*", "~**"):
        _check_stars(part, position)
    return read_segment(part, position, _WHAT, _escape)


def _escape(segment: str) -> str:
    written = escape_segment(segment)
    return written if written in ("~*", "~**") else written.replace("*", "~u002A")


def _pattern_text(pattern: PathPattern) -> str:
    return "/".join(step if isinstance(step, Wildcard) else _escape(step) for step in pattern.segments)


def _pattern_steps(pattern: PathPattern) -> tuple[str, ...]:
    """Return the segments without a "**" right after another, which adds only work."""
    before = (None, *pattern.segments)
    pairs = zip(before, pattern.segments, strict=False)
    return tuple(step for last, step in pairs if not (last is Wildcard.ANY and step is Wildcard.ANY))


def _has_no_wildcard(pattern: PathPattern) -> bool:
    return not any(isinstance(step, Wildcard) for step in pattern.segments)


@final
@frozen(repr=False)
class PathPattern:
    """A path in which a segment may be "*" (exactly one segment) or "**" (any number of segments, also none).

    All other segments are those of a property path, with the same escapes and bounds in the text form; "~*" is the
    key "*", and a "*" in a longer key is "~u002A". They include names of agents, so "acme/*/plan/**" can select agents
    and their properties. The empty pattern matches only the empty path. Raises `InvalidPath` for what is not a pattern.
    """

    segments: tuple[str, ...] = field(eq=False, converter=_pattern_segments)
    """Each is a name without escapes, or a `Wildcard`."""
    text: str = field(init=False, default=Factory(_pattern_text, takes_self=True))
    steps: tuple[str, ...] = field(init=False, eq=False, default=Factory(_pattern_steps, takes_self=True))
    """The segments without a "**" right after another."""
    is_literal: bool = field(init=False, eq=False, default=Factory(_has_no_wildcard, takes_self=True))
    """Whether the pattern has no wildcard, so that exactly one path matches."""

    @classmethod
    def parse(cls, pattern: str | PathPattern) -> PathPattern:
        """Read the text form; a pattern is returned as it is."""
        if isinstance(pattern, PathPattern):
            return pattern
        parts = split_parts(pattern, _WHAT)
        return cls(_Read(_read_step(part, position) for position, part in enumerate(parts, 1)))

    def matches(self, path: Sequence[str] | AgentPath | PropertyPath) -> bool:
        """Whether the whole path matches, in time proportional to pattern times path at most.

        Takes a path, or a tuple or list of unescaped segments, which are not checked. Raises `InvalidPath` for
        anything else, including a str: parse it first.
        """
        if isinstance(path, tuple | list):
            segments: Sequence[str] = path
        elif isinstance(path, AgentPath | PropertyPath):
            segments = path.segments
        else:
            raise InvalidPath(f"{_WHAT} matches a path or a tuple of segments, not {describe_type(path)}")
        if self.is_literal:
            return self.segments == tuple(segments)
        return _match(self.steps, segments)

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        return f"PathPattern.parse({self.text!r})"


def _match(steps: tuple[str, ...], segments: Sequence[str]) -> bool:
    """Match greedily; on a mismatch only the latest "**" consumes one more segment.

    That is enough: any segment that an earlier "**" could consume instead, the latest can consume too. Each
    position of the latest "**" is tried once and costs at most the steps up to the next: steps times segments.
    """
    step = at = 0
    resume_step = resume_at = -1
    while at < len(segments):
        wanted = steps[step] if step < len(steps) else None
        if wanted is Wildcard.ANY:
            step += 1
            resume_step, resume_at = step, at
        elif wanted is Wildcard.ONE or (wanted is not None and wanted == segments[at]):
            step += 1
            at += 1
        elif resume_step >= 0:
            resume_at += 1
            step, at = resume_step, resume_at
        else:
            return False
    return step == len(steps) or (step == len(steps) - 1 and steps[step] is Wildcard.ANY)
