"""`clipcache cache ls`, `info` and `verify`, and what `verify` calls bad."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from cache_entries import FRAMES, MODEL_DIR, change_attributes, make_attributes, put_entry, sha256_of
from click.testing import CliRunner, Result
from clipcache.cache import FeatureCache
from clipcache.cache.common.atomic import remove_file
from clipcache.cache.common.errors import CacheError, NotCachedError
from clipcache.cache.common.quoting import one_line
from clipcache.cache.verify import problem_of, verify
from clipcache.cli import cli


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli, ["cache", *map(str, arguments)])


def spoil(path: Path, **attributes: object) -> None:
    with h5py.File(path, "r+") as file:
        file.attrs.update(attributes)


def test_ls_is_a_table_with_totals(tmp_path: Path) -> None:
    put_entry(tmp_path)
    put_entry(tmp_path, 20, video_name="line\nbreak.mp4", video_sha256=sha256_of("other"), sampling="fps=10")
    result = run("ls", "--cache", tmp_path)
    assert result.exit_code == 0
    assert result.stderr == ""
    head, *rows, total = result.stdout.splitlines()
    assert head.split() == "VIDEO MODEL FRAMES SECONDS SAMPLING COMPLETE PRECISION QUALITY MB ENTRY".split()
    assert len(rows) == 2
    (holiday,) = [row.split() for row in rows if row.startswith("holiday.mp4")]
    assert holiday[1:8] == ["ViT-B/32", "50", "2.00", "all", "yes", "fp32", "no"]
    assert any(r"line\nbreak.mp4" in row and "fps=10" in row for row in rows)
    assert total.startswith(f"2 entries, {FRAMES + 20} frames, ")


def test_nothing_of_a_foreign_entry_reaches_the_terminal_raw(tmp_path: Path) -> None:
    odd = {"model": "ViT\x1b[2J", "precision": "fp\x1b[31m", "codec": "\x1b]0;x\x07", "source_path": "/all\x1b[0m"}
    path = put_entry(tmp_path, **odd)
    change_attributes(put_entry(tmp_path, video_sha256=sha256_of("b")), sampling="none\x1b[0m")
    for output in (run("ls", "--paths", "--cache", tmp_path).output, run("info", path).output):
        assert r"fp\x1b[31m" in output
        assert r"all\x1b[0m" in output
        assert not {"\x1b", "\x07"} & set(output)
    assert r"none\x1b[0m" in run("ls", "--cache", tmp_path).output


def test_ls_json_tells_everything(tmp_path: Path) -> None:
    path = put_entry(tmp_path, video_name="żółw.mp4")
    result = run("ls", "--json", "--cache", tmp_path)
    (entry,) = json.loads(result.stdout)
    assert entry["path"] == str(path)
    assert entry["video_name"] == "żółw.mp4"
    assert entry["frames"] == FRAMES
    assert entry["feature_dtype"] == "float16"
    assert entry["last_timestamp_ms"] == 1960.0
    assert entry["complete"] is True


def test_ls_names_bad_entries_on_stderr_and_goes_on(tmp_path: Path) -> None:
    put_entry(tmp_path)
    bad = put_entry(tmp_path, video_sha256=sha256_of("other"))
    bad.write_bytes(b"damaged")
    result = run("ls", "--cache", tmp_path)
    assert result.exit_code == 1
    assert result.stderr == f"clipcache: '{bad}' is not an HDF5 file; move it out of the cache.\n"
    assert "1 entries, 50 frames" in result.stdout


def test_ls_of_one_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put_entry(tmp_path)
    put_entry(tmp_path, model="ViT-L/14")
    monkeypatch.setenv("CLIPCACHE_CACHE", str(tmp_path))
    assert len(json.loads(run("ls", "--json").stdout)) == 2
    (entry,) = json.loads(run("ls", "--json", "--model", "ViT-L/14").stdout)
    assert entry["model"] == "ViT-L/14"


def test_ls_of_no_cache(tmp_path: Path) -> None:
    assert isinstance(run("ls", "--cache", tmp_path / "none").exception, CacheError)


def test_entries_of_one_name_are_told_apart(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        put_entry(tmp_path, video_sha256=sha256_of(folder), source_path=f"/videos/{folder}/holiday.mp4")
    put_entry(tmp_path, video_sha256=sha256_of("c"))
    _, *rows, _ = run("ls", "--cache", tmp_path).stdout.splitlines()
    assert len({row.split()[-1] for row in rows}) == 3, "by the names of their entries"
    head, *rows, _ = run("ls", "--paths", "--cache", tmp_path).stdout.splitlines()
    assert head.endswith("PATH")
    assert sorted(row.split()[-1] for row in rows) == ["/videos/a/holiday.mp4", "/videos/b/holiday.mp4", "known"]


def test_info_by_entry_and_by_video(tmp_path: Path) -> None:
    video = tmp_path / "v.mp4"
    video.write_bytes(b"holiday")
    path = put_entry(tmp_path / "cache")
    by_entry = run("info", path)
    assert by_entry.stdout == run("info", video, "--cache", tmp_path / "cache").stdout
    lines = dict(line.split(maxsplit=1) for line in by_entry.stdout.splitlines())
    assert lines["path"] == str(path)
    assert lines["frames"] == "50"
    assert lines["model"] == "ViT-B/32"
    assert lines["complete"] == "yes"
    assert lines["weights_sha256"] == "cd" * 32
    assert lines["source_path"] == lines["pooling"] == "not known"
    assert json.loads(run("info", path, "--json").stdout)["logit_scale"] == 100.0


def test_info_of_a_stranger(tmp_path: Path) -> None:
    put_entry(tmp_path)
    video = tmp_path / "v.mp4"
    video.write_bytes(b"never seen")
    assert isinstance(run("info", video, "--cache", tmp_path).exception, NotCachedError)


def test_verify_of_a_good_cache(tmp_path: Path) -> None:
    put_entry(tmp_path)
    put_entry(tmp_path, 20, sampling="every=3", video_sha256=sha256_of("other"), frames_expected=60)
    result = run("verify", "--cache", tmp_path)
    assert result.exit_code == 0
    assert result.stdout == "2 entries checked: 2 good, 0 bad\n"


def test_verify_lists_and_removes_the_bad(tmp_path: Path) -> None:
    good = put_entry(tmp_path)
    bad = put_entry(tmp_path, video_sha256=sha256_of("bad"))
    data = bytearray(bad.read_bytes())
    with h5py.File(bad) as file:
        offset = file["features"].id.get_chunk_info(0).byte_offset
    data[offset + 5] ^= 0xFF
    bad.write_bytes(data)
    result = run("verify", "--cache", tmp_path, "--json")
    assert isinstance(result.exception, SystemExit)
    assert result.exit_code == 1
    findings = {Path(one["path"]): one["problem"] for one in json.loads(result.stdout)}
    assert findings[good] is None
    assert findings[bad].startswith(f"'{bad}' is truncated or damaged")
    assert bad.exists()
    result = run("verify", "--cache", tmp_path, "--delete-bad")
    assert result.exit_code == 1
    assert "2 entries checked: 1 good, 1 bad" in result.stdout
    assert result.stderr == f"clipcache: removed '{bad}'\n"
    assert run("verify", "--cache", tmp_path).exit_code == 0
    assert good.exists()


def test_delete_bad_keeps_what_cannot_be_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    newer, folder, locked, bad = (put_entry(tmp_path, video_sha256=sha256_of(name)) for name in "abcd")
    spoil(newer, schema_version=3)
    folder.unlink()
    folder.mkdir()
    bad.write_bytes(b"damaged")
    real = Path.open

    def refuse(path: Path, *how: Any, **more: Any) -> Any:
        if path == locked:
            raise PermissionError(13, "Permission denied")
        return real(path, *how, **more)

    monkeypatch.setattr(Path, "open", refuse)
    result = run("verify", "--delete-bad", "--cache", tmp_path)
    assert isinstance(result.exception, SystemExit)
    assert result.exit_code == 1
    assert "4 entries checked: 0 good, 4 bad" in result.stdout
    assert "upgrade clipcache" in result.stdout
    assert "Permission denied" in result.stdout
    assert result.stderr == f"clipcache: removed '{bad}'\n"
    assert [path.exists() for path in (newer, folder, locked, bad)] == [True, True, True, False]


@pytest.mark.parametrize(
    ("attributes", "problem"),
    [
        ({"video_sha256": "0" * 64}, "another video"),
        ({"model": "ViT-L/14"}, "another model"),
        ({"weights_sha256": "0" * 64}, "another model"),
        ({"sampling": "fps=2"}, "named all but holds fps=2"),
        ({"frames_decoded": 49}, "49 were decoded"),
        ({"frames_decoded": 51}, "51 were decoded"),
        ({"frames_expected": 60}, "50 of 60"),
        ({"source_kind": "hologram"}, "hologram"),
        ({"fps": np.nan}, "the fps nan, which cannot be"),
    ],
)
def test_attributes_must_fit_name_and_data(tmp_path: Path, attributes: dict[str, object], problem: str) -> None:
    path = put_entry(tmp_path)
    assert problem_of(path) is None
    change_attributes(path, **attributes)
    found = problem_of(path)
    assert found is not None
    assert problem in found
    assert found.startswith(f"'{path}' ")


def test_features_must_be_finite(tmp_path: Path) -> None:
    path = put_entry(tmp_path)
    with h5py.File(path, "r+") as file:
        file["features"][7, 3] = np.inf
    assert "not finite" in str(problem_of(path))


def test_misnamed_and_misplaced_files_are_found(tmp_path: Path) -> None:
    path = put_entry(tmp_path)
    stray = path.rename(path.with_name("notes.h5"))
    (finding,) = verify(FeatureCache(tmp_path))
    assert finding.path == stray
    assert "does not have the name of an entry" in str(finding.problem)


def test_verify_of_one_model(tmp_path: Path) -> None:
    put_entry(tmp_path)
    put_entry(tmp_path, model="ViT-L/14").write_bytes(b"damaged")
    assert run("verify", "--cache", tmp_path, "--model", MODEL_DIR).exit_code == 0
    assert run("verify", "--cache", tmp_path).exit_code == 1


def test_removing_what_is_gone_is_fine_and_what_cannot_be_is_not(tmp_path: Path) -> None:
    remove_file(tmp_path / "gone")
    with pytest.raises(CacheError, match="Cannot remove"):
        remove_file(tmp_path)


def test_one_line_shows_any_text() -> None:
    assert one_line("żółw a\nb\t\x1b[31m\udce9") == "żółw a\\nb\\t\\x1b[31m\\xe9"


def test_importing_errors_loads_neither_numpy_nor_h5py() -> None:
    code = "import sys; from clipcache.cache import NotCachedError; print(sorted({'numpy', 'h5py'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert done.stdout == "[]\n"


def test_everything_offered_can_be_imported() -> None:
    import clipcache.cache as package

    for name in package.__all__:
        assert getattr(package, name) is not None
    with pytest.raises(AttributeError, match="nothing"):
        _ = package.nothing
    assert make_attributes() == package.EntryAttributes(**vars(make_attributes()))
