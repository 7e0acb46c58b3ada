"""More than one machine: the trials of a run made by the workers of a dask.distributed cluster.

Stands where a worker pool stands (harness/run/workers.py): it is given trials, and puts outcomes to a queue as they
come. Each worker has a pool of its own, which keeps its guests from one trial to the next. A trial is a task: if its
worker dies, another worker makes it; outcomes that came back before are stored.

A worker needs nothing but the harness and QEMU. Images, libgos and programs it fetches when it first needs them, by the
SHA-256 of what is in them, through the scheduler from the cache of the machine that runs the matrix, and keeps them in
its own. Everybody who can reach the scheduler can read all that is sent this way, and dask's workers run what they are
sent: docs/cluster.md says how to keep others out. Needs the extra `cluster`.
"""

from __future__ import annotations

import asyncio
import errno
import itertools
import logging
import os
import queue
import secrets
import signal
import threading
import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from distributed import Client, Future, KilledWorker, LocalCluster, Reschedule, Worker, WorkerPlugin, get_worker
from distributed.comm.addressing import get_address_host_port

from harness import __version__, clock, conf, paths
from harness.cache import Cache, digest, file_digest
from harness.clock import now
from harness.errors import ConfigError, GuestError, HarnessError, ProgramError, StoreError
from harness.guest import dry_start
from harness.guest.bootfiles import BootFiles
from harness.images.image import manifest_digest
from harness.log import ignored
from harness.programs.model import Program, TrialSpec
from harness.progress import Reporter, Verbosity
from harness.results.text import render_count
from harness.run.job import Executor, RunContext
from harness.run.workers import WorkerPool
from harness.trial.execute import GuestSetup, Outcome, infra_error

#: What stands for a cluster on this machine, for this run alone.
LOCAL = "local"
#: Trials that the scheduler is given at a time: enough for its workers to have the next at hand.
AT_ONCE = 1000
#: Bytes of a file that are sent at a time.
CHUNK = 4 << 20
#: Seconds that a worker waits for the next of them, that guests without work are kept, and that a scheduler may take to
#: answer.
DELIVERY, IDLE, ANSWER = 120.0, 60.0, 20.0
_KIND = "fetched"

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Bundle:
    """A folder of files, each by its path in the folder and its SHA-256."""

    files: tuple[tuple[str, str], ...]

    @property
    def key(self) -> str:
        """What it is called in a worker's cache."""
        return digest(self.files)


@dataclass(frozen=True)
class _Order:
    """What a worker gets of a run.

    Attributes:
        context: with paths of the machine that runs the matrix.
        places: by such a path, the bundle that the file is in, and its path there.
    """

    name: str
    context: RunContext
    places: Mapping[Path, tuple[Bundle, str]]


class Cluster(Executor):
    """The workers, as whoever conducts a run sees them.

    Args:
        context: what they work on.
        address: a scheduler's, or LOCAL.
        workers: how many a cluster on this machine has.

    Attributes:
        name: what this run is called among the cluster's.
        client: of the cluster's scheduler.
        goods: by hash, the files that workers may ask for.
        results: what they report.

    Raises:
        ConfigError: no scheduler answers, or its workers have another version of the harness.
    """

    def __init__(self, context: RunContext, report: Reporter, address: str, workers: int) -> None:
        self._report = report
        self.name = f"harness-{secrets.token_hex(8)}"
        self.results: queue.SimpleQueue[Outcome] = queue.SimpleQueue()
        self._specs: dict[str, TrialSpec] = {}  # by the task's key: those that are not done
        self._futures: dict[str, Future] = {}
        self._numbers = itertools.count()
        self._command = context.options.command
        report.step("cluster", "collecting what workers may need")
        places, self.goods = _goods(context)
        self._senders = ThreadPoolExecutor(4)
        self._over = threading.Event()
        self._local = _local(workers) if address == LOCAL else None
        self.client = _client(self._local or address)
        try:
            self._begin(_Order(self.name, _portable(context), places))
        except BaseException:
            self.stop()
            raise

    def start(self, guests: Mapping[str, int]) -> None:
        """Guests are the workers' own business."""

    def put(self, spec: TrialSpec) -> None:
        """Have a trial made."""
        key = f"{self.name}-{next(self._numbers)}"
        self._specs[key] = spec
        future = self.client.submit(_make, self.name, spec, key=key, pure=False)
        self._futures[key] = future
        future.add_done_callback(self._done)

    def drain(self) -> list[TrialSpec]:
        """Take back the trials that no worker has. Those that run go on."""
        processing = {key for keys in self.client.processing().values() for key in keys}
        return self._take_back([key for key in self._specs if key not in processing])

    def stop(self) -> None:
        """End all guests, and what they do, and leave the cluster."""
        self._over.set()
        with ignored(_log, "leaving the cluster", Exception):  # a scheduler that is gone takes its workers with it
            self._take_back(list(self._specs))
            self.client.unregister_worker_plugin(self.name)
        self.client.close()
        if self._local:
            self._local.close()
        self._senders.shutdown(wait=False, cancel_futures=True)

    def _begin(self, order: _Order) -> None:
        """Wait for workers, and make each of them, and those to come, ready for the run."""
        while not self.client.nthreads():
            self._report.step("cluster", "waiting for workers")
            time.sleep(0.5)
        _check_versions(self.client)
        self.client.subscribe_topic(self.name, self._hear)
        self.client.register_plugin(_TrialRunner(order), name=self.name)
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        """Tell how many workers there are, until the run is over."""
        before: dict[str, int] = {}
        with ignored(_log, "watching the workers", Exception):  # the client is closed meanwhile
            while not self._over.wait(2.0 if before else 0.0):
                threads = self.client.nthreads()
                if threads != before:
                    before = threads
                    workers, guests = render_count(len(threads), "worker"), render_count(sum(threads.values()), "guest")
                    text = f"{workers}, {guests} at a time"
                    self._report.step("cluster", text if threads else "waiting for workers")

    def _take_back(self, keys: list[str]) -> list[TrialSpec]:
        pairs = [(self._specs.pop(key, None), self._futures.pop(key, None)) for key in keys]
        self.client.cancel([future for spec, future in pairs if spec and future])
        return [spec for spec, _ in pairs if spec]

    def _done(self, future: Future) -> None:
        spec = self._specs.pop(future.key, None)
        self._futures.pop(future.key, None)
        if spec is None:
            return  # taken back
        try:
            outcome = future.result()
        except KilledWorker:
            why = "each worker that made it died, several times"
            outcome = Outcome(spec, infra_error(spec, why, now(), self._command))
        except CancelledError:
            outcome = Outcome(failure=GuestError("the scheduler is gone"))
        except Exception as error:
            outcome = Outcome(failure=error)
        self.results.put(outcome)

    def _hear(self, event: tuple[float, dict[str, str]]) -> None:
        """Take what a worker tells. Must not wait: the client does nothing else meanwhile."""
        message = event[1]
        match message["what"]:
            case "want":
                self._senders.submit(self._send, message["worker"], message["text"], message["order"])
            case "trouble":
                self.results.put(
                    Outcome(trouble=(message["guest"], f"{message['text']} (on worker {message['worker']})"))
                )
            case "step":
                self._report.step(f"worker {message['worker']}", message["text"])
            case "leaves":
                self._report.step(f"worker {message['worker']}", f"leaves: {message['text']}")
                self._senders.submit(self._without, message["worker"], message["text"])

    def _send(self, worker: str, hash_: str, order: str) -> None:
        """Send a file to a worker. One that is gone meanwhile wants it no more."""
        deliver = partial(self.client.run, _deliver, self.name, order, workers=[worker])
        with ignored(_log, f"sending a file to worker {worker}", Exception), self.goods[hash_].open("rb") as file:
            for at, chunk in _chunks(file):
                deliver(at=at, data=zlib.compress(chunk, 1))
            deliver(at=os.fstat(file.fileno()).st_size, data=b"")

    def _without(self, worker: str, why: str) -> None:
        """Go on without a worker, if there is another."""
        until = clock.time() + ANSWER
        while worker in self.client.nthreads() and clock.time() < until:
            time.sleep(0.2)
        if not self.client.nthreads():
            failure = GuestError(f"no worker is left; the last one, {worker}, left because: {why}")
            self.results.put(Outcome(failure=failure))


def _local(workers: int) -> LocalCluster:
    """A cluster on this machine. A ctrl-C is for the harness alone, which lets the trials that run end."""
    with _deaf():
        return LocalCluster(n_workers=workers, threads_per_worker=1, dashboard_address=None)


@contextmanager
def _deaf() -> Iterator[None]:
    """Have processes that are started in the block not hear a ctrl-C. The main thread alone can do that."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def check(address: str, configuration: conf.Configuration, guests: Sequence[str]) -> None:
    """See to it that a cluster can have guests, as far as its workers are there already.

    Args:
        address: its scheduler's.
        configuration: where the guests are described.
        guests: their names.

    Raises:
        ConfigError: the address is none, no scheduler answers there, or a worker has another version of the harness.
        HarnessError: no worker's QEMU starts the guests; the text is one worker's.
    """
    try:  # a Client whose address cannot be read waits 40 s for itself when it is dropped
        get_address_host_port(address)
    except ValueError as error:
        raise ConfigError(f"no scheduler answers at {address}: {error}") from error
    client = _client(address)
    try:
        _check_versions(client)
        refusals = client.run(_refusal, configuration, guests)
    finally:
        client.close()
    for worker, refusal in refusals.items():
        if refusal:
            _log.warning("worker %s cannot be used: %s", worker, refusal)
    if refusals and all(refusals.values()):
        worker, refusal = next(iter(refusals.items()))
        raise HarnessError(f"no worker can start the guests; {worker}: {refusal}")


async def _refusal(configuration: conf.Configuration, guests: Sequence[str]) -> str:
    """Why guests do not start on this worker; '' if they do."""

    def check_all() -> None:
        for name in guests:
            dry_start.check(name, configuration)

    try:
        await asyncio.to_thread(check_all)  # dask's own thread must not wait, and has an event loop of its own
    except HarnessError as error:
        return str(error)
    return ""


def _check_versions(client: Client) -> None:
    """Raise ConfigError if a worker has another version of the harness."""
    for worker, version in client.run(_version).items():
        if version != __version__:
            raise ConfigError(f"worker {worker} has harness {version}, and this is {__version__}")


def _client(scheduler: LocalCluster | str) -> Client:
    try:
        return Client(scheduler, timeout=ANSWER, set_as_default=False)
    except (OSError, ValueError, TypeError) as error:  # the last when TLS is asked for and there is no certificate
        raise ConfigError(f"no scheduler answers at {scheduler}: {error}") from error


def _portable(context: RunContext) -> RunContext:
    """What the workers of a run share, without the compiler."""
    guests = {
        name: replace(setup, artifacts=replace(setup.artifacts, compile_output=_no_compiler))
        for name, setup in context.guests.items()
    }
    return replace(context, guests=guests)


def _no_compiler(variant: str, program: Program, output: bytes) -> Path:
    raise ProgramError(f"{program.name} prints a program, which a worker cannot compile")


def _hash(file: Path) -> str:
    return manifest_digest(file) or file_digest(file)


def _chunks(file: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """What is in a file, without its holes: where each part begins, and the part. An image is mostly holes."""
    at = 0
    while True:
        try:
            at = os.lseek(file.fileno(), at, os.SEEK_DATA)
        except OSError as error:
            if error.errno != errno.ENXIO:  # which means that there is nothing but a hole to the end
                raise
            return
        if not (chunk := os.pread(file.fileno(), CHUNK, at)):
            return
        yield at, chunk
        at += len(chunk)


def _goods(context: RunContext) -> tuple[dict[Path, tuple[Bundle, str]], dict[str, Path]]:
    """The bundle and the place in it of each file that a worker may need, and the files by their hashes."""
    places: dict[Path, tuple[Bundle, str]] = {}
    goods: dict[str, Path] = {}

    def add(*files: Path, folder: str = "") -> None:
        """Make a bundle of files, the first of which is asked for."""
        if files[0] in places:
            return
        hashes = {file: _hash(file) for file in files}
        goods.update({hash_: file for file, hash_ in hashes.items()})
        bundle = Bundle(tuple((folder + file.name, hash_) for file, hash_ in hashes.items()))
        places[files[0]] = (bundle, folder + files[0].name)

    for files in context.files.values():
        for path in filter(None, files.all()):
            add(path)
    for artifacts in (setup.artifacts for setup in context.guests.values()):
        add(artifacts.agent)
        for libgo in artifacts.libgos.values():
            add(libgo.library, folder="lib/")
        for library in itertools.chain.from_iterable(artifacts.preloads.values()):
            add(library)
        for program in artifacts.programs.values():
            beside = program.with_name("files.tar")
            add(program, *[beside] * beside.is_file())
    return places, goods


class _TrialRunner(WorkerPlugin):  # type: ignore[misc] # dask has no types
    """A worker's place to make the trials of one run."""

    def __init__(self, order: _Order) -> None:
        self._order = order

    def setup(self, worker: Worker) -> None:
        """Begin, on the worker. Dask waits for it, so nothing is fetched yet."""
        self._worker = worker
        self._cache = Cache(paths.cache_dir())
        self._lock = threading.Lock()
        self._pool: WorkerPool | None = None
        self._guests: dict[str, GuestSetup] = {}
        self._waiting: dict[TrialSpec, queue.SimpleQueue[Outcome]] = {}
        self._inbox: dict[str, queue.SimpleQueue[tuple[int, bytes]]] = {}  # by order
        self._work = Path(worker.local_directory) / "harness"
        self._left = False

    def teardown(self, worker: Worker) -> None:
        """End the guests, without keeping dask waiting."""
        self._left = True
        if self._pool:
            threading.Thread(target=self._pool.stop).start()

    def make(self, spec: TrialSpec) -> Outcome:
        """Make a trial. Whatever keeps this worker from it is no reason that no other should: it leaves then."""
        answer: queue.SimpleQueue[Outcome] = queue.SimpleQueue()
        if self._left:
            time.sleep(0.2)
            raise Reschedule
        try:
            with self._lock:
                pool = self._pool = self._pool or self._start_pool()
                self._waiting[spec] = answer
            self._fetch_program(spec)
        except (HarnessError, OSError, queue.Empty) as error:
            self._waiting.pop(spec, None)
            self._leave(str(error) or "what it asked for did not come")
            raise Reschedule from error
        pool.start({spec.guest: self._worker.state.nthreads})
        pool.put(spec)
        outcome = answer.get()
        if outcome.failure:
            self._leave(str(outcome.failure))
            raise Reschedule
        return outcome

    def receive(self, order: str, at: int, data: bytes) -> None:
        """Take a part of a file that was ordered, and its place; the last one is empty, and its place is the end."""
        if box := self._inbox.get(order):
            box.put((at, data))

    def _start_pool(self) -> WorkerPool:
        """A pool with all that its guests need from the start."""
        context = self._order.context
        files = {name: self._files(each) for name, each in context.files.items()}
        self._guests = {name: self._setup(setup) for name, setup in context.guests.items()}
        local = replace(context, files=files, guests=self._guests, work=self._work, cache=self._cache)
        pool = WorkerPool(local, Reporter(partial(self._say, "step"), Verbosity.VERBOSE))
        threading.Thread(target=self._listen, args=(pool,), daemon=True).start()
        return pool

    def _setup(self, setup: GuestSetup) -> GuestSetup:
        """A guest with its agent, libgos and preloaded libraries here; programs are fetched when they are run."""
        artifacts = setup.artifacts
        libgos = {
            variant: replace(libgo, folder=self._here(libgo.library).parent.parent)
            for variant, libgo in artifacts.libgos.items()
        }
        preloads = {variant: tuple(map(self._here, libraries)) for variant, libraries in artifacts.preloads.items()}
        agent = self._here(artifacts.agent)
        here = replace(artifacts, agent=agent, libgos=libgos, preloads=preloads, programs={})
        return replace(setup, artifacts=here)

    def _files(self, files: BootFiles) -> BootFiles:
        def here(path: Path | None) -> Path | None:
            return path and self._here(path)

        modules = tuple((self._here(path), args) for path, args in files.modules)
        return replace(
            files,
            disk=here(files.disk),
            kernel=here(files.kernel),
            initrd=here(files.initrd),
            modules=modules,
            ssh_key=self._here(files.ssh_key),
        )

    def _fetch_program(self, spec: TrialSpec) -> None:
        """Have a trial's program here."""
        key = (spec.variant, spec.program.name)
        if path := self._order.context.guests[spec.guest].artifacts.programs.get(key):
            self._guests[spec.guest].artifacts.programs[key] = self._here(path)

    def _here(self, path: Path) -> Path:
        """A file of the other machine, fetched if it is not here. Raises StoreError, OSError and queue.Empty.

        If it lies at the same place here, this is the same machine, or has the same files.
        """
        bundle, name = self._order.places[path]
        same = {path.with_name(Path(place).name): hash_ for place, hash_ in bundle.files}
        if all(file.is_file() and _hash(file) == hash_ for file, hash_ in same.items()):
            return path
        about = " ".join(Path(file).name for file, _ in bundle.files)
        return self._cache.make(_KIND, bundle.key, partial(self._fetch, bundle), about=about) / name

    def _fetch(self, bundle: Bundle, folder: Path) -> None:
        for name, hash_ in bundle.files:
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.touch(0o600)
            order = secrets.token_hex(8)
            box = self._inbox[order] = queue.SimpleQueue()
            self._say("want", hash_, order=order)
            with target.open("r+b") as file:
                while (part := box.get(timeout=DELIVERY))[1]:
                    file.seek(part[0])
                    file.write(zlib.decompress(part[1]))
                file.truncate(part[0])
            del self._inbox[order]
            if file_digest(target) != hash_:
                raise StoreError(f"{name}: the file received has another SHA-256 than the one requested")

    def _listen(self, pool: WorkerPool) -> None:
        """Hand on what a pool reports; a pool without work goes home."""
        since = clock.time()
        while True:
            try:
                outcome = pool.results.get(timeout=1.0)
            except queue.Empty:
                with self._lock:
                    if self._waiting:
                        since = clock.time()
                    elif clock.time() > since + IDLE or self._left:
                        self._pool = None
                        break
                continue
            if outcome.trouble:
                guest, text = outcome.trouble
                self._say("trouble", text, guest=guest)
            if outcome.failure:
                for spec in list(self._waiting):
                    self._waiting.pop(spec).put(outcome)
            if outcome.spec:
                self._waiting.pop(outcome.spec).put(outcome)
        pool.stop()

    def _say(self, what: str, text: str, **more: str) -> None:
        self._worker.log_event(self._order.name, {"what": what, "worker": self._worker.address, "text": text, **more})

    def _leave(self, why: str) -> None:
        """Leave the cluster: what goes wrong here goes right elsewhere, or nowhere."""
        if not self._left:
            self._left = True
            self._say("leaves", why)
            self._worker.loop.add_callback(self._worker.close_gracefully, reason=why)


def runner_of(worker: Worker, name: str) -> _TrialRunner | None:
    """What runs a run's trials on a worker, by the name under which it was registered; None if it is not there."""
    plugin: Any = worker.plugins.get(name)
    return plugin if isinstance(plugin, _TrialRunner) else None


def _make(name: str, spec: TrialSpec) -> Outcome:
    """The task."""
    runner = runner_of(get_worker(), name)
    if runner is None:
        raise Reschedule
    return runner.make(spec)


def _deliver(name: str, order: str, at: int, data: bytes, dask_worker: Worker) -> None:
    if runner := runner_of(dask_worker, name):
        runner.receive(order, at, data)


def _version() -> str:
    return __version__
