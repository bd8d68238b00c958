"""The pocket model on held-aside people of speechocean762: `python benchmarks/real_people.py CORPUS`.

CORPUS is the folder `FOLDER/corpus` that `python -m amask.lalm.pocket.making FOLDER --speechocean …` made.
"""

import argparse
import subprocess
import sys
from pathlib import Path

from amask.data.manifest import read_manifest, write_manifest

GROUPS = {"adult": ("gr", "adult"), "child": ("gr", "child"), "everyone": ("age", ""), "digits": ("asr", "")}


def main(corpus: Path) -> None:
    """Measure each group; a table each on stdout."""
    held_aside = [clip for clip in read_manifest(corpus) if clip.kind == "real" and clip.split == "test"]
    for group, (task, age) in GROUPS.items():
        chosen = [clip for clip in held_aside if task in clip.labels and (not age or clip.labels.get("age") == age)]
        speakers = len({clip.speaker for clip in chosen})
        manifest = corpus / f"people-{group}.jsonl"
        write_manifest(chosen, manifest)
        sys.stdout.write(f"\n{task}, {group}: {len(chosen)} clips of {speakers} speakers\n")
        sys.stdout.flush()
        command = [sys.executable, "-P", "-m", "amask", "eval", task, "--data", str(manifest), "--kind", "real"]
        kept = corpus / f"people-{group}-predictions.jsonl"
        subprocess.run([*command, "--prompts", "3", "--seeds", "1", "--predictions", str(kept)], check=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", metavar="CORPUS", type=Path)
    main(parser.parse_args().corpus)
