"""The pocket language: a small English grammar and its German translation.

Four sentence forms over some eighty words: commands ("put the red box on the table now"), digit strings
("three zero seven"), observations ("anna buys three books") and appointments ("call me at seven on monday").
Every sentence is drawn together with its German translation, so that speech translation has a true reference
with word order, articles and adjective endings of its own.
"""

import hashlib
from dataclasses import dataclass

import numpy as np

from ...data.manifest import Split

DIGITS = {
    "zero": "null",
    "one": "eins",
    "two": "zwei",
    "three": "drei",
    "four": "vier",
    "five": "fünf",
    "six": "sechs",
    "seven": "sieben",
    "eight": "acht",
    "nine": "neun",
}
VERBS = {"put": "leg", "place": "stell", "bring": "bring", "take": "trag", "set": "setz", "move": "schieb"}
COLOURS = {"red": "rot", "blue": "blau", "green": "grün", "white": "weiß", "black": "schwarz", "yellow": "gelb"}
# English noun: (German noun, its gender, English plural, German plural)
OBJECTS = {
    "box": ("kiste", "f", "boxes", "kisten"),
    "ball": ("ball", "m", "balls", "bälle"),
    "book": ("buch", "n", "books", "bücher"),
    "cup": ("tasse", "f", "cups", "tassen"),
    "chair": ("stuhl", "m", "chairs", "stühle"),
    "lamp": ("lampe", "f", "lamps", "lampen"),
    "key": ("schlüssel", "m", "keys", "schlüssel"),
    "coat": ("mantel", "m", "coats", "mäntel"),
}
PREPOSITIONS = {"on": "auf", "by": "neben", "under": "unter", "in": "in"}
PLACES = {
    "table": ("tisch", "m"),
    "door": ("tür", "f"),
    "window": ("fenster", "n"),
    "garden": ("garten", "m"),
    "bed": ("bett", "n"),
    "house": ("haus", "n"),
}
ADVERBS = {"now": "jetzt", "again": "wieder", "please": "bitte", "soon": "bald", "today": "heute"}
NAMES = ("anna", "peter", "maria", "tom", "laura", "paul")
OBSERVES = {"sees": "sieht", "buys": "kauft", "has": "hat", "wants": "will", "finds": "findet"}
MEETS = {"call": "ruf", "meet": "triff"}
WEEKDAYS = {
    "monday": "montag",
    "tuesday": "dienstag",
    "wednesday": "mittwoch",
    "thursday": "donnerstag",
    "friday": "freitag",
    "saturday": "samstag",
    "sunday": "sonntag",
}
ARTICLES = {"m": "den", "f": "die", "n": "das"}
ADJECTIVE_ENDINGS = {"m": "en", "f": "e", "n": "e"}

VOCABULARY = frozenset(
    {*DIGITS, *VERBS, *COLOURS, *OBJECTS, *(forms[2] for forms in OBJECTS.values()), *PREPOSITIONS, *PLACES}
    | {*ADVERBS, *NAMES, *OBSERVES, *MEETS, *WEEKDAYS, "the", "me", "at"}
)


@dataclass(frozen=True)
class Sentence:
    """An English sentence of the pocket language and its German translation, both lower-case."""

    english: str
    german: str


def digit_string(digits: list[str]) -> Sentence:
    """The sentence that reads out English digit words."""
    return Sentence(" ".join(digits), " ".join(DIGITS[digit] for digit in digits))


def _object_phrase(noun: str, colour: str | None) -> tuple[str, str]:
    german, gender = OBJECTS[noun][:2]
    if colour is None:
        return f"the {noun}", f"{ARTICLES[gender]} {german}"
    adjective = COLOURS[colour] + ADJECTIVE_ENDINGS[gender]
    return f"the {colour} {noun}", f"{ARTICLES[gender]} {adjective} {german}"


def _command(rng: np.random.Generator, short: bool) -> Sentence:
    verb = str(rng.choice(list(VERBS)))
    colour = str(rng.choice(list(COLOURS))) if rng.random() < 0.8 else None
    noun = str(rng.choice(list(OBJECTS)))
    english, german = _object_phrase(noun, colour)
    if short:
        return Sentence(f"{verb} {english}", f"{VERBS[verb]} {german}")
    english_end = german_end = adverb = ""
    if rng.random() < 0.7:
        preposition, place = str(rng.choice(list(PREPOSITIONS))), str(rng.choice(list(PLACES)))
        german_place, gender = PLACES[place]
        english_end = f" {preposition} the {place}"
        german_end = f" {PREPOSITIONS[preposition]} {ARTICLES[gender]} {german_place}"
    if rng.random() < 0.5:
        adverb = str(rng.choice(list(ADVERBS)))
    german_adverb = f" {ADVERBS[adverb]}" if adverb else ""
    return Sentence(
        f"{verb} {english}{english_end}{' ' + adverb if adverb else ''}",
        f"{VERBS[verb]}{german_adverb} {german}{german_end}",
    )


def _observation(rng: np.random.Generator, short: bool) -> Sentence:
    name, verb = str(rng.choice(NAMES)), str(rng.choice(list(OBSERVES)))
    noun = str(rng.choice(list(OBJECTS)))
    _, _, english_plural, german_plural = OBJECTS[noun]
    digit = str(rng.choice([word for word in DIGITS if word not in ("zero", "one")]))
    colour = str(rng.choice(list(COLOURS))) if not short and rng.random() < 0.5 else None
    english_colour, german_colour = (f"{colour} ", f"{COLOURS[colour]}e ") if colour else ("", "")
    return Sentence(
        f"{name} {verb} {digit} {english_colour}{english_plural}",
        f"{name} {OBSERVES[verb]} {DIGITS[digit]} {german_colour}{german_plural}",
    )


def _appointment(rng: np.random.Generator, short: bool) -> Sentence:
    verb, day = str(rng.choice(list(MEETS))), str(rng.choice(list(WEEKDAYS)))
    hour = str(rng.choice([word for word in DIGITS if word != "zero"]))
    particle = " an" if verb == "call" else ""
    if short:
        return Sentence(f"{verb} me at {hour}", f"{MEETS[verb]} mich um {DIGITS[hour]}{particle}")
    return Sentence(f"{verb} me at {hour} on {day}", f"{MEETS[verb]} mich am {WEEKDAYS[day]} um {DIGITS[hour]}{particle}")


def _digits(rng: np.random.Generator, short: bool) -> Sentence:
    count = int(rng.integers(1, 5 if short else 7))
    return digit_string([str(word) for word in rng.choice(list(DIGITS), size=count)])


FORMS = (_command, _digits, _observation, _appointment)
FORM_WEIGHTS = (0.4, 0.3, 0.18, 0.12)


def text_split(text: str) -> str:
    """The split a text belongs to: test and dev sentences are never spoken in training.

    Digit strings of one or two words are too few to be divided and belong to all splits ("any").
    """
    words = text.split()
    if len(words) <= 2 and all(word in DIGITS for word in words):
        return "any"
    return split_of(text)


def split_of(text: str) -> Split:
    """The split that a text's hash says: a tenth each is test and dev."""
    bucket = hashlib.sha256(text.encode()).digest()[0] % 10
    return "test" if bucket == 0 else "dev" if bucket == 1 else "train"


def draw_sentence(rng: np.random.Generator, split: str, short: bool = False) -> Sentence:
    """Draw a sentence that belongs to a split ("train", "dev" or "test"); `short` keeps it to some four words."""
    while True:
        form = FORMS[int(rng.choice(len(FORMS), p=FORM_WEIGHTS))]
        sentence = form(rng, short)
        if text_split(sentence.english) in (split, "any"):
            return sentence
