"""Random requests with a clip that can be heard: whatever else they hold, they are answered, or refused for a reason."""

import base64
import io
import json
import os

import numpy as np
import pytest
import soundfile
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

REQUESTS = int(os.environ.get("AMASK_ODD_REQUESTS", "25"))
ODD = settings(
    max_examples=REQUESTS, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
MODELS = (
    "pocket",
    "pocket:gr",
    "pocket:asr",
    "pocket:gr|asr",
    "pocket:asr-gr-json",
    "pocket:gr THEN asr",
    "pocket:gr THEN asr IF female",
    "pocket:gr THEN asr IF male",
    "pocket:gr@1",
    "pocket:prompt",
)
WORDS = (
    "",
    "what is the speaker's gender",
    "transcribe, then say the gender, as JSON",
    "gender in capitals with the prefix 'G: '",
)
SCHEMAS = st.sampled_from(
    (
        {"type": "object"},
        {"type": "string", "maxLength": 5},
        {"enum": ["male", "female"]},
        {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"], "additionalProperties": False},
        {"$ref": "#/none"},
        {"type": "nothing"},
        {"pattern": "("},
    )
) | st.dictionaries(
    st.sampled_from(("type", "properties", "items", "enum", "$ref")), st.text(max_size=5) | st.integers(), max_size=3
)
FORMS = st.sampled_from(({"type": "text"}, {"type": "json_object"})) | st.builds(
    lambda schema: {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}, SCHEMAS
)
FIELDS = st.fixed_dictionaries(
    {"model": st.sampled_from(MODELS)},
    optional={
        "response_format": FORMS,
        "stream": st.booleans(),
        "stream_options": st.just({"include_usage": True}),
        "logprobs": st.booleans(),
        "top_logprobs": st.integers(0, 20),
        "max_tokens": st.integers(1, 60),
        "seed": st.integers(),
        "temperature": st.just(0),
    },
)


CONTAINERS = (("WAV", "PCM_16"), ("WAV", "FLOAT"), ("FLAC", "PCM_16"))


def encode(wave: np.ndarray, rate: int, container: str, subtype: str) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, wave, rate, format=container, subtype=subtype)
    return buffer.getvalue()


@st.composite
def clips(draw) -> bytes:
    """A clip of any rate, number of channels, length and loudness."""
    rate = draw(st.sampled_from((1, 37, 8_000, 16_000, 44_100, 48_000, 655_350)))
    shape = (draw(st.integers(0, min(rate, 48_000))), draw(st.integers(1, 3)))
    noise = np.random.default_rng(draw(st.integers(0, 99))).uniform(-1, 1, shape)
    wave = noise * draw(st.sampled_from((0.0, 1e-6, 0.1, 1.0, 30.0)))
    return encode(wave, rate, *draw(st.sampled_from(CONTAINERS)))


@pytest.fixture(scope="module")
def encoded(clip, wave) -> list[bytes]:
    """The beginning of a clip in all containers that soundfile writes here, and the whole of it as Opus."""
    short = wave[:16_000]
    return [
        clip.read_bytes(),
        encode(short, 16_000, "MP3", "MPEG_LAYER_III"),
        *(encode(short, 16_000, *how) for how in CONTAINERS),
    ]


@pytest.fixture
def server(start):
    with start(admin_key="admin") as server:
        yield server


def check(response) -> dict | None:
    """An error has OpenAI's shape and is no fault of the server's; what is left is answered."""
    assert response.status_code == 200 or 400 <= response.status_code < 500, response.text
    if response.status_code != 200:
        assert response.json()["error"].keys() >= {"message", "type", "param", "code"}
        return None
    if response.headers["content-type"].startswith("text/event-stream"):
        events = [line.removeprefix("data: ") for line in response.text.splitlines() if line]
        assert not any("server_error" in event for event in events), events
        return None
    return response.json() if "json" in response.headers["content-type"] else None


TEXT = st.text(st.characters() | st.sampled_from("\ud800\udfff"), max_size=12)
"""Halves of surrogate pairs, too, as JSON's escapes can write them."""


@ODD
@example(name="\ud800", value="", words="")
@example(name="seed", value="\ud800", words="")
@example(name="seed", value="", words="\ud800")
@given(name=TEXT, value=TEXT, words=TEXT)
def test_texts_that_are_no_text(server, clip, name, value, words):
    data = base64.b64encode(clip.read_bytes()).decode()
    parts = [{"type": "input_audio", "input_audio": {"data": data}}, {"type": "text", "text": words}]
    for more in (
        {"model": "pocket"},
        {"model": value},
        {"model": "pocket:prompt", "user": value},
        {"model": "pocket", name: value},
    ):
        check(server.post("/v1/chat/completions", content=json.dumps({"messages": [{"role": "user", "content": parts}]} | more)))
    admin = {"Authorization": "Bearer admin", "Content-Type": "application/json"}
    check(server.post("/v1/masks", content=json.dumps({"name": value, name: words}), headers=admin))


CHARSETS = ("utf-8", "latin-1", "undefined", "punycode", "idna", "unicode_escape", "utf-16", "hex", "none")
PART = b'Content-Disposition: form-data; name="%s"%s\r\n\r\n%s\r\n'


@ODD
@example(charset="undefined", boundary="x", pieces=[b"--x\r\n" + PART % (b"model", b"", b"pocket"), b"--x--\r\n"])
@example(charset="unicode_escape", boundary="x", pieces=[b"--x\r\n" + PART % (b"\\ud800", b"", b"pocket"), b"--x--\r\n"])
@given(
    charset=st.sampled_from(CHARSETS),
    boundary=st.sampled_from(("x", "", "x" * 300, '"', "\xe9")),
    pieces=st.lists(
        st.sampled_from((b"--x\r\n", b"--x--\r\n", b"\r\n", b"--x", b"Content-Disposition: form-data\r\n\r\n"))
        | st.builds(
            lambda name, file, text: b"--x\r\n" + PART % (name, file, text),
            st.sampled_from((b"model", b"file", b"prompt", b"\\ud800", b"\xff", b"xn--\x80")),
            st.sampled_from((b"", b'; filename="a.wav"', b'; filename="\xff"', b"; filename*=x''%ff")),
            st.sampled_from((b"pocket", b"\\ud800", b"\xff\xfe", b"")) | st.binary(max_size=20),
        )
        | st.binary(max_size=20),
        max_size=6,
    ),
)
def test_forms_that_are_no_forms(server, charset, boundary, pieces):
    for path, kind in (("audio/transcriptions", "multipart/form-data"), ("masks", "multipart/form-data")):
        headers = {
            "Content-Type": f"{kind}; boundary={boundary}; charset={charset}".encode("latin-1"),
            "Authorization": b"Bearer admin",
        }
        check(server.post(f"/v1/{path}", content=b"".join(pieces), headers=headers))


@ODD
@given(fields=FIELDS, words=st.sampled_from(WORDS) | st.text(max_size=30), real=st.booleans(), noise=clips())
def test_chats(server, clip, fields, words, real, noise):
    data = base64.b64encode(clip.read_bytes() if real else noise).decode()
    parts = [{"type": "input_audio", "input_audio": {"data": data}}, {"type": "text", "text": words}]
    found = check(server.post("/v1/chat/completions", json={"messages": [{"role": "user", "content": parts}]} | fields))
    if found is not None and "json" in (kind := fields.get("response_format", {}).get("type", "text")):
        answer = found["choices"][0]
        if answer["finish_reason"] == "stop":
            assert isinstance(json.loads(answer["message"]["content"]), dict if kind == "json_object" else object)


@ODD
@given(
    which=st.integers(0, 4),
    cut=st.floats(0, 1),
    changed=st.dictionaries(st.floats(0, 1, exclude_max=True) | st.integers(0, 80), st.integers(0, 255), max_size=8),
)
def test_damaged_clips(server, encoded, which, cut, changed):
    """Cut off, and with other bytes in places, most of them in the head."""
    data = bytearray(encoded[which])
    for at, value in changed.items():
        data[at if isinstance(at, int) else int(at * len(data))] = value
    del data[len(data) - int(cut**4 * len(data)) :]
    form = {"files": {"file": ("a.wav", bytes(data))}, "data": {"model": "pocket:gr"}}
    check(server.post("/v1/audio/transcriptions", **form))


@ODD
@given(
    noise=clips(),
    fields=st.fixed_dictionaries(
        {"model": st.sampled_from(MODELS)},
        optional={
            "response_format": st.sampled_from(("json", "text", "verbose_json", "srt", "vtt")),
            "stream": st.sampled_from(("true", "false", "")),
            "temperature": st.sampled_from(("0", "0.0", "", "1")),
            "prompt": st.sampled_from(("", "transcribe the speech")),
            "language": st.sampled_from(("en", "English", "", "de")),
            "timestamp_granularities[]": st.sampled_from(("segment", "word")),
        },
    ),
)
def test_transcriptions(server, noise, fields):
    for path in ("transcriptions", "translations"):
        check(server.post(f"/v1/audio/{path}", files={"file": ("a.wav", noise)}, data=fields))


def test_json_object_by_words_keeps_keys_and_leaves_out_what_is_no_json(server, clip):
    def ask(words: str, model: str = "pocket") -> dict:
        audio = {"type": "input_audio", "input_audio": {"data": base64.b64encode(clip.read_bytes()).decode()}}
        messages = [{"role": "user", "content": [audio, {"type": "text", "text": words}]}]
        return server.post(
            "/v1/chat/completions", json={"model": model, "messages": messages, "response_format": {"type": "json_object"}}
        ).json()

    def answer(*asked: str) -> dict:
        return json.loads(ask(*asked)["choices"][0]["message"]["content"])

    assert answer("what is the speaker's gender") == {"gr": "female"}
    found = ask("say the gender in capitals with the prefix 'G: '")
    assert json.loads(found["choices"][0]["message"]["content"]) == {"gr": "FEMALE"}
    assert any("prefix" in warning for warning in found["amask"]["warnings"])
    assert answer("", "pocket:gr THEN asr IF male") == {}
    assert ask("transcribe", "pocket:prompt")["error"]["param"] == "response_format"
