import pytest
from hypothesis import given
from hypothesis import strategies as st

from rised.experiments.configuration_file import ConfigurationFile, scalar
from riseml_proto.config import Config, parse_config
from riseml_proto.errors import ConfigError
from riseml_proto.folding import fold
from riseml_proto.value import Data, Value
from riseml_proto.yamltext import compose

REVISION = "4efd8d995e0c1635296ec3c404276c8d4ff2d87c"
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
SEEDS_OUTPUT = """\
image:
  name: nvidia/cuda:8.0-cudnn7-runtime
params:
  epochs: 20
  lr: 0.0001
  lr-decay: 1e-7
project: ai-toaster
resources:
  cpus: 2
  gpus: 2
  mem: 4096
revision: 4efd8d995e0c1635296ec3c404276c8d4ff2d87c
run:
  run: >-
    python train_model.py --num-layers {{num-layers}}
                          --learning-rate {{learning-rate}}
                          --training-data /data/ai-toaster

"""
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
COMMANDS = st.text("ab \\\n:#'\"-{}>|\t%", min_size=1) | TEXTS


def written(config: Config, params: dict[str, str] | None = None) -> dict[str, Value]:
    return compose(ConfigurationFile(config, REVISION).text(params), "").entries()


def commands(run: Value) -> tuple[str, ...]:
    items = run.content if isinstance(run.content, list) else [run]
    return tuple(fold(item.text()) if item.style == ">" else item.text() for item in items)


def in_quotes(text: str) -> str:
    return '"' + "".join(f"\\U{ord(character):08x}" for character in text) + '"'


def test_the_seeds_file_comes_out_to_the_character() -> None:
    file = ConfigurationFile(parse_config(SEED), REVISION)
    assert file.text({"epochs": "20", "lr": "0.0001", "lr-decay": "1e-7"}) == SEEDS_OUTPUT


def test_an_experiment_without_parameters_has_no_params() -> None:
    text = ConfigurationFile(parse_config("project: p\ntrain: {run: python x.py}"), REVISION).text(
        None
    )
    assert text == f"project: p\nrevision: {REVISION}\nrun:\n  run: python x.py\n\n"


def test_every_other_section_stands_sorted_in_its_place() -> None:
    config = parse_config("""\
project: p
train:
  image: {name: a, install: [pip install x, 'y: z']}
  time_limit: 1h30m
  retries: 2
  env: {B: 1.0, A: ''}
  framework: tensorflow
  tensorflow: {tensorboard: true, distributed: {ps: {count: 2, resources: {gpus: 1}}}}
  run: [a, b]
""")
    text = ConfigurationFile(config, REVISION).text({"z": "1"})
    assert (
        text
        == f"""\
env:
  A: ''
  B: 1.0
framework: tensorflow
image:
  install:
    - pip install x
    - 'y: z'
  name: a
params:
  z: 1
project: p
retries: 2
revision: {REVISION}
run:
  run:
    - a
    - b
tensorflow:
  distributed:
    ps:
      count: 2
      resources:
        gpus: 1
  tensorboard: true
time_limit: 1h30m

"""
    )


@pytest.mark.parametrize(
    "run",
    [
        "|\n    for i in 1 2; do\n      echo $i\n    done\n",
        "|-\n    a\n\n    b",
        ">-\n    a\n      b\n\n    c",
        "\n  - >-\n    a\n      --b\n  - |\n    c\n    d\n",
    ],
)
def test_a_command_keeps_its_layout(run: str) -> None:
    config = parse_config(f"project: p\ntrain:\n  run: {run}\n")
    text = ConfigurationFile(config, REVISION).text(None)
    again = parse_config("project: p\ntrain:\n" + text.split("\nrun:\n")[1])
    assert (again.run, again.run_written) == (config.run, config.run_written)


@given(st.sampled_from([">-", ">", "|", "|-", "|+"]), st.lists(COMMANDS, min_size=1, max_size=3))
def test_a_block_of_any_layout_reads_back_as_the_same_command(style: str, lines: list[str]) -> None:
    block = "".join(f"    {line}\n" for text in lines for line in text.split("\n"))
    source = f"project: p\ntrain:\n  run: {style}\n{block}"
    try:
        config = parse_config(source)
    except ConfigError:  # a character that YAML forbids, or no command at all
        return
    assert commands(written(config)["run"].entries()["run"]) == config.run


@given(st.lists(COMMANDS.filter(str.strip), min_size=1, max_size=3))
def test_any_list_of_commands_reads_back_as_the_same(texts: list[str]) -> None:
    items = "".join(f"  - {in_quotes(text)}\n" for text in texts)
    config = parse_config(f"project: p\ntrain:\n  run:\n{items}")
    assert commands(written(config)["run"].entries()["run"]) == tuple(texts)


@given(TEXTS | st.text("-:# '\"{}[]?!&*,|>%@`~.=ab1", max_size=8))
def test_any_value_reads_back_as_the_same_text(value: str) -> None:
    config = parse_config("project: p\ntrain: {run: x}")
    assert written(config, {"v": value})["params"].entries()["v"].text() == value


@pytest.mark.parametrize("text", ["1e-6", "0.0001", "-1", "~", "007", "a b", "x:y", "--lr=1"])
def test_plain_is_what_reads_back_plain(text: str) -> None:
    assert scalar(text) == (text if not text.startswith("--") else f"'{text}'")


@given(
    st.sampled_from(["4096", "16GiB", "0.5 T"]), st.sampled_from(["2", "0.50"]), st.integers(0, 9)
)
def test_resources_are_written_as_they_were(mem: str, cpus: str, gpus: int) -> None:
    source = f"project: p\ntrain: {{run: x, resources: {{mem: {mem}, cpus: {cpus}, gpus: {gpus}}}}}"
    resources: Data = written(parse_config(source))["resources"].data()
    assert resources == {"mem": mem, "cpus": cpus, "gpus": str(gpus)}
