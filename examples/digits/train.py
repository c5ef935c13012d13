"""Trains a linear classifier on scikit-learn's 8x8 images of handwritten digits and reports how good it is."""

import argparse
import json
import os
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits
from sklearn.linear_model import SGDClassifier
from sklearn.metrics import log_loss
from sklearn.model_selection import train_test_split

import riseml


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, required=True)
    parser.add_argument("--learning-rate", type=float, required=True)
    parser.add_argument("--decay", type=float, required=True, help="lr / (1 + decay * epoch)")
    args = parser.parse_args()

    images, digits = load_digits(return_X_y=True)
    train_x, test_x, train_y, test_y = train_test_split(
        images / 16, digits, test_size=0.25, random_state=0, stratify=digits
    )
    model = SGDClassifier(loss="log_loss", learning_rate="constant", eta0=1, random_state=0)
    order = np.random.default_rng(0)
    accuracy = loss = float("nan")
    for epoch in range(args.epochs):
        model.set_params(eta0=args.learning_rate / (1 + args.decay * epoch))
        shuffled = order.permutation(len(train_x))
        model.partial_fit(train_x[shuffled], train_y[shuffled], classes=np.unique(digits))
        accuracy = float(model.score(test_x, test_y))
        loss = float(log_loss(test_y, model.predict_proba(test_x)))
        if (epoch + 1) % 5 == 0:
            print(f"epoch {epoch + 1:2}  accuracy {accuracy:.4f}  loss {loss:.4f}")
            riseml.report_result(accuracy=accuracy, loss=loss, step=epoch + 1)

    output = Path(os.environ.get("OUTPUT_DIR", "."))
    (output / "metrics.json").write_text(json.dumps({"accuracy": accuracy, "loss": loss}) + "\n")
    np.savez(output / "model.npz", weights=model.coef_, bias=model.intercept_)


if __name__ == "__main__":
    main()
