"""The shape of the database, and the steps from an older version to a newer one.

`MIGRATIONS[n]` brings version n to n + 1 and never changes once it was released; `PRAGMA user_version` tells where a
database stands. A database of a later version than this program knows is refused, untouched.

A sub-experiment has a row in `members` only once something happened to it: until then it is an index into its set, so
a grid of a million costs what a grid of eight costs. Member 0 is an experiment that is no set. In `events`, member 0 is
the experiment or set itself; an experiment's events lie between its `first_seq` and its `last_seq`, mixed with those of
others that ran at the time, which spares an index that every event would have to be written to.

`jobs` holds an experiment's jobs beside those of its members: `build` and `tensorboard`, of each the newest attempt.
`usage` holds the GPU time of each user as it had decayed at `at_ms`.
"""

import sqlite3

from riseml_proto.errors import DaemonError

MIGRATIONS = (
    """
    CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;
    CREATE TABLE experiments (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        user TEXT NOT NULL, uid INTEGER NOT NULL,
        project TEXT NOT NULL, revision TEXT NOT NULL,
        config TEXT NOT NULL, config_file TEXT NOT NULL, env TEXT NOT NULL,
        members INTEGER NOT NULL,
        state TEXT NOT NULL, reason TEXT,
        kill INTEGER NOT NULL DEFAULT 0,
        finished INTEGER NOT NULL DEFAULT 0,
        failed INTEGER NOT NULL DEFAULT 0,
        killed INTEGER NOT NULL DEFAULT 0,
        created_ms INTEGER NOT NULL, ended_ms INTEGER,
        first_seq INTEGER NOT NULL, last_seq INTEGER
    ) STRICT;
    CREATE INDEX experiments_unfinished ON experiments (id) WHERE ended_ms IS NULL;
    CREATE INDEX experiments_by_user ON experiments (user, project, id);
    CREATE TABLE members (
        experiment INTEGER NOT NULL, member INTEGER NOT NULL,
        state TEXT NOT NULL, attempt INTEGER NOT NULL DEFAULT 0, failures INTEGER NOT NULL DEFAULT 0,
        gpus TEXT NOT NULL DEFAULT '[]', handle TEXT,
        kill INTEGER NOT NULL DEFAULT 0,
        exit_code INTEGER, reason TEXT,
        started_ms INTEGER, ended_ms INTEGER,
        PRIMARY KEY (experiment, member)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE events (
        seq INTEGER PRIMARY KEY,
        experiment INTEGER NOT NULL, member INTEGER NOT NULL,
        state TEXT NOT NULL, attempt INTEGER NOT NULL, time_ms INTEGER NOT NULL,
        reason TEXT, message TEXT, exit_code INTEGER
    ) STRICT;
    CREATE INDEX events_by_member ON events (experiment, member, seq);
    """,
    """
    ALTER TABLE experiments ADD COLUMN image TEXT;
    ALTER TABLE experiments ADD COLUMN builds INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE members ADD COLUMN results TEXT;
    CREATE TABLE jobs (
        experiment INTEGER NOT NULL, job TEXT NOT NULL,
        attempt INTEGER NOT NULL, handle TEXT, exit_code INTEGER,
        started_ms INTEGER NOT NULL, ended_ms INTEGER,
        PRIMARY KEY (experiment, job)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX jobs_unended ON jobs (experiment) WHERE ended_ms IS NULL;
    """,
    """
    ALTER TABLE experiments ADD COLUMN owner TEXT;
    ALTER TABLE experiments ADD COLUMN priority INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE experiments ADD COLUMN paused INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE experiments ADD COLUMN concurrency INTEGER;
    CREATE TABLE usage (
        uid INTEGER PRIMARY KEY, gpu_seconds REAL NOT NULL, at_ms INTEGER NOT NULL
    ) STRICT;
    """,
    # Identities get their runner's name. Those of ended jobs are never read again and stay as they are.
    "".join(
        f"""
    UPDATE {table} SET handle = CASE substr(handle, 1, 1)
        WHEN '[' THEN json_object(
            'runner', 'process',
            'pid', json_extract(handle, '$[0]'),
            'start', json_extract(handle, '$[1]'),
            'boot', json_extract(handle, '$[2]'),
            'cgroup', json_extract(handle, '$[3]'),
            'exit_file', json_extract(handle, '$[4]')
        )
        ELSE json_insert(handle, '$.runner', 'docker')
    END WHERE handle IS NOT NULL AND ended_ms IS NULL;
    """
        for table in ("members", "jobs")
    ),
)


def migrate(connection: sqlite3.Connection, path: str) -> None:
    """Bring the database at `path` to this version, each step in a transaction of its own. Raises `DaemonError`."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version > len(MIGRATIONS):
        raise DaemonError(
            f"{path} was written by a newer rised (schema {version}, this one knows "
            f"{len(MIGRATIONS)}); start that version, or name another --state-dir"
        )
    for number in range(version, len(MIGRATIONS)):
        connection.executescript(
            f"BEGIN IMMEDIATE; {MIGRATIONS[number]}; PRAGMA user_version = {number + 1}; COMMIT;"
        )
