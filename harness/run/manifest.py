"""The plan that is stored with a run: what it is made of, and the facts that its outcome depends on."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harness import __version__, conf, paths
from harness.build.artifacts import Artifacts
from harness.build.toolchain import Toolchain
from harness.build.variants import variant_recipe
from harness.cache import Cache, digest, file_digest
from harness.errors import StoreError
from harness.guest import ciphers
from harness.guest.bootfiles import BootFiles
from harness.guest.machine import Machine, qemu_version
from harness.images import image
from harness.programs.model import Program
from harness.results.expected import Entry
from harness.results.store import Run
from harness.run.request import Request
from harness.run.resolve import ResolvedRequest


def describe(
    request: Request,
    guests: dict[str, conf.Guest],
    chosen: Sequence[Program],
    built: dict[str, Artifacts],
    files: dict[str, BootFiles],
    configuration: conf.Configuration,
    tools: Mapping[str, Toolchain],
) -> dict[str, Any]:
    kernels = {name: file_digest(one.kernel) for name, one in files.items() if one.kernel}
    facts = {
        "command": shlex.join(["harness", *sys.argv[1:]]),
        "trials of each cell": f"at most {request.trials}" if request.until_sure else request.trials,
        "libgo": {name: lib.key for one in built.values() for name, lib in one.libgos.items()},
        "about": {name: configuration.variant(name).about for name in request.variants},
        "guest": {name: f"{guest.qemu}, {guest.machine}, {guest.memory} MiB" for name, guest in guests.items()},
        "kernel": kernels,
    }
    return {
        # What runs that are put together must have alike, besides what they are made of.
        "origin": {
            "harness": __version__,
            "compilers": {name: digest(tools[name].identity) for name in built},
            "images": {
                name: image.contents(found)
                for name, guest in guests.items()
                if guest.image and (found := image.find(guest.image))
            },
        },
        "guests": list(guests),
        "variants": list(request.variants),
        "programs": [one.name for one in chosen],
        "expectations": {one.name: one.expected.to_json() for one in chosen},
        "trials": request.trials,
        "facts": facts,
        "expected": [entry.to_json() for entry in known_failures(configuration)],
        "request": {
            "selection": [str(Path(word).absolute()) if Path(word).exists() else word for word in request.selection],
            "guests": list(request.guests),
            "variants": list(request.variants),
            "trials": request.trials,
            "jobs": request.jobs,
            "conf_files": [str(file.absolute()) for file in request.conf_files],
            "cores": request.cores,
            "isolation": request.isolation,
            "until_sure": request.until_sure,
            "shard": request.shard,
            "times": request.times.to_json() if request.shard else [],
            "traced": list(request.traced),
        },
        # What a trial's outcome depends on: a run goes on only with the same.
        "made of": {
            **{f"libgo {key} for {name}": lib.key for name, one in built.items() for key, lib in one.libgos.items()},
            **{
                f"program {key} with {variant} for {name}": file.parent.name
                for name, one in built.items()
                for (variant, key), file in one.programs.items()
            },
            **{
                f"program {key} with {variant} for {name}": "does not compile"
                for name, one in built.items()
                for variant, key in one.broken
            },
            **{f"guest {name}": digest(guest.model_dump(mode="json")) for name, guest in guests.items()},
            **{f"kernel of {name}": kernel for name, kernel in kernels.items()},
        },
    }


def versions(
    asked: ResolvedRequest, tools: Mapping[str, Toolchain], files: Mapping[str, BootFiles], boot_here: bool
) -> dict[str, Any]:
    """What the outcome of a run may depend on, for the reader: versions, and the hashes of images and patches."""
    configuration = asked.configuration
    measured = {
        name: ciphers.known(Machine(name, asked.configuration.guest(name), found, Path("/")), Cache(paths.cache_dir()))
        for name, found in files.items()
        if boot_here
    }
    images = {name: image.find(guest.image) for name, guest in asked.guests.items() if guest.image}
    applied = {
        name: [f"{patch.path.name} {patch.key}" for patch in variant_recipe(name, configuration).patches]
        for name in asked.request.variants
    }
    return {
        "harness": __version__,
        "qemu": {name: qemu_version(name, guest) for name, guest in asked.guests.items() if boot_here},
        "ssh": {name: str(choice) for name, choice in measured.items() if choice},
        "gcc": {name: one.banner for name, one in tools.items()},
        "image": {
            name: {file: said["sha256"] for file, said in found.manifest["files"].items()}
            for name, found in images.items()
            if found
        },
        "patches": {name: patches_ for name, patches_ in applied.items() if patches_},
    }


def known_failures(configuration: conf.Configuration) -> list[Entry]:
    """The known failures as a matrix wants them."""
    return [
        Entry(**said.model_dump(exclude={"verdict"}), verdicts=tuple(said.verdict), where=where)
        for said, where in configuration.expected
    ]


def check_same(run_: Run, described: dict[str, Any], cannot: str, whole: bool = True) -> None:
    """Raise StoreError if a run was begun with other libgos, programs or guests than there are now.

    Args:
        described: the plan of a run that would be made now.
        cannot: what cannot be done then, for the error's text.
        whole: whether it is a plan of the whole run, and not of some of its cells.
    """
    before, after = run_.plan.get("made of", {}), described["made of"]
    for what in [*before, *after] if whole else after:
        if before.get(what) != after.get(what):
            raise StoreError(f"{cannot}: {what} is not what it was when the run was begun")
