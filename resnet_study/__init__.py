"""Plain against residual networks: train, record every layer, judge the claims."""

__version__ = "0.1.0"
