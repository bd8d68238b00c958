"""Metrics of open text: what each counts in answers beside their references."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import regex
from rapidfuzz.distance import Levenshtein

from ..errors import DataError
from .extras import import_extra
from .intervals import Counts, Sample
from .normalise import characters, tokens, words_alike

_HAN = regex.compile(r"\p{Han}")
_OTHERS_WITHOUT_SPACES = regex.compile(r"[\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}]")


def word_errors(answers: Sequence[str], references: Sequence[str]) -> Counts:
    """Word errors and reference words of each row; in scripts without spaces every character is a word.

    Punctuation does not count, so neither does the ";" between overlapping speakers. Where a reference is empty, each word
    of the answer is an insertion.
    """
    pairs = [words_alike(answer, reference) for answer, reference in zip(answers, references, strict=True)]
    return np.array([[Levenshtein.distance(*pair), len(pair[1])] for pair in pairs], np.float64)


def character_errors(answers: Sequence[str], references: Sequence[str]) -> Counts:
    """Character errors and reference characters of each row, as `normalise.characters` has them."""
    pairs = [(characters(answer), characters(reference)) for answer, reference in zip(answers, references, strict=True)]
    return np.array([[Levenshtein.distance(*pair), len(pair[1])] for pair in pairs], np.float64)


def rouge_l(answers: Sequence[str], references: Sequence[str]) -> Counts:
    """ROUGE-L F1 of each row, without stemming, over the words of any language."""
    scorer = import_extra("rouge_score.rouge_scorer", "ROUGE-L").RougeScorer(["rougeL"], tokenizer=_Words())
    pairs = zip(answers, references, strict=True)
    return _of_one([float(scorer.score(reference, answer)["rougeL"].fmeasure) for answer, reference in pairs])


class _Words:
    """What rouge_score asks for words; its own tokenizer knows only a to z and 0 to 9."""

    def tokenize(self, text: str) -> list[str]:
        return tokens(text)


def meteor(answers: Sequence[str], references: Sequence[str]) -> Counts:
    """METEOR of each row by nltk (Banerjee and Lavie 2005): words match as they are, by stem or by WordNet.

    Raises:
        DataError: WordNet is not installed.
    """
    single_meteor_score = import_extra("nltk.translate.meteor_score", "METEOR").single_meteor_score
    wordnet = open_wordnet()
    pairs = zip(map(tokens, answers), map(tokens, references), strict=True)
    # nltk divides by zero where a text is empty.
    return _of_one([single_meteor_score(r, a, wordnet=wordnet) if a and r else 0.0 for a, r in pairs])


def open_wordnet() -> Any:  # noqa: ANN401 (nltk has no types)
    """The English WordNet of nltk.

    Raises:
        DataError: it is not installed; the message holds the command.
    """
    wordnet = import_extra("nltk.corpus", "METEOR").wordnet
    try:
        wordnet.ensure_loaded()
    except LookupError:
        command = "python -m nltk.downloader wordnet"
        raise DataError(f"METEOR needs WordNet, which is not installed; run '{command}', or take rouge_l or chrf") from None
    return wordnet


def _of_one(values: Sequence[float]) -> Counts:
    return np.array([[value, 1.0] for value in values], np.float64)


def bleu(answers: Sequence[str], references: Sequence[str]) -> Sample:
    """Corpus BLEU as sacrebleu has it, case and punctuation included; scripts without spaces are cut into characters."""
    text = "".join(references)
    # sacrebleu's tokenizer of Japanese needs a dictionary (MeCab)
    tokenize = "char" if _OTHERS_WITHOUT_SPACES.search(text) else "zh" if _HAN.search(text) else "13a"
    # effective_order only matters where no answer has four words: a right one is then worth 100, not 0.
    sacrebleu = import_extra("sacrebleu", "BLEU")
    return _corpus(sacrebleu.BLEU(tokenize=tokenize, effective_order=True), answers, references)


def chrf(answers: Sequence[str], references: Sequence[str]) -> Sample:
    """Corpus chrF2 as sacrebleu has it (Popović 2015)."""
    return _corpus(import_extra("sacrebleu", "chrF").CHRF(), answers, references)


def _corpus(metric: Any, answers: Sequence[str], references: Sequence[str]) -> Sample:  # noqa: ANN401 (BLEU or CHRF)
    # sacrebleu's own resampling fails on some texts: it mixes numpy's and Python's floats.
    counts = np.array(metric._extract_corpus_statistics(answers, [references]))
    return Sample(len(counts), lambda rows: float(metric._compute_score_from_stats(counts[rows].sum(0).tolist()).score))
