"""`POST /v1/masks` and `DELETE /v1/masks/NAME`: masks come and go while the server runs, for whoever has the admin key.

A mask is given as the bytes of its safetensors file, or by a name in the bank. No path of a request is ever opened: an
uploaded file is read in memory, held to the model's fingerprint, and stored by the bank under a name that the bank accepts.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pydantic
from starlette.datastructures import UploadFile
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from ..errors import BankError, MaskError
from ..mask_bank.files import MAX_BYTES, StoredMask, describe, from_bytes
from .api_errors import ApiError, invalid, unsupported
from .forms import open_form
from .service import Service

UPLOADED = Path("file")  # what messages call an upload; never opened
FIELDS = frozenset({"file", "name", "default"})


class _Body(pydantic.BaseModel):
    """The JSON body: a mask that the bank has."""

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid", strict=True)

    name: str
    default: bool = False


@dataclass(frozen=True)
class _Given:
    """What a request gives: a file's bytes, or a name in the bank.

    Attributes:
        name: of the bank; for a file, what it is to be called, empty for the name in the file.
        default: whether it becomes the default of its name.
        data: the file.
    """

    name: str
    default: bool = False
    data: bytes | None = None


async def load(service: Service, request: Request) -> Response:
    """Answer `POST /v1/masks`: 201 with the mask that is now served.

    Raises:
        ApiError: it is no mask, is for another model, or the bank does not have it.
    """
    given = await _read(request)
    stored, created = await service.call(_load, service, given)
    return JSONResponse(await service.call(_about, service, stored), 201 if created else 200)


async def remove(service: Service, spec: str) -> Response:
    """Answer `DELETE /v1/masks/NAME`.

    Raises:
        ApiError: there is no such mask, or it is bundled.
    """
    await service.call(_remove, service, spec)
    return JSONResponse({"id": spec, "object": "mask", "deleted": True})


async def _read(request: Request) -> _Given:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "application/json":
        try:
            body = _Body.model_validate_json(await request.body())
        except pydantic.ValidationError as error:
            first = error.errors(include_url=False, include_input=False, include_context=False)[0]
            raise invalid(".".join(map(str, first["loc"]))[:100] or "body", first["msg"]) from None
        return _Given(body.name, body.default)
    return await _read_form(request)


async def _read_form(request: Request) -> _Given:
    expected = "multipart/form-data with a file, or JSON with a name"
    async with open_form(request, expected, max_fields=8, max_part_size=2**10) as form:
        for field in form:
            if field not in FIELDS:
                raise unsupported(field[:100], f"is not supported; expected {', '.join(sorted(FIELDS))}")
        upload, name, default = form.get("file"), form.get("name", ""), form.get("default", "false")
        if not isinstance(upload, UploadFile):
            raise invalid("file", "expected a mask's safetensors file")
        if not isinstance(name, str) or not isinstance(default, str) or default.lower() not in ("true", "false"):
            raise invalid("default" if isinstance(name, str) else "name", "expected text, and true or false as default")
        data = await upload.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise ApiError(413, f"file: a mask has at most {MAX_BYTES >> 20} MiB", "file", "body_too_large")
    return _Given(name.strip(), default.lower() == "true", data)


def _load(service: Service, given: _Given) -> tuple[StoredMask, bool]:
    """The mask in the bank, and whether it was not there before."""
    bank, identity = service.pipe.bank, service.pipe.identity
    if given.data is None:
        try:
            found = bank.get(given.name, identity)
        except BankError as error:
            raise ApiError(404, str(error), "name", "mask_not_found") from None
        return (bank.use(found.spec) if given.default else found), False
    try:
        mask = from_bytes(given.data, UPLOADED)
        mask.require(identity, mask.spec)
    except MaskError as error:
        raise ApiError(400, str(error), "file", "invalid_mask") from None
    before = {stored.spec for stored in bank.list()}
    try:
        stored = bank.add(mask.mask, given.name or mask.name).stored
    except BankError as error:
        raise invalid("name", str(error)) from None
    return (bank.use(stored.spec) if given.default else stored), stored.spec not in before


def _about(service: Service, stored: StoredMask) -> dict[str, Any]:
    kept = {name: value for name, value in describe(stored).items() if name not in ("lineage", "geometry", "fixed_layers")}
    named = {"id": stored.spec, "object": "mask", "served_as": f"{service.names.name}:{stored.spec}"}
    return named | kept | {"default": stored.spec in service.pipe.bank.defaults()}


def _remove(service: Service, spec: str) -> None:
    try:
        service.pipe.bank.remove(spec)
    except BankError as error:
        if spec in service.pipe.bank:  # bundled, or a name of several versions
            raise ApiError(409, str(error), "name", "mask_not_removable") from None
        raise ApiError(404, str(error), "name", "mask_not_found") from None
