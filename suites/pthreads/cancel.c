// run

// Six threads are cancelled: five that wait in calls which cancellation may end, and one that computes and then asks
// for it. Each must run its handler and end; the lines are printed in turn, so the first one missing names the call
// which cancellation does not end. libgo cancels nothing: a failure here alone does not touch Go.

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static sem_t there, never;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t never_signalled = PTHREAD_COND_INITIALIZER;
static int silent_pipe[2];
static atomic_int cancelled, cleaned;

static _Noreturn void
fail (const char *what)
{
  fprintf (stderr, "%s\n", what);
  _exit (1);
}

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

static void
sleep_long (void)
{
  struct timespec long_time = { 600, 0 };
  check_errno (nanosleep (&long_time, NULL), "nanosleep");
}

static void
wait_for_semaphore (void)
{
  check_errno (sem_wait (&never), "sem_wait");
}

static void
wait_for_semaphore_long (void)
{
  struct timespec late;
  check_errno (clock_gettime (CLOCK_REALTIME, &late), "clock_gettime");
  late.tv_sec += 600;
  check_errno (sem_timedwait (&never, &late), "sem_timedwait");
}

static void
unlock (void *argument)
{
  check (pthread_mutex_unlock (argument), "pthread_mutex_unlock in a cleanup handler");
}

static void
wait_for_condition (void)
{
  check (pthread_mutex_lock (&mutex), "pthread_mutex_lock");
  pthread_cleanup_push (unlock, &mutex);
  for (;;)
    check (pthread_cond_wait (&never_signalled, &mutex), "pthread_cond_wait");
  pthread_cleanup_pop (0);
}

static void
read_pipe (void)
{
  char byte;
  check_errno ((int) read (silent_pipe[0], &byte, 1), "read");
}

static void
compute_and_ask (void)
{
  while (!cancelled)
    continue; /* no call here may end the thread */
  pthread_testcancel ();
}

static const struct way
{
  const char *name;
  void (*wait) (void);
} ways[] = {
  { "sleep", sleep_long },
  { "semaphore", wait_for_semaphore },
  { "semaphore with a limit", wait_for_semaphore_long },
  { "condition", wait_for_condition },
  { "pipe", read_pipe },
  { "pthread_testcancel", compute_and_ask },
};

static void
count_cleaned (void *argument)
{
  (void) argument;
  cleaned++;
}

static void *
start (void *argument)
{
  const struct way *way = argument;
  pthread_cleanup_push (count_cleaned, NULL);
  check_errno (sem_post (&there), "sem_post");
  way->wait ();
  pthread_cleanup_pop (0);
  return NULL;
}

int
main (void)
{
  int count = sizeof ways / sizeof ways[0];
  pthread_t threads[sizeof ways / sizeof ways[0]];
  check_errno (sem_init (&there, 0, 0), "sem_init");
  check_errno (sem_init (&never, 0, 0), "sem_init");
  check_errno (pipe (silent_pipe), "pipe");
  for (int i = 0; i < count; i++)
    check (pthread_create (&threads[i], NULL, start, (void *) &ways[i]), "pthread_create");
  for (int i = 0; i < count; i++)
    check_errno (sem_wait (&there), "sem_wait");
  for (int i = 0; i < count; i++)
    {
      check (pthread_cancel (threads[i]), "pthread_cancel");
      if (ways[i].wait == compute_and_ask)
        cancelled = 1;
      void *result;
      check (pthread_join (threads[i], &result), "pthread_join");
      if (result != PTHREAD_CANCELED || cleaned != i + 1)
        fail ("a thread ended otherwise than by its cancellation");
      printf ("%s: cancelled\n", ways[i].name);
      if (fflush (stdout) != 0)
        check_errno (-1, "fflush");
    }
  check (pthread_mutex_lock (&mutex), "pthread_mutex_lock after the thread that had it was cancelled");
}
