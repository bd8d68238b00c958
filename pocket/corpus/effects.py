"""What happens to a sound on its way to the listener: room, noise, telephone line, level, codec."""

import io

import numpy as np
import soundfile
from jaxtyping import Float32
from scipy.signal import butter, fftconvolve, sosfilt

from .synthesis import RATE

Wave = Float32[np.ndarray, " time"]


def reverberate(wave: Wave, rng: np.random.Generator) -> Wave:
    """Convolve with exponentially decaying noise: a room with an RT60 of 0.1 to 0.5 s."""
    rt60 = rng.uniform(0.1, 0.5)
    t = np.arange(int(rt60 * RATE)) / RATE
    room = rng.normal(size=len(t)) * np.exp(-6.9 * t / rt60) * rng.uniform(0.02, 0.12)
    room[0] = 1
    return fftconvolve(wave, room)[: len(wave)].astype(np.float32)


def add_noise(wave: Wave, rng: np.random.Generator) -> Wave:
    """Add white, pink or brown noise at 8 to 35 dB below the signal."""
    spectrum = np.fft.rfft(rng.normal(size=len(wave)))
    tilt = float(rng.choice([0.0, 0.5, 1.0]))
    noise = np.fft.irfft(spectrum / np.maximum(np.arange(len(spectrum)), 20) ** tilt, len(wave))
    snr = rng.uniform(8, 35)  # dB
    noise *= np.sqrt(np.mean(wave**2) / (np.mean(noise**2) + 1e-12)) * 10 ** (-snr / 20)
    return (wave + noise).astype(np.float32)


def limit_band(wave: Wave, rng: np.random.Generator) -> Wave:
    """A telephone line (300 to 3400 Hz) or a duller microphone (a low-pass at 3.4 to 6 kHz)."""
    if rng.random() < 0.5:
        sos = butter(3, [rng.uniform(150, 320), rng.uniform(3200, 3800)], "bandpass", fs=RATE, output="sos")
    else:
        sos = butter(3, rng.uniform(3400, 6000), "lowpass", fs=RATE, output="sos")
    return sosfilt(sos, wave).astype(np.float32)


def set_level(wave: Wave, rng: np.random.Generator) -> Wave:
    """Scale to a peak between -26 and -1 dBFS."""
    peak = 10 ** (rng.uniform(-26, -1) / 20)
    return (wave * peak / (np.abs(wave).max() + 1e-9)).astype(np.float32)


def code_opus(wave: Wave, rng: np.random.Generator) -> Wave:
    """Code as Opus and back: at compression levels of libsndfile that give some 10 to 40 kbit/s."""
    file = io.BytesIO()
    level = rng.uniform(0.93, 0.995)
    soundfile.write(file, np.clip(wave, -1, 1), RATE, format="OGG", subtype="OPUS", compression_level=level)
    file.seek(0)
    return soundfile.read(file, dtype="float32")[0][: len(wave)]


EFFECTS = {"reverb": reverberate, "noise": add_noise, "band": limit_band, "level": set_level, "opus": code_opus}
SYNTHETIC = {"reverb": 0.35, "noise": 0.6, "band": 0.3, "level": 1.0, "opus": 0.35}
RECORDED = {"reverb": 0.15, "noise": 0.3, "band": 0.2, "level": 1.0, "opus": 0.2}


def transmit(wave: Wave, rng: np.random.Generator, chances: dict[str, float] = SYNTHETIC) -> tuple[Wave, list[str]]:
    """Pass a sound through a random channel; returns it with the names of what was done to it.

    Args:
        wave: samples at 16 kHz.
        rng: draws which effects there are, and how strong.
        chances: of each effect; recordings have been through a room and a microphone already, so `RECORDED` is milder.
    """
    done = []
    for name, effect in EFFECTS.items():
        if rng.random() < chances[name]:
            wave = effect(wave, rng)
            done.append(name)
    return wave, done
