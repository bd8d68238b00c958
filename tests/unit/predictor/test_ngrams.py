"""Words and letters of an instruction, whatever their order."""

import zlib

import pytest
import torch


def test_pieces_by_hand():
    from amask.predictor.ngrams import BUCKETS, hash_ngrams

    pieces = [" ab ", " ab", "ab ", " c ", "ab c"]  # runs of three letters and more, words, neighbours
    found = hash_ngrams(["Ab, c!"])
    assert set(found.buckets.tolist()) == {zlib.crc32(piece.encode()) % BUCKETS for piece in pieces}
    assert float((found.weights**2).sum()) == pytest.approx(1)


def test_each_text_has_its_own_pieces():
    from amask.predictor.ngrams import NgramRefusalHead, hash_ngrams

    torch.manual_seed(0)
    score = NgramRefusalHead().eval()
    assert not score(hash_ngrams(["anything at all"])).any()  # nothing is learned of letters yet
    torch.nn.init.normal_(score.table.weight)
    texts = ["the gender", "", "was wird gesagt", "gender the"]
    together = score(hash_ngrams(texts))
    for at, text in enumerate(texts):
        assert torch.allclose(together[at], score(hash_ngrams([text]))[0], atol=1e-6)
    assert not torch.allclose(together[0], together[3])  # neighbours count
