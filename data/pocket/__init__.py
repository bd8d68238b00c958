"""The pocket corpus: speech synthesisers and procedural sounds, labelled for every pocket task, seeded."""

from pathlib import Path

SLICE = Path(__file__).parent / "slice"
"""A compact slice of the corpus that ships with amask: synthetic clips only, Opus."""
