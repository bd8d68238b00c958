"""Procedural sounds for audio captioning: each event is a few lines of synthesis with random parameters."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float32
from scipy.signal import butter, sosfilt

from .synthesis import RATE

Wave = Float32[np.ndarray, " time"]


def _time(seconds: float) -> np.ndarray:
    return np.arange(int(seconds * RATE)) / RATE


def _band(noise: np.ndarray, low: float, high: float) -> np.ndarray:
    return sosfilt(butter(2, [low, high], "bandpass", fs=RATE, output="sos"), noise)


def _repeat(hit: Callable[[], np.ndarray], seconds: float, gap: tuple[float, float], rng: np.random.Generator) -> np.ndarray:
    """Place hits with random gaps (seconds) between their onsets."""
    wave = np.zeros(int(seconds * RATE))
    at = 0
    while at < len(wave):
        sound = hit()[: len(wave) - at]
        wave[at : at + len(sound)] += sound
        at += int(rng.uniform(*gap) * RATE)
    return wave


def _bell(rng: np.random.Generator, seconds: float) -> np.ndarray:
    pitch = rng.uniform(500, 1100)
    decay = rng.uniform(2.5, 5)

    def hit() -> np.ndarray:
        t = _time(min(seconds, 1.2))
        partials = ((1, 1), (2.76, 0.6), (5.4, 0.25), (8.93, 0.12))
        return sum(level * np.sin(2 * np.pi * pitch * ratio * t) * np.exp(-decay * ratio**0.5 * t) for ratio, level in partials)

    return _repeat(hit, seconds, (0.5, 0.8), rng)


def _siren(rng: np.random.Generator, seconds: float) -> np.ndarray:
    t = _time(seconds)
    low, high, speed = rng.uniform(450, 650), rng.uniform(1000, 1500), rng.uniform(0.6, 1.6)
    pitch = low + (high - low) * (0.5 + 0.5 * np.sin(2 * np.pi * speed * t + rng.uniform(0, 6)))
    phase = 2 * np.pi * np.cumsum(pitch) / RATE
    return np.sin(phase) + 0.4 * np.sin(2 * phase)


def _rain(rng: np.random.Generator, seconds: float) -> np.ndarray:
    noise = rng.normal(size=int(seconds * RATE))
    drops = (rng.random(len(noise)) < 0.004) * rng.exponential(8, len(noise))
    return _band(noise + drops, rng.uniform(800, 1500), 7000.0)


def _wind(rng: np.random.Generator, seconds: float) -> np.ndarray:
    t = _time(seconds)
    swell = 0.5 + 0.5 * np.sin(2 * np.pi * rng.uniform(0.3, 0.8) * t + rng.uniform(0, 6))
    return _band(rng.normal(size=len(t)), 80.0, rng.uniform(300, 600)) * (0.2 + swell)


def _engine(rng: np.random.Generator, seconds: float) -> np.ndarray:
    t = _time(seconds)
    pitch = rng.uniform(35, 70) * (1 + 0.03 * np.sin(2 * np.pi * rng.uniform(0.3, 1) * t))
    phase = 2 * np.pi * np.cumsum(pitch) / RATE
    return sum(np.sin(order * phase) / order**0.7 for order in range(1, 15)) + 0.2 * rng.normal(size=len(t))


def _knock(rng: np.random.Generator, seconds: float) -> np.ndarray:
    pitch = rng.uniform(120, 260)

    def hit() -> np.ndarray:
        t = _time(0.12)
        return (np.sin(2 * np.pi * pitch * t) + 0.5 * rng.normal(size=len(t))) * np.exp(-45 * t)

    return _repeat(hit, seconds, (0.2, 0.35), rng)


def _clock(rng: np.random.Generator, seconds: float) -> np.ndarray:
    pitch, gap = rng.uniform(2200, 3800), rng.uniform(0.22, 0.4)

    def hit() -> np.ndarray:
        t = _time(0.03)
        return np.sin(2 * np.pi * pitch * t) * np.exp(-180 * t)

    return _repeat(hit, seconds, (gap, gap * 1.001), rng)


def _bird(rng: np.random.Generator, seconds: float) -> np.ndarray:
    base = rng.uniform(2500, 4500)

    def hit() -> np.ndarray:
        t = _time(rng.uniform(0.06, 0.14))
        sweep = base + rng.uniform(600, 1800) * np.sin(np.pi * t / t[-1])
        return np.sin(2 * np.pi * np.cumsum(sweep) / RATE) * np.sin(np.pi * t / t[-1])

    return _repeat(hit, seconds, (0.12, 0.4), rng)


def _dog(rng: np.random.Generator, seconds: float) -> np.ndarray:
    base = rng.uniform(280, 520)

    def hit() -> np.ndarray:
        t = _time(rng.uniform(0.13, 0.2))
        pitch = base * (1.3 - 0.6 * t / t[-1])
        phase = 2 * np.pi * np.cumsum(pitch) / RATE
        voiced = sum(np.sin(order * phase) / order**0.5 for order in range(1, 9))
        return (voiced + rng.normal(size=len(t))) * np.sqrt(np.abs(np.sin(np.pi * t / t[-1])))

    return _repeat(hit, seconds, (0.35, 0.6), rng)


def _phone(rng: np.random.Generator, seconds: float) -> np.ndarray:
    t = _time(seconds)
    low, high = rng.uniform(400, 500), rng.uniform(750, 900)
    warble = np.where(np.sin(2 * np.pi * rng.uniform(18, 26) * t) > 0, low, high)
    gate = (np.sin(2 * np.pi * t / rng.uniform(0.9, 1.3)) > -0.2).astype(float)
    return np.sign(np.sin(2 * np.pi * np.cumsum(warble) / RATE)) * gate


def _alarm(rng: np.random.Generator, seconds: float) -> np.ndarray:
    t = _time(seconds)
    on = np.sin(2 * np.pi * rng.uniform(2.5, 4.5) * t) > 0
    return np.sign(np.sin(2 * np.pi * rng.uniform(1800, 2600) * t)) * on


def _thunder(rng: np.random.Generator, seconds: float) -> np.ndarray:
    t = _time(seconds)
    roll = np.exp(-1.2 * t) * (1 + 0.6 * np.sin(2 * np.pi * rng.uniform(3, 6) * t))
    return _band(rng.normal(size=len(t)), 30.0, rng.uniform(150, 260)) * roll


# event -> (synthesis, clause of a caption)
EVENTS: dict[str, tuple[Callable[[np.random.Generator, float], np.ndarray], str]] = {
    "bell": (_bell, "a bell rings"),
    "siren": (_siren, "a siren wails"),
    "rain": (_rain, "rain falls"),
    "wind": (_wind, "wind blows"),
    "engine": (_engine, "an engine runs"),
    "knock": (_knock, "someone knocks"),
    "clock": (_clock, "a clock ticks"),
    "bird": (_bird, "a bird sings"),
    "dog": (_dog, "a dog barks"),
    "phone": (_phone, "a phone rings"),
    "alarm": (_alarm, "an alarm beeps"),
    "thunder": (_thunder, "thunder rolls"),
}


def draw_event(rng: np.random.Generator, seconds: float, avoid: str | None = None) -> tuple[str, Wave]:
    """Draw a sound event other than `avoid`: its name and a waveform of some seconds, RMS 0.1, 20 ms fades."""
    name = str(rng.choice([event for event in EVENTS if event != avoid]))
    wave = EVENTS[name][0](rng, seconds)
    fade = np.minimum(1, np.minimum(np.arange(len(wave)), np.arange(len(wave))[::-1]) / (0.02 * RATE))
    wave = wave * fade
    return name, (0.1 * wave / (np.sqrt(np.mean(wave**2)) + 1e-9)).astype(np.float32)
