"""Attention for many answers behind one clip, against PyTorch's and against each answer alone."""

import pytest
import torch


def texts(answers) -> list[str]:
    return [answer.text for answer in answers]


def _ranges(rows, tokens, prefix, starts):
    """Words that all see, a clip behind them until `prefix`, and answers to it that do not see each other."""
    ranges = torch.zeros(rows, tokens, 4, dtype=torch.int32)
    ranges[:, 5:prefix] = torch.tensor([5, 0, 0, 8], dtype=torch.int32)
    ranges[:, 5:8, 3] = 5  # not seen by the clip
    for start, end in zip(starts, [*starts[1:], tokens], strict=True):
        ranges[:, start:end] = torch.tensor([5, 8, prefix, start], dtype=torch.int32)
    return ranges


@pytest.mark.parametrize("threads", [1, 2])
def test_the_compiled_attention_is_pytorchs(monkeypatch, threads):
    from amask.pocket.making import attention

    if attention._library() is None:
        pytest.skip("no C compiler here")
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    generator = torch.Generator().manual_seed(0)
    given = [torch.randn(3, 5, 50, 8, generator=generator) for _ in range(4)]
    ranges = _ranges(3, 50, 20, [20, 33])

    def run():
        query, key, value = (tensor.clone().requires_grad_() for tensor in given[:3])
        out = attention.attend(query, key, value, ranges, 0.35)
        out.backward(given[3])
        return [out.detach(), query.grad, key.grad, value.grad]

    compiled = run()
    monkeypatch.setattr(attention, "_library", lambda: None)
    for ours, theirs in zip(compiled, run(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_a_model_with_it_says_what_it_said_and_stays_the_same_model(tiny):
    """Plain causal attention, and answers token by token behind padding; masks stay valid."""
    from amask.lalm.batching import AudioFeatures
    from amask.pocket.making.attention import use_attention

    model = tiny
    features = AudioFeatures(torch.randn(2, 9, 256), torch.tensor([9, 5]))
    before = texts(model.answer(features, max_new_tokens=12)), model.token_losses(features, ["one two", "three"])[0]
    fingerprint = model.fingerprint
    use_attention(model.decoder)
    after = texts(model.answer(features, max_new_tokens=12)), model.token_losses(features, ["one two", "three"])[0]
    del model.fingerprint  # a cached property
    assert model.fingerprint == fingerprint
    assert after[0] == before[0]
    torch.testing.assert_close(after[1], before[1], rtol=1e-3, atol=1e-4)


def test_the_compiled_attention_leaves_small_numbers_alone():
    """A library that is linked for fast mathematics flushes subnormal numbers to zero in the whole process."""
    from amask.pocket.making import attention

    if attention._library() is None:
        pytest.skip("no C compiler here")
    assert float(torch.tensor(2.0**-149)) * 1.0 > 0
    assert 5e-324 * 1.0 > 0
