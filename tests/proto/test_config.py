import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from riseml_proto import placeholders
from riseml_proto.config import Config, check_placeholders, doubts, parse_config, warnings
from riseml_proto.errors import ConfigError
from riseml_proto.grid import DecimalRange, Grid
from riseml_proto.sections import TRAIN_KEYS

SEED = """\
project: ai-toaster
train:
  resources:
    cpus: 2
    mem: 4096
    gpus: 2
  parameters:
    lr:
      - 0.0001
      - 0.001
    lr-decay:
      - 1e-6
      - 1e-7
    epochs:
      - 20
      - 30
  concurrency: 2
  image:
    name: nvidia/cuda:8.0-cudnn7-runtime
  run: >-
    python train_model.py --num-layers {{num-layers}}
                          --learning-rate {{learning-rate}}
                          --training-data /data/ai-toaster
"""
HEAD = "project: p\ntrain:\n  run: x\n"


def train(sections: str) -> Config:
    """A riseml.yml whose fourth line begins `sections`."""
    return parse_config(HEAD + sections)


def values(config: Config, name: str) -> list[str]:
    assert isinstance(config.parameters, Grid)
    return list(config.parameters.values[config.parameters.names.index(name)])


def test_the_seeds_file_means_what_the_seed_says() -> None:
    config = parse_config(SEED)
    assert (config.project, config.image) == ("ai-toaster", "nvidia/cuda:8.0-cudnn7-runtime")
    assert (config.cpus, config.mem, config.gpus, config.concurrency) == (2, 4096, 2, 2)
    rows = [
        ", ".join(f"{k}={v}" for k, v in config.parameters.params(n).items()) for n in range(1, 9)
    ]
    assert config.count == 8
    assert rows == [
        "epochs=20, lr=0.0001, lr-decay=1e-6",
        "epochs=20, lr=0.0001, lr-decay=1e-7",
        "epochs=20, lr=0.001, lr-decay=1e-6",
        "epochs=20, lr=0.001, lr-decay=1e-7",
        "epochs=30, lr=0.0001, lr-decay=1e-6",
        "epochs=30, lr=0.0001, lr-decay=1e-7",
        "epochs=30, lr=0.001, lr-decay=1e-6",
        "epochs=30, lr=0.001, lr-decay=1e-7",
    ]


def test_the_seeds_command_is_one_command() -> None:
    assert parse_config(SEED).run == (
        "python train_model.py --num-layers {{num-layers}} --learning-rate {{learning-rate}} "
        "--training-data /data/ai-toaster",
    )


def test_what_is_left_out_has_its_default() -> None:
    config = parse_config(HEAD)
    assert (config.cpus, config.mem, config.gpus) == (0, 0, 0)
    assert (config.concurrency, config.retries, config.time_limit) == (1, 0, None)
    assert (config.parameters.names, config.count) == ((), 0)
    assert (config.image, config.framework) == (None, None)
    assert (config.env, config.install, config.written) == ({}, (), {})
    assert not config.tensorboard


# -- values stay as they were written ------------------------------------------------------------


def test_a_value_is_passed_exactly_as_it_was_written() -> None:
    written = [
        "0.0001",
        "1e-6",
        "1.0",
        "007",
        "true",
        "~",
        "null",
        "0x1F",
        "1_000",
        "12:30:45",
        "1e3",
    ]
    config = train("  parameters:\n    v:\n" + "".join(f"      - {text}\n" for text in written))
    assert values(config, "v") == written


def test_a_value_in_quotes_is_what_stands_between_them() -> None:
    config = train("""  parameters: {v: ['', " a ", '1.0', "x\\ty", 'it''s', "{{w}}"]}""")
    assert values(config, "v") == ["", " a ", "1.0", "x\ty", "it's", "{{w}}"]


@given(st.lists(st.floats().map(repr) | st.integers().map(str), min_size=1))
def test_any_number_keeps_its_text(numbers: list[str]) -> None:
    assert values(train(f"  parameters: {{v: [{', '.join(numbers)}]}}"), "v") == numbers


@given(st.lists(st.text(st.characters(exclude_categories=["Cs", "Cc"])), min_size=1))
def test_any_quoted_text_keeps_its_characters(texts: list[str]) -> None:
    allowed = [text for text in texts if text.isprintable()] or ["x"]
    quoted = ", ".join("'" + text.replace("'", "''") + "'" for text in allowed)
    assert values(train(f"  parameters: {{v: [{quoted}]}}"), "v") == allowed


def test_a_range_is_never_listed() -> None:
    config = train("  parameters: {v: {range: {min: 1, max: 1000000000, step: 1}}}")
    assert isinstance(config.parameters, Grid)
    assert isinstance(config.parameters.values[0], DecimalRange)
    assert config.parameters.params(config.count) == {"v": "1000000000"}


def test_env_is_text() -> None:
    assert train("  env:\n    A: 1.0\n    B: ''\n    PATH: /x:$PATH\n").env == {
        "A": "1.0",
        "B": "",
        "PATH": "/x:$PATH",
    }


@pytest.mark.parametrize("text", [SEED.replace("\n", "\r\n"), "\ufeff" + SEED, SEED + "\n...\n"])
def test_line_ends_and_a_byte_order_mark_change_nothing(text: str) -> None:
    assert parse_config(text) == parse_config(SEED)


def test_an_alias_stands_for_what_it_names() -> None:
    config = train("  parameters:\n    a: &both [1, 2]\n    b: *both\n")
    assert values(config, "a") == values(config, "b") == ["1", "2"]


# -- commands ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("run", "commands"),
    [
        ("python x.py", ("python x.py",)),
        ("'a: b'", ("a: b",)),
        ("[a, b]", ("a", "b")),
        ("\n  - a\n  - >-\n    b\n      --c\n", ("a", "b --c")),
        ("|\n    a\n      b\n", ("a\n  b\n",)),
        (">-\n    a\n    b\n", ("a b",)),
        (">-\n    a\n      b\n    c\n", ("a b c",)),
        (">\n    a\n\n    b\n", ("a\nb",)),
        (">-\n    a\n\n      b\n", ("a\nb",)),
        (">-\n    a \\\n      b\n", ("a \\\nb",)),
    ],
)
def test_run_is_one_command_or_a_list(run: str, commands: tuple[str, ...]) -> None:
    assert parse_config(f"project: p\ntrain:\n  run: {run}\n").run == commands


# -- amounts -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mem", "mebibytes"),
    [("4096", 4096), ("512MiB", 512), ("16GiB", 16384), ("1TiB", 1048576), ("2G", 2048),
     ("1.5Gi", 1536), ("0.1 GiB", 103), ("0", 0)],
)  # fmt: skip
def test_memory_counts_mebibytes_or_has_a_unit(mem: str, mebibytes: int) -> None:
    assert train(f"  resources: {{mem: {mem}}}").mem == mebibytes


@pytest.mark.parametrize(
    ("limit", "seconds"),
    [("90", 90), ("1.5", 1.5), ("1h30", 5400), ("1m30", 90), ("1d12", 129600),
     ("2h", 7200), ("30m", 1800), ("1h30m", 5400), ("1d", 86400), ("45s", 45),
     ("0.5", 0.5), ("1d1s", 86401)],
)  # fmt: skip
def test_a_time_limit_is_seconds_or_has_units(limit: str, seconds: float) -> None:
    assert train(f"  time_limit: {limit}").time_limit == seconds


def test_cpus_may_be_a_fraction() -> None:
    assert train("  resources: {cpus: 0.5}").cpus == 0.5


# -- images and frameworks -----------------------------------------------------------------------


def test_an_image_is_a_name_or_a_map_and_install_stands_in_either_place() -> None:
    assert train("  image: python:3.11").image == "python:3.11"
    for text in ("  image: {name: a, install: [x, y]}", "  image: a\n  install: [x, y]"):
        config = train(text)
        assert (config.image, config.install) == ("a", ("x", "y"))


def test_tensorboard_has_a_long_and_a_short_form() -> None:
    long = "  framework: tensorflow\n  tensorflow: {tensorboard: true, distributed: {ps: 2}}"
    assert train(long).tensorboard
    assert train("  tensorboard: true").tensorboard
    assert not train("  tensorboard: false").tensorboard
    assert train(long).written["tensorflow"] == {"tensorboard": "true", "distributed": {"ps": "2"}}


# -- placeholders and warnings -------------------------------------------------------------------


def test_a_placeholder_without_a_parameter_is_named_with_its_line_and_the_nearest_one() -> None:
    assert warnings(parse_config(SEED)) == [
        "riseml.yml:21: {{num-layers}} is not a parameter and stays as it is "
        "(the parameters are epochs, lr, lr-decay)",
        "riseml.yml:22: {{learning-rate}} is not a parameter and stays as it is "
        "(did you mean {{lr}}?)",
    ]


def test_a_misspelt_placeholder_is_told_the_spelling() -> None:
    config = parse_config("project: p\ntrain:\n  parameters: {epochs: [1]}\n  run: x {{ epoch }}\n")
    assert [str(error) for error in check_placeholders(config)] == [
        "riseml.yml:4: {{epoch}} is not a parameter and stays as it is (did you mean {{epochs}}?)"
    ]


def test_without_parameters_every_placeholder_is_a_warning() -> None:
    assert warnings(parse_config("project: p\ntrain: {run: 'x {{a}}'}")) == [
        "riseml.yml:2: {{a}} is not a parameter and stays as it is (there are no parameters)"
    ]


def test_a_placeholder_is_told_where_it_stands_first() -> None:
    text = "# {{a}}\nproject: p\ntrain:\n  run: x {{a}}\n  env: {B: '{{a}}'}\n  # {{a}}\n"
    assert [warning.partition(" ")[0] for warning in warnings(parse_config(text))] == [
        "riseml.yml:4:"
    ]


def test_a_defined_placeholder_is_no_warning() -> None:
    text = "project: p\ntrain:\n  parameters: {lr: [1]}\n  run: x {{lr}} {{ lr }}\n"
    assert warnings(parse_config(text)) == []


def test_a_value_that_a_list_holds_twice_is_said_with_its_line() -> None:
    text = "  parameters:\n    lr:\n      - 0.1\n      - 0.10\n      - '0.1'\n      - 0.1\n    n: [1, 2]\n"
    assert warnings(train(text)) == [
        "riseml.yml:8: train.parameters.lr: lists 0.1 twice, and every combination with it runs twice; remove one"
    ]
    assert warnings(train("  parameters:\n    n: {range: {min: 1, max: 3, step: 1}}\n")) == []


def test_what_has_no_effect_is_said() -> None:
    accepted = "is accepted, but this version does not act on it"
    text = "  install: [x]\n  framework: tensorflow\n  tensorflow:\n    distributed: {ps: 1}\n"
    assert warnings(train(text)) == [
        "riseml.yml:4: train.install: installs nothing: there is no image to install it in",
        f"riseml.yml:7: train.tensorflow.distributed: {accepted}: it starts one process",
    ]
    assert warnings(train("  image: {name: a, install: [x]}\n  tensorboard: true\n")) == []


@pytest.mark.parametrize(
    ("text", "limits"),
    [
        ("limits: true\n  resources: {cpus: 2, mem: 4GiB}", (2, 4096)),
        ("limits: {cpus: 4}\n  resources: {cpus: 2, mem: 4GiB}", (4, 0)),
        ("limits: {mem: 8GiB}", (0, 8192)),
        ("limits: false", (0, 0)),
        ("resources: {cpus: 2}", (0, 0)),
    ],
)
def test_limits_are_the_guarantees_or_more(text: str, limits: tuple[float, int]) -> None:
    config = train(f"  {text}\n")
    assert (config.cpus_limit, config.mem_limit) == limits


def test_the_size_of_shared_memory_is_counted_as_memory_is() -> None:
    assert train("  resources: {shm_size: 1GiB}\n").shm == 1024
    assert train("").shm == 0


# -- the reference -------------------------------------------------------------------------------


def test_the_references_examples_are_valid() -> None:
    reference = Path(__file__).parents[2].joinpath("docs", "riseml-yml.md").read_text()
    examples = re.findall(r"```yaml\n(project:.*?)```", reference, re.DOTALL)
    assert len(examples) == 7
    for example in examples:
        assert check_placeholders(parse_config(example)) == []


def test_the_reference_has_every_key() -> None:
    reference = Path(__file__).parents[2].joinpath("docs", "riseml-yml.md").read_text()
    for key in TRAIN_KEYS:
        assert f"[`train.{key}`]" in reference


def test_a_parameter_never_sets_a_variable_that_programs_act_upon() -> None:
    config = parse_config(
        "project: p\ntrain:\n  run: x\n  parameters:\n    rank: [8]\n    lr: [1]\n"
    )
    assert [str(error) for error in doubts(config)] == [
        "riseml.yml:5: train.parameters.rank: is set as PARAM_RANK, not as RANK, which programs act upon; "
        "env: {RANK: …} sets that"
    ]
    assert placeholders.environment(config.parameters.params(1)) == {"PARAM_RANK": "8", "LR": "1"}
    assert placeholders.render("--rank {{rank}}", config.parameters.params(1)) == "--rank 8"


def test_env_sets_what_programs_act_upon_beside_a_parameter_of_that_name() -> None:
    text = "project: p\ntrain:\n  run: x\n  env: {RANK: 0}\n  parameters: {rank: [8]}\n"
    assert parse_config(text).env == {"RANK": "0"}


def test_two_parameters_never_share_the_variable_that_is_set_instead() -> None:
    text = "project: p\ntrain:\n  run: x\n  parameters: {rank: [8], param-rank: [1]}\n"
    with pytest.raises(ConfigError, match="would be the variable PARAM_RANK"):
        parse_config(text)
