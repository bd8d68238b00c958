"""`amask bank import`, `export`, `list` and `compare`, and their output where a terminal knows no more than ASCII."""

import json
import re

import pytest
import torch


@pytest.fixture
def pth(tmp_path):
    """A mask of SALMONN's size in the authors' layout."""
    torch.save({"model": {"tensor": torch.linspace(-3, 3, 40 * 41)}}, tmp_path / "checkpoint.pth")
    return tmp_path / "checkpoint.pth"


def failed(done) -> str:
    """The one line on stderr of a command that ended with 1."""
    assert (done.exit_code, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    return line


def stored(amask, name: str) -> dict:
    return json.loads(amask("bank", "show", name, "--json").stdout)


def test_the_authors_layout_comes_and_goes(amask, pth, tmp_path):
    done = amask("bank", "import", pth, "--name", "theirs", "--task", "asr")
    assert done.exit_code == 0, done.stderr
    done = amask("bank", "export", "theirs", tmp_path / "back.pth")
    assert done.stdout == (
        f"theirs@1 written to {tmp_path / 'back.pth'}: 800 of 1600 heads on, in the AHAMask authors' layout, "
        "40 × (40 + 1) numbers\n"
    )
    theirs, ours = (torch.load(path, weights_only=True)["model"]["tensor"] for path in (pth, tmp_path / "back.pth"))
    assert torch.equal(theirs, ours)


def test_a_foreign_mask_does_not_become_what_a_name_means(amask, pth, pocket_geometry):
    done = amask("bank", "import", pth, "--name", "gr", "--task", "gr")
    assert "gr@2 is the default, as there is no other gr for salmonn, although it was trained elsewhere" in done.stderr
    assert stored(amask, "gr")["version"] == 1
    done = amask("bank", "import", pth, "--name", "gr", "--layers", "7", "--model", "x")
    assert "7 layers" in failed(done)
    layers, heads = pocket_geometry.shape
    torch.save({"model": {"tensor": torch.linspace(3, -3, layers * (heads + 1))}}, pth)  # layer 0, which is fixed, is on
    done = amask("bank", "import", pth, "--vouch", "--model", "pocket", "--task", "gr")
    assert "gr@1 stays the default: it was trained elsewhere and imported; to use it: amask bank use gr@3" in done.stderr


@pytest.mark.parametrize("options", [["--layers", "20"], ["--heads", "81"], ["--layers", "20", "--heads", "81"]])
def test_layers_alone_are_enough(amask, pth, options):
    done = amask("bank", "import", pth, "--name", "mine", "--model", "mine", *options)
    assert done.exit_code == 0, done.stderr
    assert stored(amask, "mine")["geometry"] == [81] * 20


def test_our_own_files_take_a_name_and_a_task(amask, tmp_path):
    file = tmp_path / "mine.safetensors"
    assert amask("bank", "export", "gr", file).exit_code == 0
    assert amask("bank", "import", file, "--name", "plain").exit_code == 0
    assert amask("bank", "import", file, "--name", "changed", "--task", "gr|ser").exit_code == 0
    plain, changed = stored(amask, "plain"), stored(amask, "changed")
    assert (plain["task"], changed["task"]) == ("gr", "gr-ser")
    assert plain["scores"]
    assert changed["scores"] == {}  # those of the other task
    assert "gr@1 is the same mask" in amask("bank", "import", file).stderr
    assert "unknown task 'lyrics'" in failed(amask("bank", "import", file, "--task", "lyrics"))
    for option in (["--layers", "8"], ["--heads", "64"], ["--model", "salmonn"]):
        assert "give it no options but --name and --task" in failed(amask("bank", "import", file, *option))


def test_a_task_of_the_bank_is_known(amask, tmp_path, monkeypatch):
    bank = tmp_path / "bank"
    bank.mkdir()
    (bank / "tasks.toml").write_text('[orders]\nmetric = "acc"\nlabels = ["tea", "coffee"]\n')
    monkeypatch.setenv("AMASK_BANK", str(bank))
    amask("bank", "export", "gr", tmp_path / "mine.safetensors")
    assert amask("bank", "import", tmp_path / "mine.safetensors", "--task", "orders", "--name", "o").exit_code == 0
    (bank / "tasks.toml").unlink()
    assert amask("bank", "import", tmp_path / "mine.safetensors", "--task", "orders", "--name", "p").exit_code == 0


def test_export_replaces_nothing_unasked(amask, tmp_path):
    for name in ("mine.safetensors", "mine.pth"):
        (tmp_path / name).write_text("precious")
        line = failed(amask("bank", "export", "gr", tmp_path / name))
        assert line.endswith("is there already; choose another name, or replace it with --force")
        assert (tmp_path / name).read_text() == "precious"
        assert amask("bank", "export", "gr", tmp_path / name, "--force").exit_code == 0
        assert amask("bank", "compare", "gr", tmp_path / "mine.safetensors").exit_code == 0


@pytest.mark.parametrize("name", ["mine", "mine.bin", "mine.pth.txt"])
@pytest.mark.parametrize("options", [[], ["--format", "ahamask"], ["--format", "safetensors"]])
def test_export_writes_no_endings_that_import_refuses(amask, tmp_path, name, options):
    assert f"{tmp_path / name}" in failed(amask("bank", "export", "gr", tmp_path / name, *options))
    assert list(tmp_path.iterdir()) == []


def test_masks_are_compared_from_the_bank_and_from_files(amask, pth, tmp_path):
    amask("bank", "import", pth, "--name", "theirs")
    amask("bank", "export", "gr", tmp_path / "gr.safetensors")
    found = json.loads(amask("bank", "compare", "theirs", pth, "theirs@1", "--json").stdout)
    assert found["masks"] == ["theirs@1", str(pth), "theirs@1"]
    assert found["jaccard"] == [[1.0] * 3] * 3
    png = tmp_path / "map.png"
    done = amask("bank", "compare", "gr", "asr", "ser", tmp_path / "gr.safetensors", "--png", png)
    assert done.exit_code == 0, done.stderr
    assert png.read_bytes().startswith(b"\x89PNG")
    (_, (first, own, last), *_) = json.loads(amask("bank", "compare", "gr", "asr", "ser", "--json").stdout)["jaccard"]
    assert own == 1 > max(first, last)
    assert re.search(rf"^ asr@1 +{first:.3f}  1\.000  {last:.3f}", done.stdout, re.MULTILINE)
    assert "name two or more" in failed(amask("bank", "compare", "gr"))
    assert "this model is salmonn" in failed(amask("bank", "compare", "theirs", "gr"))


def test_the_list_is_filtered(amask, pth):
    amask("bank", "import", pth, "--name", "theirs", "--task", "asr")

    def specs(*options):
        return [f"{m['name']}@{m['version']}" for m in json.loads(amask("bank", "list", "--json", *options).stdout)]

    assert specs("--task", "asr") == ["asr@1", "theirs@1"]
    assert specs("--task", "gr|asr") == ["gr-asr@1"]
    assert specs("--model", "SALM") == ["theirs@1"]
    assert specs("--name", "asr*", "--model", "pocket") == ["asr@1", "asr-gr@1", "asr-gr-json@1"]
    table = amask("bank", "list").stdout.splitlines()
    assert table[0].split() == ["mask", "task", "model", "heads", "on", "dev", "score", "from", "date"]
    assert any(re.match(r" asr-gr-json@1 \* +asr-gr-json +pocket +\d+/\d+ +exact \d+\.\d +train +\d{4}-", row) for row in table)


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_any_terminal_shows_everything(process, tmp_path, monkeypatch, pocket_geometry, encoding):
    from amask.mask_bank.bank import MaskBank

    bank = MaskBank.default()
    lineage = {"note": "Köln ♀ 😀 “x”"}
    bank.add(bank.get("gr").with_(lineage=lineage), "noted")
    (bank.folder / "noted" / "2.safetensors").write_bytes(b"")  # so that there is a warning, too
    title = f"noted@1 · pocket · {pocket_geometry}"
    expected = {"ascii": title.replace("·", "-").replace("×", "x"), "latin-1": title, "utf-8": title}
    monkeypatch.setenv("LC_ALL", "C")
    monkeypatch.setenv("PYTHONIOENCODING", encoding)
    # One process would do for the streams; each command is one of its own in ASCII alone, where most is replaced.
    every = (("show", "noted"), ("show", "noted", "--json"), ("--help",), ("list",))
    for arguments in every if encoding == "ascii" else every[:1]:
        done = process("bank", *arguments)
        stdout, stderr = (data.buffer.read().decode(encoding) for data in (done.stdout, done.stderr))
        assert done.wait(60) == 0, stderr
        assert "Traceback" not in stderr
        if arguments == ("show", "noted"):
            assert stdout.startswith(expected[encoding])
        if "--json" in arguments:
            assert json.loads(stdout)["lineage"] == lineage
