// run
// args: 500

// As many detached threads as its argument says are made and end, each only when the last one has said that it ends;
// five hundred stacks of 8 MB are more than the 3 GB of a 32-bit process. What fails here, and not in create-join, is
// used up or goes stale: stacks and thread structures of libpthread, ports of the kernel.

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

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
  pthread_t thread;
  time_t start = time (NULL);
  int error;
  while ((error = pthread_create (&thread, &attributes, function, argument)) == EAGAIN && time (NULL) - start < 20)
    sched_yield ();
  check (error, "pthread_create");
  check (pthread_attr_destroy (&attributes), "pthread_attr_destroy");
}

static void *
end (void *argument)
{
  check_errno (sem_post (&ended), "sem_post");
  return argument;
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
      make_detached (end, NULL);
      check_errno (sem_wait (&ended), "sem_wait");
    }
  printf ("%d threads ended\n", count);
}
