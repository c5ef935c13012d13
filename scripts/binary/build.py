"""Builds one file that is daemon and client: `launcher`, and an archive of this package with all that it needs.

The same sources and dependencies make the same file: it needs not be unpacked again.
"""

import hashlib
import os
import platform
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).parent
SOURCE = HERE.parents[1]
JUNK = ("*.pyi", "*.pyx", "*.px[di]", "*.c", "*.[ch]pp", "*.h", "*.hash", "direct_url.json")
"""For compilers and type checkers; the last one names the directory of the build."""
TESTS = {"tests", "_tests"}


def main() -> None:
    """Build the file that the first argument names; by default `dist/rised`."""
    target = Path(sys.argv[1] if len(sys.argv) > 1 else SOURCE / "dist" / "rised")
    target.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as directory:
        packages, archive = Path(directory, "packages"), Path(directory, "archive")
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, "--no-compile", "--target", packages, SOURCE], check=True)
        pack(packages, archive)
        data = archive.read_bytes()
    head = HERE.joinpath("launcher").read_text()
    head = head.replace("@BUILD@", hashlib.sha256(data).hexdigest()[:16])
    head = head.replace("@VERSION@", f"{sys.version_info[0]}.{sys.version_info[1]}")
    head = head.replace("@MACHINE@", platform.machine())
    new = target.with_name(f"{target.name}.new")
    new.write_bytes(head.encode() + data)
    new.chmod(0o755)
    os.replace(new, target)  # a shell that reads the old one reads on


def pack(packages: Path, archive: Path) -> None:
    """Write the zip file."""
    with zipfile.ZipFile(archive, "w") as file:
        for name, path in [("__main__.py", HERE / "unpack.py"), *contents(packages)]:
            entry = zipfile.ZipInfo(name)  # of 1980, whenever it was built
            entry.external_attr = 0o644 << 16
            file.writestr(entry, path.read_bytes(), zipfile.ZIP_DEFLATED, 9)


def contents(packages: Path) -> Iterator[tuple[str, Path]]:
    """Names and paths of what is installed, without scripts, man pages, tests and junk."""
    for path in sorted(packages.rglob("*")):
        name = path.relative_to(packages)
        junk = (
            name.parts[0] in ("bin", "share") or TESTS & {*name.parts} or any(map(path.match, JUNK))
        )
        if path.is_file() and not junk:
            yield str(name), path


if __name__ == "__main__":
    main()
