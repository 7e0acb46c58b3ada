// run
// args: 500

// Like churn, but each thread has a stack of 1 MiB, and writes to half of it. What fails in churn and not here comes of
// the size of stacks and the room for them. A crash here, and not in churn, means that a thread got less stack than it
// was given, or another's.

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define STACK_SIZE (1024 * 1024)

static sem_t ended;

/* Ends the program when a call fails that returns its error.  */
static void
check (int error, const char *call)
{
  if (error == 0)
    return;
  fprintf (stderr, "%s failed: %s\n", call, strerror (error));
  _exit (1);
}

/* Ends the program when a call fails that returns -1 and sets errno.  */
static void
check_errno (int result, const char *call)
{
  if (result != -1)
    return;
  fprintf (stderr, "%s failed: %s\n", call, strerror (errno));
  _exit (1);
}

/* Makes a detached thread. As libgo does, it tries again while the memory of threads that have just ended is not free
   yet.  */
static void
make_detached (void *(*function) (void *), void *argument)
{
  pthread_attr_t attributes;
  check (pthread_attr_init (&attributes), "pthread_attr_init");
  check (pthread_attr_setdetachstate (&attributes, PTHREAD_CREATE_DETACHED), "pthread_attr_setdetachstate");
  check (pthread_attr_setstacksize (&attributes, STACK_SIZE), "pthread_attr_setstacksize");
  pthread_t thread;
  time_t start = time (NULL);
  int error;
  while ((error = pthread_create (&thread, &attributes, function, argument)) == EAGAIN && time (NULL) - start < 20)
    sched_yield ();
  check (error, "pthread_create");
  check (pthread_attr_destroy (&attributes), "pthread_attr_destroy");
}

static void *
fill_and_end (void *argument)
{
  int *number = argument;
  volatile int array[STACK_SIZE / 2 / sizeof (int)];
  /* One number on each page, or more where pages are larger than 4096 bytes.  */
  size_t step = 4096 / sizeof (int), length = sizeof array / sizeof array[0];
  for (size_t i = 0; i < length; i += step)
    array[i] = *number + (int) i;
  for (size_t i = 0; i < length; i += step)
    if (array[i] != *number + (int) i)
      {
        fprintf (stderr, "the stack of thread %d has %d at %zu\n", *number, array[i], i);
        _exit (1);
      }
  check_errno (sem_post (&ended), "sem_post");
  return NULL;
}

int
main (int argc, char **argv)
{
  int count = argc > 1 ? atoi (argv[1]) : 500;
  if (count < 1)
    {
      fprintf (stderr, "not a number of threads: %s\n", argv[1]);
      return 1;
    }
  check_errno (sem_init (&ended, 0, 0), "sem_init");
  for (int i = 0; i < count; i++)
    {
      make_detached (fill_and_end, &i);
      check_errno (sem_wait (&ended), "sem_wait");
    }
  printf ("%d threads ended, with %d bytes of stack each\n", count, STACK_SIZE);
}
