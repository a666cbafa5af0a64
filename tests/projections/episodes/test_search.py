"""Searching episodes: the same answers as looking at every one, whatever was added, changed and removed before."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from duramen.events import EmbeddingFailed
from duramen.events.memory.content_cache import MemoryCache
from duramen.projections.episodes import Embedding, ExactVectors
from duramen.projections.episodes.episode import Episode, episode_text
from duramen.projections.episodes.facets import EpisodeFilter
from duramen.projections.episodes.index import EpisodeIndex, Found
from duramen.projections.episodes.tokenizer import split_words
from duramen.projections.episodes.word_index import WordIndex
from hashing import Recorder, hashed

NOW = datetime(2024, 5, 1, 12, tzinfo=UTC)
WORDS = ["refund", "policy", "train", "paris", "kettle", "Über", "café", "退款", "and", "NOT"]
PROJECTS = ["acme", "beta"]
OUTCOMES = ["success", "failure", "partial"]


def episode(number: int = 0, text: str = "refund policy", **given: Any) -> Episode:
    usual: dict[str, Any] = {
        "id": f"e-{number}",
        "project_id": "acme",
        "agent_instance_id": "a",
        "session_id": "s",
        "task_type": "session_completion",
        "task_description": text,
        "outcome": "success",
        "outcome_details": None,
        "actions": [],
        "context_summary": "",
        "lessons_learned": [],
        "duration_seconds": 1.0,
        "tokens_used": 0,
        "importance_score": 0.5,
        "first_seq": 1,
        "last_seq": 3,
        "created_at": NOW + timedelta(seconds=number),
    }
    return Episode(**{**usual, **given})


def indexed(*episodes: Episode) -> EpisodeIndex:
    index = EpisodeIndex()
    for one in episodes:
        index.add(one)
    return index


def embed_all(index: EpisodeIndex, batch: int = 7) -> None:
    while pending := index.pending_texts(batch, index.stamp):
        index.put_vectors(pending, unit([each.text for each in pending]))


def unit(texts: Sequence[str]) -> np.ndarray[Any, np.dtype[np.float32]]:
    vectors = np.array(hashed(list(texts)), np.float64)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return (vectors / np.where(lengths == 0, 1, lengths)).astype(np.float32)


def ids(found: Sequence[Found]) -> list[str]:
    return [one.episode.id for one in found]


# -- words -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Refund-Policy, v2_final!", ["refund", "policy", "v2", "final"]),
        ("Über CAFÉ ÉCOLE", ["uber", "cafe", "ecole"]),
        ("straße İstanbul ﬁne", ["strasse", "istanbul", "fine"]),
        ("ａｂｃ x²", ["abc", "x2"]),
        ("हिन्दी शब्द", ["हिन्दी", "शब्द"]),
        ('it\'s "quoted" AND (NOT) near* ^x:y', ["it", "s", "quoted", "and", "not", "near", "x", "y"]),
        ("", []),
        ("… — !!! ___ 😀", []),
        ("\ud800 ok \udfff", ["ok"]),
    ],
)
def test_text_is_split_into_words_without_case_accents_and_punctuation(text: str, words: list[str]) -> None:
    assert split_words(text) == [[word] for word in words]


def test_scripts_without_spaces_are_split_into_characters_that_stay_together() -> None:
    assert split_words("退款政策 refund方针") == [list("退款政策"), ["refund"], list("方针")]
    assert split_words("สวัสดี") == [list("สวัสดี")]


@given(st.text())
def test_splitting_again_what_was_split_changes_nothing(text: str) -> None:
    once = [word for phrase in split_words(text) for word in phrase]
    assert [word for phrase in split_words(" ".join(once)) for word in phrase] == once
    assert all(word and '"' not in word and " " not in word for word in once)


texts = st.lists(st.sampled_from(WORDS), max_size=6).map(" ".join)


@given(st.lists(texts, max_size=12), st.lists(st.sampled_from(WORDS), min_size=1, max_size=3), st.booleans())
def test_search_by_words_finds_exactly_the_texts_that_contain_them(
    documents: list[str], asked: list[str], need_all: bool
) -> None:
    index = WordIndex()
    for number, text in enumerate(documents):
        index.add(number, text)
    found = {number for number, _ in index.search(" ".join(asked), match="all" if need_all else "any")}
    wanted = [{word for phrase in split_words(word) for word in phrase} for word in asked]
    has = [{word for phrase in split_words(text) for word in phrase} for text in documents]
    test = all if need_all else any
    assert found == {number for number, words in enumerate(has) if test(want <= words for want in wanted)}
    index.close()


@given(st.text(max_size=30), st.booleans(), st.sampled_from(["any", "all"]))
def test_every_text_that_has_a_word_finds_itself_and_none_is_syntax(text: str, prefix: bool, match: Any) -> None:
    index = WordIndex()
    index.add(0, text)
    found = [number for number, _ in index.search(text, prefix=prefix, match=match)]
    assert found == ([0] if split_words(text) else [])
    index.close()


@pytest.mark.parametrize(
    "hostile", ['"', '""', "* OR *", "words:refund", "NEAR(refund, 2)", "refund NOT policy", "'; --", "^", "{a b}:c"]
)
def test_what_would_be_an_operator_is_a_word_or_nothing(hostile: str) -> None:
    index = indexed(episode(1, "refund policy"), episode(2, "near or words"))
    index.search_words(hostile)
    assert ids(index.search_words("refund NOT policy", match="all")) == []
    assert ids(index.search_words("refund OR", match="all")) == []


def test_a_word_stands_for_its_beginnings_only_when_asked_to() -> None:
    index = indexed(episode(1, "refunding"), episode(2, "fund"))
    assert ids(index.search_words("refu")) == []
    assert ids(index.search_words("REFU", prefix=True)) == ["e-1"]


def test_a_run_of_characters_is_found_as_it_stands_and_not_in_another_order() -> None:
    index = indexed(episode(1, "公司退款政策"), episode(2, "款退"))
    assert ids(index.search_words("退款")) == ["e-1"]
    assert ids(index.search_words("政策")) == ["e-1"]


def test_more_of_the_rarer_words_is_better_and_of_equals_the_newest_comes_first() -> None:
    index = indexed(
        episode(1, "refund policy"),
        episode(3, "refund"),
        episode(2, "refund"),
        *(episode(n, "train") for n in range(9, 30)),
    )
    assert ids(index.search_words("policy refund")) == ["e-1", "e-3", "e-2"]
    found = index.search_words("train", limit=4)
    assert ids(found) == ["e-29", "e-28", "e-27", "e-26"]
    assert len({one.score for one in found}) == 1


def test_everything_that_an_episode_says_is_found_but_nothing_of_its_details() -> None:
    one = episode(
        1,
        "described",
        context_summary="summarised",
        lessons_learned=["learned", "twice"],
        outcome="partial",
        outcome_details={"key": "hunter2"},
    )
    index = indexed(one, episode(2, "other"))
    for word in ("described", "summarised", "learned", "twice", "partial"):
        assert ids(index.search_words(word)) == ["e-1"], word
    assert index.search_words("hunter2") == []
    assert "hunter2" not in episode_text(one)


def test_the_first_hundred_words_of_a_question_count() -> None:
    index = indexed(episode(1, "w99"), episode(2, "w100"))
    assert ids(index.search_words(" ".join(f"w{n}" for n in range(500)))) == ["e-1"]


# -- vectors -----------------------------------------------------------------------------------------------------------

components = st.integers(-3, 3)
rows_strategy = st.lists(st.lists(components, min_size=4, max_size=4), min_size=1, max_size=40)


def unit_rows(rows: Sequence[Sequence[int]]) -> np.ndarray[Any, np.dtype[np.float32]]:
    vectors = np.array(rows, np.float64)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return (vectors / np.where(lengths == 0, 1, lengths)).astype(np.float32)


@given(rows_strategy, st.lists(components, min_size=4, max_size=4), st.integers(1, 12), st.data())
def test_the_exact_search_equals_looking_at_every_vector(
    rows: list[list[int]], asked: list[int], most: int, data: st.DataObject
) -> None:
    vectors, question = unit_rows(rows), unit_rows([asked])[0]
    index = ExactVectors(4)
    order = data.draw(st.permutations(range(len(rows))))
    for row in order:
        index.put([row], vectors[row : row + 1])
    gone = data.draw(st.sets(st.integers(0, len(rows) - 1)))
    for row in gone:
        index.remove(row)
    mask = np.array(data.draw(st.lists(st.booleans(), min_size=len(rows), max_size=len(rows))))
    for allowed in (None, mask):
        here = [n for n in range(len(rows)) if n not in gone and (allowed is None or allowed[n])]
        cosines = {n: float(vectors[n].astype(np.float64) @ question.astype(np.float64)) for n in here}
        best = sorted(cosines.values(), reverse=True)[:most]
        found = index.search(question, most, allowed)
        assert {n for n, _ in found} <= set(here)
        assert sorted((cosine for _, cosine in found), reverse=True)[:most] == pytest.approx(best, abs=1e-6)
        for n, cosine in found:
            assert cosine == pytest.approx(cosines[n], abs=1e-6)
        if best:
            clearly = {n for n, cosine in cosines.items() if cosine > best[-1] + 1e-4}
            assert clearly <= {n for n, _ in found}


def test_equal_vectors_have_equal_scores_in_whatever_rows_they_are() -> None:
    index = ExactVectors(384)
    vector = np.random.default_rng(1).standard_normal(384)
    same = np.tile((vector / np.linalg.norm(vector)).astype(np.float32), (1_000, 1))
    index.put(range(1_000), same)
    found = index.search(same[0], 10, None)
    assert len({cosine for _, cosine in found}) == 1
    assert len(found) == 1_000


def test_adding_does_not_copy_the_matrix_each_time() -> None:
    index = ExactVectors(8)
    seen: set[int] = set()
    for row in range(5_000):
        index.put([row], np.ones((1, 8), np.float32))
        seen.add(index._matrix.ctypes.data)
    assert len(seen) <= 8  # 64, 128 … 8192


# -- the index of episodes ---------------------------------------------------------------------------------------------

episodes = st.builds(
    lambda number, text, project, agent, outcome, second: episode(
        number,
        text,
        project_id=project,
        agent_instance_id=agent,
        outcome=outcome,
        created_at=NOW + timedelta(seconds=second),
    ),
    st.integers(0, 15),
    texts,
    st.sampled_from(PROJECTS),
    st.sampled_from(["a", "a/b"]),
    st.sampled_from(OUTCOMES),
    st.integers(0, 5),
)
selections = st.builds(
    lambda project, agent, outcome, second: EpisodeFilter(
        project=project,
        agent=agent,
        outcome=outcome,
        since=None if second is None else NOW + timedelta(seconds=second),
    ),
    st.none() | st.sampled_from([*PROJECTS, "nobody"]),
    st.none() | st.sampled_from(["acme/a", "acme/a/b", "beta/a", "no/body"]),
    st.none() | st.sampled_from(OUTCOMES),
    st.none() | st.integers(0, 6),
)


def taken(selection: EpisodeFilter, one: Episode) -> bool:
    return (
        selection.project in (None, one.project_id)
        and selection.agent in (None, one.agent)
        and selection.outcome in (None, one.outcome)
        and (selection.since is None or one.created_at >= selection.since)
    )


class IndexAgreesWithTheModel(RuleBasedStateMachine):
    """Whatever is added, changed and removed, in whatever order words and vectors come into use."""

    known: Bundle[str] = Bundle("known")

    def __init__(self) -> None:
        super().__init__()
        self.index = EpisodeIndex()
        self.model: dict[str, Episode] = {}
        self.vectors = False

    @rule(target=known, one=episodes)
    def add(self, one: Episode) -> str:
        self.index.add(one)
        self.model[one.id] = one
        return one.id

    @rule(name=consumes(known))
    def remove(self, name: str) -> None:
        assert self.index.remove(name) == (self.model.pop(name, None) is not None)

    @rule()
    def use_vectors(self) -> None:
        self.index.use_vectors(ExactVectors)
        self.vectors = True

    @rule(selection=selections, limit=st.none() | st.integers(0, 5))
    def newest(self, selection: EpisodeFilter, limit: int | None) -> None:
        fitting = [one for one in self.model.values() if taken(selection, one)]
        fitting.sort(key=lambda one: (one.created_at, one.id), reverse=True)
        assert self.index.newest(selection, limit) == fitting[:limit]

    @rule(selection=selections, word=st.sampled_from(WORDS), limit=st.integers(1, 20))
    def search_words(self, selection: EpisodeFilter, word: str, limit: int) -> None:
        found = self.index.search_words(word, selection, limit)
        [phrase] = split_words(word)
        fitting = {
            one.id
            for one in self.model.values()
            if taken(selection, one)
            and set(phrase) <= {word for phrase in split_words(episode_text(one)) for word in phrase}
        }
        assert set(ids(found)) <= fitting
        assert len(found) == min(limit, len(fitting))
        self._in_order(found)

    @rule(selection=selections, asked=texts, limit=st.integers(1, 20))
    def by_meaning(self, selection: EpisodeFilter, asked: str, limit: int) -> None:
        if not self.vectors:
            return
        embed_all(self.index)
        question = unit([asked])[0]
        found = self.index.search_vectors(question, selection, limit)
        fitting = [one for one in self.model.values() if taken(selection, one)]
        scores = sorted((float(unit([episode_text(one)])[0] @ question) for one in fitting), reverse=True)
        assert [one.score for one in found] == pytest.approx(scores[:limit], abs=1e-5)
        assert all(taken(selection, one.episode) for one in found)
        self._in_order(found)

    def _in_order(self, found: list[Found]) -> None:
        keys = [(one.score, one.episode.created_at, one.episode.id) for one in found]
        assert keys == sorted(keys, reverse=True)
        assert all(self.model[one.episode.id] == one.episode for one in found)

    @invariant()
    def every_episode_can_be_looked_up(self) -> None:
        assert len(self.index) == len(self.model)
        for name, one in self.model.items():
            assert self.index.get(name) == one


TestIndexAgreesWithTheModel = IndexAgreesWithTheModel.TestCase
TestIndexAgreesWithTheModel.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)


def test_an_episode_whose_text_changed_while_it_was_embedded_goes_on_waiting() -> None:
    index = EpisodeIndex()
    index.use_vectors(ExactVectors)
    index.add(episode(1, "old"))
    [pending] = index.pending_texts(10, index.stamp)
    index.add(episode(1, "new"))
    index.put_vectors([pending], unit([pending.text]))
    assert [each.text for each in index.pending_texts(10, index.stamp)] == [episode_text(episode(1, "new"))]
    assert index.search_vectors(unit(["old"])[0]) == []


def test_an_episode_whose_text_stayed_keeps_its_vector() -> None:
    index = EpisodeIndex()
    index.use_vectors(ExactVectors)
    index.add(episode(1))
    embed_all(index)
    index.add(episode(1, tokens_used=5, project_id="beta"))
    assert index.pending_texts(10, index.stamp) == []
    [found] = index.search_vectors(unit(["refund policy"])[0], EpisodeFilter(project="beta"))
    assert found.episode.tokens_used == 5


def test_what_waits_since_later_is_none_of_an_earlier_search() -> None:
    index = EpisodeIndex()
    index.use_vectors(ExactVectors)
    index.add(episode(1))
    stamp = index.stamp
    index.add(episode(2))
    assert len(index.pending_texts(10, stamp)) == 1
    assert len(index.pending_texts(10, index.stamp)) == 2


# -- embedding ---------------------------------------------------------------------------------------------------------


def embedding(embed: Any, *, cache: MemoryCache | None = None, batch: int = 3, wait: Any = None) -> Embedding:
    return Embedding(embed, name="m", batch=batch, cache=cache or MemoryCache(), wait=wait)


@given(st.lists(texts, max_size=20), st.integers(1, 5))
def test_each_text_is_embedded_once_in_batches_and_comes_back_in_its_place(many: list[str], batch: int) -> None:
    calls, cache = Recorder(), MemoryCache()
    used = embedding(calls, cache=cache, batch=batch)
    first = used.embed_texts(many)
    assert sorted(calls.texts) == sorted(set(many))
    assert all(1 <= len(call) <= batch for call in calls.calls)
    assert not many or np.allclose(first, unit(many))
    again = embedding(calls, cache=cache).embed_texts(list(reversed(many)))
    assert len(calls.texts) == len(set(many))
    assert not many or np.array_equal(again[::-1], first)


def test_a_question_is_remembered_and_not_kept() -> None:
    calls, cache = Recorder(), MemoryCache()
    used = embedding(calls, cache=cache)
    assert np.array_equal(used.embed_query("refund"), used.embed_query("refund"))
    assert calls.texts == ["refund"]
    embedding(calls, cache=cache).embed_query("refund")
    assert calls.texts == ["refund"] * 2
    used.embed_texts(["train"])
    embedding(calls, cache=cache).embed_query("train")
    assert calls.texts == ["refund", "refund", "train"]


@pytest.mark.parametrize(
    "answer",
    [
        None,
        7,
        "text",
        [],
        [1.0, 2.0],
        [[1.0], [2.0], [3.0]],
        [[1.0, 2.0], [1.0]],
        [[], []],
        [["a"], ["b"]],
        [[None], [None]],
        [[1.0, float("nan")], [1.0, 2.0]],
        [[1.0, float("inf")], [1.0, 2.0]],
        [[[1.0]], [[2.0]]],
        {"a": [1.0]},
    ],
)
def test_what_are_no_vectors_is_refused_and_nothing_of_it_kept(answer: Any) -> None:
    calls, cache = Recorder(lambda _: answer), MemoryCache()
    with pytest.raises(EmbeddingFailed, match="'m' has to return"):
        embedding(calls, cache=cache).embed_texts(["one", "two"])
    good = Recorder()
    embedding(good, cache=cache).embed_texts(["one", "two"])  # the control: later it is asked again
    assert good.texts == ["one", "two"]


@pytest.mark.parametrize("same_process", [True, False])
def test_vectors_of_another_length_are_refused_under_the_same_name(same_process: bool) -> None:
    cache = MemoryCache()
    lengths = iter([8, 16])
    calls = Recorder(lambda texts: hashed(texts, next(lengths)))
    used = embedding(calls, cache=cache)
    used.embed_texts(["one"])
    with pytest.raises(EmbeddingFailed, match="another name") as caught:
        (used if same_process else embedding(calls, cache=cache)).embed_texts(["two"])
    assert (caught.value.expected, caught.value.actual) == (8, 16)


@pytest.mark.parametrize("error", [ValueError("hunter2"), SystemExit(3), KeyboardInterrupt()])
def test_what_the_function_raises_is_the_cause_and_is_not_quoted(error: BaseException) -> None:
    calls = Recorder()
    calls.fail = error
    with pytest.raises(EmbeddingFailed) as caught:
        embedding(calls).embed_texts(["hunter3"])
    assert caught.value.__cause__ is error
    assert type(error).__name__ in str(caught.value)
    assert "hunter" not in str(caught.value)


def test_batches_before_a_failure_are_kept() -> None:
    cache = MemoryCache()
    calls = Recorder()

    def second_fails(texts: list[str]) -> object:
        if len(calls.calls) == 2:
            raise ValueError
        return hashed(texts)

    calls.embed = second_fails
    with pytest.raises(EmbeddingFailed):
        embedding(calls, cache=cache, batch=2).embed_texts(["a", "b", "c", "d"])
    again = Recorder()
    embedding(again, cache=cache).embed_texts(["a", "b", "c", "d"])
    assert again.texts == ["c", "d"]


@pytest.mark.parametrize("damage", [b"", b"short", b"\xff" * 512, bytes(511)])
def test_a_damaged_vector_in_the_cache_is_asked_for_again_and_replaced(damage: bytes) -> None:
    calls, cache = Recorder(), MemoryCache()
    before = embedding(calls, cache=cache).embed_texts(["one"])
    field = next(field for field in cache._values if field != b"dimensions")
    cache.store({field: damage})
    assert np.array_equal(embedding(calls, cache=cache).embed_texts(["one"]), before)
    assert calls.texts == ["one", "one"]
    embedding(calls, cache=cache).embed_texts(["one"])
    assert calls.texts == ["one", "one"]


@pytest.mark.parametrize("dimensions", [b"", b"0", b"-4", b"x", b"99999999"])
def test_a_damaged_length_in_the_cache_counts_as_none(dimensions: bytes) -> None:
    calls, cache = Recorder(), MemoryCache()
    cache.store({b"dimensions": dimensions})
    embedding(calls, cache=cache).embed_texts(["one"])
    assert cache.load([b"dimensions"]) == [b"128"]


def test_vectors_may_be_arrays_of_any_size_and_are_brought_to_length_one() -> None:
    answer = np.array([[3e300, 4e300], [0.0, 0.0], [1e-300, 0.0]])
    found = embedding(lambda _: answer).embed_texts(["a", "b", "c"])
    assert found.tolist() == [[pytest.approx(0.6), pytest.approx(0.8)], [0.0, 0.0], [1.0, 0.0]]


def test_what_lies_behind_the_first_8000_characters_is_not_embedded() -> None:
    calls = Recorder()
    used = embedding(calls)
    used.embed_texts(["x" * 9_000, "x" * 8_000 + "y"])
    used.embed_query("x" * 10_000)
    assert calls.texts == ["x" * 8_000]


def test_the_result_of_a_coroutine_function_is_waited_for() -> None:
    async def embed(texts: list[str]) -> object:
        return hashed(texts)

    def wait(awaitable: Any) -> Any:
        with pytest.raises(StopIteration) as stopped:
            awaitable.send(None)
        return stopped.value.value

    assert np.allclose(embedding(embed, wait=wait).embed_texts(["refund"]), unit(["refund"]))
