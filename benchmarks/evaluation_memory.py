"""Peak memory of an evaluation, by the number of clips: `python benchmarks/evaluation_memory.py [100 10000]`.

The pocket model's `gr` mask and no instruction, on a second of noise a clip; a process for each number.
"""

import argparse
import multiprocessing
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
import soundfile

RATE = 16_000


def measure(count: int) -> tuple[float, float]:
    """MiB at the peak, and seconds."""
    from amask.data.manifest import Clip, Manifest  # noqa: PLC0415 (in the process that is measured)
    from amask.evaluation.evaluate import evaluate  # noqa: PLC0415
    from amask.lalm.registry import load_model  # noqa: PLC0415
    from amask.mask_bank.bank import BUNDLED, MaskBank  # noqa: PLC0415

    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as name:
        folder, clips = Path(name), []
        for at in range(count):
            soundfile.write(folder / f"{at}.wav", rng.normal(0, 0.1, RATE), RATE)
            clips.append(Clip(path=f"{at}.wav", labels={"gr": "female" if at % 2 else "male"}))
        model, started = load_model("pocket"), time.monotonic()
        limits = {"prompts": 0, "seeds": 0, "max_new_tokens": 8}
        data = Manifest(tuple(clips), folder)
        evaluate(model, "gr", data, MaskBank(BUNDLED), predictions=folder / "predictions.jsonl", **limits)
        seconds = time.monotonic() - started
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, seconds


def main(counts: list[int]) -> None:
    """One line for each number of clips."""
    print("| clips | peak memory | against the first | seconds |", "|---|---|---|---|", sep="\n")
    first = 0.0
    for count in counts:
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            peak, seconds = pool.apply(measure, (count,))
        first = first or peak
        print(f"| {count} | {peak:.0f} MiB | {peak / first:.2f} | {seconds:.0f} |", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("counts", metavar="N", type=int, nargs="*", default=[100, 10_000])
    main(parser.parse_args().counts)
