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
    image: str, default_registry: str, environ: Mapping[str, str] = os.environ
) -> dict[str, str] | None:
    """Credentials for the registry of `image`, as the engine's API takes them; None if there are none. Blocks."""
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
    if not isinstance(config, dict):
        return None
    host = registry(image) or default_registry
    helper = (config.get("credHelpers") or {}).get(host) or config.get("credsStore")
    # A configuration may name a registry in either way.
    for name in (host, host.split("/")[2] if "//" in host else f"https://{host}"):
        auth = _from_helper(helper, name) if helper else None
        if auth := auth or _from_entry((config.get("auths") or {}).get(name)):
            return {**auth, "serveraddress": name}
    return None


def registry(image: str) -> str | None:
    """The host of an image's registry: the part before the first slash, if it looks like a host."""
    first, slash, _ = image.partition("/")
    if slash and ("." in first or ":" in first or first == "localhost"):
        return first
    return None


def _from_entry(entry: Any) -> dict[str, str] | None:
    if not isinstance(entry, dict):
        return None
    if token := entry.get("identitytoken"):
        return {"identitytoken": token}
    try:
        user, _, password = base64.b64decode(entry.get("auth") or "").decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return None
    return {"username": user, "password": password} if user else None


def _from_helper(helper: str, name: str) -> dict[str, str] | None:
    """The output of `docker-credential-<helper>`. The daemon's reaper may take its exit status, so that is ignored."""
    try:
        process = subprocess.run(
            [f"docker-credential-{helper}", "get"],
            input=name.encode(),
            capture_output=True,
            timeout=_SECONDS,
            check=False,
        )
        output = json.loads(process.stdout)
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return None
    if not isinstance(output, dict) or not output.get("Secret"):
        return None
    if output.get("Username") == "<token>":
        return {"identitytoken": output["Secret"]}
    return {"username": str(output.get("Username")), "password": str(output["Secret"])}
