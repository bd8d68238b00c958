"""The names under which a server offers its model: by words, by a task, a plan or a mask, or prompted.

pocket                        an instruction in words chooses the mask
pocket:gr                     a task; pocket:gr|asr a composite, pocket:gr THEN asr IF female a plan
pocket:gr@2                   a mask by name and version
pocket:prompt                 no mask: the model is prompted
"""

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import AmaskError, BankError, DataError, InstructionError
from ..mask_bank.files import StoredMask
from ..mask_bank.versions import is_name
from .api_errors import ApiError
from .pipeline import Pipeline, default_masks
from .plan import is_plan
from .routing import Request, Route, RouteMode

PROMPT = "prompt"


@dataclass(frozen=True)
class ModelName:
    """A model's name, taken apart.

    Attributes:
        asked: as it was given.
        rest: what stands behind the colon; empty for the model alone.
    """

    asked: str
    rest: str = ""

    @property
    def by_words(self) -> bool:
        """Whether an instruction chooses the mask."""
        return not self.rest

    @property
    def prompted(self) -> bool:
        """Whether the model is prompted."""
        return self.rest == PROMPT


class ModelNames:
    """Reads models' names, and chooses routes by them; several threads may use it.

    Args:
        pipe: the pipeline.
        name: what the model is called.
        aliases: another name → one of these names.
    """

    def __init__(self, pipe: Pipeline, name: str, aliases: Mapping[str, str] | None = None) -> None:
        self.pipe, self.name, self.aliases = pipe, name, dict(aliases or {})
        self._lock = threading.Lock()  # predictor and bank keep what they read last
        for target in self.aliases.values():
            self.parse(target)

    def parse(self, asked: object) -> ModelName:
        """Take a name apart.

        Raises:
            ApiError: it is none of this server's.
        """
        if not isinstance(asked, str) or not asked:
            raise ApiError(400, f"model: expected a name, such as {self.name}", "model", "invalid_value")
        base, colon, rest = self.aliases.get(asked, asked).partition(":")
        if base != self.name or (colon and not rest.strip()):
            raise ApiError(404, f"model {asked!r} is not served; {self.name} is, see GET /v1/models", "model", "model_not_found")
        return ModelName(asked, rest.strip())

    def route(self, name: ModelName, **options: Any) -> Route:  # noqa: ANN401 - see `Request`
        """The route of a task, a plan or a mask; options are those of `Request`.

        Raises:
            ApiError: there is no such task or mask.
        """
        try:
            with self._lock:
                return self.pipe.choose(self._request(name.rest, options))
        except InstructionError as error:
            raise ApiError(400, str(error), "model", "invalid_value") from None
        except AmaskError as error:
            raise ApiError(404, f"model {name.asked!r}: {error}", "model", "model_not_found") from None

    def route_words(self, words: str, mode: RouteMode = "auto") -> Route:
        """The route of an instruction.

        Raises:
            ApiError: no mask serves it; the nearest tasks are named.
        """
        with self._lock:
            read = self.pipe.read([words], neighbours=False)[0]
            if read.spec is None and not read.plan:
                near = [
                    {"task": each.task, "example": each.example, "model": f"{self.name}:{each.task}"} for each in read.neighbours
                ]
                named = " and ".join(f"{each['task']} ({each['example']!r})" for each in near) or "none"
                message = (
                    f"no mask serves the instruction; the nearest tasks are {named}; say it like one of these, choose one "
                    f"by model {self.name}:TASK, or prompt by model {self.name}:{PROMPT}"
                )
                raise ApiError(422, message, "messages", "no_mask", more={"nearest": near})
            try:
                return self.pipe.route_read(read, mode)
            except AmaskError as error:
                raise ApiError(422, str(error), "messages", "no_mask") from None

    def _request(self, rest: str, options: Mapping[str, Any]) -> Request:
        """The request of a name: a task or a plan, or else a mask of the bank; never a file."""
        if "@" in rest and not is_plan(rest):
            return Request(mask=self._mask(rest), **{**options, "mode": "auto"})
        if is_plan(rest):
            return Request(task=rest, **{**options, "mode": "auto"})
        request = Request(task=rest, **options)
        try:
            self.pipe.choose(request)
        except (BankError, DataError) as unknown:
            if not is_name(rest):
                raise
            try:
                return Request(mask=self._mask(rest), **{**options, "mode": "auto"})
            except BankError:
                raise unknown from None
        return request

    def _mask(self, spec: str) -> StoredMask:
        return self.pipe.bank.get(spec, self.pipe.identity)

    def list(self) -> list[dict[str, Any]]:
        """The names as `GET /v1/models` has them."""
        with self._lock:
            bank, identity = self.pipe.bank, self.pipe.identity
            masks = [stored for stored in bank.list() if stored.identity.same(identity)]
            tasks = sorted({stored.task_name for stored in default_masks(bank, identity)})
        rows = [self._row(self.name), self._row(f"{self.name}:{PROMPT}", self.name)]
        rows += [self._row(f"{self.name}:{task}", self.name) for task in tasks]
        rows += [
            self._row(f"{self.name}:{stored.spec}", self.name) | {"task": stored.task_name or None, "heads_on": stored.heads_on}
            for stored in masks
        ]
        return rows + [self._row(alias, target) for alias, target in self.aliases.items()]

    @staticmethod
    def _row(name: str, parent: str | None = None) -> dict[str, Any]:
        return {"id": name, "object": "model", "created": 0, "owned_by": "amask", "parent": parent}
