"""The plan that is stored with a run: what it is made of, and the facts that its outcome depends on."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict
from functools import cache as cached
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from harness import __version__, conf, paths
from harness.build.artifacts import Artifacts
from harness.build.program import c_headers
from harness.build.toolchain import Toolchain
from harness.build.variants import LibgoVariant
from harness.cache import Cache, digest, file_digest
from harness.errors import StoreError
from harness.guest import ciphers
from harness.guest.bootfiles import BootFiles
from harness.guest.machine import Machine
from harness.guest.qemu_command import qemu_version
from harness.images import image
from harness.invocation import given
from harness.programs.model import Program
from harness.programs.select import from_anywhere
from harness.results.plan import INPUTS, RunPlan
from harness.results.store import Run, Store
from harness.run.expectations import known_failures
from harness.run.request import Request
from harness.run.resolve import ResolvedRequest


class Input(NamedTuple):
    """What a user wrote of a run: its key among all that a store keeps, and its text."""

    key: str
    text: bytes


def describe(
    resolved: ResolvedRequest,
    artifacts: Mapping[str, Artifacts],
    files: Mapping[str, BootFiles],
    tools: Mapping[str, Toolchain],
    inputs: Mapping[str, Input],
    boot_here: bool,
) -> RunPlan:
    """The plan of a run.

    Args:
        artifacts: what was built, by toolchain.
        files: what each guest boots from, by its name.
        tools: the toolchains by name.
        inputs: what the user wrote, by part.
        boot_here: whether the guests run on this machine.
    """
    request, guests = resolved.request, resolved.guests
    kernels = {name: file_digest(each.kernel) for name, each in files.items() if each.kernel}
    facts = {
        "command": given(),
        "trials of each cell": f"at most {request.trials}" if request.until_sure or request.until else request.trials,
        "libgo": {name: library.key for each in artifacts.values() for name, library in each.libgos.items()},
        "about": {name: resolved.variants[name].config.about for name in request.variants},
        "guest": {name: _hardware(guest) for name, guest in guests.items()},
        "kernel": kernels,
        **_versions(resolved, tools, files, boot_here),
    }
    plan = {
        "origin": {
            "harness": __version__,
            "compilers": {name: digest(tools[name].identity) for name in artifacts},
            "images": {
                name: image.contents(built)
                for name, guest in guests.items()
                if guest.image and (built := image.find(guest.image))
            },
        },
        "kind": request.kind,
        "guests": list(guests),
        "variants": list(request.variants),
        "programs": [program.name for program in resolved.programs],
        "expectations": {program.name: program.expected.to_json() for program in resolved.programs},
        "trials": request.trials,
        "facts": facts,
        "expected": [entry.to_json() for entry in known_failures(resolved.configuration)],
        "unmatched": list(resolved.unmatched),
        "request": _stored_request(request),
        "made of": _made_of(artifacts, kernels) | {part: each.key for part, each in inputs.items()},
        "twins": {program.name: program.twin for program in resolved.programs if program.twin},
        "c_programs": [program.name for program in resolved.programs if program.is_c],
        "besides_libgo": {
            name: changes for name in request.variants if (changes := resolved.variants[name].besides_libgo)
        },
        "systems": {name: guest.os_name for name, guest in guests.items()},
        "baseline": request.baseline,
    }
    return RunPlan.model_validate(plan | ({"shard": resolved.whole} if resolved.whole else {}))


def _stored_request(request: Request) -> dict[str, Any]:
    """What `request_of_run` reads."""
    return {
        "selection": [from_anywhere(word) for word in request.selection],
        "only": request.only,
        "guests": list(request.guests),
        "variants": list(request.variants),
        "trials": request.trials,
        "jobs": request.jobs,
        "conf_files": [str(paths.absolute(file)) for file in request.conf_files],
        "cores": request.cores,
        "isolation": request.isolation,
        "until_sure": request.until_sure,
        "shard": request.shard,
        "times": request.times.to_json() if request.shard else [],
        "traced": [from_anywhere(word) for word in request.traced],
        "baseline": request.baseline,
        "until": request.until,
        "seed": request.seed,
        "full_timeout": request.full_timeout,
        "design": asdict(request.design) if request.design else None,
    }


def _made_of(artifacts: Mapping[str, Artifacts], kernels: Mapping[str, str]) -> dict[str, str]:
    """What a trial's outcome depends on besides what the user wrote: a run goes on only with the same."""
    made_of: dict[str, str] = {}
    for name, built in artifacts.items():
        made_of |= {f"libgo {variant} for {name}": library.key for variant, library in built.libgos.items()}
    for name, built in artifacts.items():
        made_of |= {
            f"preloaded by {variant} for {name}": " ".join(library.parent.name for library in libraries)
            for variant, libraries in built.preloads.items()
        }
    for name, built in artifacts.items():
        made_of |= {
            f"program {program} with {variant} for {name}": file.parent.name
            for (variant, program), file in built.programs.items()
        }
    for name, built in artifacts.items():
        made_of |= {
            f"program {program} with {variant} for {name}": "does not compile" for variant, program in built.broken
        }
    return made_of | {f"kernel of {name}": kernel for name, kernel in kernels.items()}


def input_texts(resolved: ResolvedRequest) -> dict[str, Input]:
    """What the user wrote, by part: the programs' sources, the variants' patches, flags and environment, the guests."""
    texts = cached(_source_text)
    sources = {f"source of {program.name}": texts(source_files(program)) for program in resolved.programs}
    variants = {f"variant {name}": _variant_text(variant) for name, variant in resolved.variants.items()}
    inputs = {
        part: Input(hashlib.sha256(text).hexdigest()[:20], text) for part, text in {**sources, **variants}.items()
    }
    for name, guest in resolved.guests.items():
        # What no ordinary trial depends on is left out.
        description = guest.model_dump(mode="json", exclude={"record", "gdbserver"})
        inputs[f"guest {name}"] = Input(digest(description), yaml.safe_dump(description, sort_keys=False).encode())
    return inputs


def _variant_text(variant: LibgoVariant) -> bytes:
    """What a variant consists of: its flags and environment, and its patches as they were read."""
    recipe = variant.recipe
    head: dict[str, object] = {"configure": list(recipe.configure), "flags": recipe.flags, "env": variant.config.env}
    if variant.config.seeded:
        head["seeded"] = True
    texts = [*(patch.text for patch in recipe.patches), *(preload.text for preload in variant.preloads)]
    return b"".join([yaml.safe_dump(head, sort_keys=False).encode(), *texts])


def source_files(program: Program) -> tuple[Path, ...]:
    """The files that a program is compiled from."""
    folder = program.build.folder or (program.source if program.source.is_dir() else None)
    if folder:
        return tuple(sorted(folder.glob("*.go")))
    if program.is_c:
        return (program.source, *c_headers(program.source))
    return tuple(dict.fromkeys([program.source, *(file for files in program.build.packages for file in files)]))


def _source_text(files: tuple[Path, ...]) -> bytes:
    """The files of a program, each after its name if there are several."""
    files = tuple(file for file in files if file.is_file())
    if len(files) == 1:
        return files[0].read_bytes()
    return b"".join(f"-- {file.name} --\n".encode() + file.read_bytes() for file in files)


def _hardware(guest: conf.Guest) -> str:
    """A guest's machine in words."""
    parts = [guest.qemu, guest.machine, f"{guest.memory} MiB", f"{guest.cpus} CPU{'' if guest.cpus == 1 else 's'}"]
    return ", ".join([*parts, *([guest.cpu] if guest.cpu else [])])


def _versions(
    resolved: ResolvedRequest, tools: Mapping[str, Toolchain], files: Mapping[str, BootFiles], boot_here: bool
) -> dict[str, Any]:
    """What the outcome of a run may depend on, for the reader: versions, and the hashes of images and patches."""
    guests = resolved.guests
    choices = {
        name: ciphers.known(Machine(name, guests[name], each, Path("/")), Cache(paths.cache_dir()))
        for name, each in files.items()
        if boot_here
    }
    images = {name: image.find(guest.image) for name, guest in guests.items() if guest.image}
    patches = {
        name: [f"{patch.label} {patch.key}" for patch in resolved.variants[name].recipe.patches]
        for name in resolved.request.variants
    }
    return {
        "harness": __version__,
        "qemu": {name: qemu_version(name, guest) for name, guest in guests.items() if boot_here},
        "ssh": {name: str(choice) for name, choice in choices.items() if choice},
        "gcc": {name: compilers.banner for name, compilers in tools.items()},
        "image": {
            name: {file: facts["sha256"] for file, facts in built.manifest["files"].items()}
            for name, built in images.items()
            if built
        },
        "patches": {name: series for name, series in patches.items() if series},
    }


def check_repeated(request: Request, plan: RunPlan, store: Store) -> None:
    """Raise StoreError if a trial is to be made again, and what its user wrote is not what it was.

    What an older version did not store is not compared.
    """
    if request.repeats is None:
        return
    run, _ = store.trial(request.repeats)
    for part, value in plan.inputs.items():
        if run.plan.made_of.get(part, value) != value:
            raise StoreError(f"trial {request.repeats} cannot be made again: {part} has changed since the run was made")


def check_same(run: Run, plan: RunPlan, refusal: str, whole: bool = True) -> None:
    """Raise StoreError if a run was begun with other libgos, programs or guests than there are now.

    Args:
        plan: the plan of a run that would begin now.
        refusal: what cannot be done then, for the error's text.
        whole: whether it is a plan of the whole run, and not of some of its cells.
    """
    before, after = run.plan.made_of, plan.made_of
    for part in [*before, *after] if whole else after:
        if part.startswith(INPUTS) and part not in before:
            continue  # an older version did not store it
        if before.get(part) != after.get(part):
            raise StoreError(f"{refusal}: {part} has changed since the run began")


def check_origin(run: Run, plan: RunPlan, refusal: str) -> None:
    """Raise StoreError if a run was made by another harness, with other compilers or on other images than there are
    now. The arguments are those of `check_same`."""
    before, after = run.plan.origin, plan.origin
    if before is None or after is None:  # an older version did not store it
        return
    if before.harness != after.harness:
        raise StoreError(f"{refusal}: it was made by version {before.harness} of the harness, this is {after.harness}")
    for name, value in after.compilers.items():
        if before.compilers.get(name, value) != value:
            raise StoreError(f"{refusal}: the compilers of {name} have changed since the run began")
    for name, value in after.images.items():
        if before.images.get(name, value) != value:
            raise StoreError(f"{refusal}: the image of {name} has changed since the run began")
