"""The benchmark: `python -m benchmarks.run` from the root of the checkout. Not shipped."""
