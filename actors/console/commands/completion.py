"""`duramen completion`: what a shell needs to complete commands, options and their choices."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Sequence
from textwrap import shorten
from typing import Final

from attrs import frozen

from ..arguments import CommandParser, Options, add_common
from ..command import Command
from ..exit_codes import ExitCode
from ..output import Output

SHELLS: Final = ("bash", "zsh", "fish")

_MOST_SUMMARY: Final = 80
_ZSH_SYNTAX: Final = re.compile(r"([\\:\[\]])")
_FISH_SYNTAX: Final = re.compile(r"([\\'])")


@frozen
class _Option:
    names: tuple[str, ...]
    """Without names: an argument that stands at its place."""
    takes_value: bool
    choices: tuple[str, ...]
    summary: str


@frozen
class _Shown:
    name: str
    summary: str
    options: tuple[_Option, ...]

    @property
    def words(self) -> tuple[str, ...]:
        """All options, by name."""
        return tuple(name for option in self.options for name in option.names)

    @property
    def choices(self) -> tuple[str, ...]:
        """The choices for arguments that stand at their place."""
        return tuple(choice for option in self.options if not option.names for choice in option.choices)


def make_completion(commands: Callable[[], Sequence[Command]]) -> Command:
    """The command, which completes those that the function returns."""

    def run(arguments: argparse.Namespace, options: Options, output: Output) -> ExitCode:
        shown = [_describe(command) for command in commands()]
        write = {"bash": _for_bash, "zsh": _for_zsh, "fish": _for_fish}[arguments.shell]
        sys.stdout.write(write(shown))
        return ExitCode.OK

    return Command("completion", "print what a shell needs to complete commands and options", run, _add_arguments)


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("shell", choices=SHELLS, metavar="SHELL", help="bash, zsh or fish")


def _describe(command: Command) -> _Shown:
    parser = CommandParser(prog=command.name)
    if command.add_arguments is not None:
        command.add_arguments(parser)
    add_common(parser)
    options = tuple(
        _Option(
            tuple(action.option_strings),
            action.nargs != 0,
            tuple(str(choice) for choice in action.choices or ()),
            shorten(action.help or "", _MOST_SUMMARY, placeholder=" …"),
        )
        for action in parser.arguments()
    )
    return _Shown(command.name, command.summary, options)


def _for_bash(commands: Sequence[_Shown]) -> str:
    values = [
        f"        '{command.name} {name}') words='{' '.join(option.choices)}' ;;\n"
        for command in commands
        for option in command.options
        for name in option.names
        if option.choices
    ]
    taking = sorted(
        {name for each in commands for option in each.options if option.takes_value for name in option.names}
    )
    words = [
        f"        {command.name}) options='{' '.join(command.words)}' words='{' '.join(command.choices)}' ;;\n"
        for command in commands
    ]
    return (
        "_duramen() {\n"
        '    local word="${COMP_WORDS[COMP_CWORD]}" before="${COMP_WORDS[COMP_CWORD-1]}" command="${COMP_WORDS[1]}"\n'
        "    local options='' words=''\n"
        "    COMPREPLY=()\n"
        '    if [ "$COMP_CWORD" -eq 1 ]; then\n'
        f"        words='{' '.join(command.name for command in commands)}'\n"
        "    else\n"
        '        case "$command" in\n'
        f"{''.join(words)}"
        "        esac\n"
        '        case "$before" in\n'
        f"            {'|'.join(taking)}) options='' words='' ;;\n"
        "        esac\n"
        '        case "$command $before" in\n'
        f"{''.join(values)}"
        "        esac\n"
        "    fi\n"
        '    case "$word" in -*) words="$options" ;; esac\n'
        '    COMPREPLY=($(compgen -W "$words" -- "$word"))\n'
        "}\n"
        "complete -o default -F _duramen duramen\n"
    )


def _for_zsh(commands: Sequence[_Shown]) -> str:
    cases = "".join(f"        {each.name}) _arguments {' '.join(_zsh_arguments(each))} ;;\n" for each in commands)
    listed = "".join(f"        {_zsh_quoted(f'{each.name}:{_zsh_text(each.summary)}')}\n" for each in commands)
    return (
        "#compdef duramen\n"
        "_duramen() {\n"
        "    local -a commands\n"
        f"    commands=(\n{listed}    )\n"
        "    if (( CURRENT == 2 )); then\n"
        "        _describe command commands\n"
        "        return\n"
        "    fi\n"
        "    local command=$words[2]\n"
        "    shift words\n"
        "    (( CURRENT -= 1 ))\n"
        "    case $command in\n"
        f"{cases}"
        "    esac\n"
        "}\n"
        # From a folder of `fpath`, zsh runs this file as the body of `_duramen` at the first completion of a session.
        'if [[ "$funcstack[1]" == _duramen ]]; then\n'
        '    _duramen "$@"\n'
        "else\n"
        "    compdef _duramen duramen\n"
        "fi\n"
    )


def _zsh_arguments(command: _Shown) -> list[str]:
    made: list[str] = []
    for option in command.options:
        values = f":value:({' '.join(option.choices)})" if option.choices else ":value:_files"
        rest = f"[{_zsh_text(option.summary)}]{values if option.takes_value else ''}"
        made += [_zsh_quoted(f"*{name}{rest}") for name in option.names]
    places = f"({' '.join(command.choices)})" if command.choices else "_files"
    return [*made, f"'*:argument:{places}'"]


def _zsh_text(text: str) -> str:
    """A text in which nothing is the syntax of `_describe` and `_arguments`."""
    return _ZSH_SYNTAX.sub(r"\\\1", text)


def _zsh_quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


def _for_fish(commands: Sequence[_Shown]) -> str:
    lines = [
        f"complete -c duramen -n __fish_use_subcommand -f -a {each.name} -d {_fish_quoted(each.summary)}\n"
        for each in commands
    ]
    for command in commands:
        here = f"complete -c duramen -n '__fish_seen_subcommand_from {command.name}'"
        if command.choices:
            lines.append(f"{here} -f -a '{' '.join(command.choices)}'\n")
        lines += [f"{here}{_fish_option(option)}\n" for option in command.options if option.names]
    return "".join(lines)


def _fish_option(option: _Option) -> str:
    names = "".join(f" -l {name[2:]}" if name.startswith("--") else f" -s {name[1:]}" for name in option.names)
    value = f" -x -a '{' '.join(option.choices)}'" if option.choices else " -r" if option.takes_value else ""
    return f"{names}{value} -d {_fish_quoted(option.summary)}"


def _fish_quoted(text: str) -> str:
    return "'" + _FISH_SYNTAX.sub(r"\\\1", text) + "'"
