"""The construction: Whisper's decoder, made causal, against Whisper itself."""

import pytest
import torch

AUDIO, WORDS = 11, 9


@pytest.fixture(scope="module")
def whisper():
    """A small random Whisper with six heads and weights large enough to matter."""
    from transformers import WhisperConfig, WhisperForConditionalGeneration

    torch.manual_seed(0)
    encoder = {"encoder_layers": 1, "encoder_attention_heads": 6, "encoder_ffn_dim": 64}
    decoder = {"decoder_layers": 2, "decoder_attention_heads": 6, "decoder_ffn_dim": 256}
    sizes = {"d_model": 96, "vocab_size": 300, "init_std": 0.1, "pad_token_id": 0, "decoder_start_token_id": 1}
    model = WhisperForConditionalGeneration(WhisperConfig(**encoder, **decoder, **sizes, bos_token_id=1, eos_token_id=0)).eval()
    with torch.no_grad():
        for name, parameter in model.model.decoder.named_parameters():
            if name.endswith("bias"):
                parameter.normal_(std=0.1)
        # Whisper's learned positions are smooth.
        places = torch.arange(len(model.model.decoder.embed_positions.weight))[:, None]
        waves = torch.linspace(0.005, 0.06, 96)[None] * places + torch.linspace(0, 40, 96)[None]
        model.model.decoder.embed_positions.weight.copy_(0.1 * waves.sin())
    return model


@pytest.fixture(scope="module")
def states():
    return [torch.randn(AUDIO, 96, generator=torch.Generator().manual_seed(seed)) for seed in range(6)]


@pytest.fixture(scope="module")
def tokens():
    return [torch.randint(2, 290, (WORDS,), generator=torch.Generator().manual_seed(seed)) for seed in range(6)]


@pytest.fixture(scope="module")
def moments(whisper, states, tokens):
    from amask.pocket.making.whisper_moments import measure_moments

    return measure_moments(whisper, states, tokens)


@pytest.fixture(scope="module")
def build(whisper, moments):
    from amask.pocket.making.whisper_decoder import DecoderBuilder, DecoderShape

    def built(**sizes):
        shape = DecoderShape(
            **{"width": 18, "split": 1, "fresh": 0, "neurons": 624, "fresh_neurons": 0, "carrier": 100.0} | sizes
        )
        return DecoderBuilder(whisper, shape, moments, list(range(300)), extra=1)

    return built


def _run(builder, audio, ids, gates=None):
    """Last states behind the anchor, by the stock class on the whole sequence."""
    table = builder.model.get_input_embeddings()
    start, text = table(torch.tensor([builder.null])), table(torch.cat([torch.tensor([builder.anchor]), ids]))
    sequence = torch.cat([start, builder.project(audio), text])[None]
    return builder.model.model(inputs_embeds=sequence, output_hidden_states=True)


@torch.no_grad()
@pytest.mark.parametrize("sizes", [{}, {"split": 2}, {"fresh": 4, "neurons": 700}, {"neurons": 700, "fresh_neurons": 540}])
def test_its_logits_are_whispers(whisper, build, states, tokens, sizes):
    """Whole heads, split ones, with fresh ones beside them, and with neurons behind the next self-attention."""
    builder = build(**sizes)
    for audio, ids in zip(states, tokens, strict=True):
        theirs = whisper(encoder_outputs=(audio[None],), decoder_input_ids=ids[None]).logits[0]
        ours = builder.model.lm_head(_run(builder, audio, ids).last_hidden_state[0, -len(ids) :])[:, :300]
        theirs, ours = (each - each.mean(-1, keepdim=True) for each in (theirs, ours))
        if sizes.get("fresh_neurons"):  # the last layer's other neurons are left out: nothing stands behind it
            assert torch.corrcoef(torch.stack([theirs.flatten(), ours.flatten()]))[0, 1] > 0.9
        else:
            assert (theirs - ours).abs().max() < 0.03 * theirs.abs().max()
            assert (theirs.argmax(-1) == ours.argmax(-1)).float().mean() > 0.85


@torch.no_grad()
def test_fewer_dimensions_keep_the_best_of_a_heads_scores(whisper, build, states, tokens):
    """By the moments of its queries and keys: better than as many of its own first dimensions."""
    builder = build(width=10, split=2)
    to_query, to_key = builder._narrow(1, True, 0)
    attn = whisper.model.decoder.layers[1].encoder_attn
    audio = torch.cat(states)
    keys = attn.k_proj(audio)[:, :16].double()
    queries = (
        torch.randn(50, 16, generator=torch.Generator().manual_seed(1)).double()
        @ torch.linalg.cholesky(builder.moments.scores[1, True, 0][0] + 1e-9 * torch.eye(16).double()).T
    )
    centred = keys - keys.mean(0)
    exact = queries @ centred.T
    ours = (queries @ to_query.T) @ (centred @ to_key.T).T
    first = queries[:, :8] @ centred[:, :8].T
    assert (ours - exact).pow(2).mean() < 0.5 * (first - exact).pow(2).mean()


@torch.no_grad()
def test_the_audios_stream_never_changes(build, states, tokens):
    """Every layer writes the same to all audio positions and to null, fresh heads included."""
    builder = build(fresh=4, neurons=700)
    hidden = _run(builder, states[0], tokens[0]).hidden_states[:-1]
    for layer in hidden:
        written = (layer - hidden[0])[0, : 1 + AUDIO]
        torch.testing.assert_close(written, written[:1].expand_as(written), rtol=0, atol=1e-4)


@torch.no_grad()
def test_the_pass_over_text_alone_is_the_stock_pass(build, states, tokens):
    """For rows of different lengths, with and without gates on heads."""
    from amask.lalm.fixed_audio import causal, text_states
    from amask.lalm.gating import find_sites, gated

    builder = build(fresh=4, neurons=700)
    decoder, table = builder.model.model, builder.model.get_input_embeddings()
    lengths = [AUDIO, 5, 8]
    audio = torch.stack([builder.project(each) for each in states[:3]])
    text = torch.stack([table(torch.cat([torch.tensor([builder.null, builder.anchor]), each])) for each in tokens[:3]])
    heard = torch.arange(AUDIO)[None] < torch.tensor(lengths)[:, None]
    sites = find_sites(decoder)
    gates = (torch.rand(3, len(sites), builder.heads, generator=torch.Generator().manual_seed(3)) > 0.4).float()
    gates[:, 0] = 1
    for chosen in (None, gates):
        with gated(sites, chosen):
            ours = text_states(decoder, audio, heard, text, causal(text.shape[1]).expand(3, -1, -1))
        for row, length in enumerate(lengths):
            sequence = torch.cat([text[row, :1], audio[row, :length], text[row, 1:]])[None]
            with gated(sites, None if chosen is None else chosen[row]):
                stock = decoder(inputs_embeds=sequence).last_hidden_state[0, -WORDS:]
            torch.testing.assert_close(ours[row, 2:], stock, rtol=1e-3, atol=0.05)


@torch.no_grad()
def test_positions_are_whispers(whisper, build, tokens):
    """What the first layer adds to a text's embeddings, whatever the text."""
    builder = build()
    states, normed = builder._counted(builder.model.model.layers[0])
    found = states + builder.model.model.layers[0].mlp(normed)
    wanted = whisper.model.decoder.embed_positions.weight[: found.shape[1]] @ builder.centre.float()
    ids = torch.randint(0, builder.null, (8, found.shape[1]), generator=torch.Generator().manual_seed(0))
    added = found[..., :96] - builder.model.get_input_embeddings()(ids)[..., :96]
    assert ((added - wanted).pow(2).mean().sqrt() / wanted.std()) < 0.05
    assert found[..., 96:].abs().max() < 0.1  # of 64: and no marker is left


def test_what_must_stay_does_not_move(build):
    """Markers, positions and embeddings: no step reaches them, and fresh numbers move faster than Whisper's."""
    from amask.pocket.making.rates import learning_rates

    builder = build(fresh=4, neurons=700)
    rates = learning_rates(builder, 10.0)
    assert not rates["embed_tokens.weight"].any()
    assert not any(rate.any() for name, rate in rates.items() if name.startswith("layers.0."))
    query = rates["layers.2.self_attn.q_proj.weight"].view(builder.heads, 18, -1)
    assert query[0, :16, :96].unique().tolist() == [1.0]
    assert query[-1, :16, :96].unique().tolist() == [10.0]
    assert not query[:, 16:].any()
    assert not query[..., 96:].any()
    assert not rates["layers.2.self_attn.o_proj.weight"][96:].any()
