"""The process that serves a TensorBoard: runs named as sub-experiments are, with their parameters and results."""
