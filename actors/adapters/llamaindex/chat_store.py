"""A LlamaIndex chat store whose keys are agents."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from llama_index.core.llms import ChatMessage
from llama_index.core.storage.chat_store import BaseChatStore
from pydantic import PrivateAttr

from duramen.actors import AgentSystem
from duramen.events import AgentNotFound, AgentPath, ValueRefused

from ..common import Either, Steps, TextList, json_of, name_of, run, run_async, settle


class DuramenChatStore(BaseChatStore):
    """A chat store of LlamaIndex: the messages of a key are a list in the working memory of an agent of `project`.

    What one call adds is one commit, up to 800 KiB; of a list that is set, only the rest that differs is stored. An
    awaited call that changes something waits for its outcome, also when it is cancelled. Thread-safe; several stores,
    also in other processes, may use one key. Raises the errors of the system: `ValueRefused` for a message that has no
    JSON, `VersionConflict` for a list that others change all the while it is set.
    """

    _system: AgentSystem = PrivateAttr()
    _project: str = PrivateAttr()
    _durability: str | None = PrivateAttr()

    def __init__(self, system: AgentSystem, *, project: str = "llamaindex", durability: str | None = None) -> None:
        """`durability` is that of the stored messages, by default the system's. Raises InvalidPath for the project."""
        super().__init__()
        self._system = system
        self._project = AgentPath.of(project, "key").project
        self._durability = durability

    @classmethod
    def class_name(cls) -> str:
        """The name by which LlamaIndex serializes the store. It has no form that could be loaded again."""
        return "DuramenChatStore"

    def path(self, key: str) -> AgentPath:
        """The path of the agent that holds a key's messages, for `system.replay`, `system.fork` and the console."""
        return AgentPath.of(self._project, name_of(key))

    def set_messages(self, key: str, messages: list[ChatMessage]) -> None:
        """Let these be the messages of a key. What both lists begin with stays; the rest is one commit."""
        run(self._system, self._set(key, messages))

    def get_messages(self, key: str) -> list[ChatMessage]:
        """The messages of a key, oldest first; none where there is no such key."""
        return _messages_of(run(self._system, self._list(key).read()))

    def add_message(self, key: str, message: ChatMessage) -> None:
        """Add a message to those of a key."""
        run(self._system, self._add(key, message))

    def delete_messages(self, key: str) -> list[ChatMessage] | None:
        """Erase a key, and return its messages; None if there is no such key. What is added meanwhile goes, too."""
        return run(self._system, self._delete(key))

    def delete_message(self, key: str, idx: int) -> ChatMessage | None:
        """Remove the message at a position, from the end if it is negative, and return it; None if there is none."""
        return run(self._system, self._pop(key, idx))

    def delete_last_message(self, key: str) -> ChatMessage | None:
        """Remove the last message of a key and return it; None if there is none."""
        return run(self._system, self._pop(key, -1))

    def get_keys(self) -> list[str]:
        """All keys, sorted. Reads the list of all agents of the project."""
        return run(self._system, self._keys())

    async def aset_messages(self, key: str, messages: list[ChatMessage]) -> None:
        """As `set_messages`."""
        await settle(run_async(self._system, self._set(key, messages)))

    async def aget_messages(self, key: str) -> list[ChatMessage]:
        """As `get_messages`."""
        return _messages_of(await run_async(self._system, self._list(key).read()))

    async def async_add_message(self, key: str, message: ChatMessage) -> None:
        """As `add_message`."""
        await settle(run_async(self._system, self._add(key, message)))

    async def adelete_messages(self, key: str) -> list[ChatMessage] | None:
        """As `delete_messages`."""
        return await settle(run_async(self._system, self._delete(key)))

    async def adelete_message(self, key: str, idx: int) -> ChatMessage | None:
        """As `delete_message`."""
        return await settle(run_async(self._system, self._pop(key, idx)))

    async def adelete_last_message(self, key: str) -> ChatMessage | None:
        """As `delete_last_message`."""
        return await settle(run_async(self._system, self._pop(key, -1)))

    async def aget_keys(self) -> list[str]:
        """As `get_keys`."""
        return await run_async(self._system, self._keys())

    # -- steps -------------------------------------------------------------------------------------------------------

    def _list(self, key: str) -> TextList:
        return TextList(self.path(key), {"key": key}, self._durability)

    def _set(self, key: str, messages: Sequence[ChatMessage]) -> Steps[None]:
        yield from self._list(key).replace([_text_of(message) for message in messages])

    def _add(self, key: str, message: ChatMessage) -> Steps[None]:
        yield from self._list(key).extend([_text_of(message)])

    def _pop(self, key: str, position: int) -> Steps[ChatMessage | None]:
        text = yield from self._list(key).pop(position)
        return None if text is None else _message_of(text)

    def _delete(self, key: str) -> Steps[list[ChatMessage] | None]:
        agent, path = self._list(key), self.path(key)
        entries = yield from agent.entries()
        if entries is None:
            return None
        texts = yield from agent.load_all(entries)
        with suppress(AgentNotFound):
            yield Either(
                lambda: self._system.erase(path, rewrite=False), lambda: self._system.aio.erase(path, rewrite=False)
            )
        return _messages_of(texts)

    def _keys(self) -> Steps[list[str]]:
        keys: list[str] = yield self._read_keys
        return keys

    def _read_keys(self) -> list[str]:
        prefix = AgentPath.of(self._project, "-").text.removesuffix("-")
        entries = [entry for entry in self._system.agents(prefix) if entry.status != "terminated"]
        keys = [entry.metadata["key"] for entry in entries if "key" in entry.metadata]
        return sorted(keys)


def _text_of(message: ChatMessage) -> str:
    """A message as JSON. Raises ValueRefused for one that has none."""
    try:
        return json_of(message.model_dump(mode="json"))
    except ValueError as error:
        raise ValueRefused(
            "a message has a value that JSON lacks: give additional_kwargs of plain data or pydantic models"
        ) from error


def _message_of(text: str) -> ChatMessage:
    found: Any = json.loads(text)
    return ChatMessage.model_validate(found)


def _messages_of(texts: Sequence[str]) -> list[ChatMessage]:
    return [_message_of(text) for text in texts]
