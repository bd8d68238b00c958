"""The page at `/`: a clip, words or chosen tasks, and the answer beside the prompted one; Gradio, mounted into the server.

It goes through the same queue as the endpoints. It needs no network: Gradio brings its scripts, and its fonts are the system's.
"""

import html
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from starlette.routing import Match, Mount
from starlette.types import Scope

from ..data.extras import import_extra
from ..data.tasks import parse_task
from ..data.wordings import wordings
from ..errors import AmaskError
from ..mask_bank.mask import HeadMask
from .api_errors import ApiError
from .clips import HeardClip
from .engine import RunOptions
from .model_names import ModelName
from .pipeline import default_masks
from .routing import Prompt, Route
from .service import Answered, Service
from .uploads import read_upload

PATHS = ("/assets/", "/static/", "/gradio_api/", "/theme.css", "/favicon.ico")
"""What Gradio serves beside `/`; all else stays the server's own."""
OPTIONS = RunOptions(long="split", prune="off")
FORMS = ("text", "JSON")
ON, OFF, ABSENT = "#2a9d8f", "#d9e0e3", "none"
DOT = 8  # pixels of a head
KEPT_SECONDS = 600  # how long an uploaded clip stays on the disk
Outputs = tuple[str, str, str, str]
"""The answer, what was understood, the head maps, and the prompted answer."""


class _PageMount(Mount):
    """The page's mount, which leaves all other paths to the server."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Whether a path is the page's."""
        path = scope["path"]
        return super().matches(scope) if path == "/" or path.startswith(PATHS) else (Match.NONE, {})


def mount_page(app: FastAPI, service: Service) -> None:
    """Mount the page into the server's app.

    Raises:
        ExtraError: Gradio is not installed.
    """
    gradio = import_extra("gradio", "the page at /")
    kept = service.settings.limits.max_bytes
    theme = gradio.themes.Default(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"])
    blocks = _blocks(gradio, service)
    gradio.mount_gradio_app(app, blocks, "/", footer_links=[], max_file_size=kept, ssr_mode=False, theme=theme, pwa=False)
    blocks.has_launched = True  # Gradio holds paths to its upload folder only then, and mounting does not set it
    mount = app.router.routes[-1]
    mount.__class__ = _PageMount


def _keep_to_uploads(gradio: Any, *blocks: Any) -> None:  # noqa: ANN401
    """Let inputs take files that were uploaded, and neither another path nor a URL, whatever a request holds."""
    folder = Path(gradio.utils.get_upload_folder()).resolve()

    def take(given: str | Path | None) -> str | None:
        if given is not None and not Path(given).resolve().is_relative_to(folder):
            raise gradio.Error("the clip was not uploaded")
        return None if given is None else str(given)

    async def take_async(given: str | Path | None) -> str | None:
        return take(given)

    for block in blocks:
        block.move_resource_to_block_cache, block.async_move_resource_to_block_cache = take, take_async


def _blocks(gradio: Any, service: Service) -> Any:  # noqa: ANN401 - Gradio's types are imported only where it is used
    tasks = sorted({stored.task_name for stored in default_masks(service.pipe.bank, service.pipe.identity)})
    single = [name for name in tasks if "-" not in name]
    with gradio.Blocks(title=f"amask: {service.names.name}", analytics_enabled=False, delete_cache=(60, KEPT_SECONDS)) as blocks:
        gradio.Markdown(f"# {service.names.name}\nA clip, and what to do with it: in your own words, or by tasks.")
        with gradio.Row():
            with gradio.Column():
                clip = gradio.Audio(sources=["upload", "microphone"], type="filepath", label="Clip", buttons=[], elem_id="clip")
                words = gradio.Textbox(label="In your own words", placeholder="what is the speaker's gender", elem_id="words")
                chosen = gradio.Dropdown(single, multiselect=True, label="Or tasks, in the order of the answer", elem_id="tasks")
                form = gradio.Radio(FORMS, value=FORMS[0], label="Form of several tasks", elem_id="form")
                button = gradio.Button("Answer", variant="primary", elem_id="go")
            with gradio.Column():
                answer = gradio.Textbox(label="By a mask", lines=2, elem_id="answer")
                prompted = gradio.Textbox(label="By a prompt, for comparison", lines=2, elem_id="prompted")
                understood = gradio.Markdown(elem_id="understood")
                heads = gradio.HTML(elem_id="heads")

        _keep_to_uploads(gradio, clip, words, chosen, form)
        uploads = Path(gradio.utils.get_upload_folder()).resolve()

        async def run(path: str | None, text: str, names: list[str], shape: str) -> Outputs:
            inside = path is not None and Path(path).resolve().is_relative_to(uploads)
            return await respond(service, path if inside else None, text, names, shape)

        shown, given = [answer, understood, heads, prompted], [clip, words, chosen, form]
        for event in (button.click, words.submit):
            event(run, given, shown, api_visibility="private", concurrency_limit=16, concurrency_id="answer")
    return blocks


async def respond(service: Service, path: str | None, words: str, tasks: Sequence[str], form: str) -> Outputs:
    """Answer for the page; what is wrong is said where it would say what was understood.

    Args:
        service: the server's.
        path: the uploaded clip, at a place that Gradio chose.
        words: what to do; tasks count where there are any.
        tasks: names, in the order of the answer.
        form: one of `FORMS`.
    """
    if not path:
        return "", "Record or upload a clip first.", "", ""
    try:
        data = await service.call(Path(path).read_bytes)
        clip = await service.call(read_upload, data, "clip", service.model, service.settings.limits)
    except ApiError as error:
        return "", f"**{_plain(error.message)}**", "", ""
    name = "-".join([*tasks, *(["json"] if form == "JSON" and len(tasks) > 1 else [])])
    words = words.encode(errors="replace").decode()  # half of a surrogate pair is no text
    prompt = await service.call(_prompt, service, words, name)
    prompted = await _prompted(service, clip, prompt)
    try:
        route = await service.call(_route, service, words.strip(), name)
        found = await service.answer(None, clip, route, OPTIONS)
    except ApiError as error:
        return "", f"**{_plain(error.message)}**", "", prompted
    return found.result.text, describe(route, found), "".join(map(draw_heads, route.used_masks)), prompted


def _prompt(service: Service, words: str, name: str) -> str:
    if not name:
        return words.strip()
    try:
        return wordings(parse_task(name, service.pipe.known_tasks()))[0]
    except (AmaskError, IndexError):
        return ""


async def _prompted(service: Service, clip: HeardClip, prompt: str) -> str:
    if not prompt:
        return ""
    try:
        return (await service.answer(None, clip, Prompt(text=prompt), OPTIONS)).result.text
    except ApiError as error:
        return error.message


def _route(service: Service, words: str, name: str) -> Route:
    if name:
        return service.names.route(ModelName(name, name))
    if not words:
        raise ApiError(422, "Say what to do, or choose tasks.", None, "no_mask")
    return service.names.route_words(words)


def _plain(text: str) -> str:
    """Text that Markdown leaves as it is."""
    return html.escape("".join(f"\\{letter}" if letter in "*_`[]#|\\" else letter for letter in text))


def describe(route: Route, found: Answered) -> str:
    """What was understood, in Markdown: tasks in their order, the form, the mask, and how sure it is."""
    result = found.result
    lines = [f"- **Understood as** {_plain(route.task_name or 'a mask')} ({route.mode})"]
    if route.confidence is not None:
        lines[0] += f", {100 * route.confidence:.0f} % sure"
    lines += [f"- {_plain(line)}" for line in route.explain()]
    if route.answer_format:
        lines.append(f"- **Form** {_plain(str(route.answer_format))}")
    if result.confidence is not None:
        lines.append(f"- **Sure of the answer** {100 * result.confidence:.0f} %")
    lines += [f"- **{_plain(task)}** {_plain(part)}" for task, part in result.parts.items() if len(result.parts) > 1]
    return "\n".join([*lines, *(f"- *{_plain(warning)}*" for warning in result.warnings)])


def draw_heads(mask: HeadMask) -> str:
    """A mask as SVG: layers downwards, heads to the right."""
    rows, present = mask.bits.tolist(), mask.geometry.present.tolist()
    dots = [
        f'<rect x="{DOT * head}" y="{DOT * layer}" width="{DOT - 1}" height="{DOT - 1}" fill="{ON if on else OFF}"/>'
        for layer, row in enumerate(rows)
        for head, on in enumerate(row)
        if present[layer][head]
    ]
    size = f"0 0 {DOT * len(rows[0])} {DOT * len(rows)}"
    title = f"{mask.called}: {mask.heads_on} of {mask.heads_total} heads on; layers downwards, heads to the right"
    picture = f'<svg viewBox="{size}" width="100%" role="img" aria-label="{html.escape(title)}">{"".join(dots)}</svg>'
    return f"<figure>{picture}<figcaption>{html.escape(title)}</figcaption></figure>"
