"""The command line: click commands, nothing else.

A command checks nothing and computes nothing: it hands typed options to the library and prints what comes back.
Heavy imports stay inside the commands, so that `clipcache --help` answers at once. `main` alone turns errors into
exit codes.
"""

from __future__ import annotations

import sys
from typing import NoReturn

import click

from .cache.errors import ClipcacheError

CONTEXT_SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 110}


@click.group(context_settings=CONTEXT_SETTINGS)
@click.version_option(package_name="clipcache")
def cli() -> None:
    """Encode every frame of a video library with CLIP once; score, search and export it ever after."""


def main() -> NoReturn:
    """Run the program; every known error becomes one sentence on stderr and an exit code."""
    try:
        code = cli.main(standalone_mode=False)
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except click.Abort:
        code = 130
    except ClipcacheError as error:
        if "--debug" in sys.argv:
            raise
        click.echo(f"clipcache: {error}", err=True)
        code = error.exit_code
    sys.exit(code)
