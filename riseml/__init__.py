"""riseml: run hyperparameter experiments on a GPU box.

In a job, `import riseml; riseml.report_result(accuracy=0.93)` records a result. Importing this
costs next to nothing.
"""

__all__ = ["__version__", "report_result"]


def report_result(**results: object) -> None:
    """Record results of the running experiment, such as `report_result(accuracy=0.93, loss=0.2)`.

    May be called as often as there is something new. A value is a number, a text, a truth value or
    None; a scalar of numpy or torch counts as its number. NaN and the infinities are recorded as
    the texts "NaN", "Infinity" and "-Infinity", which JSON has no numbers for and `float()` reads.
    Outside a job, where OUTPUT_DIR is not set, nothing is recorded, so that the same script runs by
    hand. Raises `TypeError` for any other value and for a result named `time`, and `OSError` where
    the file cannot be written.
    """
    from riseml.results import append

    append(results)


def __getattr__(name: str) -> str:
    if name == "__version__":
        from riseml_proto import VERSION

        return VERSION
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
