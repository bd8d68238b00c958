"""Predicted bits through the pocket model: `python benchmarks/predicted_masks.py --leave-out 300`; see `--help`.

Three tables on test clips of the slice. Single tasks, over held-out wordings: the bank's mask, the mask that the predictor
snaps to, its raw bits, and controls (bits for another task's wording, the mean of all masks). Compositions: raw bits in one pass,
parallel rows of the parts' masks, and the bank's composite where there is one. With `--leave-out`, a predictor is trained on all
masks but a task's, and what its bits for that task's wordings do is told.
"""

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import mean

import torch

from amask.data.manifest import Manifest
from amask.data.metrics import score
from amask.data.reading import read_manifest
from amask.data.tasks import TaskSpec, collect_tasks, parse_task
from amask.evaluation.harness import Trial, clips_for, predict
from amask.lalm.answering import MAX_NEW_TOKENS
from amask.lalm.base import LALM
from amask.lalm.clip_features import ClipFeatures, encode_manifest
from amask.lalm.parallel import answer_parts
from amask.lalm.registry import load_model
from amask.mask_bank.bank import BUNDLED, MaskBank
from amask.mask_bank.mask import HeadMask
from amask.pocket import SLICE
from amask.predictor.network import Network
from amask.predictor.predictor import SHIPPED, Predictor
from amask.predictor.router import InstructionRouter
from amask.predictor.train import train_predictor
from amask.predictor.training import PredictorSettings
from amask.predictor.wordings import read_wordings

SINGLE = ("asr", "gr", "ser", "s2tt")
COMPOSED = {
    "gr-asr-json": "the gender and the transcript as json",
    "asr-gr": "the words, then the gender",
    "ser-gr": "the emotion, then the gender",
    "ser-gr-asr": "the mood, the gender and what is said",
    "asr-ser-json": "the transcript and the emotion as json",
}


class DevEvaluator:
    """The model, its masks, and test clips of each task."""

    def __init__(self, clips: int, wordings: int) -> None:
        self.model: LALM = load_model("pocket")
        self.bank, self.tasks, self.slice = MaskBank(BUNDLED), collect_tasks(SLICE), read_manifest(SLICE)
        self.masks = {stored.name: stored for stored in self.bank.list()}
        self.clips, self.wordings = clips, wordings

    def of(self, task: str) -> tuple[TaskSpec, Manifest]:
        """A task and its clips."""
        spec = parse_task(task, self.tasks)
        found = clips_for(spec, self.slice, "test")
        return spec, Manifest(found.clips[: self.clips], found.folder)

    def said(self, task: str) -> list[str]:
        """Some held-out wordings of a task."""
        every = read_wordings().tasks[task].held_out
        return [every[at * len(every) // self.wordings] for at in range(self.wordings)]

    def value(self, spec: TaskSpec, clips: Manifest, mask: HeadMask | None) -> float:
        """A mask's score; of a refusal that of empty answers."""
        if mask is None:
            return score(spec, [""] * len(clips), [spec.target(clip.labels) for clip in clips])[0].value
        said = predict(
            self.model, ClipFeatures(self.model, clips), clips.clips, spec, Trial("mask", "", mask), unconstrained=False
        )
        return score(spec, [each.answer for each in said], [each.reference for each in said])[0].value


def rows(name: str, part_scores: Sequence[str]) -> None:
    """A line of a table."""
    print(f"| {' | '.join((name, *part_scores))} |", flush=True)


def singles(ground: DevEvaluator, router: InstructionRouter) -> None:
    """The first table."""
    rows("task", ("metric", "bank", "snapped", "raw bits", "bits for another task", "mean mask"))
    rows("---", ("---",) * 6)
    gates = torch.stack([ground.masks[task].gates for task in SINGLE]).mean(0)
    for at, task in enumerate(SINGLE):
        spec, clips = ground.of(task)
        ways = [(task, False), (task, True), (SINGLE[at - 1], True)]
        found = [
            mean(
                ground.value(spec, clips, router.route([text], use_predicted_bits=raw, neighbours=False)[0].mask)
                for text in ground.said(asked)
            )
            for asked, raw in ways
        ]
        middle = ground.masks[task].with_(bits=gates >= 0.5, logits=None)
        values = [ground.value(spec, clips, ground.masks[task]), *found, ground.value(spec, clips, middle)]
        rows(f"`{task}`", (spec.parts[0].metric, *(f"{value:.1f}" for value in values)))


def composed(ground: DevEvaluator, router: InstructionRouter) -> None:
    """The second table: IFR, and all right, in percent."""
    rows("composition", ("raw bits: IFR", "all right", "parallel: IFR", "all right", "bank's own: IFR", "all right"))
    rows("---", ("---",) * 6)
    for task, text in COMPOSED.items():
        spec, clips = ground.of(task)
        decision = router.route([text], use_predicted_bits=True, neighbours=False)[0]
        references = [spec.target(clip.labels) for clip in clips]
        parts = [ground.masks[part] for part in spec.names]
        parallel = answer_parts(ground.model, encode_manifest(ground.model, clips), spec, parts, max_new_tokens=MAX_NEW_TOKENS)
        ways = [
            answers_of(ground, spec, clips, decision.mask if decision.spec and decision.spec.name == task else None),
            [answer.text for answer in parallel],
            answers_of(ground, spec, clips, ground.masks.get(task)),
        ]
        part_scores: list[str] = []
        for said in ways:
            scores = {each.metric: each.value for each in score(spec, said, references) if not each.part} if said else {}
            part_scores += [f"{scores[metric]:.1f}" if scores else "" for metric in ("ifr", "exact")]
        rows(f"`{task}`", part_scores)


def answers_of(ground: DevEvaluator, spec: TaskSpec, clips: Manifest, mask: HeadMask | None) -> list[str]:
    """What a mask answers; nothing without one."""
    if mask is None:
        return []
    made = predict(
        ground.model, ClipFeatures(ground.model, clips), clips.clips, spec, Trial("mask", "", mask), unconstrained=False
    )
    return [each.answer for each in made]


def forgetful(known: Predictor) -> Predictor:
    """The same reading, with heads that know nothing."""
    torch.manual_seed(1)
    network = Network(known.encoder.width, len(known.record.tasks), known.identity.geometry)
    kept = {name: tensor for name, tensor in known.network.state_dict().items() if not name.startswith("heads.")}
    network.load_state_dict(network.state_dict() | kept)
    return Predictor(network, known.encoder, known.record)


def left_out(ground: DevEvaluator, steps: int) -> Iterator[tuple[str, float, float]]:
    """Task, score by its own mask, and by the bits of a predictor that never met that mask."""
    for task in SINGLE:
        spec, clips = ground.of(task)
        others = [mask for mask in ground.masks.values() if mask.task is not None and task not in mask.task.names]
        trained = train_predictor(others, PredictorSettings(steps=steps, peak=5e-4), start=forgetful(Predictor.load()))
        router = InstructionRouter(trained, ground.masks.values())
        bits = [router.route([text], use_predicted_bits=True, neighbours=False)[0].mask for text in ground.said(task)]
        yield task, ground.value(spec, clips, ground.masks[task]), mean(ground.value(spec, clips, mask) for mask in bits)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=40)
    parser.add_argument("--wordings", type=int, default=5)
    parser.add_argument("--leave-out", type=int, default=0, metavar="STEPS")
    parser.add_argument("--predictor", type=Path, default=SHIPPED, help="such as one of 'amask predictor train --end-to-end'")
    parser.add_argument("--threads", type=int, help="of torch; by default its own choice")
    given = parser.parse_args()
    if given.threads:
        torch.set_num_threads(given.threads)
    ground = DevEvaluator(given.clips, given.wordings)
    router = InstructionRouter(Predictor.load(given.predictor), ground.masks.values())
    singles(ground, router)
    print()
    composed(ground, router)
    if given.leave_out:
        print()
        rows("left out", ("own mask", "bits of a predictor that never met it"))
        rows("---", ("---",) * 2)
        for task, own, bits in left_out(ground, given.leave_out):
            rows(f"`{task}`", (f"{own:.1f}", f"{bits:.1f}"))


if __name__ == "__main__":
    main()
