"""`clipcache search`, from the command line to printed rows, edit lists and pictures."""

from __future__ import annotations

import csv
import io
import json
import re
import shlex
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from checkout import CHECKOUT
from click.testing import CliRunner, Result
from clipcache.cache import Entry
from clipcache.cache.common.errors import ClipcacheError, UsageError
from clipcache.cache.common.hashing import DigestMemo
from clipcache.cli import cli
from demo_library import DemoLibrary
from PIL import Image
from score_caches import FakeEncoder, X, Y, Z, make_video, put

# Ten frames a second: x from 1.0 to 2.0 s, half of it from 0.5 s on and until 2.5 s, and y at 4.0 s.
SHOWN = np.array([Z] * 5 + [X + Z] * 5 + [X] * 10 + [X + Z] * 5 + [Z] * 15 + [Y] + [Z] * 9)


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """A cache of `a.mp4`, which shows `SHOWN`, and `b.mp4`, of three frames."""
    put(tmp_path / "features", make_video(tmp_path / "videos", "a.mp4"), SHOWN)
    put(tmp_path / "features", make_video(tmp_path / "videos", "b.mp4"), np.array([Y, Z, X + 2 * Y]))
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
    """Run `clipcache search`; the library's errors come out as they are."""
    result = CliRunner().invoke(cli, ["search", *map(str, arguments)])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def rows(*arguments: object) -> list[dict[str, Any]]:
    """What `--format json` gives."""
    result = run(*arguments, "--format", "json")
    assert result.exit_code == 0, result.output
    found: list[dict[str, Any]] = json.loads(result.stdout)
    return found


def places(found: list[dict[str, Any]]) -> list[tuple[str, float]]:
    return [(row["video"], row["at_ms"]) for row in found]


def test_the_best_frames_come_as_a_table(cache: Path, encoder: FakeEncoder) -> None:
    assert run("x axis", "--cache", cache, "--top", 3, "--threshold", 0.4).stdout == (
        "query   rank  video  time         cosine\n"
        "x axis     1  a.mp4  0:00:01.000  1.0000\n"
        "x axis     2  a.mp4  0:00:02.000  0.7071\n"
        "x axis     3  b.mp4  0:00:00.200  0.4472\n"
        "cosine: with the query, -1 to 1; time: h:mm:ss on the container's clock\n"
    )


def test_json_says_which_frame_of_which_content(cache: Path, encoder: FakeEncoder) -> None:
    found = rows("y axis", "--cache", cache, "--top", 2, "--min-gap", 0)
    entry = Entry(next(cache.rglob("a-*.h5")))
    assert found[0] == {
        "query": "y axis",
        "rank": 1,
        "video": "a.mp4",
        "at_ms": 4000,
        "frame_index": 40,
        "frame_name": None,
        "cosine": 1,
        "thumbnail": None,
        "video_sha256": entry.video_sha256,
    }
    assert places(found) == [("a.mp4", 4000), ("b.mp4", 0)]


def test_the_frames_of_a_video_keep_their_distance(cache: Path, encoder: FakeEncoder) -> None:
    assert places(rows("x axis", "--cache", cache, "--min-gap", 0, "--top", 4)) == [
        ("a.mp4", 1000 + 100 * n) for n in range(4)
    ]
    found = rows("x axis", "--cache", cache, "--min-gap", 0.5, "--threshold", 0.7)
    assert places(found) == [("a.mp4", 1000), ("a.mp4", 1500), ("a.mp4", 500), ("a.mp4", 2000)]
    assert places(rows("x axis", "--cache", cache, "--per-video", 1)) == [("a.mp4", 1000), ("b.mp4", 200)]


def test_queries_are_sums_with_or_without_the_shell(cache: Path, encoder: FakeEncoder) -> None:
    options = ["--cache", cache, "--per-video", 1]
    quoted = rows('0.5*"x axis" + "y axis"', *options)
    assert quoted[0]["video"] == "b.mp4"
    assert quoted[0]["cosine"] == pytest.approx(1, abs=1e-3)
    as_words = rows("0.5*x axis", "+", "y axis", *options)
    assert [row["query"] for row in quoted] == [row["query"] for row in as_words] == ['0.5*"x axis" + "y axis"'] * 2
    assert places(as_words) == places(quoted)
    assert rows("x axis", "-", "z axis", *options)[0]["cosine"] == pytest.approx(np.sqrt(0.5), abs=1e-3)


def test_images_are_a_query_or_join_one(cache: Path, encoder: FakeEncoder, tmp_path: Path) -> None:
    image = tmp_path / "q.jpg"
    image.write_text("y axis")
    (alone,) = rows("--image", image, "--cache", cache, "--top", 1)
    assert (alone["query"], alone["video"], alone["at_ms"]) == ("[q.jpg]", "a.mp4", 4000)
    (joined,) = rows('0.5*"x axis"', "--image", image, "--cache", cache, "--top", 1)
    assert (joined["query"], joined["video"]) == ('0.5*"x axis" + [q.jpg]', "b.mp4")


def test_many_queries_take_one_pass(
    cache: Path, encoder: FakeEncoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = []
    whole = Entry.iter_features
    monkeypatch.setattr(Entry, "iter_features", lambda entry, n: read.append(entry.path.name) or whole(entry, n))
    (tmp_path / "queries.txt").write_text('# three\ny axis\n"x axis" - "y axis"\n\nz axis\n')
    found = rows("x axis", "--queries", tmp_path / "queries.txt", "--cache", cache, "--top", 1)
    assert [(row["query"], row["rank"], row["video"], row["at_ms"]) for row in found] == [
        ("x axis", 1, "a.mp4", 1000),
        ("y axis", 1, "a.mp4", 4000),
        ('"x axis" - "y axis"', 1, "a.mp4", 1000),
        ("z axis", 1, "a.mp4", 0),
    ]
    assert len(read) == 2  # one reading of each of the two videos
    assert len(encoder.loaded) == 1


def test_a_search_may_be_of_some_videos_and_some_frames(cache: Path, encoder: FakeEncoder, tmp_path: Path) -> None:
    video = tmp_path / "videos" / "a.mp4"
    assert {row["video"] for row in rows("y axis", "--cache", cache, "--in", video)} == {"a.mp4"}
    assert places(rows("x axis", "--cache", cache, "--in", video, "--start", 2.2, "--top", 1)) == [("a.mp4", 2200)]
    assert places(rows("x axis", "--cache", cache, "--in", video, "--fps", 1, "--threshold", 0.7)) == [
        ("a.mp4", 1000),
        ("a.mp4", 2000),
    ]


def test_a_video_that_is_cached_twice_is_found_once(cache: Path, encoder: FakeEncoder, tmp_path: Path) -> None:
    video = tmp_path / "videos" / "a.mp4"
    put(cache, video, SHOWN[::10], frame_index=range(0, 50, 10), sampling="every=10")
    assert len(list(cache.rglob("a-*.h5"))) == 2
    found = rows("x axis", "--cache", cache, "--min-gap", 0, "--threshold", 0.99)
    assert places(found) == [("a.mp4", 1000 + 100 * n) for n in range(10)]


def test_images_of_a_folder_are_found_by_name(cache: Path, encoder: FakeEncoder, tmp_path: Path) -> None:
    put(cache, make_video(tmp_path, "burst"), np.array([X + Y, 3 * X + Y]), frame_names=["1.jpg", "2.jpg"])
    found = rows("x axis", "+", "y axis", "--cache", cache, "--top", 2)
    assert [(row["video"], row["frame_name"], row["at_ms"]) for row in found] == [
        ("burst", "1.jpg", None),
        ("b.mp4", None, 200),
    ]
    result = run("x axis", "--cache", cache, "--in", next(cache.rglob("burst-*.h5")))
    assert "time" not in result.stdout.splitlines()[0]
    assert result.stdout.splitlines()[1].split()[-2:] == ["2.jpg", "0.9487"]


def test_moments_are_stated_with_their_thresholds(cache: Path, encoder: FakeEncoder) -> None:
    given = ["x axis", "--cache", cache, "--moments", "--high", 0.9, "--low", 0.6]
    (moment,) = rows(*given)
    assert (moment["video"], moment["start_ms"], moment["end_ms"], moment["peak_ms"]) == ("a.mp4", 500, 2500, 1000)
    assert (moment["peak_cosine"], moment["high_cosine"], moment["low_cosine"]) == (1, 0.9, 0.6)
    assert run(*given).stdout == (
        "query   rank  video  start        end          peak         peak_cosine\n"
        "x axis     1  a.mp4  0:00:00.500  0:00:02.500  0:00:01.000       1.0000\n"
        "peak_cosine: with the query, -1 to 1; times: h:mm:ss on the container's clock, the end exclusive\n"
        "x axis: moments reach a cosine of 0.9000 and last while it is 0.6000 or more\n"
    )


def test_thresholds_are_chosen_for_each_query(cache: Path, encoder: FakeEncoder) -> None:
    """Most frames have a cosine of 0 with x: three quarters of the way to the best is 0.75, half of it 0.5."""
    (moment,) = rows("x axis", "--cache", cache, "--moments")
    assert (moment["start_ms"], moment["end_ms"]) == (500, 2500)
    assert (moment["high_cosine"], moment["low_cosine"]) == pytest.approx((0.75, 0.5), abs=1e-3)
    by_threshold = rows("x axis", "--cache", cache, "--moments", "--threshold", 0.4, "--low", 0.4)
    assert [(row["video"], row["start_ms"], row["high_cosine"]) for row in by_threshold] == [
        ("a.mp4", 500, 0.4),
        ("b.mp4", 200, 0.4),
    ]


def test_moments_of_a_cache_with_an_unreadable_entry(cache: Path, encoder: FakeEncoder, tmp_path: Path) -> None:
    torn = put(cache, make_video(tmp_path, "torn.mp4"))
    data = bytearray(torn.read_bytes())
    place = data.find(np.float16(2 * X).tobytes())
    data[place : place + 2] = b"\xff\x01"  # the checksum of the features tells, and only when they are read
    torn.write_bytes(data)
    result = run("x axis", "--cache", cache, "--moments", "--format", "csv")
    assert result.exit_code == 1
    assert [row["video"] for row in csv.DictReader(io.StringIO(result.stdout))] == ["a.mp4"]
    assert result.stderr.count("torn") == 1  # though the features were gone through twice


def test_an_edit_list_is_written_to_a_file(cache: Path, encoder: FakeEncoder, tmp_path: Path) -> None:
    result = run("x axis", "--cache", cache, "--moments", "--format", "edl", "--output", tmp_path / "cut.edl")
    assert (result.exit_code, result.stdout) == (0, "")
    lines = (tmp_path / "cut.edl").read_text().splitlines()
    assert "001  AX       V     C        00:00:00:13 00:00:02:13 00:00:00:00 00:00:02:00" in lines
    assert "* FROM CLIP NAME: a.mp4" in lines


def test_ffmpeg_gets_the_file_wherever_it_is(cache: Path, encoder: FakeEncoder, tmp_path: Path) -> None:
    video = tmp_path / "videos" / "a.mp4"
    command = ["x axis", "--cache", cache, "--moments", "--format", "ffmpeg"]
    unknown = run(*command)
    assert (unknown.exit_code, unknown.stdout) == (1, "")
    assert (
        "The file of 'a.mp4' is not at a known path; give the folder that holds it by --video-root DIR."
        in unknown.stderr
    )
    assert unknown.stderr.count("\n") == 1
    (tmp_path / "elsewhere" / "deep").mkdir(parents=True)
    moved = video.rename(tmp_path / "elsewhere" / "deep" / "another name.mp4")
    put(cache, moved, SHOWN, video_sha256=DigestMemo().sha256(moved), video_bytes=moved.stat().st_size)
    found = run(*command, "--video-root", tmp_path / "elsewhere")
    assert found.exit_code == 0, found.output
    words = shlex.split(found.stdout)
    assert words[words.index("-i") + 1] == str(moved)
    assert run(*command).stdout == found.stdout  # its place is remembered
    refused = run(*command[:-1], "concat")
    assert refused.exit_code == 2
    assert "use ffmpeg" in refused.stderr


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "There is nothing to search for"),
        ([""], "The query is empty"),
        (["a", "dog"], "put a prompt of several words in quotes"),
        (['"a dog" + snow'], "Cannot read the query"),
        (["x axis", "-", "x axis"], "cancel each other out"),
        (["x axis", "--format", "edl"], "add --moments"),
        (["x axis", "--high", "0.2"], "add --moments"),
        (["x axis", "--moments", "--high", "0.2", "--low", "0.3"], "lower --low"),
        (["--queries", "nowhere.txt"], "Cannot read the prompts in 'nowhere.txt'"),
        (["--image", "nowhere.jpg"], "There is no reference image 'nowhere.jpg'"),
        (["x axis", "--in", "nowhere.mp4"], "There is no file or folder 'nowhere.mp4'"),
        (["x axis", "--video-root", "nowhere"], "There is no folder 'nowhere' to search"),
        (["x axis", "--output", "nowhere/out.csv"], "Cannot write 'nowhere/out.csv'"),
    ],
)
def test_bad_input_is_one_sentence(
    cache: Path, encoder: FakeEncoder, arguments: list[str], sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ClipcacheError, match=sentence) as error:
        run(*arguments, "--cache", cache)
    assert isinstance(error.value, UsageError)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("arguments", [["--top", "0"], ["--min-gap", "-1"], ["--threshold", "2"], ["--format", "avi"]])
def test_options_out_of_range_are_refused(cache: Path, arguments: list[str]) -> None:
    assert run("x axis", "--cache", cache, *arguments).exit_code == 2


def test_nothing_found_is_said(cache: Path, encoder: FakeEncoder) -> None:
    result = run("x axis", "--cache", cache, "--in", next(cache.rglob("b-*.h5")), "--threshold", 0.9)
    assert (result.exit_code, result.stdout) == (0, "")
    assert "Nothing was found" in result.stderr


def test_a_cache_of_images_has_no_moments(encoder: FakeEncoder, tmp_path: Path) -> None:
    put(tmp_path / "features", make_video(tmp_path, "burst"), np.array([X, Y]), frame_names=["1.jpg", "2.jpg"])
    with pytest.raises(UsageError, match="Images have no time"):
        run("x axis", "--cache", tmp_path / "features", "--moments")


def test_a_repeated_search_imports_no_torch_and_no_decoder(cache: Path, encoder: FakeEncoder) -> None:
    arguments = ["search", "x axis", "--cache", str(cache), "--moments", "--format", "json"]
    first = run(*arguments[1:]).stdout
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


# --- meaning, on the demo library -------------------------------------------------------------------------


def test_the_moments_of_the_red_circle_are_found_to_a_fifth_of_a_second(demo_library: DemoLibrary) -> None:
    found = rows("a red circle", "--cache", demo_library.cache_dir, "--moments")
    truth = [i for i in demo_library.truth if i.caption == "a red circle"]
    assert len(found) == len(truth) == 2
    for interval in truth:
        (moment,) = [row for row in found if row["video"] == interval.video]
        assert moment["start_ms"] / 1000 == pytest.approx(interval.start_s, abs=0.2)
        assert moment["end_ms"] / 1000 == pytest.approx(interval.end_s, abs=0.2)
        assert interval.start_s <= moment["peak_ms"] / 1000 < interval.end_s


def test_what_is_subtracted_is_not_found_any_more(demo_library: DemoLibrary) -> None:
    """The blue square of shapes.mp4 is the next best thing to a black one, until it is asked to be left out."""

    def videos(query: str) -> list[str]:
        return [row["video"] for row in rows(query, "--cache", demo_library.cache_dir, "--moments")]

    assert videos("a black square") == ["variable.mkv", "shapes.mp4"]
    assert videos('"a black square" - 0.5*"a blue square"') == ["variable.mkv"]


def test_thumbnails_are_the_very_frames_and_the_sheet_holds_them(demo_library: DemoLibrary, tmp_path: Path) -> None:
    pictures = tmp_path / "found"
    options = ["--cache", demo_library.cache_dir, "--top", 4, "--thumbnails", pictures]
    options += ["--video-root", demo_library.folder]
    options += ["--contact-sheet", tmp_path / "sheet.png", "--plot", tmp_path / "plot.png"]
    found = rows("a red circle", *options)
    assert sorted(path.name for path in pictures.iterdir()) == [row["thumbnail"] for row in found]
    assert found[0]["thumbnail"].startswith("001-shapes-0m01s")
    for row in found:
        truth = decoded(demo_library.folder / row["video"], row["frame_index"])
        with Image.open(pictures / row["thumbnail"]) as picture:
            difference = np.abs(np.asarray(picture).astype(int) - truth)
        assert difference.mean() < 3  # JPEG
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.size[0] > 800
        assert red_share(np.asarray(sheet.convert("RGB"))) > 0.02
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")


def decoded(path: Path, number: int) -> np.ndarray:
    """A frame by its number, from a plain decode of everything before it."""
    import av

    with av.open(str(path)) as container:
        for n, frame in enumerate(container.decode(video=0)):
            if n == number:
                return frame.to_ndarray(format="rgb24").astype(int)
    raise AssertionError(f"{path} has no frame {number}")


def red_share(rgb: np.ndarray) -> float:
    return float(((rgb[..., 0] > 180) & (rgb[..., 1] < 90) & (rgb[..., 2] < 90)).mean())


def test_the_commands_of_the_documentation_do_what_it_shows(demo_library: DemoLibrary) -> None:
    """But for digits after the second, which another decoder or processor may change."""
    page = CHECKOUT / "docs" / "search.md"
    if not page.exists():
        pytest.skip("the docs lie in the checkout")
    blocks = re.findall(r"```console\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    shown = [part for block in blocks for part in re.split(r"^\$ clipcache search ", block, flags=re.MULTILINE)[1:]]
    assert len(shown) == 4
    for part in shown:
        command, expected = part.split("\n", 1)
        words = ["--cache", demo_library.cache_dir, "--video-root", demo_library.folder]
        result = run(*(shlex.split(command)[:-2]), *words)
        assert blurred(result.stdout.replace(str(demo_library.folder), "/home/me/demo/videos")) == blurred(expected)


def blurred(text: str) -> str:
    return re.sub(r" +", " ", re.sub(r"(\.\d)\d+", r"\1", text))
