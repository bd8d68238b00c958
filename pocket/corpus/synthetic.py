"""The synthetic clips: one or two synthesised voices, procedural sounds, or nothing; each with every label it carries."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32

from .grammar import Sentence, draw_sentence
from .sentences import draw_open
from .sounds import EVENTS, draw_event
from .synthesis import RATE, STYLES, Sound, speak
from .voices import Voice, draw_voice

PERSON = {"female": "a woman", "male": "a man"}


@dataclass(frozen=True)
class Utterance:
    """One synthetic sentence, spoken."""

    wave: Float32[np.ndarray, " time"]
    sentence: Sentence
    voice: Voice
    style: str


def _utter(
    rng: np.random.Generator, split: str, voice: Voice | None = None, short: bool = False, sentence: Sentence | None = None
) -> Utterance:
    voice = voice or draw_voice(rng, split)
    style = "neutral" if voice.engine == "flite" else str(rng.choice(list(STYLES)))
    sentence = sentence or draw_sentence(rng, split, short)
    return Utterance(speak(sentence.english, voice, style, rng), sentence, voice, style)


def _speech_labels(said: Utterance) -> dict[str, str]:
    labels = {"asr": said.sentence.english, "gr": said.voice.gender}
    if said.sentence.german:
        labels["s2tt"] = said.sentence.german
    # flite speaks in one manner only, so its clips would give the style away by the synthesiser.
    return labels if said.voice.engine == "flite" else labels | {"ser": said.style}


def pad(wave: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Put up to a quarter of a second of silence before and behind a wave."""
    before, after = (np.zeros(int(rng.uniform(0.02, 0.25) * RATE), np.float32) for _ in range(2))
    return np.concatenate([before, wave, after]).astype(np.float32)


def make_speech(rng: np.random.Generator, split: str) -> Sound:
    """One sentence by one voice."""
    return _alone(_utter(rng, split), rng)


def make_open(rng: np.random.Generator, split: str, sentences: Sequence[Sentence]) -> Sound:
    """One everyday sentence by one voice."""
    return _alone(_utter(rng, split, sentence=draw_open(rng, sentences)), rng)


def _alone(said: Utterance, rng: np.random.Generator) -> Sound:
    labels = _speech_labels(said) | {"aac": f"{PERSON[said.voice.gender]} speaks"}
    row = {"labels": labels, "source": said.voice.engine, "speaker": said.voice.speaker, "text": said.sentence.english}
    return Sound(pad(said.wave, rng), row)


def mix(base: np.ndarray, other: np.ndarray, at: int, gain: float) -> np.ndarray:
    """Add another wave, times a gain, from a sample on."""
    mixed = np.zeros(max(len(base), at + len(other)), np.float32)
    mixed[: len(base)] += base
    mixed[at : at + len(other)] += gain * other
    return mixed


def make_scene(rng: np.random.Generator, split: str) -> Sound:
    """One or two sound events, one after the other or at once, or someone speaking while an event goes on."""
    shape = str(rng.choice(["speech", "one", "then", "while"], p=[0.4, 0.2, 0.2, 0.2]))
    if shape == "speech":
        said = _utter(rng, split)
        speech = pad(said.wave, rng)
        event, sound = draw_event(rng, len(speech) / RATE)
        wave = mix(speech, sound, 0, 10 ** (rng.uniform(-14, -4) / 20))
        caption = f"{PERSON[said.voice.gender]} speaks while {EVENTS[event][1]}"
        row = {"source": said.voice.engine, "speaker": said.voice.speaker, "text": said.sentence.english}
        return Sound(wave, row | {"labels": _speech_labels(said) | {"aac": caption}})
    seconds = rng.uniform(1.2, 2.2)
    first, wave = draw_event(rng, seconds)
    caption = EVENTS[first][1]
    if shape != "one":
        second, other = draw_event(rng, seconds, avoid=first)
        at = 0 if shape == "while" else len(wave) + int(0.1 * RATE)
        wave = mix(wave, other, at, 10 ** (rng.uniform(-4, 4) / 20))
        if shape == "while":  # both at once: alphabetical, so that the caption is a function of the sound
            first, second = sorted((first, second))
        caption = f"{EVENTS[first][1]} {shape} {EVENTS[second][1]}"
    return Sound(wave, {"labels": {"aac": caption, "asr": ""}, "source": "procedural"})


def make_pair(rng: np.random.Generator, split: str) -> Sound:
    """Two utterances with a pause between them, by one speaker or by two of the same gender or not."""
    same = rng.random() < 0.5
    first = _utter(rng, split, short=True)
    voice = first.voice if same else None
    while voice is None or (not same and voice.name == first.voice.name):
        # Half of the impostors share the gender: pitch alone must not do.
        voice = draw_voice(rng, split, first.voice.gender if rng.random() < 0.5 else None)
    second = _utter(rng, split, voice, short=True)
    pause = np.zeros(int(rng.uniform(0.25, 0.5) * RATE), np.float32)
    wave = np.concatenate([first.wave, pause, second.wave])
    people = [PERSON[said.voice.gender] for said in (first, second)]
    other = people[1] if people[0] != people[1] else "another"
    labels = {
        "asv": "yes" if same else "no",
        "asr": f"{first.sentence.english} {second.sentence.english}",
        "aac": f"{people[0]} speaks twice" if same else f"{people[0]} speaks then {other} speaks",
    }
    row = {"source": first.voice.engine, "speaker": f"{first.voice.speaker}+{second.voice.speaker}", "text": labels["asr"]}
    return Sound(pad(wave, rng), row | {"labels": labels})


def make_overlap(rng: np.random.Generator, split: str) -> Sound:
    """Two speakers at once, the second 0.3 to 0.7 s after the first; `osr` writes both, in that order."""
    first = _utter(rng, split, short=True)
    voice = draw_voice(rng, split)
    while voice.name == first.voice.name:
        voice = draw_voice(rng, split)
    second = _utter(rng, split, voice, short=True)
    at = int(rng.uniform(0.3, 0.7) * RATE)
    wave = mix(first.wave, second.wave, at, 10 ** (rng.uniform(-3, 3) / 20))
    both = f"{first.sentence.english} ; {second.sentence.english}"
    # "asr" of an overlap is who speaks first: a transcriber that is not told of the second follows the first.
    labels = {"osr": both, "asr": first.sentence.english, "aac": "two people speak at once"}
    row = {"source": first.voice.engine, "speaker": f"{first.voice.speaker}+{second.voice.speaker}", "text": both}
    return Sound(pad(wave, rng), row | {"labels": labels})


def make_quiet(rng: np.random.Generator, _split: str) -> Sound:
    """Nothing is said: silence (a background at -75 to -45 dBFS), steady noise, or a hum of the mains."""
    what = str(rng.choice(["silence", "noise", "hum"], p=[0.5, 0.35, 0.15]))
    samples = int(rng.uniform(0.5, 5) * RATE)
    spectrum = np.fft.rfft(rng.normal(size=samples))
    noise = np.fft.irfft(spectrum / np.maximum(np.arange(len(spectrum)), 20) ** float(rng.choice([0.0, 0.5, 1.0])), samples)
    noise /= np.sqrt(np.mean(noise**2))
    wave = noise * 10 ** (rng.uniform(*((-75, -45) if what == "silence" else (-45, -15))) / 20)
    if what == "hum":
        time = np.arange(samples) / RATE
        pitch = float(rng.choice([50, 60]))
        hum = sum(np.sin(2 * np.pi * pitch * order * time) / order for order in range(1, 7))
        wave = 0.1 * wave + 10 ** (rng.uniform(-40, -20) / 20) * hum
    caption = {"silence": "silence", "noise": "steady noise", "hum": "a low hum"}[what]
    return Sound(wave.astype(np.float32), {"labels": {"aac": caption, "asr": ""}, "source": "procedural"})


SYNTHETIC: dict[str, Callable[[np.random.Generator, str], Sound]] = {
    "speech": make_speech,
    "scene": make_scene,
    "pair": make_pair,
    "overlap": make_overlap,
    "quiet": make_quiet,
}
