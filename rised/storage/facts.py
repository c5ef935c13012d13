"""The tables `meta` and `usage`: facts about the whole daemon, and the GPU time of each user."""

import sqlite3

from rised.policy.fairshare import Used


class MetaTable:
    """Texts by name."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._db = connection

    def get(self, name: str) -> str | None:
        """The text, if there is one."""
        row = self._db.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()
        return row[0] if row else None

    def save(self, name: str, value: str | None) -> None:
        """Write a text; None removes it. Inside a transaction."""
        if value is None:
            self._db.execute("DELETE FROM meta WHERE name = ?", (name,))
        else:
            self._db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (name, value))


class UsageTable:
    """GPU time by uid."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._db = connection

    def all(self) -> dict[int, Used]:
        """What each user has used."""
        rows = self._db.execute("SELECT uid, gpu_seconds, at_ms FROM usage")
        return {uid: Used(*used) for uid, *used in rows}

    def save(self, uid: int, used: Used) -> None:
        """Write what a user has used. Inside a transaction."""
        self._db.execute("INSERT OR REPLACE INTO usage VALUES (?, ?, ?)", (uid, *used))
