"""`amask run` on real input, and on rubbish: message and exit status."""

import json
from difflib import SequenceMatcher

import numpy as np
import pytest
import soundfile

GENDER = "what's the speaker's gender"


def test_the_users_question(amask, clip):
    done = amask("run", "--instruction", GENDER, clip)
    assert done.exit_code == 0
    assert done.stdout == "female\n"


def test_json_is_one_object_a_line(amask, clip, pocket_geometry):
    done = amask("run", "--task", "gr", clip, clip.parent, "--json")
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.exit_code == 0
    assert len(rows) == len(list(clip.parent.glob("*.opus")))
    assert rows[0]["path"] == str(clip)
    assert rows[0]["task"] == "gr"
    assert rows[0]["text"] == "female"
    assert rows[0]["mask"].startswith("gr@")
    assert 0 < rows[0]["heads_on"] <= pocket_geometry.total


def test_formats_rates_and_channels_give_the_same_answer(amask, clip, wave, tmp_path):
    import soxr

    soundfile.write(tmp_path / "a.wav", soxr.resample(wave, 16_000, 44_100), 44_100)
    soundfile.write(tmp_path / "b.flac", np.stack([wave] * 2, 1), 16_000)
    soundfile.write(tmp_path / "c.mp3", soxr.resample(wave, 16_000, 22_050), 22_050)
    soundfile.write(tmp_path / "d.wav", np.stack([wave] * 8, 1), 16_000, subtype="PCM_24")
    soundfile.write(tmp_path / "e.ogg", soxr.resample(wave, 16_000, 48_000), 48_000)
    done = amask("run", "--task", "gr", tmp_path, clip)
    assert [line.split("\t")[1] for line in done.stdout.splitlines()] == ["female"] * 6


def test_silence_around_the_words_changes_one_word_at_most(amask, clip, wave, tmp_path):
    noise = np.random.default_rng(1).normal(scale=0.0005, size=len(wave) + 64_000).astype(np.float32)
    noise[32_000:-32_000] += wave
    soundfile.write(tmp_path / "late.wav", noise, 16_000)
    heard = amask("run", "--task", "asr", clip).stdout.split()
    assert len(heard) > 1
    late = amask("run", "--task", "asr", tmp_path / "late.wav").stdout.split()
    same = sum(block.size for block in SequenceMatcher(a=heard, b=late).get_matching_blocks())
    assert max(len(heard), len(late)) - same <= 1


def test_a_prompt_runs_without_a_mask(amask, clip):
    done = amask("run", "--prompt", "is the speaker male or female", clip, "--json")
    row = json.loads(done.stdout)
    assert row["mask"] is None
    assert row["text"] == "female"


def test_batches_and_single_clips_agree(amask, clip, wave, tmp_path):
    for number, length in enumerate((9_000, 16_000, len(wave))):
        soundfile.write(tmp_path / f"{number}.wav", wave[:length], 16_000)
    together = amask("run", "--task", "asr", tmp_path).stdout.splitlines()
    alone = [amask("run", "--task", "asr", tmp_path / f"{n}.wav").stdout.strip("\n") for n in range(3)]
    assert [line.split("\t")[1] for line in together] == alone


@pytest.fixture
def rubbish(tmp_path, wave):
    """Makes a bad clip by name."""
    pcm = tmp_path / "good.wav"
    soundfile.write(pcm, wave, 16_000)

    def make(name):
        path = tmp_path / f"{name}.wav"
        match name:
            case "empty":
                path.write_bytes(b"")
            case "text":
                path.write_text("this is not audio")
            case "header":
                path.write_bytes(pcm.read_bytes()[:20])
            case "cut":
                path.write_bytes(pcm.read_bytes()[:9000])
            case "nan":
                soundfile.write(path, np.full(16_000, np.nan, np.float32), 16_000, subtype="FLOAT")
            case "none":
                soundfile.write(path, np.zeros(0, np.float32), 16_000)
            case "short":
                soundfile.write(path, wave[:800], 16_000)
            case "long":
                soundfile.write(path, np.tile(wave[:16_000], 600), 16_000)
            case "folder":
                path = tmp_path / "folder"
                path.mkdir()
        return path

    return make


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("empty", "empty"),
        ("text", "audio"),
        ("header", "header.wav"),
        ("cut", "cut.wav"),
        ("nan", "finite"),
        ("none", "none.wav"),
        ("short", "0.05 s long"),
        ("long", "the model hears at most 25.0 s"),
        ("folder", "no audio"),
        ("absent", "absent"),
    ],
)
def test_bad_audio(amask, rubbish, name, message):
    done = amask("run", "--task", "gr", rubbish(name))
    assert done.exit_code == 1
    assert done.stdout == ""
    assert message in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_bad_clip_among_good_ones(amask, rubbish, clip):
    done = amask("run", "--task", "gr", rubbish("nan"), clip)
    assert done.exit_code == 1
    assert done.stdout == f"{clip}\tfemale\n"
    assert "nan.wav" in done.stderr


def test_trim_uses_the_beginning(amask, wave, tmp_path):
    heard = 15 * 16_000
    beginning = np.pad(wave, (0, heard - len(wave)))
    end = np.resize(wave[::-1], heard)
    for name, samples in {"whole": np.concatenate([beginning, end]), "beginning": beginning, "end": end}.items():
        soundfile.write(tmp_path / f"{name}.wav", samples, 16_000)
    done = {
        name: amask("run", "--task", "asr", tmp_path / f"{name}.wav", "--long", "trim") for name in ("whole", "beginning", "end")
    }
    assert done["whole"].exit_code == 0
    assert done["whole"].stdout == done["beginning"].stdout != done["end"].stdout


def test_long_clips_are_answered_piece_by_piece(amask, wave, tmp_path):
    pause = np.zeros(16_000, np.float32)
    soundfile.write(tmp_path / "long.wav", np.concatenate([wave, pause] * 10), 16_000)
    row = json.loads(amask("run", "--task", "gr", tmp_path / "long.wav", "--long", "split", "--json").stdout)
    assert (row["text"], row["segments"] > 1) == ("female", True)
    assert row["duration"] == pytest.approx(10 * (len(wave) / 16_000 + 1), abs=0.01)
    done = amask("run", "--task", "gr", tmp_path / "long.wav", "--long", "some")
    assert (done.exit_code, done.stdout) == (2, "")


def test_three_tasks_in_parallel_say_what_each_mask_says(amask, clip):
    alone = {task: amask("run", "--task", task, clip).stdout.strip() for task in ("ser", "gr", "asr")}
    done = amask("run", "--task", "ser|gr|asr", clip)
    assert done.stdout.strip() == "|".join(alone.values())
    assert "in parallel by ser@1, gr@1, asr@1, since no mask does it in one pass" in done.stderr
    row = json.loads(amask("run", "--task", "ser-gr-asr-json", clip, "--json").stdout)
    assert (row["mode"], json.loads(row["text"])) == ("parallel", alone)
    assert json.loads(amask("run", "--task", "gr-asr", clip, "--json", "--mode", "one-pass").stdout)["mode"] == "one-pass"


def test_plans(amask, clip):
    words = amask("run", "--task", "asr", clip).stdout.strip()
    done = amask("run", "--task", "gr THEN asr IF female", clip, "--explain")
    assert done.stdout.strip() == words
    assert "step 2: asr by asr@1, where step 1 says female" in done.stderr
    row = json.loads(amask("run", "--task", "gr THEN asr IF male", clip, "--json").stdout)
    assert (row["mode"], row["text"], row["task"]) == ("plan", "", "gr THEN asr")
    assert row["steps"] == [[{"task": "gr", "text": "female"}, {"task": "asr", "text": None}]]


def test_answers_in_the_form_that_was_asked_for(amask, clip):
    done = amask("run", clip, "--task", "gr", "--format", "case=upper", "--format", "prefix=Sex:")
    assert done.stdout == "Sex: FEMALE\n"
    row = json.loads(amask("run", clip, "--task", "gr|asr", "--format", "keys=sex,said", "--json").stdout)
    assert list(json.loads(row["text"])) == ["sex", "said"]
    assert row["format"] == {"keys": ["sex", "said"]}
    assert set(row["parts"]) == {"gr", "asr"}


def test_pruned_and_gated_runs_agree(amask, clip):
    pruned, gated = (amask("run", clip, clip.with_name("man.opus"), "--task", "gr", "--prune", how) for how in ("auto", "off"))
    assert pruned.stdout == gated.stdout


def test_audio_through_a_pipe_is_advised(amask, tmp_path):
    import os

    os.mkfifo(tmp_path / "fifo")
    done = amask("run", tmp_path / "fifo", "--task", "gr")
    assert done.exit_code == 1
    assert "amask run -" in done.stderr


def test_rows_say_what_was_done(amask, clip):
    question = "what's the speaker's gender"
    row = json.loads(amask("run", "--instruction", question, clip, "--json").stdout)
    assert (row["task"], row["text"], row["instruction"], row["prompt"]) == ("gr", "female", question, None)
    assert 0.5 < row["confidence"] <= 1
    assert row["seconds"] > 0
    assert row["warnings"] == []
    prompted = json.loads(amask("run", "--prompt", question, clip, "--json").stdout)
    assert (prompted["mask"], prompted["prompt"]) == (None, question)


def test_silence_and_cut_answers_are_said(amask, clip, tmp_path):
    soundfile.write(tmp_path / "silence.wav", np.zeros(16_000, np.float32), 16_000)
    done = amask("run", "--task", "gr", tmp_path / "silence.wav", "--json")
    assert "silent" in done.stderr
    assert "silent" in json.loads(done.stdout)["warnings"][0]
    done = amask("run", "--task", "asr", clip, "--max-new-tokens", 1)
    assert "its answer was truncated" in done.stderr


def test_one_missing_name_keeps_no_other_clip_from_its_answer(amask, clip, tmp_path):
    (tmp_path / "broken").symlink_to(tmp_path / "nowhere.wav")
    done = amask("run", "--task", "gr", tmp_path / "absent.wav", clip, tmp_path / "broken")
    assert done.exit_code == 1
    assert done.stdout.strip().endswith("female")
    assert "absent.wav" in done.stderr
    assert "broken" in done.stderr


def test_answers_are_held_to_a_schema(amask, clip, tmp_path):
    schema = {"type": "object", "properties": {"gender": {"enum": ["female", "male"]}}, "required": ["gender"]}
    (tmp_path / "schema.json").write_text(json.dumps(schema | {"additionalProperties": False}))
    done = amask("run", "--prompt", "is it a man or a woman", clip, "--schema", tmp_path / "schema.json")
    assert json.loads(done.stdout)["gender"] in ("female", "male")
    (tmp_path / "schema.json").write_text("[")
    assert amask("run", "--prompt", "is it a man or a woman", clip, "--schema", tmp_path / "schema.json").exit_code == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--task", "lyrics"], "unknown task 'lyrics'"),
        (["--task", "ser-gr-asr", "--mode", "one-pass"], "no mask for the task 'ser-gr-asr' in the bank"),
        (["--task", "gr THEN asr IF femal"], "did you mean female"),
        (["--task", "gender"], "did you mean gr?"),
        (["--task", "gr", "--format", "colour=red"], "there is no 'colour'"),
        (["--task", "gr THEN lyrics"], "no mask 'lyrics' in the bank"),
        (["--task", "gr AND asr THEN ser"], "a step is one task and perhaps IF; got 'AND'"),
        (["--instruction", ""], "the instruction is empty"),
        (["--instruction", "  "], "the instruction is empty"),
        (["--instruction", "book a flight to london"], "no mask serves the instruction"),
        (["--prompt", ""], "the prompt is empty"),
        (["--mask", "../../etc/passwd"], "is not a mask's name"),
        (["--mask", "a/b"], "is not a mask's name"),
        (["--mask", "gr@99"], "no mask 'gr@99'"),
        ([], "pass exactly one of"),
        (["--task", "gr", "--mask", "gr"], "pass exactly one of"),
        (["--task", "gr", "--model", "no/such-model"], "cannot load model"),
        (["--task", "gr", "--device", "cuda:7"], "not available"),
    ],
)
def test_bad_requests(amask, clip, options, message):
    done = amask("run", clip, *options)
    assert done.exit_code == 1
    assert done.stdout == ""
    assert message in done.stderr
    assert done.stderr.strip().count("\n") == 0


def test_a_mask_of_another_model_is_refused(amask, clip, pocket_geometry, tmp_path):
    import torch

    from amask.lalm.gating import Geometry
    from amask.lalm.identity import Identity
    from amask.mask_bank.files import save_mask
    from amask.mask_bank.mask import HeadMask

    mask = HeadMask(bits=torch.ones(40, 40, dtype=torch.bool), identity=Identity(Geometry((40,) * 40), "f" * 16, "salmonn"))
    save_mask(mask, "foreign", 1, tmp_path / "foreign.safetensors")
    done = amask("run", clip, "--mask", tmp_path / "foreign.safetensors")
    assert done.exit_code == 1
    assert "is for salmonn (40×40 heads" in done.stderr
    assert f"this model is pocket ({pocket_geometry} heads" in done.stderr


def test_a_half_written_mask_is_refused(amask, clip, tmp_path):
    amask("bank", "export", "gr", tmp_path / "gr.safetensors")
    whole = (tmp_path / "gr.safetensors").read_bytes()
    (tmp_path / "half.safetensors").write_bytes(whole[: len(whole) // 2])
    done = amask("run", clip, "--mask", tmp_path / "half.safetensors")
    assert done.exit_code == 1
    assert "half.safetensors" in done.stderr
