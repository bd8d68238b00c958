"""Run a large audio language model by a mask over its attention heads instead of by a prompt."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

# Public name → where it is defined. Nothing is imported before it is asked for, so that the command's help is quick.
_EXPORTS = {
    "AmaskError": "errors",
    "AnswerFormat": "data.answer_format",
    "CompositeResult": "composer.composite",
    "HeadMask": "mask_bank.mask",
    "LALM": "lalm.base",
    "MaskBank": "mask_bank.bank",
    "NamedClip": "serving.clips",
    "Pipeline": "serving.pipeline",
    "Predictor": "predictor.predictor",
    "Recipe": "mask_bank.recipe",
    "Result": "serving.results",
    "SearchOptions": "composer.composite",
    "Task": "data.tasks",
    "TaskSpec": "data.tasks",
    "batch": "serving.batch",
    "compose": "composer.compose",
    "evaluate": "evaluation.evaluate",
    "find_sites": "lalm.gating",
    "gated": "lalm.gating",
    "load_model": "lalm.registry",
    "parse_task": "data.tasks",
    "pipeline": "serving.pipeline",
    "read_manifest": "data.reading",
    "train": "mask_bank.train",
}
__all__ = [
    "LALM",
    "AmaskError",
    "AnswerFormat",
    "CompositeResult",
    "HeadMask",
    "MaskBank",
    "NamedClip",
    "Pipeline",
    "Predictor",
    "Recipe",
    "Result",
    "SearchOptions",
    "Task",
    "TaskSpec",
    "batch",
    "compose",
    "evaluate",
    "find_sites",
    "gated",
    "load_model",
    "parse_task",
    "pipeline",
    "read_manifest",
    "train",
]

if TYPE_CHECKING:
    from .composer.compose import compose as compose
    from .composer.composite import CompositeResult as CompositeResult
    from .composer.composite import SearchOptions as SearchOptions
    from .data.answer_format import AnswerFormat as AnswerFormat
    from .data.reading import read_manifest as read_manifest
    from .data.tasks import Task as Task
    from .data.tasks import TaskSpec as TaskSpec
    from .data.tasks import parse_task as parse_task
    from .errors import AmaskError as AmaskError
    from .evaluation.evaluate import evaluate as evaluate
    from .lalm.base import LALM as LALM
    from .lalm.gating import find_sites as find_sites
    from .lalm.gating import gated as gated
    from .lalm.registry import load_model as load_model
    from .mask_bank.bank import MaskBank as MaskBank
    from .mask_bank.mask import HeadMask as HeadMask
    from .mask_bank.recipe import Recipe as Recipe
    from .mask_bank.train import train as train
    from .predictor.predictor import Predictor as Predictor
    from .serving.batch import batch as batch
    from .serving.clips import NamedClip as NamedClip
    from .serving.pipeline import Pipeline as Pipeline
    from .serving.pipeline import pipeline as pipeline
    from .serving.results import Result as Result


def __getattr__(name: str) -> Any:  # noqa: ANN401 - whatever is asked for
    """A public name, imported now."""
    if name not in _EXPORTS:
        raise AttributeError(f"module 'amask' has no attribute {name!r}; it has {', '.join(_EXPORTS)}")
    value = getattr(import_module(f".{_EXPORTS[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*globals(), *_EXPORTS]
