"""`python -m amask` is `amask`."""

from .cli.main import app

app(prog_name="amask")
