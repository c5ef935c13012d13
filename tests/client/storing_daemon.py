"""A daemon that only keeps what it is sent: the real protocol on a real socket."""

import hashlib
import io
import socketserver
import sys
import threading
from http.server import BaseHTTPRequestHandler
from typing import Self
from urllib.parse import parse_qs, urlsplit

import msgspec

from riseml_proto import API_VERSION
from riseml_proto.messages import (
    Amount,
    EndEntry,
    Entry,
    LogRequest,
    Manifest,
    Problem,
    Revision,
    Submission,
    Submitted,
    System,
)
from riseml_proto.states import State


class StoringDaemon:
    """Listens at `path` within a `with`. Its fields are what it was sent, and what it answers."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.host = f"unix://{path}"
        self.objects: dict[str, bytes] = {}
        self.manifests: list[Manifest] = []
        self.uploads: list[list[str]] = []
        self.projects: list[str] = []
        self.submissions: list[Submission] = []
        self.log_requests: list[LogRequest] = []
        self.warnings: list[str] = []
        self.limits = (100_000, 2 << 30)
        self.entries: list[Entry] = [EndEntry(state=State.FINISHED, counts={"FINISHED": 1})]
        self.loses_objects = False
        self.stay_open = threading.Event()
        self.stay_open.set()
        """While it is not set, a stream of entries does not end."""
        self._server = _Server(path, type("Handler", (_Handler,), {"daemon": self}))

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.stay_open.set()
        self._server.shutdown()
        self._server.server_close()

    def files(self) -> dict[str, tuple[int, bytes]]:
        """The last manifest, with contents."""
        return {f.path: (f.mode, self.objects[f.blob]) for f in self.manifests[-1].files}

    def commit(self, manifest: Manifest) -> Revision:
        self.manifests.append(manifest)
        missing = {f.blob for f in manifest.files if f.mode != 0o040000} - self.objects.keys()
        if missing:
            return Revision(revision=None, missing=sorted(missing))
        text = repr(sorted(manifest.files, key=lambda f: f.path)).encode()
        return Revision(revision=hashlib.sha1(text).hexdigest())

    def receive(self, project: str, body: io.BytesIO) -> dict[str, int]:
        blobs = []
        while line := body.readline():
            blob, size = line.decode("ascii").split()
            content = body.read(int(size))
            assert hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest() == blob
            blobs.append(blob)
            if not self.loses_objects:
                self.objects[blob] = content
        self.uploads.append(blobs)
        self.projects.append(project)
        return {"received": len(blobs)}

    def submit(self, submission: Submission) -> Submitted:
        self.submissions.append(submission)
        return Submitted(
            id="144",
            count=8,
            revision=submission.revision,
            output_dir="/out",
            warnings=self.warnings,
        )

    def system(self) -> System:
        amount = Amount(total=1, used=0)
        return System(
            hostname="box",
            version="0",
            api_version=API_VERSION,
            pid=1,
            runner="process",
            isolation="session",
            cpus=amount,
            memory=amount,
            gpus=[],
            state_dir="/state",
            output_dir="/out",
            data_dir="/data",
            max_files=self.limits[0],
            max_bytes=self.limits[1],
        )


class _Server(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True
    block_on_close = False

    def handle_error(self, request: object, client_address: object) -> None:
        if not isinstance(sys.exception(), ConnectionError):  # clients may hang up
            super().handle_error(request, client_address)  # type: ignore[arg-type]  # typeshed


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    daemon: StoringDaemon

    def do_GET(self) -> None:
        assert self.path == "/v1/system"
        self._reply(200, self.daemon.system())

    def do_POST(self) -> None:
        url = urlsplit(self.path)
        if url.path == "/v1/revisions":
            self._reply(200, self.daemon.commit(msgspec.json.decode(self._body(), type=Manifest)))
        elif url.path == "/v1/objects":
            project = parse_qs(url.query)["project"][0]
            self._reply(200, self.daemon.receive(project, io.BytesIO(self._body())))
        elif url.path == "/v1/experiments":
            self._reply(200, self.daemon.submit(msgspec.json.decode(self._body(), type=Submission)))
        elif url.path == "/v1/logs":
            self._stream(msgspec.json.decode(self._body(), type=LogRequest))
        else:
            self._reply(404, Problem(error=f"no {url.path}", code="not-found"))

    def log_message(self, *args: object) -> None:
        pass

    def address_string(self) -> str:
        return "unix"

    def _body(self) -> bytes:
        if length := self.headers["Content-Length"]:
            return self.rfile.read(int(length))
        body = b""
        while size := int(self._line(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def _line(self) -> bytes:
        if not (line := self.rfile.readline()):
            raise ConnectionResetError
        return line

    def _reply(self, status: int, message: object) -> None:
        data = msgspec.json.encode(message)
        self._head(status, "Content-Length", str(len(data)))
        self.wfile.write(data)

    def _stream(self, request: LogRequest) -> None:
        self.daemon.log_requests.append(request)
        self._head(200, "Transfer-Encoding", "chunked")
        for entry in self.daemon.entries:
            if isinstance(entry, EndEntry):
                self.daemon.stay_open.wait()
            data = msgspec.json.encode(entry) + b"\n"
            self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.write(b"0\r\n\r\n")

    def _head(self, status: int, name: str, value: str) -> None:
        self.send_response(status)
        self.send_header("Rised-Api", str(API_VERSION))
        self.send_header(name, value)
        self.end_headers()
