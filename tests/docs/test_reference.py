"""The reference is complete and names nothing that is not there: its tables are compared with the code."""

from __future__ import annotations

import contextlib
import inspect
import re
from collections.abc import Iterator, Mapping
from typing import Any

import attrs
import pytest

from actors.work.whole_life import question_cancelled, work_for_life
from clusters import Cluster
from docs.pages import ROOT
from duramen.actors import Agent, AgentSystem, Record, Retention, Settings, Spawn, Strategy, Supervision
from duramen.actors.commands import messages, reminders, results, work
from duramen.actors.console.main import make_parser
from duramen.events import Event, Granularity, Limits, MemoryLog, Receipt, errors, event_type
from duramen.events.log.keys import Keys, partition_of
from duramen.events.model.registry import EventRegistry
from duramen.events.model.vocabulary import OWN_TYPES
from duramen.events.redis.client.connection import _OPTIONS, _SENTINEL_LOGIN, _TLS_OPTIONS
from duramen.events.redis.client.errors import _ADVICE, _PASSING
from duramen.projections import Episode
from duramen.projections.state import REQUIRED
from following import Count
from servers import Server, redis_server, valkey_server
from waiting import eventually

REFERENCE = ROOT / "docs" / "reference"
ROOMS = ("actors", "events", "projections")

_HEADING = re.compile(r"^#{1,6} (.*)$")
_NAME = re.compile(r"`([^`]+)`")


def text_of(page: str) -> str:
    return (REFERENCE / page).read_text(encoding="utf-8")


def tables(page: str) -> dict[str, list[list[list[str]]]]:
    """By heading, without its backticks: the tables below it, each a list of rows of cells."""
    found: dict[str, list[list[list[str]]]] = {}
    heading, inside, fenced = "", False, False
    for line in text_of(page).splitlines():
        fenced ^= line.startswith("```")
        title = None if fenced else _HEADING.match(line)
        if title:
            heading = title[1].replace("`", "")
        if fenced or not line.startswith("|"):
            inside = False
            continue
        cells = [cell.strip() for cell in line.strip("|").split(" | ")]
        if not inside:
            found.setdefault(heading, []).append([])
        found[heading][-1].append(cells)
        inside = True
    return found


def named(table: list[list[str]]) -> dict[str, list[str]]:
    """Rows by the name in backticks that their first cell begins with; header and rule are not among them."""
    rows = [row for row in table if row[0].startswith("`")]
    assert len(rows) == len(table) - 2, f"not every row of {table[0]} has a name"
    return {_NAME.findall(row[0])[0]: row for row in rows}


ANSWERS = "What the server answers"


def all_named(page: str) -> dict[str, list[str]]:
    pages = {heading: below for heading, below in tables(page).items() if heading != ANSWERS}
    return {name: row for below in pages.values() for table in below for name, row in named(table).items()}


def classes(module: Any) -> dict[str, type[Any]]:
    found = {name: found for name, found in vars(module).items() if getattr(found, "__module__", "") == module.__name__}
    return {name: value for name, value in found.items() if isinstance(value, type)}


# -- errors ------------------------------------------------------------------------------------------------------------


def test_every_answer_of_a_server_stands_with_what_is_done_about_it() -> None:
    [table] = tables("errors.md")[ANSWERS]
    shown = {code: row[2].partition(";")[0] for row in named(table).values() for code in _NAME.findall(row[0])}
    assert shown == {code: "passes" if code in _PASSING else "stays" for code in _ADVICE}


def test_every_error_has_a_row_and_every_row_an_error() -> None:
    rows = [
        name
        for title, below in tables("errors.md").items()
        if title != ANSWERS
        for rows in below
        for name in named(rows)
    ]
    assert sorted(rows) == sorted(set(errors.__all__) - {"DuramenError"})


def test_an_error_that_is_a_builtin_one_too_says_so() -> None:
    for name, row in all_named("errors.md").items():
        builtins = [base for base in getattr(errors, name).__mro__ if base in (ValueError, LookupError, TimeoutError)]
        told = [base for base in builtins if f"`{base.__name__}`" in row[1] or "`InvalidPath`" in row[1]]
        assert told == builtins, name


# -- limits ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cls", [Limits, Settings])
def test_every_limit_and_setting_stands_with_its_default(cls: type[Any]) -> None:
    (table,) = tables("limits.md")[cls.__name__]
    shown = {name: row[1] for name, row in named(table).items()}
    assert shown == {field.name: str(field.default) for field in attrs.fields(cls)}


# -- configuration -----------------------------------------------------------------------------------------------------


def test_every_argument_of_open_stands_with_its_default() -> None:
    (table,) = tables("configuration.md")["AgentSystem.open"]
    shown = {name: row[1].strip("`") for name, row in named(table).items()}
    taken = {name: given.default for name, given in inspect.signature(AgentSystem.open).parameters.items()}
    said = {"registry": "the one of the process", "limits": "Limits()", "settings": "Settings()"}
    assert shown == {name: said.get(name, str(default)) for name, default in taken.items()}
    assert (taken["limits"], taken["settings"]) == (None, None)


def test_every_option_of_an_address_has_a_row() -> None:
    options = tables("configuration.md")["Addresses"][1]
    shown = [name for row in options[2:] for name in _NAME.findall(row[0])]
    assert sorted(shown) == sorted([*_OPTIONS, *_TLS_OPTIONS, *_SENTINEL_LOGIN])


def test_every_environment_variable_is_named() -> None:
    page = text_of("configuration.md")
    sources = [path.read_text(encoding="utf-8") for room in ROOMS for path in (ROOT / room).rglob("*.py")]
    read = {name for source in sources for name in re.findall(r'"(DURAMEN_[A-Z_]+)"', source)}
    assert read == set(re.findall(r"`(DURAMEN_[A-Z_]+)`", page))
    assert {"DURAMEN_URL", "DURAMEN_INTEGRITY_KEY"} <= read


# -- messages ----------------------------------------------------------------------------------------------------------

_ALL = {**classes(messages), **classes(work), **classes(reminders)}
_RESULTS = (work.UnfinishedWork, work.WorkProblem, reminders.Reminder)
MESSAGES = {name: cls for name, cls in _ALL.items() if attrs.has(cls) and cls not in _RESULTS}


def test_every_message_has_a_section_and_every_section_a_message() -> None:
    headings = re.findall(r"^### `(\w+)`$", text_of("messages.md"), re.MULTILINE)
    assert sorted(headings) == sorted(MESSAGES)


@pytest.mark.parametrize("name", sorted(MESSAGES))
def test_every_field_of_a_message_stands_with_its_default(name: str) -> None:
    below = tables("messages.md").get(name, [])
    shown = {field: row[1] for field, row in named(below[0]).items()} if below else {}
    assert shown == {field.name: default_of(field) for field in attrs.fields(MESSAGES[name])}


def default_of(field: Any) -> str:
    """As the page shows it."""
    if field.default is attrs.NOTHING:
        return "required"
    if field.default is REQUIRED:
        return "none"
    if field.default is messages.DEFAULT_TTL:
        return "`7 days`"
    factory = getattr(field.default, "factory", None)
    if factory is not None:
        return f"`{factory()!r}`"
    if isinstance(field.default, Granularity):
        return f"`{field.default.name}`"
    return f'`"{field.default}"`' if isinstance(field.default, str) else f"`{field.default!r}`"


def test_what_messages_return_stands_with_all_its_fields() -> None:
    page = " ".join(text_of("messages.md").split())
    for cls in (results.AgentStatus, results.Checkpoint, *_RESULTS):
        wanted = ", ".join(field.name for field in attrs.fields(cls))
        assert f"`{wanted}`" in page, cls
    assert f"`{', '.join(Receipt._fields)}`" in page
    for field in attrs.fields(results.LifecycleResult):
        assert f"`{field.name}`" in page, field.name


# -- what really happens -----------------------------------------------------------------------------------------------

REGISTRY = EventRegistry()


@event_type("seen", registry=REGISTRY)
@attrs.frozen
class PageResult:
    what: str


class Watcher(Agent):
    supervision = Supervision(strategy=Strategy.STOP)

    def on_receive(self, message: Any) -> None:
        if message == "a ghost":
            raise RuntimeError(message)
        self.emit(PageResult(message))


def a_whole_life() -> tuple[list[Event], dict[str, Mapping[str, Any]]]:
    """Every event that an agent of ours can cause, and the data of each lifecycle result."""
    log = MemoryLog()
    work_for_life(lambda kinds: AgentSystem.open(log=log, registry=REGISTRY, agents=kinds), "acme/bob", REGISTRY)
    with AgentSystem.open(log=log, registry=REGISTRY, agents={"watcher": Watcher}) as system:
        alice = system.agent("acme/alice")
        told = [alice.ask(Spawn(agent_type="watcher", initial_state={"goal": 1}))]
        alice.set("plan/steps", [1])
        alice.set("report", "x" * 300_000)
        alice.delete("report")
        alice.append("plan/steps", 2)
        alice.merge("plan", {"open": True})
        told.append(alice.pause("lunch"))
        alice.resume("lunch")
        alice.delete("plan")
        alice.set_granularity(Granularity.TRACE)
        alice.set_retention(Retention(events=100))
        alice.ask(Record("thought", "x", Granularity.TRACE))
        alice.ask("a bird")
        alice.pause("night", cascade=True)
        told.append(alice.resume("lunch"))
        told.append(alice.terminate())
        system.spawn("acme/alice", agent_type="watcher", expires_after=3_600).spawn_child("helper")
        with contextlib.suppress(RuntimeError):
            alice.ask("a ghost")
        alice.restart()
        system.fork("acme/alice", to="acme/alice-b")
        first = system.peek("acme/alice-b").seq
        forked = system.events("acme/alice-b", from_seq=first)
        events = [*system.events("acme/bob"), *system.events("acme/alice"), *forked]
        return [*question_cancelled(system, "acme/carol", REGISTRY), *events, *an_expiry(system)], {
            result.event_type: result.data for result in told
        }


def an_expiry(system: AgentSystem) -> list[Event]:
    """The event that ends an agent which expires, read before that is erased."""

    def refuse(self: Any, path: Any) -> Any:
        raise errors.Unavailable("not now")

    guest = "acme/guest"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(AgentSystem, "erase", refuse)
        system.spawn(guest, expires_after=0.001)
        eventually(lambda: system._finder.look() or [one.status for one in system.agents(guest)] == ["terminated"])
        return [event for event in system.events(guest) if event.type == "expired"]


def test_every_type_of_event_has_a_section_with_its_data() -> None:
    headings = re.findall(r"^### `(\w+)`$", text_of("events.md"), re.MULTILINE)
    assert sorted(headings) == sorted(OWN_TYPES)
    below = tables("events.md")
    happened = {event.type: event.data for event in a_whole_life()[0]}
    assert set(happened) == OWN_TYPES | {"seen"}
    for kind in OWN_TYPES:
        shown = set(named(below[kind][0])) if kind in below else set()
        assert shown == set(happened[kind]), kind


def test_events_stand_under_the_level_they_have() -> None:
    text = text_of("events.md")
    order = ("## Lifecycle", "## Working memory", "## Activity", "## Your own")
    marks = [text.index(heading) for heading in order]
    for event in a_whole_life()[0]:
        if event.type in OWN_TYPES:
            at = text.index(f"### `{event.type}`")
            chapter = sum(mark < at for mark in marks)
            assert chapter == min(3, event.granularity), event.type


def test_every_field_of_an_event_and_of_an_episode_is_named() -> None:
    (table,) = tables("events.md")["Events"]
    assert list(named(table)) == [field.name for field in attrs.fields(Event)]
    episode = text_of("events.md").partition("The episode has")[2].partition("Its id")[0]
    wanted = [field.name for field in attrs.fields(Episode)]
    assert [name for name in _NAME.findall(episode) if name in wanted] == wanted


@pytest.mark.parametrize("message", ["Spawn", "Pause", "Resume", "Terminate"])
def test_the_data_of_a_lifecycle_result_is_what_the_page_says(message: str) -> None:
    assert set(named(tables("messages.md")[message][1])) == set(a_whole_life()[1][message.lower()])


# -- keys --------------------------------------------------------------------------------------------------------------


def templates() -> set[str]:
    """What `Keys` makes, with the parts that vary in capitals as the page has them."""
    keys = Keys("ns")
    agent, checkpoint = "acme/alice", "lunch"
    made = [
        keys.namespace,
        keys.heads(7),
        keys.directory(7),
        keys.feed(7),
        keys.episodes(7),
        keys.log(7, agent),
        keys.snapshot(7, agent),
        keys.bases(7),
        keys.base(7, agent),
        keys.checkpoint(7, agent, checkpoint),
        keys.keyframes(7, agent),
        keys.keyframe_seqs(7, agent),
        keys.staged(7, agent, "token").rpartition(":")[0] + ":TID",
        keys.output(7, agent, "answer").rpartition(":")[0] + ":OID",
        keys.outputs(7, agent),
        keys.contents(7, agent),
        keys.chunks(7, agent, bytes(32)).rpartition(":")[0] + ":DIGEST",
        keys.views,
        *[keys.view("costs", slot).replace(keys.view("costs", "").split(":")[-2], "VID") for slot in ("live", "next")],
        keys.embeddings(agent).replace(keys.log(7, agent).rpartition(":")[2], "MID"),
        *[keys.channel(7, level) for level in Granularity],
        keys.hosts,
        keys.content("CONTENT"),
        keys.owners(7),
        keys.erasing(7),
        keys.unfinished(7),
        keys.host_channel("HOST"),
    ]
    last = keys.checkpoint(7, agent, checkpoint).split(":")
    own, other = last[-2], last[-1]
    return {key.replace("ns:07", "ns:NN").replace(own, "ID").replace(other, "CID") for key in made}


def test_every_key_and_channel_has_a_row_and_every_row_is_one() -> None:
    below = tables("keys.md")
    shown = {**named(below["Keys"][0]), **named(below["Channels"][0])}
    assert set(shown) == templates()


def test_no_maker_of_keys_is_forgotten_here() -> None:
    makers = {name for name in dir(Keys) if not name.startswith("_")}
    assert makers == {
        "hosts",
        "host_channel",
        "content",
        "owners",
        "erasing",
        "unfinished",
        "heads",
        "directory",
        "feed",
        "log",
        "snapshot",
        "bases",
        "base",
        "checkpoint",
        "keyframes",
        "keyframe_seqs",
        "output",
        "chunks",
        "contents",
        "outputs",
        "staged",
        "episodes",
        "channel",
        "embeddings",
        "view",
        "views",
    }


def test_the_page_of_keys_and_the_module_tell_the_same_table() -> None:
    module = (ROOT / "events" / "log" / "keys.py").read_text(encoding="utf-8")
    for key in templates():
        tail = key.rpartition("}")[2]
        assert key in module or f"`{tail}`" in module, key


def test_the_partition_is_what_the_page_says() -> None:
    assert partition_of("acme/alice/helper", 16) == partition_of("acme/alice", 16) == 3


# -- the command -------------------------------------------------------------------------------------------------------


def test_the_page_has_every_command_in_the_order_of_its_help() -> None:
    page = (REFERENCE / "console.md").read_text(encoding="utf-8").partition("\n## ")[0]
    shown = re.findall(r"^\| \[`([a-z]+)[^`]*`\]", page, re.MULTILINE)
    said = make_parser().format_help().partition("commands:")[2].partition("exit codes")[0]
    assert shown == re.findall(r"^    ([a-z]+)\b", said, re.MULTILINE)


# -- controls ----------------------------------------------------------------------------------------------------------


def test_a_row_without_a_name_is_noticed() -> None:
    with pytest.raises(AssertionError, match="has a name"):
        named([["field", "default"], ["---", "---"], ["depth", "64"]])


# -- the user with few rights ------------------------------------------------------------------------------------------

ADMIN = ("alone", "secret")


def acl_line() -> list[str]:
    """The command that the page on operations shows, in words."""
    page = (ROOT / "docs" / "guide" / "operations.md").read_text(encoding="utf-8")
    return page.partition("ACL SETUSER")[2].partition("```")[0].split()


def rights() -> list[str]:
    return [word for word in acl_line() if word.startswith("+")]


def give(server: Server, words: list[str]) -> str:
    """Make the user, and nobody else able to do anything; the url to log in with."""
    name, *rules = words
    with server.client(username=ADMIN[0], password=ADMIN[1]) as admin:
        admin.execute_command("ACL", "SETUSER", name, *rules)
        admin.script_flush()
    host, port = server.address
    return f"redis://{name}:SECRET@{host}:{port}"


@pytest.fixture(params=[redis_server, valkey_server], ids=["redis", "valkey"])
def locked(request: pytest.FixtureRequest) -> Iterator[Server]:
    """A server whose default user may do nothing."""
    with request.param(tcp=True) as server:
        name, password = ADMIN
        with server.client() as client:
            client.execute_command("ACL", "SETUSER", name, "reset", "on", f">{password}", "~*", "&*", "+@all")
        with server.client(username=name, password=password) as admin:
            admin.execute_command("ACL", "SETUSER", "default", "resetkeys", "resetchannels", "nocommands", "+ping")
            yield server
            admin.execute_command("ACL", "SETUSER", "default", "~*", "&*", "+@all")


def use_everything(url: str, namespace: str) -> None:
    often = Settings(snapshot_every=3)
    with AgentSystem.open(url, namespace=namespace, registry=REGISTRY, settings=often) as system:
        system.register("watcher", Watcher)
        alice = system.spawn("acme/alice", agent_type="watcher")
        alice.set("plan/steps", [1])
        alice.set("report", "x" * 300_000)
        alice.delete("report")
        with alice.batch(command_id="b-1") as batch:
            batch.append("plan/steps", 2)
            batch.record("thought")
        alice.ask("a bird")
        with alice.stream("answer") as out:
            out.write("a bird it is")
        assert list(system.follow("acme/alice", "answer")) == ["a bird it is"]
        with system.attach(Count(), "count") as runner:
            runner.wait_for(saved=True)
            runner.rebuild()
            runner.wait_for(saved=True)
        system.consumers.remove("count")
        alice.spawn_child("helper")
        alice.pause("lunch", cascade=True)
        alice.resume(cascade=True)
        assert [found.checkpoint_id for found in alice.checkpoints()] == ["lunch"]
        alice.terminate(command_id="t-1")
        alice.terminate(command_id="t-1")
        assert system.trim("acme/alice", keep_events=0).held_by == "checkpoint 'lunch'"
        system.spawn("acme/alice", agent_type="watcher")
        assert len(system.episodes.list()) == len(list(system.agents())) == 2
        assert list(system.events("acme/alice", from_seq=10))[-1].seq == system.peek("acme/alice").seq
    with AgentSystem.open(url, namespace=namespace, registry=REGISTRY) as system:
        system.register("watcher", Watcher)
        assert system.agent("acme/alice").set("back", True).seq > 0
        assert system.erase("acme/alice").agents == ("acme/alice", "acme/alice/helper")


NOT_MISSED = {"+publish", "+subscribe", "+unsubscribe", "+ping", "+zadd", "+zrange", "+zrem", "+zrank"}


@pytest.mark.slow
def test_the_rights_on_the_page_are_enough(locked: Server) -> None:
    use_everything(give(locked, acl_line()), "enough")
    with locked.client(username=ADMIN[0], password=ADMIN[1]) as admin:
        refused = {entry["object"] for entry in admin.acl_log()}
    assert refused <= {"config|get", "client|setinfo", "info"}, "only what the page says can be missed"


@pytest.mark.slow
def test_the_rights_on_the_page_are_enough_in_a_cluster() -> None:
    page = (ROOT / "docs" / "guide" / "operations.md").read_text(encoding="utf-8")
    others = page.partition("In a cluster every node")[2].split("```")[1].removeprefix("text").split()
    words = acl_line()
    words = [*words[: words.index("+publish")], *others]
    with Cluster() as cluster:
        for node in cluster.nodes:
            cluster.call(node, "ACL", "SETUSER", *words)
        use_everything(cluster.url.replace("://", f"://{words[0]}:SECRET@"), "enough")
        logs = [cluster.call(node, "ACL", "LOG") for node in cluster.nodes]
    refused = {entry[b"object"].decode() for log in logs for entry in log}
    assert refused <= {"config|get", "client|setinfo", "info"}, "only what the page says can be missed"


@pytest.mark.slow
@pytest.mark.parametrize("right", sorted(set(rights()) - NOT_MISSED))
def test_without_one_of_the_rights_something_is_refused(locked: Server, right: str) -> None:
    url = give(locked, [word for word in acl_line() if word != right])
    with pytest.raises(errors.NotPermitted):
        use_everything(url, "less")


@pytest.mark.slow
def test_without_publish_everything_is_committed_all_the_same(locked: Server) -> None:
    use_everything(give(locked, [word for word in acl_line() if word != "+publish"]), "silent")
