"""Distil a sentence-transformers model into a table of token vectors and a small reader that knows order.

The student's mean state learns to point where the teacher's sentence vector points, up to a linear map that is thrown
away. A German sentence learns the vector of its English translation (as in Reimers and Gurevych 2020), so that the small
one knows what German requests mean though the teacher does not.
"""

import json
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import chain
from pathlib import Path
from typing import cast

import numpy as np
import safetensors.torch
import torch
from jaxtyping import Float
from tokenizers import Tokenizer
from torch import Tensor, nn
from transformers import PreTrainedModel

from ...data.atomic_write import write_atomic
from ...data.tasks import builtin_tasks
from ..resources import load_frames
from ..synthesis import KINDS, RequestSource
from ..token_encoder import MAX_TOKENS, TokenEncoder, mean_state

Log = Callable[[str], None]
VOCABULARY = 16_000
SHORT = 18  # tokens; longer texts are left out, since they would make their batches slow
ENCODER_SIZE = {"width": 128, "layers": 2, "heads": 4, "hidden": 256}


def fit_tokenizer(tokenizer: Tokenizer, size: int, words: Sequence[str]) -> tuple[Tokenizer, list[list[int]]]:
    """The same tokenizer with another vocabulary: its commonest words and pieces in Latin letters, and some words more.

    Args:
        tokenizer: WordPiece, its vocabulary in the order of frequency, as BERT's is.
        size: how many tokens there will be.
        words: more words; those that are a token already change nothing.

    Returns:
        The tokenizer, and for each of its tokens the tokens that the given one has for it.
    """
    about = json.loads(tokenizer.to_str())
    old = about["model"]["vocab"]
    ordered = [token for token in sorted(old, key=old.__getitem__) if all(ord(letter) < 0x250 for letter in token)]
    special = [token for token in ordered if token in ("[PAD]", "[UNK]")]
    single = [token for token in ordered if len(token.removeprefix("##")) == 1]
    plain = [token for token in ordered if not token.startswith("[") or len(token) == 1]
    new = [word for word in dict.fromkeys(words) if word not in old]
    chosen = list(dict.fromkeys([*special, *single, *plain]))[: size - len(new)] + new
    about["model"]["vocab"] = {token: at for at, token in enumerate(chosen)}
    about["added_tokens"], about["post_processor"], about["truncation"], about["padding"] = [], None, None, None
    pieces = [[old[token]] if token in old else tokenizer.encode(token, add_special_tokens=False).ids for token in chosen]
    return Tokenizer.from_str(json.dumps(about)), pieces


def frequent_words(tokenizer: Tokenizer, texts: Sequence[str], least: int, most: int) -> list[str]:
    """Words that come at least so often in some texts and are no token, the commonest first."""
    counts: Counter[str] = Counter()
    for text in texts:
        clean = tokenizer.normalizer.normalize_str(text)
        counts.update(word for word, _ in tokenizer.pre_tokenizer.pre_tokenize_str(clean) if word.isalpha())
    known = tokenizer.get_vocab()
    return [word for word, count in counts.most_common() if count >= least and word not in known][:most]


@torch.inference_mode()
def first_vectors(
    teacher: PreTrainedModel, pieces: Sequence[Sequence[int]], affixes: tuple[int, int], width: int
) -> Float[Tensor, "token width"]:
    """What the teacher makes of each token by itself, between its start and end, in the largest principal components.

    Rare words count more than common ones, by Zipf's law over their rank, as in model2vec.
    """
    found = torch.zeros(len(pieces), teacher.config.hidden_size)
    for length in sorted(set(map(len, pieces))):
        rows = [at for at, piece in enumerate(pieces) if len(piece) == length]
        for start in range(0, len(rows), 512):
            chosen = rows[start : start + 512]
            ids = torch.tensor([[affixes[0], *pieces[at], affixes[1]] for at in chosen])
            found[chosen] = teacher(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state.mean(1)
    centred = found - found.mean(0)
    _, _, axes = torch.pca_lowrank(centred, width, center=False, niter=4)
    rank = torch.arange(2, len(pieces) + 2, dtype=torch.float32)
    return nn.functional.normalize(centred @ axes, dim=1) * rank.log()[:, None]


class Student(nn.Module):
    """The table, the reader, and the map to the teacher's vectors."""

    def __init__(self, vectors: Float[Tensor, "token width"], size: int) -> None:
        super().__init__()
        size_of_vectors = vectors.norm(dim=1).mean() / vectors.shape[1] ** 0.5
        self.table = nn.Embedding.from_pretrained(vectors / size_of_vectors / 4, freeze=False)
        self.token_encoder = TokenEncoder(vectors.shape[1], **ENCODER_SIZE)
        self.into = nn.Linear(ENCODER_SIZE["width"], size)

    def forward(self, ids: Tensor, token_mask: Tensor) -> Float[Tensor, "row size"]:
        """What the teacher would say."""
        return self.into(mean_state(self.token_encoder(self.table(ids) * token_mask.unsqueeze(-1), token_mask), token_mask))


def train_student(
    student: Student, tokenizer: Tokenizer, texts: Sequence[str], targets: np.ndarray, steps: int, batch: int, seed: int, log: Log
) -> None:
    """Train the student: the cosine with the teacher's vector, and to tell the batch's other texts from it."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    table = {"params": [student.table.weight], "lr": 2e-3}
    rest = [p for name, p in student.named_parameters() if not name.startswith("table")]
    optimizer = torch.optim.AdamW([table, {"params": rest, "lr": 2e-3}], weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, [2e-3, 2e-3], total_steps=steps, pct_start=0.05)
    tokenizer.enable_truncation(MAX_TOKENS)
    tokenizer.enable_padding()
    student.train()
    for step in range(steps):
        rows = rng.integers(len(texts), size=batch)
        found = tokenizer.encode_batch_fast([texts[row] for row in rows], add_special_tokens=False)
        ids = torch.tensor([each.ids for each in found])
        token_mask = torch.tensor([each.attention_mask for each in found], dtype=torch.bool)
        target = torch.from_numpy(targets[rows].astype(np.float32))
        requests = nn.functional.normalize(student(ids, token_mask), dim=1)
        distance = 1 - (requests * target).sum(1).mean()
        alike = nn.functional.softmax(target @ target.T * 20, dim=1)
        told = nn.functional.cross_entropy(requests @ target.T * 20, alike) + (alike * alike.clamp(min=1e-9).log()).sum(1).mean()
        optimizer.zero_grad()
        (distance + 0.3 * told).backward()
        nn.utils.clip_grad_norm_(student.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % 100 == 0 or step == steps - 1:
            log(f"step {step}: cosine {1 - distance:.3f}, divergence {told:.3f}")
    student.eval()


def save(student: Student, tokenizer: Tokenizer, about: dict, folder: Path) -> None:
    """Write the encoder: vectors of 8 bits with a scale each, the reader in 16 bits."""
    folder.mkdir(parents=True, exist_ok=True)
    table = student.table.weight.detach()
    scales = table.abs().amax(1).clamp(min=1e-6) / 127
    tensors = {name: tensor.half().contiguous() for name, tensor in student.token_encoder.state_dict().items()}
    tensors |= {"vectors": (table / scales[:, None]).round().to(torch.int8), "scales": scales.half()}
    tokenizer.no_padding()
    tokenizer.no_truncation()
    write_atomic(safetensors.torch.save(tensors), folder / "encoder.safetensors")
    write_atomic(tokenizer.to_str().encode(), folder / "tokenizer.json")
    write_atomic(json.dumps(about | {"reader": ENCODER_SIZE}, indent=1).encode(), folder / "config.json")


def sample_requests(count: int, seed: int) -> list[str]:
    """Requests to the predictor, as whole as they were written and put together; nothing that is held out."""
    source = RequestSource(tuple(builtin_tasks().values()), "all")
    found = [
        *chain(*source.singles.values(), *source.phrases.values(), *source.unsupported.values()),
        *load_frames()["unsupported_items"],
    ]
    rng = np.random.default_rng(seed)
    while len(found) < count:
        found.append(source.draw_kind(KINDS[int(rng.integers(len(KINDS)))], rng).text)
    return list(dict.fromkeys(found))


def distil(teacher: str, pairs: Path, folder: Path, log: Log, steps: int = 2000, batch: int = 128, seed: int = 1) -> None:
    """Make the encoder.

    Args:
        teacher: folder or Hub id of a sentence-transformers model with BERT's tokenizer.
        pairs: English and German sentences, a pair a line with a tab between.
        folder: where the encoder goes.
        log: told how it goes.
        steps: of the student's training.
        batch: sentences a step.
        seed: of the training.
    """
    from sentence_transformers import SentenceTransformer  # noqa: PLC0415  (takes seconds)

    model = SentenceTransformer(teacher, device="cpu")
    tokenizer = Tokenizer.from_str(model.tokenizer.backend_tokenizer.to_str())
    affixes = cast("tuple[int, int]", (tokenizer.token_to_id("[CLS]"), tokenizer.token_to_id("[SEP]")))
    english, german = zip(*(line.split("\t") for line in pairs.read_text(encoding="utf-8").splitlines()), strict=True)
    requests = sample_requests(12_000, seed)
    words = frequent_words(tokenizer, requests, 3, 1500) + frequent_words(tokenizer, german, 4, 2500)
    tokenizer, pieces = fit_tokenizer(tokenizer, VOCABULARY, words)
    log(f"{len(pieces)} tokens, {len(words)} of them new words")
    vectors = first_vectors(cast(PreTrainedModel, model[0].auto_model), pieces, affixes, ENCODER_SIZE["width"])
    log(f"the teacher reads {len(english)} sentences and {len(requests)} requests")
    theirs = [model.encode(list(texts), normalize_embeddings=True, show_progress_bar=False) for texts in (english, requests)]
    texts = [*english, *german, *requests, *requests]
    targets = np.concatenate([theirs[0], theirs[0], theirs[1], theirs[1]])
    short = [at for at, each in enumerate(tokenizer.encode_batch_fast(texts, add_special_tokens=False)) if len(each.ids) <= SHORT]
    torch.manual_seed(seed)
    student = Student(vectors, targets.shape[1])
    train_student(student, tokenizer, [texts[at] for at in short], targets[short], steps, batch, seed, log)
    save(student, tokenizer, {"teacher": "sentence-transformers/all-MiniLM-L6-v2", "steps": steps, "seed": seed}, folder)
