"""What the commands that score write: a table comes even if its picture cannot, and no file of anyone else is lost."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from clipcache.cache.common.errors import UsageError
from clipcache.cli import cli
from clipcache.score.align.bank import Bank, save_bank
from clipcache.score.align.relative import Moments
from clipcache.score.plots import MAX_LINES, MAX_VIDEOS
from demo_library import DemoLibrary
from PIL import Image
from score_caches import X, Y, make_video, put


def run(*words: object) -> Result:
    return CliRunner().invoke(cli, list(map(str, words)))


@pytest.fixture
def vectors(tmp_path: Path) -> Callable[[int], Path]:
    """A file of so many embeddings."""

    def write(count: int) -> Path:
        path = tmp_path / "vectors.npy"
        np.save(path, np.resize(np.array([X, Y]), (count, 4)))
        return path

    return write


def shown(result: Result, sentence: str) -> list[str]:
    """The lines of the table of a command whose picture was refused."""
    assert isinstance(result.exception, UsageError)
    assert sentence in str(result.exception)
    return result.stdout.splitlines()


@pytest.mark.parametrize(
    ("videos", "references", "kind"),
    [(MAX_VIDEOS + 1, 1, "time"), (1, MAX_LINES + 1, "time"), (1, 61, "heatmap"), (1, 41, "distribution")],
)
def test_a_table_is_not_lost_to_a_plot_of_too_much(
    tmp_path: Path, vectors: Callable[[int], Path], videos: int, references: int, kind: str
) -> None:
    for number in range(videos):
        put(tmp_path / "features", make_video(tmp_path, f"{number}.mp4"))
    words = ["score", "--cache", tmp_path / "features", "--text-embeddings", vectors(references)]
    result = run(*words, "--plot", tmp_path / "plot.png", "--plot-kind", kind)
    assert len(shown(result, "name fewer")) > videos * references
    assert not (tmp_path / "plot.png").exists()


# Commands with a picture or file that cannot be written, and the first words of what they print all the same.
DRAWING = {
    "score": (["score", "--text", "a red circle", "--plot", "no/plot.png"], "video "),
    "consistency": (["consistency", "--plot", "no/plot.png"], "video "),
    "consistency --jumps": (["consistency", "--jumps", "1", "--plot", "no/plot.png"], "video "),
    "aesthetic": (["aesthetic", "--plot", "no/plot.png"], "rank "),
    "aesthetic --compare": (["aesthetic", "--compare", "--plot", "no/plot.png"], "Scores"),
    "search --plot": (["search", "a red circle", "--plot", "no/plot.png"], "query "),
    "search --contact-sheet": (["search", "a red circle", "--contact-sheet", "no/sheet.png"], "query "),
    "search --contact-sheet of too many": (
        ["search", "a red circle", "--top", "101", "--min-gap", "0", "--contact-sheet", "sheet.png"],
        "query ",
    ),
    "search --thumbnails": (["search", "a red circle", "--thumbnails", "a.txt/found"], "query "),
}


@pytest.mark.parametrize("name", DRAWING)
def test_a_table_is_not_lost_to_a_picture_that_cannot_be_written(
    demo_library: DemoLibrary, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a.txt").write_text("not a folder")
    words, first = DRAWING[name]
    roots = ["--video-root", demo_library.folder] if words[0] == "search" else []
    result = run(*words, "--cache", demo_library.cache_dir, *roots)
    assert isinstance(result.exception, UsageError)
    assert result.stdout.startswith(first)


def test_a_benchmark_is_printed_even_if_its_folder_cannot_be_made(demo_library: DemoLibrary, tmp_path: Path) -> None:
    (tmp_path / "results").write_text("not a folder")
    config = f"cache: {demo_library.cache_dir}\noutput: results\nmethods: [{{prompt: a}}, {{prompt: b}}]\n"
    (tmp_path / "bench.yaml").write_text(config)
    assert shown(run("benchmark", tmp_path / "bench.yaml"), "Cannot make the folder")[0].startswith("method ")


NOTES = b"\x00 notes of the user"
JPEG_NAME = "001-shapes-0m01s500.jpg"  # that --thumbnails gives to the best frame
# Commands, and the file that each would write.
WRITING = {
    "score --plot": (["score", "--text", "a red circle", "--plot", "p.png"], "p.png"),
    "score --output": (["score", "--text", "a red circle", "--output", "p.csv"], "p.csv"),
    "consistency --plot": (["consistency", "--plot", "p.svg"], "p.svg"),
    "aesthetic --plot": (["aesthetic", "--plot", "p.pdf"], "p.pdf"),
    "search --plot": (["search", "a red circle", "--plot", "p.png"], "p.png"),
    "search --contact-sheet": (["search", "a red circle", "--contact-sheet", "p.jpg"], "p.jpg"),
    "search --contact-sheet .jpeg": (["search", "a red circle", "--contact-sheet", "p.jpeg"], "p.jpeg"),
    "search --thumbnails": (["search", "a red circle", "--thumbnails", "."], JPEG_NAME),
    "search --format ffmpeg": (["search", "red", "--moments", "--format", "ffmpeg", "--output", "p.sh"], "p.sh"),
    "search --format edl": (["search", "red", "--moments", "--format", "edl", "--output", "p.edl"], "p.edl"),
    "benchmark scores.csv": (["benchmark", "bench.yaml"], "scores.csv"),
    "benchmark ratings.csv": (["benchmark", "bench.yaml"], "ratings.csv"),
    "benchmark correlations.png": (["benchmark", "bench.yaml"], "correlations.png"),
}


@pytest.mark.parametrize("name", WRITING)
def test_a_file_of_the_user_is_never_replaced(
    demo_library: DemoLibrary, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """A second run replaces what the first one wrote, but not what somebody else put there."""
    monkeypatch.chdir(tmp_path)
    Path("mine.csv").write_text("item,rating\nshapes.mp4,1\nstill.mp4,2\n")
    Path("bench.yaml").write_text("output: .\nratings: mine.csv\nmethods: [{prompt: a red circle}, {prompt: b}]\n")
    words, target = WRITING[name]
    whole = [*words, "--cache", demo_library.cache_dir]
    if words[0] == "search":
        whole += ["--video-root", demo_library.folder]
    for _ in range(2):
        result = run(*whole)
        assert result.exit_code == 0, result.output
        assert Path(target).stat().st_size > 0
    Path(target).write_bytes(NOTES)
    result = run(*whole)
    assert isinstance(result.exception, UsageError)
    assert "exists and is not" in str(result.exception)
    assert Path(target).read_bytes() == NOTES


def test_a_photograph_is_not_a_thumbnail(demo_library: DemoLibrary, tmp_path: Path) -> None:
    """The user names only the folder, so that a JPEG of hers may have the name of a thumbnail."""
    Image.new("RGB", (40, 30), "red").save(tmp_path / JPEG_NAME)
    photograph = (tmp_path / JPEG_NAME).read_bytes()
    words = ["search", "a red circle", "--cache", demo_library.cache_dir, "--video-root", demo_library.folder]
    result = run(*words, "--thumbnails", tmp_path)
    assert "choose another folder" in str(result.exception)
    assert (tmp_path / JPEG_NAME).read_bytes() == photograph


def test_ratings_of_people_are_not_replaced_by_the_table_of_that_name(
    demo_library: DemoLibrary, tmp_path: Path
) -> None:
    ratings = "item,rating\nshapes.mp4,1\nstill.mp4,2\n"
    (tmp_path / "ratings.csv").write_text(ratings)
    config = "output: .\nratings: ratings.csv\nmethods: [{prompt: a red circle}, {prompt: b}]\n"
    (tmp_path / "bench.yaml").write_text(config)
    result = run("benchmark", tmp_path / "bench.yaml", "--cache", demo_library.cache_dir)
    assert "choose another output" in str(result.exception)
    assert (tmp_path / "ratings.csv").read_text() == ratings
    assert not (tmp_path / "scores.csv").exists()


@pytest.mark.parametrize("content", [NOTES, b"PK\x05\x06" + 18 * b"\0"])
def test_only_a_bank_is_replaced_by_a_bank(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "bank.npz"
    moments = Moments(np.zeros(3), np.ones(3))
    for _ in range(2):
        save_bank(Bank(moments, moments, 16, "0" * 64), path)
    path.write_bytes(content)
    with pytest.raises(UsageError, match="is not a bank"):
        save_bank(Bank(moments, moments, 16, "0" * 64), path)
    assert path.read_bytes() == content


@pytest.mark.parametrize("words", [["--plot", "plot"], ["--plot", "plot.xyz"]])
def test_the_name_of_a_picture_says_its_kind(demo_library: DemoLibrary, tmp_path: Path, words: Sequence[str]) -> None:
    """Drawn as `plot.png` instead, it could take the place of another file."""
    (tmp_path / "plot.png").write_bytes(NOTES)
    option, name = words
    result = run("consistency", "--cache", demo_library.cache_dir, option, tmp_path / name)
    assert "end its name in .png" in str(result.exception)
    assert (tmp_path / "plot.png").read_bytes() == NOTES
