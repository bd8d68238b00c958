"""Make the vocabulary that misspelt words are mended to: `python -m amask.predictor.making.vocabulary`.

It has the words of all wordings, phrases, templates and demands, and how often; nothing that is held out.
"""

import argparse
from collections import Counter
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

from ...data.atomic_write import write_atomic
from ...data.tasks import builtin_tasks
from ..form_cues import nouns, table
from ..resources import load_demands, load_frames, load_patterns
from ..spelling import MIN_LENGTH, VOCABULARY, WORD
from ..templates import pieces
from ..wordings import read_wordings

MIN_COUNT = 2  # a word that is written once may be a slip
DEMAND_WORDS = 5  # how much more a word of demands counts than one writing of it


def vocabulary() -> str:
    """The words that are in use and their counts, a word a line."""
    counts = Counter(word.lower() for text in _texts() for word in WORD.findall(text))
    labels = (said for names in table()["label_names"].values() for said in names.values())
    demanded = {word for words in (*table()["words"].values(), *labels, nouns()) for word in words if WORD.fullmatch(word)}
    counts.update(dict.fromkeys(demanded, DEMAND_WORDS))
    kept = sorted(word for word, count in counts.items() if count >= MIN_COUNT and len(word) >= MIN_LENGTH)
    return "".join(f"{word} {counts[word]}\n" for word in kept)


def _texts() -> Iterator[str]:
    """All texts that nothing is held out of."""
    said = read_wordings()
    for task in said.tasks.values():
        yield from (*task.train, *task.phrases, *task.phrases_de, *task.imperatives, *task.imperatives_de)
    yield from (text for task in builtin_tasks().values() for text in (*task.wordings, *task.phrases))
    composites = said.composites
    yield from (request.text for request in composites.requests.train)
    for templates in (composites.pipe2, composites.pipe3, composites.json2, composites.json3, composites.single_with_exclusion):
        yield from (*templates.train, *templates.train_de)
    yield from (*said.unsupported.far, *said.unsupported.near)
    slots, patterns = load_patterns()
    for texts in (load_frames(), load_demands(), slots, patterns, pieces()):
        yield from (text for group in texts.values() for text in group)


def main() -> None:
    """Write it into the package."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    write_atomic(vocabulary().encode(), Path(str(files("amask.predictor").joinpath("wordings", VOCABULARY))))


if __name__ == "__main__":
    main()
