"""The command line: a door to the engine. No logic of its own worth testing."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from harness import __version__, conf, doctor, engine, paths
from harness.build import gcc, sysroot, toolchain
from harness.cache import Cache
from harness.errors import ConfigError, HarnessError, ToolMissing
from harness.guest import image as images
from harness.progress import Reporter
from harness.results import report as reports
from harness.results.store import Store

_CONF = click.option(
    "--conf", "conf_files", multiple=True, type=click.Path(path_type=Path), help="A YAML file of your own; repeatable."
)
_WORK = click.option("--work", help="The work directory. [default: $HARNESS_WORK or .harness]")


class _Group(click.Group):
    """Turns the harness's errors into one sentence and an exit status."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except HarnessError as error:
            click.echo(f"harness: {error}", err=True)
            sys.exit(error.exit_status)
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(1)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
def main() -> None:
    """Runs Go programs with several libgos on guests in QEMU, and shows what passes, fails, crashes and hangs."""


@main.command()
@click.argument("selection", nargs=-1, metavar="[SUITE|FOLDER|FILE.go]...")
@click.option("--guest", "guests", multiple=True, help="A guest; repeatable. [default: linux-i386]")
@click.option("--variant", "variants", multiple=True, help="A libgo; repeatable. [default: all]")
@click.option("--trials", default=1, show_default=True, type=click.IntRange(1), help="Trials of each cell.")
@click.option(
    "--jobs", default=os.cpu_count() or 1, type=click.IntRange(1), help="Guests side by side. [default: cores]"
)
@click.option("--html", type=click.Path(path_type=Path), help="Write the report here as well.")
@_CONF
@_WORK
def run(
    selection: tuple[str, ...],
    guests: tuple[str, ...],
    variants: tuple[str, ...],
    trials: int,
    jobs: int,
    html: Path | None,
    conf_files: tuple[Path, ...],
    work: str | None,
) -> None:
    """Run programs and show the matrix.

    Builds what is missing, boots the guests, runs the suites, folders or files selected (all suites by default).
    Exit status: 0 all passed, 1 some did not, 2 bad input, 3 trouble with a guest.
    """
    request = engine.Request(
        selection, guests or ("linux-i386",), variants, trials, jobs, conf_files, paths.work_dir(work)
    )
    try:
        with Reporter() as report:
            store, done = engine.run(request, report)
    except KeyboardInterrupt:
        click.echo("harness: interrupted; finished trials are kept, `harness show` shows them", err=True)
        sys.exit(130)
    matrix = engine.matrix(store, done)
    reports.print_table(matrix, Console())
    folder = request.work / "runs" / str(done.id)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "matrix.json").write_text(reports.json_text(matrix))
    for page in filter(None, [folder / "report.html", html]):
        reports.write_html(page, matrix, store.trials(done.id))
    click.echo(f"\nJSON and HTML: {folder / 'matrix.json'} {folder / 'report.html'}")
    verdicts = {cell.verdict for cell in matrix.cells}
    sys.exit(3 if any(cell.lost for cell in matrix.cells) else int(bool(verdicts - {"pass", "none"})))


@main.command()
@click.argument("number", required=False, type=int, metavar="[RUN]")
@click.option("--format", "format_", type=click.Choice(["table", "json"]), default="table", show_default=True)
@_WORK
def show(number: int | None, format_: str, work: str | None) -> None:
    """Show the matrix of a run, by default of the newest."""
    store = _store(work)
    matrix = engine.matrix(store, store.run(number))
    if format_ == "json":
        click.echo(reports.json_text(matrix))
    else:
        reports.print_table(matrix, Console())


@main.command("list")
@_WORK
def list_(work: str | None) -> None:
    """List the runs of the work directory."""
    for one in _store(work).runs():
        said = one.plan
        cells = len(said["guests"]) * len(said["variants"]) * len(said["programs"])
        state = "finished" if one.finished else "unfinished"
        names = f"{', '.join(said['guests'])} x {', '.join(said['variants'])}"
        click.echo(f"{one.id:4}  {one.created}  {state:10}  {cells} cells, {said['trials']} trials of each; {names}")


@main.command()
@click.argument("names", nargs=-1, metavar="[VARIANT]...")
@click.option("--toolchain", "toolchain_name", default="linux-i386", show_default=True)
@_CONF
def build(names: tuple[str, ...], toolchain_name: str, conf_files: tuple[Path, ...]) -> None:
    """Build libgo variants, by default all."""
    configuration = conf.load(conf_files)
    tools = toolchain.find(toolchain_name, configuration)
    chosen = names or tuple(configuration.variants)
    with Reporter() as report:
        built = engine.build_variants(chosen, tools, configuration, Cache(paths.cache_dir()), report)
    for name, one in built.items():
        click.echo(f"{name}: {one.library}")


@main.command()
@click.argument("guest")
@_CONF
@_WORK
def shell(guest: str, conf_files: tuple[Path, ...], work: str | None) -> None:
    """An interactive shell in a fresh guest, which is gone when the shell ends."""
    configuration = conf.load(conf_files)
    configuration.guest(guest)
    with contextlib.ExitStack() as stack:
        with Reporter() as report:
            machine = stack.enter_context(engine.fresh_guest(guest, configuration, paths.work_dir(work), report))
        said = machine.guest.ssh
        known = machine.folder / "known_hosts"
        strict = "no"
        if machine.files.host_key:
            known.write_text(f"[127.0.0.1]:{machine.port} {machine.files.host_key}\n")
            strict = "yes"
        command = ["ssh", "-q", "-i", str(machine.files.ssh_key), "-p", str(machine.port), "-o", "IdentitiesOnly=yes"]
        command += ["-o", f"UserKnownHostsFile={known}", "-o", f"StrictHostKeyChecking={strict}"]
        status = subprocess.run([*command, f"{said.user}@127.0.0.1"], check=False).returncode
    sys.exit(status)


@main.command("doctor")
def doctor_() -> None:
    """Say what is missing on this machine and how to get it."""
    click.echo(doctor.report())
    sys.exit(0 if all(need.there for need in doctor.needs()) else 2)


@main.group()
def image() -> None:
    """Guests' images: list, build, show, remove."""


@image.command("list")
def image_list() -> None:
    """List the recipes, and what is built of them."""
    table = Table("image", "state", "built", box=None)
    for row in images.listing():
        table.add_row(row["name"], row["state"], str(row.get("manifest", {}).get("built", "")))
    Console().print(table)


@image.command("build")
@click.argument("name")
@click.option("--force", is_flag=True, help="Build it again, from the archive's packages of today.")
def image_build(name: str, force: bool) -> None:
    """Build an image."""
    with Reporter() as report:
        built = images.build(name, lambda text: report.step(f"image {name}", text), force)
    click.echo(built.folder)


@image.command("show")
@click.argument("name")
@click.option("--verify", is_flag=True, help="Compare the files with the manifest's hashes.")
def image_show(name: str, verify: bool) -> None:
    """Print an image's manifest: packages, versions, hashes."""
    found = images.find(name)
    if found is None:
        raise HarnessError(f"image {name} is not built; `harness image build {name}` does it")
    if verify:
        images.verify(found)
    click.echo(json.dumps({"folder": str(found.folder), **found.manifest}, indent=2))


@image.command("rm")
@click.argument("name")
def image_rm(name: str) -> None:
    """Remove what was built of an image."""
    click.echo(f"removed {images.remove(name)}")


@main.group("toolchain")
def toolchain_() -> None:
    """Compilers for the guests: list, build, use."""


@toolchain_.command("list")
@_CONF
def toolchain_list(conf_files: tuple[Path, ...]) -> None:
    """List the toolchains, what is there of them, and how to get what is not."""
    configuration = conf.load(conf_files)
    for name, said in configuration.toolchains.items():
        try:
            found = toolchain.find(name, configuration)
        except ToolMissing:
            state = f"is not there; {toolchain.how_to_get(name, said)}"
        else:
            state = f"GCC {found.version}, {found.gccgo}" + (f", sysroot {found.sysroot}" if found.sysroot else "")
        click.echo(f"{name:12}  {said.triple:14}  {state}")


@toolchain_.command("build")
@click.argument("name")
@click.option("--sysroot", "folder", type=click.Path(path_type=Path), help="A folder like the root of the target.")
@click.option("--sysroot-image", "image_file", metavar="FILE[?offset=BYTES]", help="A disk image of the target.")
@click.option("--deb", "debs", multiple=True, type=click.Path(path_type=Path), help="A package of it; repeatable.")
@click.option("--compilers-only", is_flag=True, help="Without a sysroot: they compile, and link nothing.")
@_CONF
def toolchain_build(
    name: str,
    folder: Path | None,
    image_file: str | None,
    debs: tuple[Path, ...],
    compilers_only: bool,
    conf_files: tuple[Path, ...],
) -> None:
    """Build gccgo and gcc for a triple, and take them for NAME from now on.

    Headers and C library come from one of --sysroot, --sysroot-image and --deb. A build that was interrupted goes on.
    """
    said = conf.load(conf_files).toolchain(name)
    origins: list[sysroot.Origin] = []
    origins += [sysroot.Folder(folder)] if folder else []
    origins += [sysroot.Image.parse(image_file)] if image_file else []
    origins += [sysroot.Packages(debs)] if debs else []
    if len(origins) + compilers_only != 1:
        raise ConfigError(
            f"toolchain {name}: its headers and C library are wanted from one of --sysroot, --sysroot-image and --deb"
        )
    cache = Cache(paths.cache_dir())
    with Reporter() as report:
        origin = origins[0] if origins else None
        built = gcc.build(name, said, origin, cache, lambda text: report.step(f"toolchain {name}", text))
    if built.sysroot:
        toolchain.use(name, str(built.folder), built.sysroot, extra=conf_files)
    click.echo(built.folder)


@toolchain_.command("use")
@click.argument("name")
@click.argument("prefix")
@click.option("--sysroot", "folder", type=click.Path(path_type=Path), help="The target's headers and libraries.")
@click.option("--source", type=click.Path(path_type=Path), help="GCC's source, if it is not Debian's.")
@_CONF
def toolchain_use(
    name: str, prefix: str, folder: Path | None, source: Path | None, conf_files: tuple[Path, ...]
) -> None:
    """Take the tools PREFIXgccgo, PREFIXgcc, ... for NAME from now on."""
    found = toolchain.use(name, prefix, folder, source, conf_files)
    click.echo(f"{name}: {found.gccgo}, GCC {found.version}")


def _store(work: str | None) -> Store:
    path = paths.work_dir(work) / "results.sqlite"
    if not path.is_file():
        raise HarnessError(f"{path.parent}: no run has been made here; `harness run` makes one")
    return Store(path)
