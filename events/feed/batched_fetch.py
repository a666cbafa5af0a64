"""Reading a little of many partitions together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..errors import DuramenError, Unavailable
from ..log import FeedSources, Span, SpanEvents
from ..model import Mark
from .reader import FeedReader
from .window import check_mark, is_erased

_CALL_BYTES = 1024 * 1024


def fetch_together(log: FeedSources, readers: Sequence[FeedReader]) -> None:
    """Fetch what each of these readers of one log needs next: in two exchanges for all, instead of two for each.

    An optimisation: errors are left to the reader that meets them, and a reader that is far behind, or has something
    fetched, is left out. Raises Unavailable.
    """
    requests = [(reader, request) for reader in readers if (request := reader.next_request()) is not None]
    if len(requests) < 2:
        return
    try:
        pages = log.feed_pages([request for _, request in requests])
        planned: list[tuple[FeedReader, int, list[Span]]] = []
        for (reader, request), page in zip(requests, pages, strict=True):
            spans = reader.plan_with(request, page)
            if spans:
                planned.append((reader, request[0], spans))
        found = log.gather_all([(partition, spans) for _, partition, spans in planned], _CALL_BYTES)
    except Unavailable:
        raise
    except DuramenError:
        return
    for (reader, _, spans), answers in zip(planned, found, strict=True):
        reader.provide([_if_whole(span, answer) for span, answer in zip(spans, answers, strict=False)])


def confirm_marks(log: FeedSources, marks: Mapping[int, Mark]) -> dict[int, DuramenError]:
    """Compare marks with the log, all in one exchange; by partition, what is wrong: Diverged, DataLoss.

    A partition that cannot be compared is left to its reader, which finds the same. Raises Unavailable.
    """
    probed = {partition: mark for partition, mark in marks.items() if mark.digest}
    if not probed:
        return {}
    try:
        found = log.gather_all(
            [(number, [Span(mark.agent, mark.seq, 0)]) for number, mark in probed.items()], _CALL_BYTES
        )
    except Unavailable:
        raise
    except DuramenError:  # of one of them: the others need not suffer for it
        each = [{partition: mark} for partition, mark in probed.items()] if len(probed) > 1 else []
        return {partition: wrong for one in each for partition, wrong in confirm_marks(log, one).items()}
    wrong: dict[int, DuramenError] = {}
    for (partition, mark), spans in zip(probed.items(), found, strict=True):
        try:
            check_mark(mark, spans[0].head, spans[0].items[0] if spans[0].items else None)
        except DuramenError as error:
            if not is_erased(log, partition, mark):
                wrong[partition] = error
    return wrong


def _if_whole(span: Span, found: SpanEvents) -> SpanEvents | None:
    return found if len(found.items) == max(1, span.count) else None
