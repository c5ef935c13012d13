"""The entry of a container's user in its user database, where the image has none.

Without an entry `whoami`, `getpass.getuser()`, git and ssh fail. So such a container gets an /etc/passwd and an
/etc/group of its own: the image's lines, and those of its user and groups. They are read once per image.
"""

import grp
import io
import os
import posixpath
import pwd
import tarfile
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import trio

from rised.crashpoints import crash_point
from rised.linux.files import write_file
from rised.linux.threads import in_thread
from rised.log import log
from rised.runners.docker import containers
from rised.runners.docker.engine import NOT_FOUND, Engine, Tolerate
from rised.runners.shell import SHELL, WORKING_DIRECTORY
from riseml_proto.errors import EngineError, StartFailed, describe

if TYPE_CHECKING:
    from rised.runners.docker.engine import Docker

_PASSWD, _GROUP = "/etc/passwd", "/etc/group"
_LARGEST = 1 << 20  # bytes of a file; an image may be hostile
_MOST_LINKS = 5
_MOST_IMAGES = 100
_ROOT = "root:x:0:0:root:/root:/bin/sh\n", "root:x:0:\n"
"""What an image without any user gets, too."""


class _TooLarge(Exception):
    """A file of an image that is too large for what it should be."""


class Account(NamedTuple):
    """A user as the machine knows it."""

    uid: int
    gid: int
    name: str
    full_name: str = ""
    groups: Mapping[int, str] = {}
    """Name of each group by its number, the main one included."""
    home: str = WORKING_DIRECTORY


class Texts(NamedTuple):
    """The two files of an image; empty where it has none."""

    passwd: str
    group: str


def complete(texts: Texts, account: Account) -> Texts:
    """`texts` with an entry for the user and for each group that has none; the same where none is missing."""
    passwd, group = texts
    root_passwd, root_group = _ROOT
    if account.uid not in _numbers(passwd):
        passwd = _ended(passwd or root_passwd)
        if account.uid not in _numbers(passwd):
            name = _free(account.name, account.uid, passwd)
            passwd += (
                f"{name}:x:{account.uid}:{account.gid}:{account.full_name}:{account.home}:{SHELL}\n"
            )
    numbers = _numbers(group)
    for number, name in account.groups.items():
        if number not in numbers:
            group = _ended(group or root_group)
            if number not in _numbers(group):
                group += f"{_free(name, number, group)}:x:{number}:\n"
    return Texts(passwd, group)


def _ended(text: str) -> str:
    return text if text.endswith("\n") else text + "\n"


def _fields(text: str) -> Iterator[list[str]]:
    return (line.split(":") for line in text.splitlines())


def _numbers(text: str) -> set[int]:
    """The IDs that have an entry; they stand in the third field of both files."""
    found = (fields[2] for fields in _fields(text) if len(fields) > 2)
    return {int(number) for number in found if number.isascii() and number.isdigit()}


def _free(name: str, number: int, text: str) -> str:
    """`name`, or one like it where the image calls somebody else so."""
    return f"{name}-{number}" if name in {fields[0] for fields in _fields(text)} else name


def account(uid: int, gid: int, groups: tuple[int, ...], home: str) -> Account:
    """Who `uid` is on this machine. May take long: a lab's users are in another machine's directory."""
    try:
        user = pwd.getpwuid(uid)
        name, full_name = user.pw_name, user.pw_gecos.partition(",")[0]
    except KeyError:
        name, full_name = str(uid), ""
    names = {}
    for number in dict.fromkeys((gid, *groups)):
        try:
            names[number] = grp.getgrgid(number).gr_name
        except KeyError:
            names[number] = name if number == gid else f"group-{number}"
    return Account(uid, gid, name, full_name.replace(":", " "), names, home)


class Accounts:
    """What the images of one engine know of users."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._images: dict[str, Texts | None] = {}
        self._reading = trio.Lock()

    async def provide(
        self, name: str, image: str, config: dict[str, Any], directory: str, home: str | None
    ) -> None:
        """Let the user of a container's `config` have an entry, in files in the job's `directory`.

        `image` is its image's ID; a container called `name` may be made and removed. Raises `NoEngine`, `StartFailed`.
        """
        async with self._reading:
            if image not in self._images:
                texts = await self._read(name, image)
                if len(self._images) >= _MOST_IMAGES:
                    del self._images[next(iter(self._images))]
                self._images[image] = texts
            texts = self._images[image]
        if texts is None:
            return
        uid, gid = map(int, config["User"].split(":"))
        groups = tuple(map(int, config["HostConfig"]["GroupAdd"]))
        fits = home and not {":", "\n"} & {*home}
        user = await in_thread(account, uid, gid, groups, home if fits else WORKING_DIRECTORY)
        for path, text, old in zip((_PASSWD, _GROUP), complete(texts, user), texts, strict=True):
            if text == old:
                continue
            own = os.path.join(directory, posixpath.basename(path))
            try:
                write_file(own, text.encode(errors="surrogateescape"))
                os.chmod(own, 0o644)
            except OSError as error:
                raise StartFailed(describe(error)) from error
            mount = {"Type": "bind", "Source": own, "Target": path, "ReadOnly": True}
            config["HostConfig"]["Mounts"].append(mount)

    async def _read(self, name: str, image: str) -> Texts | None:
        """The files of an image; None where the engine does not give them."""
        try:
            # It is never started. The job's own container gets its name, so a crash leaves nothing of its own kind.
            container = await containers.create(
                self._engine, name, {"Image": image, "Entrypoint": ["/"], "Cmd": []}
            )
            crash_point("image-container-made")
            try:
                return Texts(*[await self._file(container, p) for p in (_PASSWD, _GROUP)])
            finally:
                await containers.remove(self._engine, container)
        except (EngineError, tarfile.TarError, _TooLarge) as error:
            log.warning("cannot read an image's users", image=image, error=str(error))
            return None

    async def _file(self, container: str, path: str) -> str:
        for _ in range(_MOST_LINKS):
            with Tolerate(NOT_FOUND):
                archive = await self._engine.call(
                    lambda docker, path=path: _archive(docker, container, path)  # type: ignore[misc]
                )
                with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
                    member = tar.next()
                    if member and member.issym():
                        path = posixpath.join(posixpath.dirname(path), member.linkname)
                        continue
                    file = tar.extractfile(member) if member else None
                    return file.read().decode(errors="surrogateescape") if file else ""
            return ""
        return ""


async def _archive(docker: "Docker", container: str, path: str) -> bytes:
    """A file of a container as a tar archive. Raises `_TooLarge`."""
    query = docker._query(f"containers/{container}/archive", params={"path": path})
    async with query as response:
        data = b""
        async for chunk in response.content.iter_any():
            data += chunk
            if len(data) > _LARGEST:
                raise _TooLarge(f"{path} is too large")
        return data
