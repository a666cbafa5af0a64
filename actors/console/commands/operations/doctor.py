"""`duramen doctor`: whether agents can be trusted to the server."""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path
from typing import Any, Final

from attrs import asdict

from duramen.events import DuramenError
from duramen.events.embedded import EmbeddedServer
from duramen.events.log import Keys
from duramen.events.redis.client import (
    ClusterClient,
    ClusterNodes,
    Finding,
    Pool,
    RunCommand,
    check_cluster,
    check_server,
    command_runner,
    pool_of_socket,
    pool_of_url,
    redact_url,
)

from ...arguments import Options
from ...command import Command
from ...exit_codes import ExitCode
from ...opening import require_store
from ...output import Output, Table, text

_STYLES: Final = {"ok": "green", "warning": "yellow", "problem": "bold red"}
_LITTLE_DISK: Final = 256 * 1024 * 1024


def _run(arguments: argparse.Namespace, options: Options, output: Output) -> ExitCode:
    """Check the server without opening a namespace and without writing anything."""
    findings = _findings(options)
    problems = sum(finding.level == "problem" for finding in findings)
    if output.as_json:
        output.data({"ok": problems == 0, "findings": [asdict(finding) for finding in findings]})
    else:
        _show(findings, output)
    return ExitCode.SERVER if problems else ExitCode.OK


def _findings(options: Options) -> list[Finding]:
    if options.url == "memory://":
        return [Finding("ok", "memory:// keeps everything in this process, and nothing when it ends")]
    if options.url is not None:
        pool = pool_of_url(options.url, insecure=options.insecure)
        return [Finding("ok", f"server {_shown(options.url)}"), *_ask_server(pool, options)]
    require_store(options)
    with EmbeddedServer.open(options.data_dir) as server:
        return [*_embedded(server, options.data_dir), *_ask_server(pool_of_socket(server.socket_path), options)]


def _shown(url: str) -> str:
    try:
        return redact_url(url)
    except ValueError:
        return "(not a url)"


def _embedded(server: EmbeddedServer, data_dir: str) -> list[Finding]:
    folder = Path(data_dir).resolve()
    whose = "started for this look" if server.owner else "of another process, which is left alone"
    findings = [Finding("ok", f"embedded server in {folder}, process {server.pid}, {whose}")]
    free = shutil.disk_usage(folder).free
    if free < _LITTLE_DISK:
        what = f"only {free // (1024 * 1024)} MiB are free on the disk of {folder}"
        findings.append(Finding("warning", what, "free some: on a full disk every write is refused"))
    return findings


def _ask_server(pool: Pool, options: Options) -> list[Finding]:
    try:
        if isinstance(pool, ClusterNodes):
            ask: RunCommand = ClusterClient(pool, retry_seconds=0.0).execute
            return [*check_cluster(pool, namespace=options.namespace), *_namespace(ask, options.namespace)]
        ask = command_runner(pool)
        return [*check_server(ask, namespace=options.namespace), *_namespace(ask, options.namespace)]
    finally:
        pool.disconnect()


def _namespace(ask: RunCommand, name: str) -> list[Finding]:
    key = Keys(name).namespace.encode()
    try:
        reply: Any = ask("read the namespace", b"HMGET", key, b"format", b"partitions")
    except DuramenError:
        return []  # `check_server` has reported what this user may not do
    if reply[0] is None:
        return [Finding("ok", f"namespace {name!r} is not in use yet")]
    form, partitions = (part.decode(errors="replace") for part in reply)
    return [Finding("ok", f"namespace {name!r} has format {form} and {partitions} partitions")]


def _show(findings: list[Finding], output: Output) -> None:
    columns = ["what", "what to do"] if any(finding.advice for finding in findings) else ["what"]
    table = Table("", *columns, texts=columns)
    for finding in findings:
        table.add_row(
            text(finding.level, _STYLES[finding.level]), *map(text, (finding.what, finding.advice)[: len(columns)])
        )
    problems = sum(finding.level == "problem" for finding in findings)
    warnings = sum(finding.level == "warning" for finding in findings)
    output.show(table, text(""), text(_verdict(problems, warnings)))


def _verdict(problems: int, warnings: int) -> str:
    if not problems and not warnings:
        return "all is well"
    counts = ((problems, "problem"), (warnings, "warning"))
    return ", ".join(f"{count} {what}{'s' * (count != 1)}" for count, what in counts if count)


DOCTOR: Final = Command("doctor", "look at the server: what is wrong, and what to do about it", _run)
