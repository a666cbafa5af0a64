"""Classes that are defined again, as when a module is reloaded, a cell run again, or a file imported by two names."""

from __future__ import annotations

import os
import sys
from types import CodeType, FunctionType, GetSetDescriptorType, MemberDescriptorType
from typing import Any, Final, cast

import attrs

# Attributes that say where a class was written, or that its other attributes determine.
_IGNORED: Final = frozenset(
    (
        "__annotate_func__",
        "__annotations__",
        "__annotations_cache__",
        "__attrs_attrs__",
        "__dict__",
        "__doc__",
        "__firstlineno__",
        "__module__",
        "__static_attributes__",
        "__weakref__",
    )
)
_CONTAINERS: Final = (list, tuple, set, frozenset)


def has_same_origin(one: Any, other: Any) -> bool:
    """Whether two classes or functions have the same qualified name in the same module, or in the same file."""
    if getattr(one, "__qualname__", one) != getattr(other, "__qualname__", other):
        return False
    modules = [getattr(thing, "__module__", None) for thing in (one, other)]
    if modules[0] == modules[1]:
        return True
    files = [getattr(sys.modules.get(name or ""), "__file__", None) for name in modules]
    return None not in files and len({os.path.realpath(str(file)) for file in files}) == 1


def has_same_definition(one: type[Any], other: type[Any]) -> bool:
    """Whether two attrs classes of the same origin have the same bases, fields, methods and class attributes.

    Not compared: comments, docstrings, and the bodies of classes and functions that they refer to by name.
    """
    if not (attrs.has(one) and attrs.has(other)):
        return False
    return _is_same(list(attrs.fields(one)), list(attrs.fields(other))) and _is_same(_body(one), _body(other))


def _body(cls: type[Any]) -> list[Any]:
    names = sorted(name for name in vars(cls) if name not in _IGNORED)
    return [cls.__bases__, names, [vars(cls)[name] for name in names]]


def _is_same(one: Any, other: Any) -> bool:
    if one is other:
        return True
    if isinstance(one, type) and isinstance(other, type):
        return has_same_origin(one, other)
    if type(one) is not type(other):
        return False
    if type(one) in (MemberDescriptorType, GetSetDescriptorType):
        return True  # slots, which `attrs.fields` and `__slots__` determine
    parts = _parts(one)
    if parts is not None:
        theirs = cast("list[Any]", _parts(other))
        return len(parts) == len(theirs) and all(map(_is_same, parts, theirs))
    try:
        return bool(one == other)
    except Exception:  # the user's own `__eq__`
        return False


def _parts(value: Any) -> list[Any] | None:
    """Return the parts by which a value is compared; None to compare it by `==`."""
    if isinstance(value, FunctionType):
        return [value.__code__, value.__defaults__, value.__kwdefaults__, *_closed_over(value)]
    if isinstance(value, CodeType):
        if value.co_filename.startswith("<attrs generated"):
            return []  # determined by the fields; `__hash__` has a number of its own in each module
        return [value.co_code, value.co_names, value.co_varnames, value.co_freevars, value.co_flags, *value.co_consts]
    if isinstance(value, property):
        return [value.fget, value.fset, value.fdel]
    if isinstance(value, staticmethod | classmethod):
        return [cast("Any", value).__func__]
    if isinstance(value, tuple | list):
        return list(cast("list[Any]", value))
    if isinstance(value, dict):
        return [*cast("dict[Any, Any]", value), *cast("dict[Any, Any]", value).values()]
    kind: type[Any] = type(cast("object", value))
    slots: Any = getattr(kind, "__slots__", None)
    if slots and kind.__module__.startswith("attr."):  # fields, factories and validators
        return [getattr(value, name, None) for name in slots if name != "__weakref__"]
    return None


def find_holders(cls: type[Any]) -> list[str]:
    """Return the names of imported modules that refer to a class: by a name, in a container, or from their code."""
    found: list[str] = []
    for name, module in list(sys.modules.items()):
        names: Any = getattr(module, "__dict__", None)
        if type(names) is dict and any(_holds(value, cls, name) for value in list(cast("Any", names).values())):
            found.append(name)
    return sorted(found)


def _holds(value: Any, cls: type[Any], module: str) -> bool:
    if value is cls:
        return True
    if isinstance(value, type):
        is_own = getattr(value, "__module__", None) == module
        return is_own and any(_refers_to(member, cls) for member in list(vars(value).values()))
    return _refers_to(value, cls)


def _refers_to(value: Any, cls: type[Any]) -> bool:
    """Whether a value is a class, or a container of it, or a function with it in its closure or defaults."""
    if type(value) in _CONTAINERS:
        return any(item is cls for item in value)
    if type(value) is dict:
        return any(key is cls or item is cls for key, item in list(cast("Any", value).items()))
    if isinstance(value, FunctionType):
        return any(part is cls for part in [*_closed_over(value), *(value.__defaults__ or ())])
    return value is cls


def _closed_over(function: FunctionType) -> list[Any]:
    found: list[Any] = []
    for cell in function.__closure__ or ():
        try:
            found.append(cell.cell_contents)
        except ValueError:  # not assigned yet
            continue
    return found
