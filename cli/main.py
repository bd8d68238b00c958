"""`amask`: the command."""

from typing import Annotated

import typer

from .bank import app as bank_app
from .batch import batch
from .compose import compose
from .doctor import doctor
from .evaluate import evaluate
from .output_encoding import SafeOutputGroup, echo
from .predict import predict
from .predictor import app as predictor_app
from .report import ablate, report
from .run import run
from .serve import serve
from .startup import share_cores, show_log

app = typer.Typer(
    name="amask",
    cls=SafeOutputGroup,
    help="Run a large audio language model by a mask over its attention heads instead of by a prompt.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
app.add_typer(bank_app, name="bank")
app.add_typer(predictor_app, name="predictor")
app.command()(run)
app.command()(predict)
app.command()(batch)
app.command()(serve)
app.command(context_settings={"ignore_unknown_options": False})(compose)
app.command(name="eval")(evaluate)
app.command()(ablate)
app.command()(report)
app.command()(doctor)


def _show_version(wanted: bool | None) -> None:
    if wanted:
        from .. import __version__

        echo(f"amask {__version__}")
        raise typer.Exit()


@app.callback()
def main(
    version: Annotated[
        bool | None, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version.")
    ] = None,
) -> None:
    """Run a large audio language model by a mask over its attention heads instead of by a prompt."""
    share_cores()
    show_log()
