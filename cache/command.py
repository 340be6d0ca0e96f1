"""`clipcache cache`: list, describe, check, pack, merge and prune the entries of a cache, and list what failed."""

from __future__ import annotations

from pathlib import Path

import click

from .common.errors import EntryError, UsageError
from .common.options import CACHE, DEBUG, PATH, options, warn
from .common.paths import is_file
from .common.quoting import one_line, quoted

_OPTIONS = options(
    CACHE,
    click.option("--model", envvar="CLIPCACHE_MODEL", help="Only this model, such as ViT-B/32."),
    click.option("--json", "as_json", is_flag=True, help="Print JSON."),
    DEBUG,
)


@click.group(name="cache")
def cache_group() -> None:
    """List, describe, check, pack, merge and prune the entries of a cache."""


@cache_group.command()
@click.option("--paths", "with_paths", is_flag=True, help="Also print where each video was when it was extracted.")
@_OPTIONS
def ls(with_paths: bool, cache_dir: Path, model: str | None, as_json: bool) -> None:
    """List the entries; bad ones are named on stderr, and make the exit code 1."""
    from .report import describe, ls_text, to_json
    from .store import FeatureCache

    cache, bad = FeatureCache(cache_dir), _BadEntries()
    described = [describe(entry) for entry in cache.iter_entries(bad, model)]
    click.echo(to_json(described) if as_json else ls_text(described, cache, with_paths=with_paths))
    bad.exit()


@cache_group.command()
@click.argument("target", metavar="ENTRY|VIDEO", type=PATH)
@_OPTIONS
def info(target: Path, cache_dir: Path, model: str | None, as_json: bool) -> None:
    """Print everything known about one entry.

    Name it by its file in the cache, or by its video, which is recognised by content wherever it is now.
    """
    from .report import describe, info_text, to_json
    from .store import open_target

    described = describe(open_target(target, cache_dir, model))
    click.echo(to_json(described) if as_json else info_text(described))


@cache_group.command()
@_OPTIONS
def failures(cache_dir: Path, model: str | None, as_json: bool) -> None:
    """List what could not be extracted, and why; `extract --retry-failed` tries it again."""
    from .failure_log import FailureLog
    from .report import failures_text, to_json
    from .store import FeatureCache

    model_dir = FeatureCache(cache_dir).model(model).name if model else None
    known = list(FailureLog(cache_dir).read(model_dir).values())
    click.echo(to_json([one.__dict__ for one in known]) if as_json else failures_text(known))


@cache_group.command()
@click.option("--delete-bad", is_flag=True, help="Remove the bad entries.")
@_OPTIONS
def verify(delete_bad: bool, cache_dir: Path, model: str | None, as_json: bool) -> None:
    """Read all entries and list the bad ones.

    The exit code is 1 if there are any. --delete-bad removes them, except those that this program cannot check (of a
    newer schema, or not readable here) and files that it did not name.
    """
    from .report import findings_json, verify_text
    from .store import FeatureCache
    from .verify import remove_bad
    from .verify import verify as verify_entries

    if delete_bad and is_file(cache_dir):
        raise UsageError(
            f"--delete-bad removes entries of a folder, and {quoted(cache_dir)} is one file", "pack it again"
        )
    findings = list(verify_entries(FeatureCache(cache_dir), model))
    click.echo(findings_json(findings) if as_json else verify_text(findings))
    if delete_bad:
        for path in remove_bad(findings):
            warn(f"removed {quoted(path)}")
    if any(finding.problem for finding in findings):
        click.get_current_context().exit(1)


@cache_group.command()
@click.argument("output", metavar="OUT.h5", type=PATH)
@CACHE
@click.option(
    "--model", envvar="CLIPCACHE_MODEL", help="Model whose entries are packed; by default the cache's only one."
)
@DEBUG
def pack(output: Path, cache_dir: Path, model: str | None) -> None:
    """Write all entries of a model into one file, which every command accepts as --cache.

    Its features are stored as one array, so that numpy.memmap can map them; see docs/packed.md.
    """
    from .pack import pack as pack_entries
    from .store import FeatureCache

    bad = _BadEntries()
    packed = pack_entries(FeatureCache(cache_dir), output, bad, model)
    click.echo(f"{packed.entries} entries, {packed.frames} frames, {packed.bytes / 1e6:.2f} MB in {output}")
    bad.exit()


@cache_group.command()
@click.argument("packed", metavar="IN.h5", type=PATH)
@click.option("--into", required=True, type=PATH, help="Cache folder to write to; created if it does not exist.")
@DEBUG
def unpack(packed: Path, into: Path) -> None:
    """Write each entry of a packed file to a separate file."""
    from .merge import merge as merge_caches
    from .store import FeatureCache

    bad = _BadEntries()
    merged = merge_caches([FeatureCache(packed)], into, bad)
    click.echo(f"{merged.written} entries written to {into}, {merged.kept} already there")
    bad.exit()


@cache_group.command()
@click.argument("sources", metavar="CACHE...", nargs=-1, required=True, type=PATH)
@click.option("--into", required=True, type=PATH, help="Cache folder to write to; created if it does not exist.")
@DEBUG
def merge(sources: tuple[Path, ...], into: Path) -> None:
    """Copy the entries of several caches, folders or packed files, into one.

    Of two entries of the same content, weights and sampling the more complete one is kept. Copies have the current
    schema.
    """
    from .merge import merge as merge_caches
    from .store import FeatureCache

    bad = _BadEntries()
    merged = merge_caches([FeatureCache(source) for source in sources], into, bad)
    click.echo(f"{merged.written} entries written to {into}, {merged.kept} already there")
    bad.exit()


@cache_group.command()
@click.option("--videos", "folders", multiple=True, required=True, type=PATH, help="Folder of videos; may be repeated.")
@click.option("--delete", is_flag=True, help="Remove the entries; by default they are only listed.")
@CACHE
@click.option("--model", envvar="CLIPCACHE_MODEL", help="Only this model, such as ViT-B/32.")
@DEBUG
def prune(folders: tuple[Path, ...], delete: bool, cache_dir: Path, model: str | None) -> None:
    """List entries whose videos no longer exist: not below --videos, nor where they were extracted or hashed before.

    Videos are recognised by content, so moved and renamed ones are found.
    """
    from .merge import find_orphans, remove_orphans
    from .store import FeatureCache

    bad = _BadEntries()
    orphans = find_orphans(FeatureCache(cache_dir), folders, bad, model)
    for one in orphans:
        click.echo(f"{one_line(one.video_name)}  {one_line(one.path)}")
    if delete:
        remove_orphans(orphans)
    megabytes = sum(one.bytes for one in orphans) / 1e6
    outcome = "removed" if delete else "would be removed by --delete"
    click.echo(f"{len(orphans)} entries, {megabytes:.2f} MB: {outcome if orphans else 'nothing to remove'}")
    bad.exit()


class _BadEntries:
    """Names each bad entry on stderr, and makes the exit code 1 if there was one."""

    def __init__(self) -> None:
        self._any = False

    def __call__(self, _: Path, error: EntryError) -> None:
        warn(str(error))
        self._any = True

    def exit(self) -> None:
        if self._any:
            click.get_current_context().exit(1)
