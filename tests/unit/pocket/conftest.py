"""A synthesiser that hums and small sets of recordings, so that any machine can make the corpus."""

import json
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import soundfile

HUM = {"female": 220, "male": 110}  # Hz
AGES = (7, 30, 9, 7, 15, 40, 25, 8, 33, 6, 50)  # years, of the speakers of speechocean762 in order


@pytest.fixture
def humming(monkeypatch):
    """Every word is a tenth of a second of a hum; nothing is asked of espeak-ng and flite."""
    from amask.pocket.corpus import clips as corpus
    from amask.pocket.corpus import synthetic

    def speak(text, voice, _style, rng):
        seconds = 0.1 * len(text.split()) + 0.3
        time = np.arange(int(seconds * 16_000)) / 16_000
        return (0.14 * np.sin(2 * np.pi * HUM[voice.gender] * time) + 0.01 * rng.normal(size=len(time))).astype(np.float32)

    monkeypatch.setattr(synthetic, "speak", speak)
    monkeypatch.setattr(corpus, "check_voices", lambda: None)
    monkeypatch.setattr(corpus, "ProcessPoolExecutor", ThreadPoolExecutor)  # a process might not see these changes


@pytest.fixture
def make(humming, tmp_path):
    """Makes a small corpus: its folder and its clips."""
    from amask.pocket.corpus.clips import make_corpus

    def made(name="corpus", seed=3, processes=2, shared=None, **sizes):
        folder = tmp_path / name
        sizes = sizes or dict.fromkeys(("train", "test"), {"speech": 12, "scene": 12, "pair": 12, "overlap": 6, "quiet": 6})
        return folder, list(make_corpus(folder, sizes, seed, shared, processes))

    return made


def write_set(folder, rows):
    """A set: each row's recording is a hum of its `duration`, with a pause where its text is two words."""
    (folder / "audio").mkdir(parents=True)
    rng = np.random.default_rng(len(rows))
    written = []
    for number, row in enumerate(rows):
        time = np.arange(int(row["duration"] * 16_000)) / 16_000
        wave = 0.2 * np.sin(2 * np.pi * rng.uniform(100, 300) * time)
        if len(row["text"].split()) == 2:
            wave[int(0.35 * len(wave)) : int(0.47 * len(wave))] = 0
        name = f"audio/{folder.name}-{number}.flac"
        soundfile.write(folder / name, wave, 16_000)
        written.append({"path": name, "speaker": "", "gender": "", "age": "", "emotion": ""} | row)
    (folder / "manifest.jsonl").write_text("\n".join(map(json.dumps, written)))


@pytest.fixture
def shared(tmp_path):
    """A small folder of every set that there is a reader for, and of LibriSpeech, which is none of them."""
    folder = tmp_path / "shared"
    gender = ("male", "female")
    said = (("we call it bear", 1.0), ("two zero", 1.5), ("four", 16.0))  # the last is longer than the window
    write_set(
        folder / "speechocean762",
        [
            {"text": text, "speaker": f"{rank:04d}", "gender": gender[rank % 2], "age": age, "duration": seconds}
            for rank, age in enumerate(AGES)
            for text, seconds in said
        ],
    )
    ages = ("twenties", "teens", "")
    write_set(
        folder / "common_voice_en",
        [
            {"text": "they are known", "speaker": f"cv_{rank:02d}", "gender": (*gender, "")[rank % 3], "age": ages[rank % 3]}
            | {"lang": "en", "duration": 1.2}
            for rank in range(12)
            for _ in range(2)
        ],
    )
    actors = ("03", "08", "09", "10", "11", "12", "13", "14", "15", "16")
    emotions = ("happy", "bored")
    write_set(
        folder / "emodb_german",
        [
            {"text": "der lappen", "speaker": f"emodb_{name}", "gender": gender[rank % 2], "age": 30, "emotion": emotion}
            | {"lang": "de", "duration": 1.0}
            for rank, name in enumerate(actors)
            for emotion in emotions
        ],
    )
    words = [{"text": "seven", "speaker": f"sc_{rank}", "label": "digit", "duration": 0.8} for rank in range(9)]
    write_set(folder / "speech_commands", [*words, {"text": "", "label": "background noise", "duration": 1.0}])
    for name in ("esc10", "everyday_sounds"):
        sounds = [{"text": "", "caption": "rain falling", "group": f"g{rank}", "duration": 2.0} for rank in range(10)]
        write_set(folder / name, sounds)
    write_set(folder / "librispeech_test_clean", [{"text": "never", "speaker": "ls_1", "gender": "male", "duration": 1.0}])
    (folder / "tatoeba_en_de").mkdir()
    lines = [f"I'm {word}, glad!\tIch bin {word} froh." for word in map("x".__mul__, range(1, 60))]
    (folder / "tatoeba_en_de" / "pairs.tsv").write_text("\n".join(lines), encoding="utf-8")
    (folder / "tatoeba_en_de" / "english.txt").write_text("This sentence is far too long to be used here.\nWho's there?")
    return folder


@pytest.fixture
def tiny():
    """A pocket model of its real classes, small and untrained."""
    import torch

    from amask.lalm.qwen2_audio import Qwen2Audio
    from amask.pocket.architecture import MARGIN, TEMPLATE, build_model, build_processor, train_tokenizer

    texts = ["one two three four five six seven male female happy sad yes no", TEMPLATE.before, '{"asr": "one", "gr": "male"}']
    tokenizer = train_tokenizer(texts * 9, 400)
    torch.manual_seed(0)
    sizes = {"encoder_layers": 1, "encoder_attention_heads": 2, "encoder_ffn_dim": 32, "d_model": 16}
    model = build_model(tokenizer, sizes, layers=2).eval()
    return Qwen2Audio("tiny", model, build_processor(tokenizer), TEMPLATE, MARGIN)
