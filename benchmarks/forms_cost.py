"""What holding an answer to its form costs a token: `python benchmarks/forms_cost.py [--tokens N] [--vocabulary N …]`.

Random scores are decoded greedily under llguidance, as in `amask run`, with tokenizers of several sizes (byte-level, made
for this; 152000 is the size of Qwen2's) and batches of rows, each row of another form: a label, a pipe, JSON, a schema.
Beside it: the same decoding without forms. Milliseconds a token of a row; the first step, which builds what llguidance
knows of a tokenizer, is told apart.
"""

import argparse
import itertools
import statistics
import string
import time

import torch
from rich.console import Console
from rich.table import Table
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from amask.data.tasks import parse_task
from amask.lalm.constrained_decoding import Constraint, ConstraintProcessor, schema_constraint, task_constraint

SCHEMA = {
    "type": "object",
    "properties": {"gender": {"enum": ["female", "male"]}, "words": {"type": "array", "items": {"type": "string"}}},
    "required": ["gender", "words"],
    "additionalProperties": False,
}


def make_tokenizer(size: int) -> PreTrainedTokenizerFast:
    """A byte-level tokenizer of a given size: all bytes, and the first letter strings of two to four letters."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    letters = [*string.ascii_lowercase, "Ġ"]
    words = ["".join(each) for length in (2, 3, 4) for each in itertools.product(letters, repeat=length)]
    pieces = [*alphabet, "<|end|>", *words][:size]
    vocabulary = {piece: at for at, piece in enumerate(pieces)}
    merges = [(piece[:-1], piece[-1]) for piece in pieces[len(alphabet) + 1 :]]
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|end|>", pad_token="<|end|>")


def decode(tokenizer: PreTrainedTokenizerFast, forms: list[Constraint | None], tokens: int) -> list[float]:
    """Seconds of each step of decoding random scores."""
    generator = torch.Generator().manual_seed(0)
    ends = [tokenizer.convert_tokens_to_ids("<|end|>")]
    processor = ConstraintProcessor(tokenizer, forms, 1, 2 * tokens, ends)
    ids, seconds = torch.zeros(len(forms), 1, dtype=torch.long), []
    for _ in range(tokens):
        scores = torch.randn(len(forms), len(tokenizer), generator=generator)
        scores[:, ends] = -10.0  # as long as a form lets it
        start = time.perf_counter()
        chosen = processor(ids, scores).argmax(-1, keepdim=True)
        seconds.append(time.perf_counter() - start)
        ids = torch.cat([ids, chosen], 1)
    return seconds


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=48, help="tokens of each answer")
    parser.add_argument("--vocabulary", type=int, nargs="+", default=[1_600, 32_000, 152_000])
    parser.add_argument("--rows", type=int, nargs="+", default=[1, 8, 32])
    given = parser.parse_args()
    torch.set_num_threads(1)
    mixed = [task_constraint(parse_task(name)) for name in ("gr-asr-json", "gr", "gr-asr")] + [schema_constraint(SCHEMA)]
    table = Table("vocabulary", "rows", "first step, ms", "held, ms/token", "free, ms/token", box=None, header_style="bold")
    for size in given.vocabulary:
        tokenizer = make_tokenizer(size)
        for rows in given.rows:
            held = decode(tokenizer, [mixed[at % len(mixed)] for at in range(rows)], given.tokens)
            free = decode(tokenizer, [None] * rows, given.tokens)
            first, *rest = (1000 * second for second in held)
            each = statistics.median(rest) / rows, statistics.median(1000 * second for second in free) / rows
            table.add_row(str(size), str(rows), f"{first:.1f}", f"{each[0]:.3f}", f"{each[1]:.3f}")
    Console().print(table)


if __name__ == "__main__":
    main()
