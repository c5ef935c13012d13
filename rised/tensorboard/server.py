"""The real TensorBoard, on a free port of the loopback interface, for one user alone.

Every user of a machine can reach its loopback interface. So the user of each connection is looked up: the kernel knows
whose socket is at the other end, as it does for the daemon's own socket. No secret has to be in the URL, where the
histories of browsers, screenshots and `ps` would show it.
"""

import importlib.util
import logging
import os
from typing import Any

from tensorboard import default, program
from werkzeug.serving import WSGIRequestHandler

from rised.tensorboard.peers import peer_uid

_HOST = "127.0.0.1"


class PrivateServer(program.WerkzeugServer):  # type: ignore[misc]  # untyped
    """Serves its own user and root, and closes the connections of everybody else."""

    def verify_request(self, request: Any, client_address: Any) -> bool:
        """Whether the connection may be served; the kernel is asked for its user."""
        try:
            with open("/proc/net/tcp", encoding="ascii") as file:
                uid = peer_uid(file.read(), client_address, request.getsockname())
        except OSError:
            return False
        return uid in (os.getuid(), 0)


def serve(logdir: str, title: str) -> str:
    """Serve `logdir` in a thread of its own; return the URL."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    WSGIRequestHandler.log_request = lambda *_, **__: None  # type: ignore[method-assign]
    has_data_server = importlib.util.find_spec("tensorboard_data_server") is not None
    tensorboard = program.TensorBoard(default.get_plugins(), server_class=PrivateServer)
    tensorboard.configure(
        argv=[
            "tensorboard",
            *("--logdir", logdir, "--host", _HOST, "--port", "0"),
            *("--window_title", f"riseml {title}", "--reload_multifile", "true"),
            *("--load_fast", str(has_data_server).lower()),
        ]
    )
    url: str = tensorboard.launch()
    return url
