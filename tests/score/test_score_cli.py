"""`clipcache score` and `clipcache compare`, from the command line to the printed numbers."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import math
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
from click.testing import CliRunner, Result
from clipcache.cache import Entry, write_entry
from clipcache.cache.common.errors import ModelError, NotCachedError, UsageError
from clipcache.cli import cli
from score_caches import FRAMES, WEIGHTS, FakeEncoder, X, Y, Z, make_video, put

POOLED_X = 1.6 / math.hypot(1.6, 1.8)  # the three normalised frames add up to (1.6, 1.8, 0, 0)
STD_X = math.sqrt((1 + 0 + 0.36) / 3 - (1.6 / 3) ** 2)


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """A cache of one video, `a.mp4`, whose frames are `FRAMES`."""
    put(tmp_path / "features", make_video(tmp_path / "videos", "a.mp4"))
    return tmp_path / "features"


@pytest.fixture
def encoder(monkeypatch: pytest.MonkeyPatch) -> FakeEncoder:
    """Stands in for CLIP."""
    fake = FakeEncoder()

    def load_reference_encoder(
        model: str, weights_sha256: str, *, weights: Path | None, device: str, trust: bool
    ) -> FakeEncoder:
        fake.loaded.append((model, weights_sha256, weights, device))
        return fake

    module = types.ModuleType("clipcache.extract.models.prompts")
    vars(module)["load_reference_encoder"] = load_reference_encoder
    monkeypatch.setitem(sys.modules, "clipcache.extract.models.prompts", module)
    return fake


def run(*arguments: object) -> Result:
    """Run the program; the library's errors come out as they are."""
    result = CliRunner().invoke(cli, [str(argument) for argument in arguments])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def rows(*arguments: object) -> list[dict[str, Any]]:
    """What `--format json` gives."""
    result = run(*arguments, "--format", "json")
    assert result.exit_code == 0
    found: list[dict[str, Any]] = json.loads(result.stdout)
    return found


def test_one_video_and_one_prompt_read_as_a_person_would_say_it(cache: Path, encoder: FakeEncoder) -> None:
    assert run("score", "--cache", cache, "--text", "x axis").stdout == (
        "Frames analyzed: 3\n"
        "Mean CLIP score (video-to-text): 0.5333 (cosine, -1 to 1)\n"
        "Median CLIP score (video-to-text): 0.6000 (cosine, -1 to 1)\n"
        "Min CLIP score (video-to-text): 0.0000 (cosine, -1 to 1)\n"
        "Max CLIP score (video-to-text): 1.0000 (cosine, -1 to 1), at 0.000 s\n"
        "Std CLIP score (video-to-text): 0.4110 (cosine, of the population)\n"
        "Pooled CLIP score (video-to-text): 0.6644 (cosine with the mean of the normalised frames, -1 to 1)\n"
        "Model: ViT-B/32 (weights 44444444, fp32)\n"
    )
    assert encoder.loaded == [("ViT-B/32", WEIGHTS, None, "auto")]


def test_json_holds_every_statistic_and_what_it_was_made_with(cache: Path, encoder: FakeEncoder) -> None:
    (row,) = rows("score", "--cache", cache, "--text", "x axis")
    assert row["video"] == "a.mp4"
    assert (row["comparison"], row["reference"], row["frames"]) == ("video-to-text", "x axis", 3)
    assert row["mean_cosine"] == pytest.approx(1.6 / 3, abs=1e-6)
    assert row["median_cosine"] == pytest.approx(0.6, abs=1e-6)
    assert (row["min_cosine"], row["max_cosine"]) == pytest.approx((0, 1), abs=1e-6)
    assert row["max_at_ms"] == 0
    assert row["std_cosine"] == pytest.approx(STD_X, abs=1e-6)
    assert row["pooled_cosine"] == pytest.approx(POOLED_X, abs=1e-6)
    assert row["frames_ignored"] == 0
    assert (row["model"], row["weights_sha256"], row["precision"]) == ("ViT-B/32", WEIGHTS, "fp32")
    assert (row["sampling"], row["complete"]) == ("all", True)


def test_every_kind_of_reference_gives_a_row_for_every_video(cache: Path, encoder: FakeEncoder, tmp_path: Path) -> None:
    put(cache, make_video(tmp_path / "videos", "b.mp4"), FRAMES[:2])
    (tmp_path / "prompts.txt").write_text("y axis\nz axis\n")
    (tmp_path / "up.jpg").write_text("y axis")
    np.save(tmp_path / "given.npy", np.array([-X]))
    options = ["--text", "x axis", "--text-file", tmp_path / "prompts.txt", "--image", tmp_path / "up.jpg"]
    options += ["--text-embeddings", tmp_path / "given.npy", "--video", tmp_path / "videos" / "b.mp4"]
    found = rows("score", tmp_path / "videos", "--cache", cache, *options)
    table = [
        (row["video"], row["comparison"], row["reference"], row["frames"], round(row["mean_cosine"], 4))
        for row in found
    ]
    assert table == [
        ("a.mp4", "video-to-text", "x axis", 3, 0.5333),
        ("a.mp4", "video-to-text", "y axis", 3, 0.6),
        ("a.mp4", "video-to-text", "z axis", 3, 0),
        ("a.mp4", "video-to-image", "up.jpg", 3, 0.6),
        ("a.mp4", "video-to-embedding", "given.npy[0]", 3, -0.5333),
        ("a.mp4", "video-to-video", "b.mp4", 2, 1),
        ("b.mp4", "video-to-text", "x axis", 2, 0.5),
        ("b.mp4", "video-to-text", "y axis", 2, 0.5),
        ("b.mp4", "video-to-text", "z axis", 2, 0),
        ("b.mp4", "video-to-image", "up.jpg", 2, 0.5),
        ("b.mp4", "video-to-embedding", "given.npy[0]", 2, -0.5),
        ("b.mp4", "video-to-video", "b.mp4", 2, 1),
    ]
    assert len(encoder.loaded) == 1


def test_a_reference_video_of_another_length_is_said(cache: Path, tmp_path: Path) -> None:
    short = make_video(tmp_path / "videos", "b.mp4")
    put(cache, short, np.array([Y, Y]))
    video = tmp_path / "videos" / "a.mp4"
    text = run("score", video, "--cache", cache, "--video", short).stdout
    assert "Frames analyzed: 2\nMean CLIP score (video-to-video): 0.5000" in text
    assert "Frames ignored: 1 " in text
    (row,) = rows("score", short, "--cache", cache, "--video", video)
    assert (row["frames"], row["frames_ignored"]) == (2, 1)
    frames = rows("score", video, "--cache", cache, "--video", short, "--per-frame")
    assert [row["cosine"] for row in frames] == pytest.approx([0, 1], abs=1e-6)


def test_frames_meet_by_their_place_in_the_video(cache: Path, tmp_path: Path) -> None:
    partial = make_video(tmp_path / "videos", "partial.mp4")
    put(cache, partial, np.array([X, 3 * X + 4 * Y, Z]), frame_index=[0, 2, 5], complete=False, frames_expected=6)
    whole = tmp_path / "videos" / "a.mp4"
    for target, reference in ((whole, partial), (partial, whole)):
        arguments = ["score", target, "--cache", cache, "--video", reference]
        (row,) = rows(*arguments)
        assert row["mean_cosine"] == pytest.approx(1, abs=1e-6), "2 meets 2, not 1"
        assert (row["frames"], row["frames_ignored"]) == (2, 2)
        frames = rows(*arguments, "--per-frame")
        assert [(row["frame_index"], row["timestamp_ms"]) for row in frames] == [(0, 0), (2, 200)]


def test_images_meet_by_their_place_too(cache: Path, tmp_path: Path) -> None:
    images = make_video(tmp_path / "videos", "burst")
    put(cache, images, np.array([Y, X]), frame_index=[1, 2], frame_names=["2.jpg", "3.jpg"])
    (row,) = rows("score", images, "--cache", cache, "--video", tmp_path / "videos" / "a.mp4")
    assert row["mean_cosine"] == pytest.approx((1 + 0.6) / 2, abs=1e-6)
    assert (row["frames"], row["frames_ignored"], row["max_at_ms"]) == (2, 1, None)


def test_at_one_rate_frames_of_one_time_meet_whatever_the_videos_own_rates(cache: Path, tmp_path: Path) -> None:
    faster = make_video(tmp_path / "videos", "faster.mp4")
    put(cache, faster, FRAMES.repeat(3, axis=0), fps=30.0, step_ms=100 / 3)
    arguments = ["score", tmp_path / "videos" / "a.mp4", "--cache", cache, "--video", faster, "--fps", 10]
    for more in ([], ["--start", 0.1]):
        (row,) = rows(*arguments, *more)
        assert row["mean_cosine"] == pytest.approx(1, abs=1e-6)
        assert row["frames_ignored"] == 0


def test_videos_sampled_differently_are_not_paired_and_the_rest_is_scored(cache: Path, tmp_path: Path) -> None:
    video, sampled = tmp_path / "videos" / "a.mp4", make_video(tmp_path / "videos", "sampled.mp4")
    put(cache, sampled, FRAMES[::2], frame_index=[0, 2], sampling="every=2")
    arguments = ["score", video, "--cache", cache, "--video", sampled]
    result = run(*arguments, "--video", video, "--format", "json")
    assert result.exit_code == 1
    assert [(row["reference"], row["frames"]) for row in json.loads(result.stdout)] == [("a.mp4", 3)]
    (sentence,) = [line for line in result.stderr.splitlines() if "Skipped" in line]
    for part in ("'a.mp4' (all)", "'sampled.mp4' (every=2)", "--fps or --every"):
        assert part in sentence
    (row,) = rows(*arguments, "--every", 2)
    assert (row["frames"], row["frames_ignored"]) == (2, 0)
    assert row["mean_cosine"] == pytest.approx(1, abs=1e-6)


def test_videos_without_a_common_frame_are_skipped_aloud(cache: Path, tmp_path: Path) -> None:
    late = make_video(tmp_path / "videos", "late.mp4")
    put(cache, late, frame_index=[7, 8, 9], complete=False, frames_expected=10)
    result = run("score", tmp_path / "videos" / "a.mp4", "--cache", cache, "--video", late, "--format", "json")
    assert (result.exit_code, json.loads(result.stdout)) == (1, [])
    assert "no frame in common" in result.stderr


def test_the_time_of_the_best_frame_is_told(cache: Path, encoder: FakeEncoder) -> None:
    arguments = ["score", "--cache", cache, "--text", "y axis"]
    assert rows(*arguments)[0]["max_at_ms"] == 100
    assert rows(*arguments, "--start", 0.15)[0]["max_at_ms"] == 200
    assert "Max CLIP score (video-to-text): 1.0000 (cosine, -1 to 1), at 0.100 s\n" in run(*arguments).stdout
    header, first, _, note = run(*arguments, "--text", "x axis").stdout.splitlines()
    assert dict(zip(header.split(), first.replace("y axis", "y").split(), strict=True))["max_at_ms"] == "100.0000"
    assert "max_at_ms: time of the frame with the highest cosine, milliseconds" in note


def test_images_have_no_time_of_the_best_frame(tmp_path: Path, encoder: FakeEncoder) -> None:
    put(tmp_path / "features", tmp_path / "burst", frame_names=["1.jpg", "2.jpg", "3.jpg"], video_sha256="c" * 64)
    arguments = ["score", "--cache", tmp_path / "features", "--text", "y axis"]
    assert rows(*arguments)[0]["max_at_ms"] is None
    assert "Max CLIP score (video-to-text): 1.0000 (cosine, -1 to 1)\n" in run(*arguments).stdout


def test_nothing_of_a_foreign_entry_reaches_the_terminal_raw(cache: Path, encoder: FakeEncoder, tmp_path: Path) -> None:
    put(
        cache,
        make_video(tmp_path / "videos", "evil\x1b[2J.mp4"),
        model="ViT-B/32\x1b]0;x\x07",
        precision="fp\x9b31m",
    )
    (foreign,) = cache.glob("ViT-B-32-0-x*/*/*.h5")
    alone = ["score", foreign, "--cache", cache, "--text", "x axis"]
    outputs = [run(*alone, *more).output for more in ([], ["--format", "json"], ["--per-frame"])]
    outputs.append(run(*alone, "--text", "y axis").output)
    with pytest.raises(UsageError, match="several models") as caught:
        run("score", foreign, *cache.glob("ViT-B-32-4*/*/*.h5"), "--text", "x axis")
    for output in (*outputs, str(caught.value)):
        assert not {"\x1b", "\x07", "\x9b"} & set(output)
        assert output


def test_a_remembered_vector_of_another_length_is_encoded_again(cache: Path, encoder: FakeEncoder) -> None:
    arguments = ["score", "--cache", cache, "--text", "x axis", "--text", "y axis"]
    expected = rows(*arguments)
    for path in cache.rglob("references/*/*.npy"):
        np.save(path, np.ones(7, np.float32))
        break
    assert rows(*arguments) == expected
    assert len(encoder.loaded) == 2


def test_per_frame_gives_each_frame_with_its_time(cache: Path, encoder: FakeEncoder) -> None:
    found = rows("score", "--cache", cache, "--text", "x axis", "--per-frame")
    assert [row["frame_index"] for row in found] == [0, 1, 2]
    assert [row["timestamp_ms"] for row in found] == [0, 100, 200]
    assert [row["cosine"] for row in found] == pytest.approx([1, 0, 0.6], abs=1e-6)
    assert {(row["video"], row["reference"], row["frame_name"]) for row in found} == {("a.mp4", "x axis", None)}


def test_per_frame_of_images_gives_their_names(tmp_path: Path, encoder: FakeEncoder) -> None:
    names = ["1.jpg", "2.jpg", "10.jpg"]
    put(tmp_path / "features", tmp_path / "burst", frame_names=names, video_sha256="c" * 64)
    arguments = ["score", "--cache", tmp_path / "features", "--text", "x axis", "--per-frame"]
    assert [row["frame_name"] for row in rows(*arguments)] == names
    header, first, *_ = run(*arguments).stdout.splitlines()
    assert "frame_name" in header
    assert "1.jpg" in first


@pytest.mark.parametrize(
    ("options", "indices"),
    [
        (["--every", 2], [0, 2]),
        (["--fps", 5], [0, 2]),
        (["--start", 0.1], [1, 2]),
        (["--end", 0.2], [0, 1]),
        (["--start", 0.1, "--end", 0.2], [1]),
    ],
    ids=str,
)
def test_slices_choose_frames_at_read_time(
    cache: Path, encoder: FakeEncoder, options: list[object], indices: list[int]
) -> None:
    found = rows("score", "--cache", cache, "--text", "x axis", "--per-frame", *options)
    assert [row["frame_index"] for row in found] == indices
    assert [row["cosine"] for row in found] == pytest.approx([(1, 0, 0.6)[i] for i in indices], abs=1e-6)


def test_slices_apply_to_the_reference_video_too(cache: Path, tmp_path: Path) -> None:
    video = tmp_path / "videos" / "a.mp4"
    found = rows("score", video, "--cache", cache, "--video", video, "--per-frame", "--every", 2)
    assert [row["cosine"] for row in found] == pytest.approx([1, 1], abs=1e-6)


def test_csv_and_json_lines_say_what_json_says(cache: Path, encoder: FakeEncoder) -> None:
    arguments = ["score", "--cache", cache, "--text", 'say "x", then\ny', "--text", "x axis"]
    expected = rows(*arguments)
    lines = run(*arguments, "--format", "jsonl").stdout.splitlines()
    assert [json.loads(line) for line in lines] == expected
    records = list(csv.DictReader(io.StringIO(run(*arguments, "--format", "csv").stdout)))
    assert records == [{name: str(cell) for name, cell in row.items()} for row in expected]


def test_the_table_is_aligned_and_keeps_to_one_line_a_row(cache: Path, encoder: FakeEncoder) -> None:
    header, first, second, note = run(
        "score", "--cache", cache, "--text", "x axis", "--text", "two\nlines"
    ).stdout.splitlines()
    assert header.split()[-1] == "pooled_cosine"
    assert first.endswith("0.6644")
    assert len(first) == len(second) == len(header)
    assert r"two\nlines" in second
    assert "-1 to 1" in note


def test_output_appears_whole_or_not_at_all(cache: Path, encoder: FakeEncoder, tmp_path: Path) -> None:
    output = tmp_path / "scores.csv"
    arguments = ["score", "--cache", cache, "--text", "x axis", "--format", "csv"]
    assert run(*arguments, "--output", output).stdout == ""
    assert output.read_text() == run(*arguments).stdout
    with pytest.raises(UsageError, match="no such folder"):
        run(*arguments, "--output", tmp_path / "no such folder" / "scores.csv")
    assert {path.name for path in tmp_path.iterdir()} == {"features", "videos", "scores.csv"}


def test_an_output_that_fails_half_way_leaves_the_old_file(
    cache: Path, encoder: FakeEncoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise KeyboardInterrupt

    output = tmp_path / "scores.csv"
    output.write_text("old")
    monkeypatch.setattr("clipcache.score.tables.summary_rows", lambda _: map(fail, [1]))
    result = CliRunner().invoke(
        cli, ["score", "--cache", str(cache), "--text", "x axis", "--format", "csv", "--output", str(output)]
    )
    assert result.exit_code == 1
    assert output.read_text() == "old"
    assert {path.name for path in tmp_path.iterdir()} == {"features", "videos", "scores.csv"}


def test_a_bad_entry_is_skipped_aloud_with_exit_code_1(cache: Path, encoder: FakeEncoder, tmp_path: Path) -> None:
    bad = put(cache, make_video(tmp_path / "videos", "bad.mp4"))
    bad.write_bytes(bad.read_bytes()[:200])
    result = run("score", "--cache", cache, "--text", "x axis", "--format", "json")
    assert result.exit_code == 1
    assert [row["video"] for row in json.loads(result.stdout)] == ["a.mp4"]
    assert "Skipped" in result.stderr
    assert bad.name in result.stderr


def test_features_that_are_not_finite_are_not_scored(
    cache: Path, encoder: FakeEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoilt = np.where(np.arange(4) == 1, np.nan, FRAMES)
    monkeypatch.setattr("clipcache.cache.entry.Entry.iter_features", lambda _: iter([spoilt]))
    result = run("score", "--cache", cache, "--text", "x axis", "--format", "json")
    assert (result.exit_code, json.loads(result.stdout)) == (1, [])
    assert "not finite" in result.stderr


def test_a_range_beyond_one_video_skips_that_one(cache: Path, encoder: FakeEncoder, tmp_path: Path) -> None:
    put(cache, make_video(tmp_path / "videos", "long.mp4"), np.repeat(FRAMES, 4, axis=0))
    result = run("score", "--cache", cache, "--text", "x axis", "--start", 0.5, "--format", "json")
    assert result.exit_code == 1
    assert [(row["video"], row["frames"]) for row in json.loads(result.stdout)] == [("long.mp4", 7)]
    assert "a.mp4" in result.stderr


def test_entries_made_differently_are_pointed_out_on_stderr(cache: Path, encoder: FakeEncoder, tmp_path: Path) -> None:
    put(cache, make_video(tmp_path / "videos", "b.mp4"), precision="bf16")
    result = run("score", "--cache", cache, "--text", "x axis", "--format", "json")
    assert (result.exit_code, len(json.loads(result.stdout))) == (0, 2)
    assert result.stderr.count("\n") == 1
    assert "precision" in result.stderr


@pytest.mark.parametrize(
    "options",
    [
        [],
        ["--text", "x", "--fps", 2, "--every", 2],
        ["--text", "x", "--fps", 0.0001],
        ["--text", "x", "--start", 2, "--end", 1],
    ],
    ids=str,
)
def test_requests_that_make_no_sense_are_refused(cache: Path, encoder: FakeEncoder, options: list[object]) -> None:
    with pytest.raises(UsageError):
        run("score", "--cache", cache, *options)
    assert not encoder.loaded


def test_a_long_prompt_is_an_error_unless_truncated(cache: Path, encoder: FakeEncoder) -> None:
    long = "word " * 80
    with pytest.raises(ModelError, match="word word"):
        run("score", "--cache", cache, "--text", long)
    assert run("score", "--cache", cache, "--text", long, "--truncate").exit_code == 0


def test_a_reference_video_must_be_a_single_one(cache: Path, tmp_path: Path) -> None:
    put(cache, make_video(tmp_path / "videos", "b.mp4"))
    with pytest.raises(UsageError, match="2 videos"):
        run("score", "--cache", cache, "--video", tmp_path / "videos")


def test_extract_missing_runs_extract_and_keeps_stdout_clean(
    cache: Path, encoder: FakeEncoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    new = make_video(tmp_path / "videos", "new.mp4")
    asked: list[list[str]] = []

    @click.command("extract", context_settings={"ignore_unknown_options": True})
    @click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
    def extract(arguments: tuple[str, ...]) -> None:
        asked.append(list(arguments))
        click.echo("3 videos done")
        put(cache, new)

    monkeypatch.setitem(cli.commands, "extract", extract)
    arguments = ["score", new, "--cache", cache, "--text", "x axis"]
    with pytest.raises(NotCachedError):
        run(*arguments)
    assert not asked
    (row,) = rows(*arguments, "--extract-missing", "--device", "cpu")
    assert row["video"] == "new.mp4"
    (given,) = asked
    assert given[-1] == str(new)
    assert given[given.index("--cache") + 1] == str(cache)
    assert given[given.index("--device") + 1] == "cpu"


def test_an_interrupted_extraction_ends_the_command_with_its_code(
    cache: Path, encoder: FakeEncoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    @click.command("extract", context_settings={"ignore_unknown_options": True})
    @click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
    def extract(arguments: tuple[str, ...]) -> None:
        raise click.exceptions.Exit(130)

    monkeypatch.setitem(cli.commands, "extract", extract)
    new = make_video(tmp_path / "videos", "new.mp4")
    assert run("score", new, "--cache", cache, "--text", "x axis", "--extract-missing").exit_code == 130


def test_a_repeated_question_imports_no_torch_and_no_decoder(cache: Path, encoder: FakeEncoder, tmp_path: Path) -> None:
    image = tmp_path / "up.jpg"
    image.write_text("y axis")
    arguments = ["score", str(tmp_path / "videos" / "a.mp4"), "--cache", str(cache)]
    arguments += ["--text", "x axis", "--image", str(image), "--format", "json"]
    first = run(*arguments).stdout
    program = (
        "import json, sys\n"
        "from clipcache.cli import cli\n"
        f"cli.main({arguments!r}, standalone_mode=False)\n"
        "heavy = {'torch', 'av', 'PIL', 'decord', 'clip', 'torchvision', 'matplotlib'}\n"
        "print(json.dumps(sorted(heavy & set(sys.modules))), file=sys.stderr)\n"
    )
    again = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert again.stdout == first
    assert json.loads(again.stderr) == []
    assert len(encoder.loaded) == 1


def test_compare_gives_the_cosine_of_two_images_and_remembers(
    cache: Path, encoder: FakeEncoder, tmp_path: Path
) -> None:
    for name, content in (("a.jpg", "x axis"), ("b.jpg", "y axis")):
        (tmp_path / name).write_text(content)
    expected = "CLIP score (image-to-image): 0.0000 (cosine, -1 to 1)\n"
    for _ in range(2):
        assert run("compare", tmp_path / "a.jpg", tmp_path / "b.jpg", "--cache", cache).stdout == expected
    assert encoder.images == ["a.jpg", "b.jpg"]
    assert encoder.loaded == [("ViT-B/32", WEIGHTS, None, "auto")]


def test_compare_works_without_a_cache_and_makes_none(encoder: FakeEncoder, tmp_path: Path) -> None:
    image = tmp_path / "a.jpg"
    image.write_text("x axis")
    result = run("compare", image, image, "--cache", tmp_path / "none")
    assert result.stdout == "CLIP score (image-to-image): 1.0000 (cosine, -1 to 1)\n"
    published = "40d365715913c9da98579312b702a82c18be219cc2a73407c4526f58eba950af"  # as in the address of OpenAI's file
    assert encoder.loaded == [("ViT-B/32", published, None, "auto")]
    assert not (tmp_path / "none").exists()


def test_compare_uses_the_weights_it_is_given(encoder: FakeEncoder, tmp_path: Path) -> None:
    image, weights = tmp_path / "a.jpg", tmp_path / "my.pt"
    image.write_text("x axis")
    weights.write_bytes(b"weights")
    run("compare", image, image, "--cache", tmp_path / "none", "--weights", weights, "--model", "mine")
    assert encoder.loaded == [("mine", hashlib.sha256(b"weights").hexdigest(), weights, "auto")]
    folder = tmp_path / "saved"
    folder.mkdir()
    weights.rename(folder / "model.safetensors")
    run("compare", image, image, "--cache", tmp_path / "none", "--weights", folder, "--model", "mine")
    assert encoder.loaded[1] == ("mine", hashlib.sha256(b"weights").hexdigest(), folder, "auto")


def test_real_features_put_barbell_first(test_data: Path, tmp_path: Path) -> None:
    reference = test_data / "clip_reference"
    features = np.load(reference / "v_GGSY1Qvo990_clip.npy")
    times = np.load(reference / "v_GGSY1Qvo990_timestamps_ms.npy")
    video = test_data / "videos" / "v_GGSY1Qvo990.mp4"
    entry = put(tmp_path / "scratch", video, features, fps=float(np.load(reference / "v_GGSY1Qvo990_fps.npy")))
    write_entry(tmp_path / "features", Entry(entry).attributes, features, times, np.arange(len(times)))
    found = rows(
        "score", video, "--cache", tmp_path / "features", "--text-embeddings", reference / "lvis_text_features.npz"
    )
    assert len(found) == 1203
    best = sorted(found, key=lambda row: -row["mean_cosine"])[:3]
    assert [(row["reference"], round(row["mean_cosine"], 3)) for row in best] == [
        ("barbell", 0.299),
        ("mat_(gym_equipment)", 0.259),
        ("dumbbell", 0.251),
    ]
    assert {row["frames"] for row in found} == {355}


def test_a_plot_comes_beside_the_table(cache: Path, encoder: FakeEncoder, tmp_path: Path) -> None:
    plain = run("score", "--cache", cache, "--text", "x axis")
    drawn = run("score", "--cache", cache, "--text", "x axis", "--plot", tmp_path / "plot.png")
    assert drawn.exit_code == 0, drawn.output
    assert drawn.stdout == plain.stdout
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")
