"""From a bank's masks to a predictor: training, calibration on dev, and the record of both."""

from collections.abc import Sequence
from pathlib import Path

from ..data.tasks import Task, builtin_tasks
from ..lalm.base import LALM
from ..mask_bank.labelled_clips import LabelledClips as Clips
from ..mask_bank.mask import HeadMask
from .calibration import Calibration, calibrate
from .encoder import Encoder, load_encoder
from .end_to_end import EndToEndSettings, EndToEndTraining
from .example import Example
from .files import Record, encoder_digest
from .intent import UNSUPPORTED
from .predictor import Predictor
from .synthesis import dev_examples
from .training import PredictorSettings, StepFn, Training


def train_predictor(
    masks: Sequence[HeadMask],
    settings: PredictorSettings | None = None,
    *,
    encoder: Encoder | None = None,
    tasks: Sequence[Task] = (),
    checkpoint: Path | None = None,
    start: Predictor | None = None,
    on_progress: StepFn = lambda _step, _note: None,
) -> Predictor:
    """Train a predictor for a bank's masks.

    The same arguments give the same predictor; one that was stopped goes on from its checkpoint.

    Args:
        masks: of one model; those with a task are rebuilt.
        settings: all settings.
        encoder: gives the token vectors; by default the one that comes with amask.
        tasks: further single tasks that instructions may ask for; those of the masks and the built-in ones are among them.
        checkpoint: a file that a stopped training goes on from.
        start: a predictor whose weights it begins with; its LALM may be another.
        on_progress: called with the step and the losses.

    Raises:
        InstructionError: there are no masks, or the predictor to start from has another encoder.
        MaskError: the masks are of different models.
    """
    settings, encoder = settings or PredictorSettings(), encoder or load_encoder()
    having = [mask for mask in masks if mask.task is not None]
    known = dict(builtin_tasks()) | {part.name: part for mask in having if mask.task for part in mask.task.parts}
    known |= {task.name: task for task in tasks}
    training = Training(encoder, tuple(known.values()), having, settings, checkpoint, start)
    network = training.run(on_progress)
    record = Record(
        encoder=encoder.name,
        encoder_digest=encoder_digest(encoder),
        tasks=training.tasks,
        model=training.identity.name,
        fingerprint=training.identity.fingerprint,
        heads=training.identity.geometry.heads,
        fixed_layers=training.identity.geometry.fixed_layers,
        masks={str(intent): mask.digest for intent, mask in training.targets.masks.items()},
        calibration=Calibration(),
        lineage={
            "operation": "train predictor",
            "settings": settings.model_dump(),
            "start": start.digest if start else None,
            "key": training.key,
        },
    )
    return _calibrated(Predictor(network, encoder, record), training)


def tune_predictor(
    predictor: Predictor,
    masks: Sequence[HeadMask],
    model: LALM,
    data: Clips,
    settings: EndToEndSettings | None = None,
    *,
    on_progress: StepFn = lambda _step, _note: None,
) -> Predictor:
    """Train a predictor further, end to end through the frozen LALM.

    Args:
        predictor: of the first stage.
        masks: those that it was trained for.
        model: the LALM.
        data: encoded clips with labels.
        settings: all settings.
        on_progress: called with the step and the losses.

    Raises:
        MaskError: the masks are of another model.
    """
    first = PredictorSettings.model_validate(predictor.record.lineage["settings"])
    training = Training(predictor.encoder, predictor.record.tasks, [mask for mask in masks if mask.task], first)
    tuned = EndToEndTraining(training, model, data, settings or EndToEndSettings()).run(predictor, on_progress)
    return _calibrated(tuned, training)


def _calibrated(predictor: Predictor, training: Training) -> Predictor:
    """The predictor with its confidence and its line of refusal fitted on dev."""
    examples = dev_examples(training.tasks, training.seen, training.settings.seed)
    record = predictor.record.model_copy(update={"calibration": calibrate_on(predictor, examples)})
    return Predictor(predictor.network, predictor.encoder, record)


def calibrate_on(predictor: Predictor, examples: Sequence[Example]) -> Calibration:
    """Fit the confidence and the line of refusal."""
    prediction = predictor.predict([example.text for example in examples])
    return calibrate([each.p_supported for each in prediction], [example.intent != UNSUPPORTED for example in examples])
