"""The table of docs/models.md, from what the tests of the families really ran: `python benchmarks/family_table.py`.

Runs tests/families with pytest and puts a table between the marks in docs/models.md. A cell says yes where every test
behind it passed, NO where one failed, and a dash where none was run. `--families glmasr,voxtral` runs these alone and leaves the
other lines as they are; `--junit FILE` takes what a run of pytest wrote with `--junitxml FILE` instead.
"""

import argparse
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET
from pathlib import Path

ROOT = Path(__file__).parents[1]
MARKS = ("<!-- families: begin -->\n", "<!-- families: end -->")
COLUMNS = {
    "loads": ("test_loads", "test_loads_from_a_folder"),
    "matches its own pass": (
        "test_matches_the_models_own_pass",
        "test_a_clips_features_do_not_depend_on_its_batch",
        "test_nothing_is_cut",
        "test_generates_what_the_model_itself_does",
    ),
    "gates": (
        "test_ones_change_nothing",
        "test_a_head_off_is_its_columns_zeroed",
        "test_rows_have_gates_of_their_own",
        "test_an_error_leaves_nothing_behind",
        "test_threads_get_the_answers_of_one",
        "test_gates",
    ),
    "trains": ("test_gradient_agrees_with_finite_differences", "test_trains"),
    "generates with cache": ("test_cached_decoding_is_as_without_a_cache", "test_generates_what_the_model_itself_does"),
    "beams": ("test_beams_keep_each_rows_gates",),
    "answers from labels": ("test_all_answers_in_one_pass_are_as_one_pass_for_each",),
    "prunes": ("test_pruned_is_gated", "test_pruned_answers_as_gated", "test_what_a_pruned_model_shares"),
}
FAMILIES = {
    "qwen2_audio": ("Qwen2-Audio", ""),
    "qwen2_audio_nemotron": ("Qwen2-Audio around Nemotron", "the classes of the pocket model"),
    "qwen2_5_omni": ("Qwen2.5-Omni", "its thinker; needs torchvision"),
    "qwen3_omni": ("Qwen3-Omni", "its thinker; needs torchvision"),
    "voxtral": ("Voxtral", "silence that fills up its windows of 30 s is heard"),
    "audioflamingo3": ("Audio Flamingo 3", ""),
    "musicflamingo": ("Music Flamingo", ""),
    "granite_speech": ("Granite Speech", "needs torchaudio, and peft for its LoRA adapter"),
    "phi4_multimodal": ("Phi-4 Multimodal", "its LoRA adapter for speech is not loaded; needs torchvision"),
    "gemma3n": ("Gemma 3n", "needs torchvision and timm"),
    "gemma4": ("Gemma 4", "needs torchvision"),
    "glmasr": ("GLM-ASR", ""),
    "qwen3_asr": ("Qwen3-ASR", "takes no prompt behind the audio, so no prompt to compare with"),
    "vibevoice_asr": ("VibeVoice-ASR", "24 kHz; without the noise that it adds to what it hears"),
    "moss_transcribe_diarize": ("MOSS-Transcribe-Diarize", ""),
    "nemotron_h_omni": ("Nemotron-H Omni", "hybrid: layers without attention have no heads; needs torchvision"),
    "kyutai": (
        "Kyutai STT",
        "text runs beside the audio: no prompt, no beams, and no training, for which targets would need times",
    ),
}


def run_tests(families: list[str], report: Path) -> None:
    """Run the tests of some families, or of all."""
    command = [sys.executable, "-P", "-m", "pytest", "-q", str(ROOT / "tests" / "families"), f"--junitxml={report}"]
    subprocess.run([*command, "-k", " or ".join(families)] if families else command, cwd=ROOT, check=False, stdout=sys.stderr)


def outcomes(report: Path) -> dict[tuple[str, str], bool]:
    """(family, test) → whether it passed."""
    found: dict[tuple[str, str], bool] = {}
    for case in ET.parse(report).getroot().iter("testcase"):
        test, _, parameters = case.attrib["name"].removesuffix("]").partition("[")
        family = "kyutai" if "test_kyutai" in case.attrib["classname"] else family_of(parameters)
        if family and case.find("skipped") is None:
            passed = case.find("failure") is None and case.find("error") is None
            found[family, test] = found.get((family, test), True) and passed
    return found


def family_of(parameters: str) -> str | None:
    """The family that a test's parameters name, such as `gemma4` of `gemma4_large-first`."""
    named = [name for name in FAMILIES if any(part == name or part.startswith(f"{name}_") for part in parameters.split("-"))]
    return max(named, key=len, default=None)


def cell(family: str, tests: tuple[str, ...], found: dict[tuple[str, str], bool]) -> str:
    """What some tests said of a family."""
    ran = [found[family, test] for test in tests if (family, test) in found]
    return "–" if not ran else "yes" if all(ran) else "NO"


def main() -> None:
    """Write the table into docs/models.md."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--families", type=lambda text: text.split(","), default=[], metavar="NAME,…", help=", ".join(FAMILIES))
    parser.add_argument("--junit", type=Path, metavar="FILE")
    args = parser.parse_args()
    if unknown := set(args.families) - set(FAMILIES):
        parser.error(f"there is no family {', '.join(sorted(unknown))}")
    with tempfile.TemporaryDirectory() as folder:
        report = args.junit or Path(folder) / "report.xml"
        if not args.junit:
            run_tests(args.families, report)
        found = outcomes(report)
    page = ROOT / "docs" / "models.md"
    before, _, rest = page.read_text(encoding="utf-8").partition(MARKS[0])
    table, _, after = rest.partition(MARKS[1])
    kept = {line.split(" | ")[0].removeprefix("| "): line for line in table.splitlines()}
    lines = [f"| model | {' | '.join(COLUMNS)} | note |", "|---" * (len(COLUMNS) + 2) + "|"]
    for family, (name, note) in FAMILIES.items():
        line = f"| {name} | {' | '.join(cell(family, tests, found) for tests in COLUMNS.values())} | {note} |"
        lines.append(kept[name] if args.families and family not in args.families and name in kept else line)
    page.write_text(before + MARKS[0] + "\n".join(lines) + "\n" + MARKS[1] + after, encoding="utf-8")


if __name__ == "__main__":
    main()
