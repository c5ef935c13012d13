"""What is better: a low or a high value of a result. A name is trusted only where it says so. Pure."""

import re
from typing import NamedTuple

GOALS = ("min", "max")

_LOWER = frozenset(
    (
        *("loss", "losses", "error", "errors", "err", "nll", "perplexity", "ppl", "cost", "regret"),
        *("mse", "rmse", "mae", "mape", "rmsle", "wer", "cer", "eer", "fid", "bpc", "bpd"),
        *("latency", "time", "seconds", "ms", "duration", "distance", "divergence", "kl"),
    )
)
_HIGHER = frozenset(
    (
        *("accuracy", "accuracies", "acc", "f", "auc", "auroc", "auprc", "roc", "map", "precision"),
        *(
            "recall",
            "iou",
            "miou",
            "dice",
            "bleu",
            "rouge",
            "meteor",
            "cider",
            "ndcg",
            "mrr",
            "mcc",
        ),
        *(
            "reward",
            "rewards",
            "return",
            "returns",
            "score",
            "scores",
            "psnr",
            "ssim",
            "throughput",
        ),
        *("specificity", "sensitivity", "kappa", "elo", "likelihood", "correct", "winrate"),
    )
)
_OF = re.compile(r"^(train|training|val|valid|validation|dev|eval|test)(?=.)")


class Objective(NamedTuple):
    """The result by which an experiment's sub-experiments are compared."""

    result: str
    lowest: bool
    """Whether the lowest value is the best one."""


def is_lower_better(name: str) -> bool | None:
    """Whether low values of the result `name` are better, as it says: `val_loss`, `testAcc`; None where it does not."""
    parts = re.split(r"[^a-z]+", re.sub(r"([a-z0-9])([A-Z])", r"\1_\2", name).lower())
    words = {*parts, *(_OF.sub("", part) for part in parts)}
    lower, higher = bool(words & _LOWER), bool(words & _HIGHER)
    return lower if lower is not higher else None
