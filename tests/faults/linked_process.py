"""A program that is one host: it tells its id, is told its peer's, and exchanges numbered rows with it.

    python linked_process.py URL ROWS

Prints its host id; reads the peer's. Then sends `ROWS` rows, waits for as many, and prints how they came: the number of
rows, and whether each was in its place. Ends when its input ends.
"""

from __future__ import annotations

import json
import sys
from functools import partial

from duramen.events import MailboxFull
from linked_hosts import LinkedHost, store_of
from waiting import eventually


def main(url: str, rows: int) -> None:
    with LinkedHost(store_of(url)) as host:
        print(host.host, flush=True)
        peer = sys.stdin.readline().strip()
        for number in range(rows):
            eventually(partial(_is_taken, host, peer, number), 60.0, what="room for a row")
            host.links.flush()
        found = host.wait_for(rows)
        in_place = found == [["row", number] for number in range(rows)]
        host.links.wait_until_heard(30.0)
        print(json.dumps([len(found), in_place, host.links.counters]), flush=True)
        sys.stdin.read()


def _is_taken(host: LinkedHost, peer: str, number: int) -> bool:
    try:
        host.links.add(peer, ["row", number])
    except MailboxFull:
        return False
    return True


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
