"""`amask.pipeline`: clips and a request in, results out. The command line, the server and evaluations all go through here."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import fields, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from ..data.tasks import Task, collect_tasks
from ..errors import AudioError, InstructionError
from ..lalm.identity import Identity
from ..mask_bank.bank import BUNDLED, MaskBank, default_folder
from ..mask_bank.files import StoredMask
from .choose_route import RouteChooser, check_masks
from .clips import Clip, is_one_clip
from .engine import RunOptions, answer_clips
from .features import SegmentEncoder
from .results import Result
from .routing import ByMask, Request, Route, RouteMode
from .schema_form import fill_schema

if TYPE_CHECKING:
    from ..lalm.base import LALM
    from ..predictor.predictor import Predictor
    from ..predictor.route import InstructionRoute
    from ..predictor.router import InstructionRouter

_REQUEST = {each.name for each in fields(Request)}
_OPTIONS = {each.name for each in fields(RunOptions)}


class Pipeline:
    """A model, a bank and a predictor: from clips and a request to results.

    Nothing is loaded before it is needed: a route needs the model only where the bank has masks of several models of its name.

    Args:
        model: a loaded model, or its name for `load_model`.
        bank: a bank or its folder; the user's by default.
        predictor: a predictor or its file; by default the user's for this model, else the one that ships.
        device: where a model is loaded to.
        dtype: in which precision.
        tasks: TOML file of tasks of your own.
        load: loads a model by name, device and dtype; `load_model` by default.
    """

    def __init__(
        self,
        model: "LALM | str" = "pocket",
        bank: MaskBank | Path | str | None = None,
        predictor: "Predictor | Path | str | None" = None,
        *,
        device: str = "auto",
        dtype: str | None = None,
        tasks: Path | str | None = None,
        load: "Callable[[str, str, str | None], LALM] | None" = None,
    ) -> None:
        self._given, self._device, self._dtype, self._load = model, device, dtype, load
        self.bank = bank if isinstance(bank, MaskBank) else MaskBank(Path(bank) if bank else default_folder(), BUNDLED)
        self._predictor, self._tasks = predictor, Path(tasks) if tasks else None
        self._pruned: tuple[str, LALM] | None = None

    def __getstate__(self) -> dict[str, Any]:
        """What it was made of; another process loads the model itself.

        Raises:
            InstructionError: it was given a loaded model.
        """
        if not isinstance(self._given, str):
            raise InstructionError("a loaded model cannot be sent to other processes; make the pipeline with the model's name")
        own = {name: self.__dict__[name] for name in ("_given", "_device", "_dtype", "_load", "_predictor")}
        bank, tasks = replace(self.bank, folder=self.bank.folder.absolute()), self._tasks and self._tasks.absolute()
        return own | {"bank": bank, "_tasks": tasks, "_pruned": None}

    @cached_property
    def model(self) -> "LALM":
        """The model, loaded when it is first asked for."""
        if not isinstance(self._given, str):
            return self._given
        if self._load is not None:
            return self._load(self._given, self._device, self._dtype)
        from ..lalm.registry import load_model  # noqa: PLC0415 - imports transformers

        return load_model(self._given, self._device, self._dtype)

    @property
    def identity(self) -> Identity:
        """What masks must be for: the model's, or until it is loaded that of the bank's masks for a model of its name."""
        return self._identity(self.bank)

    def _identity(self, bank: MaskBank) -> Identity:
        if "model" not in self.__dict__ and isinstance(self._given, str):
            named = {stored.identity for stored in bank.list() if stored.identity.name == self._given}
            if len(named) == 1:
                return named.pop()
        return self.model.identity

    @cached_property
    def predictor(self) -> "Predictor":
        """What reads instructions."""
        if self._predictor is not None and not isinstance(self._predictor, str | Path):
            return self._predictor
        return open_predictor(Path(self._predictor) if self._predictor else None, self.bank.folder, self.identity)

    @cached_property
    def _encoder(self) -> SegmentEncoder:
        return SegmentEncoder(self.model)

    def _chooser(self) -> RouteChooser:
        bank = self.bank.snapshot()
        known = collect_tasks(bank.folder, file=self._tasks) | {part.name: part for each in bank.tasks() for part in each.parts}
        return RouteChooser(bank, self._identity(bank), known)

    def _router(self, bank: MaskBank) -> "InstructionRouter":
        from ..predictor.router import InstructionRouter  # noqa: PLC0415 - imports torch

        masks = require_masks(bank, self._identity(bank))
        key = tuple(mask.digest for mask in masks)
        if getattr(self, "_routers", (None, None))[0] != key:
            self._routers = key, InstructionRouter(self.predictor, masks)
        return self._routers[1]

    def read(
        self, instructions: Sequence[str], *, predicted_bits: bool = False, neighbours: bool = True
    ) -> "list[InstructionRoute]":
        """What the predictor makes of instructions, before routes are chosen.

        Args:
            instructions: in words.
            predicted_bits: whether their bits are to be run.
            neighbours: name the nearest tasks also of clear ones.
        """
        return self._router(self.bank.snapshot()).route(instructions, use_predicted_bits=predicted_bits, neighbours=neighbours)

    def route_read(self, read: "InstructionRoute", mode: RouteMode = "auto") -> Route:
        """The route of an instruction that was read.

        Args:
            read: what the predictor makes of it.
            mode: how several tasks are done, as in `Request`.

        Raises:
            InstructionError: no mask serves it.
        """
        return self._chooser().route_read(read, mode)

    def route(self, instruction: str | None = None, **request: Any) -> Route:  # noqa: ANN401 - see `Request`
        """Choose how a request is done, without doing it.

        Args:
            instruction: what is asked for, in words.
            request: or `task`, `mask` or `prompt`, and the other fields of `Request`.

        Raises:
            InstructionError: the request makes no sense, or no mask serves it.
            BankError: the bank has no mask for it.
            MaskError: a mask is for another model.
            DataError: a task is unknown.

        Example:
            >>> pipe = amask.pipeline("pocket")
            >>> pipe.route("what's the speaker's gender").task_name
            'gr'
            >>> pipe.route(task="gr THEN asr IF female").mode
            'plan'
        """
        return self.choose(_request(instruction, request))

    def choose(self, request: Request) -> Route:
        """The same as `route`, for a request that was made before."""
        chooser = self._chooser()

        def read(text: str, predicted_bits: bool) -> "InstructionRoute":
            return self._router(chooser.bank).route([text], use_predicted_bits=predicted_bits, neighbours=False)[0]

        return chooser.choose(request, read)

    def known_tasks(self) -> Mapping[str, Task]:
        """All single tasks: the built-in ones, those of files, and those that the bank's masks carry."""
        return self._chooser().tasks

    def __call__(
        self,
        clips: Clip | Iterable[Clip],
        instruction: str | None = None,
        *,
        route: Route | None = None,
        **named: Any,  # noqa: ANN401 - see `Request` and `RunOptions`
    ) -> Result | list[Result]:
        """Answer for a clip or for several.

        Args:
            clips: a clip or an iterable of clips: files, `(samples, rate)`, bytes, binary streams, audio of `datasets`.
            instruction: what is asked for, in words.
            route: how it is done, where that was chosen before; then there is no other request.
            named: `task`, `mask` or `prompt`, other fields of `Request`, and those of `RunOptions`.

        Returns:
            The result; of several clips a list of results, in which a clip that could not be answered has an `error`.

        Raises:
            AudioError: the one clip cannot be read.
            AmaskError: as of `route`.

        Example:
            >>> pipe = amask.pipeline("pocket")
            >>> pipe("docs/clips/woman.opus", "who is talking, a man or a woman?").text
            'female'
            >>> [result.text for result in pipe(["docs/clips/woman.opus", "docs/clips/man.opus"], task="gr")]
            ['female', 'male']
        """
        one = is_one_clip(clips)
        several = cast(Iterable[Clip], [clips] if one else clips)
        results = list(self.stream(several, instruction, route=route, **named))
        if not one:
            return results
        if results[0].error:
            raise AudioError(results[0].error)
        return results[0]

    def stream(
        self,
        clips: Iterable[Clip],
        instruction: str | None = None,
        *,
        route: Route | None = None,
        **named: Any,  # noqa: ANN401 - see `Request` and `RunOptions`
    ) -> Iterator[Result]:
        """Answer for clips as they come, in their order; arguments as of calling the pipeline.

        The request is routed at once; clips are read as results are taken.
        """
        return self.run(clips, *self.resolve(instruction, route, named))

    def resolve(self, instruction: str | None, route: Route | None, named: Mapping[str, Any]) -> tuple[Route, RunOptions]:
        """How a call is done: its route, where that was not chosen before, and its options.

        Args:
            instruction: what is asked for, in words.
            route: how it is done; then there is no other request.
            named: fields of `Request` and of `RunOptions`.

        Raises:
            InstructionError: an option is unknown, or there is a route beside a request.
            AmaskError: as of `route`.
        """
        unknown = sorted(named.keys() - _REQUEST - _OPTIONS)
        if unknown:
            allowed = ", ".join(sorted(_REQUEST | _OPTIONS))
            raise InstructionError(f"unknown option {unknown[0]!r}; expected one of {allowed}")
        options = RunOptions(**{name: value for name, value in named.items() if name in _OPTIONS})
        asked = {name: value for name, value in named.items() if name in _REQUEST}
        if route is None:
            return self.choose(_request(instruction, asked)), options
        if instruction is not None or asked:
            raise InstructionError(
                f"pass a route or a request; got both a route and {', '.join(['instruction'] * bool(instruction) + [*asked])}"
            )
        return route, options

    def run(self, clips: Iterable[Clip], route: Route, options: RunOptions | None = None) -> Iterator[Result]:
        """Answer for clips by a route that was chosen before."""
        options = options or RunOptions()
        if options.schema is not None and not options.unconstrained and (filled := fill_schema(route, options.schema)):
            route, options = filled, replace(options, schema=None)
        options.require(route)
        known = tuple(self.known_tasks().values())
        return answer_clips(self._for(route, options), clips, route, options, self._encoder, known)

    def _for(self, route: Route, options: RunOptions) -> "LALM":
        """The model for a route: without the heads that are off, where one mask does it all and the family allows it."""
        model = self.model
        if options.prune == "off" or not isinstance(route, ByMask) or not 0 < route.mask.heads_on < route.mask.heads_total:
            return model
        if getattr(model, "prune_obstacle", "unknown"):
            return model
        key = route.mask.digest
        if self._pruned is None or self._pruned[0] != key:
            self._pruned = key, model.pruned(route.mask)
        return self._pruned[1]


def _request(instruction: str | None, named: Mapping[str, Any]) -> Request:
    unknown = sorted(named.keys() - _REQUEST)
    if unknown:
        raise InstructionError(f"unknown option {unknown[0]!r}; expected one of {', '.join(sorted(_REQUEST))}")
    return Request(instruction=instruction, **named)


def pipeline(
    model: "LALM | str" = "pocket",
    bank: MaskBank | Path | str | None = None,
    predictor: "Predictor | Path | str | None" = None,
    **loading: Any,  # noqa: ANN401 - see `Pipeline`
) -> Pipeline:
    """From clips and a request to results: `pipe(clip, "who is talking?")`, `pipe(clips, task="gr|asr")`, `pipe.stream(…)`.

    Args:
        model: a loaded model, or its name.
        bank: a bank or its folder; the user's by default.
        predictor: a predictor or its file; by default the user's, else the one that ships.
        loading: `device`, `dtype`, and `tasks`, a TOML file of tasks of your own.

    Example:
        >>> pipe = amask.pipeline("pocket")
        >>> pipe("docs/clips/woman.opus", task="gr").text
        'female'
    """
    return Pipeline(model, bank, predictor, **loading)


def default_masks(bank: MaskBank, model: Identity | None = None) -> list[StoredMask]:
    """One mask for each task of a model, or of each model: the default of its name, and rather one that is called like the task.

    Args:
        bank: the masks.
        model: what they are for; None for each model that the bank has masks of.
    """
    preferred = bank.defaults()
    fitting = [stored for stored in bank.list() if stored.task and (model is None or stored.identity.same(model))]
    ranked = sorted(fitting, key=lambda stored: (stored.spec in preferred, stored.name == stored.task_name))
    return list({(stored.identity.fingerprint, stored.task_name): stored for stored in ranked}.values())


def require_masks(bank: MaskBank, model: Identity) -> list[StoredMask]:
    """The same of one model, of which there is at least one.

    Raises:
        BankError: the bank has no mask for the model.
    """
    check_masks(bank, model)
    return default_masks(bank, model)


def user_predictor_path(bank: Path, model: Identity) -> Path:
    """Where the user's predictor for a model is kept: beside the bank, one for each model's fingerprint."""
    return bank.with_name(f"{bank.name}.predictors") / f"{model.fingerprint}.safetensors"


def open_predictor(path: Path | None, bank: Path, model: Identity) -> "Predictor":
    """The predictor of a file, or else the user's for a model, or else the one that comes with amask."""
    from ..predictor.predictor import SHIPPED, Predictor  # noqa: PLC0415 - imports torch

    own = user_predictor_path(bank, model)
    return Predictor.load(path or (own if own.is_file() else SHIPPED))
