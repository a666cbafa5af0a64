"""The work of one agent: the durable messages that are not handled to their end, and what each waits for. Pure.

`AgentState.work` is empty, or has:

- `open`: seq of a message, as text → its piece of work, oldest first. See `Piece`.
- `answers`: [seq, name, seq of a message or None, value] of each answer that nobody has waited for yet, oldest first.
- `ended`: seq of a message, as text → seq of the event that ended its work; the latest `MOST_ENDED`, oldest first.
- `cancels`: key → [agent, log] of what another agent was asked for work that does not wait for it any more, and is yet
  to be told to cancel; `log` is where it was asked.
- `reminders`: see `projections/state/reminders.py`.

Nothing in it is changed in place: states that came before keep what they had.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import blake2b
from typing import Any, Final, TypeAlias

from .agent_state import PAUSED_STATUS, RUNNING, AgentState, message_type_of
from .reminders import REMINDERS, next_reminder, reminders
from .undo import Undo

Piece: TypeAlias = dict[str, Any]
"""One piece of work:

- `message_type`, `version`: of the durable message
- `before`: digest of the event before the message, in the log in which it was accepted: it identifies the work
- `log`: identity of the log in which the message was accepted, or the work retried
- `since`: when the message was accepted, µs
- `started`: whether its handler has begun
- `last`: seq of the latest event of the work
- `tries`: how often it was taken up again since its latest record
- `cancelled`: until when its handler may go on after it was cancelled, µs; None: it was not
- `parked`: why it is parked, as data; None: it is not
- `pending`: number, as text → what its handler has begun and got no result of. See `Item`.
- `forks`, where there are any: [seq of the `forked` event, path, mark] of each fork that has carried the work on. The
  agent had that path before, and keys after are made with that mark.
"""
Item: TypeAlias = dict[str, Any]
"""What a handler waits for: `kind`, `name`, `key`, `due` (µs or None), `about`, `once`, `checked` (whether the handler
checks its answers), `durable` (only of what another agent is asked by a durable message, which is cancelled if nobody
waits for it any more), `begun` (seq), `attempts` that have failed, and `result`: the seq of the event that has its
result, which the handler did not get yet; else None. A wait that has its answer also has its `value`."""

MOST_ENDED: Final = 1_000
STEP: Final = "step"
SLEEP: Final = "sleep"
WAIT: Final = "wait"
ASK: Final = "ask"

NEVER: Final = 1 << 52
"""In ms since the epoch: later than any time."""

_Data: TypeAlias = dict[str, Any]


def name_log(identity: str, agent: str) -> str:
    """Name one agent's log: no other has this name, on this server or elsewhere. It does not tell the agent's path."""
    return f"{identity}:{blake2b(agent.encode(), digest_size=16).hexdigest()}"


def open_work(state: AgentState) -> Mapping[str, Piece]:
    """The pieces of work that have not ended, by the seq of their messages as text; oldest first."""
    found: Mapping[str, Piece] = state.work.get("open", {})
    return found


def end_of_work(state: AgentState, work: int) -> int | None:
    """The seq of the event that ended a piece of work; None if it has not ended, or too long ago."""
    found: int | None = state.work.get("ended", {}).get(str(work))
    return found


def kept_answers(state: AgentState) -> list[list[Any]]:
    """The answers that nobody has waited for yet."""
    found: list[list[Any]] = state.work.get("answers", [])
    return found


def cancels_to_send(state: AgentState) -> Mapping[str, list[str]]:
    """Agent and log of what other agents are to be told to cancel, by the key that it was asked with."""
    found: Mapping[str, list[str]] = state.work.get("cancels", {})
    return found


def find_wait(state: AgentState, name: str, work: int | None) -> tuple[str, str, Item] | None:
    """Work, number and item of the oldest open wait of a name, or of that work's; None if there is none."""
    waits = [
        (item["begun"], seq, number, item)
        for seq, piece in open_work(state).items()
        if work is None or seq == str(work)
        for number, item in piece["pending"].items()
        if item["kind"] == WAIT and item["name"] == name and item["result"] is None
    ]
    return min(waits, key=lambda wait: wait[0])[1:] if waits else None


def expiry_of(state: AgentState) -> int | None:
    """When the agent is to be erased unless it changes before, in µs since the epoch; None: never."""
    if state.expires_after is None:
        return None
    return state.updated_at + int(state.expires_after * 1_000_000)


def has_expired(state: AgentState) -> bool:
    """Whether the agent has logged its end, and is still to be erased."""
    return state.expires_after == 0


def due_of_agent(state: AgentState) -> int | None:
    """When the agent has to be looked at, for its work or because it expires, as `due_of_work`."""
    work, expiry = due_of_work(state), expiry_of(state)
    if expiry is None:
        return work
    return _to_ms(expiry) if work is None else min(work, _to_ms(expiry))


def due_of_work(state: AgentState) -> int | None:
    """When the agent has to be looked at for its work or reminders, in ms since the epoch; None: it has neither.

    0: at once; `NEVER`: not before something happens to it.
    """
    pieces, has_reminders = open_work(state), bool(state.work.get(REMINDERS))
    if cancels_to_send(state):
        return 0
    if not pieces and not has_reminders:
        return None
    if state.status != RUNNING:
        return NEVER
    dues = [_due_of(piece) for piece in pieces.values()]
    reminder = next_reminder(state) if has_reminders else None
    if reminder is not None:
        dues.append(_to_ms(reminder))
    return min(dues, default=NEVER)


def is_of_log(state: AgentState, log: str) -> bool:
    """Whether all work and reminders began in this log, as `name_log` names it; those of an import did not."""
    logs = [each["log"] for each in (*open_work(state).values(), *reminders(state).values())]
    return all(each == log for each in (*logs, *(asked_in for _, asked_in in cancels_to_send(state).values())))


def _due_of(piece: Piece) -> int:
    if piece["parked"] is not None:
        return NEVER
    if not piece["pending"]:
        return 0  # its handler has not begun, or goes on
    dues = [NEVER if piece["cancelled"] is None else _to_ms(piece["cancelled"])]
    for item in piece["pending"].values():
        if item["result"] is not None:
            return 0
        if item["due"] is not None:
            dues.append(_to_ms(item["due"]))
        elif item["kind"] in (STEP, ASK):
            return 0
    return min(dues)


def _to_ms(time: int) -> int:
    """The first ms that is not before so many µs."""
    return -(-time // 1000)


# -- the folds of its events -------------------------------------------------------------------------------------------


def fold_accepted(state: AgentState, data: _Data, time: int, undo: list[Undo] | None) -> None:
    piece: Piece = {
        "message_type": message_type_of(data),
        "version": data["version"],
        "before": data.get("before", state.digest),
        "since": time,
        "log": data["log"],
        "started": False,
        "last": state.seq + 1,
        "tries": 0,
        "parked": None,
        "cancelled": None,
        "pending": {},
    }
    _replace(state, open={**open_work(state), str(state.seq + 1): piece})


def fold_begun(state: AgentState, data: _Data, time: int, undo: list[Undo] | None) -> None:
    item: Item = {
        "kind": data["kind"],
        "name": data["name"],
        "key": data["key"],
        "due": data["due"],
        "about": data["about"],
        "once": data["once"],
        "checked": data.get("checked", False),  # logs from before answers were checked do not have it
    }
    if data.get("durable"):
        item["durable"] = True
    item["begun"], item["attempts"], item["result"] = state.seq + 1, 0, None
    if data["kind"] == WAIT:
        answers = kept_answers(state)
        found = next((a for a in answers if a[1] == data["name"] and a[2] in (None, data["work"])), None)
        if found is not None:
            item |= {"result": found[0], "value": found[3]}
            _replace(state, answers=[answer for answer in answers if answer is not found])
    _change_item(state, data, item)


def fold_attempted(state: AgentState, data: _Data, time: int, undo: list[Undo] | None) -> None:
    item = _item(state, data)
    if item is not None:
        _change_item(state, data, {**item, "attempts": data["attempt"], "due": data["due"]})


def fold_done(state: AgentState, data: _Data, time: int, undo: list[Undo] | None) -> None:
    item = _item(state, data)
    if item is not None:
        _change_item(state, data, {**item, "result": state.seq + 1})


def fold_continued(state: AgentState, data: _Data, time: int, undo: list[Undo] | None) -> None:
    _change_item(state, data, None)
    error = data.get("error")
    if data["number"] == 0 and error is not None and type(error["data"]) is int:
        _change(state, data["work"], cancelled=error["data"])


def fold_given_up(state: AgentState, data: _Data, time: int, undo: list[Undo] | None) -> None:
    piece, item = open_work(state).get(str(data["work"])), _item(state, data)
    if piece is not None and item is not None:
        _cancel_there(state, piece, item)
    _change_item(state, data, None)


def fold_cancel_sent(state: AgentState, data: _Data, time: int, undo: list[Undo] | None) -> None:
    if data["key"] in cancels_to_send(state):
        _replace(state, cancels={key: held for key, held in cancels_to_send(state).items() if key != data["key"]})


def fold_answered(state: AgentState, data: _Data, time: int, undo: list[Undo] | None) -> None:
    found = find_wait(state, data["name"], data["work"])
    if found is None:
        answer = [state.seq + 1, data["name"], data["work"], data["value"]]
        _replace(state, answers=[*kept_answers(state), answer])
        return
    work, number, item = found
    _change_item(
        state, {"work": int(work), "number": int(number)}, {**item, "result": state.seq + 1, "value": data["value"]}
    )


def fold_taken_up(state: AgentState, data: _Data, time: int, undo: list[Undo] | None) -> None:
    for work in data["works"]:
        piece = open_work(state).get(str(work))
        if piece is not None:
            _change(state, work, tries=piece["tries"] + 1)


def fold_parked(state: AgentState, data: _Data, time: int, undo: list[Undo] | None) -> None:
    _change(state, data["work"], parked=data["error"])


def fold_retried(state: AgentState, data: _Data, time: int, undo: list[Undo] | None) -> None:
    _change(state, data["work"], parked=None, tries=0, log=data["log"])


def fold_ended(state: AgentState, data: _Data, time: int, undo: list[Undo] | None) -> None:
    _end(state, [str(data["work"])])


def end_all_work(state: AgentState) -> None:
    """End all work with the event that is folded, and forget answers and reminders: the session has ended."""
    if state.work:
        _end(state, list(open_work(state)))
        _replace(state, answers=[], reminders={})


def carry_work(state: AgentState, data: _Data) -> None:
    """Fold the beginning of a fork: its work goes on under keys of its own where it is carried on; else it has none.

    What has ended, and reminders, are the origin's.
    """
    carried = data.get("work")  # logs from before work was carried on do not have it
    if carried is None:
        state.work = {}
        return
    fork = [state.seq + 1, carried["agent"], carried["mark"]]
    left: dict[str, Piece] = {}
    for work, piece in open_work(state).items():
        begun = carried["begun"].get(work, {})
        pending = {
            number: item if number not in begun else {**item, "key": begun[number][0], "name": begun[number][1]}
            for number, item in piece["pending"].items()
        }
        changed = {"log": carried["log"], "tries": 0, "pending": pending, "forks": [*piece.get("forks", ()), fork]}
        left[work] = {**piece, **changed}
    _replace(state, open=left, ended={}, cancels={}, reminders={})


def end_work_since(state: AgentState, data: _Data) -> None:
    """End the work that has gone on since a checkpoint that memory is restored from.

    A pause that ends where it began has changed nothing: then all work goes on.
    """
    since = data["checkpoint_seq"]
    entry = state.checkpoints.get(state.paused_at or "")
    if since is None or not state.work:
        return
    if state.status == PAUSED_STATUS and entry is not None and entry[0] == since:
        return
    _end(state, [work for work, piece in open_work(state).items() if piece["last"] > since])


def _end(state: AgentState, works: list[str]) -> None:
    ended: dict[str, int] = {**state.work.get("ended", {}), **dict.fromkeys(works, state.seq + 1)}
    while len(ended) > MOST_ENDED:
        del ended[next(iter(ended))]
    left: dict[str, Piece] = {}
    for work, piece in open_work(state).items():
        if work not in works:
            left[work] = piece
            continue
        for item in piece["pending"].values():
            _cancel_there(state, piece, item)
    _replace(state, open=left, ended=ended)


def _cancel_there(state: AgentState, piece: Piece, item: Item) -> None:
    """Note that what another agent was asked is to be cancelled, if it is work and there is no reply."""
    if item.get("durable") and item["result"] is None:
        _replace(state, cancels={**cancels_to_send(state), item["key"]: [item["name"], piece["log"]]})


def _item(state: AgentState, data: _Data) -> Item | None:
    piece = open_work(state).get(str(data["work"]))
    return None if piece is None else piece["pending"].get(str(data["number"]))


def _change_item(state: AgentState, data: _Data, item: Item | None) -> None:
    """Put or remove what a piece of work waits for; its record has grown."""
    work, number = str(data["work"]), str(data["number"])
    piece = open_work(state).get(work)
    if piece is not None:
        # As `_change`, by `copy`, which takes a third of the time: each step comes by here twice.
        changed, everything = piece.copy(), state.work.copy()
        pending = changed["pending"] = piece["pending"].copy()
        pending.pop(number, None)
        if item is not None:
            pending[number] = item
        changed["started"], changed["last"], changed["tries"] = True, state.seq + 1, 0
        pieces = everything["open"] = everything["open"].copy()
        pieces[work] = changed
        state.work = everything


def _change(state: AgentState, work: int, **changed: Any) -> None:
    pieces = open_work(state)
    piece = pieces.get(str(work))
    if piece is not None:
        _replace(state, open={**pieces, str(work): {**piece, **changed}})


def _replace(state: AgentState, **parts: Any) -> None:
    state.work = {**state.work, **parts}
