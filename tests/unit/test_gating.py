"""Gated heads on tiny random decoders: what a gate does, for whom, and that it leaves nothing behind."""

from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from dataclasses import dataclass
from threading import Barrier

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from transformers import (
    BloomConfig,
    BloomForCausalLM,
    GenerationConfig,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    OPTConfig,
    OPTForCausalLM,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
)

CLOSE = {"rtol": 0, "atol": 2e-5}
SHOWS = 1e-2  # what differs, differs by more than this


@dataclass
class Tiny:
    """A model with something to read."""

    model: PreTrainedModel
    ids: Tensor

    @property
    def sites(self):
        from amask.lalm.gating import find_sites

        return find_sites(self.model.get_decoder())

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.sites), self.sites[0].heads

    def gates(self, rows: int | None = None, seed: int = 0) -> Tensor:
        """Random numbers between 0 and 1.5, a third of them 0."""
        generator = torch.Generator().manual_seed(seed)
        drawn = torch.rand((*(() if rows is None else (rows,)), *self.shape), generator=generator)
        return (drawn * 2.25 - 0.75).clamp(min=0)

    def logits(self, gates: Tensor | None, **inputs) -> Tensor:
        from amask.lalm.gating import gated

        with gated(self.sites, gates):
            return self.model(**(inputs or {"input_ids": self.ids})).logits

    def generate(self, gates: Tensor | None, beams: int = 1, cached: bool = True, **inputs):
        from amask.lalm.gating import gated

        search = GenerationConfig(
            num_beams=beams, use_cache=cached, max_new_tokens=8, min_new_tokens=8, do_sample=False, pad_token_id=0
        )
        with gated(self.sites, gates):
            ids = self.model.generate(**inputs, generation_config=search)
        return ids[:, inputs["input_ids"].shape[1] :]


def in_float64(model: PreTrainedModel) -> PreTrainedModel:
    """A copy that computes in float64 throughout, also where the model's own norms would step down to float32."""
    precise = deepcopy(model).double()
    for path, norm in list(precise.named_modules()):
        if type(norm).__name__.endswith("RMSNorm"):
            exact = nn.RMSNorm(norm.weight.shape, norm.variance_epsilon, dtype=torch.float64)
            exact.load_state_dict(norm.state_dict())
            precise.set_submodule(path, exact)
    return precise.requires_grad_(False)


def build(name: str, tiny_qwen2_audio, randomized) -> PreTrainedModel:
    sizes = {"vocab_size": 40, "hidden_size": 24, "intermediate_size": 32, "eos_token_id": 2, "pad_token_id": 0}
    if name == "llama":
        config = LlamaConfig(**sizes, num_hidden_layers=2, num_attention_heads=3)
        return randomized(LlamaForCausalLM(config), 0)
    if name == "qwen2":
        heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 10}
        return randomized(Qwen2ForCausalLM(Qwen2Config(**sizes, num_hidden_layers=3, **heads)), 0)
    model, _ = tiny_qwen2_audio(seed=0)
    return model


@pytest.fixture(scope="module", params=["llama", "qwen2", "qwen2_audio"])
def tiny(request, tiny_qwen2_audio, randomized) -> Tiny:
    model = build(request.param, tiny_qwen2_audio, randomized)
    return Tiny(model, torch.randint(6, 40, (3, 7), generator=torch.Generator().manual_seed(1)))


def test_sites(tiny):
    config = tiny.model.config.get_text_config()
    assert tiny.shape == (config.num_hidden_layers, config.num_attention_heads)
    layers = tiny.model.get_decoder().layers
    assert [site.projection for site in tiny.sites] == [layer.self_attn.o_proj for layer in layers]
    assert {site.width for site in tiny.sites} == {layers[0].self_attn.head_dim}


def test_gates_of_one_change_no_bit(tiny):
    plain = tiny.logits(None)
    assert torch.equal(tiny.logits(torch.ones(tiny.shape)), plain)
    assert torch.equal(tiny.logits(torch.ones(3, *tiny.shape)), plain)


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_gating_is_scaling_the_columns_of_the_projection(tiny, data):
    layers, heads = tiny.shape
    numbers = st.sampled_from([0.0, 0.0, 1.0, 1.0, 0.5, -2.0])
    gates = torch.tensor(data.draw(st.lists(numbers, min_size=layers * heads, max_size=layers * heads))).view(layers, heads)
    twin = Tiny(deepcopy(tiny.model), tiny.ids)
    for site, row in zip(twin.sites, gates, strict=True):
        site.projection.weight.mul_(row.repeat_interleave(site.width))
    torch.testing.assert_close(tiny.logits(gates), twin.logits(None), **CLOSE)


def test_every_head_matters_and_off_is_zeroed_columns(tiny):
    plain = tiny.logits(None)
    layers, heads = tiny.shape
    for layer in range(layers):
        for head in range(heads):
            gates = torch.ones(tiny.shape)
            gates[layer, head] = 0
            off = tiny.logits(gates)
            twin = Tiny(deepcopy(tiny.model), tiny.ids)
            site = twin.sites[layer]
            site.projection.weight[:, head * site.width : (head + 1) * site.width] = 0
            torch.testing.assert_close(off, twin.logits(None), **CLOSE)
            assert (off - plain).abs().max() > SHOWS


def test_rows_have_their_own_gates(tiny):
    ids = tiny.ids[:1].expand(3, -1)  # the same for all, so that only the gates differ
    gates = tiny.gates(rows=3)
    together = tiny.logits(gates, input_ids=ids)
    for at, alone in enumerate(gates):
        torch.testing.assert_close(together[at : at + 1], tiny.logits(alone, input_ids=ids[:1]), **CLOSE)
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert (together[one] - together[other]).abs().max() > SHOWS


@pytest.mark.parametrize("rows", [None, 3])
def test_generation_with_cache_equals_without(tiny, rows):
    gates = tiny.gates(rows)
    cached = tiny.generate(gates, input_ids=tiny.ids)
    assert torch.equal(cached, tiny.generate(gates, cached=False, input_ids=tiny.ids))
    assert not torch.equal(cached, tiny.generate(None, input_ids=tiny.ids))


@pytest.mark.parametrize("beams", [1, 3])
def test_generation_row_by_row_equals_one_batch(tiny, beams):
    """Rows of a batch keep their gates when beams multiply them."""
    ids = tiny.ids[:1].expand(3, -1)
    gates = tiny.gates(rows=3)
    together = tiny.generate(gates, beams, input_ids=ids)
    for at, alone in enumerate(gates):
        assert torch.equal(together[at : at + 1], tiny.generate(alone, beams, input_ids=ids[:1]))
    assert len(together.unique(dim=0)) == 3


@pytest.mark.parametrize("beams", [1, 3])
def test_left_padding(tiny, beams):
    lengths = [7, 4, 2]
    mask = torch.tensor([[0] * (7 - length) + [1] * length for length in lengths])
    ids = tiny.ids * mask
    gates = tiny.gates(rows=3)
    together = tiny.generate(gates, beams, input_ids=ids, attention_mask=mask)
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    logits = tiny.logits(gates, input_ids=ids, attention_mask=mask, position_ids=positions)
    for at, length in enumerate(lengths):
        short = {"input_ids": ids[at : at + 1, -length:]}
        torch.testing.assert_close(logits[at : at + 1, -length:], tiny.logits(gates[at], **short), **CLOSE)
        assert torch.equal(together[at : at + 1], tiny.generate(gates[at], beams, **short))


@pytest.mark.parametrize("rows", [None, 3])
def test_gradient_agrees_with_finite_differences(tiny, rows):
    precise = Tiny(in_float64(tiny.model), tiny.ids)

    def loss(gates: Tensor) -> Tensor:
        logits = precise.logits(gates)
        return nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), tiny.ids[:, 1:].flatten())

    gates = tiny.gates(rows).double().requires_grad_()
    assert torch.autograd.gradcheck(loss, gates)
    (gradient,) = torch.autograd.grad(loss(gates), gates)
    assert (gradient.abs() > 1e-4).all()


def test_contexts_multiply(tiny):
    from amask.lalm.gating import gated

    one, other = tiny.gates(seed=1), tiny.gates(seed=2)
    with gated(tiny.sites, one):
        nested = tiny.logits(other)
    torch.testing.assert_close(nested, tiny.logits(one * other), **CLOSE)


def test_gates_take_the_dtype_of_the_model(tiny):
    half = Tiny(deepcopy(tiny.model).bfloat16(), tiny.ids)
    assert half.logits(tiny.gates(rows=3)).dtype == torch.bfloat16
    assert torch.equal(half.logits(torch.ones(tiny.shape)), half.logits(None))


def test_gates_are_gone_after_use_and_after_an_error(tiny):
    from amask.lalm.gating import gated

    plain = tiny.logits(None)
    assert not torch.equal(tiny.logits(tiny.gates()), plain)
    assert torch.equal(tiny.logits(None), plain)
    with pytest.raises(RuntimeError, match="on purpose"), gated(tiny.sites, tiny.gates()):
        raise RuntimeError("on purpose")
    assert torch.equal(tiny.logits(None), plain)


def test_contexts_may_be_left_in_any_order(tiny):
    """As generators that are paused within one do."""
    from amask.lalm.gating import gated

    plain, (one, other) = tiny.logits(None), (gated(tiny.sites, tiny.gates(seed=seed)) for seed in (1, 2))
    one.__enter__()
    other.__enter__()
    one.__exit__(None, None, None)
    assert torch.equal(tiny.logits(None), tiny.logits(torch.ones(tiny.shape)))
    other.__exit__(None, None, None)
    assert torch.equal(tiny.logits(None), plain)


def test_a_call_with_its_own_gates_is_not_touched_by_other_threads(tiny):
    """Each thread gets what it gets alone; between its passes the others enter and leave their gates."""
    from amask.lalm.gating import gated

    masks = [tiny.gates(rows=rows, seed=seed) for seed in range(4) for rows in (None, 3)]
    ids = {"input_ids": tiny.ids, "attention_mask": torch.ones_like(tiny.ids)}
    alone = [tiny.generate(mask, **ids) for mask in masks]
    everybody = Barrier(len(masks))

    def ask(mask: Tensor) -> list[Tensor]:
        everybody.wait()
        with gated(tiny.model, mask):
            everybody.wait()  # all gates are active at once
            first = tiny.generate(None, **ids)
            everybody.wait()
        return [first, *(tiny.generate(mask, **ids) for _ in range(4))]

    with ThreadPoolExecutor(len(masks)) as pool:
        answers = list(pool.map(ask, masks))
    for expected, found in zip(alone, answers, strict=True):
        assert all(torch.equal(expected, answer) for answer in found)
    assert len({tuple(answer.flatten().tolist()) for answer in alone}) == len(masks)


def test_gates_that_do_not_fit_are_refused(tiny):
    from amask.errors import ModelError

    plain, (layers, heads) = tiny.logits(None), tiny.shape
    for shape in ((layers + 1, heads), (layers, heads + 1), (1, heads), (layers, 1), (3, layers, heads - 1), (heads, layers)):
        if shape != tiny.shape:
            with pytest.raises(ModelError, match=r"do not fit a model of \d+×\d+"):
                tiny.logits(torch.ones(shape))
    with pytest.raises(ModelError, match="gates for 2 rows"):
        tiny.logits(torch.ones(2, layers, heads))  # three rows to gate
    assert torch.equal(tiny.logits(None), plain)


class Mixing(nn.Module):
    """An attention layer without attention: all that gating looks at."""

    def __init__(self, heads: int) -> None:
        super().__init__()
        self.num_heads = heads
        self.mix = nn.Linear(6, heads * 5)
        self.o_proj = nn.Linear(heads * 5, 6, bias=False)

    def forward(self, states: Tensor) -> Tensor:
        return states + self.o_proj(self.mix(states))


@pytest.fixture
def hybrid() -> nn.Module:
    """Layers of 2, 4 and 1 heads with one between them that has none."""
    torch.manual_seed(0)
    return nn.Sequential(Mixing(2), nn.Linear(6, 6), Mixing(4), Mixing(1)).requires_grad_(False)


def test_layers_may_differ_in_heads(hybrid):
    from amask.lalm.gating import Geometry, find_sites, gated

    sites = find_sites(hybrid)
    geometry = Geometry(tuple(site.heads for site in sites))
    assert geometry == Geometry((2, 4, 1))
    states = torch.randn(2, 3, 6)
    gates = torch.rand(2, *geometry.shape)
    with gated(sites, gates):
        got = hybrid(states)
    for row, alone in enumerate(gates):
        twin = deepcopy(hybrid)
        for site, gate in zip(find_sites(twin), alone, strict=True):
            site.projection.weight.mul_(gate[: site.heads].repeat_interleave(site.width))
        torch.testing.assert_close(got[row], twin(states[row]), **CLOSE)
    with gated(sites, gates.masked_fill(~geometry.present, 7.0)):
        assert torch.equal(hybrid(states), got)  # entries of absent heads mean nothing


@given(heads=st.lists(st.integers(1, 9), min_size=1, max_size=6).map(tuple))
def test_geometry(heads):
    from amask.lalm.gating import Geometry

    geometry = Geometry(heads)
    assert geometry.shape == (len(heads), max(heads))
    assert geometry.total == sum(heads) == int(geometry.present.sum())
    assert geometry.present.sum(1).tolist() == list(heads)
    widths = str(heads[0]) if len(set(heads)) == 1 else f"{min(heads)}–{max(heads)}"
    assert str(geometry) == f"{len(heads)}×{widths}"


def test_decoders_without_heads_are_refused(hybrid):
    from amask.errors import ModelError
    from amask.lalm.gating import find_sites

    with pytest.raises(ModelError, match=r"no attention output projection called o_proj.*projection=\.\.\.\), one of none"):
        find_sites(nn.Sequential(nn.Linear(2, 2)))
    hybrid[2].num_heads = 3  # of 20 columns
    with pytest.raises(ModelError, match=r"cannot tell how many heads enter 2\.o_proj \(20 wide; found 3\).*heads="):
        find_sites(hybrid)
    assert [site.heads for site in find_sites(hybrid, heads=1)] == [1, 1, 1]


TEXT_ONLY = {
    "gpt2": (GPT2LMHeadModel, GPT2Config(n_embd=24, n_layer=2, n_head=3, vocab_size=40, n_positions=32), "attn.c_proj"),
    "opt": (
        OPTForCausalLM,
        OPTConfig(
            vocab_size=40,
            hidden_size=24,
            word_embed_proj_dim=24,
            ffn_dim=32,
            num_hidden_layers=2,
            num_attention_heads=3,
            max_position_embeddings=32,
        ),
        "self_attn.out_proj",
    ),
    "bloom": (BloomForCausalLM, BloomConfig(vocab_size=40, hidden_size=24, n_layer=2, n_head=3), "self_attention.dense"),
}


@pytest.mark.parametrize("name", TEXT_ONLY)
def test_heads_of_other_decoders_are_found_where_the_user_says(name, randomized):
    """The error names the places; heads there are columns of the projection, Conv1D's rows."""
    from amask.errors import ModelError
    from amask.lalm.gating import find_sites, gated

    kind, config, projection = TEXT_ONLY[name]
    model = randomized(kind(config), 0)
    with pytest.raises(ModelError, match=rf"projection=.*\b{projection}\b"):
        find_sites(model)
    sites = find_sites(model, projection)
    assert [(site.heads, site.width) for site in sites] == [(3, 8), (3, 8)]
    gates, ids = torch.tensor([[1.0, 0.0, 1.0], [0.0, 1.0, 0.5]]), torch.arange(5)[None]
    with torch.no_grad(), gated(sites, gates):
        got = model(ids).logits
    for site, gate in zip(sites, gates, strict=True):
        columns = gate.repeat_interleave(site.width)
        site.projection.weight.mul_(columns[:, None] if name == "gpt2" else columns)
    torch.testing.assert_close(got, model(ids).logits, **CLOSE)


def test_a_model_is_as_good_as_its_sites(tiny):
    from amask.lalm.gating import find_sites, gated

    assert find_sites(tiny.model) == find_sites(tiny.model.get_decoder()) == tiny.sites
    for model in (tiny.model, tiny.model.get_decoder(), tiny):
        with gated(model, tiny.gates()):
            found = tiny.logits(None)
        assert torch.equal(found, tiny.logits(tiny.gates()))


def fresh(tiny):
    """A copy of the model that was never gated."""
    model = deepcopy(tiny.model)
    for module in model.modules():
        module._forward_pre_hooks.clear()
    return model


def test_gates_act_on_what_was_compiled_before(tiny):
    """A hook that a module did not have when it was compiled would be skipped in silence."""
    from amask.lalm.gating import gated

    decoder = fresh(tiny)
    compiled = torch.compile(decoder, backend="eager")
    with torch.no_grad():
        plain = compiled(tiny.ids).logits
        for gates in (torch.zeros(tiny.shape), torch.ones(tiny.shape), torch.zeros(tiny.shape)):
            with gated(decoder, gates):
                found, expected = compiled(tiny.ids).logits, decoder(tiny.ids).logits
            torch.testing.assert_close(found, expected)
            assert torch.equal(found, plain) == bool(gates.all())
        torch.testing.assert_close(compiled(tiny.ids).logits, plain)


@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpointing_with_backward_outside_is_refused(tiny, reentrant):
    from concurrent.futures import ThreadPoolExecutor

    from amask.errors import ModelError
    from amask.lalm.gating import gated

    decoder = fresh(tiny).train().requires_grad_(True)
    embeds = decoder.get_input_embeddings()(tiny.ids).detach().requires_grad_()

    def loss(gates):
        return decoder(inputs_embeds=embeds).logits.square().mean() if gates is None else _gated_loss(gates)

    def _gated_loss(gates):
        with gated(decoder, gates):
            return decoder(inputs_embeds=embeds).logits.square().mean()

    plain = torch.full(tiny.shape, 0.5, requires_grad=True)
    with gated(decoder, plain):
        decoder(inputs_embeds=embeds).logits.square().mean().backward()
    decoder.gradient_checkpointing_enable({"use_reentrant": reentrant})
    if not reentrant:
        inside = torch.full(tiny.shape, 0.5, requires_grad=True)
        with gated(decoder, inside):
            decoder(inputs_embeds=embeds).logits.square().mean().backward()
        torch.testing.assert_close(inside.grad, plain.grad)
    with pytest.raises(ModelError, match="within the block of `gated`"):
        loss(torch.full(tiny.shape, 0.5, requires_grad=True)).backward()
    with ThreadPoolExecutor(1) as pool, pytest.raises(ModelError, match="in the thread that entered it"):
        gates = torch.full(tiny.shape, 0.5, requires_grad=True)
        with gated(decoder, gates):
            pool.submit(decoder(inputs_embeds=embeds).logits.square().mean().backward).result()
    loss(None).backward()  # without gates checkpointing is nobody's business


def test_gates_as_users_have_them(tiny):
    """Numpy arrays, lists and masks; anything else is refused in a line."""
    from types import SimpleNamespace

    from amask.errors import ModelError
    from amask.lalm.gating import gated

    gates = torch.rand(tiny.shape)

    def run(given):
        with torch.no_grad(), gated(tiny.model, given):
            return tiny.model(tiny.ids).logits

    for same in (gates.numpy(), gates.tolist(), SimpleNamespace(gates=gates)):
        assert torch.equal(run(same), run(gates))
    for wrong, says in (
        ("gr", "cannot gate by str"),
        (gates[0], "1 dimensions"),
        (gates * torch.nan, "not finite"),
        ([[1], [1, 2]], "list"),
    ):
        with pytest.raises(ModelError, match=says):
            run(wrong)
