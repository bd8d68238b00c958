"""`amask compose`: masks from masks, and composite tasks that start from them."""

from typing import TYPE_CHECKING, Annotated

import typer

from .common import (
    BankOption,
    BatchOption,
    DataOption,
    DeviceOption,
    DtypeOption,
    ModelOption,
    SparsityOption,
    StepsOption,
    err,
    one_line_errors,
    open_bank,
    open_model,
    report,
)

if TYPE_CHECKING:
    from ..mask_bank.mask import HeadMask


def compose(
    expression: Annotated[list[str], typer.Argument(help="gr AND asr; also OR, XOR, MINUS, NOT, 2 OF (a, b, c), brackets.")],
    json_form: Annotated[
        bool, typer.Option("--json", help="Train a mask for all the tasks at once, with answers in JSON.")
    ] = False,
    pipe_form: Annotated[bool, typer.Option("--pipe", help="Likewise, with answers as gr|asr.")] = False,
    name: Annotated[str | None, typer.Option(help="Name in the bank.")] = None,
    model: ModelOption = "pocket",
    data: DataOption = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the training.")] = 1,
    sparsity: SparsityOption = 0.0,
    steps: StepsOption = None,
    batch: BatchOption = None,
    bank: BankOption = None,
    device: DeviceOption = "auto",
    dtype: DtypeOption = "auto",
) -> None:
    """Compose masks of the bank by an expression and keep the result.

    With --json or --pipe the composed mask is the start of a training for the composite task: its parts are the
    masks of the expression, in that order, and the data are clips that carry all their labels.
    """
    with one_line_errors():
        from ..composer.expression import name_of, names_in, parse
        from ..errors import MaskError

        text = " ".join(expression)
        tree = parse(text)
        if json_form and pipe_form:
            raise MaskError("choose one of --json and --pipe")
        opened = open_bank(bank)
        loaded = open_model(model, device, dtype)
        from ..composer.algebra import evaluate  # imports torch

        tasks: dict[str, str] = {}

        def lookup(spec: str) -> "HeadMask":
            stored = opened.get(spec, loaded)
            tasks[spec] = stored.task_name
            return stored

        composed = evaluate(tree, lookup)
        if not (json_form or pipe_form):
            report([opened.add(composed, name or name_of(tree))], as_json=False)
            return
        from .training import recipe_for, train_masks

        parts = [tasks[leaf.name] for leaf in names_in(tree)]
        if len(parts) < 2 or not all(parts):
            raise MaskError(f"a composite needs at least two masks that have a task each; {text!r} gives {parts}")
        composite = "-".join([*parts, "json"] if json_form else parts)
        recipe = recipe_for([composite], steps=steps, batch=batch, sparsity=sparsity)
        err.print(f"amask: {text} has {composed.heads_on} of {composed.heads_total} heads on; training {composite} from there")
        stored = train_masks([composite], [seed], recipe, model, data, name, None, opened, device, dtype, composed, loaded)[0]
        report([stored], as_json=False)
