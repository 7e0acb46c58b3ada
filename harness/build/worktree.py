"""Work trees: libgo's source in a git repository, for the user to edit; the edits are a patch.

A work tree lies in a folder of its own with a variant.yaml that makes it a variant. Knows nothing of building libgo.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

import yaml

from harness.build import command, patches
from harness.build.patches import Patch
from harness.conf import naming
from harness.errors import BuildError, PatchError, ToolMissing

#: The tag of the commit that the patch is taken against: GCC's own source.
_BASE = "pristine"


def configurations(work: Path) -> list[Path]:
    """The YAML files of all work trees of a work directory."""
    return sorted(work.glob("variants/*/variant.yaml"))


def make(work: Path, name: str, source: Path, applied: Sequence[Patch], like: str, version: str) -> Path:
    """Make a work tree.

    Args:
        work: the work directory.
        name: the new variant's name.
        source: GCC's source; only its libgo is copied.
        applied: patches that the work tree begins with.
        like: the name of the variant that has these patches.
        version: GCC's version, for the variant's description.

    Returns:
        The folder to edit in, with `libgo/` in it.

    Raises:
        PatchError: a patch does not apply.
        BuildError: the name is invalid, the work tree exists or cannot be written, or git fails.
        ToolMissing: git is not installed.
    """
    try:
        naming.name(name)
    except ValueError as error:
        raise BuildError(str(error)) from error
    folder = work / "variants" / name
    if folder.exists():
        raise BuildError(f"variant {name}: {folder} exists already; remove it if you do not need it")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=folder.parent))
        try:
            about = f"edited in {folder}, begun from {like}, GCC {version}"
            _fill(staging, name, about, source, applied, version)
            os.replace(staging, folder)
        except BaseException:
            shutil.rmtree(staging, ignore_errors=True)  # the error that is raised matters more
            raise
    except shutil.Error as error:  # a source, a target and a reason for each file that was not copied
        raise BuildError(f"variant {name}: cannot create {folder}: {error.args[0][0][2]}") from error
    except OSError as error:
        raise BuildError(f"variant {name}: cannot create {folder}: {error}") from error
    return folder


def _fill(staging: Path, name: str, about: str, source: Path, applied: Sequence[Patch], version: str) -> None:
    """Write the content of a work tree."""
    shutil.copytree(source / "libgo", staging / "libgo", symlinks=True)
    git(staging, "init", "-q")
    (staging / ".git" / "info" / "exclude").write_text("/variant.yaml\n")
    _commit(staging, f"libgo of GCC {version}")
    git(staging, "tag", _BASE)
    for patch in applied:
        patches.apply(patch, staging)
        _commit(staging, patch.label)
    text = yaml.safe_dump({"variants": {name: {"about": about, "tree": "./"}}}, sort_keys=False, width=200)
    (staging / "variant.yaml").write_text(f"# Made by `harness variant new`; remove this folder to drop it.\n{text}")
    staging.chmod(0o755)


def difference(folder: Path) -> Patch:
    """The edits in a work tree, committed or not, as a patch to GCC's source.

    Raises:
        PatchError: there are none, or one that a patch may not have.
        BuildError: it is not a work tree, or git fails.
        ToolMissing: git is not installed.
    """
    if not (folder / ".git").exists():
        raise BuildError(f"{folder} is not a work tree made by `harness variant new`")
    git(folder, "add", "--all", "--intent-to-add")  # so that the diff has new files
    arguments = [
        "diff",
        "--no-ext-diff",
        "--no-textconv",
        "--no-color",
        "--no-renames",
        "--src-prefix=a/",
        "--dst-prefix=b/",
    ]
    text = git(folder, *arguments, _BASE)
    if not text:
        raise PatchError(f"{folder} has no edits yet")
    (patch,) = patches.parse(text, folder)
    return patch


def _commit(folder: Path, message: str) -> None:
    git(folder, "add", "--all", "--force", ":!variant.yaml")
    git(folder, "-c", "user.name=harness", "-c", "user.email=harness@localhost", "commit", "-q", "-m", message)


def git(folder: Path, *arguments: str) -> bytes:
    """Run git without the user's settings, which could change what a patch looks like. Returns its standard output.

    Raises:
        BuildError: it failed.
        ToolMissing: git is not installed.
    """
    settings = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull, "LC_ALL": "C"}
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    try:
        process = command.capture(
            ["git", "-c", "core.autocrlf=false", "-c", "gc.auto=0", *arguments],
            folder=folder,
            env={**environment, **settings},
        )
    except FileNotFoundError as error:
        raise ToolMissing("git is not installed (Debian package git)") from error
    if process.returncode:
        errors = " ".join(process.stderr.decode(errors="replace").split())
        raise BuildError(f"{folder}: git {arguments[0]} failed: {errors}")
    return process.stdout
