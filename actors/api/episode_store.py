"""`system.episodes`: the episodes of all agents, to list and search."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, Literal, cast

from duramen.events import (
    AgentPath,
    EpisodeNotFound,
    Event,
    EventRegistry,
    InvalidMessage,
    Limits,
    NotInstalled,
    SystemClosed,
)
from duramen.events.codec import Codec
from duramen.events.log import EventLog, read_events
from duramen.events.model import Seconds, parse_seconds
from duramen.projections import Consumers, Episode, Found, Runner
from duramen.projections.episodes import EpisodeFilter, EpisodeIndex, EpisodeReader

from ..commands import outcome_of
from ..dispatch import EventLoop, ThreadPool
from .embedding_queue import EmbeddingQueue, attach_embedding, waiting_on

if TYPE_CHECKING:
    from duramen.projections.episodes import Embed, VectorIndex

By = Literal["meaning", "words"]
Match = Literal["any", "all"]

_MOST_FOUND: Final = 10_000
_MOST_BATCH: Final = 4_096
_MOST_NAME: Final = 200


class EpisodeStore:
    """The episodes of the namespace. Thread-safe.

    They are held in this process's memory. Each call first reads what was added since the last one, so it sees every
    session that ended before the call.

    `project` is the first segment of an agent path, `agent` a whole path, `outcome` one of success, failure, partial,
    and `since` an aware datetime: episodes made before it are left out.
    """

    def __init__(
        self, log: EventLog, registry: EventRegistry, limits: Limits, loop: EventLoop, consumers: Consumers
    ) -> None:
        self._log = log
        self._registry = registry
        self._limits = limits
        self._loop = loop
        self._index = EpisodeIndex()
        self._reader = EpisodeReader(log, limits, self._index)
        self._thread_pool = ThreadPool("embedding", 1)
        self._work: EmbeddingQueue | None = None
        self._consumers = consumers
        self._consumer: Runner[Any] | None = None
        self._closed = False

    def get(self, episode_id: str) -> Episode | None:
        """One episode by id; None if there is none."""
        self._reader.catch_up()
        return self._index.get(episode_id)

    def events(self, episode_id: str) -> Iterator[Event]:
        """The events of an episode's session, oldest first, read in pages.

        Raises EpisodeNotFound, and while iterating what reading events raises: Trimmed, if some were trimmed.
        """
        episode = self.get(episode_id)
        if episode is None:
            raise EpisodeNotFound("there is no episode with this id; list() returns all")
        first, last = episode.first_seq, episode.last_seq
        return read_events(self._log, episode.agent, Codec(self._limits), self._registry, from_seq=first, to_seq=last)

    def search(
        self,
        text: str,
        *,
        project: str | None = None,
        agent: str | AgentPath | None = None,
        outcome: str | None = None,
        since: datetime | None = None,
        limit: int = 10,
        by: By | None = None,
        match: Match = "any",
        prefix: bool = False,
        timeout: Seconds = 30.0,
    ) -> list[Found]:
        """The episodes that match a text best, each with its score; of equal scores the newest first.

        `by` defaults to `meaning` once there is an embedding, and to `words` until then. Description, lessons, summary
        and outcome are searched. By words, an episode needs `any` of the words or `all`, as `match` says; with `prefix`
        a word matches every word that begins with it. Nothing in `text` is syntax; case and accents are ignored.

        By meaning, episodes without a vector are embedded first, for at most `timeout` seconds. Raises EmbeddingFailed,
        AskTimeout, NotInstalled, InvalidMessage, and what reading the log raises.
        """
        selection = _selection(project, agent, outcome, since)
        _check_search(text, limit, by, match)
        seconds = _parse_timeout(timeout)
        work = self._work
        if by == "meaning" and work is None:
            raise InvalidMessage("search by meaning needs an embedding: give one with episodes.use_embedding(…)")
        self._reader.catch_up()
        if by == "words" or work is None:
            return self._index.search_words(text, selection, limit, match=match, prefix=prefix)
        if self._closed:
            raise SystemClosed("the system is closed; open a new one")
        return self._index.search_vectors(work.embed_query(text, seconds), selection, limit)

    def use_embedding(
        self,
        embed: Embed,
        *,
        name: str,
        batch: int = 64,
        timeout: Seconds = 60.0,
        index: Callable[[int], VectorIndex] | None = None,
        background: bool = False,
    ) -> None:
        """Search by meaning from now on, with `embed`: a list of texts in, as many vectors out; sync or async.

        `embed` gets at most `batch` texts, in one thread at a time, never a caller's. A coroutine runs on the system's
        event loop, for at most `timeout` seconds a call. `name` names the model: the server stores vectors under it,
        and each text is embedded once a name. Another model, or other settings, need another name. At most 8,000
        characters of a text are embedded.

        `index` makes the vector index for a number of dimensions; the default is `ExactVectors`.

        With `background`, each episode is embedded soon after its session has ended, by a durable consumer named
        `embedding.` and the name of the model. One process runs it; of the others that were told so, one takes over
        when that has ended. It tries again for as long as `embed` fails. Search embeds what it has not come to.

        Raises NotInstalled without numpy, InvalidMessage; with `background` Unavailable and SystemClosed, too.
        """
        _check_embedding(embed, name, batch, index)
        seconds = _parse_timeout(timeout)
        try:
            from duramen.projections.episodes import Embedding, ExactVectors
        except ImportError:
            raise NotInstalled("search by meaning needs numpy: pip install 'duramen[search]'") from None
        embedding = Embedding(
            embed, name=name, batch=batch, cache=self._log.embeddings(name), wait=waiting_on(self._loop, seconds)
        )
        if self._consumer is not None:
            self._consumer.close()
            self._consumer = None
        self._index.use_vectors(index or ExactVectors)
        self._work = EmbeddingQueue(self._index, self._reader, embedding, self._thread_pool)
        if background:
            self._consumer = attach_embedding(self._work, name, self._log, self._consumers)

    def list(
        self,
        *,
        project: str | None = None,
        agent: str | AgentPath | None = None,
        outcome: str | None = None,
        since: datetime | None = None,
        limit: int | None = None,
    ) -> list[Episode]:
        """Episodes, newest first."""
        selection = _selection(project, agent, outcome, since)
        if limit is not None and (type(cast("object", limit)) is not int or limit < 0):
            raise InvalidMessage("limit is a whole number from 0 on, or None")
        self._reader.catch_up()
        return self._index.newest(selection, limit)

    def prepare_trimming(self, agent: str) -> None:
        """Called before events are trimmed: the episodes of a namespace that older code made are in its events only."""
        self._reader.fill()

    def close(self, timeout: float) -> None:
        """End the embedding thread, within `timeout` seconds. `list` and `get` still work."""
        self._closed = True
        self._thread_pool.close(timeout)


def _selection(
    project: str | None, agent: str | AgentPath | None, outcome: str | None, since: datetime | None
) -> EpisodeFilter:
    if since is not None and (not isinstance(cast("object", since), datetime) or since.utcoffset() is None):
        raise InvalidMessage("since is a datetime with a time zone")
    return EpisodeFilter(
        project=project,
        agent=None if agent is None else str(agent),
        outcome=None if outcome is None else outcome_of(outcome).value,
        since=since,
    )


def _check_search(text: object, limit: object, by: object, match: object) -> None:
    if type(text) is not str or not text.strip():
        raise InvalidMessage("search takes a text to look for; list() lists all episodes")
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise InvalidMessage("the text to look for holds half of a surrogate pair, which is no character")
    if type(limit) is not int or not 1 <= limit <= _MOST_FOUND:
        raise InvalidMessage(f"limit is a whole number from 1 to {_MOST_FOUND}")
    if by not in (None, "meaning", "words"):
        raise InvalidMessage("by is 'meaning' or 'words'")
    if match not in ("any", "all"):
        raise InvalidMessage("match is 'any' or 'all'")


def _check_embedding(embed: object, name: object, batch: object, index: object) -> None:
    if not callable(embed) or (index is not None and not callable(index)):
        raise InvalidMessage("an embedding is a function of a list of texts, an index a function of a number")
    if type(name) is not str or not name.strip() or len(name) > _MOST_NAME or not name.isprintable():
        raise InvalidMessage(f"name says which model it is, in 1 to {_MOST_NAME} printable characters")
    if type(batch) is not int or not 1 <= batch <= _MOST_BATCH:
        raise InvalidMessage(f"batch is a whole number from 1 to {_MOST_BATCH}")


def _parse_timeout(timeout: object) -> float:
    return parse_seconds("timeout", timeout, least=0.001)
