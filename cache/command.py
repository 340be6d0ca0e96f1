"""`clipcache cache`: list, describe and check what is in the cache."""

from __future__ import annotations

from pathlib import Path

import click

from .terminal import CACHE, DEBUG, PATH, options, warn

_OPTIONS = options(
    CACHE,
    click.option("--model", envvar="CLIPCACHE_MODEL", help="Only this model, such as ViT-B/32."),
    click.option("--json", "as_json", is_flag=True, help="Print JSON."),
    DEBUG,
)


@click.group(name="cache")
def cache_group() -> None:
    """List, describe and check what is in the cache."""


@cache_group.command()
@_OPTIONS
def ls(cache_dir: Path, model: str | None, as_json: bool) -> None:
    """List the entries; a bad one is named on stderr."""
    from .report import describe, ls_text, to_json
    from .store import FeatureCache

    cache = FeatureCache(cache_dir)
    entries = cache.iter_entries(lambda _, error: warn(str(error)), model)
    described = [describe(entry) for entry in entries]
    click.echo(to_json(described) if as_json else ls_text(described, cache))


@cache_group.command()
@click.argument("target", metavar="ENTRY|VIDEO", type=PATH)
@_OPTIONS
def info(target: Path, cache_dir: Path, model: str | None, as_json: bool) -> None:
    """Tell everything about one entry.

    It is named by its file in the cache, or by the video, wherever that lies and whatever its name is now.
    """
    from .report import describe, info_text, to_json
    from .store import open_target

    described = describe(open_target(target, cache_dir, model))
    click.echo(to_json(described) if as_json else info_text(described))


@cache_group.command()
@click.option("--delete-bad", is_flag=True, help="Remove the bad entries.")
@_OPTIONS
def verify(delete_bad: bool, cache_dir: Path, model: str | None, as_json: bool) -> None:
    """Read all entries and list the bad ones.

    The exit code is 1 if there are any. --delete-bad removes them, but for those that this program may not judge: of
    a newer schema, or not readable here.
    """
    from .report import findings_json, verify_text
    from .store import FeatureCache
    from .verify import remove_bad
    from .verify import verify as verify_entries

    findings = list(verify_entries(FeatureCache(cache_dir), model))
    click.echo(findings_json(findings) if as_json else verify_text(findings))
    if delete_bad:
        for path in remove_bad(findings):
            warn(f"removed {path}")
    if any(finding.problem for finding in findings):
        click.get_current_context().exit(1)
