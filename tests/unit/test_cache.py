"""The cache on disk: bounded, broken entries are absent ones, and a full disk stops nothing."""

import errno
import logging
import multiprocessing
import os

import pytest


@pytest.fixture
def cache(tmp_path):
    from amask.data.cache import DiskCache

    return DiskCache(tmp_path / "cache", 10_000)


def held(cache):
    return sum(path.stat().st_size for path in cache.folder.rglob("*") if path.is_file())


def test_entries_come_back(cache):
    assert cache.get("ab") is None
    assert "ab" not in cache
    cache.put("ab", b"content")
    cache.put("cd", b"")
    assert "ab" in cache
    assert (cache.get("ab"), cache.get("cd")) == (b"content", b"")


@pytest.mark.parametrize("damage", [lambda data: data[:-1], lambda data: b"", lambda data: bytes(len(data)), lambda d: b"x" + d])
def test_a_broken_entry_is_absent_and_made_again(cache, damage):
    cache.put("ab", b"content")
    path = next(path for path in cache.folder.rglob("*") if path.is_file())
    path.write_bytes(damage(path.read_bytes()))
    assert cache.get("ab") is None
    assert "ab" not in cache
    cache.put("ab", b"content")
    assert cache.get("ab") == b"content"


def test_what_was_not_read_for_longest_goes_first(cache):
    for at in range(9):
        cache.put(f"{at:02}", bytes(1_000))
        path = next(cache.folder.rglob(f"{at:02}/{at:02}"))
        os.utime(path, (at, at))
    cache.get("00")
    cache.put("99", bytes(2_000))
    assert held(cache) <= 10_000
    assert "00" in cache
    assert "99" in cache
    assert "01" not in cache
    assert "08" in cache


def test_it_stays_within_its_bound(cache):
    for at in range(100):
        cache.put(f"{at:04}", bytes(900))
        assert held(cache) <= cache.most
    cache.put("large", bytes(20_000))
    assert "large" not in cache


def test_nothing_is_kept_within_no_bytes(tmp_path):
    from amask.data.cache import DiskCache

    DiskCache(tmp_path / "none", 0).put("ab", b"content")
    assert not (tmp_path / "none").exists()


def test_a_full_disk_is_said_once(cache, monkeypatch, caplog):
    cache.put("ab", b"content")

    def full(_file):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("pathlib.Path.replace", lambda _self, _target: full(_self))
    with caplog.at_level(logging.WARNING):
        cache.put("cd", b"content")
        cache.put("ef", b"content")
    (record,) = caplog.records
    assert "No space left on device; free some room" in record.getMessage()
    assert cache.get("ab") == b"content"
    assert cache.get("cd") is None
    assert not [path for path in cache.folder.rglob("*.part")]


def _write(folder, start):
    from amask.data.cache import DiskCache

    cache = DiskCache(folder, 50_000)
    for at in range(start, start + 200):
        cache.put(f"{at % 250:04}", bytes(1_000) + str(at % 250).encode())


def test_processes_share_it(tmp_path):
    from amask.data.cache import DiskCache

    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=_write, args=(tmp_path, start)) for start in (0, 50, 100)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
        assert worker.exitcode == 0
    cache = DiskCache(tmp_path, 50_000)
    assert held(cache) <= 60_000
    found = {at: cache.get(f"{at:04}") for at in range(250)}
    kept = {at: data for at, data in found.items() if data is not None}
    assert len(kept) > 20
    assert all(data == bytes(1_000) + str(at).encode() for at, data in kept.items())


@pytest.mark.parametrize(("given", "size"), [("1.5", 1_500_000_000), ("0", 0), (None, 20_000_000_000)])
def test_its_size_is_a_setting(monkeypatch, given, size):
    from amask.data.cache import cache_bytes

    if given is not None:
        monkeypatch.setenv("AMASK_CACHE_GB", given)
    assert cache_bytes() == size


@pytest.mark.parametrize("given", ["much", "-1", "inf", "nan", ""])
def test_a_size_that_is_none_is_refused(monkeypatch, given):
    from amask.data.cache import cache_bytes
    from amask.errors import DataError

    monkeypatch.setenv("AMASK_CACHE_GB", given)
    with pytest.raises(DataError, match="AMASK_CACHE_GB"):
        cache_bytes()


def test_its_folder_is_a_setting(monkeypatch, tmp_path):
    from amask.data.cache import cache_folder

    assert str(cache_folder()).startswith(os.environ["XDG_CACHE_HOME"])
    monkeypatch.setenv("AMASK_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path
