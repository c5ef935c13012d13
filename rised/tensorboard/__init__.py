"""The process that serves TensorBoard, and who starts it. Runs are named as sub-experiments are."""
