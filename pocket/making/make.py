"""The stages of the pocket model, from recordings to weights; each reads what those before it left in their folders."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from transformers import PreTrainedTokenizerFast, Qwen2AudioForConditionalGeneration
from transformers.models.qwen2_audio.modeling_qwen2_audio import Qwen2AudioEncoder

from ...data.reading import read_manifest
from ...mask_bank.files import load_mask
from ...predictor.predictor import SHIPPED, Predictor
from ...predictor.resources import resources_digest
from ...predictor.train import train_predictor
from ...predictor.training import PredictorSettings
from ..architecture import audio_config, build_extractor, build_model, train_tokenizer
from ..corpus.clips import hash_sources, make_corpus, read_sources
from .encoder import features, start_encoder
from .language import train_language
from .lessons import all_texts
from .loop import Log
from .masks import train_masks
from .save import save_pocket
from .stages import Stage
from .store import FrameStore, build_store
from .supervision import train_encoder

ENCODER_FILE = "encoder.safetensors"


@dataclass(frozen=True)
class Making:
    """What all stages share.

    Attributes:
        folder: where the stages' folders are.
        settings: of all stages (`making.toml`).
        plan: of the masks (`masks.toml`).
        shared: folder of the sets of recordings; None for synthetic clips only.
        encoder: Hub id or folder of the Whisper model that the encoder starts from.
        log: told how it goes.
    """

    folder: Path
    settings: dict
    plan: dict
    shared: Path | None
    encoder: str
    log: Log

    @property
    def seed(self) -> int:
        """The one seed."""
        return self.settings["seed"]

    def stages(self) -> list[Stage]:
        """Corpus, encoder, features, language model, masks, predictor."""
        table: list[tuple] = [
            ("corpus", 1, [self.settings["corpus"], self.seed, hash_sources(self.shared)], self._corpus),
            ("encoder", 1, [self.settings["encoder"], self.seed, Path(self.encoder).name], self._encoder),
            ("features", 1, None, self._features),
            ("language", 1, [self.settings["language"], self.seed], self._language),
            ("masks", 2, self.plan, self._masks, True),
            ("predictor", 2, [self.settings["predictor"], self.seed, resources_digest()], self._predictor),
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

    def _tower(self, trained: bool) -> Qwen2AudioEncoder:
        torch.manual_seed(self.seed)
        tower = Qwen2AudioEncoder(audio_config(**self.settings.get("shape", {}).get("encoder", {})))
        if trained:
            tower.load_state_dict(load_file(self.folder / "encoder" / ENCODER_FILE))
        else:
            start_encoder(tower, self.encoder)
        return tower.eval()

    def _encoder(self, folder: Path) -> None:
        tower, manifest = self._tower(trained=False), read_manifest(self.folder / "corpus")
        settings, checkpoint = self.settings["encoder"], folder / "checkpoint.pt"
        train_encoder(tower, manifest, build_extractor(), settings, self.seed, checkpoint, self.log)
        save_file({name: value.contiguous() for name, value in tower.state_dict().items()}, folder / ENCODER_FILE)

    def _features(self, folder: Path) -> None:
        self._store(folder, self._tower(trained=True))

    def _store(self, folder: Path, tower: Qwen2AudioEncoder) -> FrameStore:
        compute = partial(features, tower, extractor=build_extractor())
        return build_store(folder, read_manifest(self.folder / "corpus"), compute, self.log)

    def _language(self, folder: Path) -> None:
        settings, clips = self.settings["language"], list(read_manifest(self.folder / "corpus"))
        sentences = [each.english for each in read_sources(self.shared).sentences.get("train", ())]
        tokenizer = train_tokenizer(all_texts(clips, sentences), settings["vocabulary"])
        model, tower = self._model(tokenizer), self._tower(trained=True)
        store = self._store(self.folder / "features", tower)
        train_language(model, tokenizer, store, clips, settings, self.seed, folder / "checkpoint.pt", self.log)
        model.model.audio_tower.load_state_dict(tower.state_dict())
        save_pocket(model, tokenizer, folder / "weights")

    def _masks(self, folder: Path) -> None:
        store = self._store(self.folder / "features", self._tower(trained=True))
        clips = list(read_manifest(self.folder / "corpus"))
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

    def _model(self, tokenizer: PreTrainedTokenizerFast) -> Qwen2AudioForConditionalGeneration:
        torch.manual_seed(self.seed)
        return build_model(tokenizer, **self.settings.get("shape", {}))
