"""Token vectors of a text: by the encoder that comes with amask, or by any sentence-transformers model.

The one that comes with amask is a distillate of all-MiniLM-L6-v2 (`weights/encoder`, see its card): a table of token
vectors and a small reader, whose mean state is like MiniLM's sentence vector. It needs no download and loads in a moment.
"""

import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import safetensors.torch
import torch
from jaxtyping import Bool, Float
from safetensors import SafetensorError
from tokenizers import Tokenizer
from torch import Tensor

from ..errors import ModelError
from .token_encoder import MAX_TOKENS, TokenEncoder, mean_state

EMBEDDED = Path(__file__).parent / "weights" / "encoder"
CACHE_SIZE = 20_000  # texts whose vectors a slow encoder keeps
STATIC = "static"
"""The name of the encoder that comes with amask."""

Tokens = tuple[Float[Tensor, "row token width"], Bool[Tensor, "row token"]]


@runtime_checkable
class Encoder(Protocol):
    """What gives texts their token vectors.

    Attributes:
        name: `static`, a folder or a Hub id.
        width: of the vectors.
    """

    name: str
    width: int

    def tokens(self, texts: Sequence[str]) -> Tokens:
        """Vectors of each text's tokens, padded with zeros on the right, and where they are real."""

    def offsets(self, texts: Sequence[str]) -> list[list[tuple[int, int]]]:
        """Where each token of a text begins and ends, in letters; marks of the encoder's own are empty."""

    def sentences(self, texts: Sequence[str]) -> Float[Tensor, "row size"]:
        """One vector of length 1 for each text; texts that mean the same have a large scalar product."""


class StaticEncoder:
    """A table of token vectors, and the reader that it was distilled with.

    Args:
        folder: holds `tokenizer.json` and `encoder.safetensors`.

    Raises:
        ModelError: a file is missing or damaged.
    """

    name = STATIC

    def __init__(self, folder: Path = EMBEDDED) -> None:
        self.folder = folder
        try:
            config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
            tensors = safetensors.torch.load_file(folder / "encoder.safetensors")
            self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
            self.table: Tensor = tensors.pop("vectors")
            self.scales: Tensor = tensors.pop("scales").float()
            self.width = self.table.shape[1]
            self.token_encoder = TokenEncoder(self.width, **config["reader"])
            self.token_encoder.load_state_dict({name: tensor.float() for name, tensor in tensors.items()})
        except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
            raise ModelError(f"the encoder in {folder} cannot be read: {error}; reinstall amask") from None
        self.token_encoder.eval().requires_grad_(False)
        self.tokenizer.enable_truncation(MAX_TOKENS)
        self.tokenizer.enable_padding()

    def __reduce__(self) -> tuple[Any, ...]:
        return StaticEncoder, (self.folder,)

    def ids(self, texts: Sequence[str]) -> tuple[Tensor, Bool[Tensor, "row token"]]:
        """Token numbers, and where they are real; a text without any token has one that is unknown."""
        found = self.tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
        if not all(any(each.attention_mask) for each in found):  # nothing but spaces, accents, marks that are not seen
            there = [text if any(each.attention_mask) else "?" for text, each in zip(texts, found, strict=True)]
            found = self.tokenizer.encode_batch_fast(there, add_special_tokens=False)
        ids = torch.tensor([each.ids for each in found])
        return ids, torch.tensor([each.attention_mask for each in found], dtype=torch.bool)

    def tokens(self, texts: Sequence[str]) -> Tokens:
        """Vectors of each text's tokens, padded with zeros on the right, and where they are real."""
        ids, token_mask = self.ids(texts)
        return self.table[ids].float() * (self.scales[ids] * token_mask).unsqueeze(-1), token_mask

    def offsets(self, texts: Sequence[str]) -> list[list[tuple[int, int]]]:
        """Where each token of a text begins and ends, in letters."""
        return [each.offsets for each in self.tokenizer.encode_batch(list(texts), add_special_tokens=False)]

    @torch.inference_mode()
    def sentences(self, texts: Sequence[str]) -> Float[Tensor, "row size"]:
        """One vector of length 1 for each text."""
        vectors, token_mask = self.tokens(texts)
        return mean_state(self.token_encoder(vectors, token_mask), token_mask)


class SentenceEncoder:
    """A sentence-transformers model by its token vectors.

    Args:
        name: a Hub id or a folder.

    Raises:
        ModelError: it cannot be loaded.
    """

    def __init__(self, name: str) -> None:
        from sentence_transformers import SentenceTransformer  # noqa: PLC0415  (takes seconds)

        try:
            self.model = SentenceTransformer(name, device="cpu")
        except (OSError, ValueError, RuntimeError, KeyError, SafetensorError) as error:
            raise ModelError(f"cannot load encoder {name!r}: {error}; name a folder, a Hub id, or {STATIC}") from None
        self.name = str(Path(name).resolve()) if Path(name).is_dir() else name
        self._rows: dict[str, Tensor] = {}
        self.width = self.tokens(["width"])[0].shape[-1]

    def tokens(self, texts: Sequence[str]) -> Tokens:
        """Vectors of each text's tokens, padded with zeros on the right, and where they are real."""
        new = [text for text in dict.fromkeys(texts) if text not in self._rows]
        if new:
            found = self.model.encode(new, output_value="token_embeddings", convert_to_numpy=False, show_progress_bar=False)
            self._rows |= {text: row[:MAX_TOKENS].half().clone() for text, row in zip(new, found, strict=True)}
        rows = [self._rows[text].float() for text in texts]
        if len(self._rows) > CACHE_SIZE:
            self._rows.clear()
        lengths = torch.tensor([len(row) for row in rows])
        padded = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
        return padded, torch.arange(padded.shape[1]) < lengths[:, None]

    def offsets(self, texts: Sequence[str]) -> list[list[tuple[int, int]]]:
        """Where each token of a text begins and ends, in letters; marks of the encoder's own are empty."""
        return self.model.tokenizer(list(texts), truncation=True, return_offsets_mapping=True)["offset_mapping"]

    def sentences(self, texts: Sequence[str]) -> Float[Tensor, "row size"]:
        """One vector of length 1 for each text."""
        found = self.model.encode(list(texts), convert_to_tensor=True, show_progress_bar=False)
        return torch.nn.functional.normalize(found.float().cpu(), dim=1)


@cache
def load_encoder(name: str = STATIC) -> Encoder:
    """An encoder by its name, kept for the next call.

    Raises:
        ModelError: it cannot be loaded.
    """
    return StaticEncoder() if name == STATIC else SentenceEncoder(name)
