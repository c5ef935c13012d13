"""The real TensorBoard, on a free port of the loopback interface, for one user alone.

Every user of a machine can reach its loopback interface. So whoever connects is looked up: the kernel knows the user of
the socket at the other end, as it does for the daemon's own socket. Nothing secret has to be in the URL, where the
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


class Server(program.WerkzeugServer):  # type: ignore[misc]  # untyped
    """Closes the connections of everybody but its own user and root."""

    def verify_request(self, request: Any, client_address: Any) -> bool:
        """Ask the kernel whose the connection is."""
        try:
            with open("/proc/net/tcp", encoding="ascii") as file:
                uid = peer_uid(file.read(), client_address, request.getsockname())
        except OSError:
            return False
        return uid in (os.getuid(), 0)


def serve(logs: str, title: str) -> str:
    """Start serving in a thread; return the URL."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    WSGIRequestHandler.log_request = lambda *_, **__: None  # type: ignore[method-assign]
    fast = importlib.util.find_spec("tensorboard_data_server") is not None
    board = program.TensorBoard(default.get_plugins(), server_class=Server)
    board.configure(
        argv=[
            "tensorboard",
            *("--logdir", logs, "--host", _HOST, "--port", "0"),
            *("--window_title", f"riseml {title}", "--reload_multifile", "true"),
            *("--load_fast", str(fast).lower()),
        ]
    )
    url: str = board.launch()
    return url
