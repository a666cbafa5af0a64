"""A page without a server: what is in the file, and what may not get out of it. How it looks: test_page."""

from __future__ import annotations

import hashlib
import json
import re
from base64 import b64encode
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

from duramen.actors import AgentSystem
from duramen.actors.inspector import write_static_page
from duramen.actors.inspector.static import recording
from duramen.actors.inspector.static.modules import bundle
from duramen.events import AgentNotFound, TooLarge

ALICE = "acme/alice"
BREAKS_OUT = "</script><script>alert(1)</script><!-- \u2028"


@pytest.fixture
def alice(system: AgentSystem) -> AgentSystem:
    agent = system.spawn(ALICE, initial_state={"goal": BREAKS_OUT})
    agent.spawn_child("helper").set("done", 2**60)
    for number in range(3):
        agent.append("messages", {"role": "user", "content": f"question {number}"})
    agent.set("messages/1", {"role": "user", "content": "asked again"})
    agent.pop("messages")
    return system


def page_of(system: AgentSystem, *, tree: bool = False) -> str:
    file = BytesIO()
    write_static_page(system, ALICE, file, tree=tree)
    return file.getvalue().decode()


def recorded_in(page: str) -> Any:
    (found,) = re.findall(r'<script type="application/json" id="recorded">(.*?)</script>', page)
    return json.loads(found)


def test_the_page_holds_every_event_with_its_values(alice: AgentSystem) -> None:
    recorded = recorded_in(page_of(alice))
    log = recorded["logs"][ALICE]
    last = alice.peek(ALICE).seq
    assert [event["seq"] for event in log["events"]] == list(range(1, last + 1))
    assert [event["seq"] for window in log["windows"] for event in window["events"]] == list(range(1, last + 1))
    assert BREAKS_OUT in json.dumps(log["events"][0], ensure_ascii=False)
    assert [row["path"] for row in recorded["agents"]] == [ALICE]


def test_with_its_tree_the_agents_below_are_in_it_too(alice: AgentSystem) -> None:
    recorded = recorded_in(page_of(alice, tree=True))
    assert [row["path"] for row in recorded["agents"]] == [ALICE, f"{ALICE}/helper"]
    assert sorted(recorded["logs"]) == [ALICE, f"{ALICE}/helper"]


def test_the_conversation_of_every_moment_is_in_it(alice: AgentSystem) -> None:
    record = recorded_in(page_of(alice))["logs"][ALICE]["conversation"]
    for seq in range(1, alice.peek(ALICE).seq + 1):
        counts = [count for since, count in record["counts"] if since <= seq]
        here = [[at for since, at in place if since <= seq][-1] for place in record["places"][: (counts or [0])[-1]]]
        shown = [record["messages"][at]["text"] for at in here]
        held = alice.state_at(ALICE, seq).memory.plain().get("messages", [])
        assert shown == [message["content"] for message in held], seq


def test_no_value_ends_the_script_that_it_is_in(alice: AgentSystem) -> None:
    page = page_of(alice)
    assert page.count("<script") == page.count("</script>") == 2
    assert "alert(1)</" not in page
    assert "\u2028" not in page


def test_the_policy_lets_only_the_page_s_own_script_and_style_run(alice: AgentSystem) -> None:
    page = page_of(alice)
    (policy,) = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]*)"', page)
    for name, directive in (("script", "script-src"), ("style", "style-src")):
        (inside,) = re.findall(f"<{name}>(.*?)</{name}>", page, re.DOTALL)
        digest = b64encode(hashlib.sha256(inside.encode()).digest()).decode()
        assert f"{directive} 'sha256-{digest}';" in policy
    assert policy.startswith("default-src 'none';")
    assert re.findall(r'(?:src|href)="(?!#|data:)[^"]*"', page.split("<script")[0]) == []


def test_an_agent_that_is_not_there_leaves_no_file(alice: AgentSystem, tmp_path: Path) -> None:
    with pytest.raises(AgentNotFound, match="acme/bob"):
        write_static_page(alice, "acme/bob", tmp_path / "bob.html")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("limit", "most"), [("_MOST_EVENTS", 8), ("_MOST_BYTES", 5_000)])
def test_what_does_not_fit_into_a_page_is_refused(
    alice: AgentSystem, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str, most: int
) -> None:
    monkeypatch.setattr(recording, limit, most)
    with pytest.raises(TooLarge, match="duramen inspect FILE") as refused:
        write_static_page(alice, ALICE, tmp_path / "page.html", tree=True)
    assert (refused.value.expected, refused.value.actual > most) == (most, True)
    assert list(tmp_path.iterdir()) == []


def test_modules_become_one_script_in_the_order_of_their_imports() -> None:
    modules = {
        "main.js": 'import { one, two } from "./part.js";\none();\n',
        "part.js": 'import { ask } from "./api.js";\nexport function one() {}\nexport let two;\nexport { ask };\n',
        "api.js": "",
        "held.js": "export async function ask() {}\n",
    }
    made = bundle(modules, ("main.js",), {"api.js": "held.js"})
    assert [made.index(f"const module_{name} ") for name in ("held", "part", "main")] == sorted(
        made.index(f"const module_{name} ") for name in ("held", "part", "main")
    )
    assert "const { ask } = module_held;" in made
    assert "return { one, two, ask };" in made
    assert "import" not in made
    assert "export" not in made


@pytest.mark.parametrize("line", ['import x from "./x.js";', "export default 1;", 'import "./x.js";'])
def test_a_form_of_import_that_is_not_known_is_refused(line: str) -> None:
    with pytest.raises(ValueError, match=r"main\.js: this form"):
        bundle({"main.js": f"{line}\n", "x.js": ""}, ("main.js",), {})
