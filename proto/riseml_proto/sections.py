"""Readers for the sections of riseml.yml: each turns a value as written into its meaning.

A reader raises `ConfigError` for a mistake.
"""

import re
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

from riseml_proto import quantities
from riseml_proto.errors import ConfigError
from riseml_proto.grid import DecimalRange, Grid, decimal
from riseml_proto.objective import GOALS, Objective, is_lower_better
from riseml_proto.value import Value, shown
from riseml_proto.variables import DAEMONS, has_meaning, spelled, variable

_T = TypeVar("_T")

TRAIN_KEYS = (
    *("run", "parameters", "concurrency", "resources", "image", "install", "env"),
    *("limits", "time_limit", "retries", "framework", "tensorflow", "tensorboard"),
    *("shell", "stop_signal", "kill_grace", "objective"),
)
STOP_SIGNALS = ("SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2")
"""The signals by which a job can be asked to end."""
RESOURCE_KEYS = ("cpus", "gpus", "mem", "shm_size")
_LIMIT_KEYS = ("cpus", "mem")
_TENSORFLOW_KEYS = ("version", "tensorboard", "distributed", "horovod")
_PROCESS_TYPES = ("master", "worker", "ps")

_PROJECT = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}")  # it becomes a directory
_IMAGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@+-]{0,499}")
_PARAMETER = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,99}")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,99}")
_LONGEST_RESULT = 200  # characters, as the daemon keeps of a name
_CONTROL = re.compile("[\0-\x08\x0b-\x1f\x7f-\x9f]")


def required(value: Value, key: str, remedy: str) -> Value:
    """Member `key` of the map `value`. Raises `ConfigError` with the `remedy` where it is missing."""
    if (member := value.entries().get(key)) is None:
        path = f"{value.path}.{key}" if value.path else key
        raise ConfigError(f"is missing; {remedy}", file=value.file, line=value.line, path=path)
    return member


def read(section: Mapping[str, Value], key: str, quantity: Callable[[str], _T], default: _T) -> _T:
    """The amount of member `key`, read by `quantity`; `default` where it is missing."""
    return amount(section[key], quantity) if key in section else default


def amount(value: Value, quantity: Callable[[str], _T]) -> _T:
    """The value's amount, read by `quantity`. A `ValueError` of that becomes a `ConfigError`."""
    text = value.text()
    try:
        return quantity(text)
    except ValueError as error:
        raise value.error(f"{error}, not {shown(text)}") from None


def project(value: Value) -> str:
    """The project's name, which becomes the name of a directory."""
    rule = (
        "must be letters, digits, '.', '_' and '-', at most 100 and not beginning with '.' or '-'"
    )
    return _matching(value, _PROJECT, rule)


def grid(value: Value) -> Grid:
    """`parameters`: each a list of values or a range."""
    values: dict[str, Sequence[str]] = {}
    names: dict[str, str] = {}
    for name, written in value.entries().items():
        if not _PARAMETER.fullmatch(name):
            rule = "is letters, digits, '_', '-' and '.' and begins with a letter or '_'"
            raise written.error(f"a parameter's name {rule}")
        own = variable(name)
        if own in names:
            raise written.error(
                f"would be the variable {own}, as {names[own]} is; rename one of them"
            )
        names[own] = name
        values[name] = _values(written)
    return _valid(value, lambda: Grid(values))


def repeated(train: Mapping[str, Value]) -> Iterator[ConfigError]:
    """A warning for each list in `parameters` that holds a value twice."""
    for written in train["parameters"].entries().values() if "parameters" in train else ():
        seen = set()
        for item in written.content if isinstance(written.content, list) else ():
            if item.text() in seen:
                text = f"lists {shown(item.text())} twice, and every combination with it runs twice"
                yield replace(item, path=written.path).error(f"{text}; remove one")
                break
            seen.add(item.text())


def renamed(parameters: Value) -> dict[str, int]:
    """Name → line of each parameter whose variable has another name, since programs act upon its own."""
    return {
        name: written.line
        for name, written in parameters.entries().items()
        if has_meaning(spelled(name))
    }


def env(value: Value, parameters: Sequence[str]) -> dict[str, str]:
    """`env`: name → text; no name may be the variable of one of the `parameters`."""
    taken = {variable(name): name for name in parameters}
    variables = {}
    for name, written in value.entries().items():
        if not _VARIABLE.fullmatch(name):
            raise written.error(
                "a variable's name is letters, digits and '_' and begins with no digit"
            )
        if name in DAEMONS:
            raise written.error("is set for each job by rised; remove it")
        if name in taken:
            raise written.error(
                f"is already the variable of the parameter {taken[name]}; remove one"
            )
        variables[name] = written.text()
    return variables


def stop_signal(text: str) -> str:
    """The name of a signal, with or without `SIG`."""
    name = text if text.startswith("SIG") else f"SIG{text}"
    if name not in STOP_SIGNALS:
        raise ValueError(f"must be one of {', '.join(STOP_SIGNALS)}")
    return name


def shell(text: str) -> tuple[str, ...]:
    """The words of the command that runs a text: a shell, and its options up to `-c`."""
    try:
        words = tuple(shlex.split(text))
    except ValueError:
        words = ()
    if not words:
        raise ValueError("must be a shell, such as bash, or one with its options, such as bash -u")
    return words


def objective(value: Value) -> Objective:
    """The result to go by, and whether it is to be low or high; its name alone where that says which."""
    if isinstance(value.content, dict):
        fields = value.fields(("result", "goal"))
        named = required(value, "result", "it is the result to go by, such as result: accuracy")
        goal = read(fields, "goal", _goal, None)
    else:
        named, goal = value, None
    name = named.text()
    if not 0 < len(name) <= _LONGEST_RESULT or _CONTROL.search(name):
        raise named.error(f"must be a result's name, such as accuracy, not {shown(name)}")
    lowest = is_lower_better(name) if goal is None else goal == "min"
    if lowest is None:
        text = f"the name {shown(name)} does not say which is better, low or high"
        raise value.error(f"{text}; write {{result: {shown(name)}, goal: min}}, or max")
    return Objective(name, lowest)


def image(train: Mapping[str, Value]) -> tuple[str | None, tuple[str, ...]]:
    """The image's name, and the commands of `install`, which stands in `train` or in `image`."""
    written, install = train.get("image"), train.get("install")
    name = written
    if written is not None and isinstance(written.content, dict):
        fields = written.fields(("name", "install"))
        name = required(written, "name", "it is the image, such as name: python:3.11")
        if install is not None and "install" in fields:
            raise fields["install"].error("is there twice, also as train.install; remove one")
        install = fields.get("install", install)
    steps = install.items("commands") if install is not None else []
    rule = "must be an image's name, such as python:3.11"
    return _matching(name, _IMAGE, rule) if name else None, tuple(_command(step) for step in steps)


def tensorboard(train: Mapping[str, Value]) -> bool:
    """Whether a TensorBoard is wanted. Also checks `framework` and `tensorflow`."""
    wanted = read(train, "tensorboard", _boolean, False)
    framework = read(train, "framework", _framework, "")
    if "tensorflow" not in train:
        return wanted
    if not framework:
        raise train["tensorflow"].error("needs framework: tensorflow beside it")
    fields = train["tensorflow"].fields(_TENSORFLOW_KEYS)
    if "version" in fields:
        fields["version"].text()
    if "distributed" in fields:
        for processes in fields["distributed"].fields(_PROCESS_TYPES).values():
            _processes(processes)
    if "horovod" in fields:
        _horovod(fields["horovod"])
    return read(fields, "tensorboard", _boolean, False) or wanted


def resources(section: Mapping[str, Value]) -> tuple[float, int, int, int]:
    """`resources`: CPUs, MiB of memory, GPUs, and MiB of /dev/shm; 0 for what is not there."""
    fields = section["resources"].fields(RESOURCE_KEYS) if "resources" in section else {}
    return (
        read(fields, "cpus", quantities.cpus, 0.0),
        read(fields, "mem", quantities.memory, 0),
        read(fields, "gpus", quantities.whole, 0),
        read(fields, "shm_size", quantities.memory, 0),
    )


def limits(train: Mapping[str, Value], cpus: float, mem: int) -> tuple[float, int]:
    """`limits`: CPUs and MiB that a job may use at most, 0 for any. `true` means its guaranteed amounts."""
    if (value := train.get("limits")) is None:
        return 0.0, 0
    if not isinstance(value.content, dict):
        if not amount(value, _boolean):
            return 0.0, 0
        if not (cpus or mem):
            raise value.error("needs cpus or mem in train.resources, which are to be the limits")
        return cpus, mem
    fields = value.fields(_LIMIT_KEYS)
    most_cpus = read(fields, "cpus", quantities.cpus, 0.0)
    most_mem = read(fields, "mem", quantities.memory, 0)
    for name, most, least in (("cpus", most_cpus, cpus), ("mem", most_mem, mem)):
        if name in fields and most < max(least, 1e-9):
            raise fields[name].error(
                f"must be at least what train.resources.{name} guarantees, {least:g}"
                if least
                else "must be more than 0"
            )
    return most_cpus, most_mem


def commands(value: Value) -> list[Value]:
    """`run` as a list of commands, none of them empty."""
    items = value.items("commands") if isinstance(value.content, list) else [value]
    for command in items:
        _command(command)
    return items


def _goal(text: str) -> str:
    if text not in GOALS:
        raise ValueError("must be min or max")
    return text


def _values(written: Value) -> Sequence[str]:
    if isinstance(written.content, dict):
        return _range(written.fields(("range",))["range"])
    if isinstance(written.content, str) and not written.absent:
        raise written.error(
            f"must be a list of values or a range; write [{shown(written.content)}]"
        )
    return tuple(_value(item) for item in written.items("values or a range"))


def _value(item: Value) -> str:
    text = item.text()
    if bad := _CONTROL.search(text):
        raise item.error(f"holds the control character {bad[0]!r}; a value is plain text")
    return text


def _range(written: Value) -> DecimalRange:
    fields = written.fields(("min", "max", "step"))
    for name in ("min", "max", "step"):
        amount(required(written, name, "a range has min, max and step"), decimal)
    texts = (fields[name].text() for name in ("min", "max", "step"))
    return _valid(written, lambda: DecimalRange(*texts))


def _processes(written: Value) -> None:
    if not isinstance(written.content, dict):
        amount(written, quantities.whole)
        return
    fields = written.fields(("count", "resources"))
    amount(required(written, "count", "say how many"), quantities.whole)
    resources(fields)


def _horovod(written: Value) -> None:
    """Check `horovod`, which nothing acts on: a single value, or a map of single values."""
    if not isinstance(written.content, dict):
        written.text()
        return
    for name, value in written.entries().items():
        if not _PARAMETER.fullmatch(name):
            raise value.error("unknown key; remove it")
        _ = resources({name: value}) if name == "resources" else value.text()


def _command(written: Value) -> str:
    text = written.text()
    if not text.strip():
        raise written.error("is an empty command; write what to run")
    return text


def _matching(value: Value, pattern: re.Pattern[str], rule: str) -> str:
    text = value.text()
    if not pattern.fullmatch(text):
        raise value.error(f"{rule}, not {shown(text)}")
    return text


def _valid(value: Value, make: Callable[[], _T]) -> _T:
    try:
        return make()
    except ValueError as error:
        raise value.error(str(error)) from None


def _boolean(text: str) -> bool:
    if text not in ("true", "false"):
        raise ValueError("must be true or false")
    return text == "true"


def _framework(text: str) -> str:
    if text != "tensorflow":
        raise ValueError("must be tensorflow, the only framework with sections of its own")
    return text
