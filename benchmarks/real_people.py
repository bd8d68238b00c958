"""The pocket model on people and sounds that it never learnt from: `python benchmarks/real_people.py SHARED --out FOLDER`.

SHARED is the folder of the free sets (docs/pocket.md). Of the sets that are trained on, only held-aside speakers and sources
are measured, by the rule of the pocket corpus; LibriSpeech is never trained on at all. Each line is a task on one group of
clips: by mask, by prompts, and by every control, as `amask run` answers and unconstrained. What has been measured is kept in
FOLDER, so that the same command goes on; `--budget 8m` stops it. `--whisper FOLDER` puts Whisper's own word error rate on the
same clips beside.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import soundfile
import torch

from amask.cli.report import read_budget
from amask.data.manifest import Clip, Manifest
from amask.data.metrics import score
from amask.data.tasks import collect_tasks, parse_task
from amask.errors import BankError, MaskError
from amask.evaluation.answer_store import AnswerStore, Budget, ClipSet
from amask.evaluation.bench import Bench, Options
from amask.evaluation.harness import Trial
from amask.evaluation.report import ABLATIONS, make_report
from amask.evaluation.section import Cell, Section, write_page
from amask.evaluation.tables import outside_jobs
from amask.lalm.registry import load_model
from amask.mask_bank.bank import BUNDLED, MaskBank
from amask.pocket import SLICE
from amask.pocket.corpus.people import People, is_digits
from amask.pocket.corpus.recordings import Recording, read_sets
from amask.pocket.corpus.synthesis import RATE, Sound
from amask.pocket.corpus.synthetic import make_quiet

# Adults whose gender label contradicts their pitch: the median F0 of 2430, "female", is 118 Hz, that of 2236, "male", 165 Hz.
DOUBTFUL = ("speechocean762-2430", "speechocean762-2236")
LIBRISPEECH = "librispeech_test_clean"
SHORT = 8.0  # seconds of LibriSpeech's clips that measure open sentences
QUIET = "silence and noise"
COMPOSITES = ("gr-asr", "gr-asr-json")


def librispeech(shared: Path) -> list[Recording]:
    """LibriSpeech's clips; none where the set is absent."""
    path = shared / LIBRISPEECH / "manifest.jsonl"
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []
    return [
        Recording(
            path.parent / row["path"], LIBRISPEECH, "person", row["speaker"], "test", row["gender"],
            {"asr": row["text"], "gr": row["gender"]}, row["text"], row["duration"],
        )
        for row in rows
    ]  # fmt: skip


def adult(each: Recording) -> bool:
    """Whether someone of speechocean762 is grown up; from 18 years."""
    return each.labels.get("age") == "adult"


def groups(heard: Sequence[Recording], libri: Sequence[Recording]) -> dict[str, tuple[str, list[Recording]]]:
    """What is measured on recordings as they are: name → task and recordings; the most telling first."""

    def of(source: str, wanted: Callable[[Recording], bool] = lambda _each: True) -> list[Recording]:
        return [each for each in heard if each.source == source and wanted(each)]

    short = [each for each in libri if each.seconds <= SHORT]
    sure = of("speechocean762", lambda each: adult(each) and each.speaker not in DOUBTFUL)
    return {
        "sentences, LibriSpeech": ("asr", short),
        "gender, LibriSpeech": ("gr", list(libri)),
        "emotion, EmoDB": ("ser", of("emodb_german")),
        "digits, Speech Commands": ("asr", of("speech_commands", is_digits)),
        "commands, Speech Commands": ("asr", of("speech_commands", lambda each: bool(each.text) and not is_digits(each))),
        "sentences, Common Voice": ("asr", of("common_voice_en")),
        "gender, Common Voice": ("gr", of("common_voice_en")),
        "gender, speechocean762 adults": ("gr", of("speechocean762", adult)),
        "gender, without 2 speakers of doubtful label": ("gr", sure),
        "gender|words, LibriSpeech": ("gr-asr", short),
        "gender and words as JSON, LibriSpeech": ("gr-asr-json", short),
        "digit strings, speechocean762": ("asr", of("speechocean762", is_digits)),
        "sentences, speechocean762": ("asr", of("speechocean762", lambda each: not is_digits(each))),
        "age, all": ("age", [each for each in heard if each.kind == "person"]),
        "captions, sounds": ("aac", [each for each in heard if each.kind == "sound"]),
    }


def manifest_of(recordings: Iterable[Recording], tasks: Sequence[str], longest: float) -> Manifest:
    """The recordings that have the labels and are no longer than the model takes."""
    clips = [
        Clip(
            path=str(each.path), labels=each.labels, split="test", duration=each.seconds, source=each.source, speaker=each.speaker
        )
        for each in recordings
        if all(task in each.labels for task in tasks) and each.seconds <= longest
    ]
    return Manifest(tuple(clips), Path("/"))


def write(sounds: Iterable[Sound], folder: Path) -> Manifest:
    """Sounds as files; those that are there already are not written again."""
    folder.mkdir(parents=True, exist_ok=True)
    clips = []
    for number, sound in enumerate(sounds):
        path = folder / f"{number}.wav"
        if not path.exists():
            soundfile.write(path, np.clip(sound.wave, -1, 1), RATE)
        clips.append(Clip(path=path.name, split="test", **sound.clip))
    return Manifest(tuple(clips), folder)


def made(heard: Sequence[Recording], most: int) -> dict[str, tuple[str, Callable[[], Iterable[Sound]]]]:
    """What is measured on clips that are put together: name → task and what makes them."""
    people = People(tuple(each for each in heard if each.kind == "person"))

    def draw(how: Callable[[np.random.Generator, int], Sound], count: int) -> Iterable[Sound]:
        return (how(np.random.default_rng([20, number]), number) for number in range(count))

    return {
        QUIET: ("asr", lambda: draw(lambda rng, _number: make_quiet(rng, "test"), most)),
        "same speaker, pairs of people": ("asv", lambda: draw(people.draw_pair, most if people.persons else 0)),
        "two speakers, overlaps of people": ("osr", lambda: draw(people.draw_overlap, most if people.short else 0)),
    }


def collect(shared: Path, chosen: Sequence[str], longest: float, count: int, folder: Path) -> list[ClipSet]:
    """The clips of each group that is asked for and that the sets have clips for."""
    recordings, absent = read_sets(shared)
    for name in absent:
        sys.stderr.write(f"{name} is absent in {shared}\n")
    known = collect_tasks(SLICE)  # wordings that the model was taught
    heard = [each for each in recordings if each.split == "test"]
    found = []
    for name, (task, some) in groups(heard, librispeech(shared)).items():
        spec = parse_task(task, known)
        if not chosen or name in chosen:
            found.append(ClipSet.draw(spec, manifest_of(some, spec.names, longest), count, name))
    for name, (task, make) in made(heard, count).items():
        if not chosen or name in chosen:
            found.append(ClipSet(parse_task(task, known), write(make(), folder / "made" / task), name))
    return [clips for clips in found if len(clips.manifest)]


def quiet_section(bench: Bench, quiet: ClipSet) -> Section:
    """Of clips where nothing is said, how many answers are empty."""
    shares: dict[str, list[float]] = {}
    for job in outside_jobs(bench):
        if job.clips is quiet and job.answers:
            empty = [not each.answer.strip(" .") for each in job.answers]
            shares.setdefault(job.trial.condition, []).append(100 * sum(empty) / len(empty))
    rows = tuple((name, sum(each) / len(each), max(each), len(each), len(quiet.manifest)) for name, each in shares.items())
    text = "Silence and noise: how many answers are empty, in percent."
    return Section("quiet", QUIET.capitalize(), text, ("condition", "empty: mean", "best", "runs", "clips"), rows)


class Whisper:
    """A Whisper checkpoint, and what it transcribes, kept on disk."""

    def __init__(self, source: Path, folder: Path) -> None:
        from transformers import WhisperForConditionalGeneration, WhisperProcessor  # noqa: PLC0415

        self.model = WhisperForConditionalGeneration.from_pretrained(source).eval()
        self.processor = WhisperProcessor.from_pretrained(source)
        self.name, self.folder = source.name, folder

    @torch.no_grad()
    def transcribe(self, clips: ClipSet, batch: int = 8) -> list[str]:
        """What is said in each clip."""
        path = self.folder / f"{self.name}-{clips.digest}.json"
        if path.exists():
            return json.loads(path.read_text(encoding="utf-8"))
        texts: list[str] = []
        rows = clips.manifest.clips
        for start in range(0, len(rows), batch):
            waves = [clips.manifest.wave(clip, RATE) for clip in rows[start : start + batch]]
            features = self.processor(waves, sampling_rate=RATE, return_tensors="pt").input_features
            ids = self.model.generate(features, max_new_tokens=100)
            texts += self.processor.batch_decode(ids, skip_special_tokens=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(texts), encoding="utf-8")
        return texts


def whisper_section(bench: Bench, whisper: Whisper | None, budget: Budget) -> Section:
    """Whisper's own word error rate beside the mask's."""
    rows: list[tuple[Cell, ...]] = []
    for clips in bench.outside:
        if whisper is None or not clips.name.startswith("sentences") or budget.is_spent:
            continue
        references = [clips.task.target(clip.labels) for clip in clips.manifest]
        ours = bench.job(clips, Trial("mask", "", bench.masks["asr"])).answers if "asr" in bench.masks else None
        mask = score(clips.task, [each.answer for each in ours], references)[0].value if ours else None
        theirs = score(clips.task, [text.strip() for text in whisper.transcribe(clips)], references)[0].value
        rows.append((clips.name, mask, theirs, len(clips.manifest)))
    text = "Word error rates on the same clips, by the same normaliser."
    columns = ("group", "mask", f"{whisper.name if whisper else 'Whisper'} itself", "clips")
    return Section("whisper", "Whisper beside it", text, columns, tuple(rows))


def transcript_section(bench: Bench, whisper: Whisper | None, count: int) -> Section:
    """Some clips with what is said in them, and what is written down."""
    clips = next((each for each in bench.outside if each.name == "sentences, LibriSpeech"), None)
    jobs = [job for job in outside_jobs(bench) if job.clips is clips and job.trial.condition in ("mask", "prompt")]
    found = [(job.trial, job.answers) for job in jobs if job.answers]
    theirs = whisper.transcribe(clips) if whisper and clips else None
    first = {trial.condition: answers for trial, answers in reversed(found)}
    rows = []
    for at, clip in enumerate((clips.manifest.clips if clips else ())[:count]):
        by = [first[name][at].answer if name in first else "" for name in ("mask", "prompt")]
        rows.append((Path(clip.path).stem, clip.labels["asr"], *by, theirs[at].strip() if theirs else ""))
    text = "The first clips of the LibriSpeech group, which are drawn by a hash."
    return Section(
        "transcripts", "Transcripts", text, ("clip", "what is said", "by mask", "by a prompt", "Whisper itself"), tuple(rows)
    )


@contextmanager
def progress(words: str, total: int) -> Iterator[Callable[..., None]]:
    """Lines on stderr."""
    started = time.monotonic()

    def on_progress(done: int, note: str = "") -> None:
        sys.stderr.write(f"{time.monotonic() - started:6.0f} s  {words} {done}/{total}  {note}\n")

    yield on_progress


def open_bench(options: argparse.Namespace) -> Bench:
    """The model, its masks, and the clips."""
    model, bank = load_model(options.model), MaskBank(options.bank or BUNDLED)
    sets = collect(options.shared, options.groups, model.longest or 30.0, options.clips, options.out)
    masks = {}
    for clips in sets:
        for name in (clips.task.name, *clips.task.names):
            try:
                masks[name] = bank.for_task(parse_task(name, collect_tasks(SLICE)), model)
            except (BankError, MaskError) as error:
                sys.stderr.write(f"{error}\n")
    whole = {clips.task.name: clips for clips in sets if clips.task.name in COMPOSITES}
    return Bench(
        model,
        AnswerStore(model, options.out / "answers", max_new_tokens=options.max_new_tokens),
        masks,
        bank.list(),
        whole,
        Options(prompts=options.prompts, seeds=options.seeds, others=options.others, clips=options.clips),
        tuple(sets),
    )


def main(options: argparse.Namespace) -> None:
    """Measure, write the page, print the tables."""
    bench, budget = open_bench(options), Budget(read_budget(options.budget))
    chosen = [ABLATIONS["out-of-domain"], *([ABLATIONS["composites"]] if bench.sets else [])]
    made = make_report(bench, chosen, budget, progress)
    sections = list(made.sections)
    quiet = next((clips for clips in bench.outside if clips.name == QUIET), None)
    sections += [quiet_section(bench, quiet)] if quiet else []
    whisper = Whisper(options.whisper, options.out / "whisper") if options.whisper else None
    sections += [whisper_section(bench, whisper, budget), transcript_section(bench, whisper, options.show)]
    sections = [section for section in sections if section.rows]
    pictures = [section.write(options.out) for section in sections]
    write_page(sections, pictures, options.out / "index.html", "Real people", f"{bench.model.name}; {made.left} runs left")
    for section in sections:
        print(f"### {section.title}\n\n{section.to_markdown()}")
    sys.stderr.write(f"{made.left} runs are left; the page is {options.out / 'index.html'}\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shared", metavar="SHARED", type=Path)
    parser.add_argument("--out", type=Path, required=True, help="folder of the page and of what has been measured")
    parser.add_argument("--model", default="pocket")
    parser.add_argument("--bank", type=Path, help="folder of masks; the bundled ones by default")
    parser.add_argument("--groups", nargs="*", default=[], help="only these lines")
    parser.add_argument("--clips", type=int, default=100, help="of a group, at most")
    parser.add_argument("--prompts", type=int, default=3)
    parser.add_argument("--seeds", type=int, default=1, help="random masks")
    parser.add_argument("--others", type=int, default=0, help="masks of other tasks")
    parser.add_argument("--max-new-tokens", type=int, default=80)
    parser.add_argument("--budget", help="such as 8m")
    parser.add_argument("--whisper", type=Path, help="a Whisper checkpoint's folder")
    parser.add_argument("--show", type=int, default=10, help="transcripts that are shown")
    main(parser.parse_args())
