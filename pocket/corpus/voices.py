"""The speakers of the pocket corpus: synthesiser voices, their gender, and the split each belongs to.

An espeak-ng variant is a *file name*: one that does not exist, or has a wrong capital letter, silently gives the
default male voice. `check_voices` therefore compares this table with what the installed synthesisers list.
Variants that whisper, croak, imitate robots, or whose median F0 contradicts their declared gender are left out.
"""

import subprocess
from dataclasses import dataclass

import numpy as np

from ...errors import DataError

ACCENTS = ("en-us", "en-gb", "en-gb-scotland", "en-gb-x-rp", "en-gb-x-gbclan", "en-gb-x-gbcwmd", "en-029")

# split -> gender -> espeak-ng variants. Related variants (iven…iven4, steph…steph3) stay within one split.
ESPEAK_VARIANTS: dict[str, dict[str, tuple[str, ...]]] = {
    "train": {
        "female": ("Alicia", "Annie", "aunty", "linda", "steph", "steph2", "steph3", "anika", "f1", "f2", "f4", "grandma"),
        "male": (
            "adam", "Alex", "antonio", "benjamin", "boris", "caleb", "Denis", "ed", "edward", "edward2", "Gene", "Gene2",
            "gustave", "Henrique", "iven", "iven2", "iven3", "iven4", "Jacky", "john", "Lee", "marcelo", "Marco", "max",
            "Michael", "michel", "Nguyen", "pablo", "pedro", "RicishayMax", "RicishayMax2", "RicishayMax3", "rob", "robert",
            "klatt", "klatt4", "m1", "m3", "m4", "m6", "m7", "norbert", "sandro", "victor",
        ),
    },
    "dev": {"female": ("f5",), "male": ("Andy", "miguel", "m2", "m8")},
    "test": {"female": ("Andrea", "belinda", "f3"), "male": ("david", "Diogo", "Mario", "paul", "travis", "m5")},
}  # fmt: skip
FLITE_VOICES: dict[str, dict[str, tuple[str, ...]]] = {
    "train": {"female": ("slt",), "male": ("kal", "awb")},
    "dev": {"female": (), "male": ()},
    "test": {"female": (), "male": ("rms",)},
}


@dataclass(frozen=True)
class Voice:
    """One synthetic speaker: a synthesiser voice with an accent, a pitch and a vocal-tract warp of its own.

    Attributes:
        engine: "espeak" or "flite".
        name: variant (espeak-ng) or voice (flite).
        accent: espeak-ng language; empty for flite.
        gender: "female" or "male".
        pitch: espeak-ng pitch, 40 to 60, where its gender stays clear.
        warp: resampling factor; above 1 raises pitch and formants and shortens.
    """

    engine: str
    name: str
    accent: str
    gender: str
    pitch: int
    warp: float

    @property
    def speaker(self) -> str:
        """A name that tells speakers apart."""
        return f"{self.engine}-{self.name}-{self.accent or 'en'}-{self.pitch}-{self.warp:.2f}"


def draw_voice(rng: np.random.Generator, split: str, gender: str | None = None) -> Voice:
    """Draw a speaker of a split, women and men equally often unless a gender is asked for."""
    gender = gender or str(rng.choice(["female", "male"]))
    flite = FLITE_VOICES[split][gender]
    if flite and rng.random() < 0.15:
        return Voice("flite", str(rng.choice(flite)), "", gender, 50, float(rng.choice([0.94, 1.0, 1.06])))
    variant = str(rng.choice(ESPEAK_VARIANTS[split][gender]))
    accent = str(rng.choice(ACCENTS))
    warp = float(rng.choice([0.92, 0.96, 1.0, 1.04, 1.08]))
    return Voice("espeak", variant, accent, gender, int(rng.choice([40, 45, 50, 55, 60])), warp)


def check_voices() -> None:
    """Compare the table above with the voices that the installed synthesisers really have.

    Raises:
        DataError: a synthesiser or one of its voices is missing.
    """
    try:
        listed = subprocess.run(["espeak-ng", "--voices=variant"], capture_output=True, text=True, check=True).stdout
        flite = subprocess.run(["flite", "-lv"], capture_output=True, text=True, check=True).stdout.split()
    except FileNotFoundError as error:
        raise DataError(f"{error.filename} is not installed; install espeak-ng and flite to make the corpus") from None
    variants = {line.split("!v/")[1].split()[0] for line in listed.splitlines() if "!v/" in line}
    wanted = {name for genders in ESPEAK_VARIANTS.values() for names in genders.values() for name in names}
    if missing := sorted(wanted - variants):
        raise DataError(f"espeak-ng lacks the variants {', '.join(missing)}; it would silently use its default voice")
    wanted = {name for genders in FLITE_VOICES.values() for names in genders.values() for name in names}
    if missing := sorted(wanted - set(flite)):
        raise DataError(f"flite lacks the voices {', '.join(missing)}")
