"""`duramen episodes`: the episodes of finished sessions, listed or searched."""

from __future__ import annotations

import argparse
from typing import Final

from duramen.events import InvalidMessage
from duramen.projections import Episode

from ....api import EpisodeStore
from ....commands import Outcome
from ...arguments import Options, parse_count
from ...command import Command
from ...errors import NoEpisode
from ...exit_codes import ExitCode
from ...opening import opened
from ...output import Output, format_time, join_texts, shorten, text, to_json

_STYLES: Final = {"success": "green", "failure": "red", "partial": "yellow"}
_LEAST_PREFIX: Final = 4
_DESCRIPTION: Final = 120
_SEARCH: Final = "search"
_FOUND: Final = 10


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "id", nargs="?", metavar="ID", help="show this one; the beginning of an id is enough. Or the word `search`"
    )
    parser.add_argument("text", nargs="*", metavar="TEXT", help="after `search`: what to look for, best first")
    parser.add_argument("--project", metavar="NAME", help="only of this project")
    parser.add_argument("--agent", metavar="PATH", help="only of this agent")
    parser.add_argument("--outcome", choices=[outcome.value for outcome in Outcome], help="only of sessions ended so")
    parser.add_argument(
        "--limit", type=parse_count, metavar="N", help="the newest N; of a search the best (default: 10)"
    )


def _run(arguments: argparse.Namespace, options: Options, output: Output) -> ExitCode:
    if arguments.id == _SEARCH:
        return _search(arguments, options, output)
    if arguments.text:
        raise InvalidMessage("episodes takes one id, or `search` and a text")
    with opened(options) as system:
        if arguments.id is not None:
            _show_one(_find(system.episodes, arguments.id), output)
            return ExitCode.OK
        with output.waiting("reading the list of episodes"):
            chosen = system.episodes.list(
                project=arguments.project, agent=arguments.agent, outcome=arguments.outcome, limit=arguments.limit
            )
    if output.as_json:
        output.data([episode.as_data() for episode in chosen])
    elif chosen:
        _show_all(chosen, output)
    else:
        output.show(text("no episodes here: a session leaves one when it is terminated"))
    return ExitCode.OK


def _search(arguments: argparse.Namespace, options: Options, output: Output) -> ExitCode:
    """Show the best matches by words. Embeddings are code of the user, which the console does not have."""
    wanted = " ".join(arguments.text)
    if not wanted.strip():
        raise InvalidMessage("episodes search takes words to look for")
    with opened(options) as system, output.waiting("searching"):
        found = system.episodes.search(
            wanted,
            project=arguments.project,
            agent=arguments.agent,
            outcome=arguments.outcome,
            limit=arguments.limit or _FOUND,
            by="words",
        )
    if output.as_json:
        output.data([{**hit.episode.as_data(), "score": hit.score} for hit in found])
    elif found:
        _show_all([hit.episode for hit in found], output)
    else:
        output.show(text("no episode has any of these words"))
    return ExitCode.OK


def _find(store: EpisodeStore, wanted: str) -> Episode:
    """The episode with this id, or the only one whose id begins so. Raises NoEpisode."""
    found = store.get(wanted)
    if found is not None:
        return found
    matching = [episode for episode in store.list() if episode.id.startswith(wanted)]
    if len(wanted) < _LEAST_PREFIX or not matching:
        raise NoEpisode(f"there is no episode {shorten(wanted, 80)}; `duramen episodes` lists those there are")
    if len(matching) > 1:
        raise NoEpisode(f"{len(matching)} episodes begin with {wanted}; give more of the id")
    return matching[0]


def _show_all(chosen: list[Episode], output: Output) -> None:
    """Show lines and not a table: on a terminal the description goes on in the next line, and no id is broken."""
    width = max(len(_agent(episode)) for episode in chosen)
    header = f"{'kept':19}  {'id':36}  {'outcome':7}  {'agent':{width}}  description"
    if output.fits(len(header)):
        output.line(text(header, "bold"))
    for episode in chosen:
        output.line(
            join_texts(
                text(f"{format_time(episode.created_at)}  {episode.id:36}  ", "dim"),
                text(f"{episode.outcome:7}", _STYLES.get(episode.outcome, "")),
                text(f"  {_agent(episode):{width}}  "),
                text(shorten(" ".join(episode.task_description.split()), _DESCRIPTION)),
            )
        )


def _show_one(episode: Episode, output: Output) -> None:
    if output.as_json:
        output.data(episode.as_data())
        return
    rows = {
        "id": episode.id,
        "agent": _agent(episode),
        "session": episode.session_id,
        "outcome": episode.outcome,
        "kept": format_time(episode.created_at),
        "lasted": f"{episode.duration_seconds:.1f} s",
        "events": f"{episode.first_seq} to {episode.last_seq}",
        "tokens used": episode.tokens_used or None,
        "importance": episode.importance_score,
        "details": None if episode.outcome_details is None else to_json(episode.outcome_details, for_people=True),
        "task": episode.task_description,
        "context": episode.context_summary,
        "actions": ", ".join(f"{action['tool']} ({action['seq']})" for action in episode.actions) or None,
    }
    for name, value in rows.items():
        if value is not None:
            output.show(join_texts(text(f"{name:<13} ", "dim"), text(value, _STYLES.get(str(value), ""))))
    for lesson in episode.lessons_learned:
        output.show(join_texts(text(f"{'lesson':<13} ", "dim"), text(lesson)))


def _agent(episode: Episode) -> str:
    return f"{episode.project_id}/{episode.agent_instance_id}"


EPISODES: Final = Command("episodes", "list or search what is kept of finished sessions", _run, _add_arguments)
