"""What a server refuses: wrong keys, bodies too large, clips too long, a full queue, pages of other origins, random bodies."""

import base64
import json
import logging
import os

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

# Of each kind: AMASK_BAD_REQUESTS=3400 sends more than 10 000 in all, to a server in another process, whose memory is watched.
BAD_REQUESTS = int(os.environ.get("AMASK_BAD_REQUESTS", "40"))
MANY = 1000
WARM_UP = 200  # requests before its memory is looked at
MAX_GROWTH = 64 * 2**20  # bytes
RANDOM = settings(
    max_examples=BAD_REQUESTS,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
patient = pytest.mark.timeout(300 + BAD_REQUESTS)
log = logging.getLogger(__name__)


@pytest.fixture
def plain(start):
    with start(admin_key="admin", url_hosts=("clips.example",)) as server:
        yield server


@pytest.fixture
def stranger(request, tmp_path):
    """Who sends nonsense to a server."""
    if BAD_REQUESTS < MANY:
        yield request.getfixturevalue("plain")
        return
    import httpx
    import psutil

    (tmp_path / "key").write_text("admin")
    options = ("--admin-key", tmp_path / "key", "--allow-urls", "clips.example", "--no-page")
    with request.getfixturevalue("listen")(*options) as server, httpx.Client(base_url=server.address, timeout=60) as client:
        for _ in range(WARM_UP):
            client.post("/v1/chat/completions", content=b"{}")
        memory = psutil.Process(server.process.pid).memory_info
        before = memory().rss
        yield client
        grown = memory().rss - before
        log.info("the server's memory grew from %.1f by %.1f MiB", before / 2**20, grown / 2**20)
        assert grown < MAX_GROWTH


def test_a_key_is_asked_for(start):
    with start(api_key="right") as server:
        assert server.get("/health").status_code == 200
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic !"}):
            response = server.get("/v1/models", headers=headers)
            assert response.status_code == 401
            assert response.json()["error"]["code"] == "invalid_api_key"
        assert server.get("/v1/models", headers={"Authorization": "Bearer right"}).status_code == 200
        basic = base64.b64encode(b"me:right").decode()
        assert server.get("/v1/models", headers={"Authorization": f"Basic {basic}"}).status_code == 200


def test_pages_of_other_origins_are_not_answered(start):
    with start(cors=("https://friend.example",)) as server:
        assert server.get("/v1/models", headers={"Origin": "https://other.example"}).status_code == 403
        assert server.get("/v1/models", headers={"Origin": "https://friend.example"}).status_code == 200
        assert server.get("/v1/models", headers={"Origin": "http://testserver"}).status_code == 200


def test_limits_come_before_decoding(start, clip):
    from amask.serving.uploads import UploadLimits

    form = {"files": {"file": ("a.opus", clip.read_bytes())}, "data": {"model": "pocket"}}
    with start(limits=UploadLimits(max_bytes=1000)) as server:
        assert server.post("/v1/audio/transcriptions", **form).status_code == 413
        assert server.post("/v1/chat/completions", content=(b"x" * 600 for _ in range(3))).status_code == 413
    with start(limits=UploadLimits(max_seconds=1.0)) as server:
        response = server.post("/v1/audio/transcriptions", **form)
        assert (response.status_code, response.json()["error"]["code"]) == (413, "audio_too_long")


def test_a_full_queue_is_429(start, clip, monkeypatch):
    from amask.serving.batcher import Batcher

    with start() as server:
        monkeypatch.setattr(Batcher, "waiting", 10_000)
        data = {"model": "pocket"}
        response = server.post("/v1/audio/transcriptions", files={"file": ("a.opus", clip.read_bytes())}, data=data)
    assert response.status_code == 429
    assert int(response.headers["retry-after"]) >= 1


def test_deep_json_is_refused(plain):
    for depth in (40, 100_000):
        response = plain.post("/v1/chat/completions", content=b"[" * depth + b"]" * depth)
        assert (response.status_code, response.json()["error"]["code"]) == (400, "invalid_json")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=10,
)
PARTS = st.lists(
    st.fixed_dictionaries(
        {"type": st.sampled_from(["text", "input_audio", "audio_url", "image_url"]) | JSON},
        optional={"text": JSON, "input_audio": JSON | st.fixed_dictionaries({"data": st.text(max_size=30)}), "audio_url": JSON},
    ),
    max_size=4,
)
BODIES = st.fixed_dictionaries(
    {"model": st.sampled_from(["pocket", "pocket:gr", "pocket:../x", "pocket:gr THEN"]) | st.text(max_size=20) | JSON},
    optional={
        "messages": st.lists(st.fixed_dictionaries({"role": st.sampled_from(["user", "assistant"]), "content": PARTS | JSON}))
        | JSON,
        "response_format": JSON,
        "stream": JSON,
        "temperature": JSON,
        "other": JSON,
    },
)


@patient
@RANDOM
@given(body=BODIES | JSON)
def test_random_chats_are_errors_of_the_right_kind(stranger, body):
    response = stranger.post("/v1/chat/completions", content=json.dumps(body).encode())
    assert 400 <= response.status_code < 500, response.text
    assert response.json()["error"].keys() >= {"message", "type", "param", "code"}


@patient
@RANDOM
@given(
    data=st.binary(max_size=200),
    fields=st.dictionaries(
        st.sampled_from(["model", "response_format", "stream", "temperature", "prompt", "timestamp_granularities[]", "x"]),
        st.text(max_size=20) | st.sampled_from(["pocket", "pocket:gr", "srt", "true", "0", "segment"]),
    ),
)
def test_random_forms_are_errors_of_the_right_kind(stranger, data, fields):
    response = stranger.post("/v1/audio/transcriptions", files={"file": ("a.wav", data)}, data=fields)
    assert 400 <= response.status_code < 500, response.text
    assert response.json()["error"].keys() >= {"message", "type", "param", "code"}


@patient
@RANDOM
@given(
    body=JSON | st.fixed_dictionaries({"name": st.text(max_size=20) | st.sampled_from(["../gr", "gr@0", "/etc"])}), spec=st.text()
)
def test_random_masks_are_errors_of_the_right_kind(stranger, body, spec):
    from urllib.parse import quote

    headers = {"Authorization": "Bearer admin", "Content-Type": "application/json"}
    found = [stranger.post("/v1/masks", content=json.dumps(body).encode(), headers=headers)]
    found.append(stranger.delete(f"/v1/masks/{quote(spec, safe='', errors='ignore')}", headers=headers))
    for response in found:
        assert 400 <= response.status_code < 500, response.text
        assert response.json()["error"].keys() >= {"message", "type", "param", "code"}
