// A thread is known by its stack, as on the Hurd until 2014.
//
// For: showing 2013's failure on a libc of today. The Hurd's libpthread of that day kept a thread's identity at the
// end of its stack and found it by masking the stack pointer (threadvars). On a goroutine's stack, which makecontext
// made, it found what was not this thread's, and failed its own assertion.
// Changes: a call in which that libpthread asked for the calling thread compares the stack pointer with the stack the
// thread was started on. If it is elsewhere, the assertion of that day is printed, with its words, and the program
// aborts. Nothing else changes: a thread on its own stack sees no difference.
// Separates: identity by stack from everything else that happened in 2013. What dies of it makes such calls on stacks
// that are not its threads'; what does not makes none that is checked here.
// Touches: pthread_create, pthread_self, pthread_exit, pthread_getspecific, pthread_setspecific,
// pthread_setcancelstate, pthread_setcanceltype and pthread_testcancel, which always asked; sem_wait, sem_timedwait
// and pthread_mutex_lock, which asked only when they had to wait. Recursive and error-checking mutexes always asked,
// but which they are cannot be seen from outside. __libc_start_main is wrapped to see the stack that main runs on.
// Leaves alone: pthread_sigmask, which asked too, since today's libgo calls it just before pthread_create where 2013's
// called sigprocmask: the failure is to be where it was. pthread_cond_*, which asked whenever they waited: two
// versions of them, with two layouts, hide behind one name on i386. Alternate signal stacks: that day's libc aborted
// on its own when a handler left one, so they are no part of this failure. Threads that were not made by
// pthread_create.
// Stricter than 2013: then, a foreign stack passed if what lay at its masked end happened to name the thread that ran
// on it. The first program of that day, which prints one line, passed.
// Environment: THREADVARS_2013=all also checks read, write, nanosleep and exit. That day's libc found errno, the reply
// port and the signal state by the stack in these, but asserted nothing, so the words printed are this file's own.
// With one processor libgo of today makes no call of the first kind from the stack of a goroutine that locks no
// thread.

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#define THREAD_LOCAL static __thread __attribute__ ((tls_model ("initial-exec")))

// The next definition of a function. dlsym (RTLD_NEXT) gives the oldest version there is, and i386 has an old
// pthread_create with another attribute structure; asked by its handle, the same library gives its default version.
static void *
next (const char *name)
{
  void *found = dlsym (RTLD_NEXT, name);
  Dl_info info;
  if (found != NULL && dladdr (found, &info) != 0 && info.dli_fname != NULL)
    {
      void *library = dlopen (info.dli_fname, RTLD_LAZY | RTLD_NOLOAD);
      if (library != NULL)
        {
          void *usual = dlsym (library, name);
          if (usual != NULL)
            found = usual;
          dlclose (library);
        }
    }
  return found;
}

// Declares real_NAME, which is looked up by the constructor, or at the first call if that comes earlier.
#define REAL(type, name, parameters, arguments)                                                                        \
  static type (*found_##name) parameters;                                                                              \
  static type real_##name parameters                                                                                   \
  {                                                                                                                    \
    if (found_##name == NULL)                                                                                          \
      found_##name = next (#name);                                                                                     \
    return found_##name arguments;                                                                                     \
  }

#define REAL_NORETURN(name, parameters, arguments)                                                                     \
  static void (*found_##name) parameters;                                                                              \
  static void __attribute__ ((noreturn)) real_##name parameters                                                        \
  {                                                                                                                    \
    if (found_##name == NULL)                                                                                          \
      found_##name = next (#name);                                                                                     \
    found_##name arguments;                                                                                            \
    __builtin_unreachable ();                                                                                          \
  }

typedef void *(*start_function) (void *);

REAL (int, pthread_create, (pthread_t *thread, const pthread_attr_t *attr, start_function start, void *arg),
      (thread, attr, start, arg))
REAL (pthread_t, pthread_self, (void), ())
REAL_NORETURN (pthread_exit, (void *value), (value))
REAL (void *, pthread_getspecific, (pthread_key_t key), (key))
REAL (int, pthread_setspecific, (pthread_key_t key, const void *value), (key, value))
REAL (int, pthread_setcancelstate, (int state, int *old), (state, old))
REAL (int, pthread_setcanceltype, (int type, int *old), (type, old))
REAL (void, pthread_testcancel, (void), ())
REAL (int, pthread_mutex_lock, (pthread_mutex_t *mutex), (mutex))
REAL (int, sem_wait, (sem_t *sem), (sem))
REAL (int, sem_timedwait, (sem_t *sem, const struct timespec *until), (sem, until))
REAL (ssize_t, read, (int fd, void *to, size_t size), (fd, to, size))
REAL (ssize_t, write, (int fd, const void *from, size_t size), (fd, from, size))
REAL (int, nanosleep, (const struct timespec *time, struct timespec *left), (time, left))
REAL_NORETURN (exit, (int status), (status))

static int check_all;
static int dying;
static uintptr_t main_top;

// The calling thread's own stack; both are 0 for a thread that is not known.
THREAD_LOCAL uintptr_t stack_low, stack_high;

static uintptr_t
less (uintptr_t address, uintptr_t size)
{
  return address > size ? address - size : 1;
}

// The main thread's stack may grow to its limit, which a program may change. Without one, what is more than 256 MB
// away is taken to be another stack.
static uintptr_t
main_low (uintptr_t high)
{
  const uintptr_t most = (uintptr_t) 256 << 20;
  struct rlimit limit;
  if (getrlimit (RLIMIT_STACK, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY || limit.rlim_cur > most)
    return less (high, most);
  return less (high, limit.rlim_cur);
}

static void
know_main (uintptr_t frame, uintptr_t above)
{
  // Arguments and environment lie above all frames, unless they are on another stack or were moved to the heap.
  if (above <= frame || above - frame > (uintptr_t) 16 << 20)
    above = frame + (64 << 10);
  main_top = stack_high = above;
  stack_low = main_low (above);
}

static void
know_thread (uintptr_t frame, size_t size)
{
  pthread_attr_t attr;
  void *low;
  if (pthread_getattr_np (real_pthread_self (), &attr) == 0)
    {
      size_t got;
      if (pthread_attr_getstack (&attr, &low, &got) == 0 && frame >= (uintptr_t) low && frame - (uintptr_t) low < got)
        {
          stack_low = (uintptr_t) low;
          stack_high = stack_low + got;
        }
      pthread_attr_destroy (&attr);
    }
  if (stack_high == 0)
    {
      stack_low = less (frame, size);
      stack_high = frame + (64 << 10);
    }
}

static int
elsewhere (uintptr_t frame)
{
  if (stack_high == 0 || (frame >= stack_low && frame < stack_high) || dying)
    return 0;
  if (stack_high == main_top)
    {
      stack_low = main_low (stack_high);
      if (frame >= stack_low && frame < stack_high)
        return 0;
    }
  stack_t alternate;
  return sigaltstack (NULL, &alternate) != 0 || !(alternate.ss_flags & SS_ONSTACK);
}

// The stack that this is called on may be small, so the text is made elsewhere. The first to come prints it, and others
// wait for the end that it brings.
static void __attribute__ ((noreturn, noinline))
fail (const char *place, const char *assertion)
{
  static char text[512];
  if (!__atomic_exchange_n (&dying, 1, __ATOMIC_SEQ_CST))
    {
      const char *const parts[]
        = { program_invocation_short_name, ": ", place, ": Assertion `", assertion, "' failed.\n" };
      size_t used = 0;
      for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        for (const char *at = parts[i]; *at != 0 && used < sizeof text; at++)
          text[used++] = *at;
      ssize_t written = real_write (2, text, used);
      (void) written;
      abort ();
    }
  for (;;)
    pause ();
}

// As reported in 2013 of pthread_create and of semaphores. Of the others neither the line nor a report is known.
#define WORDS(task)                                                                                                    \
  "({ mach_port_t ktid = __mach_thread_self (); int ok = thread->kernel_thread == ktid; "                              \
  "__mach_port_deallocate ((" task " + 0), ktid); ok; })"

#define ASK(place, assertion)                                                                                          \
  do                                                                                                                   \
    if (__builtin_expect (elsewhere ((uintptr_t) __builtin_frame_address (0)), 0))                                     \
      fail (place, assertion);                                                                                         \
  while (0)

#define ASK_THREAD(place) ASK (place, WORDS ("__mach_task_self_"))

#define ASK_LIBC(name)                                                                                                 \
  do                                                                                                                   \
    if (check_all)                                                                                                     \
      ASK ("threadvars-2013.c:0: " name, "the stack is the thread's own");                                             \
  while (0)

struct started
{
  start_function start;
  void *arg;
  size_t size;
};

static void *
started (void *data)
{
  struct started mine = *(struct started *) data;
  free (data);
  know_thread ((uintptr_t) __builtin_frame_address (0), mine.size);
  return mine.start (mine.arg);
}

int
pthread_create (pthread_t *restrict thread, const pthread_attr_t *restrict attr, start_function start,
                void *restrict arg)
{
  ASK ("./pthread/pt-create.c:167: __pthread_create_internal", WORDS ("__mach_task_self"));
  struct started *data = malloc (sizeof *data);
  if (data == NULL)
    return EAGAIN;
  data->start = start;
  data->arg = arg;
  data->size = 0;
  if (attr != NULL)
    pthread_attr_getstacksize (attr, &data->size);
  if (data->size == 0)
    data->size = 8 << 20;
  int error = real_pthread_create (thread, attr, started, data);
  if (error != 0)
    free (data);
  return error;
}

pthread_t
pthread_self (void)
{
  ASK_THREAD ("./pthread/pt-self.c:0: pthread_self");
  return real_pthread_self ();
}

void
pthread_exit (void *value)
{
  ASK_THREAD ("./pthread/pt-exit.c:0: pthread_exit");
  real_pthread_exit (value);
}

void *
pthread_getspecific (pthread_key_t key)
{
  ASK_THREAD ("./pthread/../sysdeps/hurd/pt-getspecific.c:0: pthread_getspecific");
  return real_pthread_getspecific (key);
}

int
pthread_setspecific (pthread_key_t key, const void *value)
{
  ASK_THREAD ("./pthread/../sysdeps/hurd/pt-setspecific.c:0: pthread_setspecific");
  return real_pthread_setspecific (key, value);
}

int
pthread_setcancelstate (int state, int *old)
{
  ASK_THREAD ("./pthread/pt-setcancelstate.c:0: pthread_setcancelstate");
  return real_pthread_setcancelstate (state, old);
}

int
pthread_setcanceltype (int type, int *old)
{
  ASK_THREAD ("./pthread/pt-setcanceltype.c:0: pthread_setcanceltype");
  return real_pthread_setcanceltype (type, old);
}

void
pthread_testcancel (void)
{
  ASK_THREAD ("./pthread/pt-testcancel.c:0: pthread_testcancel");
  real_pthread_testcancel ();
}

int
pthread_mutex_lock (pthread_mutex_t *mutex)
{
  int error = pthread_mutex_trylock (mutex);
  if (error != EBUSY)
    return error;
  ASK_THREAD ("./pthread/../sysdeps/generic/pt-mutex-timedlock.c:0: __pthread_mutex_timedlock_internal");
  return real_pthread_mutex_lock (mutex);
}

// Both waits were one function then.
#define ASK_SEMAPHORE                                                                                                  \
  ASK_THREAD ("./pthread/../sysdeps/generic/sem-timedwait.c:50: __sem_timedwait_internal")

// Whether a semaphore could be had without waiting. That is a cancellation point too.
static int
had (sem_t *sem)
{
  int before = errno;
  real_pthread_testcancel ();
  if (sem_trywait (sem) == 0)
    return 1;
  errno = before;
  return 0;
}

int
sem_wait (sem_t *sem)
{
  if (had (sem))
    return 0;
  ASK_SEMAPHORE;
  return real_sem_wait (sem);
}

int
sem_timedwait (sem_t *restrict sem, const struct timespec *restrict until)
{
  if (until->tv_nsec >= 0 && until->tv_nsec < 1000000000)
    {
      if (had (sem))
        return 0;
      ASK_SEMAPHORE;
    }
  return real_sem_timedwait (sem, until);
}

ssize_t
read (int fd, void *to, size_t size)
{
  ASK_LIBC ("read");
  return real_read (fd, to, size);
}

ssize_t
write (int fd, const void *from, size_t size)
{
  ASK_LIBC ("write");
  return real_write (fd, from, size);
}

int
nanosleep (const struct timespec *time, struct timespec *left)
{
  ASK_LIBC ("nanosleep");
  return real_nanosleep (time, left);
}

void
exit (int status)
{
  ASK_LIBC ("exit");
  real_exit (status);
}

// main may run on another stack than the constructor below.

typedef int (*main_function) (int, char **, char **);
typedef void (*plain_function) (void);

static main_function real_main;

static int
seen_main (int argc, char **argv, char **envp)
{
  uintptr_t frame = (uintptr_t) __builtin_frame_address (0);
  if (frame < stack_low || frame >= stack_high)
    know_main (frame, (uintptr_t) envp);
  return real_main (argc, argv, envp);
}

int
__libc_start_main (main_function program, int argc, char **argv, plain_function init, plain_function fini,
                   plain_function rtld_fini, void *stack_end)
{
  int (*real) (main_function, int, char **, plain_function, plain_function, plain_function, void *)
    = next ("__libc_start_main");
  real_main = program;
  return real (seen_main, argc, argv, init, fini, rtld_fini, stack_end);
}

static void __attribute__ ((constructor))
prepare (void)
{
  const char *also = getenv ("THREADVARS_2013");
  check_all = also != NULL && strcmp (also, "all") == 0;
  know_main ((uintptr_t) __builtin_frame_address (0), (uintptr_t) environ);

  // Looked up here rather than on a small stack later.
#define FIND(name) found_##name = next (#name)
  FIND (pthread_create);
  FIND (pthread_self);
  FIND (pthread_exit);
  FIND (pthread_getspecific);
  FIND (pthread_setspecific);
  FIND (pthread_setcancelstate);
  FIND (pthread_setcanceltype);
  FIND (pthread_testcancel);
  FIND (pthread_mutex_lock);
  FIND (sem_wait);
  FIND (sem_timedwait);
  FIND (read);
  FIND (write);
  FIND (nanosleep);
  FIND (exit);
}
