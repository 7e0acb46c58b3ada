// run

// cond-wait, but each thread waits on a stack of its own. A failure here, and not in cond-wait, means that a thread
// that blocks or is woken is found by its stack; in both, that condition variables with a time limit do not work.

#include <errno.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

#define THREADS 4
#define ROUNDS 3
#define STACK_SIZE (128 * 1024)

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t never = PTHREAD_COND_INITIALIZER;
static pthread_cond_t asked = PTHREAD_COND_INITIALIZER;
static pthread_cond_t answered = PTHREAD_COND_INITIALIZER;
static int questions, answers;
static ucontext_t contexts[THREADS], homes[THREADS];
static pthread_t threads[THREADS], threads_by_task[THREADS];

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

/* Calls body (task) on a stack of its own, as libgo runs a goroutine.  */
static void
call_on_own_stack (void (*body) (int), int task)
{
  char *stack = malloc (STACK_SIZE);
  if (stack == NULL)
    fail ("malloc failed: no memory for a stack");
  check_errno (getcontext (&contexts[task]), "getcontext");
  contexts[task].uc_stack.ss_sp = stack;
  contexts[task].uc_stack.ss_size = STACK_SIZE;
  contexts[task].uc_link = &homes[task];
  makecontext (&contexts[task], (void (*) (void)) body, 1, task);
  check_errno (swapcontext (&homes[task], &contexts[task]), "swapcontext");
  free (stack);
}

/* Waits in vain, then asks and waits for the answer to all; some rounds.  */
static void
wait_in_turns (int task)
{
  /* A libpthread that finds a thread by its stack does not find this one.  */
  if (!pthread_equal (pthread_self (), threads_by_task[task]))
    fail ("pthread_self is another one on this stack");
  check (pthread_mutex_lock (&mutex), "pthread_mutex_lock");
  for (int round = 0; round < ROUNDS; round++)
    {
      long start = milliseconds_now ();
      struct timespec soon = from_now (50), late = from_now (600000);
      int error;
      while ((error = pthread_cond_timedwait (&never, &mutex, &soon)) == 0)
        continue;
      if (error != ETIMEDOUT)
        check (error, "pthread_cond_timedwait");
      /* Clocks may be coarse.  */
      if (milliseconds_now () - start < 25)
        fail ("pthread_cond_timedwait ended much too early");
      questions++;
      check (pthread_cond_signal (&asked), "pthread_cond_signal");
      while (answers <= round)
        check (pthread_cond_timedwait (&answered, &mutex, &late), "pthread_cond_timedwait");
    }
  check (pthread_mutex_unlock (&mutex), "pthread_mutex_unlock");
}

static void *
start (void *argument)
{
  int task = (int) (intptr_t) argument;
  threads_by_task[task] = pthread_self ();
  call_on_own_stack (wait_in_turns, task);
  return NULL;
}

int
main (void)
{
  for (int i = 0; i < THREADS; i++)
    check (pthread_create (&threads[i], NULL, start, (void *) (intptr_t) i), "pthread_create");
  check (pthread_mutex_lock (&mutex), "pthread_mutex_lock");
  for (int round = 1; round <= ROUNDS; round++)
    {
      while (questions < round * THREADS)
        check (pthread_cond_wait (&asked, &mutex), "pthread_cond_wait");
      answers++;
      check (pthread_cond_broadcast (&answered), "pthread_cond_broadcast");
    }
  check (pthread_mutex_unlock (&mutex), "pthread_mutex_unlock");
  for (int i = 0; i < THREADS; i++)
    check (pthread_join (threads[i], NULL), "pthread_join");
  printf ("%d waits timed out, %d were answered\n", questions, answers * THREADS);
}
