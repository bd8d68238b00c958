"""Names on a command line: which files they stand for, what is skipped, and what stands for nothing."""

import os
import re
from pathlib import Path

import pytest


@pytest.fixture
def expand():
    from amask.cli.inputs import expand_inputs

    return expand_inputs


@pytest.fixture
def refused():
    from amask.errors import AudioError

    return lambda fragment: pytest.raises(AudioError, match=fragment)


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """A folder of (empty) files, from inside."""
    for name in ("b.wav", "a.MP3", "notes.txt", "old.xi", ".hidden.wav", "x/c.flac", "x/y/d.opus", "x/y/[1].wav", ".git/e.wav"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "bare").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("names", "paths"),
    [
        (["b.wav", "a.MP3"], ["b.wav", "a.MP3"]),
        (["notes.txt"], ["notes.txt"]),  # named in full: reading it will say what is wrong
        (["."], ["a.MP3", "b.wav", "x/c.flac", "x/y/[1].wav", "x/y/d.opus"]),
        (["x/", "b.wav"], ["x/c.flac", "x/y/[1].wav", "x/y/d.opus", "b.wav"]),
        (["*.wav"], ["b.wav"]),
        (["*.xi"], ["old.xi"]),  # the pattern names the ending itself
        (["?.*"], ["a.MP3", "b.wav"]),
        (["*"], ["a.MP3", "b.wav", "x/c.flac", "x/y/[1].wav", "x/y/d.opus"]),
        (["**/*.wav"], ["b.wav", "x/y/[1].wav"]),
        (["x/**"], ["x/c.flac", "x/y/[1].wav", "x/y/d.opus"]),
        (["x/y/[1].wav"], ["x/y/[1].wav"]),  # a file's name before a pattern
        (["b.wav", "./b.wav", "x/../b.wav", "*.wav"], ["b.wav"]),
        (["x/c.flac", "."], ["x/c.flac", "a.MP3", "b.wav", "x/y/[1].wav", "x/y/d.opus"]),
        ([], []),
    ],
)
def test_names_stand_for_files(expand, tree, names, paths):
    assert [path.as_posix() for path in expand(names).files] == paths
    assert expand(names).skipped == expand(names).missing == ()


def test_absolute_names_stand_for_files(expand, tree):
    files = expand([str(tree / "x"), "x/c.flac"]).files
    assert files == tuple(tree / "x" / name for name in ("c.flac", "y/[1].wav", "y/d.opus"))


NOTHING = [
    ("nothing.wav", "nothing.wav does not exist; expected an audio file, a folder or a pattern"),
    ("", "'' does not exist"),
    ("a\0.wav", r"'a\\x00.wav' does not exist"),
    ("broken.wav", "broken.wav is a link to nothing; expected an audio file"),
    ("*.xyz", r"no audio file matches \*\.xyz; looked for \.wav, \.flac, \.mp3, \.ogg"),
    ("bare/**", "no audio file matches"),
    ("bare", "folder bare holds no audio file; looked for .wav, .flac, .mp3, .ogg, .* also below it"),
]


@pytest.fixture
def broken(tree):
    (tree / "broken.wav").symlink_to("gone.wav")


@pytest.mark.parametrize(("name", "fragment"), NOTHING)
def test_a_name_that_stands_for_nothing_is_refused(expand, refused, broken, name, fragment):
    with refused(fragment):
        expand([name])


def test_names_that_stand_for_nothing_do_not_hinder_the_others(expand, broken):
    inputs = expand([*(name for name, _ in NOTHING), "b.wav"])
    assert [path.name for path in inputs.files] == ["b.wav"]
    assert len(inputs.missing) == len(NOTHING)
    for line, (_, fragment) in zip(inputs.missing, NOTHING, strict=True):
        assert re.match(fragment, line)
        assert line.isprintable()


def test_several_names_that_stand_for_nothing_are_counted(expand, refused, tree):
    with refused(r"no1.wav does not exist; .* \(and 2 more\)"):
        expand(["no1.wav", "no2.wav", "bare"])


def test_audio_of_other_kinds_in_a_folder_is_skipped_and_named(expand, refused, tree):
    for name in ("p.m4a", "q.WMA", "x/r.mp4", "only/s.m4a", ".t.m4a"):
        (tree / name).parent.mkdir(exist_ok=True)
        (tree / name).touch()
    for names, skipped in (
        (["."], ["only/s.m4a", "p.m4a", "q.WMA", "x/r.mp4"]),
        (["x", "."], ["x/r.mp4", "only/s.m4a", "p.m4a", "q.WMA"]),
        (["*"], ["only/s.m4a", "p.m4a", "q.WMA", "x/r.mp4"]),
        (["b.wav", "only"], ["only/s.m4a"]),
    ):
        assert [path.as_posix() for path in expand(names).skipped] == skipped
    assert [path.name for path in expand(["p.m4a"]).files] == ["p.m4a"]  # named in full: reading it will say what is wrong
    assert [path.name for path in expand(["*.m4a"]).files] == ["p.m4a"]
    with refused(r"folder only holds no audio file; .*; found 1 of other kinds, such as only/s\.m4a: convert them"):
        expand(["only"])


def test_a_folder_that_cannot_be_listed_is_named_and_the_rest_is_found(expand, tree, monkeypatch):
    real = os.scandir

    def forbid(place):  # a mode would not hinder root
        if str(place).endswith("y"):
            raise PermissionError(13, "Permission denied", place)
        return real(place)

    monkeypatch.setattr(os, "scandir", forbid)
    inputs = expand(["x"])
    assert [path.as_posix() for path in inputs.files] == ["x/c.flac"]
    assert inputs.missing == ("cannot list folder x/y: Permission denied; check its permissions",)


def test_a_dash_is_standard_input_and_a_file_of_that_name_can_be_given(expand, tree):
    from amask.cli.inputs import STANDARD_INPUT

    (tree / "-").touch()
    assert expand(["-", "b.wav", "-"]).files == (STANDARD_INPUT, Path("b.wav"))
    assert expand(["./-"]).files == (tree / "-",)


def test_every_kind_that_folders_give_is_one_that_can_be_read(tmp_path):
    """Each ending, with content of its kind, as far as the decoder can also write it."""
    import soundfile

    from amask.data.audio import read_audio
    from amask.data.decoding import AUDIO_SUFFIXES, OTHER_SUFFIXES

    kinds = {".aif": "AIFF", ".aifc": "AIFF", ".oga": "OGG", ".opus": "OGG", ".snd": "AU", ".sph": "NIST", ".wave": "WAV"}
    for suffix in set(AUDIO_SUFFIXES) - {".mp2"}:
        kind = kinds.get(suffix, suffix[1:].upper())
        soundfile.write(tmp_path / f"a{suffix}", [0.1] * 16000, 16000, format=kind, subtype="OPUS" if suffix == ".opus" else None)
        assert read_audio(tmp_path / f"a{suffix}").shape == (16000,)
    assert not set(AUDIO_SUFFIXES) & set(OTHER_SUFFIXES)
