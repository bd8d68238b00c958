"""The server under Ray Serve: `serve run amask.serving.cluster:app`, with replicas and autoscaling by Ray's configuration.

Arguments stand behind the name, `serve run amask.serving.cluster:app model=pocket bank=/shared/bank`, or as `args` in the YAML
file of `serve deploy`. Keys come from the environment variables AMASK_API_KEY and AMASK_ADMIN_KEY of the replicas.
"""

import os
from collections.abc import Mapping
from typing import Any

import pydantic
from starlette.types import ASGIApp

from ..data.extras import import_extra
from ..errors import DataError
from .app import create_app
from .pipeline import pipeline
from .service import ServerSettings

NAME = "amask"  # of the deployment, under which Ray's configuration sets replicas and autoscaling


class ClusterArguments(pydantic.BaseModel):
    """What each replica is made of.

    Attributes:
        model: for `load_model`.
        bank: its folder, which all replicas see; the user's by default.
        device: where the model is loaded to.
        dtype: in which precision; the model's own by default.
    """

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid")

    model: str = "pocket"
    bank: str | None = None
    device: str = "auto"
    dtype: str | None = None


def app(arguments: Mapping[str, Any] | None = None) -> Any:  # noqa: ANN401 - Ray's types are imported only where it is used
    """The application for Ray Serve.

    Args:
        arguments: see `ClusterArguments`.

    Raises:
        ExtraError: Ray is not installed.
        DataError: an argument is unknown.
    """
    serve = import_extra("ray.serve", "amask.serving.cluster")
    try:
        checked = ClusterArguments.model_validate(dict(arguments or {}))
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        raise DataError(f"argument {'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    ingress = serve.ingress(lambda: build_replica(checked))()  # a function, since Ray takes any other callable for an app
    return serve.deployment(ingress, name=NAME, max_ongoing_requests=256).bind()


def build_replica(arguments: ClusterArguments) -> ASGIApp:
    """A replica's app, with a model, a queue and a view of the bank of its own."""
    pipe = pipeline(arguments.model, arguments.bank, device=arguments.device, dtype=arguments.dtype)
    settings = ServerSettings(api_key=_key("AMASK_API_KEY"), admin_key=_key("AMASK_ADMIN_KEY"))
    return create_app(pipe, pipe.model.name, settings)


def _key(variable: str) -> str | None:
    """A key of the environment.

    Raises:
        DataError: it is empty.
    """
    key = os.environ.get(variable)
    if key is not None and not key.strip():
        raise DataError(f"{variable} is empty; expected a key")
    return key.strip() if key else None
