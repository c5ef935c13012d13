"""Every figure that the README claims, measured in one run: `python -m benchmarks [--quick] [NAME ...]`."""
