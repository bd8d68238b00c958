"""The requests that AU-Harness and lmms-eval send, by OpenAI's client with the arguments that they give it."""

import base64
import io

import pytest
import soundfile

openai = pytest.importorskip("openai", reason="openai is not installed")

TRANSCRIBE = "Please transcribe the speech. Return only the transcript, without any prefix."


@pytest.fixture(scope="module")
def wav(wave) -> str:
    """The clip as harnesses encode it: 16 kHz WAV in base64."""
    buffer = io.BytesIO()
    soundfile.write(buffer, wave, 16_000, format="WAV")
    return base64.b64encode(buffer.getvalue()).decode()


@pytest.fixture(scope="module")
def address(pipe, served):
    from amask.serving.app import create_app
    from amask.serving.service import ServerSettings

    with served(create_app(pipe, settings=ServerSettings(any_temperature=True))) as address:
        yield f"http://{address}/v1"


@pytest.fixture
def create(address):
    client = openai.OpenAI(base_url=address, api_key="none", max_retries=0, default_headers={"Connection": "close"})
    return client.chat.completions.create


def audio(data: str) -> dict:
    return {"type": "input_audio", "input_audio": {"data": data, "format": "wav"}}


def text(words: str) -> dict:
    return {"type": "text", "text": words}


@pytest.mark.parametrize("system", [None, "You listen to audio and do what is asked."])
def test_au_harness_chats(create, pipe, wave, wav, system):
    messages = [{"role": "system", "content": system}] if system else []
    messages += [{"role": "user", "content": [text(TRANSCRIBE), audio(wav)]}]
    settings = {"tools": None, "temperature": 0.1, "max_completion_tokens": 512}
    for model in ("pocket:asr", "pocket") if system is None else ("pocket:asr",):
        found = create(model=model, messages=messages, **settings)
        assert found.choices[0].message.content == pipe((wave, 16_000), task="asr").text
        assert any("temperature 0.1 was not used" in warning for warning in found.amask["warnings"])
        assert found.model_dump()["choices"][0]["message"]["content"]


def test_au_harness_transcribes(address, pipe, wave, tmp_path):
    soundfile.write(tmp_path / "clip.wav", wave, 16_000)
    client = openai.OpenAI(base_url=address, api_key="none", max_retries=0)
    with (tmp_path / "clip.wav").open("rb") as file:
        found = client.audio.transcriptions.create(model="pocket:asr", file=file)
    assert found.model_dump()["text"] == pipe(tmp_path / "clip.wav", task="asr").text


def test_lmms_eval_chats_with_input_audio(create, pipe, wave, wav):
    settings = {"modalities": ["text"], "max_tokens": 4096, "temperature": 0, "top_p": 0.95}
    for content in ([audio(wav), text("What is the gender of the speaker?")], [audio(wav)]):
        found = create(model="pocket:gr", messages=[{"role": "user", "content": content}], **settings)
        assert found.choices[0].message.content == pipe((wave, 16_000), task="gr").text
        assert found.usage.prompt_tokens > 0
        assert found.usage.completion_tokens > 0


def test_lmms_eval_chats_with_an_audio_url(create, pipe, wave, wav):
    def ask(url: str) -> object:
        content = [{"type": "audio_url", "audio_url": {"url": url}}, text("")]
        return create(messages=[{"role": "user", "content": content}], model="pocket:gr", max_tokens=1024, temperature=0)

    assert ask(f"data:audio/wav;base64,{wav}").choices[0].message.content == pipe((wave, 16_000), task="gr").text
    with pytest.raises(openai.BadRequestError, match="only data: URLs are taken; send the clip itself"):
        ask("clips/1.wav")


def test_what_they_may_send_and_cannot_be_answered_is_named(create, wav):
    user = {"role": "user", "content": [text("transcribe"), audio(wav)]}
    tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}
    two = {"role": "user", "content": [text("who speaks"), audio(wav), audio(wav)]}
    answered = {"role": "assistant", "content": "Yes."}
    picture = {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AA"}}]}
    for messages, more, param, said in [
        ([user], {"tools": [tool]}, "tools", "is not supported"),
        ([two], {}, "messages", "expected one clip as input_audio, got 2"),
        ([user, answered, user], {}, "messages.1.role", "one question with its clip"),
        ([picture], {}, "messages.0.content.0.type", "expected text, input_audio or audio_url"),
        ([{"role": "user", "content": [text("what is 2 + 2?")]}], {}, "messages", "got none"),
        ([user], {"n": 2}, "n", "n: "),
    ]:
        with pytest.raises(openai.BadRequestError, match=said) as caught:
            create(model="pocket:asr", messages=messages, **more)
        assert caught.value.param == param
