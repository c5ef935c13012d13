"""The table `jobs`: an experiment's jobs beside those of its members, of each the newest attempt."""

import sqlite3

from rised.storage.rows import JobRow

_COLUMNS = ", ".join(JobRow._fields)
_VALUES = ", ".join("?" for _ in JobRow._fields)


class JobTable:
    """Reads and writes; whoever writes has a transaction open."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._db = connection

    def save(self, row: JobRow) -> None:
        """Write a row, new or not."""
        self._db.execute(f"INSERT OR REPLACE INTO jobs ({_COLUMNS}) VALUES ({_VALUES})", row)

    def get(self, experiment: int, job: str) -> JobRow | None:
        """The newest attempt of one job, such as `BUILD`."""
        columns = self._db.execute(
            f"SELECT {_COLUMNS} FROM jobs WHERE experiment = ? AND job = ?", (experiment, job)
        ).fetchone()
        return JobRow(*columns) if columns else None

    def unended(self) -> list[JobRow]:
        """The jobs of all experiments that have not ended."""
        rows = self._db.execute(f"SELECT {_COLUMNS} FROM jobs WHERE ended_ms IS NULL")
        return [JobRow(*columns) for columns in rows]
