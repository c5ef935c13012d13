"""The path of modules without what a shell adds to it: `riseml` and `rised` use the modules of their own Python.

`module load` sets PYTHONPATH for another Python, a directory of work may hold a `trio.py`. Python puts the directory of
the script, or the current one, and PYTHONPATH in front of its standard library, which begins with `python311.zip`.
"""

from collections.abc import Iterable


def own_module_path(
    path: Iterable[str], home: str, prefix: str, version: tuple[int, int]
) -> list[str]:
    """`path` (`sys.path`) without what stands before the standard library of Python `version`.

    Where `home`, the directory of our packages, is among that, it all goes last instead: by a PYTHONPATH we are found.
    So do entries below `prefix` (`sys.prefix`), which are this Python's own.
    """
    entries = list(path)
    standard = f"/python{version[0]}{version[1]}.zip"
    first = next((i for i, entry in enumerate(entries) if entry.endswith(standard)), 0)
    added, own = entries[:first], entries[first:]
    if home not in added:
        added = [entry for entry in added if entry.startswith(f"{prefix}/lib")]
    return own + [entry for entry in added if entry not in own]
