from pathlib import Path
from extract_runs import Cli
from video_files import make_video
from web_server import web_server

def test_smoke(clipcache: Cli, tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mp4", frames=20, size=(64, 48))
    with web_server() as server:
        url = server.add("/v/a.mp4", (tmp_path/"a.mp4").read_bytes())
        o = clipcache(url + "?sig=SECRET", "-v")
        print(o)
        o2 = clipcache(url + "?sig=SECRET2", "-v")
        print(o2, [(r.headers.get("Range"), r.sent) for r in server.requests])
        assert 0
