"""Nothing that clipcache did not make is ever replaced."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import h5py
import pytest
from cache_entries import put_entry
from clipcache.cache import FeatureCache, UsageError
from clipcache.cache.common.atomic import replacing, write_atomically
from clipcache.cache.common.errors import CacheError
from clipcache.cache.common.render import write_text
from clipcache.cache.pack import pack
from clipcache.score.plot_style import save_figure


def users_own(path: Path) -> bytes:
    """A data set of the user's, which no command of ours made."""
    with h5py.File(path, "w") as file:
        file["weights"] = [1.0, 2.0]
    return path.read_bytes()


def test_packing_replaces_a_packed_library_and_nothing_else(tmp_path: Path) -> None:
    put_entry(tmp_path / "features")
    cache, target = FeatureCache(tmp_path / "features"), tmp_path / "data.h5"
    content = users_own(target)
    with pytest.raises(UsageError, match=r"data\.h5' exists and is not a packed library"):
        pack(cache, target, lambda path, error: None)
    assert target.read_bytes() == content
    entry = next(iter(cache)).path
    copy = tmp_path / "entry.h5"
    copy.write_bytes(entry.read_bytes())
    with pytest.raises(UsageError, match="is not a packed library"):
        pack(cache, copy, lambda path, error: None)
    assert copy.read_bytes() == entry.read_bytes()
    target.unlink()
    for _ in range(2):  # our own is replaced
        assert pack(cache, target, lambda path, error: None).entries == 1


def test_text_replaces_text_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "scores.csv"
    target.write_text("old\n")
    write_text(["new\n"], target)
    assert target.read_text() == "new\n"
    content = users_own(tmp_path / "data.csv")
    with pytest.raises(UsageError, match="is not a text file"):
        write_text(["new\n"], tmp_path / "data.csv")
    assert (tmp_path / "data.csv").read_bytes() == content


def test_a_plot_replaces_a_picture_of_its_kind_and_nothing_else(tmp_path: Path) -> None:
    from matplotlib.figure import Figure

    target = tmp_path / "plot.png"
    content = users_own(target)
    with pytest.raises(UsageError, match="is not a picture of that kind"):
        save_figure(Figure(), target)
    assert target.read_bytes() == content
    target.unlink()
    for _ in range(2):
        save_figure(Figure(), target)
        assert target.read_bytes().startswith(b"\x89PNG")


def test_a_symbolic_link_stays_and_its_target_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    target, link, dangling = tmp_path / "elsewhere" / "real.csv", tmp_path / "link.csv", tmp_path / "dangling.csv"
    target.write_text("old\n")
    link.symlink_to(target)
    write_text(["new\n"], link)
    assert link.is_symlink()
    assert target.read_text() == "new\n"
    dangling.symlink_to(tmp_path / "elsewhere" / "made.csv")
    write_text(["made\n"], dangling)
    assert dangling.is_symlink()
    assert (tmp_path / "elsewhere" / "made.csv").read_text() == "made\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dangling.csv", "elsewhere", "link.csv"]


def test_a_device_is_written_to(tmp_path: Path) -> None:
    write_text(["nothing\n"], Path("/dev/null"))
    assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)
    if Path("/dev/full").exists():
        with pytest.raises(CacheError, match=r"/dev/full"):
            write_atomically(Path("/dev/full"), b"content")
        assert stat.S_ISCHR(Path("/dev/full").stat().st_mode)


def test_a_pipe_is_written_to(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        with replacing(pipe) as temporary:
            temporary.write_bytes(b"content")
        assert os.read(reader, 100) == b"content"
        assert stat.S_ISFIFO(pipe.stat().st_mode)
    finally:
        os.close(reader)
