"""What travels over the socket, as JSON; `docs/api.md` is made from these types.

Times are UTC and travel as RFC 3339 text (`2017-08-30T09:59:06.120Z`). Memory counts MiB. A stream is NDJSON: one
`Entry` a line.
"""

from datetime import datetime

import msgspec

from riseml_proto.states import State


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """A message. Unknown fields are ignored, so that a newer peer may add some."""


class Request(Message, frozen=True, forbid_unknown_fields=True):
    """A message to the daemon. Unknown fields are refused: a typing error must not pass silently."""


class Problem(Message, frozen=True):
    """The body of every answer that is not a success."""

    error: str
    """One sentence that says what is wrong and what to do."""
    code: str
    """Which class of `riseml_proto.errors` it is."""


class File(msgspec.Struct, frozen=True, array_like=True):
    """One file of a project, as `[path, mode, size, blob]`."""

    path: str
    """Relative to the project, `/` between parts, written by `riseml_proto.paths.quote`."""
    mode: int
    """0o100644, 0o100755 (executable) or 0o120000 (symbolic link), as git has them."""
    size: int
    blob: str
    """Git's id of the content, 40 hex digits; for a link the content is its target."""


class Manifest(Request, frozen=True):
    """The files that a revision consists of."""

    project: str
    files: list[File]


class Revision(Message, frozen=True):
    """Answer to `Manifest`: the commit, or what has to be sent to /v1/objects before it can be made."""

    revision: str | None
    missing: list[str] = []


class Received(Message, frozen=True):
    """Answer to POST /v1/objects, whose body is a sequence of blobs: `<id> <size>\\n`, then `size` bytes."""

    received: int


class Submission(Request, frozen=True):
    """Run a `riseml.yml` on a revision."""

    config: str
    """The text of riseml.yml."""
    revision: str
    config_file: str = "riseml.yml"
    """What error messages call it."""
    env: dict[str, str] = {}
    """The submitter's PATH, VIRTUAL_ENV and CONDA_PREFIX."""
    strict: bool = False
    """Refuse placeholders that no parameter defines."""


class Submitted(Message, frozen=True):
    """Answer to `Submission`: it is on disk."""

    id: str
    count: int
    """Sub-experiments; 0 for an experiment without parameters."""
    revision: str
    output_dir: str
    warnings: list[str] = []


class Member(Message, frozen=True):
    """One sub-experiment; an experiment without parameters is its own only one."""

    id: str
    state: State
    params: dict[str, str]
    """The values as they were written."""
    gpus: list[int]
    exit_code: int | None
    reason: str | None
    """How it ended (`riseml_proto.states.Reason`), or a sentence that says what it waits for."""
    started_at: datetime | None
    ended_at: datetime | None
    results: dict[str, str | int | float | bool | None] = {}
    """The last value of each result that it reported."""


class Summary(Message, frozen=True):
    """One experiment or set, without its members."""

    id: str
    type: str
    """`Experiment` or `Set`."""
    state: State
    project: str
    user: str
    revision: str
    created_at: datetime
    counts: dict[str, int]
    """State → number of sub-experiments in it; states that none is in are left out."""


class Detail(Summary, frozen=True):
    """The same with its members, all of them or `?limit=` around the first unfinished."""

    count: int
    """Sub-experiments; 0 for an experiment without parameters."""
    image: str | None
    framework: str | None
    tensorboard: str | None
    """The URL, while one runs."""
    output_dir: str
    ended_at: datetime | None
    concurrency: int
    time_limit: float | None
    """Seconds."""
    retries: int
    resources: dict[str, float]
    """`cpus`, `mem` (MiB) and `gpus` that each sub-experiment is guaranteed."""
    reason: str | None
    """How it ended, or what it waits for."""
    experiments: list[Member]


class Best(Message, frozen=True):
    """The best of an experiment by what they reported, those that still run included."""

    id: str
    by: str
    """The result that decided."""
    lowest: bool
    """Whether its lowest value is the best."""
    reported: int
    """How many have reported a number as it."""
    count: int
    """Sub-experiments; 0 for an experiment without parameters."""
    output_dir: str
    """Of the whole experiment."""
    experiments: list[Member]
    """The best first; of equal ones the earlier."""


class Kill(Request, frozen=True):
    """Answered when nothing of the jobs is left."""

    ids: list[str]
    """Empty: the caller's last experiment of `project`."""
    project: str | None = None
    force: bool = False
    """SIGKILL at once, without a grace period."""


class Killed(Message, frozen=True):
    """Answer to `Kill`."""

    killed: list[str]
    """IDs as they were given, now ended."""
    ended: list[str]
    """IDs that had already ended before."""


class LogRequest(Request, frozen=True):
    """States and output of an experiment, a sub-experiment or a job, as a stream of `Entry`."""

    id: str | None = None
    """None: the caller's last experiment of `project`."""
    project: str | None = None
    follow: bool = False
    """Go on until it has ended."""
    tail: int | None = None
    """Only the last so many lines of output."""
    since: datetime | None = None
    """Only what was written at or after."""
    after: int = 0
    """Resume: the highest `seq` seen."""
    offsets: dict[str, int] = {}
    """Resume: job and attempt (`144.2.train/1`) → the highest `end` seen of it."""
    opening: bool = False
    """Begin with the states at submission and tell every one since, as `riseml train` does."""
    raw: bool = False
    """Answer with the bytes of the log itself, not a stream of entries; for one job only."""


class StateEntry(Message, frozen=True, tag="state", tag_field="type"):
    """An experiment or sub-experiment is in this state since `time`."""

    id: str
    time: datetime
    state: State
    seq: int
    """Rises; a follower that comes back says the last one it has seen. 0 for what a set's first lines tell."""
    reason: str | None = None
    message: str | None = None
    exit_code: int | None = None


class LineEntry(Message, frozen=True, tag="line", tag_field="type"):
    """A whole line of a job's output, without its line end."""

    job: str
    attempt: int
    time: datetime
    """When the daemon saw its first byte."""
    text: str
    """Bytes that are not UTF-8 are U+FFFD; `\\r` and escape sequences are as they were written."""
    end: int
    """Byte offset in the job's log after it."""


class PartialEntry(Message, frozen=True, tag="partial", tag_field="type"):
    """The line that a job is writing, such as a progress bar; sent again as it grows, and at last as a `line`."""

    job: str
    attempt: int
    time: datetime
    text: str


class ElidedEntry(Message, frozen=True, tag="elided", tag_field="type"):
    """`count` further sub-experiments are in `state`; they are not listed one by one."""

    id: str
    time: datetime
    state: State
    count: int


class HeadEntry(Message, frozen=True, tag="head", tag_field="type"):
    """The first entry of every stream: what it is about."""

    id: str
    """Canonical ID of what is streamed."""
    count: int
    """Sub-experiments of the experiment."""


class EndEntry(Message, frozen=True, tag="end", tag_field="type"):
    """The last entry of a stream that was read to its end; a stream that stops without it was cut."""

    state: State
    """Of what was asked for, now."""
    counts: dict[str, int]


Entry = HeadEntry | StateEntry | LineEntry | PartialEntry | ElidedEntry | EndEntry


class Amount(Message, frozen=True):
    """How much of a resource there is and how much of it is guaranteed to jobs now."""

    total: float
    used: float


class Gpu(Message, frozen=True):
    """One GPU. What the driver does not tell, or declared GPUs do not have, is None."""

    index: int
    uuid: str | None
    name: str | None
    memory: int | None
    driver: str | None
    serial: str | None
    bus_id: str | None
    used_by: str | None
    """The sub-experiment that it is handed to."""


class System(Message, frozen=True):
    """The machine, and how much of it is handed out."""

    hostname: str
    version: str
    api_version: int
    pid: int
    runner: str
    isolation: str
    """How a job's processes are kept together: `cgroup` or `session`."""
    cpus: Amount
    memory: Amount
    gpus: list[Gpu]
    state_dir: str
    output_dir: str
    data_dir: str
    max_files: int
    """Most files a project may have."""
    max_bytes: int
    """Most bytes a project may have."""


class BoardRequest(Request, frozen=True):
    """Serve a TensorBoard over experiments or sub-experiments for as long as the request lasts."""

    ids: list[str] = []
    """Empty: the caller's last experiment of `project`."""
    project: str | None = None


class Board(Message, frozen=True):
    """A TensorBoard that can be reached, by its user alone."""

    url: str


class Prune(Request, frozen=True):
    """Remove the images that were built for experiments none of which is kept."""


class Pruned(Message, frozen=True):
    """What was removed."""

    images: list[str]
    """IDs of built images."""


class JobUse(Message, frozen=True):
    """What a running sub-experiment uses."""

    id: str
    project: str
    state: State
    cpu_seconds: float
    """Processor time that its processes have used; of two samples the difference counts."""
    memory: float
    """MiB now."""
    processes: int
    gpus: list[int]
    requested_cpus: float
    requested_memory: float
    """MiB."""


class GpuUse(Message, frozen=True):
    """What a GPU does now. What the driver does not tell, or declared GPUs do not have, is None."""

    index: int
    name: str | None
    util: int | None
    """Percent."""
    memory: int | None
    total: int | None
    """MiB, in use and in all."""
    power: float | None
    """Watts."""
    temperature: int | None
    """Degrees Celsius."""
    bus_id: str | None


class Usage(Message, frozen=True):
    """What runs uses."""

    time: float
    """Seconds of a clock that only goes forward; for the differences of two samples."""
    cpus: float
    memory: float
    """What there is to hand out; MiB."""
    jobs: list[JobUse]
    gpus: list[GpuUse]


class Whoami(Message, frozen=True):
    """Who the kernel says the caller is."""

    user: str
    uid: int
    host: str


class FileInfo(Message, frozen=True):
    """A file or directory below a URI such as `output://144.2/` or `data://`."""

    path: str
    """Relative to what was asked for, written by `riseml_proto.paths.quote`; empty: that itself."""
    type: str
    """`file`, `directory`, `link` or `other` (a FIFO, socket or device: these are never opened)."""
    size: int = 0
    """Bytes."""
    mtime: datetime | None = None
    """When its content last changed."""
    executable: bool = False
    version: str = ""
    """Changes whenever the content does."""
    target: str | None = None
    """Of a link, written as `path` is."""
    offset: int = 0
    """In an answer to `Fetch`: how many bytes of the file are left out, for the caller has them."""
    error: str | None = None
    """Why nothing more can be told or sent of it."""


class List(Request, frozen=True):
    """List a directory, or look at a file; the answer is a `FileInfo` a line, the first one what the URI names."""

    uri: str
    recursive: bool = False
    """All below it."""
    itself: bool = False
    """Not what is in it."""


class Wanted(Request, frozen=True):
    """A file to be sent."""

    path: str
    """Relative to the URI."""
    offset: int = 0
    version: str = ""
    """Leave out `offset` bytes if this is still the file's version."""


class Fetch(Request, frozen=True):
    """Send files. For each the answer has a line, its `FileInfo`, then the bytes from its `offset` to its `size`."""

    uri: str
    files: list[Wanted]


class Stored(Request, frozen=True):
    """One of what is sent to /v1/files/store: a line with this, then the bytes from its `offset` to its `size`."""

    path: str
    """Relative to the URI."""
    type: str = "file"
    """`file`, `directory` or `link`."""
    size: int = 0
    offset: int = 0
    """Of an upload that was interrupted: how much is there already (`Part`)."""
    version: str = ""
    """The sender's word for this content; an upload goes on only where it is the same."""
    mtime: datetime | None = None
    executable: bool = False
    target: str | None = None


class Storing(Message, frozen=True):
    """Answer to /v1/files/store: all is on disk and in its place."""

    stored: int


class PartRequest(Request, frozen=True):
    """Ask how far an upload came."""

    uri: str
    version: str


class Part(Message, frozen=True):
    """How much there is of a file that was not sent to its end."""

    size: int
    """Bytes; 0 where there is nothing to go on with."""


class Remove(Request, frozen=True):
    """Remove files, and with `recursive` directories and all in them. Links are removed, never followed."""

    uris: list[str]
    recursive: bool = False


class Removed(Message, frozen=True):
    """Answer to `Remove`."""

    removed: int
    """Files and directories."""
