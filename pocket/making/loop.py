"""A resumable training loop: the state after step n depends on the seed and n alone."""

import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

import torch
from torch import Tensor, nn

Log = Callable[[str], None]


def learning_rate(step: int, steps: int, peak: float, warmup: int) -> float:
    """Linear warm-up, then a cosine to a twentieth of the peak."""
    if step < warmup:
        return peak * (step + 1) / warmup
    return peak * (0.05 + 0.95 * (1 + math.cos(math.pi * (step - warmup) / max(steps - warmup, 1))) / 2)


def train(
    modules: nn.ModuleDict,
    losses: Callable[[int], dict[str, Tensor]],
    *,
    steps: int,
    peak: dict[str, float],
    warmup: int,
    checkpoint: Path,
    log: Log,
    save_every: int = 100,
    rates: Mapping[Tensor, Tensor] = MappingProxyType({}),
) -> None:
    """Train until `steps`, from the checkpoint if there is one; ends with `modules` in eval mode.

    Args:
        modules: everything that is trained.
        losses: step → named losses; their sum is minimised. It must depend on the step alone.
        steps: number of steps in all.
        peak: highest learning rate of each of `modules`.
        warmup: steps of warm-up.
        checkpoint: where weights, optimiser and step are kept.
        log: told the mean losses and the speed every 20 steps.
        save_every: steps between checkpoints.
        rates: parameter → for each of its numbers how much of each step it takes.
    """
    trained = [parameter for parameter in modules.parameters() if parameter.requires_grad]
    groups = [{"params": [p for p in modules[name].parameters() if p.requires_grad], "lr": rate} for name, rate in peak.items()]
    optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.98), weight_decay=0.0)
    start = 0
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        modules.load_state_dict(state["modules"])
        optimizer.load_state_dict(state["optimizer"])
        start = state["step"]
    modules.train()
    sums: dict[str, float] = {}
    since = time.monotonic()
    for step in range(start, steps):
        for group, rate in zip(optimizer.param_groups, peak.values(), strict=True):
            group["lr"] = learning_rate(step, steps, rate, warmup)
        parts = losses(step)
        optimizer.zero_grad()
        sum(parts.values(), torch.zeros(())).backward()
        nn.utils.clip_grad_norm_(trained, 1.0)
        before = {parameter: parameter.detach().clone() for parameter in rates}
        optimizer.step()
        with torch.no_grad():
            for parameter, share in rates.items():  # Adam's steps do not grow with the gradient, so the step itself is scaled
                parameter.copy_(before[parameter] + share * (parameter - before[parameter]))
        for name, part in parts.items():
            sums[name] = sums.get(name, 0.0) + float(part.detach())
        if (step + 1) % 20 == 0:
            seconds = (time.monotonic() - since) / 20
            means = " ".join(f"{name} {value / 20:.3f}" for name, value in sums.items())
            log(f"step {step + 1}/{steps}  {seconds:.2f} s/step  {means}")
            sums, since = {}, time.monotonic()
        if (step + 1) % save_every == 0 or step + 1 == steps:
            half_written = checkpoint.with_suffix(".part")
            torch.save({"modules": modules.state_dict(), "optimizer": optimizer.state_dict(), "step": step + 1}, half_written)
            half_written.replace(checkpoint)
    modules.eval()
