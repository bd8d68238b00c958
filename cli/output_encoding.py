"""Output that every terminal can show: what its encoding lacks is spelled in ASCII, and a closed or full one is one line."""

import atexit
import codecs
import errno
import gc
import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import typer
from typer.core import TyperGroup

UsageError: type[Exception] = typer.BadParameter.__mro__[1]  # click's, or that of the click that typer brings

# Blocks of a mask's picture hold 2 × 2 dots: ' for upper ones, . for lower ones, : for both.
ASCII_FALLBACKS = (
    dict.fromkeys("▘▝▀", "'")
    | dict.fromkeys("▖▗▄", ".")
    | dict.fromkeys("▌▐▞▚▛▜▙▟█", ":")
    | {"×": "x", "·": "-", "–": "-", "—": "-", "…": "...", "→": "->", "τ": "tau", "λ": "lambda", "≥": ">=", "±": "+-"}
)

LOST = (errno.EPIPE, errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EBADF)  # what writing to a place that is gone or full gives


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
    """Let stdout and stderr spell what they cannot encode, and put an empty stream where a standard one is closed.

    Without one in its place, a file that is opened later would take the number of a closed stream, and get its output.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None and not _is_open(number):
            os.dup2(os.open(os.devnull, os.O_RDWR), number)
            setattr(sys, name, open(number, "w" if number else "r", closefd=False))  # noqa: SIM115 (for the process' life)
    codecs.register_error("ascii_fallback", _ascii_fallback)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="ascii_fallback")


def echo(line: str) -> None:
    """Print a line on stdout at once, in its own encoding: click's echo changes that to UTF-8 where it is ASCII."""
    print(line, flush=True)


def _is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True


@contextmanager
def _one_line_for_lost_output() -> Iterator[None]:
    """Where nothing more can be written (a full disk), say so in one line and exit with 1; a closed pipe is silent."""
    try:
        try:
            yield
        finally:
            sys.stdout.flush()
    except OSError as error:
        if error.errno not in LOST:
            raise
        with open(os.devnull, "w") as nowhere:  # Python flushes stdout once more when it ends
            os.dup2(nowhere.fileno(), sys.stdout.fileno())
        if error.errno != errno.EPIPE:
            sys.stderr.write(f"amask: cannot write: {error.strerror}; free some room, or write to another place\n")
        raise SystemExit(1) from None


class SafeOutputGroup(TyperGroup):
    """Commands whose output every terminal can show, and whose errors are one line, those of usage too."""

    def main(self, *arguments: Any, **named: Any) -> Any:  # noqa: ANN401 (as click has it)
        """Run the command line."""
        make_output_safe()
        atexit.register(gc.freeze)  # leaves without another look through all that torch and transformers made: a second
        alone, named["standalone_mode"] = named.get("standalone_mode", True), False
        if not alone:
            return super().main(*arguments, **named)
        with _one_line_for_lost_output():
            try:
                code = super().main(*arguments, **named)
            except UsageError as error:
                sys.exit(_show_usage_error(error))
            raise SystemExit(code if isinstance(code, int) else 0)


def _show_usage_error(error: Any) -> int:  # noqa: ANN401 (a click error)
    """Say in one line what is wrong with the command's options, and where they are told; the exit status."""
    message = error.format_message().replace("Value error, ", "")
    if "\n" in message:  # no error, but the help that a command without arguments shows
        error.show()
    else:
        where = error.ctx.command_path if error.ctx else "amask"
        sys.stderr.write(f"amask: {message[:1].lower()}{message[1:].rstrip('.')}; see '{where} --help'\n")
    return error.exit_code
