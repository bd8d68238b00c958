"""The README's table from `amask eval … --json`: `python benchmarks/results_table.py FILE…`."""

import argparse
import json
import sys
from pathlib import Path

NAMES = {"wer": "WER ↓", "acc": "accuracy", "bleu": "BLEU", "rouge_l": "ROUGE-L", "exact": "all right"}


def cell(row: dict | None) -> str:
    """A value, and the best and worst where there were several runs."""
    if row is None:
        return ""
    several = f" ({row['best']:.1f} … {row['worst']:.1f})" if row["runs"] > 1 else ""
    return f"{row['value']:.1f}{several}"


def main(paths: list[str]) -> None:
    """Print one line a task."""
    found: dict[str, dict[str, dict]] = {}
    for path in paths:
        for row in json.loads(Path(path).read_text(encoding="utf-8"))["rows"]:
            found.setdefault(row["task"], {})[row["how"]] = row
    lines = [
        "| task | metric | mask | prompts: mean (best … worst) | told nothing | random masks | clips |",
        "|---|---|---|---|---|---|---|",
    ]
    for task, ways in found.items():
        any_row = next(iter(ways.values()))
        cells = [cell(ways.get(how)) for how in ("mask", "prompt", "none", "random")]
        lines.append(f"| `{task}` | {NAMES[any_row['metric']]} | **{cells[0]}** | {' | '.join(cells[1:])} | {any_row['clips']} |")
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", metavar="FILE", nargs="+")
    main(parser.parse_args().files)
