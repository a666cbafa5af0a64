"""An event class that is defined again is the class it was, or nothing is loaded while the earlier one is held."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from attrs import frozen

from duramen.events.errors import InvalidMessage, UnknownEventType
from duramen.events.model import redefinition
from duramen.events.model.redefinition import find_holders
from duramen.events.model.registry import EventRegistry

WriteModule = Callable[[str, str], ModuleType]

HEAD = """
from attrs import Factory, field, frozen, validators
from duramen.events import event_type, upcaster
from duramen.events.model import EventRegistry

TYPES = __import__("test_redefinition_types").TYPES
LIMIT = 3
"""
CLAIM = """
@event_type("claim_found", registry=TYPES)
@frozen
class ClaimFound:
    text: str = field(validator=validators.instance_of(str))
    words: list[str] = field(factory=lambda: ["a"])
    source: str = "unknown"
    LONGEST = 10

    @property
    def short(self) -> str:
        return self.text[: self.LONGEST]

    @classmethod
    def of(cls, text: str, *, source: str = "radio") -> "ClaimFound":
        return cls(text, source=source)

    def said(self) -> list[str]:
        return [word.upper() for word in super().__repr__().split()]
"""


@pytest.fixture
def types(monkeypatch: pytest.MonkeyPatch) -> EventRegistry:
    module: Any = ModuleType("test_redefinition_types")
    module.TYPES = EventRegistry()
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return module.TYPES


class _OwnModules(dict[str, ModuleType]):
    """The modules of a test among all that its process has imported: looking through thousands takes half a second."""

    def items(self) -> Any:
        return [(name, module) for name, module in sys.modules.items() if name.startswith("reloaded_")]


@pytest.fixture
def own_modules(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looks for holders of a class among the modules of the test alone."""
    modules = _OwnModules(sys.modules)
    monkeypatch.setattr(redefinition, "sys", SimpleNamespace(modules=modules))


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, types: EventRegistry) -> Iterator[WriteModule]:
    """Writes a module and imports it, or loads it again; the names of modules are free again afterwards."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    written: set[str] = set()

    def write_module(name: str, text: str) -> ModuleType:
        (tmp_path / f"{name}.py").write_text(HEAD + text)
        importlib.invalidate_caches()
        known = name in written
        written.add(name)
        return importlib.reload(sys.modules[name]) if known else importlib.import_module(name)

    yield write_module
    for name in written:
        sys.modules.pop(name, None)


def load(types: EventRegistry) -> Any:
    return types.load("claim_found", types.current_version("claim_found"), {"text": "rain"})


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("", ""),
        ("\n@event_type", "\n# moved down by comments\n# of two lines\n@event_type"),
        ("class ClaimFound:", 'class ClaimFound:\n    """Another docstring."""'),
        ("    def said", "    # a comment\n    def said"),
        ("LIMIT = 3", "LIMIT = 4"),
    ],
)
def test_a_class_that_is_loaded_again_without_a_change_is_the_class_it_was(
    write: WriteModule, types: EventRegistry, old: str, new: str
) -> None:
    first: Any = write("reloaded_events", CLAIM)
    holder: Any = write("reloaded_holder", "from reloaded_events import ClaimFound")
    instance = first.ClaimFound("rain")
    second: Any = write("reloaded_events", CLAIM.replace(old, new) if old in CLAIM else CLAIM)
    assert second.ClaimFound is holder.ClaimFound
    assert isinstance(load(types), holder.ClaimFound)
    assert load(types) == instance
    assert types.dump(instance) == types.dump(second.ClaimFound("rain"))


CHANGES = {
    "a field more": ("    LONGEST", "    weight: int = 0\n    LONGEST"),
    "a field less": ('    source: str = "unknown"\n', ""),
    "another default": ('"unknown"', '"nobody"'),
    "another factory": ('["a"]', '["b"]'),
    "another validator": ("instance_of(str)", "instance_of(object)"),
    "a field of the keyword": ('source: str = "unknown"', 'source: str = field(default="unknown", kw_only=True)'),
    "another constant": ("LONGEST = 10", "LONGEST = 20"),
    "a constant of another type": ("LONGEST = 10", "LONGEST = 10.0"),
    "another property": ("self.text[: self.LONGEST]", "self.text[self.LONGEST :]"),
    "another method": ("word.upper()", "word.lower()"),
    "another keyword default": ('source: str = "radio"', 'source: str = "paper"'),
    "a method more": ("    def said", "    def more(self) -> int:\n        return 1\n\n    def said"),
    "another base": ("class ClaimFound:", "class ClaimFound(Exception):"),
    "another version": ('"claim_found",', '"claim_found", version=2,'),
    "slots or not": ("@frozen", "@frozen(slots=False)"),
}


@pytest.mark.usefixtures("own_modules")
@pytest.mark.parametrize("change", CHANGES)
def test_nothing_is_loaded_while_a_module_holds_the_class_before_a_change(
    write: WriteModule, types: EventRegistry, change: str
) -> None:
    old, new = CHANGES[change]
    assert old in CLAIM
    first: Any = write("reloaded_events", CLAIM)
    instance = first.ClaimFound("rain")
    holder: Any = write("reloaded_holder", "from reloaded_events import ClaimFound")
    second: Any = write("reloaded_events", CLAIM.replace(old, new))
    types.add_upcaster("claim_found", 1, dict)
    assert second.ClaimFound is not holder.ClaimFound
    with pytest.raises(UnknownEventType, match="reloaded_holder still holds"):
        load(types)
    with pytest.raises(UnknownEventType, match=r"before reloaded_events\.ClaimFound was defined again"):
        types.dump(instance)
    holder = write("reloaded_holder", "from reloaded_events import ClaimFound")
    assert type(load(types)) is holder.ClaimFound is second.ClaimFound


HELD = {
    "by another name": "import reloaded_events\nTheirs = reloaded_events.ClaimFound",
    "in a tuple": "import reloaded_events\nKNOWN = (str, reloaded_events.ClaimFound)",
    "in a dict": "import reloaded_events\nHANDLERS = {reloaded_events.ClaimFound: print}",
    "in a set": "import reloaded_events\nKNOWN = frozenset([reloaded_events.ClaimFound])",
    "in a class": "import reloaded_events\nclass Fold:\n    claim = reloaded_events.ClaimFound",
    "as a default": "import reloaded_events\ndef fold(event, kind=reloaded_events.ClaimFound): ...",
    "in a closure": (
        "import reloaded_events\ndef make(kind):\n    return lambda event: isinstance(event, kind)\n"
        "fold = make(reloaded_events.ClaimFound)"
    ),
    "in a method's closure": (
        "import reloaded_events\ndef make(kind):\n    class Fold:\n        def apply(self, state, event):\n"
        "            return isinstance(event, kind)\n    return Fold\nFold = make(reloaded_events.ClaimFound)"
    ),
}


@pytest.mark.usefixtures("own_modules")
@pytest.mark.parametrize("way", HELD)
def test_a_class_is_found_wherever_a_module_holds_it(write: WriteModule, types: EventRegistry, way: str) -> None:
    first: Any = write("reloaded_events", CLAIM)
    write("reloaded_holder", HELD[way])
    assert find_holders(first.ClaimFound) == ["reloaded_events", "reloaded_holder"]
    write("reloaded_events", CLAIM.replace("10", "20"))
    with pytest.raises(UnknownEventType, match="reloaded_holder still holds"):
        load(types)


@pytest.mark.slow
def test_a_module_that_looks_the_class_up_when_it_needs_it_need_not_be_loaded_again(
    write: WriteModule, types: EventRegistry
) -> None:
    write("reloaded_events", CLAIM)
    user: Any = write(
        "reloaded_user", "import reloaded_events\ndef of(event): return isinstance(event, reloaded_events.ClaimFound)"
    )
    write("reloaded_events", CLAIM.replace("10", "20"))
    assert user.of(load(types))


@pytest.mark.slow
def test_each_earlier_class_counts_however_often_its_module_was_loaded(
    write: WriteModule, types: EventRegistry
) -> None:
    write("reloaded_events", CLAIM)
    write("reloaded_holder", "from reloaded_events import ClaimFound")
    for longest in ("20", "30", "40"):
        write("reloaded_events", CLAIM.replace("10", longest))
    with pytest.raises(UnknownEventType, match="reloaded_holder still holds"):
        load(types)
    write("reloaded_holder", "from reloaded_events import ClaimFound")
    assert load(types).LONGEST == 40


@pytest.mark.slow
def test_a_cell_may_be_run_again_with_a_change(types: EventRegistry, monkeypatch: pytest.MonkeyPatch) -> None:
    notebook = ModuleType("notebook")
    monkeypatch.setitem(sys.modules, "notebook", notebook)
    exec(HEAD + CLAIM, vars(notebook))
    exec("def fold(event): return isinstance(event, ClaimFound)", vars(notebook))
    assert vars(notebook)["fold"](load(types))
    for change in ("10", "20"):
        exec(CLAIM.replace("10", change), vars(notebook))
        assert vars(notebook)["fold"](load(types))


def test_one_file_under_two_names_declares_one_class(
    write: WriteModule, types: EventRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = CLAIM + '\n@upcaster("claim_found", from_version=1, registry=TYPES)\ndef up(data): return data\n'
    first: Any = write("claims", text)
    spec = importlib.util.spec_from_file_location("a_package.claims", first.__file__)
    assert spec is not None
    assert spec.loader is not None
    second: Any = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, second)
    spec.loader.exec_module(second)
    assert second.ClaimFound is first.ClaimFound
    assert isinstance(load(types), second.ClaimFound)


def test_equal_classes_of_two_files_are_refused_by_the_name_of_the_first(write: WriteModule) -> None:
    write("reloaded_events", CLAIM)
    with pytest.raises(InvalidMessage, match=r"already reloaded_events\.ClaimFound"):
        write("reloaded_others", CLAIM)


def test_a_class_in_a_function_that_closes_over_another_value_is_another_class() -> None:
    registry = EventRegistry()

    def declare(limit: int) -> type[Any]:
        @frozen
        class Limited:
            text: str

            def short(self) -> str:
                return self.text[:limit]

        return registry.register(Limited, "limited")

    assert declare(3) is declare(3)
    assert declare(4)("rain").short() == "rain"
