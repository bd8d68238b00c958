"""LLaMA's tokenizer from `tokenizer.model`, the only one that Vicuna's folder has, without the sentencepiece library."""

from collections.abc import Iterator
from pathlib import Path

from transformers import LlamaTokenizer
from transformers.tokenization_utils_base import generate_merges

from ...errors import ModelError

# Fields of SentencePiece's model file (sentencepiece_model.proto): pieces and their text, the trainer and its kind of model.
PIECES, TEXT, TRAINER, KIND = 1, 1, 2, 3
BYTE_PAIRS = 2
_FIXED = {1: 8, 5: 4}  # bytes of Protocol Buffers' wire types of fixed size


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """The numbered fields of a Protocol Buffers message."""
    at = 0

    def number() -> int:
        nonlocal at
        value, shift = 0, 0
        while True:
            byte = data[at]
            value, shift, at = value | (byte & 127) << shift, shift + 7, at + 1
            if byte < 128:
                return value

    while at < len(data):
        key = number()
        if key & 7 == 0:
            yield key >> 3, number()
        else:
            length = number() if key & 7 == 2 else _FIXED[key & 7]
            if at + length > len(data):
                raise IndexError
            yield key >> 3, data[at : at + length]
            at += length


def _pieces(data: bytes) -> list[str]:
    messages: dict[int, list[bytes]] = {PIECES: [], TRAINER: []}
    for field, value in _fields(data):
        if field in messages and isinstance(value, bytes):
            messages[field].append(value)
    if {dict(_fields(trainer)).get(KIND) for trainer in messages[TRAINER]} != {BYTE_PAIRS}:
        raise ValueError
    return [str(dict(_fields(piece))[TEXT], "utf-8") for piece in messages[PIECES]]  # type: ignore[arg-type]


def read_tokenizer(folder: Path) -> LlamaTokenizer:
    """The tokenizer of a LLaMA folder, from `tokenizer.model` or, where there is none, `tokenizer.json`.

    As in transformers' `legacy` mode and the code that SALMONN was trained with, text behind a special token begins with
    a mark for a space, as text at the beginning does.

    Raises:
        ModelError: there is neither file, or it is damaged.
    """
    path = folder / "tokenizer.model"
    try:
        if not path.is_file() and (folder / "tokenizer.json").is_file():
            return LlamaTokenizer.from_pretrained(folder, legacy=True)
        vocabulary = {piece: at for at, piece in enumerate(_pieces(path.read_bytes()))}
    except OSError as error:
        raise ModelError(f"cannot read {path}: {error.strerror or error}; copy it into the folder") from None
    except (IndexError, KeyError, TypeError, ValueError):
        raise ModelError(f"{path} is no byte-pair tokenizer of SentencePiece or is damaged; download it again") from None
    return LlamaTokenizer(vocab=vocabulary, merges=generate_merges(vocabulary), legacy=True)
