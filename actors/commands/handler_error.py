"""The errors that a handler's caller gets: the same whether the handler ran in this process or in another one."""

from __future__ import annotations

import builtins
from functools import lru_cache
from itertools import takewhile
from typing import Any, Final, cast

import duramen.events
from duramen.events import DuramenError, HandlerRaised

_TEXT: Final = 2_000
_NAME: Final = 200

ERRORS: Final[dict[str, type[DuramenError]]] = {
    name: value
    for name, value in vars(duramen.events).items()
    if isinstance(value, type) and issubclass(value, DuramenError)
}
"""The typed errors by name, without those of the console."""

_OWN: Final = frozenset(ERRORS.values())
# A coroutine or generator that raises one of these ends as if it had returned.
_ENDINGS: Final = (StopIteration, StopAsyncIteration)


def to_caller_error(error: Exception, agent: str) -> DuramenError:
    """The error that a handler's caller gets for what the handler has raised; the exception itself is chained.

    A typed error of duramen's is that error. Any other exception, also one of a class derived from a typed error, is a
    `HandlerRaised` that is of the built-in or typed class nearest to its own as well.
    """
    cls = type(error)
    if cls in _OWN or isinstance(error, HandlerRaised):
        return cast("DuramenError", error)
    kind, text = kind_of(error), text_of(error)
    is_typed = isinstance(error, DuramenError)
    facts = {name: getattr(error, name, None) for name in ("seq", "expected", "actual")} if is_typed else {}
    raised = raised_class(base_name(cls))(
        f"a handler of {agent} raised {kind}: {text}" if text else f"a handler of {agent} raised {kind}",
        agent=agent,
        kind=kind,
        text=text,
        **facts,
    )
    raised.__cause__ = error
    return raised


def base_name(cls: type[BaseException]) -> str:
    """The name of the built-in or typed error class that is nearest to a class of exceptions."""
    for base in cls.__mro__:
        name = base.__name__
        is_own = base in _OWN and base not in (DuramenError, HandlerRaised)
        if is_own or getattr(builtins, name, None) is base:
            return name
    return Exception.__name__


def raised_class(name: str) -> type[HandlerRaised]:
    """The class of errors that are HandlerRaised and of the built-in or typed error class of this name, or its base.

    It is HandlerRaised alone for a name of no such class, and where nothing above it can be made from a text.
    """
    known: Any = ERRORS.get(name) or getattr(builtins, name, None)
    if not isinstance(known, type) or not issubclass(known, Exception) or issubclass(known, _ENDINGS):
        return HandlerRaised
    bases = takewhile(lambda base: base not in (Exception, DuramenError, HandlerRaised), known.__mro__)
    return next(filter(None, map(_derive, bases)), HandlerRaised)


@lru_cache(maxsize=256)
def _derive(base: type[Any]) -> type[HandlerRaised] | None:
    """The class of HandlerRaised and this one; None if this one takes more than a text, as UnicodeDecodeError does."""
    try:
        made = cast("type[HandlerRaised]", type("HandlerRaised", (HandlerRaised, base), _body(base)))
        made("")
    except TypeError:
        return None
    return made


def _body(base: type[Any]) -> dict[str, Any]:
    return {
        "__module__": HandlerRaised.__module__,
        "__doc__": f"A handler's {base.__name__}.",
        "__reduce__": _reduce,
        "base": base.__name__,
    }


def _reduce(self: Any) -> Any:
    return _restore, (self.base, self.args, self.__dict__)


def _restore(base: str, arguments: tuple[Any, ...], attributes: dict[str, Any]) -> HandlerRaised:
    error = raised_class(base)(*arguments)
    error.__dict__.update(attributes)
    return error


def kind_of(error: BaseException) -> str:
    """The name of an exception's class; `Exception` if it is over 200 characters long or is not printable."""
    name = type(error).__name__
    return name if name.isprintable() and len(name) <= _NAME else Exception.__name__


def text_of(error: BaseException) -> str:
    """The text of an exception, cut at 2,000 characters; empty if its own code raises."""
    try:
        # A KeyError shows its argument in quotes.
        shown: Any = error.args[0] if type(error) is KeyError and len(error.args) == 1 else error
        return clean_text(str(shown)[:_TEXT])
    except Exception:  # the user's own code
        return ""


def clean_text(text: str) -> str:
    """A text without lone surrogates, which have no encoding."""
    return text if text.isascii() else text.encode(errors="backslashreplace").decode()
