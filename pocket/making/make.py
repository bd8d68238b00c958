"""The stages of the pocket model, from recordings to weights; each reads what those before it left in their folders."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ...data.reading import read_manifest
from ...mask_bank.files import load_mask
from ...predictor.predictor import SHIPPED, Predictor
from ...predictor.resources import resources_digest
from ...predictor.train import train_predictor
from ...predictor.training import PredictorSettings
from ..architecture import MARGIN, TAIL, build_extractor
from ..corpus.clips import hash_sources, make_corpus, read_sources
from .construct import construct
from .encoder import early_states, load_whisper, start_encoder
from .language import train_language
from .loop import Log
from .masks import train_masks
from .rates import learning_rates
from .save import save_pocket
from .stages import Stage
from .store import FrameStore, build_store
from .whisper_decoder import DecoderShape


@dataclass(frozen=True)
class Making:
    """What all stages share.

    Attributes:
        folder: where the stages' folders are.
        settings: of all stages (`making.toml`).
        plan: of the masks (`masks.toml`).
        shared: folder of the sets of recordings; None for synthetic clips only.
        whisper: Hub id or folder of the Whisper model that the model is made of.
        log: told how it goes.
    """

    folder: Path
    settings: dict
    plan: dict
    shared: Path | None
    whisper: str
    log: Log

    @property
    def seed(self) -> int:
        """The one seed."""
        return self.settings["seed"]

    def stages(self) -> list[Stage]:
        """Corpus, features, language model, masks, predictor."""
        whisper = Path(self.whisper).name
        table: list[tuple] = [
            ("corpus", 1, [self.settings["corpus"], self.seed, hash_sources(self.shared)], self._corpus),
            ("features", 2, [whisper, TAIL, MARGIN], self._features),
            ("language", 2, [self.settings["shape"], self.settings["language"], self.seed, whisper], self._language),
            ("masks", 3, self.plan, self._masks, True),
            ("predictor", 3, [self.settings["predictor"], self.seed, resources_digest()], self._predictor),
        ]
        return [Stage(*row) for row in table]

    def _corpus(self, folder: Path) -> None:
        settings = self.settings["corpus"]
        if self.shared:
            for name in read_sources(self.shared).absent:
                self.log(f"corpus: {name} is absent in {self.shared}; its kinds of clips are left out")
        made = make_corpus(folder, settings["sizes"], self.seed, self.shared, self.settings["threads"])
        for number, _ in enumerate(made, 1):
            if number % 1000 == 0:
                self.log(f"corpus: {number} clips")

    def _features(self, folder: Path) -> None:
        self._store(folder)

    def _store(self, folder: Path) -> FrameStore:
        tower = start_encoder(load_whisper(self.whisper))
        compute = partial(early_states, tower, extractor=build_extractor())
        return build_store(folder, read_manifest(self.folder / "corpus"), compute, self.log)

    def _language(self, folder: Path) -> None:
        settings, clips = self.settings["language"], list(read_manifest(self.folder / "corpus"))
        store = self._store(self.folder / "features")
        made = construct(self.whisper, DecoderShape(**self.settings["shape"]), store, clips)
        rates = learning_rates(made.builder, settings["fresh"])
        train_language(made.model, rates, made.tokenizer, store, clips, settings, self.seed, folder / "checkpoint.pt", self.log)
        save_pocket(made.model, made.tokenizer, folder / "weights")

    def _masks(self, folder: Path) -> None:
        store, clips = self._store(self.folder / "features"), list(read_manifest(self.folder / "corpus"))
        train_masks(self.folder / "language" / "weights", store, clips, self.plan, folder, self.log)

    def _predictor(self, folder: Path) -> None:
        settings = dict(self.settings["predictor"])
        start = None if settings.pop("from_scratch") else Predictor.load()
        masks = [load_mask(path) for path in sorted((self.folder / "masks").glob("*.safetensors"))]
        wanted = PredictorSettings(seed=self.seed, **settings)

        def tell(step: int, note: str) -> None:
            if step % 100 == 0:
                self.log(f"predictor: {step}/{wanted.steps} {note}")

        made = train_predictor(masks, wanted, checkpoint=folder / "checkpoint.pt", start=start, on_progress=tell)
        made.save(folder / SHIPPED.name)
