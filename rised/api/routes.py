"""The table of requests and their handlers."""

import re
from collections.abc import Awaitable, Callable

from rised.api import (
    changes,
    experiments,
    files,
    logs,
    queue,
    results,
    sync,
    system,
    tensorboard,
    usage,
)
from rised.api.context import Context
from rised.http.request import Answer, Handler, Request, Streamed
from riseml_proto.errors import MethodNotAllowed, NotFound

_Handler = Callable[..., Awaitable[Answer | Streamed]]

ROUTES: tuple[tuple[str, str, _Handler], ...] = (
    ("GET", r"/v1/system", system.system),
    ("GET", r"/v1/whoami", system.whoami),
    ("POST", r"/v1/revisions", sync.revisions),
    ("POST", r"/v1/objects", sync.objects),
    ("GET", r"/v1/experiments", experiments.index),
    ("POST", r"/v1/experiments", experiments.submit),
    ("GET", r"/v1/experiments/([^/]+)", experiments.show),
    ("GET", r"/v1/experiments/([^/]+)/best", results.best),
    ("GET", r"/v1/experiments/([^/]+)/logs", logs.get),
    ("POST", r"/v1/logs", logs.post),
    ("POST", r"/v1/kill", experiments.kill),
    ("POST", r"/v1/change", changes.change),
    ("GET", r"/v1/queue", queue.show),
    ("POST", r"/v1/drain", system.drain),
    ("GET", r"/v1/usage", usage.show),
    ("POST", r"/v1/tensorboard", tensorboard.serve),
    ("POST", r"/v1/prune", system.prune),
    ("GET", r"/v1/files", files.index),
    ("POST", r"/v1/files", files.post),
    ("GET", r"/v1/files/content", files.content),
    ("POST", r"/v1/files/fetch", files.fetch),
    ("POST", r"/v1/files/store", files.store),
    ("POST", r"/v1/files/part", files.part),
    ("POST", r"/v1/files/remove", files.remove),
)


def handler(context: Context) -> Handler:
    """The function that answers every request, with `context` for the handlers."""

    async def handle(request: Request) -> Answer | Streamed:
        context.check_peer(request.peer)
        methods = []
        for method, pattern, route in ROUTES:
            match = re.fullmatch(pattern, request.path)
            if match and method == request.method:
                return await route(context, request, *match.groups())
            if match:
                methods.append(method)
        if methods:
            raise MethodNotAllowed(
                f"{request.path} takes {' or '.join(methods)}, not {request.method}"
            )
        raise NotFound(f"there is no {request.path} here; docs/api.md lists what there is")

    return handle
