// run

// Four threads wait for a semaphore, with a time limit that passes and then with one that does not, three times. It is
// how a thread of libgo sleeps. A failure here, and not in create-join, means that sem_timedwait does not give up, or
// leaves the semaphore broken when it does (in 2013 an assertion in sem-timedwait.c); a hang, that a post was lost.

#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define THREADS 4
#define ROUNDS 3

static struct
{
  sem_t asked, answered;
} pairs[THREADS];
static pthread_t threads[THREADS];

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

/* The time so many milliseconds from now, as the calls with a time limit want it.  */
static struct timespec
from_now (long milliseconds)
{
  struct timespec time;
  check_errno (clock_gettime (CLOCK_REALTIME, &time), "clock_gettime");
  time.tv_sec += milliseconds / 1000;
  time.tv_nsec += milliseconds % 1000 * 1000000;
  if (time.tv_nsec >= 1000000000)
    {
      time.tv_sec++;
      time.tv_nsec -= 1000000000;
    }
  return time;
}

static long
milliseconds_now (void)
{
  struct timespec time;
  check_errno (clock_gettime (CLOCK_MONOTONIC, &time), "clock_gettime");
  return (long) (time.tv_sec % 1000000 * 1000 + time.tv_nsec / 1000000);
}

/* Waits in vain, then asks and waits for an answer that comes; some rounds.  */
static void
wait_in_turns (int task)
{
  for (int round = 0; round < ROUNDS; round++)
    {
      long start = milliseconds_now ();
      struct timespec soon = from_now (50);
      if (sem_timedwait (&pairs[task].answered, &soon) != -1)
        fail ("sem_timedwait returned 0, but nobody had posted the semaphore");
      if (errno != ETIMEDOUT)
        check_errno (-1, "sem_timedwait");
      /* Clocks may be coarse.  */
      if (milliseconds_now () - start < 25)
        fail ("sem_timedwait ended much too early");
      check_errno (sem_post (&pairs[task].asked), "sem_post");
      struct timespec late = from_now (600000);
      check_errno (sem_timedwait (&pairs[task].answered, &late), "sem_timedwait");
    }
}

static void *
start (void *argument)
{
  wait_in_turns ((int) (intptr_t) argument);
  return NULL;
}

int
main (void)
{
  for (int i = 0; i < THREADS; i++)
    {
      check_errno (sem_init (&pairs[i].asked, 0, 0), "sem_init");
      check_errno (sem_init (&pairs[i].answered, 0, 0), "sem_init");
      check (pthread_create (&threads[i], NULL, start, (void *) (intptr_t) i), "pthread_create");
    }
  for (int i = 0; i < THREADS * ROUNDS; i++)
    {
      check_errno (sem_wait (&pairs[i % THREADS].asked), "sem_wait");
      check_errno (sem_post (&pairs[i % THREADS].answered), "sem_post");
    }
  for (int i = 0; i < THREADS; i++)
    check (pthread_join (threads[i], NULL), "pthread_join");
  printf ("%d waits timed out, %d were answered\n", THREADS * ROUNDS, THREADS * ROUNDS);
}
