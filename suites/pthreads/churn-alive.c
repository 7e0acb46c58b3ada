// run
// args: 80

// As many detached threads as its argument says are alive together, wait for one broadcast, and all end at once; five
// times. What fails here, and not in churn, comes of many stacks side by side or of threads that end at the same
// moment; a hang means that the broadcast missed a thread.

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define ROUNDS 5

static sem_t there, leaving;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t opened = PTHREAD_COND_INITIALIZER;
static int rounds[ROUNDS];
static int open_rounds; /* of which the threads may end */

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
wait_for_end (void *argument)
{
  int *round = argument;
  check_errno (sem_post (&there), "sem_post");
  check (pthread_mutex_lock (&mutex), "pthread_mutex_lock");
  while (open_rounds <= *round)
    check (pthread_cond_wait (&opened, &mutex), "pthread_cond_wait");
  check (pthread_mutex_unlock (&mutex), "pthread_mutex_unlock");
  check_errno (sem_post (&leaving), "sem_post");
  return NULL;
}

int
main (int argc, char **argv)
{
  int count = argc > 1 ? atoi (argv[1]) : 80;
  if (count < 1)
    {
      fprintf (stderr, "not a number of threads: %s\n", argv[1]);
      return 1;
    }
  check_errno (sem_init (&there, 0, 0), "sem_init");
  check_errno (sem_init (&leaving, 0, 0), "sem_init");
  for (int round = 0; round < ROUNDS; round++)
    {
      rounds[round] = round;
      for (int i = 0; i < count; i++)
        make_detached (wait_for_end, &rounds[round]);
      for (int i = 0; i < count; i++)
        check_errno (sem_wait (&there), "sem_wait");
      check (pthread_mutex_lock (&mutex), "pthread_mutex_lock");
      open_rounds++;
      check (pthread_cond_broadcast (&opened), "pthread_cond_broadcast");
      check (pthread_mutex_unlock (&mutex), "pthread_mutex_unlock");
      for (int i = 0; i < count; i++)
        check_errno (sem_wait (&leaving), "sem_wait");
    }
  printf ("%d rounds of %d threads ended\n", ROUNDS, count);
}
