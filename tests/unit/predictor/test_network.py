"""The network: logits factorised as its formula says, order that matters, padding that does not."""

import math

import pytest
import torch


@pytest.fixture
def network(identity):
    from amask.predictor.network import Network

    torch.manual_seed(0)
    return Network(6, 3, identity.geometry, width=16, hidden=24).eval()


def test_logits_by_hand(identity):
    from amask.predictor.network import HeadLogits

    torch.manual_seed(0)
    heads = HeadLogits(4, identity.geometry, hidden=5, code=3).requires_grad_(False)
    state = torch.randn(2, 4)
    found = heads(state)
    for layer, count in enumerate(identity.geometry.heads):
        for head in range(count):
            mixed = state[1] * heads.scale[layer] + heads.shift[layer]
            inner = heads.into.weight @ mixed + heads.into.bias
            inner = torch.tensor([x * 0.5 * (1 + math.erf(x / math.sqrt(2))) for x in inner.tolist()])
            code = heads.out.weight @ inner + heads.out.bias
            assert float(found[1, layer, head]) == pytest.approx(float(code @ heads.heads[head]), abs=1e-4)


@pytest.mark.parametrize("tokens", [1, 2, 9, 96])
def test_the_quick_way_says_the_same(identity, tokens):
    from amask.predictor.network import Network
    from amask.predictor.ngrams import hash_ngrams
    from amask.predictor.quick import QuickNetwork

    torch.manual_seed(tokens)
    network = Network(6, 3, identity.geometry, width=16, hidden=24).eval()
    torch.nn.init.normal_(network.ngram_refusal.table.weight)
    torch.nn.init.normal_(network.ngram_tasks.table.weight)
    vectors, said = torch.randn(1, tokens, 6), hash_ngrams(["tell me the gender"])
    with torch.inference_mode():
        whole = network(vectors, torch.ones(1, tokens, dtype=torch.bool), said)
    scores, logits, single_task = QuickNetwork(network)(vectors, said)
    for one, other in (
        (scores.part, whole.scores.part),
        (scores.form, whole.scores.form),
        (scores.unsupported, whole.scores.unsupported),
    ):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(logits, whole.logits, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(single_task, whole.single_task, rtol=1e-4, atol=1e-4)


def test_heads_that_there_are_not_are_never_on(identity, network):
    from amask.predictor.ngrams import hash_ngrams

    said = network(torch.randn(2, 3, 6), torch.ones(2, 3, dtype=torch.bool), hash_ngrams(["a", "b"]))
    assert bool((said.logits[:, ~identity.geometry.present] < -1000).all())


def test_size_hardly_grows_with_the_model():
    from amask.lalm.gating import Geometry
    from amask.predictor.network import Network

    sizes = [sum(p.numel() for p in Network(128, 8, Geometry(heads)).parameters()) for heads in ((64,) * 8, (40,) * 40)]
    assert sizes[1] < 1.05 * sizes[0]
    assert sizes[1] < 1_100_000


def test_order_matters_and_padding_does_not(network):
    from amask.predictor.ngrams import hash_ngrams

    vectors, said = torch.randn(1, 4, 6), hash_ngrams(["the same letters"])
    real = torch.ones(1, 4, dtype=torch.bool)
    single_task = network(vectors, real, said)
    turned = network(vectors.flip(1), real, said)
    longer = torch.cat([vectors, torch.zeros(1, 3, 6)], 1), torch.cat([real, torch.zeros(1, 3, dtype=torch.bool)], 1)
    padded = network(*longer, said)
    assert not torch.allclose(single_task.scores.part, turned.scores.part, atol=1e-3)
    assert torch.allclose(single_task.scores.part, padded.scores.part, atol=1e-5)
    assert torch.allclose(single_task.logits, padded.logits, atol=1e-4)


def test_texts_longer_than_what_is_read(trained):
    assert trained.predict(["gender " * 500, ""])
