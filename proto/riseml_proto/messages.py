"""The messages of the API, as JSON; `docs/api.md` is made from these types.

Times are UTC and travel as RFC 3339 text (`2017-08-30T09:59:06.120Z`). Memory counts MiB. A stream is NDJSON: one
`Entry` a line.
"""

from datetime import datetime

import msgspec

from riseml_proto.states import State
from riseml_proto.waiting import WaitReason


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """A message. Unknown fields are ignored, so that a newer peer may add some."""


class ClientMessage(Message, frozen=True, forbid_unknown_fields=True):
    """A message to the daemon. Unknown fields are refused: a typing error must not pass silently."""


class Problem(Message, frozen=True):
    """The body of every answer that is not a success."""

    error: str
    """One sentence that says what is wrong and what to do."""
    code: str
    """The error's class in `riseml_proto.errors`."""


class File(msgspec.Struct, frozen=True, array_like=True):
    """A file of a project, as `[path, mode, size, blob]`."""

    path: str
    """Relative to the project, with `/` between parts, written by `riseml_proto.paths.quote`."""
    mode: int
    """0o100644, 0o100755 (executable), 0o120000 (symbolic link) or 0o040000 (empty directory), as git has them."""
    size: int
    blob: str
    """Git's id of the content, 40 hex digits; for a link the content is its target. An empty directory has git's id of
    a tree without entries."""


class Manifest(ClientMessage, frozen=True):
    """The files of a revision."""

    project: str
    files: list[File]


class Revision(Message, frozen=True):
    """Answer to `Manifest`: the commit's id, or the ids of the contents to send to /v1/objects first."""

    revision: str | None
    missing: list[str] = []


class Received(Message, frozen=True):
    """Answer to POST /v1/objects, whose body is a sequence of blobs: `<id> <size>\\n`, then `size` bytes."""

    received: int


class Submission(ClientMessage, frozen=True):
    """Start the experiment of a `riseml.yml` on a revision."""

    config: str
    """The text of riseml.yml."""
    revision: str
    config_file: str = "riseml.yml"
    """The file's name in error messages."""
    env: dict[str, str] = {}
    """The submitter's PATH, VIRTUAL_ENV and CONDA_PREFIX."""
    strict: bool = False
    """Refuse placeholders that no parameter defines."""
    priority: int = 0
    """From -100 to 100; of the submitter's own experiments the highest goes first."""


class Submitted(Message, frozen=True):
    """Answer to `Submission`: the experiment is on disk."""

    id: str
    count: int
    """Sub-experiments; 0 for an experiment without parameters."""
    revision: str
    output_dir: str
    warnings: list[str] = []


class Member(Message, frozen=True):
    """One sub-experiment. An experiment without parameters has one, which has its own ID."""

    id: str
    state: State
    params: dict[str, str]
    """The values as they were written."""
    gpus: list[int]
    exit_code: int | None
    reason: str | None
    """The reason of its end (`riseml_proto.states.Reason`), or a sentence that says what it waits for."""
    started_at: datetime | None
    ended_at: datetime | None
    results: dict[str, str | int | float | bool | None] = {}
    """Name → last value of each result that it reported."""
    waits_for: WaitReason | None = None
    """What it waits for, as data."""


class Summary(Message, frozen=True, kw_only=True):
    """One experiment or set, without its sub-experiments."""

    id: str
    type: str
    """`Experiment` or `Set`."""
    state: State
    project: str
    user: str
    revision: str
    """Empty where the experiment is another user's and the caller is no administrator."""
    created_at: datetime
    counts: dict[str, int]
    """State → number of sub-experiments in it; states with none are left out."""
    gpus: int = 0
    """Number of GPUs that it has now."""


class Detail(Summary, frozen=True, kw_only=True):
    """A `Summary` with sub-experiments: all of them, or `?limit=` around the first unfinished."""

    count: int
    """Sub-experiments; 0 for an experiment without parameters."""
    image: str | None
    framework: str | None
    tensorboard: str | None
    """The URL of its TensorBoard while that runs."""
    output_dir: str
    ended_at: datetime | None
    concurrency: int
    time_limit: float | None
    """Seconds."""
    retries: int
    resources: dict[str, float]
    """`cpus`, `mem` (MiB) and `gpus` that each sub-experiment is guaranteed."""
    reason: str | None
    """The reason of its end, or a sentence that says what it waits for."""
    experiments: list[Member]
    priority: int = 0
    """Of its user's experiments the highest goes first."""
    paused: bool = False
    """Whether nothing more of it starts until it is resumed."""
    waits_for: WaitReason | None = None
    """What it waits for, as data."""
    tensorboard_problem: str | None = None
    """Why there is no `tensorboard` though `riseml.yml` asks for one: how it ended, and where its log is."""


class Best(Message, frozen=True):
    """The best sub-experiments by a result, those that still run included."""

    id: str
    by: str
    """The name of the result that decided."""
    lowest: bool
    """Whether the lowest value is the best."""
    reported: int
    """Number of sub-experiments that reported a number for it."""
    count: int
    """Sub-experiments; 0 for an experiment without parameters."""
    output_dir: str
    """Of the whole experiment."""
    history: bool = False
    """Whether the best value that each reported counts, not its last."""
    values: list[float] = []
    """What counted, for each of `experiments`."""
    experiments: list[Member] = []
    """The best first; of equal ones the lower number first."""


class Change(ClientMessage, frozen=True):
    """Change experiments that have not ended. A field that is None is not changed."""

    ids: list[str]
    priority: int | None = None
    """From -100 to 100; of its user's experiments the highest goes first."""
    concurrency: int | None = None
    """How many sub-experiments of a set may run at once. Running ones are not stopped."""
    paused: bool | None = None
    """Whether no more sub-experiments start. Running ones are not stopped."""


class Standing(Message, frozen=True):
    """The settings of an experiment that `Change` can change."""

    id: str
    priority: int
    concurrency: int
    paused: bool


class Changed(Message, frozen=True):
    """Answer to `Change`: the change is on disk."""

    experiments: list[Standing]


class Queued(Message, frozen=True):
    """One experiment with sub-experiments left to start."""

    position: int
    id: str
    user: str
    project: str
    priority: int
    gpus: int
    """Number of GPUs that each sub-experiment needs."""
    left: int
    """Number of sub-experiments that have not started."""
    expected: datetime | None
    """The latest time at which the next one starts, computed from time limits; None where it is not known."""
    why: str | None
    """A sentence that says what it waits for."""
    waits_for: WaitReason | None = None
    """The same as data."""


class Queue(Message, frozen=True):
    """Waiting experiments, in the order in which they will start."""

    drained: str | None
    """Why the server is drained, so that nothing starts; None where it is not."""
    experiments: list[Queued]


class Drain(ClientMessage, frozen=True):
    """Drain the server or GPUs, so that nothing new starts there, or undo it. Running jobs go on."""

    drained: bool
    reason: str = ""
    """The text that users of waiting experiments read."""
    gpus: list[int] = []
    """Indices of the GPUs to take out of use, or back into it; empty: the whole machine."""


class Drained(Message, frozen=True):
    """Answer to `Drain`: it is on disk, and stays in force when the daemon starts again."""

    drained: bool
    reason: str = ""
    gpus: list[int] = []


class Kill(ClientMessage, frozen=True):
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


class LogRequest(ClientMessage, frozen=True):
    """Ask for the states and output of an experiment, sub-experiment or job, as a stream of `Entry`."""

    id: str | None = None
    """None: the caller's last experiment of `project`."""
    project: str | None = None
    follow: bool = False
    """Continue until it has ended."""
    tail: int | None = None
    """Only this number of last lines of output."""
    since: datetime | None = None
    """Only states and output from this time on."""
    after: int = 0
    """To resume: the highest `seq` that was received."""
    offsets: dict[str, int] = {}
    """To resume: job and attempt (`144.2.train/1`) → its highest `end` that was received."""
    opening: bool = False
    """Begin with the states at submission and send every later one, as `riseml train` shows them."""
    raw: bool = False
    """Answer with the bytes of the log itself instead of entries; for one job only."""


class StateEntry(Message, frozen=True, tag="state", tag_field="type"):
    """An experiment or sub-experiment has been in this state since `time`."""

    id: str
    time: datetime
    state: State
    seq: int
    """A rising number, which a follower sends to resume. 0 for the first entries of a set."""
    reason: str | None = None
    message: str | None = None
    exit_code: int | None = None


class LineEntry(Message, frozen=True, tag="line", tag_field="type"):
    """A complete line of a job's output, without its line end."""

    job: str
    attempt: int
    time: datetime
    """When the daemon saw the line's first byte."""
    text: str
    """Bytes that are not UTF-8 are U+FFFD. `\\r` and escape sequences are unchanged."""
    end: int
    """Byte offset in the job's log after the line."""
    more: bool = False
    """Whether this is a piece of a line of more than 64 KiB, which goes on in the job's next `line`."""


class PartialEntry(Message, frozen=True, tag="partial", tag_field="type"):
    """The line that a job is writing, such as a progress bar. It is sent again as it grows, at last as a `line`."""

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
    """The first entry of every stream."""

    id: str
    """Canonical ID of the experiment, sub-experiment or job."""
    count: int
    """Number of sub-experiments of the experiment."""


class EndEntry(Message, frozen=True, tag="end", tag_field="type"):
    """The last entry of a complete stream. A stream that stops without it was cut."""

    state: State
    """The state now of the experiment, sub-experiment or job."""
    counts: dict[str, int]


Entry = HeadEntry | StateEntry | LineEntry | PartialEntry | ElidedEntry | EndEntry


class Amount(Message, frozen=True):
    """The amount of a resource that there is, and the part that is guaranteed to jobs now."""

    total: float
    used: float


class Gpu(Message, frozen=True):
    """One GPU. A value that the driver does not have, or a declared GPU has not, is None."""

    index: int
    uuid: str | None
    name: str | None
    memory: int | None
    driver: str | None
    serial: str | None
    bus_id: str | None
    used_by: str | None
    """ID of the sub-experiment that has it."""
    user: str | None = None
    """Whose that is."""
    out: str | None = None
    """Why it is not given to jobs: it fails, others use it, or an administrator has taken it out."""


class System(Message, frozen=True):
    """The machine, the part of it that jobs have, and the daemon's settings."""

    hostname: str
    version: str
    api_version: int
    pid: int
    runner: str
    """The daemon's setting: `auto`, `process` or `docker`."""
    isolation: str
    """How a job's processes are kept together: `cgroup` or `session`."""
    cpus: Amount
    memory: Amount
    gpus: list[Gpu]
    state_dir: str
    output_dir: str
    data_dir: str
    max_files: int
    """The most files that a project may have."""
    max_bytes: int
    """The most bytes that a project may have."""
    drained: str | None = None
    """Why the server is drained, so that nothing starts; None where it is not."""


class BoardRequest(ClientMessage, frozen=True):
    """Serve a TensorBoard over experiments or sub-experiments for as long as the request lasts."""

    ids: list[str] = []
    """Empty: the caller's last experiment of `project`."""
    project: str | None = None


class Board(Message, frozen=True):
    """A running TensorBoard, which only its user can reach; a second one says how it ended by itself."""

    url: str
    ended: str | None = None
    """Its exit code and the last line of its log, once it has ended."""


class Prune(ClientMessage, frozen=True):
    """Remove built images that no kept experiment uses."""


class Pruned(Message, frozen=True):
    """Answer to `Prune`."""

    images: list[str]
    """IDs of the removed images."""


class JobUse(Message, frozen=True):
    """Resource usage of a running sub-experiment."""

    id: str
    project: str
    state: State
    cpu_seconds: float
    """Processor time that its processes have used. Only the difference of two samples has a meaning."""
    memory: float
    """MiB now."""
    processes: int
    gpus: list[int]
    requested_cpus: float
    requested_memory: float
    """MiB."""


class GpuUse(Message, frozen=True):
    """Current figures of a GPU. A value that the driver does not have, or a declared GPU has not, is None."""

    index: int
    name: str | None
    util: int | None
    """Percent."""
    memory: int | None
    total: int | None
    """MiB of the GPU; `memory` is the part in use."""
    power: float | None
    """Watts."""
    temperature: int | None
    """Degrees Celsius."""
    bus_id: str | None


class Usage(Message, frozen=True):
    """Resource usage of running jobs."""

    time: float
    """Seconds of a clock that only goes forward, for the difference of two samples."""
    cpus: float
    memory: float
    """CPUs and MiB that there are for jobs together."""
    jobs: list[JobUse]
    gpus: list[GpuUse]


class Whoami(Message, frozen=True):
    """The caller, as the kernel reports it."""

    user: str
    uid: int
    host: str
