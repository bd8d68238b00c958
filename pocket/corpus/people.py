"""The recorded clips: people, single words, pairs and overlaps of people, digits cut out of strings, sounds."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
import soundfile
import soxr
from jaxtyping import Float32

from ...errors import DataError
from .grammar import DIGITS
from .recordings import PERSON, Recording, word_labels
from .synthesis import RATE, Sound, trim
from .synthetic import mix, pad

SLOWED = (0.7, 0.95)  # how fast some digits are played: nearly all are children's, and so some sound like larger people
SHORT = 3.2  # seconds of an utterance that is taken whole into a pair or an overlap
SNIPPET = (1.5, 2.5)  # seconds that are heard of a longer one in a pair


def cuts_between(wave: Float32[np.ndarray, " time"], words: int) -> list[int] | None:
    """Where to cut a wave into its words: the quietest sample of each pause; None where pauses do not tell the words apart."""
    power = np.convolve(wave**2, np.ones(int(0.03 * RATE)), "same")
    for floor in np.linspace(0.02, 0.5, 49):
        loud = np.flatnonzero(power > floor**2 * np.percentile(power, 99))
        # Softer for less than 80 ms is within a word (a stop, say); loud for less than 120 ms is none.
        bursts = np.split(loud, np.flatnonzero(np.diff(loud) > 0.08 * RATE) + 1)
        bursts = [burst for burst in bursts if burst[-1] - burst[0] > 0.12 * RATE]
        if len(bursts) == words:
            pauses = [(before[-1], after[0]) for before, after in pairwise(bursts)]
            return [int(end + power[end:start].argmin()) for end, start in pauses]
    return None


def load(recording: Recording) -> Float32[np.ndarray, " time"]:
    """The samples of a recording, silence cut from both ends, at an RMS of 0.1.

    Raises:
        DataError: it is not at 16 kHz.
    """
    wave, rate = soundfile.read(recording.path, dtype="float32")
    if rate != RATE:
        raise DataError(f"{recording.path.name}: expected {RATE} Hz, got {rate}")
    wave = trim(wave, floor=0.02)
    return (wave * 0.1 / (np.sqrt(np.mean(wave**2)) + 1e-9)).astype(np.float32)


def is_digits(recording: Recording) -> bool:
    """Whether all words of a recording are digits."""
    return bool(recording.text) and set(recording.text.split()) <= DIGITS.keys()


@dataclass(frozen=True)
class People:
    """The recordings of one split; each method draws a clip of one kind."""

    recordings: tuple[Recording, ...]

    def _of(self, kind: str) -> list[Recording]:
        return [each for each in self.recordings if each.kind == kind]

    @cached_property
    def persons(self) -> list[Recording]:
        """Whole utterances."""
        return self._of("person")

    @cached_property
    def actors(self) -> list[Recording]:
        """Whole or cut utterances with an acted emotion."""
        return [each for each in self._of("actor") if "ser" in each.labels]

    @cached_property
    def words(self) -> list[Recording]:
        """Single words."""
        return self._of("word")

    @cached_property
    def sounds(self) -> list[Recording]:
        """Sounds without speech."""
        return self._of("sound")

    @cached_property
    def strings(self) -> list[tuple[Recording, list[tuple[str, np.ndarray]]]]:
        """Each digit string that pauses take apart, with its digits and their waves."""
        found = []
        for each in filter(is_digits, self.persons):
            wave, words = load(each), each.text.split()
            cuts = cuts_between(wave, len(words))
            if cuts is not None:
                pieces = [trim(piece, floor=0.02) for piece in np.split(wave, cuts)]
                found.append((each, list(zip(words, pieces, strict=True))))
        return found

    def draw_person(self, _rng: np.random.Generator, number: int) -> Sound:
        """The utterance with a number, around and around."""
        return _alone(self.persons[number % len(self.persons)])

    def draw_actor(self, _rng: np.random.Generator, number: int) -> Sound:
        """The acted utterance with a number."""
        return _alone(self.actors[number % len(self.actors)])

    def draw_word(self, rng: np.random.Generator, number: int) -> Sound:
        """The single word with a number."""
        sound = _alone(self.words[number % len(self.words)])
        return Sound(pad(sound.wave, rng), sound.clip)

    def draw_digits(self, rng: np.random.Generator, number: int) -> Sound:
        """One to three neighbouring digits of a string, or the whole string; half of them slowed."""
        each, pieces = self.strings[number % len(self.strings)]
        count = len(pieces) if rng.random() < 0.4 else int(rng.integers(1, 4))
        at = int(rng.integers(max(len(pieces) - count, 0) + 1))
        words, waves = zip(*pieces[at : at + count], strict=True)
        wave, labels, speaker = np.concatenate(waves), word_labels(" ".join(words)), each.speaker
        if rng.random() < 0.5:
            wave, speaker = soxr.resample(wave, RATE * rng.uniform(*SLOWED), RATE).astype(np.float32), f"{speaker}-slowed"
        else:
            labels |= {task: label for task, label in each.labels.items() if task not in labels}
        return Sound(pad(wave, rng), {"labels": labels, "source": each.source, "speaker": speaker, "text": labels["asr"]})

    def _two(self, rng: np.random.Generator, same: bool | None, pool: Sequence[Recording]) -> tuple[Recording, Recording]:
        """Two recordings of one set: of one speaker (`same`), of two, or (None) of two of whatever gender."""
        while True:
            first = pool[int(rng.integers(len(pool)))]
            # Half of the impostors share the gender: pitch alone must not do.
            gender = first.gender if same is False and rng.random() < 0.5 else ""
            others = [
                each
                for each in pool
                if each.source == first.source
                and (each.speaker == first.speaker) == bool(same)
                and each.path != first.path
                and (not gender or each.gender == gender)
            ]
            if others:
                return first, others[int(rng.integers(len(others)))]

    def draw_pair(self, rng: np.random.Generator, _number: int) -> Sound:
        """Two utterances with a pause between them, by one speaker or by two; long ones are cut, and then have no words."""
        same = rng.random() < 0.5
        two = self._two(rng, same, self.persons)
        whole = all(each.seconds <= SHORT and "asr" in each.labels for each in two)
        waves = [load(each) if whole else load(each)[: int(rng.uniform(*SNIPPET) * RATE)] for each in two]
        labels = {"asv": "yes" if same else "no"}
        if whole:
            labels["asr"] = " ".join(each.text for each in two)
        if all(each.gender for each in two):
            people = [PERSON[each.gender] for each in two]
            other = people[1] if people[0] != people[1] else "another"
            labels["aac"] = f"{people[0]} speaks twice" if same else f"{people[0]} speaks then {other} speaks"
        pause = np.zeros(int(rng.uniform(0.25, 0.5) * RATE), np.float32)
        return _both(np.concatenate([waves[0], pause, waves[1]]), two, labels)

    def draw_overlap(self, rng: np.random.Generator, _number: int) -> Sound:
        """Two short utterances at once, the second 0.3 to 0.7 s after the first."""
        first, second = self._two(rng, None, self.short)
        wave = mix(load(first), load(second), int(rng.uniform(0.3, 0.7) * RATE), 10 ** (rng.uniform(-3, 3) / 20))
        labels = {"osr": f"{first.text} ; {second.text}", "asr": first.text, "aac": "two people speak at once"}
        return _both(pad(wave, rng), (first, second), labels)

    @cached_property
    def short(self) -> list[Recording]:
        """Utterances with words that are taken whole into pairs and overlaps."""
        return [each for each in self.persons if each.seconds <= SHORT and "asr" in each.labels]

    def draw_sound(self, rng: np.random.Generator, number: int) -> Sound:
        """The sound with a number: 1 to 5 s of it."""
        sound = _alone(self.sounds[number % len(self.sounds)])
        samples = int(rng.uniform(1, 5) * RATE)
        at = int(rng.integers(max(len(sound.wave) - samples, 0) + 1))
        return Sound(sound.wave[at : at + samples], sound.clip)


def _alone(recording: Recording) -> Sound:
    clip = {"labels": recording.labels, "source": recording.source, "speaker": recording.speaker, "text": recording.text}
    return Sound(load(recording), clip)


def _both(wave: np.ndarray, two: Sequence[Recording], labels: dict[str, str]) -> Sound:
    speaker = "+".join(each.speaker for each in two)
    return Sound(wave, {"labels": labels, "source": two[0].source, "speaker": speaker, "text": labels.get("asr", "")})


RECORDED: dict[str, Callable[[People, np.random.Generator, int], Sound]] = {
    "person": People.draw_person,
    "actor": People.draw_actor,
    "word": People.draw_word,
    "digits": People.draw_digits,
    "person-pair": People.draw_pair,
    "person-overlap": People.draw_overlap,
    "sound": People.draw_sound,
}
