"""What the options of `amask serve` add: clips by URL from named hosts, a pruned mask; and what a chat's usage counts."""

import base64
import functools
import http.server
import threading

import pytest


class _Files(http.server.SimpleHTTPRequestHandler):
    def do_GET(self):
        leads = {"/loop": "/loop", "/away": "http://localhost:1/x", "/there": "/woman.opus"}
        if self.path in leads:
            self.send_response(302)
            self.send_header("Location", leads[self.path])
            self.end_headers()
        else:
            super().do_GET()

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def host(root):
    handler = functools.partial(_Files, directory=str(root / "docs" / "clips"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()


def by_url(url: str, model: str = "pocket:gr") -> dict:
    return {"model": model, "messages": [{"role": "user", "content": [{"type": "audio_url", "audio_url": {"url": url}}]}]}


def test_a_clip_is_fetched_from_a_named_host_only(start, host, pipe, clip):
    with start(url_hosts=(host,)) as server:
        for path in ("woman.opus", "there"):
            found = server.post("/v1/chat/completions", json=by_url(f"http://{host}/{path}"))
            assert found.json()["choices"][0]["message"]["content"] == pipe(clip, task="gr").text
        port = host.partition(":")[2]
        refused = [
            (f"http://localhost:{port}/woman.opus", 403),
            ("http://127.0.0.1/woman.opus", 403),
            (f"http://user@{host}/woman.opus", 400),
            ("file:///etc/passwd", 400),
            (f"http://{host}/nothing", 400),
            (f"http://{host}/loop", 400),
            (f"http://{host}/away", 403),
        ]
        for url, status in refused:
            found = server.post("/v1/chat/completions", json=by_url(url))
            assert (found.status_code, found.json()["error"]["param"]) == (status, "messages.0.content.0.audio_url.url"), url
    with start() as server:
        assert server.post("/v1/chat/completions", json=by_url(f"http://{host}/woman.opus")).status_code == 400


def test_a_fetched_clip_has_limits(host, monkeypatch):
    import socket

    from amask.serving import remote
    from amask.serving.api_errors import ApiError
    from amask.serving.uploads import UploadLimits

    with pytest.raises(ApiError) as caught:
        remote.fetch_url(f"http://{host}/woman.opus", "url", [host], UploadLimits(max_bytes=100))
    assert caught.value.status == 413
    port = int(host.partition(":")[2])
    inside = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]
    monkeypatch.setattr(remote.socket, "getaddrinfo", lambda *_, **__: inside)  # a public name of a private address
    with pytest.raises(ApiError) as caught:
        remote.fetch_url(f"http://clips.example:{port}/woman.opus", "url", [f"clips.example:{port}"], UploadLimits())
    assert "cannot be reached" in caught.value.message


def test_usage_counts_audio_and_answer(start, clip):
    data = base64.b64encode(clip.read_bytes()).decode()
    body = by_url(f"data:audio/ogg;base64,{data}", "pocket:asr")
    with start() as server:
        usage = server.post("/v1/chat/completions", json=body).json()["usage"]
        assert usage["prompt_tokens"] == usage["prompt_tokens_details"]["audio_tokens"] > 0
        assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
        streamed = body | {"stream": True, "stream_options": {"include_usage": True}}
        assert f'"total_tokens": {usage["total_tokens"]}' in server.post("/v1/chat/completions", json=streamed).text
        refused = server.post("/v1/chat/completions", json=body | {"stream_options": {"include_usage": True}})
        assert refused.json()["error"]["param"] == "stream_options"


def test_a_pruned_mask_gives_the_same_answers(start, pipe, clip, monkeypatch):
    from amask.errors import BankError
    from amask.serving import batcher

    ran = []

    def answer(model, *rest):
        ran.append(model.kept_heads is not None)
        return answered(model, *rest)

    answered = batcher.answer_segments
    monkeypatch.setattr(batcher, "answer_segments", answer)
    data = base64.b64encode(clip.read_bytes()).decode()
    with start(prune="gr") as server:
        for task in ("gr", "asr"):
            body = by_url(f"data:audio/ogg;base64,{data}", f"pocket:{task}")
            found = server.post("/v1/chat/completions", json=body).json()["choices"][0]["message"]["content"]
            assert found == pipe(clip, task=task).text
    assert ran == [True, False]
    with pytest.raises(BankError, match="--prune nope"):
        start(prune="nope")
