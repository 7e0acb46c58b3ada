// Random waits around the calls of threads.
//
// For: races that show too rarely. Another seed is another run; the same seed gives the same waits again.
// Changes: a thread waits before or after the calls below: three times in four not at all, else it yields, and once in
// 32 times it sleeps for 0.1 to 5 ms. Each thread draws from numbers of its own, made from the seed and from its place
// in the order of creation (the main thread is 0), so that its nth wait depends on nothing else. Which of two threads
// comes first is still the system's choice, as is the order in which two make threads at the same time.
// Separates: nothing by itself. A failure that comes with it and not without it is one of timing.
// Touches: pthread_create, pthread_join, pthread_detach, the start and the end of a thread (pthread_exit),
// pthread_mutex_lock, pthread_mutex_unlock, sem_wait, sem_timedwait, sem_post, sched_yield. On Linux libgo sleeps by
// futex, which is not among them: there only the making, the start and the end of its threads and its yields are.
// Leaves alone: pthread_cond_*, of which i386 has two versions, with two layouts, behind one name.
// Environment: HARNESS_SEED, a decimal number (default 1).

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <stdint.h>
#include <stdlib.h>
#include <time.h>

#define THREAD_LOCAL static __thread __attribute__ ((tls_model ("initial-exec")))

typedef void *(*start_function) (void *);

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

REAL (int, pthread_create, (pthread_t *thread, const pthread_attr_t *attr, start_function start, void *arg),
      (thread, attr, start, arg))
REAL (int, pthread_join, (pthread_t thread, void **value), (thread, value))
REAL (int, pthread_detach, (pthread_t thread), (thread))
REAL (void, pthread_exit, (void *value), (value))
REAL (int, pthread_mutex_lock, (pthread_mutex_t *mutex), (mutex))
REAL (int, pthread_mutex_unlock, (pthread_mutex_t *mutex), (mutex))
REAL (int, sem_wait, (sem_t *sem), (sem))
REAL (int, sem_timedwait, (sem_t *sem, const struct timespec *until), (sem, until))
REAL (int, sem_post, (sem_t *sem), (sem))
REAL (int, sched_yield, (void), ())

// The waits use libc's own functions, past all wrappers: what this file does is not to be taken for the program's.
static int (*own_yield) (void);
static int (*own_nanosleep) (const struct timespec *, struct timespec *);
static int (*own_setcancelstate) (int, int *);

static void *
own (void *libc, const char *name)
{
  void *found = libc != NULL ? dlsym (libc, name) : NULL;
  return found != NULL ? found : next (name);
}

static void
find_own (void)
{
  Dl_info info;
  void *libc = NULL;
  if (dladdr ((void *) getenv, &info) != 0 && info.dli_fname != NULL)
    libc = dlopen (info.dli_fname, RTLD_LAZY | RTLD_NOLOAD);
  own_nanosleep = own (libc, "nanosleep");
  own_setcancelstate = own (libc, "pthread_setcancelstate");
  own_yield = own (libc, "sched_yield");
}

static uint64_t seed;
static int seed_known;
static int ready;
static unsigned threads_made;

// Where the calling thread's numbers are; 0 before the first.
THREAD_LOCAL uint64_t state;

static uint64_t
mixed (uint64_t x)
{
  x = (x ^ x >> 30) * UINT64_C (0xbf58476d1ce4e5b9);
  x = (x ^ x >> 27) * UINT64_C (0x94d049bb133111eb);
  return x ^ x >> 31;
}

static uint64_t
draw (void)
{
  state += UINT64_C (0x9e3779b97f4a7c15);
  return mixed (state);
}

static void
begin (unsigned number)
{
  if (!seed_known)
    {
      const char *text = getenv ("HARNESS_SEED");
      char *end = NULL;
      unsigned long long given = text != NULL ? strtoull (text, &end, 10) : 0;
      seed = end != NULL && end != text && *end == 0 ? given : 1;
      seed_known = 1;
    }
  state = mixed (mixed (seed + UINT64_C (0x9e3779b97f4a7c15)) + number);
  if (state == 0)
    state = 1;
}

static void
wait_a_little (void)
{
  int before = errno;
  // Before the constructor there is the main thread alone. A thread that pthread_create did not make is numbered here.
  if (state == 0)
    begin (ready ? __atomic_add_fetch (&threads_made, 1, __ATOMIC_SEQ_CST) : 0);
  if (own_yield == NULL)
    find_own ();
  unsigned kind = draw () % 32;
  if (kind == 0)
    {
      // A thread may be cancelled while it sleeps, but not where it takes a mutex.
      struct timespec time = { 0, 100000 + draw () % 4900001 };
      int cancel;
      own_setcancelstate (PTHREAD_CANCEL_DISABLE, &cancel);
      own_nanosleep (&time, NULL);
      own_setcancelstate (cancel, &cancel);
    }
  else if (kind < 8)
    own_yield ();
  errno = before;
}

struct started
{
  start_function start;
  void *arg;
  unsigned number;
};

static void *
started (void *data)
{
  struct started mine = *(struct started *) data;
  free (data);
  begin (mine.number);
  wait_a_little ();
  void *value = mine.start (mine.arg);
  wait_a_little ();
  return value;
}

int
pthread_create (pthread_t *restrict thread, const pthread_attr_t *restrict attr, start_function start,
                void *restrict arg)
{
  wait_a_little ();
  struct started *data = malloc (sizeof *data);
  if (data == NULL)
    return EAGAIN;
  data->start = start;
  data->arg = arg;
  data->number = __atomic_add_fetch (&threads_made, 1, __ATOMIC_SEQ_CST);
  int error = real_pthread_create (thread, attr, started, data);
  if (error != 0)
    free (data);
  wait_a_little ();
  return error;
}

int
pthread_join (pthread_t thread, void **value)
{
  wait_a_little ();
  return real_pthread_join (thread, value);
}

int
pthread_detach (pthread_t thread)
{
  wait_a_little ();
  return real_pthread_detach (thread);
}

void
pthread_exit (void *value)
{
  wait_a_little ();
  real_pthread_exit (value);
  __builtin_unreachable ();
}

int
pthread_mutex_lock (pthread_mutex_t *mutex)
{
  wait_a_little ();
  return real_pthread_mutex_lock (mutex);
}

int
pthread_mutex_unlock (pthread_mutex_t *mutex)
{
  int error = real_pthread_mutex_unlock (mutex);
  wait_a_little ();
  return error;
}

int
sem_wait (sem_t *sem)
{
  wait_a_little ();
  return real_sem_wait (sem);
}

int
sem_timedwait (sem_t *restrict sem, const struct timespec *restrict until)
{
  wait_a_little ();
  return real_sem_timedwait (sem, until);
}

int
sem_post (sem_t *sem)
{
  wait_a_little ();
  int error = real_sem_post (sem);
  wait_a_little ();
  return error;
}

int
sched_yield (void)
{
  wait_a_little ();
  return real_sched_yield ();
}

static void __attribute__ ((constructor))
prepare (void)
{
  // Looked up here rather than on a small stack later.
#define FIND(name) found_##name = next (#name)
  FIND (pthread_create);
  FIND (pthread_join);
  FIND (pthread_detach);
  FIND (pthread_exit);
  FIND (pthread_mutex_lock);
  FIND (pthread_mutex_unlock);
  FIND (sem_wait);
  FIND (sem_timedwait);
  FIND (sem_post);
  FIND (sched_yield);
  find_own ();
  if (state == 0)
    begin (0);
  ready = 1;
}
