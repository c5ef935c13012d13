"""What the daemon loads before anybody needs it."""

from collections.abc import Callable

from box import Box

NOW_AND_THEN = {"aiodocker", "aiohttp", "dulwich", "httpx", "pynvml", "trio_asyncio"}


def test_a_daemon_loads_no_library_that_is_needed_now_and_then(
    make_box: Callable[..., Box],
) -> None:
    """No image, no GPU, no project: nothing for containers, for the driver, for git's packs."""
    box = make_box(gpus=0)
    box.start(env={"PYTHONPROFILEIMPORTTIME": "1"})  # Python names on stderr what it imports
    box.run("status")
    box.run("system", "info")
    box.stop()
    lines = box.log.read_text().splitlines()
    modules = {line.rpartition("|")[2].strip() for line in lines if line.startswith("import time:")}
    packages = {name.partition(".")[0] for name in modules}
    assert "trio" in packages
    assert not packages & NOW_AND_THEN
