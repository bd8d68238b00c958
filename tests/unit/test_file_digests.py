"""Hashes of files are those of their content, and read again only where size or time has changed."""

import hashlib
import os
from pathlib import Path


def test_a_file_is_read_whole_once_until_it_changes(tmp_path, monkeypatch):
    from amask.data.file_digests import file_digest

    path, reads, read = tmp_path / "clip.wav", [], Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda self: (reads.append(self.name), read(self))[1])

    def write(content, at):
        path.write_bytes(content)
        os.utime(path, ns=(at, at))

    def asked():
        reads.clear()
        assert file_digest(path) == hashlib.sha256(read(path)).digest()
        return reads.count("clip.wav")

    write(b"one", 10**18)
    assert [asked(), asked()] == [1, 0]
    write(b"two", 10**18 + 1)  # another time
    assert [asked(), asked()] == [1, 0]
    write(b"three", 10**18 + 1)  # another size
    assert [asked(), asked()] == [1, 0]
    path.write_bytes(b"fresh")  # just now: it might change again within its time's resolution
    assert [asked(), asked()] == [1, 1]


def test_without_a_cache_files_are_read(tmp_path, monkeypatch):
    from amask.data.file_digests import file_digest

    monkeypatch.setenv("AMASK_CACHE_GB", "0")
    path = tmp_path / "clip.wav"
    path.write_bytes(b"one")
    os.utime(path, (1e9, 1e9))
    assert file_digest(path) == file_digest(path) == hashlib.sha256(b"one").digest()


def test_a_cache_that_is_too_small_for_a_run_says_so(tmp_path, caplog):
    from amask.data.cache import DiskCache

    cache = DiskCache(tmp_path / "cache", 10_000)
    cache._opened -= 1  # the clock of files may be coarse
    for at in range(30):
        cache.put(f"{at:02}", bytes(1_000))
    assert [record.getMessage().count("raise AMASK_CACHE_GB") for record in caplog.records] == [1]
