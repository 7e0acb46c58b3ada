// Every third thread is refused.
//
// For: what a program does when the system has no thread left. On i386 some 300 stacks fill the Hurd's 3 GB.
// Changes: each Nth pthread_create makes no thread and returns EAGAIN. libgo tries it again, up to 20 times.
// Separates: the handling of a refused thread from running out of memory, which refuses other things too.
// Touches: pthread_create.
// Environment: REFUSE_THREADS_EVERY, the N (default 3). 1 refuses every thread, 0 none.

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

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
static unsigned long every;
static unsigned long calls;

static void __attribute__ ((constructor))
prepare (void)
{
  if (real_create != NULL)
    return;
  const char *text = getenv ("REFUSE_THREADS_EVERY");
  char *end = NULL;
  unsigned long number = text != NULL ? strtoul (text, &end, 10) : 0;
  every = end != NULL && end != text && *end == 0 ? number : 3;
  real_create = next ("pthread_create");
}

int
pthread_create (pthread_t *restrict thread, const pthread_attr_t *restrict attr, start_function start,
                void *restrict arg)
{
  prepare ();
  if (every != 0 && __atomic_add_fetch (&calls, 1, __ATOMIC_SEQ_CST) % every == 0)
    return EAGAIN;
  return real_create (thread, attr, start, arg);
}
