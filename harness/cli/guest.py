"""Commands on guests and this machine: guest, image, doctor."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path

import click
import yaml

from harness import conf, doctor
from harness.cli import complete
from harness.cli.options import CONF, WORK, progress_options
from harness.cli.output import load_work_configuration, reporter
from harness.conf.read import Location
from harness.errors import HarnessError
from harness.images import image as images
from harness.invocation import command_line
from harness.results.terminal import plain_table, print_grid, screen
from harness.run.expectations import describe_unmatched, own_programs


@click.group("guest")
def guest_() -> None:
    """Guests' descriptions: list, show."""


@guest_.command("list")
@CONF
@WORK
def guest_list(conf_files: tuple[Path, ...], work: str | None) -> None:
    """List the guests, and where each is described."""
    configuration = load_work_configuration(conf_files, work)
    table = plain_table("guest", "system", "toolchain", "MiB", "described in")
    for name, guest in configuration.guests.items():
        table.add_row(name, guest.os_name, guest.toolchain, str(guest.memory), configuration.where(("guests", name)))
    print_grid(screen(), table)


@guest_.command("show")
@click.argument("name", metavar="GUEST", shell_complete=complete.guests)
@CONF
@WORK
def guest_show(name: str, conf_files: tuple[Path, ...], work: str | None) -> None:
    """Print a guest's description with all its fields, and where each of them is written.

    What the guest has of another one by `from`, or by default, is there too. The output is YAML.
    """
    configuration = load_work_configuration(conf_files, work)
    description = configuration.guest(name).model_dump()
    click.echo("\n".join(["guests:", f"  {name}:", *_field_lines(description, ("guests", name), configuration)]))


def _field_lines(fields: Mapping[str, object], location: Location, configuration: conf.Configuration) -> Iterator[str]:
    """The fields of a description as lines of YAML, each with a comment that says where it is written."""
    margin = "  " * len(location)
    for key, value in fields.items():
        where = configuration.where((*location, key))
        if isinstance(value, dict) and value and where:
            yield f"{margin}{key}:"
            yield from _field_lines(value, (*location, key), configuration)
            continue
        text = yaml.safe_dump({key: value}, sort_keys=False, width=sys.maxsize)
        if isinstance(value, str) and "\n" in value:  # in one line, as JSON, which is YAML, has it
            text = f"{key}: {json.dumps(value)}"
        first, *others = text.splitlines()
        yield f"{margin}{first} # {where or 'default'}"
        yield from (f"{margin}{line}" for line in others)


@click.command("doctor")
@CONF
@WORK
def doctor_(conf_files: tuple[Path, ...], work: str | None) -> None:
    """Report what is missing on this machine and how to get it.

    Known failures that can match nothing are listed too: those of --conf, and of programs of the harness's own suites.
    Exit status: 0 `make matrix` would work here, 1 it would fail.
    """
    text, status = doctor.report()
    click.echo(text)
    configuration = load_work_configuration(conf_files, work)
    for sentence in describe_unmatched(configuration, own_programs()):
        click.echo(doctor.Check("note", sentence))
    sys.exit(status)


@click.group()
def image() -> None:
    """Guests' images: list, build, fetch, show, rm."""


@image.command("list")
def image_list() -> None:
    """List the recipes, and what is built of them."""
    table = plain_table("image", "state", "built")
    for row in images.listing():
        table.add_row(row["name"], row["state"], str(row.get("manifest", {}).get("built", "")))
    print_grid(screen(), table)


@image.command("build")
@click.argument("name", shell_complete=complete.images)
@click.option("--force", is_flag=True, help="Build it again, from the archive's packages of today.")
@progress_options
def image_build(name: str, force: bool) -> None:
    """Build an image."""
    with reporter() as report:
        built = images.build(name, partial(report.step, f"image {name}"), force)
    click.echo(built.folder)


@image.command("fetch")
@click.argument("name", shell_complete=complete.images)
@click.option(
    "--file", type=click.Path(path_type=Path), help="Take this image, .img or .img.tar.xz, and download none."
)
@click.option("--sha512", metavar="HEX", help="What the file's SHA-512 must be.")
@progress_options
def image_fetch(name: str, file: Path | None, sha512: str | None) -> None:
    """Download an operating system's own image and prepare it for the harness.

    The file's name and SHA-512 are read from the release's list at the first fetch, recorded in a lock file in the
    cache, and required from then on. A download that broke off goes on where it was.
    """
    if sha512 is not None and not re.fullmatch(r"[0-9a-fA-F]{128}", sha512):
        raise click.BadParameter("must be 128 hexadecimal digits", param_hint="--sha512")
    try:
        with reporter() as report:
            fetched = images.fetch(name, partial(report.step, f"image {name}"), file, sha512 and sha512.lower())
    except KeyboardInterrupt:
        click.echo("harness: interrupted; what was downloaded is kept, the same command goes on with it", err=True)
        sys.exit(130)
    click.echo(fetched.folder)


@image.command("show")
@click.argument("name", shell_complete=complete.images)
@click.option("--verify", is_flag=True, help="Compare the files with the manifest's hashes.")
def image_show(name: str, verify: bool) -> None:
    """Print an image's manifest: packages, versions, hashes."""
    built = images.find(name)
    if built is None:
        raise HarnessError(f"image {name} is not built; `{command_line('image', 'build', name)}` does it")
    if verify:
        images.verify(built)
    click.echo(json.dumps({"folder": str(built.folder), **built.manifest}, indent=2))


@image.command("rm")
@click.argument("name", shell_complete=complete.images)
def image_rm(name: str) -> None:
    """Remove what was built of an image."""
    click.echo(f"removed {images.remove(name)}")
