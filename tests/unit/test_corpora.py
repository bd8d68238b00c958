"""Corpora by name, each on a tiny set in its usual layout; nothing is downloaded."""

import re
from pathlib import Path

import numpy as np
import pytest
import soundfile


@pytest.fixture
def lay(tmp_path, monkeypatch):
    """Puts files into a folder that AMASK_CORPORA names: text as it is, audio for what ends in .wav, .flac or .mp3."""
    monkeypatch.setenv("AMASK_CORPORA", str(tmp_path))

    def put(files: dict[str, str] | list[str]) -> Path:
        for name, text in (files if isinstance(files, dict) else dict.fromkeys(files, "")).items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.suffix in (".wav", ".flac", ".mp3"):
                soundfile.write(path, np.zeros(1_600), 16_000, format="FLAC" if path.suffix == ".flac" else "WAV")
            else:
                path.write_text(text, encoding="utf-8")
        return tmp_path

    return put


def told(source: str) -> list[tuple[str, str, dict[str, str], str]]:
    from amask.data.reading import read_manifest

    manifest = read_manifest(Path(source))
    assert all(manifest.path(clip).is_file() for clip in manifest)
    return [(clip.path, clip.split, clip.labels, clip.speaker) for clip in manifest]


LIBRISPEECH = {
    "LibriSpeech/SPEAKERS.TXT": ";ID  |SEX| SUBSET\n14   | F | train-clean-100 | 25.0 | A\n61 | M | test-clean | 8.0 | B\n",
    "LibriSpeech/train-clean-100/14/208/14-208.trans.txt": "14-208-0000 HE'S THERE\n14-208-0001 NOT THERE\n",
    "LibriSpeech/train-clean-100/14/208/14-208-0000.flac": "",
    "LibriSpeech/test-clean/61/70968/61-70968.trans.txt": "61-70968-0000 ONE TWO\n",
    "LibriSpeech/test-clean/61/70968/61-70968-0000.flac": "",
}


def test_librispeech(lay):
    lay(LIBRISPEECH)
    train = ("train-clean-100/14/208/14-208-0000.flac", "train", {"asr": "he's there", "gr": "female"}, "librispeech-14")
    test = ("test-clean/61/70968/61-70968-0000.flac", "test", {"asr": "one two", "gr": "male"}, "librispeech-61")
    assert told("librispeech:train-clean-100") == [train]  # a transcript without its file is no clip
    assert told("librispeech") == [train, test]
    assert told("LibriSpeech:test-clean,train-clean-100") == [test, train]


def test_common_voice_and_covost(lay):
    head = "client_id\tpath\tsentence\tup_votes\tage\tgender\n"
    lay(
        {
            "cv-corpus/en/test.tsv": head + 'a1\tx.mp3\tHe said "no.\t2\ttwenties\tfemale_feminine\nb2\ty.mp3\tYes.\t2\t\t\n',
            "cv-corpus/en/clips/x.mp3": "",
            "cv-corpus/en/clips/y.mp3": "",
            "covost2/covost_v2.en_de.test.tsv": "path\tsentence\ttranslation\tclient_id\nx.mp3\tYes.\tJa.\ta1\n",
            "covost2/clips/x.mp3": "",
        }
    )
    assert told("common_voice:test") == [
        ("clips/x.mp3", "test", {"asr": 'He said "no.', "gr": "female"}, "common_voice-a1"),
        ("clips/y.mp3", "test", {"asr": "Yes."}, "common_voice-b2"),
    ]
    assert told("covost2:en_de.test") == [("clips/x.mp3", "test", {"asr": "Yes.", "s2tt": "Ja."}, "common_voice-a1")]


def test_fleurs_has_no_head(lay):
    row = "1\t12.wav\tHello There.\thello there\th e\t16000\tFEMALE\n"
    lay({"fleurs/en_us/dev.tsv": row, "fleurs/en_us/audio/dev/12.wav": ""})
    assert told("fleurs:dev") == [("audio/dev/12.wav", "dev", {"asr": "hello there", "gr": "female"}, "")]


def test_iemocap(lay):
    turn = "Ses05F_impro01_M003"
    lines = "% [START - END] TURN EMOTION\n\n[6.29 - 8.23]\t{}\t{}\t[2.5, 2.5, 2.5]\nC-E2:\tNeutral;\n"
    lay(
        {
            "iemocap/Session5/dialog/EmoEvaluation/Ses05F_impro01.txt": lines.format(turn, "exc"),
            "iemocap/Session1/dialog/EmoEvaluation/Ses01F_impro01.txt": lines.format("Ses01F_impro01_F000", "xxx"),
            "iemocap/Session5/dialog/transcriptions/Ses05F_impro01.txt": f"{turn} [006.2901-008.2357]: Excuse me.\n",
            f"iemocap/Session5/sentences/wav/Ses05F_impro01/{turn}.wav": "",
            "iemocap/Session1/sentences/wav/Ses01F_impro01/Ses01F_impro01_F000.wav": "",
        }
    )
    assert told("iemocap") == [
        ("Session1/sentences/wav/Ses01F_impro01/Ses01F_impro01_F000.wav", "train", {"gr": "female"}, "iemocap-Ses01female"),
        (
            f"Session5/sentences/wav/Ses05F_impro01/{turn}.wav",
            "test",
            {"ser": "happy", "gr": "male", "asr": "Excuse me."},
            "iemocap-Ses05male",
        ),
    ]


def test_voxceleb_pairs_are_clips_of_two_files(lay):
    from amask.data.reading import read_manifest

    lay(
        {
            "voxceleb1/veri_test.txt": "1 id10270/a/1.wav id10270/b/2.wav\n0 id10270/a/1.wav id10300/c/1.wav\n",
            "voxceleb1/wav/id10270/a/1.wav": "",
            "voxceleb1/wav/id10270/b/2.wav": "",
            "voxceleb1/wav/id10300/c/1.wav": "",
        }
    )
    assert [(path, labels) for path, _, labels, _ in told("voxceleb1")] == [
        ("wav/id10270/a/1.wav", {"asv": "yes"}),
        ("wav/id10270/a/1.wav", {"asv": "no"}),
    ]
    manifest = read_manifest(Path("voxceleb1"))
    assert [clip.more for clip in manifest] == [("wav/id10270/b/2.wav",), ("wav/id10300/c/1.wav",)]
    assert [len(manifest.wave(clip)) for clip in manifest] == [1_600 + 1_600 + 1_600] * 2


def test_audiocaps_and_meld(lay):
    lay(
        {
            "audiocaps/test.csv": (
                'audiocap_id,youtube_id,start_time,caption\n97151,vfY_TJq7n_U,130,"Rustling, then A man talks"\n'
            ),
            "audiocaps/test/vfY_TJq7n_U_130.wav": "",
            "meld/dev_sent_emo.csv": (
                "Sr No.,Utterance,Speaker,Emotion,Sentiment,Dialogue_ID,Utterance_ID\n1,Oh my God!,Phoebe,surprise,negative,0,0\n"
                "2,You liked it?,Mark,joy,positive,0,1\n"
            ),
            "meld/dev/dia0_utt0.wav": "",
            "meld/dev/dia0_utt1.wav": "",
        }
    )
    assert told("audiocaps:test") == [("test/vfY_TJq7n_U_130.wav", "test", {"aac": "rustling, then a man talks"}, "")]
    assert [(labels, speaker) for _, _, labels, speaker in told("meld:dev")] == [
        ({"asr": "Oh my God!"}, "meld-Phoebe"),
        ({"ser": "happy", "asr": "You liked it?"}, "meld-Mark"),
    ]


def test_libri2mix_takes_its_words_from_librispeech(lay):
    name = "14-208-0000_61-70968-0000"
    files = {
        "Libri2Mix/wav16k/max/metadata/mixture_test_mix_clean.csv": f"mixture_ID,mixture_path,length\n{name},/x/y.wav,100\n",
        f"Libri2Mix/wav16k/max/test/mix_clean/{name}.wav": "",
    }
    lay(LIBRISPEECH | files)
    ((path, split, labels, _),) = told("libri2mix:test")
    assert (path, split) == (f"wav16k/max/test/mix_clean/{name}.wav", "test")
    assert labels == {"osr": "he's there; one two"}


def test_names_that_hold_the_labels(lay):
    sounds = [f"vocalsound/audio_16k/{who}_0_laughter.wav" for who in ("f0001", "m0002", "m0003")]
    digits = [f"fsdd/recordings/7_george_{number}.wav" for number in (0, 4, 5, 6, 10, 49)]
    lay([*sounds, *digits])
    _, _, labels, speaker = told("vocalsound")[0]
    assert (labels, speaker) == ({"vocalsound": "laughter", "gr": "female"}, "vocalsound-f0001")
    assert len({split for _, split, _, _ in told("vocalsound")}) == 3  # its own splits are by file lists: ours are by speaker
    assert {path.rpartition("_")[2]: split for path, split, _, _ in told("fsdd")} == {
        **{"0.wav": "test", "4.wav": "test", "5.wav": "dev"},
        **{"6.wav": "train", "10.wav": "train", "49.wav": "train"},
    }
    assert told("fsdd:dev") == [("recordings/7_george_5.wav", "dev", {"asr": "seven", "digit": "seven"}, "fsdd-george")]


def test_esc50_is_divided_by_its_folds(lay):
    head = "filename,fold,target,category,esc10,src_file,take\n"
    rows = "".join(f"1-{fold}.wav,{fold},0,dog,True,1,A\n" for fold in range(1, 6))
    lay({"ESC-50/meta/esc50.csv": head + rows} | {f"ESC-50/audio/1-{fold}.wav": "" for fold in range(1, 6)})
    assert [(split, labels) for _, split, labels, _ in told("esc50")] == [
        *[("train", {"sound": "dog"})] * 3,
        ("dev", {"sound": "dog"}),
        ("test", {"sound": "dog"}),
    ]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (
            "librispeech:test-clean",
            "LibriSpeech is not in .*; get it from https://www.openslr.org/12 .*put it at LibriSpeech in the folder",
        ),
        ("librispeech:test-clean@nowhere", "LibriSpeech is not in nowhere; get it from"),
        ("librispeech:clean", "LibriSpeech has no part 'clean'; expected one of train-clean-100"),
        ("gigaspeech:test", "GigaSpeech has no layout of its own on disk; say gigaspeech:xs@hub"),
        ("iemocap:Session5@hub", "IEMOCAP \\(Session5\\) is not on the Hub; get it from https://sail.usc.edu"),
    ],
)
def test_what_is_missing_is_named_with_where_to_get_it(lay, source, message):
    from amask.data.reading import read_manifest
    from amask.errors import DataError

    lay([])
    with pytest.raises(DataError, match=message):
        read_manifest(Path(source))


def test_a_part_that_is_missing_is_named(lay):
    from amask.data.reading import read_manifest
    from amask.errors import DataError

    lay(LIBRISPEECH)
    with pytest.raises(DataError, match="LibriSpeech: nothing of dev-other is in .*; get it from"):
        read_manifest(Path("librispeech:dev-other"))


def test_a_place_may_be_said(lay, monkeypatch):
    root = lay(LIBRISPEECH)
    monkeypatch.delenv("AMASK_CORPORA")
    assert len(told(f"librispeech:test-clean@{root}")) == len(told(f"librispeech:test-clean@{root / 'LibriSpeech'}")) == 1


def test_a_folder_of_that_name_is_a_folder(lay, monkeypatch):
    from amask.data.corpora import is_corpus

    root = lay({"meld/cat/1.wav": ""})
    assert is_corpus("meld")
    monkeypatch.chdir(root)
    assert not is_corpus("meld")


def test_every_recipe_is_whole():
    """Fields of templates come from somewhere, and each part of the Hub has a configuration and a split."""
    from amask.data.corpora import _names, recipes

    for name, recipe in recipes().items():
        assert recipe.home.startswith("https://"), name
        assert recipe.hub or recipe.folders, name
        assert all(len(part.hub) in (0, 2) for part in recipe.parts.values()), name
        assert {part.split for part in recipe.parts.values()} & {"test"}, name
        made = {*recipe.lookups, *(recipe.split_field.into if recipe.split_field else ())}
        if recipe.read in ("lines", "names"):
            made |= set(re.compile(recipe.pattern.replace("{part}", "x")).groupindex) | {"folder", "part"}
            templates = [recipe.audio, recipe.speaker, *recipe.more, *recipe.labels.values()]
            assert {field for template in templates for field in _names(template)} <= made, name
