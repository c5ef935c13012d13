"""What a job inherits is its submitter's or an ordinary default, never that of the shell that started the daemon."""

import os
import subprocess
from pathlib import Path

import pytest
from box import BIN, PATIENCE, need

JOB = """\
project: p
train:
  run:
    - umask
    - nice
    - ulimit -Ss
    - ulimit -Sn
    - ulimit -Hn
    - grep -E '^(SigIgn|SigBlk|Cpus_allowed_list)' /proc/self/status
    - cat /proc/self/oom_score_adj
    - echo "LANG=$LANG TZ=$TZ proxy=$http_proxy"
"""
FIRST = """
import os, resource, signal, sys
os.umask(0o077)
os.nice(10)
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
resource.setrlimit(resource.RLIMIT_STACK, (1 << 20, resource.getrlimit(resource.RLIMIT_STACK)[1]))
signal.signal(signal.SIGHUP, signal.SIG_IGN)
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
open("/proc/self/oom_score_adj", "w").write("500")
os.execv(sys.argv[1], sys.argv[1:])
"""


@pytest.mark.slow
def test_the_shell_of_the_first_command_shapes_no_job(tmp_path: Path) -> None:
    need(os.geteuid() == 0, "root, who may lower nice again")
    (tmp_path / "run").mkdir(mode=0o700)
    project = tmp_path / "project"
    project.mkdir()
    (project / "riseml.yml").write_text(JOB)
    env = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "XDG_RUNTIME_DIR": str(tmp_path / "run")}
    odd = {**env, "LANG": "de_DE.UTF-8", "TZ": "Asia/Tokyo", "http_proxy": "http://nowhere"}

    def run(*words: str | Path, env: dict[str, str] = env) -> str:
        done = subprocess.run(
            words,
            env=env,
            cwd=project,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    try:
        run(BIN / "python", "-c", FIRST, BIN / "riseml", "whoami", env=odd)
        mine = "umask 027; ulimit -Ss 4096; ulimit -n 700; exec "
        output = run("/bin/sh", "-c", f"{mine} {BIN}/riseml train")
        seen = [line.partition("] ")[2] for line in output.splitlines() if "train " in line]
        said = "\n".join(seen)
        cpus = Path("/proc/self/status").read_text().partition("Cpus_allowed_list:\t")[2]
        for line in ("0027", "0", "4096", "700", "LANG=C.UTF-8 TZ= proxy="):
            assert line in seen, output
        ignored = int(said.partition("SigIgn:\t")[2].split()[0], 16)
        assert ignored & 0x7FFFFFFF == 0  # glibc keeps two above these
        assert "SigBlk:\t0000000000000000" in said
        assert f"Cpus_allowed_list:\t{cpus.splitlines()[0]}" in said
        assert "500" not in seen
        assert "10" not in seen
    finally:
        run(BIN / "rised", "--stop")
