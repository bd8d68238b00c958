"""Which clips measure a task, where a manifest says what kind each clip is of."""

from collections.abc import Sequence

from .tasks import TaskSpec


def measuring(task: TaskSpec, kinds: Sequence[str]) -> list[int]:
    """Which of some clips that have a task's labels measure it; training's dev clips and `eval` both go by this.

    Those of the kinds that the task's parts ask for, or of plain speech where none does, if every clip has a kind and one of
    them is of these; else all.

    Args:
        task: the task.
        kinds: of each clip; empty where it is not known.

    Returns:
        Their numbers, in order.
    """
    wanted = {part.kind for part in task.parts} - {"speech"} or {"speech"}
    own = [at for at, kind in enumerate(kinds) if kind in wanted]
    return own if own and all(kinds) else list(range(len(kinds)))
