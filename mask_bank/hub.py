"""Masks on the Hugging Face Hub: one repository for a mask, or for several in folders of their names.

A mask lies there as `mask.safetensors`, which is what is pulled and checked like an import, and beside it as an adapter of
PEFT for those who have no amask. HF_ENDPOINT chooses another hub, HF_TOKEN or `hf auth login` says who pushes.
"""

import re
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from huggingface_hub import HfApi, hf_hub_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, HTTPError, OfflineModeIsEnabled

from ..data.atomic_write import write_atomic
from ..errors import BankError, MaskError
from ..lalm.base import LALM
from ..lalm.identity import Identified, Identity
from .adapters import MASK, export_peft
from .cards import hub_card
from .files import MAX_BYTES, StoredMask, load_mask, save_mask
from .mask import HeadMask
from .versions import is_name

REPO = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


@dataclass(frozen=True)
class PulledMask:
    """A mask of the Hub, checked.

    Attributes:
        stored: the mask, with the repository and its revision in the lineage.
        name: what it is called there.
    """

    stored: StoredMask
    name: str


@contextmanager
def _hub_errors(doing: str) -> Iterator[None]:
    """What the Hub's client raises, as a sentence."""
    try:
        yield
    except OfflineModeIsEnabled:
        raise BankError(f"cannot {doing}: HF_HUB_OFFLINE is set; unset it") from None
    except HfHubHTTPError as error:
        status = error.response.status_code if error.response is not None else 0
        advice = {
            401: "log in by 'hf auth login', or set HF_TOKEN",
            403: "your token may not do this",
            404: "there is no such place",
        }
        raise BankError(f"cannot {doing}: the hub answers {status}; {advice.get(status, 'try again later')}") from None
    except (HTTPError, HFValidationError, OSError, ValueError) as error:  # connections, and transfers that end early
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise BankError(f"cannot {doing}: {reason}; check the name and the connection, and try again") from None


def check_repo(repo: str) -> str:
    """A repository's name, if it is one.

    Raises:
        BankError: it is not.
    """
    if not REPO.fullmatch(repo):
        raise BankError(f"{repo!r} is no repository of the Hub; expected OWNER/NAME, such as me/masks")
    return repo


def write_repository(masks: Sequence[StoredMask], folder: Path, model: LALM | None = None) -> None:
    """Write what is pushed: one mask at the top, or each in a folder of its name; a card; with the model PEFT's files, too.

    Raises:
        BankError: two masks have one name.
        MaskError: a mask is of another model.
        FileError: the folder cannot be written.
    """
    names = [mask.name for mask in masks]
    if len(set(names)) < len(names):
        raise BankError(f"a repository has one mask of a name; got {', '.join(mask.spec for mask in masks)}")
    for mask in masks:
        place = folder if len(masks) == 1 else folder / mask.name
        place.mkdir(parents=True, exist_ok=True)
        if model is None:
            save_mask(mask, mask.name, mask.version, place / MASK)
        else:
            export_peft(model, mask, place, mask.name)
    write_atomic(hub_card(masks, peft=model is not None).encode(), folder / "README.md")


def push(masks: Sequence[StoredMask], repo: str, *, model: LALM | None = None, private: bool = False) -> str:
    """Put masks into a repository, which is made where it is missing.

    Args:
        masks: one, or several of different names.
        repo: OWNER/NAME.
        model: the masks' model, to write PEFT's files, too; None leaves them out.
        private: make a new repository private.

    Returns:
        The commit's address.

    Raises:
        BankError: there is nothing to push, or the hub refuses or cannot be reached.
        MaskError: a mask is of another model.
    """
    if not masks:
        raise BankError("no masks to push; name one or more")
    check_repo(repo)
    with tempfile.TemporaryDirectory(prefix="amask-") as folder:
        write_repository(masks, Path(folder), model)
        with _hub_errors(f"push to {repo}"):
            api = HfApi(library_name="amask")
            api.create_repo(repo, private=private, exist_ok=True)
            done = api.upload_folder(
                folder_path=folder, repo_id=repo, commit_message=f"amask: {', '.join(mask.spec for mask in masks)}"
            )
    return str(getattr(done, "commit_url", done))


def pull(
    repo: str, *, revision: str | None = None, model: Identity | Identified | None = None, names: Sequence[str] = ()
) -> list[PulledMask]:
    """Fetch the masks of a repository; each is checked as an import is: size, checksum, content, and the model if it is given.

    Args:
        repo: OWNER/NAME.
        revision: a branch, tag or commit; the main branch by default. What it means now is in the masks' lineages.
        model: what the masks must be for.
        names: only these; all by default.

    Raises:
        BankError: there are no such masks, or the hub refuses or cannot be reached.
        MaskError: a file is too large, damaged, no mask, or for another model.
    """
    check_repo(repo)
    doing = f"pull from {repo}"
    with _hub_errors(doing):
        found = HfApi(library_name="amask").model_info(repo, revision=revision, files_metadata=True)
    masks = []
    for sibling in found.siblings or []:
        path = PurePosixPath(sibling.rfilename)
        if path.name != MASK or len(path.parts) > 2:
            continue
        if sibling.size is None or sibling.size > MAX_BYTES:
            raise MaskError(f"cannot {doing}: {path} has {sibling.size} bytes, so it is not a mask")
        with _hub_errors(doing):
            local = hf_hub_download(repo, sibling.rfilename, revision=found.sha, library_name="amask")
        stored = load_mask(Path(local))
        name = path.parts[0] if len(path.parts) == 2 else stored.name
        if not is_name(name):
            raise MaskError(f"cannot {doing}: {name!r} is not a mask's name")
        if names and name not in names:
            continue
        if model is not None:
            stored.require(model, name)
        lineage = dict(stored.lineage) | {"pulled": {"repository": repo, "revision": found.sha}}
        masks.append(PulledMask(StoredMask.of(stored.with_(lineage=lineage), name, stored.version, Path(local)), name))
    missing = [name for name in names if name not in {mask.name for mask in masks}]
    if missing or not masks:
        have = ", ".join(mask.name for mask in masks) or "none"
        raise BankError(f"{repo} has no mask{f' {missing[0]!r}' if missing else ''}; it has {have}")
    return masks


def from_pretrained(source: str | Path, *, revision: str | None = None) -> HeadMask:
    """The mask of a folder that `save_pretrained` or an export wrote, or of a repository that has one mask.

    Raises:
        BankError: the repository has several masks, or cannot be reached.
        MaskError: it is damaged or no mask.
    """
    if Path(source).is_dir():
        return load_mask(Path(source) / MASK)
    found = pull(str(source), revision=revision)
    if len(found) > 1:
        raise BankError(f"{source} has several masks: {', '.join(mask.name for mask in found)}; use 'amask bank pull {source}'")
    return found[0].stored
