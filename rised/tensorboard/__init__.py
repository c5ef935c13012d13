"""The process that serves TensorBoard, and the manager that starts it. Runs are named as sub-experiments are."""
