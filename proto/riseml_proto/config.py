"""riseml.yml: the keys that it may have, and what they mean.

A mistake is one `ConfigError` that names file, line, path and remedy. The text that a person wrote is kept beside its
meaning, so that it can be written back.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from functools import partial

import msgspec

from riseml_proto import placeholders, quantities, sections
from riseml_proto.errors import ConfigError
from riseml_proto.folding import fold
from riseml_proto.objective import Objective
from riseml_proto.parameters import NoParameters, ParameterSource
from riseml_proto.value import Data, Value
from riseml_proto.variables import spelled, variable
from riseml_proto.yamltext import compose, lines

_REPEATED = (
    *("resources", "limits", "env", "time_limit", "retries"),
    *("framework", "tensorflow", "tensorboard"),
    *("shell", "stop_signal", "kill_grace"),
)
_LISTED = 10


class Written(msgspec.Struct, frozen=True):
    """A text of riseml.yml and its style: `>`, `|`, a quote, or empty for a plain one."""

    text: str
    style: str


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """A valid riseml.yml."""

    file: str
    """The file's name in messages."""
    project: str
    run: tuple[str, ...]
    """The commands that run one after the other, with their placeholders."""
    run_written: tuple[Written, ...]
    """The commands before folding."""
    run_is_list: bool
    image: str | None
    install: tuple[str, ...]
    parameters: ParameterSource
    concurrency: int
    cpus: float
    mem: int
    """MiB."""
    gpus: int
    shm: int
    """MiB of /dev/shm in a container; 0 for the engine's default."""
    cpus_limit: float
    mem_limit: int
    """CPUs and MiB that a container may use at most; 0 for no limit."""
    env: dict[str, str]
    time_limit: float | None
    """Seconds."""
    retries: int
    shell: tuple[str, ...]
    """The words of the shell that runs `run`; empty for the usual one."""
    stop_signal: str
    """Name of the signal by which a job is asked to end: `SIGTERM`."""
    kill_grace: float | None
    """Seconds from that signal to SIGKILL; None for the daemon's."""
    objective: Objective | None
    """What its sub-experiments are compared by, if that is written."""
    framework: str | None
    tensorboard: bool
    written: dict[str, Data]
    """The sections, as texts, that riseml-configuration.yml repeats as they were written."""
    placeholder_lines: dict[str, int]
    """Name of each placeholder in `run` → the first line that has it."""
    renamed_lines: dict[str, int]
    """Name of each parameter whose variable is not called as it is → its line."""
    notes: list[str]
    """Warnings about values that are listed twice, and about keys that have no effect."""

    @property
    def count(self) -> int:
        """Number of sub-experiments; 0 for an experiment without parameters."""
        return self.parameters.count

    def grace(self, default: float) -> float:
        """Seconds from the stop signal to SIGKILL; `default` is the daemon's."""
        return default if self.kill_grace is None else self.kill_grace


def parse_config(text: str, file: str = "riseml.yml") -> Config:
    """Read and check a riseml.yml, which errors call `file`. Raises `ConfigError`."""
    root = compose(text, file)
    if not isinstance(root.content, dict):
        raise root.error("must begin with project: and train:; riseml init writes a first one")
    root.fields(("project", "train"))
    project = sections.project(
        sections.required(root, "project", "name it, such as project: toaster")
    )
    train = sections.required(root, "train", "say under it what to run")
    written = train.fields(sections.TRAIN_KEYS)
    run = sections.required(train, "run", "it is the command, such as run: python train.py")
    run_written = tuple(Written(item.text(), item.style) for item in sections.commands(run))
    commands = tuple(fold(item.text) if item.style == ">" else item.text for item in run_written)
    parameters: ParameterSource = NoParameters()
    if "parameters" in written:
        parameters = sections.grid(written["parameters"])
    cpus, mem, gpus, shm = sections.resources(written)
    cpus_limit, mem_limit = sections.limits(written, cpus, mem)
    image, install = sections.image(written)
    return Config(
        file=file,
        project=project,
        run=commands,
        run_written=run_written,
        run_is_list=isinstance(run.content, list),
        image=image,
        install=install,
        parameters=parameters,
        concurrency=sections.read(written, "concurrency", partial(quantities.whole, least=1), 1),
        cpus=cpus,
        mem=mem,
        gpus=gpus,
        shm=shm,
        cpus_limit=cpus_limit,
        mem_limit=mem_limit,
        env=sections.env(written["env"], parameters.names) if "env" in written else {},
        time_limit=sections.read(written, "time_limit", quantities.duration, None),
        shell=sections.read(written, "shell", sections.shell, ()),
        stop_signal=sections.read(written, "stop_signal", sections.stop_signal, "SIGTERM"),
        kill_grace=sections.read(written, "kill_grace", quantities.duration, None),
        objective=sections.objective(written["objective"]) if "objective" in written else None,
        retries=sections.read(written, "retries", quantities.whole, 0),
        tensorboard=sections.tensorboard(written),
        framework=written["framework"].text() if "framework" in written else None,
        written={key: written[key].data() for key in _REPEATED if key in written},
        placeholder_lines=_placeholder_lines(commands, lines(text), run.line),
        renamed_lines=sections.renamed(written["parameters"]) if "parameters" in written else {},
        notes=[str(error) for error in (*sections.repeated(written), *_without_effect(written))],
    )


def check_placeholders(config: Config) -> list[ConfigError]:
    """One error for each placeholder in `run` that no parameter defines."""
    known = config.parameters.names
    return [
        ConfigError(
            f"{{{{{name}}}}} is not a parameter and stays as it is ({_hint(name, known)})",
            file=config.file,
            line=line,
        )
        for name, line in config.placeholder_lines.items()
        if name not in known
    ]


def check_variables(config: Config) -> list[ConfigError]:
    """One error for each parameter that is not set as the variable of its name, since programs act upon that."""
    return [
        ConfigError(
            f"is set as {variable(name)}, not as {spelled(name)}, which programs act upon; "
            f"env: {{{spelled(name)}: …}} sets that",
            file=config.file,
            line=line,
            path=f"train.parameters.{name}",
        )
        for name, line in config.renamed_lines.items()
    ]


def doubts(config: Config) -> list[ConfigError]:
    """What is probably not meant so: raised with `--strict`, otherwise shown as warnings."""
    return [*check_placeholders(config), *check_variables(config)]


def warnings(config: Config) -> list[str]:
    """Warnings about a valid riseml.yml, a line each."""
    return [*map(str, doubts(config)), *config.notes]


def _placeholder_lines(commands: Sequence[str], source: list[str], first: int) -> dict[str, int]:
    """The first line, from `first` on, where each placeholder of the commands stands."""
    numbers = {name: first for command in commands for name in placeholders.names(command)}
    for number in range(len(source), first - 1, -1):
        for name in placeholders.names(source[number - 1]):
            if name in numbers:
                numbers[name] = number
    return numbers


def _without_effect(train: Mapping[str, Value]) -> Iterator[ConfigError]:
    fields = train["tensorflow"].entries() if "tensorflow" in train else {}
    ignored = [fields[key] for key in ("distributed", "horovod") if key in fields]
    if "install" in train and "image" not in train:
        ignored.append(train["install"])
    for value in sorted(ignored, key=lambda value: value.line):
        if value is train.get("install"):
            yield value.error("installs nothing: there is no image to install it in")
        else:
            yield value.error(
                "is accepted, but this version does not act on it: it starts one process"
            )


def _hint(name: str, known: Sequence[str]) -> str:
    if not known:
        return "there are no parameters"
    meant = [other for other in known if _initials(name) == other or _initials(other) == name]
    meant += get_close_matches(name, known, n=1)
    if meant:
        return f"did you mean {{{{{meant[0]}}}}}?"
    more = ", …" if len(known) > _LISTED else ""
    return f"the parameters are {', '.join(known[:_LISTED])}{more}"


def _initials(name: str) -> str:
    """`learning-rate` → `lr`."""
    return "".join(word[:1] for word in re.split(r"[-_.]", name))
