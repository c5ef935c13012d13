"""Modules that a shell's PYTHONPATH or the current directory offers reach neither client nor daemon."""

import subprocess
from pathlib import Path

import pytest
from box import BIN, PATIENCE

FOREIGN = "raise ImportError('built for Python 3.8')\n"


@pytest.mark.slow
@pytest.mark.parametrize(
    "command", [[BIN / "riseml"], [BIN / "python", "-m", "riseml"]], ids=["script", "-m"]
)
def test_modules_of_the_shell_stay_outside(command: list[str | Path], tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (tmp_path / "run").mkdir(mode=0o700)
    project = tmp_path / "project"
    project.mkdir()
    for name in ("msgspec", "trio", "h11", "yaml", "dulwich"):
        (other / f"{name}.py").write_text(FOREIGN)
        (project / f"{name}.py").write_text(FOREIGN)
    env = {
        "PATH": "/usr/bin:/bin",
        "HOME": str(tmp_path),
        "XDG_RUNTIME_DIR": str(tmp_path / "run"),
        "PYTHONPATH": str(other),
        "PYTHONWARNINGS": "error",
    }

    def run(*words: str | Path) -> str:
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

    (project / "riseml.yml").write_text("project: p\ntrain: {run: 'echo path=$PYTHONPATH'}\n")
    try:
        assert "ID PROJECT" in run(*command, "status")  # starts the daemon
        output = run(*command, "train")
        assert "path=" in output
        assert str(other) not in output
    finally:
        run(BIN / "rised", "--stop")
