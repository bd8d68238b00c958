"""The pocket model: its corpus, the making of the model and of all that ships with it, and where these lie."""

from pathlib import Path

HERE = Path(__file__).parent
WEIGHTS = HERE / "weights"
"""The pocket model, a folder as transformers saves it."""
SLICE = HERE / "slice"
"""A compact slice of the corpus that ships with amask: synthetic clips only, Opus."""
