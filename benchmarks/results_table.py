"""The README's table from `amask eval … --json`: `python benchmarks/results_table.py FILE…`."""

import argparse
import json
import sys
from pathlib import Path

NAMES = {
    **{"wer": "WER ↓", "cer": "CER ↓", "eer": "EER ↓", "acc": "accuracy", "bleu": "BLEU", "chrf": "chrF"},
    **{"rouge_l": "ROUGE-L", "meteor": "METEOR", "exact": "all right"},
}
CONDITIONS = ("mask", "prompt", "unprompted", "random")


def cell(row: dict | None) -> str:
    """A value, the 95 % interval over clips of a single run, or the best and worst of several runs."""
    if row is None:
        return ""
    around = f"({row['best']:.1f} … {row['worst']:.1f})" if row["runs"] > 1 else f"[{row['low']:.1f}, {row['high']:.1f}]"
    return f"{row['value']:.1f} {around}"


def main(paths: list[str]) -> None:
    """Print one line for each task, and for each mask of a task."""
    tasks: dict[str, list[dict]] = {}
    for path in paths:
        for row in json.loads(Path(path).read_text(encoding="utf-8"))["rows"]:
            tasks.setdefault(row["task"], []).append(row)
    lines = [
        "| task | metric | mask [95 %] | prompts: mean (best … worst) | unprompted | random masks | clips |",
        "|---|---|---|---|---|---|---|",
    ]
    for task, rows in tasks.items():
        masks = [row for row in rows if row["condition"] == "mask"] or [None]
        for mask in masks:
            fitting = [row for row in rows if not row["mask"] or mask is None or row["mask"] == mask["mask"]]
            cells = [cell(next((row for row in fitting if row["condition"] == how), None)) for how in CONDITIONS]
            name, metric, clips = f"`{task}`", NAMES[rows[0]["metric"]], rows[0]["clips"]
            called = f"{name} ({mask['mask']})" if len(masks) > 1 and mask else name
            lines.append(f"| {called} | {metric} | **{cells[0]}** | {' | '.join(cells[1:])} | {clips} |")
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", metavar="FILE", nargs="+")
    main(parser.parse_args().files)
