"""Message types by name: declared as event types are, with names of their own."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import pytest
from attrs import define, frozen

from duramen.events import InvalidMessage, UnknownEventType, UnknownMessageType, message_type
from duramen.events.model.registry import DECLARED, EventRegistry
from duramen.events.model.vocabulary import OWN_TYPES


@pytest.fixture
def registry() -> EventRegistry:
    return EventRegistry()


@frozen
class Find:
    question: str
    limit: int = 5


def test_a_message_comes_back_from_its_fields(registry: EventRegistry) -> None:
    registry.register_message(Find, "find", 3)
    assert registry.dump_message(Find("rain")) == ("find", 3, {"question": "rain", "limit": 5})
    assert registry.load_message("find", 3, {"question": "rain"}) == Find("rain")
    assert registry.message_types() == {"find": Find}
    assert registry.message_name(Find) == "find"


def test_events_and_messages_do_not_share_their_names(registry: EventRegistry) -> None:
    @frozen
    class Found:
        text: str

    registry.register(Found, "find", 2)
    registry.register_message(Find, "find")
    assert registry.dump(Found("x"))[:2] == ("find", 2)
    assert registry.dump_message(Find("x"))[:2] == ("find", 1)
    with pytest.raises(UnknownMessageType):
        registry.dump_message(Found("x"))
    with pytest.raises(UnknownEventType):
        registry.dump(Find("x"))


@pytest.mark.parametrize("name", [None, 5, b"find", "", "Find", "1find", "find it", "x" * 65, "duramen.find"])
def test_a_name_that_is_not_plain_or_ours_is_refused(registry: EventRegistry, name: Any) -> None:
    with pytest.raises(InvalidMessage):
        message_type(name, registry=registry)(Find)
    assert registry.message_types() == {}


@pytest.mark.parametrize("name", sorted(OWN_TYPES))
def test_the_names_of_our_event_types_are_free_for_messages(registry: EventRegistry, name: str) -> None:
    registry.register_message(Find, name)
    assert registry.message_name(Find) == name


@pytest.mark.parametrize("version", [0, -1, True, 1.0, "1", None])
def test_a_version_that_is_no_number_from_one_on_is_refused(registry: EventRegistry, version: Any) -> None:
    with pytest.raises(InvalidMessage):
        message_type("find", version=version, registry=registry)(Find)
    assert registry.message_types() == {}


def test_the_decorator_below_frozen_is_refused_and_says_where_it_belongs(registry: EventRegistry) -> None:
    with pytest.raises(InvalidMessage, match="put @message_type above"):

        @frozen
        @message_type("find", registry=registry)
        class Wrong:
            text: str


def test_a_name_belongs_to_one_class_for_ever(registry: EventRegistry) -> None:
    registry.register_message(Find, "find")

    @frozen
    class Another:
        question: str

    with pytest.raises(InvalidMessage, match=r"message type 'find' is already .*Find"):
        registry.register_message(Another, "find")
    assert type(registry.load_message("find", 1, {"question": "x"})) is Find


@pytest.mark.slow
def test_a_class_defined_again_without_a_change_is_the_class_it_was(registry: EventRegistry) -> None:
    def declare(default: int) -> type[Any]:
        @message_type("find", registry=registry)
        @frozen
        class Again:
            limit: int = default

        return Again

    first = declare(1)
    assert declare(1) is first
    changed = declare(2)
    assert changed is not first
    assert type(registry.load_message("find", 1, {})) is changed
    with pytest.raises(UnknownMessageType, match="defined again"):
        registry.dump_message(first())
    assert registry.message_name(first) == "find"


@pytest.mark.slow
def test_nothing_is_loaded_while_a_module_holds_the_class_before_a_change(
    registry: EventRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    def declare(default: int) -> type[Any]:
        @message_type("find", registry=registry)
        @frozen
        class Again:
            limit: int = default

        return Again

    holder: Any = ModuleType("message_holder")
    holder.Again = declare(1)
    monkeypatch.setitem(sys.modules, holder.__name__, holder)
    holder_of_now = declare(2)
    with pytest.raises(UnknownMessageType, match="message_holder still holds"):
        registry.load_message("find", 1, {})
    holder.Again = holder_of_now
    assert registry.load_message("find", 1, {}) == holder_of_now()


@pytest.mark.parametrize("message", [object(), 5, None, {"question": "x"}, Find])
def test_an_instance_of_a_class_that_is_not_declared_is_refused(registry: EventRegistry, message: object) -> None:
    registry.register_message(Find, "find")
    with pytest.raises(UnknownMessageType, match="put @message_type"):
        registry.dump_message(message)


def test_a_subclass_of_a_message_type_is_not_that_type(registry: EventRegistry) -> None:
    registry.register_message(Find, "find")

    @frozen
    class Special(Find):
        pass

    with pytest.raises(UnknownMessageType):
        registry.dump_message(Special("x"))


@pytest.mark.parametrize("name", ["find", "builtins.eval", "os.system", "__class__"])
def test_an_unknown_name_is_not_made_into_anything(registry: EventRegistry, name: str) -> None:
    with pytest.raises(UnknownMessageType, match="import the module"):
        registry.load_message(name, 1, {})


def test_a_version_newer_than_the_code_is_refused_and_an_older_one_taken_where_its_fields_fit(
    registry: EventRegistry,
) -> None:
    registry.register_message(Find, "find", 2)
    with pytest.raises(UnknownMessageType, match="newer") as caught:
        registry.load_message("find", 3, {"question": "x"})
    assert (caught.value.expected, caught.value.actual) == (2, 3)
    assert registry.load_message("find", 1, {"question": "x"}) == Find("x")
    with pytest.raises(UnknownMessageType, match="fields of version 1"):
        registry.load_message("find", 1, {"text": "x"})


@pytest.mark.parametrize("data", [{}, {"question": "x", "surplus": 1}, {"questio": "x"}, {"question": "x", "self": 1}])
def test_fields_that_the_class_does_not_take_are_a_typed_error(registry: EventRegistry, data: dict[str, Any]) -> None:
    registry.register_message(Find, "find")
    with pytest.raises(UnknownMessageType, match="does not take"):
        registry.load_message("find", 1, data)


def test_private_fields_cross_as_the_constructor_names_them(registry: EventRegistry) -> None:
    @message_type("odd", registry=registry)
    @define
    class Odd:
        _hidden: int

    assert registry.dump_message(Odd(1))[2] == {"hidden": 1}
    assert registry.load_message("odd", 1, {"hidden": 1}) == Odd(1)


def test_two_registries_know_nothing_of_each_other_and_the_default_is_that_of_event_types() -> None:
    mine = EventRegistry()
    message_type("test.only_mine", registry=mine)(Find)
    assert "test.only_mine" not in DECLARED.message_types()

    @message_type("test.declared")
    @frozen
    class Declared:
        pass

    assert DECLARED.message_types()["test.declared"] is Declared
