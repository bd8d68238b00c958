"""Gates within the graph: the same numbers as `gated`, compiled in one piece, and nothing left behind."""

import pytest
import torch
from transformers import Qwen2Config, Qwen2Model


@pytest.fixture(scope="module")
def decoder(randomized):
    sizes = {"vocab_size": 40, "hidden_size": 24, "intermediate_size": 32, "num_hidden_layers": 3}
    return randomized(Qwen2Model(Qwen2Config(**sizes, num_attention_heads=4, num_key_value_heads=2, head_dim=10)), 0)


def test_one_graph_that_follows_the_gates(decoder):
    from amask.lalm.gated_projection import traceable_gates
    from amask.lalm.gating import find_sites, gated

    graphs = []

    def count(graph, _inputs):
        graphs.append(graph)
        return graph.forward

    sites = find_sites(decoder)
    embeds = torch.randn(2, 7, 24, generator=torch.Generator().manual_seed(0))
    how = {"inputs_embeds": embeds, "use_cache": False}
    expected, found, grads = [], [], []
    drawn = [torch.rand(2, 3, 4, generator=torch.Generator().manual_seed(seed)) for seed in range(3)]
    for gates in drawn:
        own = gates.clone().requires_grad_()
        with gated(sites, own):
            expected.append(decoder(**how).last_hidden_state)
        grads.append(torch.autograd.grad(expected[-1].square().sum(), own)[0])
    with traceable_gates(decoder, sites) as current:
        compiled = torch.compile(decoder, backend=count, fullgraph=True)
        for gates, grad in zip(drawn, grads, strict=True):
            own = gates.clone().requires_grad_()
            current.set(own)
            found.append(compiled(**how).last_hidden_state)
            torch.testing.assert_close(torch.autograd.grad(found[-1].square().sum(), own)[0], grad, rtol=1e-4, atol=1e-5)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
    assert len(graphs) == 1  # other gates are no reason to compile again
    assert [site.projection for site in find_sites(decoder)] == [site.projection for site in sites]


def test_gates_of_another_shape_are_refused(decoder):
    from amask.errors import ModelError
    from amask.lalm.gated_projection import traceable_gates
    from amask.lalm.gating import find_sites

    with traceable_gates(decoder, find_sites(decoder)) as current, pytest.raises(ModelError, match="do not fit a model of 3×4"):
        current.set(torch.ones(3, 5))
