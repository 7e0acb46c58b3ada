"""The given preloaded libraries: each compiles, says what it is for, and does on this host what it says."""

import platform
import shutil
import subprocess
import sys

import pytest

from harness import conf, paths

FILES = sorted((paths.DATA / "conf/preload").glob("*.c"))
#: What the header of each preload says, in paragraphs that begin so.
KEYWORDS = ("For:", "Changes:", "Separates:", "Touches:", "Environment:")
STRICT = ["-Wall", "-Wextra", "-Werror", "-O2", "-pthread"]

on_this_host = pytest.mark.skipif(
    shutil.which("gcc") is None or platform.machine() != "x86_64" or sys.platform != "linux",
    reason="no gcc, or no Linux on amd64, on which these programs could be run",
)


def compile_with(gcc, arguments):
    process = subprocess.run([*gcc, *STRICT, *arguments, "-ldl"], capture_output=True, text=True)
    assert process.returncode == 0, process.stderr


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_each_preload_compiles_without_warnings(file, tools, tmp_path):
    compile_with([tools.gcc, *tools.compile_flags], ["-shared", "-fPIC", "-o", tmp_path / "library.so", file])


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_each_preload_is_described(file):
    lines = file.read_text().splitlines()
    header = lines[: next(number for number, line in enumerate(lines) if not line.startswith("//"))]
    assert header[0].endswith("."), "it begins with a sentence"
    assert [word for word in KEYWORDS if not any(line.startswith(f"// {word}") for line in header)] == []


def test_each_preload_is_of_a_variant():
    configuration = conf.load()
    used = {file.name for name in configuration.variants for file in configuration.preloads(name)}
    assert used == {file.name for file in FILES} != set()


@pytest.fixture(scope="module")
def libraries(tmp_path_factory):
    """The preloads for this host, by name."""
    folder = tmp_path_factory.mktemp("preloads")
    for file in FILES:
        compile_with(["gcc"], ["-shared", "-fPIC", "-o", folder / f"{file.stem}.so", file])
    return {file.stem: folder / f"{file.stem}.so" for file in FILES}


@pytest.fixture
def preloaded(libraries, write, tmp_path):
    """Run a C program with a preload, or with none."""

    def run(text, name="", arguments=(), **env):
        program = tmp_path / "program"
        if not program.exists():
            compile_with(["gcc"], ["-o", program, write("program.c", text)])
        env |= {"LD_PRELOAD": str(libraries[name])} if name else {}
        return subprocess.run([program, *arguments], env=env, capture_output=True, text=True, timeout=600)

    return run


#: Makes nine threads, joins those that were made, and prints what came of each: `.` or E for EAGAIN.
NINE = r"""
#include <errno.h>
#include <pthread.h>
#include <stdio.h>

static int ended;

static void *
count (void *unused)
{
  (void) unused;
  __atomic_add_fetch (&ended, 1, __ATOMIC_SEQ_CST);
  return NULL;
}

int
main (void)
{
  int joined = 0;
  for (int i = 0; i < 9; i++)
    {
      pthread_t thread;
      int error = pthread_create (&thread, NULL, count, NULL);
      putchar (error == 0 ? '.' : error == EAGAIN ? 'E' : '?');
      if (error == 0 && pthread_join (thread, NULL) == 0)
        joined++;
    }
  putchar ('\n');
  return joined != ended;
}
"""


@on_this_host
@pytest.mark.parametrize(
    ("name", "env", "outcomes"),
    [
        ("", {}, "........."),
        ("refuse-threads", {}, "..E..E..E"),
        ("refuse-threads", {"REFUSE_THREADS_EVERY": "1"}, "EEEEEEEEE"),
        ("refuse-threads", {"REFUSE_THREADS_EVERY": "4"}, "...E...E."),
        ("refuse-threads", {"REFUSE_THREADS_EVERY": "0"}, "........."),
        ("refuse-threads", {"REFUSE_THREADS_EVERY": "4x"}, "..E..E..E"),
        ("slow-exit", {"SLOW_EXIT_MS": "1"}, "........."),
        ("perturb", {}, "........."),
        ("threadvars-2013", {"THREADVARS_2013": "all"}, "........."),
    ],
)
def test_which_threads_are_refused(preloaded, name, env, outcomes):
    process = preloaded(NINE, name, **env)
    assert (process.returncode, process.stdout, process.stderr) == (0, f"{outcomes}\n", "")


#: Ends a thread in the way that its argument names, and prints how many milliseconds passed until it was joined. The
#: thread has a key of its own, whose destructor is counted.
ENDING = r"""
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static const char *way;
static pthread_key_t key;
static int destroyed;

static void
destroy (void *value)
{
  (void) value;
  destroyed++;
}

static void *
end (void *unused)
{
  pthread_setspecific (key, &key);
  if (strcmp (way, "exit") == 0)
    pthread_exit (NULL);
  if (strcmp (way, "cancel") == 0)
    for (;;)
      pause ();
  return unused;
}

int
main (int argc, char **argv)
{
  struct timespec before, after;
  pthread_t thread;
  way = argc > 1 ? argv[1] : "";
  if (pthread_key_create (&key, destroy) != 0 || clock_gettime (CLOCK_MONOTONIC, &before) != 0
      || pthread_create (&thread, NULL, end, NULL) != 0)
    return 1;
  if (strcmp (way, "cancel") == 0 && pthread_cancel (thread) != 0)
    return 2;
  if (pthread_join (thread, NULL) != 0 || clock_gettime (CLOCK_MONOTONIC, &after) != 0)
    return 3;
  printf ("%ld %d\n", (after.tv_sec - before.tv_sec) * 1000 + (after.tv_nsec - before.tv_nsec) / 1000000, destroyed);
}
"""


@on_this_host
@pytest.mark.parametrize("way", ["return", "exit", "cancel"])
@pytest.mark.parametrize(("env", "least"), [({}, 50), ({"SLOW_EXIT_MS": "300"}, 300)])
def test_a_thread_ends_slowly(preloaded, way, env, least):
    process = preloaded(ENDING, "slow-exit", [way], **env)
    milliseconds, destroyed = map(int, process.stdout.split())
    assert milliseconds >= least and destroyed == 1
    fastest = min(int(preloaded(ENDING, "slow-exit", [way], SLOW_EXIT_MS="0").stdout.split()[0]) for _ in range(5))
    assert fastest < 40


#: Does what its first argument names, on a stack of makecontext's if its second is `context`.
ON_A_STACK = r"""
#define _GNU_SOURCE
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

static const char *call;
static ucontext_t home, context;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;

static void *
nothing (void *argument)
{
  return argument;
}

static void
act (void)
{
  sem_t sem;
  struct timespec soon = { 0, 1000 }, past = { 0, 0 };
  sem_init (&sem, 0, 1);
  if (strcmp (call, "create") == 0)
    {
      pthread_t thread;
      if (pthread_create (&thread, NULL, nothing, NULL) == 0)
        pthread_join (thread, NULL);
    }
  else if (strcmp (call, "testcancel") == 0)
    pthread_testcancel ();
  else if (strcmp (call, "sem-free") == 0)
    sem_wait (&sem);
  else if (strcmp (call, "sem-waits") == 0)
    {
      sem_wait (&sem);
      sem_timedwait (&sem, &past);
    }
  else if (strcmp (call, "mutex-free") == 0)
    pthread_mutex_lock (&mutex);
  else if (strcmp (call, "nanosleep") == 0)
    nanosleep (&soon, NULL);
  else
    abort ();
}

static void *
begin (void *where)
{
  char *stack = malloc (65536);
  if (strcmp (where, "context") != 0)
    act ();
  else
    {
      getcontext (&context);
      context.uc_stack.ss_sp = stack;
      context.uc_stack.ss_size = 65536;
      context.uc_link = &home;
      makecontext (&context, act, 0);
      swapcontext (&home, &context);
    }
  free (stack);
  return NULL;
}

int
main (int argc, char **argv)
{
  pthread_t thread;
  if (argc < 4)
    return 2;
  call = argv[1];
  if (strcmp (argv[3], "main") == 0)
    begin (argv[2]);
  else if (pthread_create (&thread, NULL, begin, argv[2]) != 0 || pthread_join (thread, NULL) != 0)
    return 3;
  puts ("done");
}
"""
WORDS = (
    "({{ mach_port_t ktid = __mach_thread_self (); int ok = thread->kernel_thread == ktid;"
    " __mach_port_deallocate (({} + 0), ktid); ok; }})"
)
CREATE = f"./pthread/pt-create.c:167: __pthread_create_internal: Assertion `{WORDS.format('__mach_task_self')}' failed."
SEMAPHORE = (
    "./pthread/../sysdeps/generic/sem-timedwait.c:50: __sem_timedwait_internal:"
    f" Assertion `{WORDS.format('__mach_task_self_')}' failed."
)


@on_this_host
@pytest.mark.parametrize("thread", ["main", "other"])
@pytest.mark.parametrize(("call", "assertion"), [("create", CREATE), ("sem-waits", SEMAPHORE)])
def test_a_call_on_a_context_dies_of_2013_s_words(preloaded, call, assertion, thread):
    process = preloaded(ON_A_STACK, "threadvars-2013", [call, "context", thread])
    assert (process.returncode, process.stdout, process.stderr) == (-6, "", f"program: {assertion}\n")
    process = preloaded(ON_A_STACK, "threadvars-2013", [call, "own", thread], THREADVARS_2013="all")
    assert (process.returncode, process.stdout, process.stderr) == (0, "done\n", "")
    assert preloaded(ON_A_STACK, "", [call, "context", thread]).stdout == "done\n", "it is the preload's doing"


@on_this_host
@pytest.mark.parametrize(
    ("call", "alone", "all_checked"),
    [("testcancel", -6, -6), ("sem-free", 0, 0), ("mutex-free", 0, 0), ("nanosleep", 0, -6)],
)
def test_calls_that_asked_for_no_thread_are_let_be(preloaded, call, alone, all_checked):
    for env, status in (({}, alone), ({"THREADVARS_2013": "all"}, all_checked)):
        process = preloaded(ON_A_STACK, "threadvars-2013", [call, "context", "other"], **env)
        assert process.returncode == status, process.stderr
        assert ("Assertion `" in process.stderr) is (status == -6)


#: Four threads add to a sum under a mutex and post semaphores; main waits for all and prints the sum.
SUM = r"""
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <stdio.h>

#define THREADS 4
#define ROUNDS 200

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static sem_t posted;
static long sum;

static void *
add (void *number)
{
  for (int i = 0; i < ROUNDS; i++)
    {
      pthread_mutex_lock (&mutex);
      long before = sum;
      if (i % 8 == 0)
        sched_yield ();
      sum = before + *(int *) number;
      pthread_mutex_unlock (&mutex);
      sem_post (&posted);
    }
  return number;
}

int
main (void)
{
  pthread_t threads[THREADS];
  int numbers[THREADS];
  sem_init (&posted, 0, 0);
  for (int i = 0; i < THREADS; i++)
    {
      numbers[i] = i + 1;
      if (pthread_create (&threads[i], NULL, add, &numbers[i]) != 0)
        return 1;
    }
  for (int i = 0; i < THREADS * ROUNDS; i++)
    sem_wait (&posted);
  for (int i = 0; i < THREADS; i++)
    {
      void *value;
      if (pthread_join (threads[i], &value) != 0 || value != &numbers[i])
        return 2;
    }
  printf ("%ld\n", sum);
}
"""


@on_this_host
@pytest.mark.parametrize("seed", ["1", "1", "2", "2147483647", "none"])
def test_a_perturbed_program_is_still_right(preloaded, seed):
    process = preloaded(SUM, "perturb", HARNESS_SEED=seed)
    assert (process.returncode, process.stdout, process.stderr) == (0, "2000\n", "")


#: A single thread locks and unlocks a mutex, once so that all is loaded; then it prints how often it slept in each of
#: sixteen stages.
SLEEPS = r"""
#define _GNU_SOURCE
#include <pthread.h>
#include <stdio.h>
#include <sys/resource.h>

static long
sleeps (void)
{
  struct rusage usage;
  return getrusage (RUSAGE_THREAD, &usage) == 0 ? usage.ru_nvcsw : -1;
}

int
main (void)
{
  pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
  long counts[17];
  pthread_mutex_lock (&mutex);
  pthread_mutex_unlock (&mutex);
  counts[0] = sleeps ();
  for (int i = 0; i < 16; i++)
    {
      for (int k = 0; k < 10; k++)
        {
          pthread_mutex_lock (&mutex);
          pthread_mutex_unlock (&mutex);
        }
      counts[i + 1] = sleeps ();
    }
  for (int i = 0; i < 16; i++)
    printf ("%ld ", counts[i + 1] - counts[i]);
}
"""


@on_this_host
def test_a_seed_decides_where_a_thread_waits(preloaded):
    slept = {seed: preloaded(SLEEPS, "perturb", HARNESS_SEED=seed).stdout for seed in ("1", "2", "3")}
    assert len(set(slept.values())) == 3, "another seed is another run"
    assert all(preloaded(SLEEPS, "perturb", HARNESS_SEED=seed).stdout == text for seed, text in slept.items())
    assert preloaded(SLEEPS, "perturb").stdout == slept["1"], "the seed is 1 unless one is given"
    assert all(1 <= sum(map(int, text.split())) <= 40 for text in slept.values()), "about ten of 320 calls"
    assert sum(map(int, preloaded(SLEEPS).stdout.split())) == 0
