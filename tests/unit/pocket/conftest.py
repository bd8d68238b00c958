"""A synthesiser that hums, so that any machine can make the corpus."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

HUM = {"female": 220, "male": 110}  # Hz


@pytest.fixture
def humming(monkeypatch):
    """Every word is a tenth of a second of a hum; nothing is asked of espeak-ng and flite."""
    from amask.pocket.corpus import clips as corpus

    def speak(text, voice, _style, rng):
        seconds = 0.1 * len(text.split()) + 0.3
        time = np.arange(int(seconds * 16_000)) / 16_000
        return (0.14 * np.sin(2 * np.pi * HUM[voice.gender] * time) + 0.01 * rng.normal(size=len(time))).astype(np.float32)

    monkeypatch.setattr(corpus, "speak", speak)
    monkeypatch.setattr(corpus, "check_voices", lambda: None)
    monkeypatch.setattr(corpus, "ProcessPoolExecutor", ThreadPoolExecutor)  # a process might not see these changes


@pytest.fixture
def make(humming, tmp_path):
    """Makes a small corpus: its folder and its clips."""
    from amask.pocket.corpus.clips import make_corpus

    def made(name="corpus", seed=3, processes=2, speechocean=None, **sizes):
        folder = tmp_path / name
        sizes = sizes or dict.fromkeys(("train", "test"), {"speech": 12, "scene": 12, "pair": 12, "overlap": 6})
        return folder, list(make_corpus(folder, sizes, seed, speechocean, processes))

    return made
