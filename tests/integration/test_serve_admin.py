"""Masks that come and go while a server runs: by the admin key, by a file's bytes or a name, and by the bank itself."""

import base64

import pytest

KEY = {"Authorization": "Bearer admin"}


@pytest.fixture
def pipe(tmp_path):
    import amask
    from amask.mask_bank.bank import BUNDLED

    return amask.pipeline("pocket", amask.MaskBank(tmp_path / "bank", BUNDLED))


@pytest.fixture
def upload(pipe):
    """The bytes of a mask that differs from the bundled one in a head, and perhaps is for another model."""
    from dataclasses import replace

    from amask.mask_bank.files import to_bytes

    def make(name: str = "gr", fingerprint: str | None = None, head: int = 0) -> bytes:
        mask = pipe.bank.get("gr", pipe.identity).mask
        bits = mask.bits.clone()
        bits[1, head] = ~bits[1, head]  # layer 0 is fixed
        identity = replace(mask.identity, fingerprint=fingerprint) if fingerprint else mask.identity
        return to_bytes(replace(mask, bits=bits, logits=None, identity=identity), name, 7)

    return make


def test_only_the_admin_key_opens_it(start):
    with start(api_key="user") as server:
        assert server.post("/v1/masks", json={"name": "gr"}, headers={"Authorization": "Bearer user"}).status_code == 403
    with start(api_key="user", admin_key="admin") as server:
        for headers in ({}, {"Authorization": "Bearer user"}, {"Authorization": "Bearer admi"}):
            assert server.post("/v1/masks", json={"name": "gr"}, headers=headers).status_code == 401
            assert server.delete("/v1/masks/gr@1", headers=headers).status_code == 401
        assert server.get("/v1/models", headers=KEY).status_code == 401
        found = server.post("/v1/masks", json={"name": "gr"}, headers=KEY)
        assert (found.status_code, found.json()["name"], found.json()["default"]) == (200, "gr", True)


def test_a_file_is_loaded_served_and_removed(start, upload, clip):
    with start(admin_key="admin") as server:
        files = {"file": ("../../x.safetensors", upload())}
        found = server.post("/v1/masks", files=files, data={"name": "mine", "default": "true"}, headers=KEY)
        assert found.status_code == 201, found.text
        assert (found.json()["id"], found.json()["served_as"]) == ("mine@1", "pocket:mine@1")
        assert "pocket:mine@1" in {row["id"] for row in server.get("/v1/models").json()["data"]}
        data = base64.b64encode(clip.read_bytes()).decode()
        parts = [{"type": "input_audio", "input_audio": {"data": data, "format": "opus"}}]
        body = {"model": "pocket:mine", "messages": [{"role": "user", "content": parts}]}
        answer = server.post("/v1/chat/completions", json=body).json()
        assert answer["amask"]["mask"] == "mine@1"
        assert answer["choices"][0]["message"]["content"] in ("female", "male")
        assert server.delete("/v1/masks/mine", headers=KEY).json()["deleted"]
        assert server.post("/v1/chat/completions", json=body).status_code == 404


def test_a_new_default_is_seen_without_a_restart(start, upload, pipe, clip):
    from amask.mask_bank.files import from_bytes

    def mask_of(server, model: str, words: str = "") -> str:
        audio = {"data": base64.b64encode(clip.read_bytes()).decode(), "format": "opus"}
        parts = [{"type": "input_audio", "input_audio": audio}, {"type": "text", "text": words}]
        body = {"model": model, "messages": [{"role": "user", "content": parts}]}
        return server.post("/v1/chat/completions", json=body).json()["amask"]["mask"]

    with start() as server:
        asked = [("pocket:gr", ""), ("pocket", "what is the speaker's gender")]
        before = [mask_of(server, *each) for each in asked]
        stored = pipe.bank.add(from_bytes(upload(), clip).mask, "gr").stored
        pipe.bank.use(stored.spec)
        assert [mask_of(server, *each) for each in asked] == [stored.spec, stored.spec] != before


def test_two_servers_share_a_bank(start, upload, pipe, clip):
    """Masks that both add at once all get versions of their own, and each server answers by what the other added."""
    from concurrent.futures import ThreadPoolExecutor

    from starlette.testclient import TestClient

    import amask
    from amask.mask_bank.bank import BUNDLED
    from amask.serving.app import create_app
    from amask.serving.service import ServerSettings

    audio = {"data": base64.b64encode(clip.read_bytes()).decode(), "format": "opus"}
    messages = [{"role": "user", "content": [{"type": "input_audio", "input_audio": audio}]}]
    other = amask.pipeline(pipe.model, amask.MaskBank(pipe.bank.folder, BUNDLED))
    with start(admin_key="admin") as one, TestClient(create_app(other, settings=ServerSettings(admin_key="admin"))) as two:

        def add(server, head: int) -> str:
            files = {"file": ("a", upload(head=head))}
            return server.post("/v1/masks", files=files, data={"name": "mine"}, headers=KEY).json()["id"]

        with ThreadPoolExecutor(4) as pool:
            added = list(pool.map(add, [one, two] * 3, range(6)))
        assert sorted(added) == [f"mine@{version}" for version in range(1, 7)]
        assert one.post("/v1/masks", json={"name": "mine@5", "default": True}, headers=KEY).status_code == 200
        for server in (one, two):
            assert {f"pocket:{spec}" for spec in added} <= {row["id"] for row in server.get("/v1/models").json()["data"]}
            found = server.post("/v1/chat/completions", json={"model": "pocket:mine", "messages": messages}).json()
            assert found["amask"]["mask"] == "mine@5"
        assert two.delete("/v1/masks/mine@6", headers=KEY).status_code == 200
        gone = one.post("/v1/chat/completions", json={"model": "pocket:mine@6", "messages": messages})
        assert gone.status_code == 404


def test_what_is_refused_changes_nothing(start, upload, pipe, tmp_path):
    before = {stored.spec for stored in pipe.bank.list()}
    bad = [
        ({"files": {"file": ("a", b"no mask")}}, 400, "file"),
        ({"files": {"file": ("a", upload(fingerprint="0" * 64))}}, 400, "file"),
        ({"files": {"file": ("a", upload())}, "data": {"name": "../x"}}, 400, "name"),
        ({"files": {"file": ("a", upload())}, "data": {"name": "x@3"}}, 400, "name"),
        ({"files": {"file": ("a", upload())}, "data": {"path": "/etc"}}, 400, "path"),
        ({"data": {"name": "gr"}, "files": {"other": ("a", b"")}}, 400, "other"),
        ({"json": {"name": "/etc/passwd"}}, 404, "name"),
        ({"json": {"name": str(tmp_path / "x.safetensors")}}, 404, "name"),
        ({"json": {"path": "x"}}, 400, "name"),
        ({"content": b"x"}, 415, None),
    ]
    with start(admin_key="admin") as server:
        for request, status, param in bad:
            found = server.post("/v1/masks", headers=KEY, **request)
            assert (found.status_code, found.json()["error"]["param"]) == (status, param), found.text
        assert server.delete("/v1/masks/gr@1", headers=KEY).status_code == 409
        for name in ("nope", "gr@99", "../gr@1", "%2e%2e/x"):
            assert server.delete(f"/v1/masks/{name}", headers=KEY).status_code == 404
    assert {stored.spec for stored in pipe.bank.list()} == before
