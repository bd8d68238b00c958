"""The report: every table and figure of the paper that a bank allows, made within a budget, and gone on with."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

from ..errors import DataError
from . import ablations, isa, tables
from .answer_store import Budget, Job, run_jobs
from .bench import Bench
from .section import Section, write_page

Progress = Callable[[str, int], AbstractContextManager[Callable[..., None]]]


@dataclass(frozen=True)
class Ablation:
    """One table of the report.

    Attributes:
        name: what `amask ablate` calls it.
        jobs: the runs that it needs.
        section: the table, of the runs that have been made.
    """

    name: str
    jobs: Callable[[Bench], list[Job]]
    section: Callable[[Bench], Section]


ABLATIONS = {
    each.name: each
    for each in (
        Ablation("main", tables.main_jobs, tables.main_section),
        Ablation("composites", tables.composite_jobs, tables.composite_section),
        Ablation("sensitivity", tables.sensitivity_jobs, tables.sensitivity_section),
        Ablation("random", ablations.random_jobs, ablations.random_section),
        Ablation("order", ablations.order_jobs, ablations.order_section),
        Ablation("jaccard", ablations.no_jobs, ablations.jaccard_section),
        Ablation("heads", ablations.no_jobs, ablations.heads_section),
        Ablation("seeds", ablations.seed_jobs, ablations.seed_section),
        Ablation("lambda", ablations.lambda_jobs, ablations.lambda_section),
        Ablation("out-of-domain", tables.outside_jobs, tables.outside_section),
        Ablation("isa", ablations.no_jobs, isa.isa_section),
        Ablation("transfer", ablations.transfer_jobs, ablations.transfer_section),
    )
}

FIRST = ("main", "composites")


@dataclass(frozen=True)
class Report:
    """What was made.

    Attributes:
        sections: the tables.
        left: runs that the budget left out.
    """

    sections: tuple[Section, ...]
    left: int


def find_ablations(names: Sequence[str]) -> list[Ablation]:
    """Ablations by name; all without one.

    Raises:
        DataError: a name is unknown.
    """
    unknown = [name for name in names if name not in ABLATIONS]
    if unknown:
        raise DataError(f"there is no table {unknown[0]!r}; expected one of {', '.join(ABLATIONS)}")
    return [ABLATIONS[name] for name in names or ABLATIONS]


def list_jobs(bench: Bench, chosen: Sequence[Ablation]) -> list[Job]:
    """All runs, each once: those of the first tables first, then some of each other, so that a budget leaves none empty."""
    first = [job for each in chosen if each.name in FIRST for job in each.jobs(bench)]
    others = zip_longest(*(each.jobs(bench) for each in chosen if each.name not in FIRST))
    found: dict[Path, Job] = {}
    for job in (*first, *(job for some in others for job in some if job is not None)):
        found.setdefault(job.store.path(job.clips, job.trial), job)
    return list(found.values())


def make_report(
    bench: Bench, chosen: Sequence[Ablation], budget: Budget, progress: Progress, folder: Path | None = None, about: str = ""
) -> Report:
    """Make the runs that are missing, then every table of what is there.

    Args:
        bench: what is measured, and with what.
        chosen: which tables.
        budget: how long may be worked.
        progress: takes what is done, of how many runs.
        folder: where JSON, CSV, PNG and `index.html` go; nowhere by default.
        about: what stands below the page's title.

    Raises:
        AudioError: a clip cannot be read.
        FileError: a file cannot be written.
    """
    jobs = list_jobs(bench, chosen)
    with progress("measuring", len(jobs)) as on_progress:
        left = run_jobs(jobs, budget, on_progress)
    sections = tuple(each.section(bench) for each in chosen)
    if folder is not None:
        pictures = [section.write(folder) for section in sections]
        write_page(sections, pictures, folder / "index.html", f"amask report: {bench.model.name}", about)
    return Report(sections, left)
