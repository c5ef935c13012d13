"""The archive's `__main__`: unpacks it into a virtual environment of the Python that runs this.

The environment is there completely or not at all. Of several that start at once one unpacks, and the others wait. What
a kill left half done is removed by the next start.
"""

import compileall
import fcntl
import os
import shutil
import sys
import venv
import zipfile

COMMANDS = ("rised", "riseml")


def main() -> None:
    """Make the directory BUILD in CACHE; both are arguments."""
    cache, build = sys.argv[1:]
    ready, new = os.path.join(cache, build), os.path.join(cache, "new")
    os.umask(0o022)  # what root unpacks is for everybody
    with open(os.path.join(cache, "lock"), "wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if is_whole(ready):
            return
        for left in (new, ready):  # half done, or half removed
            shutil.rmtree(left, ignore_errors=True)
        try:
            unpack(new)
            os.rename(new, ready)
        finally:
            shutil.rmtree(new, ignore_errors=True)


def is_whole(directory: str) -> bool:
    """Tell whether the environment is this user's own, can run, and lacks no file of the archive."""
    python = os.path.join(directory, "bin", "python")
    if not os.access(python, os.X_OK) or os.stat(directory).st_uid != os.getuid():
        return False
    with zipfile.ZipFile(sys.argv[0]) as archive:
        files = [os.path.join(packages_of(directory), name) for name in archive.namelist()]
    own = ["pyvenv.cfg", *(os.path.join("bin", name) for name in COMMANDS)]
    return all(map(os.path.exists, [*files, *(os.path.join(directory, name) for name in own)]))


def packages_of(directory: str) -> str:
    """The site-packages of the environment, where the archive is unpacked."""
    version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    return os.path.join(directory, "lib", version, "site-packages")


def unpack(directory: str) -> None:
    """Make the environment and its two commands. Raises `OSError`."""
    venv.create(directory, symlinks=True)
    packages = packages_of(directory)
    with zipfile.ZipFile(sys.argv[0]) as archive:
        archive.extractall(packages)
    for name in COMMANDS:
        with open(os.path.join(directory, "bin", name), "w", encoding="ascii") as script:
            script.write(f"from {name}.__main__ import main\n\nmain()\n")
    if os.getuid() == 0:  # the users of it cannot keep there what they compile
        compileall.compile_dir(packages, quiet=2, stripdir=directory)


if __name__ == "__main__":
    try:
        main()
    except OSError as error:
        sys.exit(error.strerror)
