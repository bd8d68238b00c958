"""The HTTP server on the pocket model, in this process: what clients send and get, against the pipeline's own answers."""

import base64
import json
import re

import pytest

MIXED = (
    ("pocket:gr", ""),
    ("pocket:asr", ""),
    ("pocket", "what is the speaker's gender"),
    ("pocket:gr|asr", ""),
    ("pocket:gr THEN asr", ""),
    ("pocket:asr-gr-json", ""),
    ("pocket:prompt", "transcribe the speech"),
    ("pocket:ser@1", ""),
)


@pytest.fixture(scope="module")
def data(root) -> bytes:
    return (root / "docs" / "clips" / "woman.opus").read_bytes()


@pytest.fixture(scope="module")
def server(pipe):
    from starlette.testclient import TestClient

    from amask.serving.app import create_app
    from amask.serving.batcher import BatchSettings
    from amask.serving.service import ServerSettings

    settings = ServerSettings(BatchSettings(max_wait_ms=50.0), aliases={"whisper-1": "pocket:asr"})
    with TestClient(create_app(pipe, settings=settings)) as client:
        yield client


@pytest.fixture
def transcribe(server, data):
    def post(path: str = "transcriptions", **fields: object):
        form = {"model": "pocket"} | {name.replace("granularities", "granularities[]"): value for name, value in fields.items()}
        return server.post(f"/v1/audio/{path}", files={"file": ("a.opus", form.pop("file", data))}, data=form)

    return post


def chat_body(data: bytes, words: str = "", model: str = "pocket", **more: object) -> dict:
    parts = [{"type": "input_audio", "input_audio": {"data": base64.b64encode(data).decode(), "format": "opus"}}]
    parts += [{"type": "text", "text": words}] if words else []
    return {"model": model, "messages": [{"role": "user", "content": parts}]} | more


@pytest.fixture
def chat(server, data):
    return lambda *args, **more: server.post("/v1/chat/completions", json=chat_body(data, *args, **more))


def request_of(model: str, words: str) -> dict:
    """What the pipeline is asked for the same."""
    rest = model.partition(":")[2]
    if not rest:
        return {"instruction": words}
    return {"prompt": words} if rest == "prompt" else {"mask": rest} if "@" in rest else {"task": rest}


def test_transcriptions_in_five_formats(transcribe, pipe, clip):
    wanted = pipe(clip, task="asr")
    for shape in ("json", "text", "verbose_json", "srt", "vtt"):
        response = transcribe(response_format=shape)
        assert response.status_code == 200, response.text
        if "json" in shape:
            assert response.json()["text"] == wanted.text
            assert response.json()["amask"]["mask"] == wanted.mask
        else:
            assert wanted.text in response.text
    times = r"00:00:00,000 --> 00:00:01,916\n"
    assert re.match(rf"1\n{times}", transcribe(response_format="srt").text)
    assert transcribe(response_format="vtt").text.startswith(f"WEBVTT\n\n{times}".replace(",", ".").replace("\\n", "\n"))
    (segment,) = transcribe(response_format="verbose_json", timestamp_granularities="segment").json()["segments"]
    assert (segment["start"], segment["end"]) == (0.0, pytest.approx(wanted.duration, abs=0.002))


def test_a_long_clip_has_the_pipeline_s_segments(transcribe, pipe, data, clip, tmp_path):
    import io

    import numpy as np
    import soundfile

    samples, rate = soundfile.read(clip, dtype="float32")
    pause = np.zeros(rate, np.float32)
    wave = np.concatenate([samples, pause] * 10)
    buffer = io.BytesIO()
    soundfile.write(buffer, wave, rate, format="WAV", subtype="FLOAT")
    wanted = pipe(buffer.getvalue(), task="asr", long="split")
    found = transcribe(file=buffer.getvalue(), response_format="verbose_json").json()
    assert found["text"] == wanted.text
    assert len(found["segments"]) == wanted.segments > 1
    ends = [segment["end"] for segment in found["segments"]]
    assert [segment["start"] for segment in found["segments"]] == [0.0, *ends[:-1]]
    assert ends[-1] == pytest.approx(len(wave) / rate, abs=0.01)
    lines = [line for line in transcribe(file=buffer.getvalue(), stream="true").text.splitlines() if line]
    events = [json.loads(line.removeprefix("data: ")) for line in lines]
    deltas = [event["delta"] for event in events if event["type"] == "transcript.text.delta"]
    assert len(deltas) > 1
    assert "".join(deltas) == events[-1]["text"] == wanted.text


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"timestamp_granularities": "word", "response_format": "verbose_json"}, "timestamp_granularities[]"),
        ({"timestamp_granularities": "segment"}, "timestamp_granularities[]"),
        ({"temperature": "0.7"}, "temperature"),
        ({"temperature": "warm"}, "temperature"),
        ({"prompt": "names: Ada"}, "prompt"),
        ({"language": "fr"}, "language"),
        ({"response_format": "yaml"}, "response_format"),
        ({"diarize": "true"}, "diarize"),
        ({"stream": "true", "response_format": "srt"}, "stream"),
        ({"file": b"no audio at all"}, "file"),
        ({"model": ""}, "model"),
    ],
)
def test_what_cannot_be_had_is_refused_by_its_name(transcribe, fields, param):
    response = transcribe(**fields)
    assert response.status_code == 400, response.text
    error = response.json()["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    assert (error["param"], error["type"]) == (param, "invalid_request_error")
    assert param in error["message"] or param == "file"


@pytest.mark.parametrize(
    "model", ["pocket:nope", "pocket:../gr", "pocket:/etc/gr.safetensors", "gpt-4o", "pocket:gr@99", "pocket:"]
)
def test_unknown_models_are_404(transcribe, chat, model):
    for response in (transcribe(model=model), chat("", model)):
        assert response.status_code == 404, response.text
        assert response.json()["error"]["code"] == "model_not_found"


def test_translations_and_aliases(transcribe, pipe, clip):
    assert transcribe("translations").json()["text"] == pipe(clip, task="s2tt").text
    assert transcribe(model="whisper-1").json()["text"] == pipe(clip, task="asr").text
    assert transcribe("translations", language="en").status_code == 400


def test_models_are_listed_with_their_parent(server):
    rows = {row["id"]: row for row in server.get("/v1/models").json()["data"]}
    assert rows["pocket"]["parent"] is None
    assert rows["pocket:gr"]["parent"] == "pocket"
    assert rows["whisper-1"]["parent"] == "pocket:asr"
    assert {"pocket:gr@1", "pocket:prompt"} <= rows.keys()
    assert server.get("/v1/models/pocket:gr").json() == rows["pocket:gr"]
    assert server.get("/v1/models/none").status_code == 404


@pytest.mark.parametrize(("model", "words"), MIXED)
def test_chat_answers_are_the_pipeline_s(chat, pipe, clip, model, words):
    found, wanted = chat(words, model).json(), pipe(clip, **request_of(model, words))
    assert found["choices"][0]["message"]["content"] == wanted.text
    about = found["amask"]
    assert (about["how"], about["mask"], about["task"]) == (wanted.mode, wanted.mask or None, wanted.task or None)


def test_the_answer_says_that_words_beside_a_mask_were_not_read(chat):
    assert any("not read" in warning for warning in chat("transcribe", "pocket:gr").json()["amask"]["warnings"])


def test_a_data_url_is_heard_and_no_other_is_opened(server, data, pipe, clip):
    def ask(url: str):
        part = {"type": "audio_url", "audio_url": {"url": url}}
        return server.post(
            "/v1/chat/completions", json={"model": "pocket:asr", "messages": [{"role": "user", "content": [part]}]}
        )

    found = ask("data:audio/ogg;base64," + base64.b64encode(data).decode())
    assert found.json()["choices"][0]["message"]["content"] == pipe(clip, task="asr").text
    for url in ("http://localhost/a.wav", "file:///etc/passwd", "data:audio/wav,abc"):
        assert ask(url).status_code == 400


def test_a_refusal_names_the_nearest_tasks(chat):
    response = chat("bake a cake")
    assert response.status_code == 422
    error = response.json()["error"]
    assert error["code"] == "no_mask"
    assert len(error["nearest"]) == 2
    assert all(near["model"] == f"pocket:{near['task']}" and near["task"] in error["message"] for near in error["nearest"])
    assert chat("").status_code == 422


def test_a_schema_holds(chat, pipe, clip):
    schema = {
        "type": "object",
        "properties": {"sex": {"enum": ["male", "female"]}},
        "required": ["sex"],
        "additionalProperties": False,
    }
    form = {"type": "json_schema", "json_schema": {"name": "sex", "schema": schema, "strict": True}}
    answer = json.loads(chat("", "pocket:gr", response_format=form).json()["choices"][0]["message"]["content"])
    assert answer == {"sex": pipe(clip, task="gr").text}
    two = schema | {"properties": schema["properties"] | {"said": {"type": "string"}}, "required": ["sex", "said"]}
    form["json_schema"]["schema"] = two
    words = "transcribe the speech and say the gender"
    answer = json.loads(chat(words, "pocket", response_format=form).json()["choices"][0]["message"]["content"])
    assert answer == {"sex": pipe(clip, task="gr").text, "said": pipe(clip, task="asr").text}
    form["json_schema"]["schema"] = schema | {"properties": {"sex": {"enum": ["m", "f"]}}}
    assert json.loads(chat("", "pocket:gr", response_format=form).json()["choices"][0]["message"]["content"])["sex"] in ("m", "f")
    loose = schema | {"properties": {"sex": {"type": "string", "pattern": "ale"}}}
    form["json_schema"]["schema"] = loose
    assert chat("", "pocket:gr", response_format=form).status_code == 400


def test_json_object_is_an_object_of_the_parts(chat, pipe, clip):
    answer = chat("", "pocket:gr|asr", response_format={"type": "json_object"}).json()["choices"][0]["message"]["content"]
    assert json.loads(answer) == dict(pipe(clip, task="gr|asr").parts)


def test_logprobs_are_the_labels_probabilities(chat):
    import math

    found = chat("", "pocket:gr", logprobs=True, top_logprobs=5).json()
    (token,) = found["choices"][0]["logprobs"]["content"]
    assert token["token"] == found["choices"][0]["message"]["content"]
    assert math.exp(token["logprob"]) == pytest.approx(found["amask"]["confidence"], abs=1e-3)
    assert sum(math.exp(each["logprob"]) for each in token["top_logprobs"]) == pytest.approx(1)
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"enum": ["male", "female"]}}}
    for model, more in (("asr", {}), ("gr", {"response_format": form}), ("gr", {"response_format": {"type": "json_object"}})):
        refused = chat("", f"pocket:{model}", logprobs=True, **more)
        assert (refused.status_code, refused.json()["error"]["param"]) == (400, "logprobs")


def test_a_streamed_chat_is_the_same_answer(chat):
    lines = [line for line in chat("", "pocket:asr", stream=True).text.splitlines() if line]
    assert lines[-1] == "data: [DONE]"
    chunks = [json.loads(line.removeprefix("data: ")) for line in lines[:-1]]
    deltas = [chunk["choices"][0]["delta"].get("content", "") for chunk in chunks]
    wanted = chat("", "pocket:asr").json()["choices"][0]["message"]["content"]
    assert "".join(deltas) == wanted
    assert len(deltas) > len(wanted.split()) / 2 > 1, "it did not come as it was decoded"
    assert chunks[-1]["choices"][0]["finish_reason"] == "stop"
    assert chat("bake a cake", stream=True).status_code == 422


@pytest.mark.parametrize("field", [{"temperature": 0.5}, {"n": 2}, {"tools": []}, {"stop": "x"}, {"frequency_penalty": 1}])
def test_what_would_change_the_answer_is_refused(chat, field):
    response = chat("", "pocket:gr", **field)
    assert response.status_code == 400
    assert response.json()["error"]["param"] == next(iter(field))


def test_a_mixed_batch_equals_single_runs(server, pipe, data, clip):
    """Requests of all kinds at once, in shared batches; each is what the pipeline says of it alone."""
    from concurrent.futures import ThreadPoolExecutor

    def ask(each: tuple[str, str]) -> str:
        response = server.post("/v1/chat/completions", json=chat_body(data, each[1], each[0]))
        return response.json()["choices"][0]["message"]["content"]

    def ask_streamed(each: tuple[str, str]) -> str:
        response = server.post("/v1/chat/completions", json=chat_body(data, each[1], each[0], stream=True))
        lines = [json.loads(line.removeprefix("data: ")) for line in response.text.splitlines() if line.endswith("}")]
        return "".join(line["choices"][0]["delta"].get("content", "") for line in lines)

    before = server.get("/metrics").text
    with ThreadPoolExecutor(2 * len(MIXED)) as pool:
        whole, streamed = pool.map(ask, MIXED), pool.map(ask_streamed, MIXED)
        wanted = [pipe(clip, **request_of(*each)).text for each in MIXED]
        assert list(whole) == wanted
        assert list(streamed) == wanted
    rows = [float(re.search(r"amask_batch_rows_count (\S+)", text)[1]) for text in (before, server.get("/metrics").text)]
    assert rows[1] - rows[0] < 2 * len(MIXED), "nothing was answered together"


def test_health_ids_and_metrics(server):
    response = server.get("/health")
    assert response.json()["status"] == "ok"
    assert response.headers["x-request-id"] != server.get("/health").headers["x-request-id"]
    assert 'amask_requests_total{route="/health",status="200"}' in server.get("/metrics").text
    assert server.get("/nothing").json()["error"]["message"] == "GET /nothing is not served"
    wrong = server.get("/v1/chat/completions")
    assert (wrong.status_code, wrong.headers["allow"]) == (405, "POST")
    assert wrong.json()["error"]["message"] == "GET /v1/chat/completions is not served; POST is"
