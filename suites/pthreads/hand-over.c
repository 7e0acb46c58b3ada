// run

// Ten threads stand in a ring, each with a semaphore of its own, hand a number around twenty times and then all end. A
// number that is wrong means that two threads ran in one turn; a hang here, and not in sem-wait, that a thread that was
// just going to sleep was not woken. This is how threads of libgo wake each other.

#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define THREADS 10
#define ROUNDS 20

static sem_t turns[THREADS];
static int number;

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
hand_on (int task)
{
  for (int round = 0; round < ROUNDS; round++)
    {
      check_errno (sem_wait (&turns[task]), "sem_wait");
      if (number != round * THREADS + task)
        fail ("the number was changed out of turn");
      number++;
      check_errno (sem_post (&turns[(task + 1) % THREADS]), "sem_post");
    }
}

static void *
start (void *argument)
{
  hand_on ((int) (intptr_t) argument);
  return NULL;
}

int
main (void)
{
  pthread_t threads[THREADS];
  for (int i = 0; i < THREADS; i++)
    check_errno (sem_init (&turns[i], 0, 0), "sem_init");
  for (int i = 0; i < THREADS; i++)
    check (pthread_create (&threads[i], NULL, start, (void *) (intptr_t) i), "pthread_create");
  check_errno (sem_post (&turns[0]), "sem_post");
  for (int i = 0; i < THREADS; i++)
    check (pthread_join (threads[i], NULL), "pthread_join");
  printf ("the number went around %d times\n", number / THREADS);
}
