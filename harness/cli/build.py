"""Commands on what is built: build, suite, variant, toolchain."""

from __future__ import annotations

import shlex
import sys
import textwrap
from collections.abc import Iterable
from pathlib import Path

import click

from harness import conf, paths
from harness.build import gcc, patches, sysroot, toolchain, worktree
from harness.build.applicability import check_sources
from harness.build.diffs import Change
from harness.build.patches import Patch
from harness.build.variants import build_variants, gcc_source, new_variant, read_variants
from harness.cache import Cache
from harness.cli import complete
from harness.cli.options import CONF, TOOLCHAIN, WORK, progress_options
from harness.cli.output import load_work_configuration, reporter, write_bytes
from harness.conf.load import BASELINE
from harness.errors import BuildError, ConfigError, HarnessError, PatchError, ToolMissing
from harness.images import image as images
from harness.invocation import command_line
from harness.programs import gcc_suites
from harness.programs.model import Program
from harness.programs.select import describe_overlooked, find_suite, folder_programs, own_suites, select_programs
from harness.results.terminal import plain_table, print_grid, screen
from harness.results.text import render_count


@click.command()
@click.argument("names", nargs=-1, metavar="[VARIANT]...", shell_complete=complete.variants)
@TOOLCHAIN
@progress_options
@CONF
@WORK
def build(names: tuple[str, ...], toolchain_name: str, conf_files: tuple[Path, ...], work: str | None) -> None:
    """Build libgo variants.

    By default all that are for the toolchain's target. `harness run` builds what it needs by itself.
    """
    configuration = load_work_configuration(conf_files, work)
    tools = toolchain.find(toolchain_name, configuration)
    chosen = names or [name for name, variant in configuration.variants.items() if variant.fits(tools.triple)]
    variants = read_variants(chosen, [tools.triple], configuration)
    with reporter() as report:
        libgos = build_variants(variants.values(), tools, Cache(paths.cache_dir()), report)
    for name, libgo in libgos.items():
        click.echo(f"{name}: {libgo.library}")


@click.group()
def suite() -> None:
    """The suites that come with the harness."""


@suite.command("list")
def suite_list() -> None:
    """List the suites: our own, and those that lie in GCC's source."""
    table = plain_table("suite", "programs", "what it is about")
    for name in own_suites():
        table.add_row(name, str(len(folder_programs(find_suite(name).folder))), find_suite(name).about)
    for name, gcc_suite in gcc_suites.suites().items():
        table.add_row(name, "GCC's", gcc_suite.about)
    print_grid(screen(), table)


@suite.command("show")
@click.argument("name", metavar="SUITE|FOLDER", shell_complete=complete.suites_and_folders)
@TOOLCHAIN
@CONF
@WORK
def suite_show(name: str, toolchain_name: str, conf_files: tuple[Path, ...], work: str | None) -> None:
    """Show what each program of a suite, or of a folder of yours, is for, and what is expected of it."""
    others, known = gcc_suites.suites(), own_suites()
    name, folder = name.rstrip("/") or name, Path(name)
    if folder.resolve() == known.get(folder.name) or (folder.name in others and (folder / "suite.yaml").is_file()):
        name = folder.name
    elif folder.is_dir():  # whatever its name: so it is for a run
        programs = select_programs([name])
        _show_programs(name, render_count(len(programs), "program"), programs)
        if note := describe_overlooked([name]):
            click.echo(f"harness: {note}", err=True)
        return
    if name in others:
        gcc_ = gcc_source(toolchain_name, load_work_configuration(conf_files, work))
        contents = gcc_suites.contents(name, others[name], gcc_)
        _show_programs(name, others[name].about, contents.programs)
        for program, why in contents.skipped.items():
            click.echo(f"\n{name}/{program}: not run: {why}")
    else:
        own = find_suite(name, others)
        _show_programs(name, own.about, folder_programs(own.folder))


def _show_programs(name: str, about: str, programs: Iterable[Program]) -> None:
    """Show a suite or a folder, and what each of its programs is for, and what is expected of it."""
    click.echo(f"{name}: {about}")
    for program in programs:
        click.echo(f"\n{program.name}: expects {program.expected}")
        for what, values in (
            ("args", program.args),
            ("needs", program.needs),
            ("env", [f"{k}={v}" for k, v in program.env.items()]),
        ):
            if values:
                click.echo(f"  {what}: {shlex.join(values)}")
        if program.about:
            click.echo(textwrap.fill(program.about, 100, initial_indent="  ", subsequent_indent="  "))


@click.group()
def variant() -> None:
    """libgo variants: list, check patches, try an idea, make its patch."""


@variant.command("list")
@CONF
@WORK
def variant_list(conf_files: tuple[Path, ...], work: str | None) -> None:
    """List the variants and what they are."""
    table = plain_table("variant", "what it is", "made of")
    for name, config in load_work_configuration(conf_files, work).variants.items():
        parts = [Path(file).name for file in config.patches] + (["its work tree"] if config.tree else []) + config.flags
        parts += ["the toolchain's own"] * config.prebuilt + [f"{key}={value}" for key, value in config.env.items()]
        table.add_row(
            name, config.about + (f" ({', '.join(config.only)} only)" if config.only else ""), " ".join(parts)
        )
    print_grid(screen(), table)


@variant.command("new")
@click.argument("name")
@click.option(
    "--from",
    "like",
    default=BASELINE,
    show_default=True,
    metavar="VARIANT",
    shell_complete=complete.variants,
    help="The variant to begin from.",
)
@TOOLCHAIN
@CONF
@WORK
def variant_new(name: str, like: str, toolchain_name: str, conf_files: tuple[Path, ...], work: str | None) -> None:
    """Open a work tree of libgo's source.

    What is edited there is the variant NAME at once; `harness variant diff NAME` makes the patch.
    """
    folder = new_variant(name, like, toolchain_name, load_work_configuration(conf_files, work), paths.work_dir(work))
    words = ("run", "--variant", BASELINE, "--variant", name)
    command = command_line(*words, work=paths.work_dir(work), conf_files=conf_files)
    click.echo(f"{folder}\nEdit there, then: {command}")


@variant.command("diff")
@click.argument("name", shell_complete=complete.variants)
@click.option(
    "-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="A file. [default: standard output]"
)
@CONF
@WORK
def variant_diff(name: str, output: Path | None, conf_files: tuple[Path, ...], work: str | None) -> None:
    """Make the patch of what differs in a work tree from GCC's own libgo."""
    configuration = load_work_configuration(conf_files, work)
    tree = configuration.tree(name)
    if tree is None:
        new = command_line("variant", "new", name, work=paths.work_dir(work))
        raise HarnessError(f"variant {name} has no work tree; `{new}` makes one")
    text = worktree.difference(tree).text
    if output is None:
        write_bytes(text)
        return
    try:
        output.write_bytes(text)
    except OSError as error:
        raise HarnessError(f"{output}: cannot be written: {error.strerror}") from error


@variant.command("check")
@click.argument("files", nargs=-1, required=True, metavar="PATCH...", type=click.Path(path_type=Path, allow_dash=True))
@progress_options
@CONF
@WORK
def variant_check(files: tuple[Path, ...], conf_files: tuple[Path, ...], work: str | None) -> None:
    """Say what patches touch and to which sources they apply.

    PATCH is a diff, a mail, an mbox, quilt's series file, a folder of patches, or - for standard input. They are
    applied one after the other. Exit status: 0 they apply to the source of some toolchain, 2 they apply to none, or
    cannot be used.
    """
    series = [patch for file in files for patch in _read_patches(file)]
    for patch in series:
        click.echo(f"{patch.label}{f', {patch.form}' if patch.form else ''}: {patch.subject or 'no subject'}")
        for change in patch.changes:
            click.echo(f"  {_describe_change(patch, change)}")
    configuration = load_work_configuration(conf_files, work)
    with reporter() as report:
        report.step("patches", "trying them on the toolchains' sources")
        checks, missing = check_sources(series, configuration, Cache(paths.cache_dir()))
    for check in checks:
        verdict = "does not apply to" if check.failure else "applies to"
        click.echo(f"{verdict} GCC {check.gcc} ({', '.join(check.toolchains)})")
    if missing:
        why = command_line("toolchain", "list", conf_files=conf_files)
        click.echo(f"not tried: {', '.join(missing)}; `{why}` says why")
    if not checks:
        raise ToolMissing("there is no source to try the patches on")
    if all(check.failure for check in checks):
        raise PatchError("; ".join(dict.fromkeys(check.failure for check in checks)))


def _read_patches(file: Path) -> tuple[Patch, ...]:
    if str(file) == "-":
        return patches.parse(sys.stdin.buffer.read(), Path("standard input"))
    return patches.read(file)


def _describe_change(patch: Patch, change: Change) -> str:
    name = patch.named(change.name)
    if change.renamed or change.copied:
        name = f"{patch.named(change.old)}, {'renamed to' if change.renamed else 'copied to'} {name}"
    what = ", new" if not change.old else ", removed" if not change.new else ""
    mode = f", mode {change.mode}" if change.mode and change.old and change.new else ""
    return f"{name}  +{change.count('+')} -{change.count('-')}{what}{mode}"


@click.group("toolchain")
def toolchain_() -> None:
    """Compilers for the guests: list, build, use."""


@toolchain_.command("list")
@CONF
def toolchain_list(conf_files: tuple[Path, ...]) -> None:
    """List the toolchains, what is there of them, and how to get what is not."""
    configuration = conf.load(conf_files)
    for name, config in configuration.toolchains.items():
        try:
            tools = toolchain.find(name, configuration)
        except ToolMissing:
            state = f"is not there; {toolchain.how_to_get(name, configuration)}"
        else:
            state = f"GCC {tools.version}, {tools.gccgo}" + (f", sysroot {tools.sysroot}" if tools.sysroot else "")
        click.echo(f"{name:12}  {config.triple:14}  {state}")


@toolchain_.command("build")
@click.argument("name", shell_complete=complete.toolchains)
@click.option("--sysroot", "folder", type=click.Path(path_type=Path), help="A folder like the root of the target.")
@click.option("--sysroot-image", "image_file", metavar="FILE[?offset=BYTES]", help="A disk image of the target.")
@click.option("--deb", "debs", multiple=True, type=click.Path(path_type=Path), help="A package of it; repeatable.")
@click.option("--compilers-only", is_flag=True, help="Without a sysroot: they compile, and link nothing.")
@progress_options
@CONF
def toolchain_build(
    name: str,
    folder: Path | None,
    image_file: str | None,
    debs: tuple[Path, ...],
    compilers_only: bool,
    conf_files: tuple[Path, ...],
) -> None:
    """Build gccgo and gcc for a triple, and take them for NAME from now on.

    Headers and C library come from one of --sysroot, --sysroot-image and --deb, or else from the image of a guest that
    uses the toolchain, if it has been fetched. A build that was interrupted goes on.
    """
    configuration = conf.load(conf_files)
    config = configuration.toolchain(name)
    if config.unavailable:
        raise BuildError(f"toolchain {name}: {toolchain.how_to_get(name, configuration)}")
    origins: list[sysroot.Origin] = []
    origins += [sysroot.Folder(folder)] if folder else []
    origins += [sysroot.Image.parse(image_file)] if image_file else []
    origins += [sysroot.Packages(debs)] if debs else []
    if not origins and not compilers_only:
        origins += _images_with(name, configuration)[:1]
    if len(origins) + compilers_only != 1:
        raise ConfigError(
            f"toolchain {name}: give its headers and C library by one of --sysroot, --sysroot-image and --deb"
        )
    cache = Cache(paths.cache_dir())
    with reporter() as report:
        origin = origins[0] if origins else None
        built = gcc.build(name, config, origin, cache, lambda text: report.step(f"toolchain {name}", text))
    if built.sysroot:
        toolchain.use(name, str(built.folder), built.sysroot, extra=conf_files)
    click.echo(built.folder)


def _images_with(name: str, configuration: conf.Configuration) -> list[sysroot.Image]:
    """The disks of the built images of the guests that use a toolchain."""
    return [
        sysroot.Image(image.folder / guest.disk.file, image.manifest["partition"]["offset"])
        for guest in configuration.guests.values()
        if guest.toolchain == name and guest.disk and guest.image
        if (image := images.find(guest.image)) and "partition" in image.manifest
    ]


@toolchain_.command("use")
@click.argument("name", shell_complete=complete.toolchains)
@click.argument("prefix")
@click.option("--sysroot", "folder", type=click.Path(path_type=Path), help="The target's headers and libraries.")
@click.option("--source", type=click.Path(path_type=Path), help="GCC's source, if it is not Debian's.")
@CONF
def toolchain_use(
    name: str, prefix: str, folder: Path | None, source: Path | None, conf_files: tuple[Path, ...]
) -> None:
    """Take the tools PREFIXgccgo, PREFIXgcc, ... for NAME from now on."""
    tools = toolchain.use(name, prefix, folder, source, conf_files)
    click.echo(f"{name}: {tools.gccgo}, GCC {tools.version}")
