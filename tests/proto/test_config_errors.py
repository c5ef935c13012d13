import pytest
from hypothesis import given
from hypothesis import strategies as st

from riseml_proto.config import parse_config
from riseml_proto.errors import ConfigError

HEAD = "project: p\ntrain:\n  run: x\n"


def problem(text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        parse_config(text)
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "riseml.yml:1: is empty; riseml init writes a first one"),
        ("# nothing\n", "riseml.yml:1: is empty; riseml init writes a first one"),
        (
            "- a\n",
            "riseml.yml:1: must begin with project: and train:; riseml init writes a first one",
        ),
        ("project: p\n", "riseml.yml:1: train: is missing; say under it what to run"),
        ("train: {run: x}", "riseml.yml:1: project: is missing; name it, such as project: toaster"),
        (
            "project: p\ntrain: {gpu: 1}",
            "riseml.yml:2: train.gpu: unknown key; known here: run, parameters, "
            "concurrency, resources, image, install, env, limits, time_limit, retries, framework, "
            "tensorflow, tensorboard, shell, stop_signal, kill_grace, objective",
        ),
        (
            "project: p\ntrain: {env: {A: 1}}",
            "riseml.yml:2: train.run: is missing; it is the command, such as run: python train.py",
        ),
        ("project: p\ntrain:\n", "riseml.yml:2: train: must be a map (name: value), not nothing"),
        ("projekt: p\n", "riseml.yml:1: projekt: unknown key; did you mean project?"),
        (
            "project: ../p\ntrain: {run: x}",
            "riseml.yml:1: project: must be letters, digits, '.', '_' and '-', at most 100 "
            "and not beginning with '.' or '-', not ../p",
        ),
        (
            "project: p\ntrain: {run: []}",
            "riseml.yml:2: train.run: is an empty list; write at least one value",
        ),
        (
            "project: p\ntrain: {run: ' '}",
            "riseml.yml:2: train.run: is an empty command; write what to run",
        ),
        (
            "project: p\ntrain:\n  run: x: y",
            "riseml.yml:3: a second colon, or wrong indentation; put quotes around a value "
            "that holds ': '",
        ),
        ("project: p\ntrain:\n\trun: x", "riseml.yml:3: is indented with a tab; YAML wants blanks"),
        (
            "project: p\ntrain:\n  run: @x",
            "riseml.yml:3: a value that starts with {{, @, ` or % needs quotes around it",
        ),
        (
            "project: p\ntrain:\n  run: {{cmd}}",
            "riseml.yml:3: train.run: a key must be a text; a value that starts with { or ["
            " needs quotes",
        ),
        (
            "project: p\n---\ntrain: {run: x}",
            "riseml.yml:2: holds a second document; keep one, without a line ---",
        ),
        (
            "project: a\x00b",
            "riseml.yml:1: holds the character '\\x00', which YAML forbids; remove it",
        ),
        (
            'project: p\ntrain: {run: "a\\0b"}',
            "riseml.yml:2: train.run: holds a character that no command can be given (NUL "
            "or half a character)",
        ),
        ("project: !!str p", "riseml.yml:1: tags such as !!str have no meaning here; remove it"),
        ("project: *p", "riseml.yml:1: no value above is called &p; write it out"),
    ],
)
def test_a_wrong_file_is_one_error_with_place_and_remedy(text: str, message: str) -> None:
    assert problem(text) == message


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ("resources: {gpus: -1}", "resources.gpus: must be 0 or more, not -1"),
        ("resources: {gpus: 1.5}", "resources.gpus: must be a whole number, not 1.5"),
        ("resources: {gpus: [1]}", "resources.gpus: must be a single value, not a list"),
        (
            "stop_signal: SIGKILL",
            "stop_signal: must be one of SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2, not SIGKILL",
        ),
        (
            "kill_grace: soon",
            "kill_grace: must be a time, more than 0, such as 2h, 30m, 1h30m or 90 (seconds), not soon",
        ),
        (
            "kill_grace: -1",
            "kill_grace: must be a time, more than 0, such as 2h, 30m, 1h30m or 90 (seconds), not -1",
        ),
        (
            "shell: ''",
            "shell: must be a shell, such as bash, or one with its options, such as bash -u, not ''",
        ),
        (
            "shell: bash '",
            "shell: must be a shell, such as bash, or one with its options, such as bash -u, not bash '",
        ),
        ("shell: [bash]", "shell: must be a single value, not a list"),
        (
            "limits: true",
            "limits: needs cpus or mem in train.resources, which are to be the limits",
        ),
        (
            "limits: {mem: 1GiB}\n  resources: {mem: 2GiB}",
            "limits.mem: must be at least what train.resources.mem guarantees, 2048",
        ),
        ("limits: {cpus: 0}", "limits.cpus: must be more than 0"),
        ("limits: {gpus: 1}", "limits.gpus: unknown key; did you mean cpus?"),
        ("resources: {gpu: 1}", "resources.gpu: unknown key; did you mean gpus?"),
        ("resources: 3", "resources: must be a map (name: value), not 3"),
        (
            "resources: {mem: 16GB}",
            "resources.mem: must be a number of MiB, such as 4096, or have a unit, such as "
            "16GiB, not 16GB",
        ),
        (
            "resources: {cpus: all}",
            "resources.cpus: must be a number, 0 or more, such as 2 or 0.5, not all",
        ),
        ("concurrency: 0", "concurrency: must be 1 or more, not 0"),
        ("concurrency: 010", "concurrency: must be a whole number, not 010"),
        ("concurrency:", "concurrency: has no value; write one, or '' for an empty text"),
        ("retries: -1", "retries: must be 0 or more, not -1"),
        (
            "time_limit: 0s",
            "time_limit: must be a time, more than 0, such as 2h, 30m, 1h30m or 90 "
            "(seconds), not 0s",
        ),
        ("parameters: {}", "parameters: is empty; fill it or remove it"),
        ("parameters: {lr: []}", "parameters.lr: is an empty list; write at least one value"),
        (
            "parameters: {lr: 0.1}",
            "parameters.lr: must be a list of values or a range; write [0.1]",
        ),
        ("parameters: {lr: [1, [2]]}", "parameters.lr: must be a single value, not a list"),
        (
            'parameters: {lr: ["\\e[1m"]}',
            "parameters.lr: holds the control character '\\x1b'; a value is plain text",
        ),
        (
            "parameters: {a-b: [1], a_b: [1]}",
            "parameters.a_b: would be the variable A_B, as a-b is; rename one of them",
        ),
        (
            "parameters: {1st: [1]}",
            "parameters.1st: a parameter's name is letters, digits, '_', '-' and '.' and "
            "begins with a letter or '_'",
        ),
        (
            "parameters: {lr: {range: {min: 1, max: 2}}}",
            "parameters.lr.range.step: is missing; a range has min, max and step",
        ),
        (
            "parameters: {lr: {range: {min: 1, max: 2, step: x}}}",
            "parameters.lr.range.step: must be a number, such as 0.1 or 1e-3, not x",
        ),
        (
            "parameters: {lr: {range: {min: 1, max: 2, step: -1}}}",
            "parameters.lr.range: step must be more than 0, not -1",
        ),
        (
            "parameters: {a: &a {range: {min: 1, max: 1e6, step: 1}}, b: *a}",
            "parameters: makes 1,000,000,000,000 combinations; at most 1,000,000,000 are possible",
        ),
        (
            "env: {a-b: 1}",
            "env.a-b: a variable's name is letters, digits and '_' and begins with no digit",
        ),
        (
            "env: {CUDA_VISIBLE_DEVICES: 1}",
            "env.CUDA_VISIBLE_DEVICES: is set for each job by rised; remove it",
        ),
        (
            "{env: {LR: 1}, parameters: {lr: [1]}, run: x}",
            "env.LR: is already the variable of the parameter lr; remove one",
        ),
        (
            "image: {install: [x]}",
            "image.name: is missing; it is the image, such as name: python:3.11",
        ),
        ("image: a b", "image: must be an image's name, such as python:3.11, not a b"),
        (
            "{image: {name: a, install: [x]}, install: [y], run: x}",
            "image.install: is there twice, also as train.install; remove one",
        ),
        (
            "framework: torch",
            "framework: must be tensorflow, the only framework with sections of its own, not torch",
        ),
        ("tensorflow: {version: 1}", "tensorflow: needs framework: tensorflow beside it"),
        ("tensorboard: yes", "tensorboard: must be true or false, not yes"),
    ],
)
def test_a_wrong_section_is_one_error_with_place_and_remedy(section: str, message: str) -> None:
    if section.startswith("{"):
        assert problem(f"project: p\n\n\ntrain: {section}\n") == f"riseml.yml:4: train.{message}"
    else:
        assert problem(f"{HEAD}  {section}\n") == f"riseml.yml:4: train.{message}"


def test_a_duplicate_key_is_an_error_that_names_both_lines() -> None:
    assert problem(f"{HEAD}  resources:\n    gpus: 1\n    gpus: 2\n") == (
        "riseml.yml:6: train.resources.gpus: is there twice, first in line 5; remove one"
    )


def test_errors_call_the_file_by_its_name() -> None:
    with pytest.raises(ConfigError, match=r"^big\.yml:1: is empty"):
        parse_config("", "big.yml")


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        "- " * 100_000,
        "a: &a [*a]",
        "x" * 2_000_000,
        f"{HEAD}  parameters: {{a: [{'1,' * 200_000}]}}",
        f"a: &a [{'x,' * 1000}]\nb: &b [{'*a,' * 1000}]\nc: [{'*b,' * 1000}]",
        "a: &k0 1\n" + "".join(f"b{i}: &k{i} [[[[*k{i - 1}]]]]\n" for i in range(1, 5000)),
    ],
    ids=["deep", "deep block", "recursive", "long", "wide", "alias bomb", "alias ladder"],
)
def test_a_hostile_file_is_one_short_error(text: str) -> None:
    message = problem(text)
    assert "\n" not in message
    assert len(message) < 200


def outcome(text: str) -> str | None:
    """The error that `text` is, None if it is a good riseml.yml."""
    try:
        parse_config(text)
    except ConfigError as error:
        return str(error)
    return None


@given(st.text() | st.text("{}[]:-&*!|>'\"%@`#?,\\ \n\tab01~<=.", max_size=60))
def test_no_text_meets_anything_but_a_config_or_one_line_of_error(text: str) -> None:
    for whole in (
        text,
        HEAD + "  parameters:\n    a:\n" + text,
        "project: p\ntrain:\n  run: " + text,
    ):
        message = outcome(whole)
        assert message is None or (message.startswith("riseml.yml") and message.isprintable())
