"""An ADK session service whose sessions are agents."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from time import time
from typing import Any, Final
from uuid import uuid4
from weakref import WeakValueDictionary

from attrs import frozen
from google.adk.errors import StaleSessionError
from google.adk.errors.already_exists_error import AlreadyExistsError
from google.adk.errors.session_not_found_error import SessionNotFoundError
from google.adk.events.event import Event
from google.adk.sessions.base_session_service import BaseSessionService, GetSessionConfig, ListSessionsResponse
from google.adk.sessions.session import Session
from google.adk.sessions.state import State
from pydantic import PrivateAttr
from pydantic_core import to_jsonable_python

from duramen.actors import AgentSystem, Batch, Delete, Extend, Get, GetMany, GetStatus, Set
from duramen.events import AgentNotFound, AgentPath, CommandConflict, PathNotFound, PropertyPath, VersionConflict

from ..common import GONE, Ask, Steps, TextList, json_of, run_async, settle
from .paths import app_path, session_path, user_path
from .state import load_values, set_keys

_TRIES: Final = 20
"""How often an event is written while somebody else changes the session's agent."""
_AT_ONCE: Final = 32
"""Sessions of a list that are read at the same time."""


class _StoredSession(Session):
    """A session that knows which revision of the stored one it shows."""

    _revision: int = PrivateAttr(default=0)
    _ids: set[str] = PrivateAttr(default_factory=set[str])
    _seen: int = PrivateAttr(default=0)
    """How many of the events have their ids in `_ids`."""
    _last_seen: str = PrivateAttr(default="")

    @property
    def revision(self) -> int:
        return self._revision

    def show(self, revision: int) -> None:
        """Say which revision the object shows from now on."""
        self._revision = revision

    def may_have(self, event_id: str) -> bool:
        """Whether an event of this id may be shown; only those that have come since the last call are looked at."""
        events, seen = self.events, self._seen
        if seen > len(events) or (seen and events[seen - 1].id != self._last_seen):  # somebody has cut or rewritten it
            self._ids, seen = set(), 0
        self._ids.update(each.id for each in events[seen:])
        self._seen, self._last_seen = len(events), events[-1].id if events else ""
        return event_id in self._ids


@frozen
class _Delta:
    """A change of a session's state, by the states that it is made of."""

    app: dict[str, Any]
    user: dict[str, Any]
    session: dict[str, Any]

    @classmethod
    def of(cls, delta: Mapping[str, Any] | None) -> _Delta:
        found = cls({}, {}, {})
        plain: dict[str, Any] = to_jsonable_python(dict(delta or {}), fallback=str)
        for key, value in plain.items():
            if key.startswith(State.APP_PREFIX):
                found.app[key.removeprefix(State.APP_PREFIX)] = value
            elif key.startswith(State.USER_PREFIX):
                found.user[key.removeprefix(State.USER_PREFIX)] = value
            elif not key.startswith(State.TEMP_PREFIX):
                found.session[key] = value
        return found


@frozen
class _Stored:
    """What the agent of a session has of it."""

    revision: int
    updated: float
    values: dict[str, Any]
    shared: bool
    """Whether something is kept for the states of user and app."""
    texts: list[str]


class DuramenSessionService(BaseSessionService):
    """An ADK session service: each session is an agent of `project`, as are the states of a user and of an app.

    An event and what it changes of the session's state are one commit. What it changes of the states of user and app
    is part of that commit, too, and handed on by the same call; if the process dies in between, by the next call for
    the session. A session object that shows an older revision than the stored one is refused. Thread-safe; several
    services, also in other processes, may use one session. Raises the errors of the system, besides ADK's own.
    """

    def __init__(self, system: AgentSystem, *, project: str = "adk", durability: str | None = None) -> None:
        """`durability` is that of the stored events, by default the system's. Raises InvalidPath for the project."""
        self._system = system
        self._project = AgentPath.of(project, "session").project
        self._durability = durability
        self._locks: WeakValueDictionary[tuple[int, AgentPath], asyncio.Lock] = WeakValueDictionary()
        """By event loop and session."""

    def path(self, app_name: str, user_id: str, session_id: str) -> AgentPath:
        """The path of the agent that holds a session, for `system.replay`, `system.fork` and the console."""
        return session_path(self._project, app_name, user_id, session_id)

    async def create_session(
        self,
        *,
        app_name: str,
        user_id: str,
        state: dict[str, Any] | None = None,
        session_id: str | None = None,
    ) -> Session:
        """Create a session. Raises AlreadyExistsError for an id that is there."""
        name = (session_id or "").strip() or str(uuid4())
        created = await settle(run_async(self._system, self._create(app_name, user_id, name, _Delta.of(state))))
        if created is None:
            raise AlreadyExistsError(f"Session with id {name} already exists.")
        return created

    async def get_session(
        self, *, app_name: str, user_id: str, session_id: str, config: GetSessionConfig | None = None
    ) -> Session | None:
        name = session_id.strip()
        return await run_async(self._system, self._get(app_name, user_id, name, config))

    async def list_sessions(self, *, app_name: str, user_id: str | None = None) -> ListSessionsResponse:
        """All sessions of an app, or of one of its users, without events, the one that has changed last at the end."""
        wanted, prefix = {"app_name": app_name}, AgentPath.of(self._project, "-").text.removesuffix("-")
        if user_id is not None:
            wanted["user_id"] = user_id
            prefix = self.path(app_name, user_id, "-").text.removesuffix("-")
        entries = [entry.metadata async for entry in self._system.aio.agents(prefix, metadata=wanted)]
        found = [(entry["user_id"], entry["session_id"]) for entry in entries if "session_id" in entry]
        nothing = GetSessionConfig(num_recent_events=0)
        sessions: list[Session] = []
        for start in range(0, len(found), _AT_ONCE):
            part = [
                run_async(self._system, self._get(app_name, user, session, nothing))
                for user, session in found[start : start + _AT_ONCE]
            ]
            sessions += [session for session in await asyncio.gather(*part) if session is not None]
        sessions.sort(key=lambda session: (session.last_update_time, session.user_id, session.id))
        return ListSessionsResponse(sessions=sessions)

    async def delete_session(self, *, app_name: str, user_id: str, session_id: str) -> None:
        """Delete a session: its agent is erased from the server. The states of user and app stay."""
        path = self.path(app_name, user_id, session_id.strip())
        try:
            await settle(self._system.aio.erase(path, rewrite=False))
        except AgentNotFound:
            return

    async def get_user_state(self, *, app_name: str, user_id: str) -> dict[str, Any]:
        return await run_async(self._system, self._state_of(user_path(self._project, app_name, user_id)))

    async def append_event(self, session: Session, event: Event) -> Event:
        """Add an event. Raises StaleSessionError if the session has other events than this object shows."""
        if event.partial:
            return event
        path = self.path(session.app_name, session.user_id, session.id)
        lock = self._locks.setdefault((id(asyncio.get_running_loop()), path), asyncio.Lock())
        async with lock:
            may_be_there = not isinstance(session, _StoredSession) or session.may_have(event.id)
            if may_be_there and any(there.id == event.id and there == event for there in reversed(session.events)):
                return event
            self._apply_temp_state(session, event)
            return await settle(self._commit(session, self._trim_temp_delta_state(event)))

    async def _commit(self, session: Session, event: Event) -> Event:
        revision = await run_async(self._system, self._append(session, event))
        if isinstance(session, _StoredSession):
            session.show(revision)
        session.last_update_time = event.timestamp
        return self._commit_event_to_session(session, event)

    # -- steps -------------------------------------------------------------------------------------------------------

    def _create(self, app: str, user: str, session: str, delta: _Delta) -> Steps[Session | None]:
        agent = self._agent_of(app, user, session)
        if not (yield from agent.spawn({"head": {"revision": 0, "updated": time()}, "items": []})):
            return None
        operations = yield from self._operations(agent, delta)
        if operations:
            yield Ask(agent.path.text, Batch(operations, durability=self._durability))
        return (yield from self._get(app, user, session, None))

    def _append(self, session: Session, event: Event) -> Steps[int]:
        """Add an event to the stored session, if it is the one that the object shows. Returns its new revision."""
        agent = self._agent_of(session.app_name, session.user_id, session.id)
        delta = _Delta.of(event.actions.state_delta)
        try:
            yield from self._check_revision(agent, session)
            entries = yield from agent.make_entries([event.model_dump_json(exclude_none=True)])
            operations = yield from self._operations(agent, delta)
            revision = yield from self._commit_at_revision(
                agent, session, [Extend("items", entries), *operations], event
            )
        except GONE:
            raise SessionNotFoundError(f"Session {session.id} not found.") from None
        if delta.app or delta.user:
            yield from self._hand_on(agent, session.app_name, session.user_id)
        return revision

    def _commit_at_revision(
        self, agent: TextList, session: Session, operations: Sequence[Extend | Set], event: Event
    ) -> Steps[int]:
        for tries_left in reversed(range(_TRIES)):
            seq: int = (yield Ask(agent.path.text, GetStatus())).seq
            revision: int = 1 + (yield from self._check_revision(agent, session))
            head = Set("head", {"revision": revision, "updated": event.timestamp})
            message = Batch([*operations, head], durability=self._durability, expected_seq=seq)
            try:
                yield Ask(agent.path.text, message)
            except VersionConflict:  # by another writer, or by who has handed on what is for the states of user and app
                if not tries_left:
                    raise
            else:
                return revision
        raise AssertionError  # not reached: the last try returns or raises

    def _check_revision(self, agent: TextList, session: Session) -> Steps[int]:
        """The revision of the stored session. Raises StaleSessionError if the object shows an older one."""
        head = yield Ask(agent.path.text, Get("head"))
        revision: int = head["revision"]
        if isinstance(session, _StoredSession):
            is_current = session.revision == revision
        else:  # made by hand, or from JSON
            latest = yield from agent.read(-1)
            ids = [json.loads(text)["id"] for text in latest]
            is_current = ids == [event.id for event in session.events[-1:]]
        if not is_current:
            raise StaleSessionError(
                f"session {session.id} has changed since this object was read; get it again, and repeat the turn"
            )
        return revision

    def _operations(self, agent: TextList, delta: _Delta) -> Steps[list[Set]]:
        """What changes the session's state, and keeps what is for those of user and app until they have it."""
        operations = yield from set_keys(agent, delta.session)
        if delta.app or delta.user:
            entries = yield from agent.make_entries([json_of([delta.app, delta.user])])
            operations.append(Set(PropertyPath.of("shared", uuid4().hex), entries[0]))
        return operations

    def _hand_on(self, agent: TextList, app: str, user: str) -> Steps[None]:
        """Give the states of user and app what a session keeps for them. Several callers at once do it once."""
        shared: dict[str, Any] = yield Ask(agent.path.text, Get("shared", {}))
        for key, entry in shared.items():
            text = yield from agent.load(entry)
            paths = (app_path(self._project, app), user_path(self._project, app, user))
            for path, delta in zip(paths, [] if text is None else json.loads(text), strict=False):
                owner = TextList(path, {"app_name": app}, self._durability)
                operations = yield from set_keys(owner, delta)
                if operations:
                    with suppress(CommandConflict):  # large values, whose keys another caller has made
                        yield from owner.write(Batch(operations, key, self._durability))
            with suppress(PathNotFound):
                yield Ask(agent.path.text, Delete(PropertyPath.of("shared", key), durability=self._durability))

    def _get(self, app: str, user: str, session: str, config: GetSessionConfig | None) -> Steps[Session | None]:
        agent = self._agent_of(app, user, session)
        try:
            stored = yield from self._read(agent, None if config is None else config.num_recent_events)
        except GONE:
            return None
        if stored is None:
            return None
        if stored.shared:
            yield from self._hand_on(agent, app, user)
        values = stored.values
        for prefix, path in (
            (State.APP_PREFIX, app_path(self._project, app)),
            (State.USER_PREFIX, user_path(self._project, app, user)),
        ):
            shared = yield from self._state_of(path)
            values |= {prefix + key: value for key, value in shared.items()}
        events = [Event.model_validate_json(text) for text in stored.texts]
        found = _StoredSession(
            id=session,
            app_name=app,
            user_id=user,
            state=values,
            events=_after(events, None if config is None else config.after_timestamp),
            last_update_time=stored.updated,
        )
        found.show(stored.revision)
        return found

    def _read(self, agent: TextList, most: int | None) -> Steps[_Stored | None]:
        """What is stored of a session, with its latest events, all of one revision. None where the agent has none."""
        while True:
            head, values, shared = yield Ask(agent.path.text, GetMany(["head", "state", "shared"], None))
            if head is None:
                return None
            texts = [] if most == 0 else (yield from agent.read(None if most is None else -most))
            loaded = yield from load_values(agent, values)
            if head == (yield Ask(agent.path.text, Get("head", None))):
                return _Stored(head["revision"], head["updated"], loaded, bool(shared), texts)

    def _state_of(self, path: AgentPath) -> Steps[dict[str, Any]]:
        try:
            stored = yield Ask(path.text, Get("state", None))
        except GONE:
            return {}
        return (yield from load_values(TextList(path, {}), stored))

    def _agent_of(self, app: str, user: str, session: str) -> TextList:
        metadata = {"app_name": app, "user_id": user, "session_id": session}
        return TextList(self.path(app, user, session), metadata, self._durability)


def _after(events: list[Event], time: float | None) -> list[Event]:
    """The latest events, back to the first one that is older than a time."""
    if time is None:
        return events
    start = next((at for at in range(len(events), 0, -1) if events[at - 1].timestamp < time), 0)
    return events[start:]
