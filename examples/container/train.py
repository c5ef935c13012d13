"""Teaches a small network whether the number of ones among four bits is odd, and reports how well it does."""

import argparse
import itertools

from tinynet import Network  # installed in the image

import riseml  # there in every container

EXAMPLES = [(list(bits), sum(bits) % 2) for bits in itertools.product([0.0, 1.0], repeat=4)]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--hidden", type=int, required=True)
    parser.add_argument("--learning-rate", type=float, required=True)
    args = parser.parse_args()

    network = Network(inputs=4, hidden=args.hidden)
    for epoch in range(1, 501):
        losses = [network.learn(bits, odd, args.learning_rate) for bits, odd in EXAMPLES]
        if epoch % 100 == 0:
            right = [(network.predict(bits) > 0.5) == odd for bits, odd in EXAMPLES]
            accuracy, loss = sum(right) / len(right), sum(losses) / len(losses)
            print(f"epoch {epoch}  accuracy {accuracy:.4f}  loss {loss:.4f}")
            riseml.report_result(accuracy=accuracy, loss=loss, step=epoch)


if __name__ == "__main__":
    main()
