"""Multipart forms of requests, opened within limits."""

import codecs
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from python_multipart.multipart import parse_options_header
from starlette.datastructures import FormData
from starlette.requests import Request

from .api_errors import ApiError

KIND = b"multipart/form-data"
CHARSETS = frozenset({"utf-8", "ascii", "iso8859-1"})
"""As Python calls them; of these every byte is read, and none as half of a surrogate pair."""


@asynccontextmanager
async def open_form(request: Request, expected: str, *, max_fields: int, max_part_size: int) -> AsyncIterator[FormData]:
    """A request's form, with one file at most, which is closed after the context.

    Args:
        request: whose body is the form.
        expected: what it should hold, for messages.
        max_fields: fields that are no file.
        max_part_size: bytes of such a field.

    Raises:
        ApiError: it is none, or in a charset that is not read.
        HTTPException: it is broken, or beyond the limits.
    """
    kind, options = parse_options_header(request.headers.get("content-type"))
    if kind != KIND:
        raise ApiError(415, f"expected {expected}", None, "unsupported_media_type")
    name = options.get(b"charset", b"utf-8").decode("latin-1")
    try:
        known = codecs.lookup(name).name in CHARSETS
    except (LookupError, ValueError):  # a name with a null byte
        known = False
    if not known:
        raise ApiError(415, f"the form's charset {name[:50]!r} is not read; send UTF-8", None, "unsupported_media_type")
    async with request.form(max_files=1, max_fields=max_fields, max_part_size=max_part_size) as form:
        yield form
