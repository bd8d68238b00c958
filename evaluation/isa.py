"""ISA-Bench as a suite: its instructions, or one's own in its layout, answered by mask and by prompt, scored and drawn.

By mask an instruction goes to the predictor, which reads task and form, and the answer is shaped by code. By prompt the model
gets the instruction itself. Answers are written before they are scored, so that scoring anew needs no model.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ..data.atomic_write import write_atomic
from ..data.extras import import_extra
from ..data.manifest import Manifest
from ..errors import AmaskError, DataError
from ..mask_bank.plots import ON
from .bench import Bench
from .charts import PROMPT
from .isa_scores import TASKS, IsaAnswer, area, axis_rates, form_of_variation, score_answers
from .section import Cell, Section

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ..serving.pipeline import Pipeline

Condition = Literal["masked", "prompted"]
CONDITIONS: tuple[Condition, ...] = ("masked", "prompted")


@dataclass(frozen=True)
class IsaInstruction:
    """One instruction of the benchmark.

    Attributes:
        instruction: the words.
        asked: what is asked for, with an empty answer and reference.
    """

    instruction: str
    asked: IsaAnswer


def read_instructions(folder: Path, limit: int | None = None) -> list[IsaInstruction]:
    """The instructions of a folder, of files named such as `aac_d.json` and `asr_f.json`, `n.json` for several tasks.

    Args:
        folder: where they are.
        limit: at most so many items of each file.

    Raises:
        DataError: there are none, or a file is laid out otherwise.
    """
    found: list[IsaInstruction] = []
    for path in sorted(folder.glob("*.json")):
        axis = path.stem.rpartition("_")[2].lower()
        if axis in ("d", "f", "n"):
            try:
                items = json.loads(path.read_text(encoding="utf-8"))
                for item in items[:limit]:
                    found += _several(item) if axis == "n" else _single(axis, item)
            except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
                raise DataError(f"cannot read {path} as instructions of ISA-Bench: {error!r}; expected its own layout") from None
    if not found:
        raise DataError(f"{folder} has no instructions of ISA-Bench, such as aac_d.json and aac_f.json")
    return found


def _single(axis: str, item: Mapping[str, Any]) -> Iterator[IsaInstruction]:
    task = TASKS[item["task"]]
    for variation, texts in item["variations"].items():
        for text, entry in _leaves(texts):
            form = form_of_variation(variation, entry)
            yield IsaInstruction(text, IsaAnswer(axis, task, variation, "", "", form))


def _leaves(texts: Any) -> Iterator[tuple[str, Mapping[str, Any]]]:  # noqa: ANN401 - as JSON has it
    if isinstance(texts, str):
        yield texts, {}
    elif isinstance(texts, Mapping) and "inst" in texts:
        yield texts["inst"], texts
    else:
        for each in texts.values() if isinstance(texts, Mapping) else texts:
            yield from _leaves(each)


def _several(item: Mapping[str, Any]) -> Iterator[IsaInstruction]:
    form = form_of_variation("json", {"key": "x"}) if "key" in item else form_of_variation("", {})
    update: dict[str, Any] = {"keys": tuple(item["key"].split("|"))} if "key" in item else {"separator": item["separator"]}
    variation = "json" if "key" in item else "separation"
    yield IsaInstruction(item["inst"], IsaAnswer("n", item["task"].lower(), variation, "", {}, form.model_copy(update=update)))


def answer_instructions(
    pipeline: "Pipeline",
    instructions: Sequence[IsaInstruction],
    data: Manifest,
    condition: Condition,
    on_progress: Callable[[int, str], None] = lambda _done, _note: None,
) -> list[IsaAnswer]:
    """Answer each instruction for a clip that has the labels for it, clips in turn.

    Args:
        pipeline: the model, its masks and predictor.
        instructions: what is asked.
        data: clips with labels.
        condition: by mask or by prompt.
        on_progress: called with the number of answers and the instruction.

    Raises:
        DataError: no clip has the labels of a task.
    """
    serving: dict[str, list[Any]] = {}
    found = []
    for done, each in enumerate(instructions):
        tasks = each.asked.task.split("|")
        if each.asked.task not in serving:
            serving[each.asked.task] = [clip for clip in data if all(clip.labels.get(task) for task in tasks)]
            if not serving[each.asked.task]:
                raise DataError(f"no clip of the data has labels for {', '.join(tasks)}")
        clips = serving[each.asked.task]
        clip = clips[done % len(clips)]
        labels = {task: clip.labels[task] for task in tasks}
        reference: str | dict[str, str] = labels if len(tasks) > 1 else labels[tasks[0]]
        found.append(replace(each.asked, answer=_answer(pipeline, data, clip, each.instruction, condition), reference=reference))
        on_progress(done + 1, each.instruction)
    return found


def _answer(pipeline: "Pipeline", data: Manifest, clip: Any, instruction: str, condition: Condition) -> str:  # noqa: ANN401
    try:
        path = data.path(clip)
        result = pipeline(path, instruction) if condition == "masked" else pipeline(path, prompt=instruction)
    except AmaskError:
        return ""  # a refused instruction is not followed
    return result.text if not isinstance(result, list) else result[0].text


def save_answers(rows: Sequence[IsaAnswer], path: Path) -> None:
    """Write answers, one a line, whole or not at all."""
    lines = [json.dumps({**vars(row), "form": row.form.as_dict()}, ensure_ascii=False) for row in rows]
    write_atomic("".join(f"{line}\n" for line in lines).encode(), path, parents=True)


def load_answers(path: Path) -> list[IsaAnswer]:
    """Answers that `save_answers` wrote.

    Raises:
        DataError: they cannot be read.
    """
    from ..data.answer_format import AnswerFormat  # noqa: PLC0415

    try:
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        return [IsaAnswer(**(row | {"form": AnswerFormat.model_validate(row["form"])})) for row in rows]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"cannot read answers {path}: {error}") from None


def summarise(systems: Mapping[str, Sequence[IsaAnswer]]) -> dict[str, Any]:
    """For each system its scores, the rates of the radar and their area, all in percent."""
    found = {}
    for name, rows in systems.items():
        rates = axis_rates(rows)
        found[name] = {"scores": score_answers(rows), "ifr": rates, "area": area(rates)}
    return found


def draw_radar(systems: Mapping[str, Mapping[str, float]]) -> "Figure":
    """The share of answers in form for each kind of variation, a line a system, and the areas beside their names.

    Args:
        systems: a system's name → variation → IFR in percent.
    """
    import numpy as np  # noqa: PLC0415

    figure = import_extra("matplotlib.figure", "the radar").Figure(figsize=(6, 5.5), facecolor="white", layout="constrained")
    axes = figure.add_subplot(projection="polar")
    arms = list(dict.fromkeys(name for rates in systems.values() for name in rates))
    angles = np.linspace(0, 2 * np.pi, len(arms), endpoint=False)
    for name, rates in systems.items():
        values, colour = [rates.get(arm, 0.0) for arm in arms], {"masked": ON, "prompted": PROMPT}.get(name)
        axes.plot([*angles, angles[0]], [*values, values[0]], label=f"{name}, area {area(rates):.1f} %", color=colour)
        axes.fill(angles, values, alpha=0.15, color=colour)
    axes.set_xticks(angles, [arm.replace("semantic_equal_", "").replace("_", " ") for arm in arms], fontsize=8)
    axes.set(ylim=(0, 100), yticks=(25, 50, 75, 100))
    axes.tick_params(axis="x", pad=14)
    axes.tick_params(axis="y", labelsize=7)
    axes.set_title("Answers in the form asked for, percent", fontsize=10)
    figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=9)
    return figure


def save_radar(systems: Mapping[str, Mapping[str, float]], path: Path) -> None:
    """Write that picture as .png or .svg."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draw_radar(systems).savefig(path, dpi=150, bbox_inches="tight")


def load_systems(folder: Path) -> dict[str, list[IsaAnswer]]:
    """What `amask eval isa` wrote: condition → answers.

    Raises:
        DataError: there are none, or they cannot be read.
    """
    found: dict[str, list[IsaAnswer]] = {
        name: load_answers(path) for name in CONDITIONS if (path := folder / f"{name}.jsonl").exists()
    }
    if not found:
        raise DataError(f"{folder} has no answers to ISA-Bench; 'amask eval isa INSTRUCTIONS --predictions {folder}' makes them")
    return found


def isa_section(bench: Bench) -> Section:
    """Whether answers are in the form that words ask for."""
    found = summarise(bench.isa) if bench.isa else {}
    rates = {name: about["ifr"] for name, about in found.items()}
    rows: list[tuple[Cell, ...]] = [
        (variation.replace("_", " "), *(rate.get(variation) for rate in rates.values()))
        for variation in dict.fromkeys(name for rate in rates.values() for name in rate)
    ]
    rows += [("area of the radar", *(float(about["area"]) for about in found.values()))] if found else []
    text = (
        "ISA-Bench's instructions (arXiv 2510.23558): the share of answers that have the form asked for, by kind of variation. "
        "Masked: the predictor reads the instruction and code shapes the answer; prompted: the model gets the instruction itself."
    )
    note = "" if found else "'amask eval isa FOLDER --predictions isa' answers its instructions; give that folder with --isa"
    columns = ("variation", *(f"{name}, %" for name in rates))
    measured_on = ", ".join(f"{name}: {len(answers)} answers" for name, answers in bench.isa.items())
    draw = (lambda: draw_radar(rates)) if rates else None
    return Section("isa", "ISA-Bench", text, columns, tuple(rows), measured_on, note, draw)
