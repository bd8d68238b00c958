"""What the construction has to know of a Whisper decoder at work: moments of queries and keys, and which neurons write."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import WhisperForConditionalGeneration

Key = tuple[int, bool, int]
"""Layer, whether cross-attention, head."""


@dataclass(frozen=True)
class Moments:
    """Statistics over some clips with their transcripts.

    Attributes:
        scores: (layer, cross, head) → E[q qᵀ] of the queries and the covariance of the keys.
        neurons: layer → how much each neuron of its feed-forward writes: mean |activation| × norm of its output weights.
        audio_norm: root mean square norm of the audio's states, without their means.
    """

    scores: Mapping[Key, tuple[Float[Tensor, "d d"], Float[Tensor, "d d"]]]
    neurons: Mapping[int, Float[Tensor, " neuron"]]
    audio_norm: float


@torch.no_grad()
def measure_moments(
    whisper: WhisperForConditionalGeneration,
    states: Sequence[Float[Tensor, "_ width"]],
    tokens: Sequence[Int[Tensor, " _"]],
) -> Moments:
    """Run the decoder on right answers and measure.

    Args:
        whisper: the model.
        states: the encoder's output for each clip, as the decoder is to read it.
        tokens: what the decoder is given of each clip: its start tokens and the transcript.
    """
    seen: dict[nn.Module, Tensor] = {}
    hooks = []
    for layer in whisper.model.decoder.layers:
        for attn in (layer.self_attn, layer.encoder_attn):
            for proj in (attn.q_proj, attn.k_proj):
                hooks.append(proj.register_forward_hook(lambda module, _, out: seen.__setitem__(module, out[0])))
        hooks.append(layer.fc2.register_forward_pre_hook(lambda module, args: seen.__setitem__(module, args[0][0])))
    heads = whisper.config.decoder_attention_heads
    queries: dict[Key, list[Tensor]] = defaultdict(list)
    keys: dict[Key, list[Tensor]] = defaultdict(list)
    activity: dict[int, list[Tensor]] = defaultdict(list)
    for audio, ids in zip(states, tokens, strict=True):
        whisper.model.decoder(input_ids=ids[None], encoder_hidden_states=audio[None], use_cache=False)
        for at, layer in enumerate(whisper.model.decoder.layers):
            for cross, attn in ((False, layer.self_attn), (True, layer.encoder_attn)):
                for store, proj in ((queries, attn.q_proj), (keys, attn.k_proj)):
                    for head, part in enumerate(seen[proj].view(len(seen[proj]), heads, -1).unbind(1)):
                        store[at, cross, head].append(part)
            activity[at].append(seen[layer.fc2].abs().mean(0))
    for hook in hooks:
        hook.remove()
    scores = {}
    for key, parts in queries.items():
        q, k = torch.cat(parts).double(), torch.cat(keys[key]).double()
        # q_proj's output is unscaled here; a key's mean adds the same to all scores of a query, which softmax ignores.
        scores[key] = (q.T @ q / len(q), torch.cov(k.T, correction=0))
    neurons = {
        at: torch.stack(rows).mean(0) * whisper.model.decoder.layers[at].fc2.weight.norm(dim=0) for at, rows in activity.items()
    }
    centred = torch.cat([each - each.mean(-1, keepdim=True) for each in states])
    return Moments(scores, neurons, float(centred.pow(2).sum(-1).mean().sqrt()))
