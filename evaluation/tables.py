"""Tables of a report: mask, prompts and controls; composites; sensitivity to wording. Each as its runs and its section.

A section is made of what has been measured so far: runs that the budget left out leave gaps, and its note says how many.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from statistics import mean, pstdev
from typing import TYPE_CHECKING

from ..data.metrics import score
from ..data.tasks import TaskSpec
from ..data.wordings import wordings
from ..lalm.parallel import assemble
from ..mask_bank.mask import HeadMask
from ..predictor.wordings import read_wordings
from .answer_store import ClipSet, Job
from .bench import Bench, headline, metric_arrow, missing_note, score_job
from .charts import PROMPT, UNSEEN, Dot, Strip, draw_bars, draw_dots, draw_strips
from .harness import Trial, trials
from .section import Cell, Section
from .summary import Answers, Row, TaskTable, summarise

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def main_jobs(bench: Bench) -> list[Job]:
    """Each task by its mask, by prompts, and by every control."""
    return [job for name in bench.measured for job in _task_jobs(bench, bench.sets[name])]


def outside_jobs(bench: Bench) -> list[Job]:
    """The same on clips of other sources."""
    return [job for clips in bench.outside for job in _task_jobs(bench, clips)]


def _task_jobs(bench: Bench, clips: ClipSet) -> list[Job]:
    mask, options = bench.masks.get(clips.task.name), bench.options
    others: dict[str, HeadMask] = {}
    if mask is not None:
        singles = [other for name, other in bench.masks.items() if other.task and other.task.form == "plain"]
        singles = [other for other in singles if other.task_name not in clips.task.names]
        singles.sort(key=lambda other: (abs(other.heads_on - mask.heads_on), other.spec))
        others = {other.spec: other for other in singles[: options.others]}
    return [bench.job(clips, trial) for trial in trials(clips.task, mask, options.prompts, options.seeds, others)]


def task_table(bench: Bench, clips: ClipSet) -> TaskTable | None:
    """What has been measured of a set so far; None where nothing has."""
    made = [each for job in _task_jobs(bench, clips) for each in job.answers or []]
    return summarise(clips.task, made, clips.measured_on) if made else None


MAIN_COLUMNS = (
    *("task", "metric", "heads on", "mask", "95 %", "best prompt", "mean prompt", "worst prompt", "unprompted", "random masks"),
    *(
        "another task's mask",
        "mask, unconstrained",
        "mean prompt, unc.",
        "unprompted, unc.",
        "random masks, unc.",
        "other mask, unc.",
    ),
    *(
        "mask − prompts [95 %]",
        "wordings",
        "mask − unprompted [95 %]",
        "mask − random [95 %]",
        "other figures",
        "clips",
        "speakers",
    ),
)
MAIN_TEXT = (
    "Answers are those that 'amask run' gives, held to a task's labels or form, and (unc.) answers held to nothing. "
    "The mask is unprompted; so are its controls. A mask that is no better than a control under the constraint is worth its "
    "sparsity and its free answers, no more. Differences are in pairs of clips, with intervals over speakers; of error "
    "rates (wer, eer) lower is better."
)


def _main_line(bench: Bench, clips: ClipSet, table: TaskTable, answers_of: Callable[[Row], float | None]) -> tuple[Cell, ...]:
    rows = {row.condition: row for row in table.rows}
    served = {name: row.served for name, row in rows.items()}
    mask, prompt = served.get("mask"), served.get("prompt")
    stored = bench.masks.get(clips.task.name)
    differences = {each.against: each for each in table.differences if each.answers == "served"}

    def pair(against: str) -> str:
        each = differences.get(against)
        return f"{each.value:+.1f} [{each.low:+.1f}, {each.high:+.1f}]" if each else ""

    first = table.rows[0]
    return (
        clips.name or clips.task.name,
        table.metric,
        stored.heads_on if stored else None,
        mask.value if mask else None,
        f"{mask.low:.1f}–{mask.high:.1f}" if mask else "",
        *((prompt.best, prompt.value, prompt.worst) if prompt else (None, None, None)),
        *(served[name].value if name in served else None for name in ("unprompted", "random", "other")),
        *(answers_of(rows[name]) if name in rows else None for name in ("mask", "prompt", "unprompted", "random", "other")),
        pair("prompt"),
        rows["prompt"].runs if prompt else None,
        pair("unprompted"),
        pair("random"),
        " ".join(f"{name} {value:.1f}" for name, value in (mask.detail if mask else {}).items()),
        first.clips,
        first.speakers or None,
    )


def _main_section(bench: Bench, sets: Sequence[ClipSet], name: str, title: str, jobs: Sequence[Job]) -> Section:
    tables = [(clips, table) for clips in sets if (table := task_table(bench, clips)) is not None]
    lines = [
        _main_line(bench, clips, table, lambda row: row.unconstrained.value if row.unconstrained else None)
        for clips, table in tables
    ]

    def dots(table: TaskTable, answers: Answers) -> dict[str, Dot]:
        found: dict[str, Dot] = {}
        for row in table.rows:
            figures = row.served if answers == "served" else row.unconstrained
            if figures is not None:
                ends = sorted((figures.best, figures.worst)) if row.runs > 1 else (figures.low, figures.high)
                found[row.condition] = Dot(figures.value, *ends)
        return found

    def draw() -> "Figure":
        names = [f"{clips.name or clips.task.name} ({table.metric}{metric_arrow(table.metric)})" for clips, table in tables]
        panels = {"as 'amask run' answers": [dots(table, "served") for _, table in tables]}
        free = [dots(table, "unconstrained") for _, table in tables]
        return draw_dots(names, panels | ({"unconstrained": free} if any(free) else {}))

    return Section(name, title, MAIN_TEXT, MAIN_COLUMNS, tuple(lines), note=missing_note(jobs), draw=draw)


def main_section(bench: Bench) -> Section:
    """Mask, prompts and controls for each task."""
    sets = [bench.sets[name] for name in bench.measured]
    return _main_section(bench, sets, "main", "Mask, prompts and controls", main_jobs(bench))


def outside_section(bench: Bench) -> Section:
    """The same on clips of other sources."""
    made = _main_section(bench, bench.outside, "out-of-domain", "Clips of other sources", outside_jobs(bench))
    return made if bench.outside else replace(made, note="give clips of other sources with --outside NAME=DATA")


def _part_sets(clips: ClipSet) -> list[ClipSet]:
    """The clips of a composite as those of each of its parts."""
    return [ClipSet(TaskSpec(parts=(part,)), clips.manifest, clips.task.name) for part in clips.task.parts]


def composite_jobs(bench: Bench) -> list[Job]:
    """Each composite in one pass, by prompts, and its parts by their own masks on the same clips."""
    found = []
    for name in (name for name in bench.sets if bench.sets[name].task.form != "plain"):
        found += _task_jobs(bench, bench.sets[name])
        found += _parallel_jobs(bench, bench.sets[name])
    return found


def _parallel_jobs(bench: Bench, clips: ClipSet) -> list[Job]:
    sets = _part_sets(clips)
    if not all(part.task.name in bench.masks for part in sets):
        return []
    masks = [bench.masks[part.task.name] for part in sets]
    return [bench.job(part, Trial("mask", "", mask, mask.spec)) for part, mask in zip(sets, masks, strict=True)]


def composite_section(bench: Bench) -> Section:
    """Instruction following, and the parts, of composites."""
    lines: list[tuple[Cell, ...]] = []
    shown: dict[str, dict[str, float | None]] = {}
    for name in (name for name in bench.sets if bench.sets[name].task.form != "plain"):
        clips, table = bench.sets[name], task_table(bench, bench.sets[name])
        for row in table.rows if table else ():
            free = row.unconstrained
            served = row.served.detail
            parts = " ".join(f"{part} {value:.1f}" for part, value in served.items() if "." in part)
            ifr, whole = (free.detail.get("ifr"), free.value) if free else (None, None)
            lines.append((name, row.condition, ifr, whole, served.get("ifr"), row.served.value, parts, row.runs, row.clips))
            shown.setdefault(name, {})[row.condition] = ifr
        answers = [job.answers for job in _parallel_jobs(bench, clips)]
        if answers and all(answers):
            rows = zip(*(some or [] for some in answers), strict=True)
            made = [assemble(clips.task, {each.task: each.answer for each in row}) for row in rows]
            first = (bench.job(clips, Trial("unprompted", "")).answers or [])[: len(made)]
            references = [clips.task.target(clip.labels) for clip in clips.manifest]
            scored = score_parallel(clips, made, references)
            parts = " ".join(f"{part} {value:.1f}" for part, value in scored.items() if "." in part)
            lines.append((name, "parallel", None, None, scored["ifr"], scored["exact"], parts, 1, len(first) or len(made)))
            shown.setdefault(name, {})["parallel"] = scored["ifr"]

    def draw() -> "Figure":
        series = list(dict.fromkeys(condition for each in shown.values() for condition in each))
        return draw_bars(
            list(shown),
            {condition: [shown[name].get(condition) for name in shown] for condition in series},
            "answers in the asked form, unconstrained (parallel: assembled by code), %",
        )

    text = (
        "Composites in one pass, and in parallel (each part by its own mask on the same clips, assembled by code). IFR is the "
        "share of answers in the asked form, which the constraint gives to every condition: unconstrained it is the model's own."
    )
    columns = ("composite", "condition", "IFR, unc.", "all right, unc.", "IFR", "all right", "parts", "runs", "clips")
    return Section(
        "composites",
        "Composites",
        text,
        columns,
        tuple(lines),
        note=missing_note(composite_jobs(bench)),
        draw=draw if lines else None,
    )


def score_parallel(clips: ClipSet, answers: Sequence[str], references: Sequence[str]) -> dict[str, float]:
    """Scores of assembled answers, by name."""
    return {each.name: round(each.value, 2) for each in score(clips.task, answers, references)}


def _asked(bench: Bench, name: str) -> dict[str, list[str]]:
    """Wordings that the model may have been trained with, and those that it was not."""
    known = read_wordings().tasks
    unseen = list(known[name].held_out) if name in known else []
    count = bench.options.wordings
    asked = {"seen": wordings(bench.sets[name].task), "unseen": unseen}
    return {kind: [texts[at * len(texts) // count] for at in range(count)] if len(texts) > count else texts
            for kind, texts in asked.items() if texts}  # fmt: skip


def _wording_job(bench: Bench, name: str, kind: str, text: str) -> Job:
    """Seen wordings are those of the main table."""
    return bench.job(bench.sets[name], Trial("prompt", text), served_only=kind == "unseen")


def sensitivity_jobs(bench: Bench) -> list[Job]:
    """Each single task by its mask and by many wordings."""
    found = []
    for name in bench.singles:
        asked = _asked(bench, name).items()
        found += [bench.mask_job(name), *(_wording_job(bench, name, kind, text) for kind, texts in asked for text in texts)]
    return found


def sensitivity_section(bench: Bench) -> Section:
    """How much the words move a score."""
    lines: list[tuple[Cell, ...]] = []
    panels: dict[str, list[Strip]] = {}
    for name in bench.singles:
        mask = headline(score_job(bench.mask_job(name)))[0]
        for kind, texts in _asked(bench, name).items():
            runs = [run for text in texts if (run := score_job(_wording_job(bench, name, kind, text))) is not None]
            if not runs:
                continue
            values, metric = [run.served[0].value for run in runs], runs[0].served[0].metric
            better, worse = (min, max) if runs[0].served[0].better == "lower" else (max, min)
            std = pstdev(values)
            lines.append(
                (name, metric, kind, len(values), round(mean(values), 2), round(std, 2), better(values), worse(values), mask)
            )
            colour = PROMPT if kind == "seen" else UNSEEN
            panels.setdefault(f"{name} ({metric}{metric_arrow(metric)})", []).append(
                Strip(f"{kind}\nwordings", tuple(values), colour, mask)
            )
    text = (
        "Each dot is one wording of the same request; the dashed line is the task's mask, which needs none. Seen wordings are "
        "those that the model may have been trained with. Answers are held to the task's labels in both."
    )
    columns = ("task", "metric", "wordings", "count", "mean", "std", "best", "worst", "mask")
    jobs = sensitivity_jobs(bench)
    return Section(
        "sensitivity",
        "Sensitivity to wording",
        text,
        columns,
        tuple(lines),
        note=missing_note(jobs),
        draw=lambda: draw_strips(panels),
    )
