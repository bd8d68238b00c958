"""Masks on the Hub, against a stand-in of its HTTP API: create, commit, list, resolve; and transfers that break."""

import base64
import hashlib
import json
import os
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from urllib.parse import unquote, urlparse

import pytest
import torch


class Hub(ThreadingHTTPServer):
    """A hub with its repositories in memory: name → path → content."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.repos, self.broken, self.claimed, self.paths = {}, False, {}, []
        self.url = f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    """What the client of the Hub asks for."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def reply(self, content=b"", status=200, cut=False, **headers):
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        headers.setdefault("Content_Length", str(len(data)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data[: len(data) // 2] if cut else data)
        if cut:
            self.close_connection = True

    def do_POST(self):
        path, body = urlparse(self.path).path, self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.paths.append(path)
        if path == "/api/repos/create":
            asked = json.loads(body)
            name = f"{asked['organization']}/{asked['name']}" if asked.get("organization") else asked["name"]
            if name.startswith("private/"):
                return self.reply({"error": "no"}, 403)
            self.server.repos.setdefault(name, {})
            return self.reply({"url": f"{self.server.url}/{name}", "name": name})
        if path == "/api/validate-yaml":
            return self.reply({"errors": [], "warnings": []})
        name = "/".join(path.split("/")[3:5])
        if "/preupload/" in path:
            files = [
                {"path": f["path"], "uploadMode": "regular", "shouldIgnore": False, "oid": None}
                for f in json.loads(body)["files"]
            ]
            return self.reply({"files": files})
        for line in map(json.loads, body.splitlines()):
            if line["key"] == "file":
                self.server.repos[name][line["value"]["path"]] = base64.b64decode(line["value"]["content"])
        sha = self.sha(name)
        return self.reply({"success": True, "commitOid": sha, "commitUrl": f"{self.server.url}/{name}/commit/{sha}"})

    def sha(self, name):
        return hashlib.sha1(repr(sorted(self.server.repos[name].items())).encode()).hexdigest()

    def do_GET(self):
        path = unquote(urlparse(self.path).path)
        self.server.paths.append(path)
        steps = path.strip("/").split("/")
        if steps[0] == "api":
            name = "/".join(steps[2:4])
            if name not in self.server.repos:
                return self.reply({"error": "Repository not found"}, 404, X_Error_Code="RepoNotFound")
            files = [
                {"rfilename": file, "size": self.server.claimed.get(file, len(content)), "blobId": "0" * 40}
                for file, content in self.server.repos[name].items()
            ]
            return self.reply({"id": name, "modelId": name, "sha": self.sha(name), "siblings": files, "private": False})
        name, revision, file = "/".join(steps[:2]), steps[3], "/".join(steps[4:])
        content = self.server.repos.get(name, {}).get(file)
        if content is None or revision != self.sha(name):
            return self.reply(b"", 404, X_Error_Code="EntryNotFound")
        tag = f'"{hashlib.sha1(content).hexdigest()}"'
        return self.reply(content, cut=self.server.broken and self.command == "GET", ETag=tag, X_Repo_Commit=revision)

    do_HEAD = do_GET


@pytest.fixture
def hub():
    server = Hub()
    Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()


@pytest.fixture
def masks(tmp_path):
    """Two masks of a bank."""
    from amask.data.tasks import parse_task
    from amask.lalm.gating import Geometry
    from amask.lalm.identity import Identity
    from amask.mask_bank.bank import MaskBank
    from amask.mask_bank.mask import HeadMask

    bank = MaskBank(tmp_path / "bank")
    model = Identity(Geometry((2, 3)), "f" * 16, "me/tiny")
    found = []
    for at, task in enumerate(("gr", "asr")):
        mask = HeadMask.from_logits(torch.randn(2, 3, generator=torch.Generator().manual_seed(at)), model, task=parse_task(task))
        found.append(bank.add(mask.with_(lineage={"operation": "train"}, scores={"dev": -3.0 if at else 90.0}), task).stored)
    return found


CLIENT = """
import json, sys
from pathlib import Path
from amask.errors import AmaskError
from amask.mask_bank import hub
from amask.mask_bank.bank import MaskBank
from amask.mask_bank.mask import HeadMask
from amask.lalm.gating import Geometry
from amask.lalm.identity import Identity

bank = MaskBank(Path(sys.argv[1]))
said = []

def attempt(run):
    try:
        said.append(run())
    except AmaskError as error:
        said.append(f"{type(error).__name__}: {error}")

{body}
print(json.dumps(said))
"""


@pytest.fixture
def run(hub, tmp_path):
    """Runs lines as a process that takes the stand-in for the Hub; gives what they put into `said`."""

    def call(body):
        env = dict(os.environ) | {"HF_ENDPOINT": hub.url, "HF_HUB_OFFLINE": "0", "HF_HOME": str(tmp_path / "hf"), "HF_TOKEN": "t"}
        env |= {"HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1", "NO_PROXY": "127.0.0.1"}
        done = subprocess.run(
            [sys.executable, "-c", CLIENT.replace("{body}", body), str(tmp_path / "bank")],
            capture_output=True, text=True, check=False, env=env,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-3000:]
        return json.loads(done.stdout.splitlines()[-1])

    return call


def test_masks_go_to_the_hub_and_come_back(hub, masks, run):
    said = run("""
attempt(lambda: hub.push([bank.get("gr")], "me/gr"))
attempt(lambda: hub.push([bank.get("gr"), bank.get("asr")], "me/bank"))
attempt(lambda: [(mask.name, mask.stored.digest, mask.stored.lineage["pulled"]["repository"]) for mask in hub.pull("me/bank")])
attempt(lambda: HeadMask.from_pretrained("me/gr").digest)
attempt(lambda: bank.get("gr").push_to_hub("me/again", "gr"))
attempt(lambda: hub.pull("me/gr", model=Identity(Geometry((2, 3)), "e" * 16, "other")))
attempt(lambda: HeadMask.from_pretrained("me/bank"))
attempt(lambda: hub.pull("me/bank", names=["ser"]))
attempt(lambda: hub.pull("me/nothing"))
attempt(lambda: hub.push([bank.get("gr")], "private/gr"))
attempt(lambda: hub.push([bank.get("gr")], "gr"))
""")
    gr, asr = masks
    assert said[0].startswith(f"{hub.url}/me/gr/commit/")
    assert sorted(map(tuple, said[2])) == sorted([("gr", gr.digest, "me/bank"), ("asr", asr.digest, "me/bank")])
    assert said[3] == gr.digest
    assert set(hub.repos["me/again"]) - {".gitattributes"} == {"README.md", "mask.safetensors"}
    for answer, words in zip(
        said[5:],
        ["this model is other", "several masks: ", "no mask 'ser'; it has", "404", "403; your token", "expected OWNER/NAME"],
        strict=True,
    ):
        assert words in answer, answer
    card = hub.repos["me/bank"]["README.md"].decode()
    assert card.startswith("---\n")
    assert 'base_model: "me/tiny"' in card
    assert 'pipeline_tag: "audio-text-to-text"' in card
    assert 'pipeline_tag: "audio-classification"' in hub.repos["me/gr"]["README.md"].decode()
    assert f"{gr.heads_on} of 5" in card


def test_what_is_broken_on_the_way_is_refused(hub, masks, run):
    hub.repos["me/gr"] = {"mask.safetensors": masks[0].path.read_bytes()}
    damaged = bytearray(hub.repos["me/gr"]["mask.safetensors"])
    damaged[-1] ^= 1
    hub.repos["me/damaged"] = {"mask.safetensors": bytes(damaged)}
    hub.repos["me/name"] = {"No Name/mask.safetensors": masks[0].path.read_bytes()}
    said = run('[attempt(lambda name=name: hub.pull(name)) for name in ("me/damaged", "me/name")]')
    assert "damaged" in said[0]
    assert "not a mask's name" in said[1]
    hub.claimed = {"mask.safetensors": 2**30}
    assert "so it is not a mask" in run('attempt(lambda: hub.pull("me/gr"))')[0]
    hub.claimed, hub.broken = {}, True
    assert "cannot pull from me/gr" in run('attempt(lambda: hub.pull("me/gr"))')[0]
