// A thread takes long to end.
//
// For: what relies on a thread being gone soon after its function returned: a join, the reuse of its stack and of its
// structure, a count of threads.
// Changes: a thread that returned from its start function, called pthread_exit or was cancelled sleeps before it is
// gone. It sleeps in a key's destructor, in the second round of destructors: after those of all other keys.
// Separates: a race between a thread's end and what comes after it from everything else. A failure that comes with it,
// or comes more often, lies there.
// Touches: pthread_create. A thread that ends by exit of the program, or in the kernel, does not sleep.
// Environment: SLOW_EXIT_MS, the milliseconds (default 50).

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <time.h>

typedef void *(*start_function) (void *);
typedef int (*create_function) (pthread_t *, const pthread_attr_t *, start_function, void *);

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

static create_function real_create;
static pthread_key_t key;
static int have_key;
static unsigned long milliseconds;

// The key's value says in which round of destructors it is.
static char first_round, second_round;

static void
at_end (void *round)
{
  if (round == &first_round)
    {
      pthread_setspecific (key, &second_round);
      return;
    }
  int cancel;
  pthread_setcancelstate (PTHREAD_CANCEL_DISABLE, &cancel);
  struct timespec left = { milliseconds / 1000, milliseconds % 1000 * 1000000 };
  while (nanosleep (&left, &left) != 0 && errno == EINTR)
    ;
}

static void __attribute__ ((constructor))
prepare (void)
{
  if (real_create != NULL)
    return;
  const char *text = getenv ("SLOW_EXIT_MS");
  char *end = NULL;
  unsigned long number = text != NULL ? strtoul (text, &end, 10) : 0;
  milliseconds = end != NULL && end != text && *end == 0 ? number : 50;
  have_key = pthread_key_create (&key, at_end) == 0;
  real_create = next ("pthread_create");
}

struct started
{
  start_function start;
  void *arg;
};

static void *
started (void *data)
{
  struct started mine = *(struct started *) data;
  free (data);
  if (have_key)
    pthread_setspecific (key, &first_round);
  return mine.start (mine.arg);
}

int
pthread_create (pthread_t *restrict thread, const pthread_attr_t *restrict attr, start_function start,
                void *restrict arg)
{
  prepare ();
  struct started *data = malloc (sizeof *data);
  if (data == NULL)
    return EAGAIN;
  data->start = start;
  data->arg = arg;
  int error = real_create (thread, attr, started, data);
  if (error != 0)
    free (data);
  return error;
}
