"""Encoders: the embedded one, and its making, on a vocabulary that is small enough to count by hand."""

import json

import pytest
import torch
from tokenizers import Tokenizer


@pytest.fixture(scope="module")
def encoder():
    from amask.predictor.encoder import load_encoder

    return load_encoder()


def test_vectors_by_hand(encoder):
    ids, real = encoder.ids(["gender", "the gender of a speaker"])
    vectors, where = encoder.tokens(["gender", "the gender of a speaker"])
    assert torch.equal(real, where)
    assert vectors.shape == (*ids.shape, encoder.width)
    assert real.sum(1).tolist() == [1, 5]
    assert torch.allclose(vectors[1, 1], encoder.table[ids[1, 1]].float() * encoder.scales[ids[1, 1]])
    assert torch.equal(vectors[0, 0], vectors[1, 1])  # the same word
    assert not vectors[0, 1:].any()


@pytest.mark.parametrize(
    ("one", "alike", "other"),
    [
        ("what is the emotion of the speaker", "how does she feel", "translate the text"),
        ("is it a man or a woman", "the gender of the voice", "how loud is the music"),
        ("transcribe the speech", "write down the words", "what is the weather like"),
        ("the speaker's gender", "das Geschlecht des Sprechers", "das Wetter in London"),
    ],
)
def test_what_means_the_same_is_nearer(encoder, one, alike, other):
    vectors = encoder.sentences([one, alike, other])
    assert torch.allclose(vectors.norm(dim=1), torch.ones(3), atol=1e-5)
    assert float(vectors[0] @ vectors[1]) > float(vectors[0] @ vectors[2])


@pytest.mark.parametrize("text", ["", " ", "\n", "🙂", "日本語", "a" * 5000, "w " * 5000, "\x00", "\u200b", "\ufe0f", "\u0301"])
def test_any_text_has_vectors(encoder, text):
    vectors, real = encoder.tokens([text, "gender"])
    assert torch.isfinite(vectors).all()
    assert real.any(1).all()
    assert torch.isfinite(encoder.sentences([text])).all()


def test_a_missing_encoder_is_refused(tmp_path):
    from amask.errors import ModelError
    from amask.predictor.encoder import StaticEncoder

    with pytest.raises(ModelError, match="cannot be read"):
        StaticEncoder(tmp_path)


@pytest.fixture
def wordpiece():
    names = ["[PAD]", "[unused0]", "[UNK]", "[CLS]", "[SEP]", "a", "b", "##a", "##b", "ab", "日", "##ba", "abba"]
    config = {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##", "max_input_chars_per_word": 100}
    model = config | {"vocab": {name: at for at, name in enumerate(names)}}
    split = {"type": "BertPreTokenizer"}
    keys = ("truncation", "padding", "post_processor", "decoder")
    return Tokenizer.from_str(
        json.dumps(
            {"version": "1.0", "added_tokens": [], "normalizer": {"type": "Lowercase"}, "pre_tokenizer": split, "model": model}
            | dict.fromkeys(keys)
        )
    )


def test_a_fitted_tokenizer_keeps_single_letters_and_the_commonest_and_takes_new_words(wordpiece):
    from amask.predictor.making.distil import fit_tokenizer, frequent_words

    assert frequent_words(wordpiece, ["baab ab 日", "baab abba", "bb"], least=2, most=9) == ["baab"]
    small, pieces = fit_tokenizer(wordpiece, 8, ["baab", "ab"])
    assert small.get_vocab_size() == len(pieces) == 8
    assert small.encode("abba").tokens == ["ab", "##b", "##a"]  # was one token
    assert small.encode("baab").tokens == ["baab"]  # was three
    old = [wordpiece.encode(small.id_to_token(at)).ids for at in range(2, 8) if not small.id_to_token(at).startswith("##")]
    assert [piece for piece in pieces[2:] if piece in old] == old
    assert pieces[small.token_to_id("baab")] == wordpiece.encode("baab").ids
    assert "日" not in small.get_vocab()


def test_a_student_learns_where_its_teacher_points(wordpiece, tmp_path):
    import numpy as np

    from amask.predictor.encoder import StaticEncoder
    from amask.predictor.making.distil import Student, save, train_student

    texts = ["a", "b", "a b", "b b a"]
    targets = np.linalg.qr(np.random.default_rng(0).normal(size=(4, 4)))[0].astype(np.float32)
    torch.manual_seed(0)
    student = Student(torch.randn(13, 8), 4)
    lines = []
    train_student(student, wordpiece, texts, targets, steps=120, batch=8, seed=0, log=lines.append)
    first, last = (float(line.split("cosine ")[1].split(",")[0]) for line in (lines[0], lines[-1]))
    assert first < 0.5
    assert last > 0.8
    save(student, wordpiece, {}, tmp_path)
    loaded = StaticEncoder(tmp_path)
    expected = student.table.weight[torch.tensor([5, 6])].detach()
    assert torch.allclose(loaded.tokens(["a b"])[0][0], expected, atol=float(expected.abs().max()) / 127)


def test_any_sentence_transformers_model_gives_its_token_vectors(tmp_path, monkeypatch):
    """Of a random BERT whose sentence vectors are narrower than its token vectors; its folder is found from anywhere."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Dense, Pooling, Transformer
    from transformers import BertConfig, BertModel, BertTokenizerFast

    from amask.predictor.encoder import SentenceEncoder

    torch.manual_seed(0)
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "gender", "words", "the", "and"]
    (tmp_path / "vocab.txt").write_text("\n".join(words), encoding="utf-8")
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    BertModel(BertConfig(vocab_size=len(words), **sizes)).save_pretrained(tmp_path / "bert")
    BertTokenizerFast(vocab_file=str(tmp_path / "vocab.txt")).save_pretrained(tmp_path / "bert")
    reader = Transformer(str(tmp_path / "bert"))
    SentenceTransformer(modules=[reader, Pooling(16), Dense(16, 6)], device="cpu").save(str(tmp_path / "small"))

    monkeypatch.chdir(tmp_path)
    encoder = SentenceEncoder("small")
    assert (encoder.width, encoder.name) == (16, str(tmp_path / "small"))
    vectors, real = encoder.tokens(["the gender", "words"])
    assert vectors.shape == (2, 4, 16)
    assert real.sum(1).tolist() == [4, 3]
    assert [ends for ends in encoder.offsets(["the gender"])[0] if ends != (0, 0)] == [(0, 3), (4, 10)]
    assert encoder.sentences(["the gender"]).shape == (1, 6)
    with pytest.raises(Exception, match="cannot load encoder"):
        SentenceEncoder(str(tmp_path / "nothing"))
