"""Which task does an instruction ask for? A text classifier over instruction examples that refuses the unclear."""

import tomllib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import FeatureUnion

from ..data.tasks import TaskSpec
from ..data.wordings import wordings
from ..errors import InstructionError
from .known import normalise

SURE = 0.6  # probability below which an instruction is refused
KNOWN = 0.35  # share of an instruction's weight that must lie on word pieces seen in the examples' nearest one
EXAMPLES = 120  # wordings a task; composites have thousands


@dataclass(frozen=True)
class Guess:
    """The task that an instruction asks for.

    Attributes:
        task: its canonical name.
        probability: of that task among all and none.
        nearest: the tasks in order of probability, for messages.
    """

    task: str
    probability: float
    nearest: tuple[str, ...]


@cache
def out_of_scope(part: str = "train") -> list[str]:
    """Requests that no task serves."""
    return tomllib.loads(files(__package__).joinpath("foreign.toml").read_text(encoding="utf-8"))[part]


def short_requests(task: TaskSpec) -> list[str]:
    """A single task's phrases by themselves and as a plain request."""
    frames = ("{}", "give {}", "tell me {}", "what is {}", "i want only {}")
    return [frame.format(phrase) for phrase in task.parts[0].phrases for frame in frames] if task.form == "plain" else []


class TaskClassifier:
    """Logistic regression on TF-IDF of words and letters, with a class for what no task serves.

    Args:
        tasks: those to choose from, as the bank has them.
    """

    def __init__(self, tasks: list[TaskSpec]) -> None:
        rng = np.random.default_rng(0)
        texts, classes = [], []
        for name, task in sorted({task.name: task for task in tasks}.items()):
            said = wordings(task) + short_requests(task)
            chosen = said if len(said) <= EXAMPLES else [said[i] for i in rng.permutation(len(said))[:EXAMPLES]]
            texts += [normalise(variant) for text in chosen for variant in (text, f"please {text}", f"{text} please")]
            classes += [name] * 3 * len(chosen)
        refused = [normalise(text) for text in out_of_scope()]
        letters = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), sublinear_tf=True)
        words = TfidfVectorizer(ngram_range=(1, 3), sublinear_tf=True, token_pattern=r"[\w']+")
        self._features = FeatureUnion([("letters", letters), ("words", words)])
        vectors = self._features.fit_transform(texts + refused)
        self._classes = LogisticRegression(C=50, max_iter=2000, class_weight="balanced")
        self._classes.fit(vectors, classes + [""] * len(refused))
        self._examples = vectors[: len(texts)]

    def guess(self, instruction: str) -> Guess:
        """The task that an instruction asks for.

        Raises:
            InstructionError: the instruction is empty, or no task is likely enough; the nearest tasks are named.
        """
        text = normalise(instruction)
        if not text:
            raise InstructionError("the instruction is empty; say what to do, such as \"what's the speaker's gender\"")
        vector = self._features.transform([text])
        chances = dict(zip(self._classes.classes_, self._classes.predict_proba(vector)[0], strict=True))
        order = sorted((task for task in chances if task), key=lambda task: -chances[task])
        likeness = float((self._examples @ vector.T).max()) / 2  # two unit vectors side by side
        best = order[0]
        if max(chances, key=chances.__getitem__) == "" or chances[best] < SURE or likeness < KNOWN:
            near = ", ".join(order[:3])
            raise InstructionError(
                f"no mask serves the instruction {instruction.strip()!r}; the nearest tasks are {near}; "
                f"name one with --task, or see 'amask bank list'"
            )
        return Guess(str(best), float(chances[best]), tuple(map(str, order)))
