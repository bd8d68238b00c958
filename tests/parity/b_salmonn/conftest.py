"""The recorded set, and the model that it was recorded of.

The recorded language model has a row more in its embeddings and its head (`[PAD]`, random in the released code); the model
`padded` has it too.
"""

import json
import tomllib
from copy import deepcopy

import pytest

from .recorded import Batch, Recorded, read


@pytest.fixture(scope="module")
def recorded(golden):
    return Recorded(golden / "B_salmonn")


@pytest.fixture(scope="module")
def model(recorded, tmp_path_factory):
    """Loaded by way of a salmonn.toml, as the settings are the set's own."""
    from amask.lalm.registry import load_model

    own, place = recorded.json("model_config"), recorded.folder.resolve()
    said = {
        "whisper": str(place / own["whisper_path"]),
        "beats": str(place / own["beats_path"]),
        "llm": str(place / own["llama_path"]),
        "checkpoint": str(place / own["ckpt"]),
        "qformer": str(place / "qformer_config.json"),
        "lora_alpha": own["lora_alpha"],
        "seconds_per_window": own["second_per_window"],
        "seconds_per_stride": own["second_stride"],
        "prompt": own["prompt_template"],
    }
    folder = tmp_path_factory.mktemp("salmonn")
    text = "\n".join(f"{key} = {json.dumps(value)}" for key, value in said.items())
    assert tomllib.loads(text) == said
    (folder / "salmonn.toml").write_text(text)
    return load_model(str(folder), "cpu")


@pytest.fixture(scope="module")
def padded(model, recorded):
    """The model with the row of `[PAD]`."""
    from amask.lalm.salmonn.model import Salmonn

    rows = recorded.tensors("pad_rows")
    llm = deepcopy(model.model)
    llm.resize_token_embeddings(llm.config.vocab_size + 1, mean_resizing=False)
    llm.get_input_embeddings().weight.data[-1] = rows["embed_tokens_pad_row"]
    llm.get_output_embeddings().weight.data[-1] = rows["lm_head_pad_row"]
    return Salmonn("padded", llm, model.tokenizer, model.template, model.encoder, model.lora, model.lora_alpha)


@pytest.fixture(scope="module")
def batches(recorded, model):
    """Batch → its clips and stages; clips that were recorded alone are batches of one."""
    stages = recorded.tensors("stages")
    found = {}
    for name in sorted({key.partition(".")[0] for key in stages}):
        own = {key.partition(".")[2]: tensor for key, tensor in stages.items() if key.startswith(f"{name}.")}
        clip = name.removesuffix("_alone")
        alone = (recorded.folder / "wavs" / f"{clip}.wav").exists()
        clips = [clip] if alone else [f"{clip}{row}" for row in range(len(own["speech_embeds"]))]
        found[name] = Batch(clips, [read(recorded, model, clip) for clip in clips], own)
    assert {"syn", "real"} <= set(found)
    return found


@pytest.fixture(scope="module")
def features(batches):
    """The recorded embeddings of a batch."""
    from amask.lalm.batching import AudioFeatures

    def build(name: str) -> AudioFeatures:
        embeds = batches[name]["speech_embeds"]
        return AudioFeatures(embeds, batches[name]["speech_atts"].sum(1))

    return build
