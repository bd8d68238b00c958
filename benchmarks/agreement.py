"""Whether `amask eval` and `amask run` give the same answers: `python benchmarks/agreement.py --clips 200`; exits with 1 if not.

Clips of the slice that ships, or of `--data`, are answered by each task's mask: once by the evaluation (whose predictions are
read back), once by the pipeline that the command line, Python and the server use.
"""

import argparse
import sys
import tempfile
from pathlib import Path

import amask
from amask.data.reading import read_manifest
from amask.errors import AmaskError
from amask.evaluation.predictions import read
from amask.mask_bank.bank import BUNDLED
from amask.pocket import SLICE

TASKS = ("gr", "ser", "asr", "s2tt", "gr-asr", "gr-asr-json")


def main(tasks: list[str], clips: int, data: Path, max_new_tokens: int) -> bool:
    """Print a line a task; whether all answers agree."""
    pipe, manifest, agreed = amask.pipeline("pocket", BUNDLED), read_manifest(data), True
    settings = {"prompts": 0, "seeds": 0, "others": 0, "unconstrained": False}
    print("| task | clips | the same answer |", "|---|---|---|", sep="\n")
    for number, task in enumerate(tasks):
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / f"{number}.jsonl"
            limits = {"clips": clips, "max_new_tokens": max_new_tokens}
            try:
                amask.evaluate(pipe.model, task, manifest, pipe.bank, predictions=file, **limits, **settings)
            except AmaskError as error:
                sys.stderr.write(f"{task}: {error}\n")
                continue
            made = [each for each in read(file) if each.condition == "mask"]
        paths = [manifest.folder / each.path for each in made]
        results = pipe(paths, mask=made[0].mask, max_new_tokens=max_new_tokens) if made else []
        differing = [(each, result) for each, result in zip(made, results, strict=True) if each.answer != result.text]
        agreed &= not differing
        print(f"| {task} | {len(made)} | {len(made) - len(differing)} |", flush=True)
        for each, result in differing[:3]:
            sys.stderr.write(f"{each.path}: eval {each.answer!r}, run {result.text!r} {result.error}\n")
    return agreed


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tasks", nargs="*", default=list(TASKS))
    parser.add_argument("--clips", type=int, default=34, help="a task")
    parser.add_argument("--data", type=Path, default=SLICE)
    parser.add_argument("--max-new-tokens", type=int, default=60)
    given = parser.parse_args()
    sys.exit(0 if main(given.tasks, given.clips, given.data, given.max_new_tokens) else 1)
