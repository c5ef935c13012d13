"""The house stands as it is drawn: who may import whom, read from the source itself."""

import ast
import re
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = {
    "riseml": ROOT / "riseml",
    "rised": ROOT / "rised",
    "riseml_proto": ROOT / "proto" / "riseml_proto",
}
PURE = [
    *(f"policy.{p.stem}" for p in (PACKAGES["rised"] / "policy").glob("[!_]*.py")),
    "storage.rows",
]
"""Rooms of the daemon that decide, and do nothing."""
FLOORS = (
    {"clock", "crashpoints", "log", "subscriptions", "policy", "linux", "search"},
    {"users"},
    {"files", "http", "logs", "revisions", "runners", "storage"},
    {"experiments", "gpus"},
    {"settings"},
    {"execution", "queries"},
    {"tensorboard"},
    {"scheduling"},
    {"api", "locks"},
    {"daemon"},
    {"__main__"},
)
"""The folders and root modules of `rised`, from the lowest floor up. A room uses rooms of lower floors alone."""
EFFECTS = {
    "trio",
    "os",
    "sys",
    "time",
    "socket",
    "subprocess",
    "sqlite3",
    "threading",
    "asyncio",
    "random",
}
SOURCES = [
    *(path for place in PACKAGES.values() for path in place.rglob("*.py")),
    *(ROOT / "tests").rglob("*.py"),
    *(ROOT / "benchmarks").rglob("*.py"),
    *(ROOT / "examples").rglob("*.py"),
]
TEXTS = [
    *SOURCES,
    *ROOT.glob("*.*"),
    *ROOT.glob("Makefile"),
    *(p for d in ("docs", "scripts", "systemd", ".ci", "examples") for p in (ROOT / d).rglob("*")),
]


def module(path: Path) -> str:
    place = ROOT / "proto" if ROOT / "proto" in path.parents else ROOT
    return ".".join(path.relative_to(place).with_suffix("").parts).removesuffix(".__init__")


def imported(path: Path, *, lazily: bool = True) -> Iterator[str]:
    """Full names of all that a file imports, also inside functions unless not `lazily`."""
    tree = ast.parse(path.read_bytes())
    for node in ast.walk(tree) if lazily else tree.body:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute here"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def roots(path: Path, **how: bool) -> set[str]:
    return {name.partition(".")[0] for name in imported(path, **how)}


@pytest.mark.parametrize(
    ("package", "strangers"),
    [
        ("riseml", {"rised"}),
        ("rised", {"riseml"}),
        (
            "riseml_proto",
            {"riseml", "rised", "trio", "httpx", "rich", "socket", "subprocess", "os"},
        ),
    ],
)
def test_client_and_daemon_meet_in_the_contract_alone(package: str, strangers: set[str]) -> None:
    files = list(PACKAGES[package].rglob("*.py"))
    assert files
    for path in files:
        assert not roots(path) & strangers, path


def test_each_room_of_the_daemon_uses_rooms_below_it_alone() -> None:
    floor = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
    ours = {module(path): path for path in PACKAGES["rised"].rglob("*.py")}
    rooms = {name: name.split(".")[1] for name in ours if "." in name}
    assert set(rooms.values()) == set(floor)
    for name, room in rooms.items():
        for full in imported(ours[name]):
            used = rooms.get(full) or rooms.get(full.rpartition(".")[0])
            if used and used != room:
                assert floor[used] < floor[room], f"{name} imports {full}"


def test_the_root_of_the_daemon_has_room_for_few() -> None:
    assert len(list(PACKAGES["rised"].glob("*.py"))) <= 13


@pytest.mark.parametrize("package", ["riseml", "rised"])
def test_the_map_for_newcomers_names_every_folder(package: str) -> None:
    guide = (ROOT / "CONTRIBUTING.md").read_text()
    for folder in PACKAGES[package].iterdir():
        if folder.is_dir() and folder.name != "__pycache__":
            assert f"\n  {folder.name}/ " in guide, folder


@pytest.mark.parametrize("name", PURE)
def test_what_decides_has_no_clock_no_files_and_no_tasks(name: str) -> None:
    """All that it imports of ours is as pure, and so on."""
    seen, left = set[str](), [f"rised.{name}"]
    while left:
        here = left.pop()
        seen.add(here)
        path = next(p for p in SOURCES if module(p) == here)
        assert not roots(path) & EFFECTS, path
        ours = {module(p) for p in SOURCES}
        for found in imported(path):
            parent = found if found in ours else found.rpartition(".")[0]
            if parent in ours - seen:
                left.append(parent)


@pytest.mark.parametrize("path", list(PACKAGES["riseml_proto"].rglob("*.py")), ids=lambda p: p.name)
def test_the_contract_needs_little_beside_the_standard_library(path: Path) -> None:
    assert roots(path) <= {*sys.stdlib_module_names, "msgspec", "yaml", "riseml_proto"}


def test_asyncio_stays_out_of_the_daemon() -> None:
    """What needs it lives in one file."""
    users = [
        module(p)
        for p in PACKAGES["rised"].rglob("*.py")
        if roots(p) & {"asyncio", "aiodocker", "trio_asyncio"}
    ]
    assert set(users) <= {"rised.runners.docker.engine"}


@pytest.mark.parametrize(
    "heavy", ["httpx", "rich", "yaml", "pathspec", "hashlib", "asyncio", "trio", "subprocess"]
)
def test_the_client_imports_what_is_costly_only_where_it_is_used(heavy: str) -> None:
    """`riseml status` goes through these."""
    for name in (
        *("__main__", "parsing", "screen", "table", "commands.__init__", "commands.status"),
        *(
            "commands.status_view",
            "commands.results_view",
            "transport.daemon",
            "transport.http",
            "transport.unix",
        ),
    ):
        path = PACKAGES["riseml"] / (name.replace(".", "/") + ".py")
        assert heavy not in roots(path, lazily=False), path


def test_each_crash_point_has_a_name_of_its_own() -> None:
    names = Counter[str]()
    for path in PACKAGES["rised"].rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_bytes())):
            match node:
                case ast.Call(
                    func=ast.Name(id="crash_point"), args=[ast.Constant(value=str(name))]
                ):
                    names[name] += 1
                case ast.Call(func=ast.Name(id="crash_point")):
                    pytest.fail(f"{path}:{node.lineno}: a crash point's name is written out")
    assert names
    assert [name for name, count in names.items() if count > 1] == []


_HOST = re.compile(
    r"(?i)\b(?:files\.)?(?:pythonhosted|pypi)\.org|index-url|extra-index|artifactory|https?://[^\s/]*mirror"
)
_HOME = re.compile(r"(?<![\w.~$}{])/(?:root|work|home/(?!paul|USER|user|me|you|alice|bob)\w+)/")


@pytest.mark.parametrize(
    "path", [p for p in TEXTS if p.is_file()], ids=lambda p: str(p.relative_to(ROOT))
)
def test_no_file_knows_the_machine_that_it_was_written_on(path: Path) -> None:
    if path == Path(__file__):
        return
    try:
        text = path.read_text()
    except UnicodeDecodeError:
        return
    assert not _HOST.search(text)
    assert not _HOME.search(text)


def test_no_source_file_is_a_whole_house() -> None:
    sizes = {
        p: len(p.read_text().splitlines())
        for place in PACKAGES.values()
        for p in place.rglob("*.py")
    }
    assert max(sizes.values()) < 500, max(sizes, key=sizes.__getitem__)


def parameters(node: ast.ClassDef) -> int:
    """How many parameters the constructor of a class has, beside `self`: a dataclass has one for each field."""
    for statement in node.body:
        if isinstance(statement, ast.FunctionDef) and statement.name == "__init__":
            names = statement.args
            return len([*names.posonlyargs, *names.args, *names.kwonlyargs]) - 1
    if any("dataclass" in ast.unparse(decorator) for decorator in node.decorator_list):
        return sum(isinstance(statement, ast.AnnAssign) for statement in node.body)
    return 0


@pytest.mark.parametrize("package", PACKAGES)
def test_no_constructor_takes_more_than_seven_parameters(package: str) -> None:
    """Rows, messages and settings are data and may have any number of fields: they are named tuples and structs."""
    counts = {
        f"{module(path)}.{node.name}": parameters(node)
        for path in PACKAGES[package].rglob("*.py")
        for node in ast.walk(ast.parse(path.read_bytes()))
        if isinstance(node, ast.ClassDef)
    }
    assert {name: count for name, count in counts.items() if count > 7} == {}
