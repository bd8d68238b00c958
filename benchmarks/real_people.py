"""The pocket model on held-aside people of speechocean762: `python benchmarks/real_people.py CORPUS`.

CORPUS is the folder `FOLDER/corpus` that `python -m amask.pocket.making FOLDER --speechocean …` made.
"""

import argparse
import subprocess
import sys
from pathlib import Path

from amask.data.manifest import write_manifest
from amask.data.reading import read_manifest

# Adults whose gender label contradicts their pitch: the median F0 of 2430, "female", is 118 Hz, that of 2236, "male", 165 Hz.
DOUBTFUL = ("2430", "2236")
# Of each group: task, age, kind of clips, and speakers left out.
GROUPS = {
    "adult": ("gr", "adult", "real", ()),
    "adult-undoubted": ("gr", "adult", "real", DOUBTFUL),
    "child": ("gr", "child", "real", ()),
    "everyone": ("age", "", "real", ()),
    "digit-strings": ("asr", "", "real", ()),
    "single-digits": ("asr", "", "digits", ()),
}


def main(corpus: Path) -> None:
    """Measure each group; a table each on stdout."""
    held_aside = read_manifest(corpus).select("test")
    for group, (task, age, kind, left_out) in GROUPS.items():
        fitting = (clip for clip in held_aside if clip.kind == kind and task in clip.labels and clip.speaker not in left_out)
        chosen = [clip for clip in fitting if not age or clip.labels.get("age") == age]
        speakers = len({clip.speaker for clip in chosen})
        manifest = corpus / f"people-{group}.jsonl"
        write_manifest(chosen, manifest)
        sys.stdout.write(f"\n{task}, {group}: {len(chosen)} clips of {speakers} speakers\n")
        sys.stdout.flush()
        command = [sys.executable, "-P", "-m", "amask", "eval", task, "--data", str(manifest), "--kind", kind]
        kept = corpus / f"people-{group}-predictions.jsonl"
        subprocess.run([*command, "--prompts", "3", "--seeds", "1", "--predictions", str(kept)], check=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", metavar="CORPUS", type=Path)
    main(parser.parse_args().corpus)
