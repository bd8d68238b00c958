"""The paper's ablations of masks, each as the runs that it needs and the section that is made of them."""

from collections.abc import Iterator, Sequence
from functools import reduce
from operator import and_, or_
from statistics import mean
from typing import TYPE_CHECKING, cast

import torch

from ..mask_bank.comparison import compare
from ..mask_bank.files import StoredMask
from ..mask_bank.mask import HeadMask
from ..mask_bank.plots import ON, draw_heatmap
from .answer_store import Job
from .bench import Bench, headline, metric_arrow, missing_note, score_job
from .charts import FREE, RANDOM, UNPROMPTED, Curve, Strip, draw_bars, draw_curves, draw_masks, draw_points, draw_strips
from .controls import random_like, random_order
from .harness import Trial
from .predictions import Condition
from .section import Cell, Section

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def _random_trials(bench: Bench, name: str) -> list[Trial]:
    mask = bench.masks[name]
    return [Trial("random", f"seed {seed}", random_like(mask, seed), mask.spec) for seed in range(1, bench.options.random + 1)]


def random_jobs(bench: Bench) -> list[Job]:
    """Each single task by its mask, unprompted, and by random masks of equal size."""
    return [
        job
        for name in bench.singles
        for job in (
            bench.mask_job(name),
            bench.job(bench.sets[name], Trial("unprompted", "")),
            *(bench.job(bench.sets[name], trial) for trial in _random_trials(bench, name)),
        )
    ]


def random_section(bench: Bench) -> Section:
    """Whether which heads are on matters, or only how many."""
    lines: list[tuple[Cell, ...]] = []
    panels: dict[str, list[Strip]] = {}
    for name in bench.singles:
        mask, unprompted = (
            score_job(job) for job in (bench.mask_job(name), bench.job(bench.sets[name], Trial("unprompted", "")))
        )
        runs = [
            run for trial in _random_trials(bench, name) if (run := score_job(bench.job(bench.sets[name], trial))) is not None
        ]
        if mask is None or not runs:
            continue
        pairs = [headline(run) for run in runs]
        for answers, at in (("as run", 0), ("unconstrained", 1)):
            values = [float(pair[at]) for pair in pairs if pair[at] is not None]  # type: ignore[arg-type]
            own, bare = headline(mask)[at], headline(unprompted)[at]
            if not values or own is None:
                continue
            figures = (round(mean(values), 2), min(values), max(values))
            lines.append((name, mask.served[0].metric, answers, bench.masks[name].heads_on, own, bare, *figures, len(values)))
            strips = [Strip("mask", (own,), ON), Strip("random", tuple(values), RANDOM)]
            strips += [Strip("un-\nprompted", (bare,), UNPROMPTED)] if bare is not None else []
            panels[f"{name}, {answers} ({mask.served[0].metric}{metric_arrow(mask.served[0].metric)})"] = strips
    text = "Random masks have as many heads on in each layer as the task's mask. Unprompted: all heads on, no mask and no prompt."
    columns = ("task", "metric", "answers", "heads on", "mask", "unprompted", "random: mean", "lowest", "highest", "masks")
    note = missing_note(random_jobs(bench))
    return Section(
        "random", "Random masks of equal size", text, columns, tuple(lines), note=note, draw=lambda: draw_strips(panels)
    )


def _ordered(bench: Bench, name: str) -> Iterator[tuple[int, str, Trial]]:
    """(heads on, which order, the run) for some numbers of heads."""
    mask = bench.masks[name]
    if mask.logits is None:
        return
    total, points = mask.heads_total, bench.options.points
    counts = sorted({*(round(total * at / points) for at in range(points + 1)), mask.heads_on})
    orders = {"logit": mask.logits.double().masked_fill(~mask.geometry.switchable, -torch.inf)}
    orders |= {f"random {seed}": random_order(mask.geometry, seed) for seed in range(1, bench.options.orders + 1)}
    for order, keys in orders.items():
        rank = keys.flatten().argsort(descending=True, stable=True).argsort().view(keys.shape)
        for count in counts:
            bits = mask.geometry.allowed((rank < count) & mask.geometry.switchable)
            condition: Condition = "mask" if order == "logit" else "random"
            part = mask.with_(bits=bits, logits=None, task=None, lineage={"operation": f"first {count} by {order}"}, scores={})
            yield count, order, Trial(condition, f"{count} heads by {order}", part, mask.spec)


def order_jobs(bench: Bench) -> list[Job]:
    """Each single task with more and more heads on."""
    return [_order_job(bench, name, count, trial) for name in bench.singles for count, _, trial in _ordered(bench, name)]


def _order_job(bench: Bench, name: str, count: int, trial: Trial) -> Job:
    """No heads and all heads are the same in every order."""
    inner = 0 < count < bench.masks[name].heads_total
    return bench.job(bench.sets[name], trial, served_only=inner and trial.condition == "random")


def order_section(bench: Bench) -> Section:
    """Whether a task's pathway forms gradually."""
    lines: list[tuple[Cell, ...]] = []
    panels: dict[str, list[Curve]] = {}
    for name in bench.singles:
        found: dict[str, dict[int, tuple[float | None, float | None]]] = {}
        metric = ""
        for count, order, trial in _ordered(bench, name):
            run = score_job(_order_job(bench, name, count, trial))
            if run is not None:
                metric = run.served[0].metric
                found.setdefault(order, {})[count] = headline(run)
        if "logit" not in found:
            continue
        bands = [each for order, each in found.items() if order != "logit"]
        for count, (served, free) in found["logit"].items():
            others = [each[count][0] for each in bands if count in each]
            low, high = (min(others), max(others)) if others else (None, None)  # type: ignore[type-var]
            lines.append((name, metric, count, served, free, low, high))
        panels[f"{name} ({metric}{metric_arrow(metric)})"] = _order_curves(found)
    text = (
        "Heads are switched on from the one with the highest logit to the one with the lowest; the band is of random orders. "
        "The mask itself ends where logits fall below 0. Error rates above 150 % are cut off in the picture."
    )
    columns = ("task", "metric", "heads on", "by logit", "by logit, unc.", "random orders: lowest", "highest")
    note = missing_note(order_jobs(bench))

    def draw() -> "Figure":
        return draw_curves(panels, "heads on")

    return Section("order", "Heads on by order of logit", text, columns, tuple(lines), note=note, draw=draw if panels else None)


def _order_curves(found: dict[str, dict[int, tuple[float | None, float | None]]]) -> list[Curve]:
    curves = []
    for label, at, colour in (("as run", 0, ON), ("unconstrained", 1, FREE)):
        points = [(count, pair[at]) for count, pair in sorted(found["logit"].items()) if pair[at] is not None]
        if points:
            curves.append(
                Curve(f"by logit, {label}", tuple(float(x) for x, _ in points), tuple(float(y or 0) for _, y in points), colour)
            )
    bands = [each for order, each in found.items() if order != "logit"]
    counts = [count for count in sorted(found["logit"]) if bands and all(count in each for each in bands)]
    if counts:
        values = [[float(each[count][0] or 0) for each in bands] for count in counts]
        middle = tuple(mean(row) for row in values)
        band = (tuple(min(row) for row in values), tuple(max(row) for row in values))
        curves.append(Curve("random orders, as run", tuple(map(float, counts)), middle, RANDOM, band))
    return curves


def no_jobs(_bench: Bench) -> list[Job]:
    """Nothing is run."""
    return []


def jaccard_section(bench: Bench) -> Section:
    """Which tasks share heads."""
    masks = list(bench.masks.items())
    text = "Jaccard index of the heads that are on: both on over either on. Masks that are alike stand beside each other."
    if len(masks) < 2:
        return Section("jaccard", "Overlap of masks", text, ("mask",), (), note="it takes two masks")
    found = compare(masks)
    order, groups = cluster_masks(found.jaccard)
    names = [found.masks[at] for at in order]
    values = [[found.jaccard[row][column] for column in order] for row in order]
    rows: tuple[tuple[Cell, ...], ...] = tuple(
        (name, groups[at], *(f"{value:.2f}" for value in line)) for name, at, line in zip(names, order, values, strict=True)
    )
    return Section(
        "jaccard",
        "Overlap of masks",
        text,
        ("mask", "cluster", *names),
        rows,
        draw=lambda: draw_heatmap(names, values, "Jaccard index"),
    )


def cluster_masks(jaccard: Sequence[Sequence[float]]) -> tuple[list[int], list[int]]:
    """An order in which similar masks are neighbours, and the number of each one's cluster (average linkage)."""
    from scipy.cluster.hierarchy import fcluster, leaves_list, linkage  # noqa: PLC0415
    from scipy.spatial.distance import squareform  # noqa: PLC0415

    distances = squareform([[1 - value for value in row] for row in jaccard], checks=False)
    tree = linkage(distances, "average", optimal_ordering=True)
    cut = float((distances.min() + distances.max()) / 2)
    return [int(at) for at in leaves_list(tree)], [int(each) for each in fcluster(tree, cut, "distance")]


def heads_section(bench: Bench) -> Section:
    """Layers × heads of every mask."""
    text = "Layers downwards, heads to the right, all masks on one scale: green is on, brown is off."
    rows = tuple(
        (
            name,
            mask.spec,
            mask.heads_on,
            mask.heads_total,
            100 * mask.heads_on / mask.heads_total,
            int((mask.bits.sum(1) == 0).sum()),
        )
        for name, mask in bench.masks.items()
    )
    columns = ("task", "mask", "heads on", "of", "%", "layers without any")
    draw = (lambda: draw_masks(bench.masks)) if bench.masks else None
    return Section("heads", "Heads by layer", text, columns, rows, draw=draw)


def _seed_masks(bench: Bench, name: str) -> dict[str, HeadMask]:
    """Masks of a task from different seeds, what they share, and a random mask of that size; none where there is one seed."""
    same = [mask for mask in bench.versions if mask.task == bench.sets[name].task and "seed" in mask.lineage]
    newest = {mask.lineage["seed"]: mask for mask in same}
    if len(newest) < 2:
        return {}
    masks: dict[str, HeadMask] = {f"seed {seed}: {mask.spec}": mask for seed, mask in newest.items()}
    both = reduce(and_, masks.values())
    return masks | {
        "intersection": both,
        "union": reduce(or_, masks.values()),
        "random, of the intersection's size": random_like(both, 1),
    }


def seed_jobs(bench: Bench) -> list[Job]:
    """Each task by the masks of several seeds."""
    return [
        bench.job(bench.sets[name], Trial("mask", label, mask))
        for name in bench.measured
        for label, mask in _seed_masks(bench, name).items()
    ]


def seed_section(bench: Bench) -> Section:
    """How much masks of several seeds share, and whether what they share still does the task."""
    lines: list[tuple[Cell, ...]] = []
    panels: dict[str, dict[str, tuple[float, float]]] = {}
    for name in bench.measured:
        found = _seed_masks(bench, name)
        seeds = [mask for label, mask in found.items() if label.startswith("seed ")]
        for label, mask in found.items():
            run = score_job(bench.job(bench.sets[name], Trial("mask", label, mask)))
            if run is None:
                continue
            served, free = headline(run)
            overlap = mean(mask.jaccard(seed) for seed in seeds if seed is not mask)
            lines.append((name, label, mask.heads_on, f"{overlap:.2f}", run.served[0].metric, served, free))
            if served is not None:
                panels.setdefault(f"{name} ({run.served[0].metric}{metric_arrow(run.served[0].metric)})", {})[label] = (
                    float(mask.heads_on),
                    served,
                )
    text = (
        "Masks of one task from several seeds: their overlap (mean Jaccard index with the seeds), and what they and their "
        "intersection score."
    )
    note = (
        missing_note(seed_jobs(bench))
        if lines
        else "no task has masks of two seeds: 'amask bank train gr --seeds 1,2,3' trains some"
    )
    columns = ("task", "mask", "heads on", "Jaccard index", "metric", "as run", "unconstrained")
    return Section("seeds", "Seeds and their intersection", text, columns, tuple(lines), note=note,
                   draw=(lambda: draw_points(panels, "heads on")) if panels else None)  # fmt: skip


def _sparse_masks(bench: Bench, name: str) -> list[tuple[float, StoredMask]]:
    """Masks of a task trained with different λ, the newest of each."""
    found: dict[float, StoredMask] = {}
    for mask in bench.versions:
        recipe = mask.lineage.get("recipe")
        if mask.task == bench.sets[name].task and recipe and "sparsity" in recipe:
            found[float(recipe["sparsity"])] = mask
    return sorted(found.items(), key=lambda each: each[0]) if len(found) > 1 else []


def lambda_jobs(bench: Bench) -> list[Job]:
    """Each task by masks of different λ."""
    return [bench.mask_job(name, mask) for name in bench.measured for _, mask in _sparse_masks(bench, name)]


def lambda_section(bench: Bench) -> Section:
    """What sparsity costs."""
    lines: list[tuple[Cell, ...]] = []
    panels: dict[str, dict[str, tuple[float, float]]] = {}
    for name in bench.measured:
        for value, mask in _sparse_masks(bench, name):
            run = score_job(bench.mask_job(name, mask))
            if run is None:
                continue
            served, free = headline(run)
            metric = run.served[0].metric
            lines.append((name, f"{value:g}", mask.spec, mask.heads_on, metric, served, free))
            if served is not None:
                panels.setdefault(f"{name} ({metric}{metric_arrow(metric)})", {})[f"λ {value:g}"] = (float(mask.heads_on), served)
    text = "λ is the price of each head that is on in a mask's training: heads on, and what the mask scores."
    note = (
        missing_note(lambda_jobs(bench))
        if lines
        else "no task has masks of two λ: 'amask bank train gr --sparsity 1e-3 --name gr-sparse' trains one"
    )
    columns = ("task", "λ", "mask", "heads on", "metric", "as run", "unconstrained")
    return Section("lambda", "Sparsity", text, columns, tuple(lines), note=note,
                   draw=(lambda: draw_points(panels, "heads on")) if panels else None)  # fmt: skip


def _moved(bench: Bench, name: str) -> Trial | None:
    """A task's mask as one of the other model; None where its heads are not as many."""
    mask = bench.masks[name]
    if bench.other is None or bench.other.model.geometry != mask.geometry:
        return None
    moved = mask.with_(identity=bench.other.model.identity, logits=None)
    return Trial("mask", "", moved, mask.spec)


def transfer_jobs(bench: Bench) -> list[Job]:
    """Each single task by its mask on its own model and on the other, and unprompted there."""
    if bench.other is None:
        return []
    found = []
    for name in bench.singles:
        moved = _moved(bench, name)
        if moved is not None:
            found += [
                bench.mask_job(name),
                *(bench.other.job(bench.sets[name], each) for each in (moved, Trial("unprompted", ""))),
            ]
    return found


def transfer_section(bench: Bench) -> Section:
    """Whether a mask does its task in another model."""
    lines: list[tuple[Cell, ...]] = []
    for name in bench.singles if bench.other else ():
        moved = _moved(bench, name)
        if bench.other is None or moved is None:
            continue
        clips = bench.sets[name]
        runs = [
            score_job(job)
            for job in (bench.mask_job(name), bench.other.job(clips, moved), bench.other.job(clips, Trial("unprompted", "")))
        ]
        if runs[0] is not None:
            lines.append((name, runs[0].served[0].metric, *(value for run in runs for value in headline(run))))
    text = "Masks belong to one model; here they are tried on another with as many heads, which amask refuses otherwise."
    note = "give another model with --to" if bench.other is None else missing_note(transfer_jobs(bench))
    if bench.other is not None and not lines:
        note = f"{bench.other.model.name} has {bench.other.model.geometry} heads, so no mask of {bench.model.name} fits it"
    models = ("own model", "other model", "other unprompted")
    columns = ("task", "metric", *(column for model in models for column in (model, f"{model}, unc.")))

    def draw() -> "Figure":
        groups = [f"{name} ({metric}{metric_arrow(str(metric))})" for name, metric, *_ in lines]
        series = {model: [cast("float | None", line[2 + 2 * at]) for line in lines] for at, model in enumerate(models)}
        return draw_bars(groups, series, "as 'amask run' answers")

    return Section("transfer", "Transfer to another model", text, columns, tuple(lines), note=note, draw=draw if lines else None)
