"""Output that every terminal can show: what its encoding lacks is spelled in ASCII, instead of ending the command."""

import atexit
import codecs
import gc
import io
import sys
from typing import Any

from typer.core import TyperGroup

# Blocks of a mask's picture hold 2 × 2 dots: ' for upper ones, . for lower ones, : for both.
ASCII_FALLBACKS = (
    dict.fromkeys("▘▝▀", "'")
    | dict.fromkeys("▖▗▄", ".")
    | dict.fromkeys("▌▐▞▚▛▜▙▟█", ":")
    | {"×": "x", "·": "-", "–": "-", "—": "-", "…": "...", "→": "->", "τ": "tau", "λ": "lambda", "≥": ">=", "±": "+-"}
)


def _escape(letter: str) -> str:
    r"""`\u00e9`, as JSON has it, so that JSON in ASCII is still the same JSON."""
    units = letter.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at]:02x}{units[at + 1]:02x}" for at in range(0, len(units), 2))


def _ascii_fallback(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lacking = error.object[error.start : error.end]
    return "".join(ASCII_FALLBACKS.get(letter) or _escape(letter) for letter in lacking), error.end


def make_output_safe() -> None:
    """Let stdout and stderr spell what they cannot encode."""
    codecs.register_error("ascii_fallback", _ascii_fallback)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="ascii_fallback")


class SafeOutputGroup(TyperGroup):
    """Commands whose output every terminal can show."""

    def main(self, *arguments: Any, **named: Any) -> Any:  # noqa: ANN401 (as click has it)
        """Run the command line."""
        make_output_safe()
        atexit.register(gc.freeze)  # leaves without another look through all that torch and transformers made: a second
        return super().main(*arguments, **named)
