"""The errors amask raises on purpose: each says what failed, what was got and expected, and what to do next."""


class AmaskError(Exception):
    """Root of all errors that amask raises on purpose; the CLI prints them as one line."""


class AudioError(AmaskError, ValueError):
    """A clip cannot be read or does not fit the model."""


class DataError(AmaskError, ValueError):
    """A manifest, label or task is not what it should be."""


class MaskError(AmaskError, ValueError):
    """A mask is damaged, or does not belong to the model or to its partner."""


class FileError(AmaskError, OSError):
    """A file cannot be written: no such folder, no rights, a full disk."""


class BankError(AmaskError):
    """The bank on disk cannot do what was asked: unknown name, unreadable folder, nothing to remove."""


class ModelError(AmaskError, ValueError):
    """A model cannot be loaded or cannot do what was asked."""


class ExtraError(AmaskError, ImportError):
    """A library that only some uses need is not installed."""


class InstructionError(AmaskError, ValueError):
    """An instruction is empty or no mask serves it."""
