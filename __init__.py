"""Run a large audio language model by a mask over its attention heads instead of by a prompt."""

__version__ = "0.1.0"
