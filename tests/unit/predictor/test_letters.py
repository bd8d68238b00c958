"""Words and letters of an instruction, whatever their order."""

import zlib

import pytest
import torch


def test_pieces_by_hand():
    from amask.predictor.letters import BUCKETS, letters

    pieces = [" ab ", " ab", "ab ", " c ", "ab c"]  # runs of three letters and more, words, neighbours
    found = letters(["Ab, c!"])
    assert set(found.buckets.tolist()) == {zlib.crc32(piece.encode()) % BUCKETS for piece in pieces}
    assert float((found.weights**2).sum()) == pytest.approx(1)


def test_each_text_has_its_own_pieces():
    from amask.predictor.letters import Presence, letters

    torch.manual_seed(0)
    presence = Presence(3).eval()
    torch.nn.init.normal_(presence.table.weight)
    texts = ["the gender", "", "was wird gesagt", "gender the"]
    together = presence(letters(texts))
    for at, text in enumerate(texts):
        assert torch.allclose(together[at], presence(letters([text]))[0], atol=1e-6)
    assert not torch.allclose(together[0], together[3])  # neighbours count


def test_a_network_that_has_learned_nothing_of_letters_has_no_opinion_of_them():
    from amask.predictor.letters import Presence, letters

    assert not Presence(3)(letters(["anything at all"])).any()
