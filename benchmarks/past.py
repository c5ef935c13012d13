"""A plausible past for a daemon: experiments that ended long ago, in its database as it would have written them."""

import os
from collections.abc import Iterator
from pathlib import Path

from rised.runners.identity import ProcessIdentity, encode
from rised.storage.database import Database
from rised.storage.rows import ExperimentRow, MemberChange, MemberRow
from riseml_proto.states import Reason, State

_CONFIG = """\
project: digits
train:
  parameters:
    lr: [0.1, 0.01]
    epochs: [1, 2, 3, 4]
  run: python train.py --lr {{lr}} --epochs {{epochs}}
"""
_SINGLE = "project: digits\ntrain:\n  run: python train.py\n"
_BATCH = 1000
_BEGIN_MS = 1_700_000_000_000
_LASTED_MS = 60_000
_HANDLE = encode(ProcessIdentity(4711, 123456789, "0", None, "/var/lib/rised/run/0"))


def write(state_dir: Path, count: int) -> None:
    """Add `count` experiments, every tenth a set of eight. No daemon may run there."""
    store = Database(str(state_dir))
    try:
        for first in range(0, count, _BATCH):
            with store.transaction():
                for number in range(first, min(count, first + _BATCH)):
                    _add(store, 0 if number % 10 else 8, _BEGIN_MS + number * _LASTED_MS)
    finally:
        store.close()


def _add(store: Database, members: int, begin_ms: int) -> None:
    row = ExperimentRow(
        id=0,
        user="root",
        uid=os.getuid(),
        project="digits",
        revision="0" * 40,
        config=_CONFIG if members else _SINGLE,
        config_file="riseml.yml",
        env='{"PATH": "/usr/local/bin:/usr/bin:/bin"}',
        members=members,
        state=State.PENDING,
        created_ms=begin_ms,
    )
    number = store.experiments.add(row).id
    if members:
        store.events.append(MemberChange(MemberRow(number, 0, State.RUNNING), begin_ms))
    for member in range(1, members + 1) if members else (0,):
        for change in _life(number, member, begin_ms):
            store.events.append(change)
        store.members.save(change.row)
    store.experiments.count_ends(number, State.FINISHED, max(1, members))
    end_ms = begin_ms + _LASTED_MS
    if members:
        end = MemberRow(number, 0, State.FINISHED, reason=Reason.COMPLETED)
        store.events.append(MemberChange(end, end_ms))
    store.experiments.end(number, State.FINISHED, end_ms, Reason.COMPLETED)


def _life(number: int, member: int, begin_ms: int) -> Iterator[MemberChange]:
    row = MemberRow(number, member, State.PENDING)
    yield MemberChange(row, begin_ms)
    row = row._replace(state=State.STARTING, attempt=1, gpus="[[0, null]]")
    yield MemberChange(row, begin_ms)
    row = row._replace(state=State.RUNNING, handle=_HANDLE, started_ms=begin_ms)
    yield MemberChange(row, begin_ms)
    end_ms = begin_ms + _LASTED_MS
    row = row._replace(state=State.FINISHED, reason=Reason.COMPLETED, exit_code=0, ended_ms=end_ms)
    yield MemberChange(row, end_ms, "Command 'python train.py' return code: 0")
