"""What may happen to a study, many times, from a seed: ``python -m tests.campaign --help``."""
