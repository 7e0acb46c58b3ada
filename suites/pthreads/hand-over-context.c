// run

// hand-over, but each thread waits and posts on a stack of its own. A failure here, and not in hand-over, means that
// the thread that sleeps or is woken is found by its stack; a hang here and in sem-wait-context, that it is not woken.

#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>
#include <unistd.h>

#define THREADS 10
#define ROUNDS 20
#define STACK_SIZE (128 * 1024)

static sem_t turns[THREADS];
static ucontext_t contexts[THREADS], homes[THREADS];
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
  call_on_own_stack (hand_on, (int) (intptr_t) argument);
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
