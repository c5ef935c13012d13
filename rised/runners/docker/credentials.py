"""Credentials for private registries, from the Docker configuration of the daemon's user."""

import base64
import binascii
import json
import os
import subprocess
from collections.abc import Mapping
from typing import Any

from rised.log import log

_SECONDS = 30.0


def credentials(
    image: str, default: str, environ: Mapping[str, str] = os.environ
) -> dict[str, str] | None:
    """What to tell the registry of `image`, None where nothing is known. Blocks.

    `default` is the address of the registry that the engine asks for images whose names have none.
    """
    directory = environ.get("DOCKER_CONFIG") or os.path.join(os.path.expanduser("~"), ".docker")
    path = os.path.join(directory, "config.json")
    try:
        with open(path, encoding="utf-8") as file:
            config = json.load(file)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        log.warning("cannot read credentials for registries", path=path, error=str(error))
        return None
    host = registry(image) or default
    if not isinstance(config, dict):
        return None
    helper = (config.get("credHelpers") or {}).get(host) or config.get("credsStore")
    for name in _names(host):
        if helper and (found := _ask(helper, name)):
            return {**found, "serveraddress": name}
        if found := _written((config.get("auths") or {}).get(name)):
            return {**found, "serveraddress": name}
    return None


def registry(image: str) -> str | None:
    """The host of an image's registry: what stands before the first slash, if it looks like a host."""
    first, slash, _ = image.partition("/")
    if slash and ("." in first or ":" in first or first == "localhost"):
        return first
    return None


def _names(host: str) -> list[str]:
    """What a configuration may call a registry."""
    if "//" in host:
        return [host, host.split("/")[2]]
    return [host, f"https://{host}"]


def _written(entry: Any) -> dict[str, str] | None:
    if not isinstance(entry, dict):
        return None
    if token := entry.get("identitytoken"):
        return {"identitytoken": token}
    try:
        user, _, password = base64.b64decode(entry.get("auth") or "").decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return None
    return {"username": user, "password": password} if user else None


def _ask(helper: str, name: str) -> dict[str, str] | None:
    """Ask `docker-credential-<helper>`. Its exit status may go to the daemon's reaper; its answer tells enough."""
    try:
        done = subprocess.run(
            [f"docker-credential-{helper}", "get"],
            input=name.encode(),
            capture_output=True,
            timeout=_SECONDS,
            check=False,
        )
        found = json.loads(done.stdout)
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return None
    if not isinstance(found, dict) or not found.get("Secret"):
        return None
    if found.get("Username") == "<token>":
        return {"identitytoken": found["Secret"]}
    return {"username": str(found.get("Username")), "password": str(found["Secret"])}
