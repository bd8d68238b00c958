"""What silence around speech does to the pocket model: `python benchmarks/silence.py [--seconds 1] [--clips 100]`.

Clips of the slice's test split, with quiet noise (-62 dBFS) before or behind them, or both; by mask and by two prompts.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
import soundfile

from amask.data.manifest import Clip, Manifest
from amask.data.reading import read_manifest
from amask.data.tasks import parse_task
from amask.evaluation.harness import clips_for, predict, trials
from amask.evaluation.summary import summarise
from amask.lalm.clip_features import ClipFeatures
from amask.lalm.registry import load_model
from amask.mask_bank.bank import BUNDLED, MaskBank
from amask.pocket import SLICE
from amask.pocket.corpus.synthesis import RATE

WHERE = {"none": (0, 0), "before": (1, 0), "behind": (0, 1), "both": (1, 1)}


def quieted(clips: Manifest, folder: Path, before: float, behind: float) -> Manifest:
    """The clips with so many seconds of noise around them."""
    made = []
    for at, clip in enumerate(clips):
        rng = np.random.default_rng(at)
        start, end = (0.0008 * rng.normal(size=int(seconds * RATE)) for seconds in (before, behind))
        soundfile.write(folder / f"{at}.wav", np.concatenate([start, clips.wave(clip, RATE), end]), RATE)
        made.append(Clip(path=f"{at}.wav", labels=clip.labels, kind=clip.kind))
    return Manifest(tuple(made), folder)


def main(seconds: float, count: int) -> None:
    """One line for each task and place of the silence."""
    model, bank = load_model("pocket"), MaskBank(BUNDLED)
    print(
        f"| task | {seconds:g} s of silence | metric | mask | prompts: mean of 2 | clips |", "|---|---|---|---|---|---|", sep="\n"
    )
    for task in map(parse_task, ("asr", "gr")):
        found = clips_for(task, read_manifest(SLICE), "test")
        clips = Manifest(found.clips[:count], found.folder)
        tried = [trial for trial in trials(task, bank.get(task.name).mask, 2, 1) if trial.condition in ("mask", "prompt")]
        for place, (before, behind) in WHERE.items():
            with tempfile.TemporaryDirectory() as folder:
                padded = quieted(clips, Path(folder), before * seconds, behind * seconds)
                heard = ClipFeatures(model, padded).rows(list(range(len(padded))))
            made = [prediction for trial in tried for prediction in predict(model, heard, padded.clips, task, trial)]
            mask, prompt = (next(row for row in summarise(task, made).rows if row.condition == how) for how in ("mask", "prompt"))
            cells = (task.name, place, mask.metric, f"{mask.served.value:.1f}", f"{prompt.served.value:.1f}", str(mask.clips))
            print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--clips", type=int, default=100)
    given = parser.parse_args()
    main(given.seconds, given.clips)
