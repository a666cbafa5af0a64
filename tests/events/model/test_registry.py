"""Event types by name: what may be registered, and how old data becomes today's."""

from __future__ import annotations

import re
from typing import Any

import pytest
from attrs import define, field, frozen
from hypothesis import given
from hypothesis import strategies as st

from duramen.events.errors import InvalidMessage, UnknownEventType
from duramen.events.model.registry import EventRegistry, Upcaster, event_type, upcaster
from duramen.events.model.vocabulary import OWN_TYPES


@pytest.fixture
def registry() -> EventRegistry:
    return EventRegistry()


@frozen
class ClaimFound:
    text: str
    source: str = "unknown"


# -- names -------------------------------------------------------------------------------------------------------------


@given(name=st.text(max_size=70) | st.from_regex(r"[a-z][a-z0-9_.-]{0,70}", fullmatch=True))
def test_a_name_is_allowed_only_in_its_plain_form(name: str) -> None:
    registry = EventRegistry()
    allowed = re.fullmatch(r"[a-z][a-z0-9_.-]{0,63}", name) and name not in OWN_TYPES
    if allowed:
        registry.register(ClaimFound, name)
        assert registry.has_type(name)
    else:
        with pytest.raises(InvalidMessage):
            registry.register(ClaimFound, name)
        assert not registry.has_type(name)


@pytest.mark.parametrize("name", sorted(OWN_TYPES))
def test_the_names_of_our_own_types_are_taken(registry: EventRegistry, name: str) -> None:
    with pytest.raises(InvalidMessage):
        registry.register(ClaimFound, name)
    with pytest.raises(InvalidMessage):
        registry.add_upcaster(name, 1, dict)


@pytest.mark.parametrize("name", [None, 5, b"claim", ["claim"], ClaimFound])
def test_a_name_that_is_no_text_is_refused(registry: EventRegistry, name: Any) -> None:
    with pytest.raises(InvalidMessage):
        registry.register(ClaimFound, name)
    with pytest.raises(InvalidMessage):
        registry.add_upcaster(name, 1, dict)


@pytest.mark.parametrize("version", [0, -1, True, 1.0, "1", None])
def test_a_version_that_is_no_number_from_one_on_is_refused(registry: EventRegistry, version: Any) -> None:
    with pytest.raises(InvalidMessage):
        registry.register(ClaimFound, "claim_found", version)
    with pytest.raises(InvalidMessage):
        registry.add_upcaster("claim_found", version, dict)
    assert not registry.has_type("claim_found")


@pytest.mark.parametrize("cls", [int, dict, object, type("Plain", (), {}), 5, "ClaimFound", None])
def test_a_class_that_attrs_did_not_make_is_refused(registry: EventRegistry, cls: Any) -> None:
    with pytest.raises(InvalidMessage, match=r"@attrs\.frozen"):
        registry.register(cls, "claim_found")


def test_the_decorator_below_frozen_is_refused_and_says_where_it_belongs(registry: EventRegistry) -> None:
    with pytest.raises(InvalidMessage, match="above"):

        @frozen
        @event_type("claim_found", registry=registry)
        class Wrong:
            text: str


def test_a_name_belongs_to_one_class_for_ever(registry: EventRegistry) -> None:
    registry.register(ClaimFound, "claim_found")

    @frozen
    class Another:
        text: str

    with pytest.raises(InvalidMessage, match="ClaimFound"):
        registry.register(Another, "claim_found")
    assert registry.dump(ClaimFound("x"))[0] == "claim_found"


def test_the_same_class_may_be_registered_again_as_a_reload_of_its_module_does(registry: EventRegistry) -> None:
    def declare() -> type[Any]:
        @event_type("claim_found", version=2, registry=registry)
        @frozen
        class Reloaded:
            text: str

        return Reloaded

    first, second = declare(), declare()
    assert registry.load("claim_found", 2, {"text": "x"}) == second("x")
    assert registry.dump(first("x")) == registry.dump(second("x")) == ("claim_found", 2, {"text": "x"})


def test_two_registries_know_nothing_of_each_other(registry: EventRegistry) -> None:
    registry.register(ClaimFound, "claim_found")
    with pytest.raises(UnknownEventType):
        EventRegistry().dump(ClaimFound("x"))


# -- to data and back --------------------------------------------------------------------------------------------------


def test_an_instance_comes_back_from_its_data(registry: EventRegistry) -> None:
    registry.register(ClaimFound, "claim_found", 3)
    name, version, data = registry.dump(ClaimFound("rain", "radio"))
    assert (name, version, data) == ("claim_found", 3, {"text": "rain", "source": "radio"})
    assert registry.load(name, version, data) == ClaimFound("rain", "radio")


def test_private_keyword_and_renamed_fields_are_stored_as_the_constructor_names_them(
    registry: EventRegistry,
) -> None:
    @event_type("odd", registry=registry)
    @frozen(kw_only=True)
    class Odd:
        _hidden: int
        other: int = field(alias="renamed")

    event = Odd(hidden=1, renamed=2)
    assert registry.dump(event)[2] == {"hidden": 1, "renamed": 2}
    assert registry.load("odd", 1, {"hidden": 1, "renamed": 2}) == event


def test_a_field_that_the_constructor_does_not_take_is_not_stored(registry: EventRegistry) -> None:
    @event_type("sum", registry=registry)
    @define
    class Sum:
        a: int
        b: int
        total: int = field(init=False)

        def __attrs_post_init__(self) -> None:
            self.total = self.a + self.b

    assert registry.dump(Sum(1, 2))[2] == {"a": 1, "b": 2}
    assert registry.load("sum", 1, {"a": 1, "b": 2}) == Sum(1, 2)


@pytest.mark.parametrize("event", [object(), 5, None, {"text": "x"}, ClaimFound])
def test_an_instance_of_a_class_that_is_not_registered_is_refused(registry: EventRegistry, event: object) -> None:
    registry.register(ClaimFound, "claim_found")
    with pytest.raises(UnknownEventType):
        registry.dump(event)


def test_a_subclass_of_an_event_type_is_not_that_type(registry: EventRegistry) -> None:
    registry.register(ClaimFound, "claim_found")

    @frozen
    class Special(ClaimFound):
        pass

    with pytest.raises(UnknownEventType):
        registry.dump(Special("x"))


def test_stored_data_of_an_unknown_type_is_not_made_into_anything(registry: EventRegistry) -> None:
    for name in ("claim_found", "builtins.eval", "os.system", "__class__"):
        with pytest.raises(UnknownEventType):
            registry.load(name, 1, {})


@pytest.mark.parametrize("data", [{}, {"text": "x", "surplus": 1}, {"txt": "x"}, {"text": "x", "self": 1}])
def test_data_that_the_class_does_not_take_is_a_typed_error(registry: EventRegistry, data: dict[str, Any]) -> None:
    registry.register(ClaimFound, "claim_found")
    with pytest.raises(UnknownEventType, match="upcaster"):
        registry.load("claim_found", 1, data)


# -- upcasters ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def history(registry: EventRegistry) -> EventRegistry:
    """Three versions: `claim` became `text`, then `source` was added."""
    registry.register(ClaimFound, "claim_found", 3)

    @upcaster("claim_found", from_version=1, registry=registry)
    def renamed(data: dict[str, Any]) -> dict[str, Any]:
        data["text"] = data.pop("claim")
        return data

    @upcaster("claim_found", from_version=2, registry=registry)
    def sourced(data: dict[str, Any]) -> dict[str, Any]:
        return {**data, "source": f"from {data['text']}"}

    return registry


def test_old_data_takes_every_step_in_order(history: EventRegistry) -> None:
    assert history.upcast("claim_found", 1, {"claim": "rain"}) == {"text": "rain", "source": "from rain"}
    assert history.upcast("claim_found", 2, {"text": "rain"}) == {"text": "rain", "source": "from rain"}
    assert history.load("claim_found", 1, {"claim": "rain"}) == ClaimFound("rain", "from rain")


def test_todays_data_is_left_as_it_is(history: EventRegistry) -> None:
    data = {"text": "rain", "source": "radio"}
    assert history.upcast("claim_found", 3, data) is data


def test_an_upcaster_does_not_change_what_it_was_given(history: EventRegistry) -> None:
    data = {"claim": "rain"}
    history.upcast("claim_found", 1, data)
    assert data == {"claim": "rain"}


def test_a_missing_step_says_which_one(registry: EventRegistry) -> None:
    registry.register(ClaimFound, "claim_found", 3)
    registry.add_upcaster("claim_found", 1, dict)
    with pytest.raises(UnknownEventType, match="from_version=2") as caught:
        registry.upcast("claim_found", 1, {})
    assert (caught.value.expected, caught.value.actual) == (3, 1)


def test_data_of_a_version_newer_than_the_code_is_not_guessed_at(history: EventRegistry) -> None:
    with pytest.raises(UnknownEventType, match="newer") as caught:
        history.upcast("claim_found", 4, {})
    assert (caught.value.expected, caught.value.actual) == (3, 4)


def test_data_of_other_types_passes_as_it_is(history: EventRegistry) -> None:
    data = {"path": "a"}
    assert history.upcast("memory_set", 1, data) is data
    assert history.upcast("never_heard_of", 9, data) is data
    assert history.current_version("never_heard_of") == 1
    assert history.current_version("claim_found") == 3


def test_an_upcaster_that_raises_is_a_typed_error_with_its_cause(registry: EventRegistry) -> None:
    registry.register(ClaimFound, "claim_found", 2)

    @upcaster("claim_found", from_version=1, registry=registry)
    def broken(data: dict[str, Any]) -> dict[str, Any]:
        return {"text": data["sk-secret"]}

    with pytest.raises(UnknownEventType) as caught:
        registry.upcast("claim_found", 1, {})
    assert isinstance(caught.value.__cause__, KeyError)
    assert "sk-secret" not in str(caught.value)


@pytest.mark.parametrize("result", [None, [], "text", 5])
def test_an_upcaster_that_returns_no_dict_is_a_typed_error(registry: EventRegistry, result: Any) -> None:
    registry.register(ClaimFound, "claim_found", 2)
    registry.add_upcaster("claim_found", 1, lambda data: result)
    with pytest.raises(UnknownEventType):
        registry.upcast("claim_found", 1, {})


def test_one_step_has_one_upcaster(history: EventRegistry) -> None:
    with pytest.raises(InvalidMessage):
        history.add_upcaster("claim_found", 1, dict)
    assert history.upcast("claim_found", 1, {"claim": "rain"})["text"] == "rain"


@pytest.mark.parametrize("function", [None, 5, "dict"])
def test_what_cannot_be_called_is_no_upcaster(registry: EventRegistry, function: Any) -> None:
    with pytest.raises(InvalidMessage):
        registry.add_upcaster("claim_found", 1, function)


@given(versions=st.integers(1, 8), start=st.integers(1, 8))
def test_a_chain_of_any_length_is_walked_once_from_anywhere(versions: int, start: int) -> None:
    registry = EventRegistry()
    registry.register(ClaimFound, "claim_found", versions)
    for step in range(1, versions):
        registry.add_upcaster("claim_found", step, _adding(step))
    if start > versions:
        with pytest.raises(UnknownEventType):
            registry.upcast("claim_found", start, {"text": []})
    else:
        assert registry.upcast("claim_found", start, {"text": []}) == {"text": list(range(start, versions))}


def _adding(step: int) -> Upcaster:
    return lambda data: {"text": [*data["text"], step]}
