"""Composites on the pocket model or another: `python benchmarks/composer_table.py --out FILE`.

For each composite, on test clips of unseen speakers that carry all labels: the best and the mean of some prompts, masks by set
operations and sums of logits, one pass by the mask that `amask compose` comes to, and the parts in parallel. Answers of masks are
held to the composite's form, as in use; those of prompts are free.
With `--warm-start` also how many steps a training needs from different starts.
"""

import argparse
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean

import torch

from amask.cli.common import open_model
from amask.composer.candidates import Candidate, find_candidates
from amask.composer.composite import DevEvaluator, SearchOptions, Train, build_dev_evaluator, compose_task
from amask.composer.composite_data import build_composite_data
from amask.composer.confirmation import Target, confirm
from amask.composer.expression import And, Expression, Name
from amask.composer.search import CandidateScore, score_candidate, score_part_masks
from amask.data.manifest import Manifest, stable_shuffle
from amask.data.metrics import Score
from amask.data.reading import read_manifest
from amask.data.tasks import TaskSpec, parse_task
from amask.data.wordings import wordings
from amask.evaluation.controls import random_like
from amask.lalm.answering import texts
from amask.lalm.base import LALM
from amask.lalm.parallel import answer_parts
from amask.mask_bank.bank import MaskBank
from amask.mask_bank.mask import HeadMask
from amask.mask_bank.recipe import choose_recipe
from amask.mask_bank.train import train
from amask.pocket import SLICE

COMPOSITES = ("gr-asr", "asr-gr", "gr-asr-json", "asr-gr-json", "ser-gr", "ser-gr-asr", "gr-ser-asr-json")
STEPS = (10, 20, 40, 80, 160, 320)  # of trainings from different starts


@dataclass(frozen=True)
class Settings:
    """How much is measured and trained."""

    clips: int
    prompts: int
    steps: int
    seeds: tuple[int, ...]


def measured(ground: DevEvaluator, name: str, mask: HeadMask, said: list[str], own: dict[str, Score]) -> CandidateScore:
    return score_candidate(ground.spec, Candidate(name, mask), said, own, ground.references)


def model_tokens(ground: DevEvaluator) -> int:
    return ground.model.max_tokens_for(ground.references)


def prompted(ground: DevEvaluator, own: dict[str, Score], every: HeadMask, count: int) -> list[CandidateScore]:
    """Every head on, and an instruction: each of some wordings."""
    said = wordings(ground.spec)
    chosen = [said[at * len(said) // count] for at in range(min(count, len(said)))]
    found = []
    for words in chosen:
        answers = texts(ground.model.answer(ground.features, None, words, max_new_tokens=model_tokens(ground)))
        found.append(measured(ground, f"prompt: {words}", every, answers, own))
    return found


def rows_of(ground: DevEvaluator, bank: MaskBank, data: Manifest, settings: Settings) -> list[tuple[str, str]]:
    """Table rows of one composite: what way, and its cells."""
    model, spec = ground.model, ground.spec
    clips = range(len(ground.references))
    singles = [(ground.part_masks[part.name], TaskSpec(parts=(part,))) for part in spec.parts]
    alone = dict(zip(spec.names, ground.answer(singles, clips), strict=True))
    own = score_part_masks(spec, alone, ground.references)
    every = HeadMask(model.geometry.present, model.identity)
    prompts = prompted(ground, own, every, settings.prompts)
    best = min(prompts, key=lambda result: result.loss)
    rows = [(f"best prompt: “{best.candidate.name.removeprefix('prompt: ')}”", cells(best))]
    rows.append((f"mean of {len(prompts)} prompts", mean_cells(prompts)))
    tree = And(tuple(map(Name, spec.names)))
    for candidate in find_candidates(tree, dict(ground.part_masks)):
        if candidate.name not in spec.names:
            (said,) = ground.answer([(candidate.mask, spec)], clips)
            rows.append((candidate.name, cells(measured(ground, candidate.name, candidate.mask, said, own))))
    rows += one_pass(ground, bank, tree, data, settings, own)
    masks = list(ground.part_masks.values())
    said = [a.text for a in answer_parts(model, ground.features, spec, masks, max_new_tokens=model_tokens(ground))]
    rows.append(("**parallel**", cells(measured(ground, "parallel", every, said, own))))
    exact = ", ".join(f"{part.name} {part.metric} {own[part.name].value:.1f}" for part in spec.parts)
    return [*rows, ("own masks, alone", f"| {exact}")]


def one_pass(
    ground: DevEvaluator, bank: MaskBank, tree: Expression, data: Manifest, settings: Settings, own: dict[str, Score]
) -> Iterator[tuple[str, str]]:
    """A row for the mask that `amask compose` comes to; for each seed, where it trains."""
    model, spec = ground.model, ground.spec
    for seed in settings.seeds:
        start = time.perf_counter()
        trainer = train_with(model, settings.steps, seed) if settings.steps else None
        options = SearchOptions("json" if spec.form == "json" else "pipe")
        composed = compose_task(model, bank, tree, data, options, train=trainer)
        took = time.perf_counter() - start
        (said,) = ground.answer([(composed.mask, spec)], range(len(ground.references)))
        verdict = "reached" if composed.confirmation.reached else "missed"
        seeded = f", seed {seed}" if composed.how == "trained" else ""
        name = f"**one pass**: {composed.result.candidate.name}, {composed.how} in {took:.0f} s{seeded}, target on dev {verdict}"
        yield name, cells(measured(ground, "one pass", composed.mask, said, own))
        if composed.how == "selected":
            return


def cells(result: CandidateScore) -> str:
    return f"{result.ifr:.1f} | " + ", ".join(f"{f.part} {f.metric} {f.value:.1f}" for f in result.part_scores)


def mean_cells(results: list[CandidateScore]) -> str:
    part_scores = zip(*(result.part_scores for result in results), strict=True)
    parts = ", ".join(f"{part[0].part} {part[0].metric} {mean(each.value for each in part):.1f}" for part in part_scores)
    return f"{mean(result.ifr for result in results):.1f} | {parts}"


def train_with(model: LALM, steps: int, seed: int) -> Train:
    def run(spec: TaskSpec, data: Manifest, start: HeadMask | None) -> HeadMask:
        return train(model, spec, data, seeds=[seed], recipe=choose_recipe([spec], steps=steps), start=start)[0]

    return run


def ground_of(model: LALM, bank: MaskBank, data: Manifest, spec: TaskSpec, clips: int, split: str) -> DevEvaluator:
    own = {part.name: bank.for_task(TaskSpec(parts=(part,)), model) for part in spec.parts}
    whole = [clip for clip in data.select(split, spec.names) if all(clip.labels[name] for name in spec.names)]
    return build_dev_evaluator(model, spec, own, replace(data, clips=tuple(stable_shuffle(whole)[:clips])))


def warm_start(model: LALM, bank: MaskBank, data: Manifest, name: str, settings: Settings) -> list[str]:
    """Steps to the target on dev clips: from the parts' best candidate, from a random mask of its size, from all heads."""
    spec = parse_task(name)
    ground = ground_of(model, bank, data, spec, settings.clips, "dev")
    joint = build_composite_data(model, data, spec, ground.part_masks)
    found = find_candidates(And(tuple(map(Name, spec.names))), dict(ground.part_masks))
    best = min((ground.measure(each) for each in found), key=lambda result: result.loss).candidate
    starts = {
        best.name: best.mask,
        "a random mask of equal size": random_like(best.mask, settings.seeds[0]),
        "all heads": None,
    }
    lines = ["", f"| start of `{name}` | steps | reached | IFR and parts on {settings.clips} dev clips |", "|---|---|---|---|"]
    for called, mask in starts.items():
        for steps in (steps for steps in STEPS if steps <= settings.steps):
            trained = train_with(model, steps, settings.seeds[0])(spec, joint.manifest, mask)
            result, reached = (
                ground.measure(Candidate(called, trained)),
                confirm(ground.spec, ground.pair(trained), Target()).reached,
            )
            lines.append(f"| {called} | {steps} | {'yes' if reached else 'no'} | {cells(result)} |")
            sys.stderr.write(lines[-1] + "\n")
            if reached:
                break
    return lines


def main(options: argparse.Namespace) -> None:
    """Measure, printing each composite as it is done."""
    if options.threads:
        torch.set_num_threads(options.threads)
    model = open_model(options.model, options.device)
    bank = MaskBank(options.bank or Path("none"), MaskBank.default().bundled)
    data = read_manifest(options.data or SLICE)
    settings = Settings(options.clips, options.prompts, options.steps, tuple(options.seeds))
    trained = f"trained for {options.steps} steps where no candidate reaches the target" if options.steps else "never trained"
    lines = [
        f"`{' '.join(['python', *sys.argv])}`: model {model.name} ({model.fingerprint}), {options.clips} test clips of unseen "
        f"speakers, {options.prompts} prompts, seeds {options.seeds}, one-pass masks {trained}; torch {torch.__version__}.",
        "",
        "| composite | how | IFR | parts | clips |",
        "|---|---|---|---|---|",
    ]
    for name in COMPOSITES if options.only is None else options.only:
        ground = ground_of(model, bank, data, parse_task(name), options.clips, "test")
        for way, row in rows_of(ground, bank, data, settings):
            lines.append(f"| `{name}` | {way} | {row} | {len(ground.references)} |")
            sys.stderr.write(lines[-1] + "\n")
    if options.warm_start:
        lines += warm_start(model, bank, data, options.warm_start, settings)
    text = "\n".join(lines) + "\n"
    sys.stdout.write(text)
    if options.out:
        options.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="pocket")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--bank", type=Path, help="a bank in front of the bundled one")
    parser.add_argument("--only", nargs="*", metavar="COMPOSITE", help="instead of all; none with --warm-start alone")
    parser.add_argument("--clips", type=int, default=100)
    parser.add_argument("--prompts", type=int, default=5)
    parser.add_argument("--steps", type=int, default=400, help="of a training; 0 never trains")
    parser.add_argument("--seeds", type=int, nargs="*", default=[1], help="of trainings and of the random mask")
    parser.add_argument("--threads", type=int, help="of torch; by default its own choice")
    parser.add_argument("--warm-start", metavar="COMPOSITE", help="also compare starts of a training of this one")
    parser.add_argument("--out", type=Path)
    main(parser.parse_args())
