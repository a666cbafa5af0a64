from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from duramen.actors.console.errors import InvalidRecording
from duramen.actors.console.ingest.json_items import file_source, sample_source
from duramen.actors.console.ingest.recordings import RecordedSession, read_sessions, slug
from duramen.events import AgentPath, Limits

HELLO = {"role": "user", "content": "hello"}
ANSWER = {"role": "assistant", "content": "yes", "extra": [1, 2.5, None, {"deep": True}]}
SESSION = {"task_id": 3, "trial": 1, "reward": 1.0, "traj": [HELLO, ANSWER]}


def read(file: Path, *, limit: int | None = None) -> list[RecordedSession]:
    return list(read_sessions(file_source(str(file)), Limits(), limit=limit))


def write(folder: Path, name: str, content: str | bytes) -> Path:
    file = folder / name
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return file


def as_lines(*values: Any) -> str:
    return "".join(json.dumps(value) + "\n" for value in values)


# -- what is understood --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["x.json", "x.jsonl", "x.txt", "x"])
@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (json.dumps([SESSION]), [[HELLO, ANSWER]]),
        (json.dumps([SESSION, SESSION]), [[HELLO, ANSWER], [HELLO, ANSWER]]),
        (json.dumps([HELLO, ANSWER]), [[HELLO, ANSWER]]),
        (json.dumps([[HELLO], [ANSWER, HELLO]]), [[HELLO], [ANSWER, HELLO]]),
        (json.dumps([{"messages": [HELLO]}]), [[HELLO]]),
        (json.dumps({"messages": [HELLO, ANSWER], "model": "x"}), [[HELLO, ANSWER]]),
        (json.dumps(SESSION), [[HELLO, ANSWER]]),
        (json.dumps(HELLO), [[HELLO]]),
    ],
    ids=["sessions", "two sessions", "messages", "lists", "objects", "messages of one", "one session", "one message"],
)
def test_a_document_in_one_line_is_understood_by_its_structure(
    tmp_path: Path, name: str, content: str, expected: list[Any]
) -> None:
    # In a file that is called .jsonl, a line that is a list is a session.
    if name == "x.jsonl" and content.startswith("["):
        content = "".join(json.dumps(value) + "\n" for value in json.loads(content))
    assert [session.messages for session in read(write(tmp_path, name, content))] == expected


@pytest.mark.parametrize("value", [[SESSION], [HELLO, ANSWER], {"messages": [HELLO]}, HELLO])
def test_a_document_over_several_lines_is_read_as_one(tmp_path: Path, value: Any) -> None:
    flat = read(write(tmp_path, "x.json", json.dumps(value)))
    assert read(write(tmp_path, "x.json", "\n\n" + json.dumps(value, indent=2) + "\n\n")) == flat


@pytest.mark.parametrize("name", ["x.jsonl", "x.ndjson", "x.json", "x.txt"])
def test_lines_of_messages_are_one_session(tmp_path: Path, name: str) -> None:
    (session,) = read(write(tmp_path, name, as_lines(HELLO, ANSWER)))
    assert (session.name, session.messages) == ("session-0001", [HELLO, ANSWER])


@pytest.mark.parametrize("name", ["x.jsonl", "x.json"])
def test_lines_of_sessions_are_as_many_sessions(tmp_path: Path, name: str) -> None:
    content = as_lines(SESSION, [HELLO], {"messages": [ANSWER]})
    sessions = read(write(tmp_path, name, content.replace("\n", "\n\n")))
    assert [session.messages for session in sessions] == [[HELLO, ANSWER], [HELLO], [ANSWER]]


def test_messages_are_kept_exactly_as_they_came(tmp_path: Path) -> None:
    message = {"zebra": 1, "role": "user", "content": None, "aé": -0.0, "big": 2**64 - 1, "small": -(2**63), "list": []}
    (session,) = read(write(tmp_path, "x.json", json.dumps([message])))
    assert repr(session.messages) == repr([message])


def test_a_byte_order_mark_is_no_part_of_the_recording(tmp_path: Path) -> None:
    assert read(write(tmp_path, "x.json", b"\xef\xbb\xbf" + json.dumps([HELLO]).encode()))[0].messages == [HELLO]


def test_the_sample_that_ships_is_understood() -> None:
    sessions = list(read_sessions(sample_source(), Limits()))
    assert [session.name for session in sessions] == ["research-assistant", "refund-helper", "deployment-helper"]
    assert {session.reward for session in sessions} == {0.0, 1.0}
    roles = {message["role"] for session in sessions for message in session.messages}
    assert roles == {"system", "user", "assistant", "tool"}


# -- names ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("facts", "name"),
    [
        ({"task_id": 3, "trial": 1}, "task-3-trial-1"),
        ({"task_id": 0, "trial": 0}, "task-0-trial-0"),
        ({"task_id": "3"}, "task-3"),
        ({"task_id": "Refund Helper", "trial": 2}, "refund-helper-trial-2"),
        ({"task_id": "…"}, "session-0001"),
        ({"trial": 1}, "session-0001"),
        ({}, "session-0001"),
    ],
)
def test_a_session_is_named_by_what_is_known_of_it(tmp_path: Path, facts: dict[str, Any], name: str) -> None:
    (session,) = read(write(tmp_path, "x.json", json.dumps([{**facts, "traj": [HELLO]}])))
    assert session.name == name
    assert session.metadata == {"recording": "x.json", **facts}


def test_sessions_with_the_same_facts_have_names_of_their_own(tmp_path: Path) -> None:
    names = [session.name for session in read(write(tmp_path, "x.json", json.dumps([SESSION, SESSION, SESSION])))]
    assert names == ["task-3-trial-1", "task-3-trial-1-2", "task-3-trial-1-3"]


def test_a_session_id_vouches_for_the_content_and_not_for_its_form(tmp_path: Path) -> None:
    def session_id(value: Any, **form: Any) -> str:
        return read(write(tmp_path, "x.json", json.dumps(value, **form)))[0].session_id

    assert session_id([SESSION]) == session_id([SESSION], indent=1, sort_keys=True)
    assert session_id([SESSION]) == session_id([{**SESSION, "info": "elsewhere"}])
    assert session_id([SESSION]) != session_id([{**SESSION, "reward": 0.0}])
    assert session_id([SESSION]) != session_id([{**SESSION, "traj": [HELLO]}])


@pytest.mark.slow
@given(st.text())
def test_a_slug_can_stand_in_an_agent_path_or_is_empty(text: str) -> None:
    made = slug(text)
    assert not made or AgentPath((made, made)).segments == (made, made)


@pytest.mark.parametrize(
    ("text", "expected"), [("Airline Sessions", "airline-sessions"), ("a.b_c-d", "a.b_c-d"), ("..", ""), ("日本", "")]
)
def test_a_slug_is_what_a_person_would_type(text: str, expected: str) -> None:
    assert slug(text) == expected


# -- limits --------------------------------------------------------------------------------------------------------


def test_no_more_is_read_than_asked_for(tmp_path: Path) -> None:
    content = as_lines(SESSION, [HELLO]) + "this is not JSON\n"
    assert len(read(write(tmp_path, "x.jsonl", content), limit=2)) == 2
    with pytest.raises(InvalidRecording, match=r"x.jsonl:3: not JSON"):
        read(write(tmp_path, "x.jsonl", content))


def test_messages_at_the_limits_of_an_event_are_taken(tmp_path: Path) -> None:
    message = {"role": "tool", "content": "x" * 250_000, "name": "read"}
    assert read(write(tmp_path, "x.json", json.dumps([message] * 40)))[0].messages == [message] * 40


@pytest.mark.parametrize(
    ("messages", "said"),
    [
        ([HELLO, {"role": "user", "content": "x" * 300_000}], r"x.json: /0/1 takes 3000\d\d bytes"),
        ([{"role": "user", "content": "x" * 250_000}] * 60, r"x.json: /0/5\d is one message too many"),
        ([HELLO] * 200_000, r"x.json: /0/\d+ is one message too many"),
        ([{"role": "user", "content": [[]] * 70_000}], r"x.json: /0/0/content goes beyond 65536 items"),
    ],
    ids=["a large message", "many bytes", "many messages", "a wide message"],
)
def test_a_session_that_no_agent_could_hold_is_refused(tmp_path: Path, messages: list[Any], said: str) -> None:
    with pytest.raises(InvalidRecording, match=said):
        read(write(tmp_path, "x.json", json.dumps([messages])))


# -- what is refused -----------------------------------------------------------------------------------------------

DEEP = '{"role": "user", "content": ' + "[" * 100_000 + "]" * 100_000 + "}"
SHAPES: list[tuple[str, str]] = [
    ("3", "x.json: this is not a list of messages"),
    ('"text"', "x.json: this is not a list of messages"),
    ("null", "x.json: this is not a list of messages"),
    ("[]", "x.json: an empty list"),
    ("{}", "x.json: this is neither a message"),
    ("[{}]", "x.json: /0 is neither a message"),
    ("[[]]", "x.json: /0 has no messages"),
    ("[3]", "x.json: /0 is not a list of messages"),
    ('[{"traj": []}]', "x.json: /0/traj has no messages"),
    ('[{"traj": {}}]', "x.json: /0/traj is not a list"),
    ('[{"traj": [1]}]', "x.json: /0/traj/0 is not a message"),
    ('[{"traj": [{"role": "user"}], "messages": []}]', "x.json: /0 has both traj and messages"),
    ('{"messages": [{"role": "user"}, {"content": "x"}]}', "x.json: /messages/1 has no role"),
    ('[{"role": "user"}, [{"role": "user"}]]', "x.json: /1 is not a message"),
    ('[[{"role": "user"}], {"role": "user"}]', "x.json: /1 is neither a message"),
    ('[{"role": 3}]', "x.json: /0 has no role"),
    ('[{"role": ""}]', "x.json: /0 has no role"),
    ('[{"role": "tool", "name": 3}]', "x.json: /0/name is not a text"),
    ('[{"role": "tool", "tool_call_id": 3}]', "x.json: /0/tool_call_id is not a text"),
    ('[{"role": "assistant", "tool_calls": {}}]', "x.json: /0/tool_calls is not a list"),
    ('[{"role": "assistant", "tool_calls": [{}]}]', "x.json: /0/tool_calls/0 is not a call"),
    ('[{"role": "assistant", "tool_calls": [{"function": {"name": 1}}]}]', "x.json: /0/tool_calls/0 is not a call"),
    ('[{"traj": [{"role": "user"}], "reward": "1"}]', "x.json: /0/reward is not a number"),
    ('[{"traj": [{"role": "user"}], "reward": true}]', "x.json: /0/reward is not a number"),
    ('[{"traj": [{"role": "user"}], "reward": NaN}]', "x.json: /0/reward is not a number"),
    ('[{"traj": [{"role": "user"}], "task_id": []}]', "x.json: /0/task_id is neither"),
]
VALUES: list[tuple[str, str]] = [
    ('[{"role": "user", "n": 18446744073709551616}]', "x.json: /0/n is an int outside"),
    (f'[{{"role": "user", "n": [{"9" * 5000}]}}]', "x.json: /0/n/0 is a number that does not fit 64 bits"),
    ('[{"role": "user", "n": 1e999}]', "x.json: /0/n is a number beyond the range"),
    ('[{"role": "user", "n": -Infinity}]', "x.json: /0/n is -Infinity, which is not JSON"),
    ('[{"role": "user", "n": {"a": 1, "a": 2}}]', "x.json: /0/n is an object that has a key twice"),
    ('[{"role": "user", "n": "\\ud800"}]', "x.json: /0/n has a lone surrogate"),
    (f"[{DEEP}]", "x.json: nested too deeply"),
    ('[{"role": "user", "content": ' + "[" * 70 + "]" * 70 + "}]", "goes beyond 64 levels of nesting"),
]
TEXTS: list[tuple[str | bytes, str]] = [
    ("", "x.json: empty"),
    (" \n\n", "x.json: empty"),
    ("[", "x.json:1: not JSON: Expecting value"),
    ('[\n  {"role": "user"},\n  {"role" "user"}\n]', r"x.json:3: not JSON: Expecting ':' delimiter \(column 11\)"),
    ('[{"role": "user"}] trailing', "x.json:1: not JSON: Extra data"),
    ("not json at all", "x.json:1: not JSON"),
    (b'[\n{"role": "user", "content": "\xff"}]', "x.json:2: not UTF-8"),
    (json.dumps([HELLO]).encode("utf-16"), "x.json:1: not UTF-8"),
    ('{"role": "user"}\n{"role"\n', "x.json:2: not JSON"),
    ('{"role": "user"}\n[{"role": "user"}]\n', "x.json:2: this is not a message"),
    ('{"role": "user"}\n\n{"content": 1}\n', "x.json:3: this has no role"),
    ('[{"role": "user"}]\n{"role": "user"}\n', "x.json:2: this is neither a message"),
    ('{"traj": [{"role": "user"}]}\n{"traj": [{"role": "user", "n": NaN}]}\n', "x.json:2: /traj/0/n is NaN"),
    (b'{"role": "user"}\n{"role": "user", "n": "\xff"}\n', "x.json:2: not UTF-8"),
]


@pytest.mark.parametrize(("content", "said"), [*SHAPES, *VALUES, *TEXTS], ids=lambda value: str(value)[:60])
def test_what_is_no_recording_is_refused_with_file_and_place(tmp_path: Path, content: str | bytes, said: str) -> None:
    file = write(tmp_path, "x.json", content)
    with pytest.raises(InvalidRecording, match=said):
        read(file)


def test_a_refusal_shows_nothing_of_what_was_said(tmp_path: Path) -> None:
    secret = '[{"role": "user", "content": "sk-secret", "n": 1e999}, "sk-secret"]'
    with pytest.raises(InvalidRecording) as refused:
        read(write(tmp_path, "x.json", secret))
    assert "sk-secret" not in str(refused.value)


@pytest.mark.parametrize("name", ["missing.json", "folder", "bad\0name"])
def test_what_is_no_file_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(InvalidRecording, match=r"cannot be read|not a file"):
        read(tmp_path / name)


def test_a_line_that_is_too_long_is_refused_before_it_is_read_whole(tmp_path: Path) -> None:
    file = tmp_path / "x.jsonl"
    with file.open("wb") as long:
        long.truncate(200 * 1024 * 1024)  # a file of holes, that takes no disk
    with pytest.raises(InvalidRecording, match="line 1 is larger than 64 MiB"):
        read(file)


def test_a_document_that_is_too_large_is_refused(tmp_path: Path) -> None:
    file = write(tmp_path, "x.json", "[\n")
    with file.open("ab") as large:
        large.truncate(200 * 1024 * 1024)
    with pytest.raises(InvalidRecording, match="the document is larger than 64 MiB"):
        read(file)


@given(st.binary(max_size=200))
def test_no_bytes_are_refused_with_anything_but_a_typed_error(data: bytes) -> None:
    from io import BytesIO

    from duramen.actors.console.ingest.json_items import Source

    for in_lines in (False, True):
        source = Source("x", "x", in_lines, lambda: BytesIO(data))
        with pytest.raises(InvalidRecording):
            list(read_sessions(source, Limits()))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["role", "traj", "messages", "tool_calls", "reward", "x"]), inner, max_size=4)
    ),
    max_leaves=20,
)


@given(JSON)
def test_json_of_any_shape_is_taken_or_refused_with_a_typed_error(value: Any) -> None:
    from io import BytesIO

    from duramen.actors.console.ingest.json_items import Source

    data = json.dumps(value).encode()
    for in_lines in (False, True):
        source = Source("x", "x", in_lines, lambda: BytesIO(data))
        try:
            sessions = list(read_sessions(source, Limits()))
        except InvalidRecording:
            continue
        assert all(session.messages and "role" in session.messages[0] for session in sessions)
