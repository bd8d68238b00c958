"""A server that listens: OpenAI's own client, keys, limits, a full queue, and random bad requests."""

import base64

import pytest

openai = pytest.importorskip("openai", reason="openai is not installed")


@pytest.fixture(scope="module")
def address(pipe, served):
    from amask.serving.app import create_app

    with served(create_app(pipe)) as address:
        yield f"http://{address}/v1"


@pytest.fixture(scope="module")
def client(address):
    return openai.OpenAI(base_url=address, api_key="none", max_retries=0)


@pytest.fixture(scope="module")
def messages(root):
    data = base64.b64encode((root / "docs" / "clips" / "woman.opus").read_bytes()).decode()

    def make(words: str) -> list[dict]:
        parts = [{"type": "text", "text": words}, {"type": "input_audio", "input_audio": {"data": data, "format": "opus"}}]
        return [{"role": "user", "content": parts}]

    return make


def test_openai_s_client_transcribes(client, pipe, clip):
    wanted = pipe(clip, task="asr").text
    for shape in ("json", "text", "verbose_json", "srt", "vtt"):
        with clip.open("rb") as file:
            found = client.audio.transcriptions.create(model="pocket", file=file, response_format=shape)
        text = found if isinstance(found, str) else found.text
        assert wanted in text
    with clip.open("rb") as file:
        events = list(client.audio.transcriptions.create(model="pocket", file=file, stream=True))
    assert events[-1].type == "transcript.text.done"
    assert events[-1].text == wanted
    with clip.open("rb") as file, pytest.raises(openai.BadRequestError) as caught:
        client.audio.transcriptions.create(
            model="pocket", file=file, response_format="verbose_json", timestamp_granularities=["word"]
        )
    assert caught.value.param == "timestamp_granularities[]"


def test_openai_s_client_chats(client, pipe, clip, messages):
    words = "what is the speaker's gender"
    wanted = pipe(clip, words)
    found = client.chat.completions.create(model="pocket", messages=messages(words))
    assert found.choices[0].message.content == wanted.text
    assert found.amask["mask"] == wanted.mask
    chunks = list(client.chat.completions.create(model="pocket", messages=messages(words), stream=True))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == wanted.text
    with pytest.raises(openai.UnprocessableEntityError) as caught:
        client.chat.completions.create(model="pocket", messages=messages("bake a cake"))
    assert caught.value.body["nearest"]
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.create(model="pocket:nope", messages=messages(words))
    assert "pocket:gr" in {model.id for model in client.models.list()}
