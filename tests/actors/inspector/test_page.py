"""The inspector's page in a real browser. Needs chromium and chromedriver; fails where they are not there."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from attrs import frozen

from browser import Browser
from duramen.actors import Agent, AgentSystem
from duramen.actors.inspector import InspectorServer, write_static_page
from duramen.events import Event, message_type
from duramen.projections import Projection
from inspecting import Asker, inspecting
from waiting import eventually

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

SESSIONS = 50
DESK = "desk/one"
HOSTILE = "lab/hostile"
SCRIPT = "<script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">"


@message_type("inspected_question", durable=True)
@frozen
class Question:
    text: str


class Count(Projection[int]):
    def initial(self) -> int:
        return 0

    def apply(self, state: int, event: Event) -> int:
        return state + 1


class Waiter(Agent):
    async def on_receive(self, message: Any) -> Any:
        return await self.wait_for("approval", about=message.text)


@pytest.fixture(scope="module")
def system() -> Iterator[AgentSystem]:
    with AgentSystem.open("memory://") as opened:
        for number in range(SESSIONS):
            opened.spawn(f"airline/task-{number}", agent_type="recorded").terminate(
                outcome="success" if number % 2 else "failure",
                task_description=f"refund of flight {number}, don't re-book",
            )
        write_desk(opened)
        write_hostile(opened)
        yield opened


def write_desk(system: AgentSystem) -> None:
    desk = system.spawn(
        DESK, agent_type="support", initial_state={"goal": "help", "plan": {"at": 0, "steps": ["read"]}}
    )
    call = {"id": "c-1", "function": {"name": "look", "arguments": '{"at": "it"}'}}
    for turn in range(5):
        with desk.batch() as batch:
            batch.append("messages", {"role": "user", "content": f"question {turn}"})
            batch.set("plan/at", turn)
        with desk.batch() as batch:
            batch.append("messages", {"role": "assistant", "content": None, "tool_calls": [call]})
            batch.record("tool_call", {"tool": "look", "tool_call_id": "c-1", "arguments": "{}"})
        with desk.batch() as batch:
            batch.append("messages", {"role": "tool", "tool_call_id": "c-1", "content": f"Error: {turn}"})
            batch.record("tool_output", {"tool": "look", "tool_call_id": "c-1", "result": f"Error: {turn}"})
            batch.merge("usage", {"tokens": 700.5 * turn, "last": None if turn % 2 else turn, "exact": 2**60 + turn})
        if turn == 2:
            desk.pause(checkpoint_id="lunch")
            desk.resume()
            desk.delete("plan/steps/0")


def write_hostile(system: AgentSystem) -> None:
    hostile = system.spawn(HOSTILE)
    hostile.set("script", SCRIPT)
    hostile.merge("", {SCRIPT: {SCRIPT: SCRIPT}})
    hostile.set("long", "x" * 1_000_000)
    hostile.set("lines", "y\n" * 60_000)
    hostile.set("blob", b"\x00\xff" * 20_000)
    hostile.merge("many", {f"key {number}": number for number in range(10_000)})
    deep: Any = "bottom"
    for _ in range(55):
        deep = {"in": deep}
    hostile.set("deep", deep)
    hostile.set("turned", "\u202eabc\u2066 \x1b[31m אבג")
    hostile.append("messages", {"role": SCRIPT[:30], "content": SCRIPT})
    hostile.record("note", {SCRIPT: SCRIPT})


@pytest.fixture(scope="module")
def asker(system: AgentSystem) -> Iterator[Asker]:
    with inspecting(system) as found:
        yield found


@pytest.fixture(scope="module")
def browser(asker: Asker) -> Iterator[Browser]:
    with Browser() as opened:
        opened.open(asker.server.url)
        yield opened


@pytest.fixture(autouse=True)
def _no_complaints(browser: Browser) -> Iterator[None]:
    """Fail a test in which the console has complained: of an exception, of what the policy refuses, of an answer."""
    browser.complaints()
    yield
    assert browser.complaints() == []


def go(browser: Browser, address: str) -> None:
    browser.run("if (location.hash === arguments[0]) dispatchEvent(new Event('hashchange'))", address)
    browser.run("location.hash = arguments[0]", address)


def show(browser: Browser, agent: str, seq: int) -> None:
    """Go to a moment, and wait until all panes show it."""
    go(browser, f"#/agent/{agent}@{seq}")
    browser.wait("return document.querySelector('.pane.right header span')?.textContent === arguments[0]", f"@{seq}")
    browser.wait("return document.querySelector('.agent-page:not(.loading)') !== null")


def search(browser: Browser, text: str) -> None:
    """Put a text into the search field of the page."""
    browser.run(
        "const i = document.querySelector('section input[type=search]'); i.value = arguments[0];"
        " i.dispatchEvent(new Event('input')); i.blur()",
        text,
    )


def memory_in(browser: Browser) -> dict[str, list[str]]:
    """Path, value and setter of each scalar that the opened tree shows."""
    browser.run("const b = document.querySelector('.middle button'); if (b.textContent === 'Open all') b.click()")
    return dict(
        browser.run(
            "return [...document.querySelectorAll('.tree .row.value:not([aria-expanded])')]"
            ".filter((row) => !row.classList.contains('removed'))"
            ".map((row) => [row.dataset.key.replaceAll('\\u0000', '/'),"
            " [row.querySelector('.held').textContent, row.querySelector('.setter').textContent]])"
        )
    )


def leaves(value: Any, path: str = "") -> dict[str, str]:
    """Path and text of each scalar and each empty container."""
    if isinstance(value, (dict, list)) and value:
        found: dict[str, str] = {}
        for key, held in value.items() if isinstance(value, dict) else enumerate(value):
            found |= leaves(held, f"{path}/{key}" if path else str(key))
        return found
    if isinstance(value, (dict, list)):
        return {path: "{0} " if isinstance(value, dict) else "[0] "}
    return {path: "null" if value is None else value if type(value) is str else str(value)}


def test_the_token_opens_the_page_and_does_not_stay_in_the_address(browser: Browser, asker: Asker) -> None:
    browser.open(asker.server.url)
    browser.wait("return document.querySelectorAll('.agents .agent-row').length > 10")
    assert browser.run("return location.href") == asker.server.address
    assert browser.run("return document.cookie") == ""
    browser.wait("return document.querySelector('#live .word').textContent === 'live'")
    assert f"All{SESSIONS + 2}" in browser.text(".statuses")
    assert browser.run("return document.querySelectorAll('.agent-row').length") < SESSIONS, (
        "only rows in sight are there"
    )


def test_every_seq_shows_the_state_and_the_setters_of_the_library(browser: Browser, system: AgentSystem) -> None:
    for seq in range(system.peek(DESK).seq, 0, -3):
        show(browser, DESK, seq)
        shown = memory_in(browser)
        memory = system.state_at(DESK, seq).memory.plain()
        assert {path: text for path, (text, _) in shown.items()} == leaves(memory), seq
        blamed = system.blame(DESK, "", seq).leaves
        assert {p: s for p, (_, s) in shown.items() if s} == {
            p: f"@{leaf.seq}" for p, leaf in blamed.items() if shown[p][1]
        }, seq


def test_arrow_keys_step_by_append_and_by_event(browser: Browser) -> None:
    show(browser, DESK, 1)

    def press(*keys: str) -> str:
        browser.press(*keys)
        return browser.text(".transport .seq")

    browser.run("document.querySelector('.track').focus()")
    assert press("ArrowRight") == "3"  # a message and the plan were one append
    assert press("ArrowLeft") == "1"
    assert press("Alt", "ArrowRight") == "2"
    assert press("End") == browser.run("return document.querySelector('.track').getAttribute('aria-valuemax')")
    assert press("Home") == "1"
    assert press("e") == "7", "the first failed tool"


def test_the_timeline_is_dragged(browser: Browser) -> None:
    show(browser, DESK, 1)
    box = browser.run(
        "const b = document.querySelector('.track canvas').getBoundingClientRect(); return [b.left, b.top, b.width]"
    )
    browser.drag(box[0] + 100, box[1] + 20, box[0] + box[2] - 2)
    browser.wait("const t = document.querySelector('.track'); return t.ariaValueNow === t.ariaValueMax")
    browser.drag(box[0] + box[2] - 20, box[1] + 20, box[0] + 40)
    browser.wait("return document.querySelector('.track').ariaValueNow === '1'")


def test_what_an_event_has_changed_is_shown(browser: Browser) -> None:
    show(browser, DESK, 10)
    row = "document.querySelector('.tree .row.changed')"
    assert browser.run(f"return {row}.dataset.key") == "plan\u0000at"
    assert browser.run(
        f"return [{row}.querySelector('del').textContent, {row}.querySelector('.held').textContent]"
    ) == ["0", "1"]


def test_the_conversation_shows_nothing_from_later(browser: Browser) -> None:
    show(browser, DESK, 10)
    said = "return [...document.querySelectorAll('.message')].map((each) => each.textContent)"
    browser.wait(f"return ({said[7:]}).length === 4")
    messages = browser.run(said)
    assert "question 1" in messages[-1]
    assert ["look" in messages[1], "Error: 0" in messages[2]] == [True, True]
    show(browser, DESK, 2)
    browser.wait(f"return ({said[7:]}).length === 1")


def test_a_change_arrives_by_itself(browser: Browser, system: AgentSystem, asker: Asker) -> None:
    browser.open("about:blank")
    browser.open(f"{asker.server.url}#/agent/{DESK}")
    browser.wait("return document.querySelector('#live .word')?.textContent === 'live'")
    browser.wait(
        "const t = document.querySelector('.track');"
        " return t && t.ariaValueNow === t.ariaValueMax && t.ariaValueMax !== '0'"
    )
    try:
        browser.run("for (let id = 1; id < 10_000; id += 1) clearInterval(id)")  # nothing is asked for now and then
        system.agent(DESK).set("news", "arrived")
        arrived = "(row) => row.textContent.includes('arrived')"
        browser.wait(f"return [...document.querySelectorAll('.tree .row.added')].some({arrived})")
        system.agent(DESK).delete("news")
        browser.wait("return document.querySelector('.tree .row.removed') !== null")
    finally:
        browser.open("about:blank")
        browser.open(asker.server.url)


def test_a_new_agent_appears_in_the_list(browser: Browser, system: AgentSystem) -> None:
    go(browser, "#/agents")
    browser.wait("return document.querySelector('.agents.wide .agent-row .agent') !== null")
    system.spawn("aaa/newest")
    browser.wait(
        "return [...document.querySelectorAll('.agents.wide a')].some((each) => each.textContent === 'newest')"
    )


def test_places_that_were_left_are_not_kept_in_memory(browser: Browser) -> None:
    def go_round(times: int) -> None:
        for _ in range(times):
            for address, shown in (
                ("#/agents", ".agents.wide .agent-row"),
                (f"#/agent/{DESK}@9", ".agent-page:not(.loading) .tree .row"),
                (f"#/agent/{DESK}@2..9", ".diff-row"),
                ("#/work", ".work-page"),
                ("#/episodes", ".episode-row"),
                ("#/hosts", ".hosts-page td"),
                ("#/verify", ".verify-page"),
            ):
                go(browser, address)
                browser.wait("return document.querySelector(arguments[0]) !== null", shown)

    def is_forgotten() -> bool:  # what was asked for on the way may still come
        after_nodes, after_listeners = browser.held()
        return after_nodes < nodes + 10 * 50 and after_listeners < listeners + 10 * 5

    go_round(2)
    nodes, listeners = browser.held()
    go_round(10)
    eventually(is_forgotten, what="each of ten visits was forgotten: a place that is kept has hundreds of nodes")


def test_the_list_is_filtered(browser: Browser) -> None:
    go(browser, "#/agents")
    browser.wait("return document.querySelector('.agents-page input') !== null")
    browser.press("/")
    browser.write("task-4")
    browser.wait("return document.querySelector('.statuses').textContent.startsWith('All11')")
    search(browser, "")


def test_blame_says_which_event_set_a_value(browser: Browser) -> None:
    show(browser, DESK, 10)
    browser.run("document.querySelector('.tree .row.changed .setter').click()")
    browser.wait("return document.querySelector('.float .chain')?.textContent.includes('memory_set')")
    assert "@10" in browser.text(".float .chain .here")
    values = "return [...document.querySelectorAll('.float .values li')].map((row) => [row.firstChild.textContent,"
    assert browser.run(f"{values} row.lastChild.textContent])") == [["@10", "1"], ["@3", "0"], ["@1", "0"]]
    browser.press("Escape")
    assert browser.run("return document.querySelector('.float')") is None


def test_two_moments_are_compared(browser: Browser, system: AgentSystem) -> None:
    go(browser, f"#/agent/{DESK}@2..10")
    browser.wait("return document.querySelectorAll('.diff-row').length > 0")
    shown = browser.run("return [...document.querySelectorAll('.diff-path')].map((each) => each.lastChild.textContent)")
    found = system.diff(DESK, 2, 10)
    assert sorted(shown) == sorted([*found.added, *found.removed, *found.changed])
    browser.click(".diff-row.changed .diff-path button")
    changed = browser.text(".float h2")
    leaf = system.blame(DESK, changed, 10)
    browser.wait("return document.querySelector('.float .chain a')?.textContent === arguments[0]", f"@{leaf.seq}")
    go(browser, f"#/agent/{DESK}@10")
    browser.wait("return document.querySelector('.diff-row') === null")


def test_episodes_are_searched(browser: Browser) -> None:
    go(browser, "#/episodes")
    browser.wait("return document.querySelectorAll('.episode-row').length === 50")
    search(browser, "flight 17")
    browser.wait("return document.querySelectorAll('.episode-row').length === 1")
    assert "refund of flight 17" in browser.text(".episode")
    marks = "return [...document.querySelectorAll('.episode mark')].map((each) => each.textContent)"
    assert browser.run(marks) == ["flight", "17"]
    search(browser, "17 don't re-book")
    browser.wait("return document.querySelectorAll('.episode mark').length === 3")
    assert browser.run(marks) == ["17", "don't", "re-book"]


def test_all_agents_are_verified(browser: Browser) -> None:
    go(browser, "#/verify")
    browser.click(".verify-page button")
    browser.wait("return document.querySelector('.lead').textContent.includes('are as they were written')")


def test_hosts_and_consumers_are_listed(browser: Browser, system: AgentSystem) -> None:
    go(browser, "#/hosts")
    browser.wait("return document.querySelector('.hosts-page')?.textContent.includes('this inspector')")
    with system.attach(Count(), "page-count"):
        row = "[...document.querySelectorAll('.hosts-page tr')].find((each) => each.textContent.includes('page-count'))"
        browser.wait(f"return {row}?.textContent.includes('live')")
        assert browser.run(f"return getComputedStyle({row}).display") == "table-row"
        assert browser.run(f"return {row}.querySelectorAll('.cells i').length") == system.log.partitions
        browser.wait("return / s left/.test(document.querySelector('.hosts-page').textContent)")


def test_hostile_values_do_nothing_and_are_shown(browser: Browser, system: AgentSystem) -> None:
    for seq in range(1, system.peek(HOSTILE).seq + 1):
        show(browser, HOSTILE, seq)
    shown = memory_in(browser)
    assert shown["script"][0] == SCRIPT
    assert shown["turned"][0] == "RLOabcLRI ESC[31m אבג"
    assert (
        browser.run("return document.querySelectorAll('.tree script, .tree img, .messages script, .event img').length")
        == 0
    )
    assert "9,900 more keys" in browser.text(".tree .row.more button")
    assert "text of 1.0 M bytes" in shown["long"][0]
    assert "120 k characters" in shown["lines"][0]
    for name, length in (("long", "1,000,000"), ("lines", "120,000")):
        browser.run(f"document.querySelector('.tree .row[data-key={name}]').click()")
        browser.wait(
            "return document.querySelector('dialog p')?.textContent === arguments[0]",
            f"the first 65,536 of {length} characters",
        )
        browser.click("dialog .ends button")
        browser.wait("return document.querySelector('dialog pre').textContent.length > 100_000")
        browser.press("Escape")
        browser.wait("return document.querySelector('dialog') === null")
    assert any("bottom" in text for text, _ in shown.values()), "the deepest value is reached"
    browser.run("document.querySelector('.tree .row.more button').click()")
    browser.wait("return document.querySelector('.tree .row.more button').textContent.includes('9,800 more keys')")
    browser.run("document.querySelector('.tree .row[data-key=blob]').click()")
    browser.wait("return document.querySelector('dialog p')?.textContent === 'the first 32,768 of 40,000 bytes'")
    browser.click("dialog .ends button")
    browser.wait("return document.querySelector('dialog p')?.textContent === '40,000 bytes'")
    parts = browser.run("return document.querySelector('dialog pre').textContent.trim().split(' ')")
    assert (len(parts), set(parts)) == (40_000, {"00", "ff"})
    browser.press("Escape")
    go(browser, f"#/agent/{HOSTILE}@1..{seq}")
    browser.wait("return document.querySelectorAll('.diff-row').length > 0")
    go(browser, "#/agents")
    browser.wait("return document.querySelector('.agents.wide') !== null")
    assert browser.run("return document.title") != "owned"


def test_without_actions_nothing_can_be_done(browser: Browser) -> None:
    show(browser, DESK, 10)
    assert browser.run(
        "return [...document.querySelectorAll('.actions button')].map((each) => [each.textContent, each.disabled])"
    ) == [
        ["Resume…", True],
        ["Pause…", True],
        ["Fork here…", True],
        ["Diff", False],
    ]


def test_on_a_phone_all_places_are_in_sight(browser: Browser) -> None:
    browser.resize(390, 844)
    try:
        go(browser, "#/agents")
        ends = "const row = document.getElementById('places'); return [row.scrollWidth, row.clientWidth]"
        needed, there = browser.run(ends)
        assert 300 < needed <= there
    finally:
        browser.resize(1440, 900)
    assert browser.text("#places [data-place=hosts]") == "Hosts & consumers"
    assert browser.run("return document.querySelector('#places .more-words').offsetWidth") > 0, "where there is room"


def test_on_a_phone_one_pane_is_shown_at_a_time(browser: Browser) -> None:
    browser.resize(390, 844)
    try:
        show(browser, DESK, 10)
        visible = (
            "return ['left', 'middle', 'right']"
            ".filter((each) => document.querySelector(`.pane.${each}`).offsetParent !== null)"
        )
        assert browser.run(visible) == ["left"]
        browser.click(".phone-tabs [data-tab=memory]")
        assert browser.run(visible) == ["middle"]
        assert browser.run("return document.documentElement.scrollWidth") <= 390
        go(browser, "#/agents")
        browser.wait("return document.querySelector('.agents.wide .agent-row .status') !== null")
        assert browser.run("return document.querySelector('.agents.wide .status').getBoundingClientRect().right") <= 390
        go(browser, "#/episodes")
        browser.click(".episode-row")
        assert browser.wait("return document.querySelector('.episode').offsetParent !== null")
        assert browser.run("return document.querySelector('.episode-list').offsetParent") is None
        browser.click(".to-list")
        browser.wait("return document.querySelector('.episode-list').offsetParent !== null")
    finally:
        browser.resize(1440, 900)


def test_a_state_is_the_same_after_many_parts_of_the_log_were_shown(browser: Browser, system: AgentSystem) -> None:
    agent = "desk/long"
    handle = system.spawn(agent)
    for begin in range(0, 1_400, 200):
        with handle.batch() as batch:
            for number in range(begin, begin + 200):
                batch.set(f"plan/step-{number // 20 % 10}", number)
            batch.delete("plan/step-9")
    for seq in (390, 590, 790, 990, 1190, 1390, 190, 350, 390):
        show(browser, agent, seq)
        shown = {path: text for path, (text, _) in memory_in(browser).items()}
        assert shown == leaves(system.state_at(agent, seq).memory.plain()), seq


def test_the_conversation_has_no_gap_after_the_playhead_has_jumped(browser: Browser, system: AgentSystem) -> None:
    with system.spawn("desk/talker").batch() as batch:
        for turn in range(120):
            batch.append("messages", {"role": "user", "content": f"question {turn}"})
    shown = "return document.querySelectorAll('.message').length"
    show(browser, "desk/talker", 11)
    browser.wait(f"{shown} === 10")
    show(browser, "desk/talker", 121)
    browser.wait("return document.querySelector('.conversation').textContent.includes('question 119')")
    assert browser.text(".earlier") == "70 earlier messages"
    assert browser.run(shown) == 50
    browser.click(".earlier")
    browser.wait(f"{shown} === 100")
    show(browser, "desk/talker", 120)
    browser.wait("return !document.querySelector('.conversation').textContent.includes('question 119')")
    browser.wait(f"{shown} === 99")


def test_with_actions_a_fork_is_made(browser: Browser, system: AgentSystem) -> None:
    with inspecting(system, allow_actions=True) as acting:
        browser.open(acting.server.url)
        show(browser, DESK, 10)
        browser.click(".actions button:nth-of-type(3)")
        browser.click("dialog .button.main")
        browser.wait(f"return location.hash === '#/agent/{DESK}-fork'")
        assert system.agent(f"{DESK}-fork").get("plan/at") == 1
        browser.wait("return document.querySelector('.tree .setter')?.textContent === '≤@10'")
        browser.click(".tree .setter")
        browser.wait(f"return document.querySelector('.chain .here a')?.textContent === '{DESK}@1'")
        browser.wait(f"return document.querySelector('.chain').textContent.includes('forked from {DESK}')")
        browser.open("about:blank")


def test_a_waiting_agent_is_answered(browser: Browser, system: AgentSystem) -> None:
    system.register("waiter", Waiter)
    receipt = system.spawn("desk/waiter", agent_type="waiter").send(Question("may I?"))
    with inspecting(system, allow_actions=True) as acting:
        browser.open(acting.server.url)
        browser.wait("return document.querySelector('#places .badge')?.textContent === '1'")
        go(browser, "#/work")
        assert "may I?" in browser.text(".episode")
        [waiting] = system.agent("desk/waiter").unfinished()[0].waits_for
        assert f"Answer “approval” @{waiting['seq']}" in browser.text(".episode")
        browser.wait("return document.querySelector('.steps a')?.textContent === 'approval'")
        assert browser.run("return document.querySelector('.answer .button.main').disabled"), "nothing is chosen yet"
        load_axe(browser)
        assert barriers(browser) == []
        browser.click(".answer label")
        assert browser.text(".answer .button.main") == "Answer yes"
        browser.click(".answer .button.main")
        assert system.agent("desk/waiter").result(receipt) is True
        browser.wait("return document.querySelector('.work-page .empty') !== null")
        browser.open("about:blank")


def test_after_a_wrong_token_the_page_says_what_to_open(browser: Browser, system: AgentSystem) -> None:
    with inspecting(system) as other:
        browser.open(f"{other.server.address}?token=guessed")
        assert "duramen inspect" in browser.run("return document.body.textContent")
        eventually(browser.complaints, what="the browser has said that it was refused")
        browser.open("about:blank")


def test_what_failed_while_the_server_was_away_is_asked_again(browser: Browser, system: AgentSystem) -> None:
    with inspecting(system) as first:
        browser.open(first.server.url)
        go(browser, "#/verify")
        browser.wait("return document.querySelector('#live .word').textContent === 'live'")
        browser.cut_off(True)
        go(browser, "#/agents")
        browser.wait("return document.querySelector('#live .word').textContent === 'offline'")
        assert "does not answer" in browser.text("#banner")
        system.spawn("airline/meanwhile")
        browser.cut_off(False)
        browser.wait("return document.querySelector('.agents.wide')?.textContent.includes('meanwhile')")
        browser.wait("return document.querySelector('#banner').hidden")
        assert "airline/meanwhile" in [entry.agent for entry in system.agents("airline/")]
    with InspectorServer(system, port=first.server.port):
        browser.wait("return document.querySelector('#banner').textContent.includes('no session any more')")
        browser.open("about:blank")
    browser.complaints()  # of what could not be had in between


def test_an_agent_that_is_erased_while_it_is_looked_at_is_said_to_be_gone(
    browser: Browser, system: AgentSystem, asker: Asker
) -> None:
    browser.open(asker.server.url)
    system.spawn("desk/gone", initial_state={"goal": "stay"})
    show(browser, "desk/gone", 1)
    system.erase("desk/gone")
    browser.wait("return document.querySelector('.agent-page .banner')?.textContent.includes('has been erased')")
    assert browser.text(".agent-page .head-status") == "erased"
    assert "stay" in browser.text(".tree")
    assert browser.run("return document.querySelectorAll('.actions button').length") == 0
    browser.open("about:blank")  # the page asks for the agent again
    browser.open(asker.server.url)
    browser.wait("return document.querySelector('#live .word').textContent === 'live'")
    browser.complaints()  # of the answers that it is not there


def test_a_damaged_log_is_shown_up_to_the_damage(browser: Browser, system: AgentSystem, asker: Asker) -> None:
    browser.open("about:blank")
    desk = system.spawn("desk/damaged", initial_state={"n": 1})
    for number in range(2, 9):
        desk.set("n", number)

    def was_read() -> bool:  # by the inspector's subscription too, which the damage would end
        rows = asker.ask("/api/agents?count=1000")["rows"]
        return any(row["path"] == "desk/damaged" and row["seq"] == 8 for row in rows)

    eventually(was_read, what="all of its events were seen")
    log: Any = system.log
    held = log._storage.logs[log.log_key("desk/damaged")]
    held[5] = held[5][:-1] + bytes([held[5][-1] ^ 1])
    browser.open(asker.server.url)
    show(browser, "desk/damaged", 5)
    assert "Event 6 is damaged" in browser.text(".agent-page .banner")
    assert (browser.text(".agent-page .head-status"), browser.text(".transport .where")) == ("damaged", "5 of 5")
    assert memory_in(browser)["n"] == ["5", "@5"]
    go(browser, "#/agent/desk/damaged@8")
    browser.wait("return document.querySelector('.transport .seq').textContent === '5'")
    browser.open("about:blank")  # before the page asks for what is not there any more
    system.erase("desk/damaged")


def load_axe(browser: Browser) -> None:
    axe = files("axe_core_python").joinpath("axe.min.js").read_text("utf-8")
    browser.run(f"{axe}; window.axe = axe")


def barriers(browser: Browser) -> list[str]:
    """The rules of accessibility that axe-core finds broken in what the page shows now."""
    browser.run(
        "window.broken = null; axe.run(document, {resultTypes: ['violations']}).then("
        "(found) => { window.broken = found.violations.map((each) => `${each.id}: ${each.nodes[0].target}`); })"
    )
    return list(browser.wait("return window.broken === null ? null : {found: window.broken}")["found"])


def test_axe_finds_no_barrier_in_any_place(browser: Browser, asker: Asker) -> None:
    browser.calm()
    browser.open(asker.server.url)
    load_axe(browser)
    places = {
        "#/agents": ".agents.wide .agent-row .agent",
        f"#/agent/{DESK}@10": ".agent-page:not(.loading) .event h3",
        f"#/agent/{DESK}@2..10": ".diff-row",
        "#/work": ".work-page",
        "#/episodes": ".episode-row",
        "#/hosts": ".hosts-page tbody td",
        "#/verify": ".verify-page",
    }
    for theme, most in (("light", len(places)), ("dark", 2)):
        browser.run("document.documentElement.dataset.theme = arguments[0]", theme)
        for place, shown in list(places.items())[:most]:
            go(browser, place)
            browser.wait("return document.querySelector(arguments[0]) !== null", shown)
            assert barriers(browser) == [], (theme, place)
    go(browser, "#/agents")
    search(browser, "an agent that is not there")
    browser.wait("return document.querySelector('.agents-page .empty .button') !== null")
    assert barriers(browser) == [], "where nothing fits the filter"
    browser.click(".agents-page .empty .button")
    browser.resize(390, 844)
    show(browser, DESK, 10)
    for tab in ("log", "memory", "event"):
        browser.click(f".phone-tabs [data-tab={tab}]")
        assert barriers(browser) == [], f"{tab} on a phone"
    browser.resize(1440, 900)
    browser.run("document.querySelector('main').append(document.createElement('button'))")
    assert [found.partition(":")[0] for found in barriers(browser)] == ["button-name"]


@pytest.mark.parametrize("agent", [DESK, HOSTILE])
def test_a_page_without_a_server_shows_what_the_inspector_shows(
    browser: Browser, system: AgentSystem, tmp_path: Path, agent: str
) -> None:
    file = tmp_path / "page.html"
    last = write_static_page(system, agent, file)
    browser.open(file.as_uri())
    browser.wait("return document.querySelector('#mode').textContent === 'recorded'")
    browser.wait("return document.querySelector('.agent-page:not(.loading) .tree .row') !== null")
    assert browser.run("return [...document.querySelectorAll('.actions button')].map((each) => each.textContent)") == [
        "Diff"
    ]
    if agent == HOSTILE:
        browser.run("document.querySelector('.tree .row[data-key=lines]').click()")
        browser.wait("return document.querySelector('dialog p')?.textContent === 'the first 300 of 120,000 characters'")
        browser.click("dialog .ends button")
        browser.wait("return document.querySelector('dialog .failed')?.textContent.includes('duramen inspect')")
        browser.press("Escape")
    for seq in range(last, 0, -5):
        show(browser, agent, seq)
        if agent == DESK:
            shown = {path: text for path, (text, _) in memory_in(browser).items()}
            assert shown == leaves(system.state_at(agent, seq).memory.plain()), seq
    go(browser, f"#/agent/{agent}@2..{min(last, 10)}")
    browser.wait("return document.querySelectorAll('.diff-row').length > 0")
    if agent == DESK:
        found = system.diff(agent, 2, 10)
        paths = "return [...document.querySelectorAll('.diff-path')].map((each) => each.lastChild.textContent)"
        assert sorted(browser.run(paths)) == sorted([*found.added, *found.removed, *found.changed])
    assert browser.run("return document.title") != "owned"
    browser.open("about:blank")
