"""What a newer version makes of the rows that an older one wrote."""

import sqlite3
from contextlib import closing
from pathlib import Path

from rised.runners.identity import ContainerIdentity, ProcessIdentity, decode
from rised.storage.database import Database

FIXTURES = Path(__file__).parent.parent / "fixtures"
BOOT = "164647df-dc63-4c81-9b81-e6cdd69d9cbe"


def opened(directory: Path, fixture: str) -> Database:
    with closing(sqlite3.connect(directory / "rised.db")) as old:
        old.executescript((FIXTURES / fixture).read_text())
    return Database(str(directory))


def test_the_identity_of_a_job_that_runs_gets_its_runners_name(tmp_path: Path) -> None:
    with closing(opened(tmp_path, "state-3-running.sql")) as database:
        members = [m for n in (1, 2) for m in database.members.unended(n)]
        jobs = {row.job: row.handle for row in database.jobs.unended()}
    cgroups = "/sys/fs/cgroup/unified/rised-be1a31e6c8a84a4192a4632e0c2a0188"
    identities = [decode(text) for text in [*(m.handle for m in members), *jobs.values()] if text]
    assert identities == [
        ProcessIdentity(13990, 112146, BOOT, f"{cgroups}/1.1.train.1", "/var/lib/rised/run/2"),
        ProcessIdentity(13988, 112143, BOOT, f"{cgroups}/1.2.train.1", "/var/lib/rised/run/1"),
        ContainerIdentity(
            "2ac5170149c5e684654c3892f80f17e5314d8cef3bf66831971fff29e3f79abc",
            14049,
            112285,
            BOOT,
            "/var/lib/rised/containers/2.train.1/exit",
        ),
        ProcessIdentity(13986, 112142, BOOT, f"{cgroups}/1.tensorboard.1", "/var/lib/rised/run/0"),
        ContainerIdentity(
            "547f118b27e9b3131c44c39e1e47ceb6ee0ef8f3eb78e2309d80d32a8a2f9d95",
            14121,
            112348,
            BOOT,
            "/var/lib/rised/containers/3.build.1/exit",
        ),
    ]
    assert list(jobs) == ["tensorboard", "build"]


def test_an_identity_without_a_control_group_stays_without(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "rised.db")) as old:
        old.executescript((FIXTURES / "state-3.sql").read_text())
        old.execute("""UPDATE members SET handle = '[1, 2, "b", null, "/run/0"]' WHERE attempt""")
        old.commit()
    with closing(Database(str(tmp_path))) as database:
        (running,) = database.members.unended(2)
        (ended,) = database.members.between(4, 1, 1)
    assert running.handle
    assert decode(running.handle) == ProcessIdentity(1, 2, "b", None, "/run/0")
    assert ended.handle == '[1, 2, "b", null, "/run/0"]'  # never read again
