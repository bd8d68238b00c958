"""Libraries that only some uses need: amask's extras, and the pip command where one is missing."""

from importlib import import_module
from types import ModuleType

from ..errors import ExtraError

# Library → the extra of amask that brings it.
EXTRAS = {
    "fastapi": "serve",
    "gradio": "serve",
    "matplotlib": "plots",
    "nltk": "metrics",
    "prometheus_client": "serve",
    "python_multipart": "serve",
    "ray": "ray",
    "rouge_score": "metrics",
    "sacrebleu": "metrics",
    "uvicorn": "serve",
}


def import_extra(module: str, purpose: str) -> ModuleType:
    """Import a module of an optional library.

    Args:
        module: its full name, such as `matplotlib.figure`.
        purpose: what needs it, as the subject of a message: "BLEU", "a picture".

    Raises:
        ExtraError: the library is not installed; the message holds the pip command.
    """
    library = module.partition(".")[0]
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != library:
            raise
        raise ExtraError(f"{purpose} needs {library}, which is not installed; pip install 'amask[{EXTRAS[library]}]'") from None
