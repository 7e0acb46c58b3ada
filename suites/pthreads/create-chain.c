// run

// A chain of forty detached threads, each made by the one before, which ends at once. The second chain starts while the
// threads of the first one end. What fails here, and not in churn, is the making of threads by threads that are not the
// first one, or while their maker ends.

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define CHAINS 2
#define LENGTH 40

static sem_t ended;
static int numbers[LENGTH];

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
make_next (void *argument)
{
  int *number = argument;
  if (number + 1 < numbers + LENGTH)
    {
      number[1] = number[0] + 1;
      make_detached (make_next, number + 1);
    }
  else
    check_errno (sem_post (&ended), "sem_post");
  return NULL;
}

int
main (void)
{
  check_errno (sem_init (&ended, 0, 0), "sem_init");
  for (int chain = 0; chain < CHAINS; chain++)
    {
      memset (numbers, 0, sizeof numbers);
      make_detached (make_next, numbers);
      check_errno (sem_wait (&ended), "sem_wait");
      if (numbers[LENGTH - 1] != LENGTH - 1)
        {
          fprintf (stderr, "the last thread got the number %d\n", numbers[LENGTH - 1]);
          return 1;
        }
    }
  printf ("%d chains of %d threads\n", CHAINS, LENGTH);
}
