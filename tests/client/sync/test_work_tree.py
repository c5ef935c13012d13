"""In a git work tree a project has the files that git says it has, held against the real git; without git the same."""

import os
import shutil
import subprocess
import tempfile
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from riseml.sync import git_index
from riseml.sync.files import DIRECTORY
from riseml.sync.scan import ProjectLimits, Scan, scan
from tests.client.sync.test_scan import put

WITHOUT_GIT = "/var/empty"


class Home:
    """A home directory with git's global settings, and git as its user runs it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.env = {
            "PATH": os.environ["PATH"],
            "HOME": str(path),
            "XDG_CONFIG_HOME": str(path / ".config"),
            "GIT_CONFIG_NOSYSTEM": "1",
        }

    def git(self, directory: Path, *words: str) -> bytes:
        command = ["git", "-c", "user.name=a", "-c", "user.email=a@b", *words]
        done = subprocess.run(
            command, cwd=directory, env=self.env, stdout=subprocess.PIPE, check=True
        )
        return done.stdout

    def look(self, project: Path, *, git: bool = True) -> Scan:
        env = self.env if git else {**self.env, "PATH": WITHOUT_GIT}
        return scan(os.fsencode(project), ProjectLimits(), env)

    def names(self, project: Path, *, git: bool = True) -> list[str]:
        scanned = self.look(project, git=git)
        assert scanned.notes == []
        return [os.fsdecode(f.path) for f in scanned.files if f.mode != DIRECTORY]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return Home(tmp_path / "home")


@pytest.fixture(params=[True, False], ids=["asking-git", "without-git"])
def ask(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture
def top(home: Home, tmp_path: Path) -> Path:
    (tmp_path / "mono").mkdir()
    home.git(tmp_path / "mono", "init", "-q")
    return tmp_path / "mono"


def test_rules_above_the_project_hold_and_tracked_files_go(
    home: Home, top: Path, ask: bool
) -> None:
    put(top, ".gitignore", "checkpoints/\n*.csv\n/exp1/secret.txt\n")
    for name in ("riseml.yml", "checkpoints/big.pt", "checkpoints/kept.pt", "secret.txt", "x.csv"):
        put(top / "exp1", name)
    put(top / "exp1", "data.csv")
    home.git(top / "exp1", "add", "-f", "data.csv", "checkpoints/kept.pt")
    assert home.names(top / "exp1", git=ask) == ["checkpoints/kept.pt", "data.csv", "riseml.yml"]


def test_the_repository_and_the_user_have_rules_of_their_own(
    home: Home, top: Path, ask: bool
) -> None:
    put(home.path, "my ignores", "*.swp\n")
    put(home.path, ".gitconfig", '[core]\n\texcludesFile = "~/my ignores"\n')
    put(top, ".git/info/exclude", "notes.txt\n!keep.swp\n")
    for name in ("a.swp", "keep.swp", "notes.txt", "code.py"):
        put(top / "exp", name)
    assert home.names(top / "exp", git=ask) == ["code.py", "keep.swp"]


def test_the_users_default_file_of_rules_holds(home: Home, top: Path, ask: bool) -> None:
    put(home.path, ".config/git/ignore", "*.swp\n")
    put(top, "a.swp")
    put(top, "b")
    assert home.names(top, git=ask) == ["b"]


def test_outside_of_a_work_tree_only_the_projects_own_rules_hold(
    home: Home, tmp_path: Path, ask: bool
) -> None:
    put(home.path, ".config/git/ignore", "*.swp\n")
    put(tmp_path, ".gitignore", "*.py\n")
    put(tmp_path, "plain/a.swp")
    put(tmp_path, "plain/b.py")
    assert home.names(tmp_path / "plain", git=ask) == ["a.swp", "b.py"]


def test_a_project_in_an_ignored_directory_has_its_files(home: Home, top: Path, ask: bool) -> None:
    put(top, ".gitignore", "scratch/\n*.txt\n")
    put(top, "scratch/try/code.py")
    put(top, "scratch/try/a.txt")
    assert home.names(top / "scratch" / "try", git=ask) == ["a.txt", "code.py"]


def test_a_nested_repository_has_its_own_rules(home: Home, top: Path, ask: bool) -> None:
    put(top, ".gitignore", "*.txt\n/vendor\n")
    put(top, "lib/a.txt")
    put(top, "lib/b.bin")
    put(top, "lib/forced.bin")
    put(top, "vendor/x")
    home.git(top, "init", "-q", "lib")
    put(top, "lib/.git/info/exclude", "*.bin\n")
    home.git(top / "lib", "add", "-f", "forced.bin")
    put(top, "lib/.riseml", "")
    assert home.names(top, git=ask) == [".gitignore", "lib/.riseml", "lib/a.txt", "lib/forced.bin"]


def test_an_ignored_submodule_goes_and_a_linked_work_tree_has_the_rules_of_the_first(
    home: Home, top: Path, tmp_path: Path, ask: bool
) -> None:
    (tmp_path / "module").mkdir()
    home.git(tmp_path / "module", "init", "-q")
    put(tmp_path, "module/code.py")
    home.git(tmp_path / "module", "add", ".")
    home.git(tmp_path / "module", "commit", "-qm", "x")
    source = str(tmp_path / "module")
    home.git(top, "-c", "protocol.file.allow=always", "submodule", "--quiet", "add", source, "sub")
    put(top, ".git/info/exclude", "sub\n*.log\n")
    home.git(top, "commit", "-qm", "x")
    put(top, "a.log")
    assert home.names(top, git=ask) == [".gitmodules", "sub/code.py"]
    home.git(top, "worktree", "add", "-q", "../other")
    put(tmp_path, "other/a.log")
    assert home.names(tmp_path / "other", git=ask) == [".gitmodules"]


def test_a_tracked_file_that_was_deleted_is_not_there(home: Home, top: Path, ask: bool) -> None:
    for name in ("a", "b"):
        put(top, name)
    home.git(top, "add", ".")
    (top / "a").unlink()
    assert home.names(top, git=ask) == ["b"]


def test_risemlignore_has_the_last_word_on_tracked_files(home: Home, top: Path, ask: bool) -> None:
    put(top, ".gitignore", "*.csv\nlocal/\n")
    put(top, ".risemlignore", "big.csv\n!local\n")
    for name in ("big.csv", "small.csv", "untracked.csv", "local/x"):
        put(top, name)
    home.git(top, "add", "-f", "big.csv", "small.csv")
    kept = [".gitignore", ".risemlignore", "local/x", "small.csv"]
    assert home.names(top, git=ask) == kept


RUBBISH = (
    ".venv/bin/python",
    "myenv/pyvenv.cfg",
    "pkg/__pycache__/a.pyc",
    "wandb/run/log",
    "sub/mlruns/0/meta.yaml",
    ".ipynb_checkpoints/n.ipynb",
    "node_modules/x/index.js",
    "conda/conda-meta/history",
)


def test_what_tools_leave_behind_stays_here_unless_it_is_tracked_or_asked_for(
    home: Home, top: Path, ask: bool
) -> None:
    for name in RUBBISH:
        put(top, name)
    put(top, "pkg/a.py")
    put(top, "venv/notes")
    put(top, "lightning_logs/version_0/last.ckpt")
    put(top, "fork/wandb/__init__.py")
    usual = ["fork/wandb/__init__.py", "lightning_logs/version_0/last.ckpt", "pkg/a.py"]
    assert home.names(top, git=ask) == [*usual, "venv/notes"]
    home.git(top, "add", "-f", "wandb", "node_modules")
    put(top, "wandb/new")
    put(top, ".risemlignore", "!myenv\n!mlruns\n")
    assert home.names(top, git=ask) == sorted(
        [*usual, "venv/notes", ".risemlignore", *(RUBBISH[i] for i in (1, 3, 4, 6))]
    )


def test_a_repository_that_git_refuses_is_read_without_git_which_one_line_says(
    home: Home, top: Path
) -> None:
    put(top, ".gitignore", "*.csv\n")
    for name in ("a.csv", "b.csv", "c"):
        put(top, name)
    home.git(top, "add", "-f", "a.csv")
    put(top, ".git/config", "[core]\n\trepositoryformatversion = 9\n")
    scanned = home.look(top)
    assert [f.path for f in scanned.files] == [b".gitignore", b"a.csv", b"c"]
    [note] = scanned.notes
    assert "its files were read without it" in note


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a repository to another user")
def test_a_repository_of_another_user_names_the_way_out(home: Home, top: Path) -> None:
    put(top, ".gitignore", "*.csv\n")
    put(top, "a.csv")
    for path in (top, top / ".git"):
        os.chown(path, 65534, 65534)
    scanned = home.look(top)
    assert [f.path for f in scanned.files] == [b".gitignore"]
    [note] = scanned.notes
    assert f"git config --global --add safe.directory {top}" in note


def test_nothing_that_a_repository_configures_is_executed(
    home: Home, top: Path, tmp_path: Path
) -> None:
    trap = put(tmp_path, "trap", f"#!/bin/sh\ntouch {tmp_path}/sprung\n")
    trap.chmod(0o755)
    for name in ("core.fsmonitor", "core.pager", "core.editor", "diff.external"):
        home.git(top, "config", name, str(trap))
    put(top, ".gitignore", "*.csv\n")
    put(top, "a.csv")
    assert home.names(top) == [".gitignore"]
    assert not (tmp_path / "sprung").exists()


def test_variables_of_another_repository_do_not_mislead(home: Home, top: Path) -> None:
    put(top, ".gitignore", "*.csv\n")
    put(top, "a.csv")
    home.git(top, "add", "-f", "a.csv")
    home.env |= {"GIT_DIR": "/nowhere", "GIT_INDEX_FILE": "/nowhere/index"}
    assert home.names(top) == [".gitignore", "a.csv"]


@pytest.mark.parametrize("version", [2, 4])
def test_the_index_read_without_git_has_what_git_lists(home: Home, top: Path, version: int) -> None:
    for name in ("a", "a.b/c", "a/../ab", "dir/" + "n" * 200, "dir/e", "ü"):
        with suppress(FileExistsError, NotADirectoryError, IsADirectoryError):
            put(top, name)
    home.git(top, "add", ".")
    put(top, "later")
    home.git(top, "add", "-N", "later")
    home.git(top, "update-index", "--index-version", str(version))
    index = (top / ".git" / "index").read_bytes()
    listed = home.git(top, "ls-files", "-z").split(b"\0")[:-1]
    assert git_index.paths(index) == sorted(listed)
    for end in range(0, len(index), 7):
        assert {*git_index.paths(index[:end])} <= {*listed}


names = st.sampled_from(["a", "b", "ab", "a.x", "b.x", "c d"])
trees = st.lists(st.lists(names, min_size=1, max_size=3).map("/".join), min_size=1, max_size=8)
lines = st.sampled_from(
    ["a", "b/", "*.x", "a/b", "!a", "!b/", "!*.x", "/*", "!/b", "p/a", "/p/q/*", "!p/q/b", "q/**/a"]
)
ignores = st.lists(lines, max_size=4).map("\n".join)
PLACES = ["", "p", "p/q", "p/q/a", "p/q/b", ".git/info/exclude", ".config"]


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("repository")
    subprocess.run(["git", "init", "-q", path], check=True)
    return path / ".git"


@settings(max_examples=60, deadline=None)
@given(trees, trees, st.dictionaries(st.sampled_from(PLACES), ignores, max_size=4))
def test_git_lists_the_same_files_of_a_project_below_its_top(
    bare: Path, tree: list[str], tracked: list[str], texts: dict[str, str]
) -> None:
    with tempfile.TemporaryDirectory() as name:
        top = Path(name) / "top"
        project = top / "p" / "q"
        home = Home(Path(name))
        shutil.copytree(bare, top / ".git")
        for path in (*tree, *tracked):
            with suppress(FileExistsError, NotADirectoryError, IsADirectoryError):
                put(project, path)
        there = [path for path in tracked if (project / path).is_file()]
        if there:
            home.git(project, "add", "-f", "--", *there)
        for place, text in texts.items():
            if place == ".config":
                put(home.path, ".config/git/ignore", text)
            elif place.startswith(".git"):
                put(top, place, text)
            elif (top / place).is_dir():
                put(top / place, ".gitignore", text)
        kept = home.git(project, "ls-files", "-z", "--cached", "--others", "--exclude-standard")
        expected = sorted({os.fsdecode(path) for path in kept.split(b"\0")} - {""})
        out = subprocess.run(
            ["git", "check-ignore", "--no-index", "p", "p/q"],
            cwd=top,
            env=home.env,
            stdout=subprocess.DEVNULL,
            check=False,
        )
        if out.returncode == 0:  # the directory itself is ignored: only then riseml differs
            assert {*expected} <= {*home.names(project)}
            return
        assert home.names(project) == expected
        assert home.names(project, git=False) == expected
