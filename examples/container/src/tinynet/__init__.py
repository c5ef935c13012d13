"""A neural network with one hidden layer, in plain Python."""

import math
import random


class Network:
    """Says yes (1) or no (0) to a list of numbers."""

    def __init__(self, inputs: int, hidden: int, seed: int = 0) -> None:
        rng = random.Random(seed)
        # The last weight of each is its bias.
        self._hidden = [[rng.gauss(0, 1) for _ in range(inputs + 1)] for _ in range(hidden)]
        self._output = [rng.gauss(0, 1) for _ in range(hidden + 1)]

    def predict(self, example: list[float]) -> float:
        """How sure it is, from 0 to 1."""
        return self._forward(example)[1]

    def learn(self, example: list[float], answer: float, rate: float) -> float:
        """One step down the gradient of the cross entropy, whose value before it is returned."""
        hidden, said = self._forward(example)
        error = said - answer
        for unit, (weights, value) in enumerate(zip(self._hidden, hidden, strict=True)):
            slope = error * self._output[unit] * (1 - value * value)
            for i, x in enumerate([*example, 1.0]):
                weights[i] -= rate * slope * x
        for unit, value in enumerate([*hidden, 1.0]):
            self._output[unit] -= rate * error * value
        return -math.log(max(1e-12, said if answer else 1 - said))

    def _forward(self, example: list[float]) -> tuple[list[float], float]:
        hidden = [math.tanh(_dot(weights, [*example, 1.0])) for weights in self._hidden]
        return hidden, (1 + math.tanh(_dot(self._output, [*hidden, 1.0]) / 2)) / 2


def _dot(some: list[float], others: list[float]) -> float:
    return sum(a * b for a, b in zip(some, others, strict=True))
