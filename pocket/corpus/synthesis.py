"""From a sentence and a voice to a waveform: espeak-ng and flite, at 16 kHz."""

import io
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import soxr
from jaxtyping import Float32

from ...errors import DataError
from .voices import Voice

RATE = 16_000  # Hz, of everything in the pocket corpus
WINDOW = 15.0  # seconds that the pocket model hears; no clip is longer


@dataclass(frozen=True)
class Sound:
    """A clip before it is written: its waveform at 16 kHz and its manifest row without a path."""

    wave: Float32[np.ndarray, " time"]
    clip: dict


@dataclass(frozen=True)
class Style:
    """A prosodic style. These are acted by rate, pitch range and voice effort, and are named so: not real emotions.

    Attributes:
        rate: words a minute, lowest and highest.
        pitch: added to the voice's espeak-ng pitch.
        pitch_range: SSML pitch range in percent of the voice's own.
        drive: voice effort; above 0 the waveform is pushed into soft clipping and brightened, below 0 it is darkened.
    """

    rate: tuple[int, int]
    pitch: int
    pitch_range: str
    drive: float


STYLES = {
    "neutral": Style((140, 165), 0, "medium", 0.0),
    "happy": Style((172, 195), 10, "x-high", 0.0),
    "sad": Style((100, 120), -8, "x-low", -0.5),
    "angry": Style((180, 210), -2, "low", 1.0),
}


def _run(command: list[str]) -> bytes:
    done = subprocess.run(command, capture_output=True, check=False)
    if done.returncode:
        raise DataError(f"{command[0]} failed: {done.stderr.decode(errors='replace').strip()}")
    return done.stdout


def _espeak(text: str, voice: Voice, style: Style, rate: int) -> tuple[np.ndarray, int]:
    ssml = f'<speak><prosody range="{style.pitch_range}">{text}</prosody></speak>'
    pitch = int(np.clip(voice.pitch + style.pitch, 30, 70))
    command = ["espeak-ng", "-m", "-v", f"{voice.accent}+{voice.name}", "-s", str(rate), "-p", str(pitch), "--stdout", ssml]
    return soundfile.read(io.BytesIO(_run(command)), dtype="float32")


def _flite(text: str, voice: Voice, rate: int) -> tuple[np.ndarray, int]:
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "clip.wav")
        _run(["flite", "-voice", voice.name, "--setf", f"duration_stretch={150 / rate:.2f}", "-t", text, "-o", str(out)])
        return soundfile.read(out, dtype="float32")


def trim(wave: Float32[np.ndarray, " time"], floor: float = 0.01) -> Float32[np.ndarray, " kept"]:
    """Cut silence below `floor` of the peak from both ends, leaving 40 ms."""
    loud = np.flatnonzero(np.abs(wave) > floor * max(float(np.abs(wave).max()), 1e-9))
    if not loud.size:
        return wave
    edge = int(0.04 * RATE)
    return wave[max(loud[0] - edge, 0) : loud[-1] + edge]


def speak(text: str, voice: Voice, style: str, rng: np.random.Generator) -> Float32[np.ndarray, " time"]:
    """Synthesise a sentence at 16 kHz, trimmed and scaled to an RMS of 0.1.

    Args:
        text: lower-case English words.
        voice: the speaker.
        style: a key of `STYLES`; flite voices only know "neutral".
        rng: draws the speaking rate.
    """
    prosody = STYLES[style]
    rate = int(rng.integers(prosody.rate[0], prosody.rate[1] + 1))
    wave, source_rate = _espeak(text, voice, prosody, rate) if voice.engine == "espeak" else _flite(text, voice, rate)
    wave = trim(soxr.resample(wave, source_rate * voice.warp, RATE).astype(np.float32))
    if prosody.drive > 0:
        bright = np.append(wave[:1], wave[1:] - 0.6 * wave[:-1])
        wave = np.tanh(3 * prosody.drive * bright / (np.abs(bright).max() + 1e-9))
    elif prosody.drive < 0:
        kernel = np.hanning(7) / np.hanning(7).sum()
        wave = np.convolve(wave, kernel, mode="same")
    return (wave * 0.1 / (np.sqrt(np.mean(wave**2)) + 1e-9)).astype(np.float32)
