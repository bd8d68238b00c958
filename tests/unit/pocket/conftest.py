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


TEXTS = ["one two three four five six seven male female happy sad yes no", '{"asr": "one", "gr": "male"}', "rain falls eins zwei"]


@pytest.fixture(scope="session")
def whisper(tmp_path_factory):
    """The folder of a small random Whisper with a tokenizer whose special tokens stand where English-only Whisper has them."""
    import torch
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast, WhisperConfig, WhisperForConditionalGeneration

    from amask.pocket.architecture import KEPT_SPECIAL, TEXT_TOKENS

    folder = tmp_path_factory.mktemp("whisper")
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(TEXTS * 9, trainers.BpeTrainer(vocab_size=330, initial_alphabet=alphabet, show_progress=False))
    content = json.loads(tokenizer.to_str())["model"]
    vocabulary = content["vocab"] | {f"#{at}": at for at in range(len(content["vocab"]), TEXT_TOKENS)}  # never reached
    full = Tokenizer(models.BPE(vocabulary, [tuple(merge) for merge in content["merges"]]))
    full.pre_tokenizer, full.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    full.add_special_tokens([AddedToken(token, special=True) for token in KEPT_SPECIAL])
    PreTrainedTokenizerFast(tokenizer_object=full).save_pretrained(folder)
    torch.manual_seed(0)
    encoder = {"encoder_layers": 2, "encoder_attention_heads": 6, "encoder_ffn_dim": 64}
    decoder = {"decoder_layers": 1, "decoder_attention_heads": 6, "decoder_ffn_dim": 64}
    ends = dict.fromkeys(("pad_token_id", "bos_token_id", "eos_token_id", "decoder_start_token_id"), TEXT_TOKENS)
    config = WhisperConfig(vocab_size=TEXT_TOKENS + len(KEPT_SPECIAL), d_model=96, num_mel_bins=80, **encoder, **decoder, **ends)
    WhisperForConditionalGeneration(config).save_pretrained(folder)
    return folder


SHAPE = {"vocabulary": 300, "width": 18, "split": 1, "fresh": 2, "neurons": 624, "fresh_neurons": 16}


@pytest.fixture(scope="session")
def constructed(whisper):
    """The small pocket model that is made of it, and what made it."""
    from amask.data.manifest import Clip
    from amask.pocket.making.construct import construct
    from amask.pocket.making.store import FrameStore
    from amask.pocket.making.whisper_decoder import DecoderShape

    states = np.random.default_rng(0).normal(size=(40, 96)).astype(np.float16)
    clips = [Clip(path=str(at), kind="person", split="train", labels={"asr": "one two six"}) for at in range(2)]
    return construct(str(whisper), DecoderShape(**SHAPE), FrameStore(states, np.array([0, 24, 40])), clips)


@pytest.fixture
def tiny(constructed):
    """A pocket model of its real classes, small and untrained."""
    from copy import deepcopy

    from amask.lalm.qwen2_audio import AudioOptions, Qwen2Audio
    from amask.pocket.architecture import MARGIN, TAIL, TEMPLATE, build_processor

    audio = AudioOptions(silence=MARGIN, tail=TAIL, fixed_audio=True, fixed_layers=(0,))
    return Qwen2Audio("tiny", deepcopy(constructed.model), build_processor(constructed.tokenizer), TEMPLATE, audio)
