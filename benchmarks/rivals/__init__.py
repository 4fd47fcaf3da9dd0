"""Other architectures, for `python -m benchmarks baselines`: one file each, all with the scaling and the loss of ours."""
