"""Audio out of requests: limits first, then decoding."""

import base64
import binascii
import io
from dataclasses import dataclass

import soundfile

from ..data.audio import load_audio
from ..errors import AudioError
from ..lalm.base import LALM
from .api_errors import ApiError, invalid
from .clips import HeardClip, split_wave

FORMATS = ("wav", "mp3", "flac", "ogg", "opus")
"""What `input_audio.format` may say; the bytes themselves decide."""


@dataclass(frozen=True)
class UploadLimits:
    """What a request may hold.

    Attributes:
        max_bytes: of its body.
        max_seconds: of its audio.
        max_channels: of its audio.
        max_parts: fields of a form, or parts of a message.
        max_depth: levels of a JSON body.
        max_schema_bytes: of a JSON schema.
    """

    max_bytes: int = 25 * 2**20
    max_seconds: float = 600.0
    max_channels: int = 8
    max_parts: int = 16
    max_depth: int = 32
    max_schema_bytes: int = 2**16


def read_upload(data: bytes, param: str, model: LALM, limits: UploadLimits) -> HeardClip:
    """Audio as the model hears it; what is longer is split at its pauses.

    Args:
        data: an encoded clip.
        param: where the request has it.
        model: who hears it.
        limits: what is refused before it is decoded.

    Raises:
        ApiError: it is too long, has too many channels, or cannot be read.
    """
    _check_channels(data, param, limits)
    try:
        heard = load_audio(io.BytesIO(data), model.rate, longest=limits.max_seconds + 1, trim=True, channels=model.channels)
    except AudioError as error:
        raise ApiError(400, f"{param}: {error}", param, "invalid_audio") from None
    if heard.seconds > limits.max_seconds:
        raise ApiError(
            413, f"{param}: the clip is longer than {limits.max_seconds:g} s; send it in parts", param, "audio_too_long"
        )
    return HeardClip("clip", split_wave(heard.wave, model), heard.seconds, heard.warnings)


def require_one_segment(clip: HeardClip, param: str, model: LALM) -> None:
    """Refuse a clip that is longer than the model hears.

    Raises:
        ApiError: it is.
    """
    if model.longest is not None and clip.seconds > model.longest + 1 / model.rate:
        why = f"the clip is {clip.seconds:.1f} s long, and decoding by this schema is for at most {model.longest:g} s; cut it"
        raise ApiError(400, f"{param}: {why}", param, "audio_too_long")


def _check_channels(data: bytes, param: str, limits: UploadLimits) -> None:
    try:
        channels = soundfile.info(io.BytesIO(data)).channels
    except (soundfile.LibsndfileError, RuntimeError, ValueError):
        return  # decoding says what is wrong with it
    if channels > limits.max_channels:
        why = f"{channels} channels; at most {limits.max_channels} are taken; mix them down"
        raise ApiError(400, f"{param}: the clip has {why}", param, "too_many_channels")


def decode_base64(text: object, param: str) -> bytes:
    """The bytes of a base64 text, spaces and line breaks left out.

    Raises:
        ApiError: it is none.
    """
    if not isinstance(text, str) or not text:
        raise invalid(param, "expected a clip in base64")
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise invalid(param, f"not base64: {error}") from None


def is_data_url(url: object) -> bool:
    """Whether a URL holds its content."""
    return isinstance(url, str) and url[:5].lower() == "data:"


def decode_data_url(url: object, param: str) -> bytes:
    """The bytes of a `data:` URL; no other is opened here, see `remote`.

    Raises:
        ApiError: it is another URL, or is not in base64.
    """
    if not isinstance(url, str) or not is_data_url(url):
        raise invalid(param, "only data: URLs are taken; send the clip itself as data:audio/wav;base64,…")
    head, comma, body = url.partition(",")
    if not comma or not head.lower().endswith(";base64"):
        raise invalid(param, "expected data:audio/wav;base64,…")
    return decode_base64(body, param)
