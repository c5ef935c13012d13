"""What the name of a result says, and what riseml.yml may say instead."""

import pytest

from riseml_proto.config import parse_config
from riseml_proto.errors import ConfigError
from riseml_proto.objective import Objective, is_lower_better

HEAD = "project: p\ntrain:\n  run: x\n"


@pytest.mark.parametrize(
    "name",
    [
        *("loss", "val_loss", "valLoss", "testloss", "test-error", "RMSE", "err@1", "loss2"),
        *("training loss", "top5_error", "perplexity", "dev.wer", "mae", "val/loss"),
    ],
)
def test_of_losses_and_errors_the_lowest_is_best(name: str) -> None:
    assert is_lower_better(name) is True


@pytest.mark.parametrize(
    "name", ["accuracy", "val_acc", "f1", "AUC", "bleu", "testAccuracy", "mean_reward", "top1_acc"]
)
def test_of_accuracies_and_rewards_the_highest_is(name: str) -> None:
    assert is_lower_better(name) is False


@pytest.mark.parametrize(
    "name", ["cross_entropy", "glossary", "terror", "top_5", "val", "steps", "accuracy_loss", ""]
)
def test_a_name_that_does_not_say_it_is_not_guessed(name: str) -> None:
    assert is_lower_better(name) is None


@pytest.mark.parametrize(
    ("written", "objective"),
    [
        ("accuracy", Objective("accuracy", False)),
        ("{result: val_loss}", Objective("val_loss", True)),
        ("{result: cross_entropy, goal: min}", Objective("cross_entropy", True)),
        ("{result: loss, goal: max}", Objective("loss", False)),
    ],
)
def test_the_objective_is_a_result_and_a_goal(written: str, objective: Objective) -> None:
    assert parse_config(f"{HEAD}  objective: {written}\n").objective == objective


def test_without_one_there_is_none() -> None:
    assert parse_config(HEAD).objective is None


@pytest.mark.parametrize(
    ("written", "message"),
    [
        (
            "cross_entropy",
            "objective: the name cross_entropy does not say which is better, low or high; "
            "write {result: cross_entropy, goal: min}, or max",
        ),
        (
            "{goal: min}",
            "objective.result: is missing; it is the result to go by, such as result: accuracy",
        ),
        ("{result: a, goal: low}", "objective.goal: must be min or max, not low"),
        ("{result: a, gaol: min}", "objective.gaol: unknown key; did you mean goal?"),
        ("[a]", "objective: must be a single value, not a list"),
        ("''", "objective: must be a result's name, such as accuracy, not ''"),
    ],
)
def test_a_wrong_one_is_one_error_with_place_and_remedy(written: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config(f"{HEAD}  objective: {written}\n")
    assert str(caught.value) == f"riseml.yml:4: train.{message}"
