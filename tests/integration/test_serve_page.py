"""The page at `/`: in a browser without a network, and what of Gradio can be reached beside it."""

import os
import shutil
from pathlib import Path

import pytest

pytest.importorskip("gradio", reason="gradio is not installed")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
SCREENSHOT = os.environ.get("AMASK_SCREENSHOT")  # read before tests get an environment of their own
WORDS = "say who is speaking, a man or a woman, then transcribe, as JSON"


@pytest.fixture(scope="module")
def app(pipe):
    from amask.serving.app import create_app
    from amask.serving.service import ServerSettings

    return create_app(pipe, settings=ServerSettings(page=True))


@pytest.fixture(scope="module")
def address(app, served):
    with served(app) as address:
        yield f"http://{address}"


@pytest.fixture
def get(address):
    from urllib.error import HTTPError
    from urllib.request import Request, urlopen

    def fetch(path: str, data: bytes | None = None) -> tuple[int, str]:
        try:
            with urlopen(Request(address + path, data, {"Content-Type": "application/json"}), timeout=60) as found:
                return found.status, found.read().decode()
        except HTTPError as error:
            return error.code, error.read().decode()

    return fetch


@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium")
def test_a_clip_is_answered_in_a_browser_without_a_network(address, pipe, clip, tmp_path):
    browsers = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    foreign = []

    def only_here(route):
        if route.request.url.startswith((address, "data:", "blob:")):
            route.continue_()
        else:
            foreign.append(route.request.url)
            route.abort()

    with browsers.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1180, "height": 760})
        page.set_default_timeout(120_000)
        page.route("**/*", only_here)
        page.goto(address)
        page.set_input_files("#clip input[type=file]", str(clip))
        page.locator("#words textarea").fill(WORDS)
        page.locator("#clip canvas, #clip [class*=waveform]").first.wait_for()
        page.locator("#go").click()
        page.wait_for_function("document.querySelector('#answer textarea').value")
        page.wait_for_function("document.querySelector('#heads svg')")
        wanted, said = pipe(clip, WORDS), page.locator("#understood").inner_text()
        assert page.locator("#answer textarea").input_value() == wanted.text
        assert page.locator("#prompted textarea").input_value() == pipe(clip, prompt=WORDS).text
        assert wanted.task in said
        assert "% sure" in said
        page.wait_for_timeout(1000)
        page.screenshot(path=SCREENSHOT or tmp_path / "page.png", full_page=True)
        browser.close()
    assert not foreign


def test_what_is_wrong_is_said(app, clip, tmp_path):
    import asyncio

    from amask.serving.page import respond

    def said(*given: object) -> str:
        return asyncio.run(respond(app.state.service, *given))[1]

    (tmp_path / "no.wav").write_bytes(b"no audio")
    assert "Record or upload" in said(None, "transcribe", [], "text")
    assert "clip" in said(str(tmp_path / "no.wav"), "transcribe", [], "text")
    assert "nearest tasks" in said(str(clip), "bake a cake", [], "text")
    assert "Say what to do" in said(str(clip), " ", [], "text")
    assert "nearest tasks" in said(str(clip), "\ud800", [], "text")
    answer, understood, heads, prompted = asyncio.run(respond(app.state.service, str(clip), "", ["asr", "gr"], "text"))
    assert answer.endswith("|female")
    assert "asr-gr" in understood
    assert heads.count("<svg") in (1, 2)
    assert prompted


def test_the_rest_stays_the_server_s_own(get, clip):
    import json

    assert get("/")[0] == 200
    for path in ("/nothing", "/v1/nothing", "/config", "/docs", "/login"):
        status, body = get(path)
        assert (status, json.loads(body)["error"]["code"]) == (404, "bad_request")
    assert get("/v1/chat/completions")[0] == 405
    outside = Path(clip).resolve()
    for path in (f"/gradio_api/file={outside}", "/gradio_api/file=/etc/passwd", "/gradio_api/file=http://127.0.0.1/"):
        assert 400 <= get(path)[0] < 500, path


@pytest.mark.parametrize("more", [{}, {"is_stream": True}, {"url": "http://127.0.0.1/x"}])
def test_a_path_that_was_not_uploaded_is_not_read(get, clip, more):
    import json

    given = {"path": str(Path(clip).resolve()), "meta": {"_type": "gradio.FileData"}} | more
    for data in (
        [given, "transcribe", [], "text"],
        [None, given, [], "text"],
        [given | {"path": "http://127.0.0.1/x"}, "", [], ""],
    ):
        body = {"data": data, "fn_index": 0, "session_hash": "one"}
        status, said = get("/gradio_api/queue/join", json.dumps(body).encode())
        if status == 200:
            said = get("/gradio_api/queue/data?session_hash=one")[1]
            events = [json.loads(line.removeprefix("data: ")) for line in said.splitlines() if line.startswith("data: ")]
            done = next(event for event in events if event["msg"] == "process_completed")
            assert not done["success"] or done["output"]["data"][1].startswith("Record or upload")
        assert "Understood" not in said
        assert "red box" not in said
