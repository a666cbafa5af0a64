"""Where the sessions, states and memories of ADK are: the paths of their agents. Pure."""

from __future__ import annotations

from duramen.events import AgentPath

from ..common import name_of


def session_path(project: str, app: str, user: str, session: str) -> AgentPath:
    """The agent of a session. Those of a user share a partition."""
    return AgentPath.of(project, _user(app, user), "session", name_of(session))


def user_path(project: str, app: str, user: str) -> AgentPath:
    """The agent of a user's state."""
    return AgentPath.of(project, _user(app, user), "state")


def app_path(project: str, app: str) -> AgentPath:
    """The agent of an app's state."""
    return AgentPath.of(project, name_of(_escape(app)), "state")


def memory_path(project: str, app: str, user: str, memory: str) -> AgentPath:
    """The agent of a memory. Those of a user share the first segment, by which episodes are chosen."""
    return AgentPath.of(name_of(f"{project}:{_user(app, user)}"), name_of(memory))


def _user(app: str, user: str) -> str:
    return name_of(f"{_escape(app)}:{user}")


def _escape(app: str) -> str:
    """The app without ":", which separates it from the user."""
    return app.replace("%", "%25").replace(":", "%3A")
