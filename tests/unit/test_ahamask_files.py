"""The authors' layouts: their ten masks to the head, HeadsUp's files, files of neither, and the way back bit for bit."""

import hashlib
import os
import pickle
import zipfile
from pathlib import Path

import pytest
import safetensors.torch
import torch

HEADS_ON = {
    "aac_audiocaps": 1426,
    "asr_gender_json_librispeech": 1124,
    "asr_gender_librispeech": 837,
    "asr_librispeech": 1525,
    "asv_voxceleb1": 1311,
    "emotion_iemocap": 1146,
    "gender_asr_librispeech": 1315,
    "gender_librispeech": 1259,
    "osr_libri2mix": 1550,
    "s2tt_covost2": 1551,
}
TASKS = ["aac", "asr-gr-json", "asr-gr", "asr", "asv", "ser", "gr-asr", "gr", "osr", "s2tt"]


@pytest.fixture(scope="module")
def released(shared: Path) -> dict[str, Path]:
    """Folder → file of the released masks."""
    return {name: shared / "ahamask_official" / "masks" / name / "checkpoint.pth" for name in HEADS_ON}


@pytest.fixture
def flat() -> torch.Tensor:
    """A mask of 3 layers × 4 heads in the authors' layout; among its numbers both zeros, which are on."""
    numbers = torch.randn(15, generator=torch.Generator().manual_seed(0))
    numbers[0], numbers[1], numbers[4] = 0.0, -0.0, -22.5
    return numbers


@pytest.fixture
def path(tmp_path: Path, flat: torch.Tensor) -> Path:
    """Its file."""
    torch.save({"model": {"tensor": flat}}, tmp_path / "checkpoint.pth")
    return tmp_path / "checkpoint.pth"


def geometry(layers: int = 3, heads: int = 4):
    from amask.lalm.gating import Geometry

    return Geometry((heads,) * layers)


def bits_of(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.view(torch.int32)  # so that 0.0 and -0.0 differ


def refused(path: Path, *arguments, **named) -> str:
    from amask.errors import MaskError
    from amask.mask_bank.ahamask_files import import_ahamask

    with pytest.raises(MaskError) as caught:
        import_ahamask(path, *arguments, **named)
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    return message


def test_released_masks(released: dict[str, Path]) -> None:
    from amask.mask_bank.ahamask_files import import_ahamask

    masks = {name: import_ahamask(path)[0] for name, path in released.items()}
    assert {name: mask.heads_on for name, mask in masks.items()} == HEADS_ON
    assert [mask.task_name for mask in masks.values()] == TASKS
    for mask in masks.values():
        assert (str(mask.geometry), mask.identity.name, mask.identity.fingerprint) == ("40×40", "salmonn", "imported:salmonn")
    jaccards = [("osr_libri2mix", "asr_librispeech", 0.940), ("osr_libri2mix", "s2tt_covost2", 0.944)]
    for one, other, expected in [*jaccards, ("gender_librispeech", "emotion_iemocap", 0.636)]:
        assert masks[one].jaccard(masks[other]) == pytest.approx(expected, abs=5e-4)


def test_released_masks_come_back_bit_for_bit(released: dict[str, Path], tmp_path: Path) -> None:
    from amask.mask_bank.ahamask_files import export_ahamask, import_ahamask
    from amask.mask_bank.bank import MaskBank

    bank = MaskBank(tmp_path / "bank")
    for name, path in released.items():
        stored = bank.add(import_ahamask(path)[0], TASKS[list(released).index(name)]).stored
        export_ahamask(bank.get(stored.spec), tmp_path / "out.pth")
        theirs, ours = (torch.load(file, weights_only=True) for file in (path, tmp_path / "out.pth"))
        assert (list(theirs), list(theirs["model"])) == (list(ours), list(ours["model"])) == (["model"], ["tensor"])
        assert torch.equal(bits_of(theirs["model"]["tensor"]), bits_of(ours["model"]["tensor"]))


def test_import(path: Path, flat: torch.Tensor) -> None:
    from amask.data.tasks import parse_task
    from amask.mask_bank.ahamask_files import import_ahamask

    mask, note = import_ahamask(path, geometry(), parse_task("gr"), "tiny", "f" * 16)
    table = flat.view(3, 5)
    assert torch.equal(mask.logits, table[:, :4])
    assert torch.equal(mask.bits, table[:, :4] >= 0)
    assert bool(mask.bits[0, :2].all())
    assert (mask.identity.fingerprint, mask.identity.name, mask.task_name) == ("f" * 16, "tiny", "gr")
    assert mask.lineage == {
        "operation": "import",
        "layout": "ahamask",
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "ffn": table[:, 4].tolist(),
    }
    assert note.startswith("dropped the 3 feed-forward numbers (-22.5 to ")


def test_export_gives_the_same_tensor_back(path: Path, flat: torch.Tensor, tmp_path: Path) -> None:
    from amask.mask_bank.ahamask_files import export_ahamask, import_ahamask
    from amask.mask_bank.files import load_mask, save_mask

    save_mask(import_ahamask(path, geometry(), model="tiny")[0], "gr", 1, tmp_path / "1.safetensors")
    export_ahamask(load_mask(tmp_path / "1.safetensors"), tmp_path / "out.pth")
    back = torch.load(tmp_path / "out.pth", weights_only=True)
    assert list(back) == ["model"]
    assert list(back["model"]) == ["tensor"]
    assert torch.equal(bits_of(back["model"]["tensor"]), bits_of(flat))


def test_export_without_logits(path: Path, tmp_path: Path) -> None:
    from amask.mask_bank.ahamask_files import export_ahamask, import_ahamask

    mask = ~import_ahamask(path, geometry(), model="tiny")[0]
    export_ahamask(mask, tmp_path / "out.pth")
    again = import_ahamask(tmp_path / "out.pth", geometry(), model="tiny")[0]
    assert torch.equal(again.bits, mask.bits)
    assert again.lineage["ffn"] == [4.0] * 3


def test_export_needs_even_layers_and_a_place(path: Path, tmp_path: Path) -> None:
    from amask.errors import FileError, MaskError
    from amask.lalm.gating import Geometry
    from amask.lalm.identity import Identity
    from amask.mask_bank.ahamask_files import export_ahamask, import_ahamask
    from amask.mask_bank.mask import HeadMask

    ragged = HeadMask.from_logits(torch.zeros(2, 3), Identity(Geometry((3, 2)), "f", "tiny"))
    with pytest.raises(MaskError, match="equally many heads"):
        export_ahamask(ragged, tmp_path / "out.pth")
    with pytest.raises(FileError, match="cannot write"):
        export_ahamask(import_ahamask(path, geometry(), model="tiny")[0], path / "out.pth")


def test_old_formats_and_parameters_are_read(tmp_path: Path, flat: torch.Tensor) -> None:
    from amask.mask_bank.ahamask_files import import_ahamask

    path = tmp_path / "old.pth"
    content = {"model": {"tensor": torch.nn.Parameter(flat)}, "optimizer": {"state": {}}, "epoch": 3}
    torch.save(content, path, _use_new_zipfile_serialization=False)
    assert torch.equal(import_ahamask(path, geometry(), model="tiny")[0].logits, flat.view(3, 5)[:, :4])


KNOWN_LENGTHS = [(1640, "40×40"), (1056, "32×32"), (812, "28×28"), (364, "28×12"), (234, "26×8")]


@pytest.mark.parametrize(("length", "expected"), KNOWN_LENGTHS)
def test_known_lengths(length: int, expected: str) -> None:
    from amask.mask_bank.ahamask_files import infer_geometry

    assert str(infer_geometry(length)) == expected


def test_no_length_fits_two_known_models() -> None:
    from amask.mask_bank.ahamask_files import KNOWN_MODELS, infer_geometry

    assert len({layers * (heads + 1) for layers, heads in KNOWN_MODELS}) == len(KNOWN_MODELS)
    assert infer_geometry(15) is None


def test_wrong_geometries(path: Path, tmp_path: Path) -> None:
    from amask.lalm.gating import Geometry

    assert "no known model has masks of 15 numbers; give its layers and heads" in refused(path)
    assert "15 numbers, which is not layers × (heads + 1) of a model of 4×3" in refused(path, geometry(4, 3))
    assert "not layers × (heads + 1)" in refused(path, Geometry((4, 3, 5)))
    torch.save({"model": {"tensor": torch.zeros(1640)}}, tmp_path / "salmonn.pth")
    message = refused(tmp_path / "salmonn.pth", geometry(8, 64), model="pocket")
    assert "of a model of 8×64 (pocket)" in message
    assert "masks of 40×40 heads have that length (SALMONN 13B" in message


def test_a_table_without_the_feed_forward_is_refused(tmp_path: Path) -> None:
    safetensors.torch.save_file({"tensor": torch.zeros(12)}, tmp_path / "model.safetensors")
    assert "12 numbers, which is not layers × (heads + 1)" in refused(tmp_path / "model.safetensors", geometry(), model="tiny")


@pytest.fixture
def headsup(tmp_path: Path) -> Path:
    """A mask of a text model with 32×32 heads, where HeadsUp's training leaves it: feed-forward numbers are -5."""
    logits = torch.randn(32, 33, generator=torch.Generator().manual_seed(1))
    logits[:, -1] = -5.0
    folder = tmp_path / "output" / "llama" / "xnli" / "zh_en" / "checkpoint-6190"
    folder.mkdir(parents=True)
    safetensors.torch.save_file({"tensor": logits.flatten()}, folder / "model.safetensors", metadata={"format": "pt"})
    return folder / "model.safetensors"


def test_headsup_files(headsup: Path) -> None:
    from amask.mask_bank.ahamask_files import default_name, import_ahamask

    mask, note = import_ahamask(headsup, model="Llama-3.1-8B-Instruct")
    table = safetensors.torch.load_file(headsup)["tensor"].view(32, 33)
    assert torch.equal(mask.logits, table[:, :-1])
    assert torch.equal(mask.bits, torch.sigmoid(table[:, :-1]) >= 0.5)  # their rule
    assert (str(mask.geometry), mask.identity.name, mask.task_name) == ("32×32", "Llama-3.1-8B-Instruct", "")
    assert mask.identity.fingerprint == "imported:Llama-3.1-8B-Instruct"
    assert mask.lineage["layout"] == "headsup"
    assert note.startswith("dropped the 32 feed-forward numbers (-5.0 to -5.0)")
    assert default_name(headsup) == "zh_en"
    assert default_name(headsup.parent / "checkpoint.pth") == "zh_en"
    assert default_name(headsup.parents[1] / "checkpoint.pth") == "zh_en"


def test_headsup_files_come_back_bit_for_bit(headsup: Path, tmp_path: Path) -> None:
    from amask.mask_bank.ahamask_files import export_ahamask, import_ahamask
    from amask.mask_bank.bank import MaskBank

    bank = MaskBank(tmp_path / "bank")
    stored = bank.add(import_ahamask(headsup, model="Llama-3.1-8B-Instruct")[0], "zh_en").stored
    export_ahamask(bank.get(stored.spec), tmp_path / "back.safetensors")
    theirs, ours = (safetensors.torch.load_file(file) for file in (headsup, tmp_path / "back.safetensors"))
    assert list(ours) == ["tensor"]
    assert torch.equal(bits_of(theirs["tensor"]), bits_of(ours["tensor"]))


def test_files_do_not_say_whose_they_are(headsup: Path, path: Path, tmp_path: Path) -> None:
    message = refused(headsup)
    assert "does not say which model of 32×32 heads (as Qwen2-Audio 7B, Llama 3.1 8B, " in message
    assert message.endswith("it is for; name the model")
    assert "which model of 3×4 heads it is for" in refused(path, geometry())
    # 40×40 in the AHAMask layout is SALMONN, as released; in HeadsUp's it is some text model.
    safetensors.torch.save_file({"tensor": torch.zeros(1640)}, tmp_path / "model.safetensors")
    assert "which model of 40×40 heads (as SALMONN 13B" in refused(tmp_path / "model.safetensors")


def test_masks_of_different_models_never_mix(headsup: Path) -> None:
    from amask.errors import MaskError
    from amask.lalm.identity import Identity
    from amask.mask_bank.ahamask_files import import_ahamask

    llama, mistral = (import_ahamask(headsup, model=name)[0] for name in ("Llama-3.1-8B", "Mistral-7B-v0.3"))
    with pytest.raises(MaskError, match=r"is for Mistral-7B-v0\.3 \(32×32 heads.*this model is Llama-3\.1-8B \(32×32 heads"):
        llama & mistral
    with pytest.raises(MaskError, match="this model is qwen2-audio"):
        llama.require(Identity(llama.geometry, "0123456789abcdef", "qwen2-audio"))
    assert (llama & import_ahamask(headsup, model="Llama-3.1-8B")[0]).heads_on == llama.heads_on


def test_whose_file_it_is(headsup: Path, path: Path, tmp_path: Path) -> None:
    from amask.mask_bank.ahamask_files import import_ahamask, is_ahamask_file
    from amask.mask_bank.files import save_mask

    save_mask(import_ahamask(path, geometry(), model="tiny")[0], "gr", 1, tmp_path / "ours.safetensors")
    (tmp_path / "text.safetensors").write_text("hello")
    files = (headsup, path, tmp_path / "ours.safetensors", tmp_path / "text.safetensors", tmp_path / "none.safetensors")
    assert [is_ahamask_file(file) for file in files] == [True, True, False, False, False]
    assert "no tensor called 'tensor'" in refused(tmp_path / "ours.safetensors")
    assert "not a whole safetensors file" in refused(tmp_path / "text.safetensors")
    headsup.write_bytes(headsup.read_bytes()[:-4])
    assert "not a whole safetensors file" in refused(headsup)


class Trap:
    """What runs code when it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self):
        return os.mkdir, (str(self.trace),)


def test_code_is_never_run(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    for at, write in enumerate((torch.save, lambda content, path: path.write_bytes(pickle.dumps(content, 2)))):
        path = tmp_path / f"{at}.pth"
        write({"model": {"tensor": torch.zeros(1640), "trap": Trap(trace)}}, path)
        assert "torch cannot load it as tensors alone" in refused(path)
    assert not trace.exists()


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (torch.zeros(1640), "no tensor at"),
        ({"tensor": torch.zeros(1640)}, "no tensor at"),
        ({"model": torch.zeros(1640)}, "no tensor at"),
        ({"model": {"tensor": [0.0] * 1640}}, "no tensor at"),
        ({"model": {"tensor": torch.zeros(40, 41)}}, "2 axes"),
        ({"model": {"tensor": torch.zeros(())}}, "0 axes"),
        ({"model": {"tensor": torch.zeros(1640, dtype=torch.long)}}, "torch.int64"),
        ({"model": {"tensor": torch.zeros(1640, dtype=torch.float64)}}, "torch.float64"),
        ({"model": {"tensor": torch.zeros(1640, device="meta")}}, "expected float32 of one"),
        ({"model": {"tensor": torch.zeros(1640).to_sparse()}}, "expected float32 of one"),
        ({"model": {"tensor": torch.zeros(0)}}, "0 numbers"),
        ({"model": {"tensor": torch.zeros(1).expand(10**12)}}, "1000000000000 numbers"),
        ({"model": {"tensor": torch.tensor([torch.nan] * 1640)}}, "finite"),
        ({"model": {"tensor": torch.tensor([0.0] * 40 + [-torch.inf] + [0.0] * 1599)}}, "finite"),
        ({"model": {"logits": torch.zeros(1640)}}, "no tensor at"),
    ],
)
def test_odd_content(tmp_path: Path, content: object, why: str) -> None:
    path = tmp_path / "odd.pth"
    torch.save(content, path)
    assert why in refused(path)


def test_files_that_are_not_torchs(tmp_path: Path, path: Path) -> None:
    assert "no such file" in refused(tmp_path / "none.pth")
    whole = path.read_bytes()
    for content in (b"", b"hello", b"PK\x03\x04", whole[:200], whole[: len(whole) // 2], b"\x80\x02" + whole):
        path.write_bytes(content)
        assert "torch cannot load it as tensors alone" in refused(path)


def test_a_zip_that_swells_is_not_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "bomb.pth"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as bomb:
        bomb.writestr("archive/data.pkl", bytes(20 * 2**20))
    assert "it unpacks to 20 MiB" in refused(path)


@pytest.mark.parametrize("shape", [(3, None), (None, 4), (3, 4)])
def test_layers_or_heads_alone_tell_the_geometry(path: Path, shape: tuple[int | None, int | None]) -> None:
    from amask.mask_bank.ahamask_files import import_ahamask

    assert import_ahamask(path, model="tiny", shape=shape)[0].geometry == geometry()


@pytest.mark.parametrize(
    ("shape", "given"),
    [((4, None), "4 layers"), ((None, 3), "3 heads a layer"), ((15, None), "15 layers"), ((16, None), "16 layers"),
     ((3, 5), "3 layers and 5 heads a layer"), ((None, 15), "15 heads a layer")],
)  # fmt: skip
def test_layers_or_heads_that_do_not_fit(path: Path, shape: tuple[int | None, int | None], given: str) -> None:
    message = refused(path, model="tiny", shape=shape)
    assert message.endswith(f"it has 15 numbers, which is not layers × (heads + 1) with {given}")


def test_the_layers_of_a_known_model_are_counted_too(tmp_path: Path) -> None:
    """As many numbers as SALMONN's masks have, but another model."""
    from amask.mask_bank.ahamask_files import import_ahamask

    torch.save({"model": {"tensor": torch.zeros(1640)}}, tmp_path / "x.pth")
    assert str(import_ahamask(tmp_path / "x.pth", model="mine", shape=(20, None))[0].geometry) == "20×81"


@pytest.mark.parametrize("name", ["out", "out.bin", "out.PTH", "out.pth.txt"])
def test_endings_that_could_not_be_imported_are_not_written(path: Path, tmp_path: Path, name: str) -> None:
    from amask.errors import FileError
    from amask.mask_bank.ahamask_files import export_ahamask, import_ahamask

    with pytest.raises(FileError, match=r"expected AHAMask's \(\.pth or \.pt\) or HeadsUp's \(\.safetensors\)"):
        export_ahamask(import_ahamask(path, geometry(), model="tiny")[0], tmp_path / name)
    assert not (tmp_path / name).exists()


def test_an_export_says_what_it_wrote_and_spares_what_is_there(path: Path, tmp_path: Path) -> None:
    from amask.mask_bank.ahamask_files import export_ahamask, import_ahamask

    mask = import_ahamask(path, geometry(), model="tiny")[0]
    assert export_ahamask(mask, tmp_path / "a.pth", exclusive=True) == "in the AHAMask authors' layout, 3 × (4 + 1) numbers"
    said = export_ahamask(~mask, tmp_path / "b.safetensors")
    assert said == "in HeadsUp's layout, 3 × (4 + 1) numbers, 4 for on and -4 for off, as it has no logits"
    before = (tmp_path / "a.pth").read_bytes()
    with pytest.raises(FileExistsError):
        export_ahamask(~mask, tmp_path / "a.pth", exclusive=True)
    assert (tmp_path / "a.pth").read_bytes() == before
