"""`duramen unfinished`, `answer`, `retry`, `cancel`, `check-work`: durable messages whose handlers have not ended."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from typing import Any, Final, cast

from attrs import asdict

from duramen.events import AgentPath, Receipt

from ...agent_types import AgentFactory
from ...api import AgentHandle
from ...commands import UnfinishedWork
from ..arguments import Options, add_path, add_path_or_all, load_named, parse_count, parse_json, parse_seconds
from ..command import Command
from ..errors import UnusableCode
from ..exit_codes import ExitCode
from ..opening import opened
from ..output import Output, Table, format_time, text

_SECONDS: Final = 30.0


def _run_unfinished(arguments: argparse.Namespace, options: Options, output: Output) -> ExitCode:
    name = None if arguments.path is None else AgentPath.parse(arguments.path).text
    with opened(options) as system:
        found = system.unfinished(limit=arguments.limit) if name is None else system.agent(name).unfinished()
    if output.as_json:
        output.data([asdict(work, recurse=False) for work in found])
    elif not found:
        output.show(text("nothing is unfinished"))
    else:
        table = Table(
            "agent", "work", "message", "since", "tries", "waits for", texts=["waits for"], right=["work", "tries"]
        )
        for work in found:
            table.add_row(
                text(work.agent),
                text(work.work),
                text(work.message),
                text(format_time(work.since)),
                text(work.tries),
                text(_describe(work), "" if work.parked is None else "red"),
            )
        output.show(table)
    return ExitCode.OK


def _describe(work: UnfinishedWork) -> str:
    if work.parked is not None:
        return f"parked: {work.parked['text']}"
    return ", ".join(map(_describe_one, work.waits_for)) or "its turn"


def _describe_one(item: Any) -> str:
    words = [item["kind"], item["name"]] if item["name"] != item["kind"] else [item["kind"]]
    if item["due"] is not None:
        words.append(f"until {format_time(item['due'])}")
    if item["attempts"]:
        words.append(f"({item['attempts']} failed)")
    return " ".join(words)


def _add_answer(parser: argparse.ArgumentParser) -> None:
    add_path(parser)
    parser.add_argument("name", metavar="NAME", help="what the handler waits for")
    parser.add_argument(
        "value",
        nargs="?",
        type=parse_json,
        metavar="JSON",
        help="the answer, in JSON: a text needs its quotes (default: null)",
    )
    parser.add_argument("--work", type=parse_count, metavar="SEQ", help="whose wait: the seq of its message")
    _add_command_id(parser)


def _run_answer(arguments: argparse.Namespace, options: Options, output: Output) -> ExitCode:
    def answer(agent: AgentHandle) -> Receipt:
        return agent.answer(arguments.name, arguments.value, work=arguments.work, command_id=arguments.command_id)

    return _send(arguments, options, output, answer, f"{arguments.name} is answered")


def _add_retry(parser: argparse.ArgumentParser) -> None:
    _add_work(parser)
    _add_command_id(parser)


def _run_retry(arguments: argparse.Namespace, options: Options, output: Output) -> ExitCode:
    def retry(agent: AgentHandle) -> Receipt:
        return agent.retry(arguments.work, command_id=arguments.command_id)

    return _send(arguments, options, output, retry, f"work {arguments.work} goes on")


def _add_cancel(parser: argparse.ArgumentParser) -> None:
    _add_work(parser)
    parser.add_argument(
        "--seconds",
        type=parse_seconds,
        default=_SECONDS,
        metavar="N",
        help=f"how long its handler may still clean up (default: {_SECONDS:g})",
    )
    _add_command_id(parser)


def _run_cancel(arguments: argparse.Namespace, options: Options, output: Output) -> ExitCode:
    def cancel(agent: AgentHandle) -> Receipt:
        return agent.cancel(arguments.work, seconds=arguments.seconds, command_id=arguments.command_id)

    return _send(arguments, options, output, cancel, f"work {arguments.work} is cancelled")


def _add_work(parser: argparse.ArgumentParser) -> None:
    add_path(parser)
    parser.add_argument(
        "work", type=parse_count, metavar="SEQ", help="the seq of its message, as `unfinished` shows it"
    )


def _add_command_id(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--command-id", metavar="ID", help="sent again with the same id, it is done once")


def _send(
    arguments: argparse.Namespace,
    options: Options,
    output: Output,
    send: Callable[[AgentHandle], Receipt],
    done: str,
) -> ExitCode:
    name = AgentPath.parse(arguments.path).text
    with opened(options) as system:
        receipt = send(system.agent(name))
    if output.as_json:
        output.data(receipt._asdict() | {"digest": receipt.digest.hex()})
    else:
        output.line(text(f"{name}: {done} (seq {receipt.seq})"))
    return ExitCode.OK


def _add_check(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("agents", metavar="MODULE:NAME", help="a mapping of agent types to classes")


def _run_check(arguments: argparse.Namespace, options: Options, output: Output) -> ExitCode:
    agents = load_named(arguments.agents)
    if not isinstance(agents, Mapping):
        raise UnusableCode(f"{arguments.agents} is a {type(agents).__name__}; give a mapping of agent types to classes")
    with opened(options, agents=cast("Mapping[str, AgentFactory]", agents), host=False) as system:
        problems = system.check_work()
    if output.as_json:
        output.data([asdict(problem) for problem in problems])
    elif not problems:
        output.show(text("this code carries all unfinished work on"))
    else:
        table = Table("agent", "work", "message", "what", texts=["what"], right=["work"])
        for problem in problems:
            table.add_row(text(problem.agent), text(problem.work), text(problem.message), text(problem.text, "red"))
        output.show(table)
    return ExitCode.FAILED if problems else ExitCode.OK


CHECK_WORK: Final = Command(
    "check-work", "run unfinished work against other code, without doing anything", _run_check, _add_check
)
UNFINISHED: Final = Command(
    "unfinished", "list durable messages that are not handled to their end", _run_unfinished, add_path_or_all
)
ANSWER: Final = Command("answer", "answer what a durable handler waits for", _run_answer, _add_answer)
RETRY: Final = Command("retry", "let parked work go on", _run_retry, _add_retry)
CANCEL: Final = Command("cancel", "cancel the work on a durable message", _run_cancel, _add_cancel)
