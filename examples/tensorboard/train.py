"""Gradient descent on a bowl that is much steeper one way than the other, with a curve for TensorBoard."""

import argparse
import os
import time

from tensorboard.summary import Writer

import riseml

STEPS = 60
PAUSE = 0.05  # so that there is time to watch


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--lr", type=float, required=True)
    parser.add_argument("--momentum", type=float, required=True)
    args = parser.parse_args()
    x, y, dx, dy = 4.0, 1.0, 0.0, 0.0
    writer = Writer(os.environ.get("OUTPUT_DIR", "."))
    for step in range(STEPS):
        loss = 0.1 * x * x + 3 * y * y
        writer.add_scalar("descent/loss", loss, step)
        dx = args.momentum * dx - args.lr * 0.2 * x
        dy = args.momentum * dy - args.lr * 6 * y
        x, y = x + dx, y + dy
        if step % 10 == 0:
            writer.flush()
            print(f"step {step:3}  loss {loss:.4f}", flush=True)
            riseml.report_result(loss=loss, step=step)
        time.sleep(PAUSE)
    writer.close()


if __name__ == "__main__":
    main()
