"""CPU time of one transcript on one thread, beside Whisper's own: `python benchmarks/answer_cost.py CLIP WHISPER`."""

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch

from amask.data.audio import load_audio
from amask.lalm.registry import load_model
from amask.mask_bank.bank import BUNDLED, MaskBank

TRIES = 7  # of each, in alternation; the median counts


def seconds(answer: Callable[[], str]) -> float:
    """CPU time of one call."""
    start = time.process_time()
    answer()
    return time.process_time() - start


@torch.no_grad()
def main(clip: Path, whisper: Path) -> None:
    """Measure and print."""
    from transformers import WhisperForConditionalGeneration, WhisperProcessor  # noqa: PLC0415

    torch.set_num_threads(1)
    start = time.perf_counter()
    model = load_model("pocket")
    print(f"load {time.perf_counter() - start:.2f} s")
    gates = MaskBank(BUNDLED).get("asr", model).gates
    wave = load_audio(clip, model.rate).wave
    theirs, processor = WhisperForConditionalGeneration.from_pretrained(whisper).eval(), WhisperProcessor.from_pretrained(whisper)

    def ours() -> str:
        return model.answer(model.encode([wave]), gates, max_new_tokens=60)[0].text

    def whispers() -> str:
        mels = processor(wave, sampling_rate=model.rate, return_tensors="pt").input_features
        return processor.batch_decode(theirs.generate(mels, max_new_tokens=60), skip_special_tokens=True)[0]

    print(f"{len(wave) / model.rate:.1f} s of audio\n{ours()}\n{whispers()}")
    spent = [[seconds(each) for each in (ours, whispers)] for _ in range(TRIES)]
    mine, whole = (statistics.median(column) for column in zip(*spent, strict=True))
    print(f"CPU: amask {mine:.2f} s, Whisper {whole:.2f} s, ratio {mine / whole:.2f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("clip", type=Path)
    parser.add_argument("whisper", type=Path)
    given = parser.parse_args()
    main(given.clip, given.whisper)
