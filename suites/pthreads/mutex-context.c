// run

// Four threads count together under a mutex that knows its owner: they lock it on their own stack, unlock it on
// another, and the other way about. EPERM or EDEADLK means that the owner is told by the stack, a count that is short
// that two threads had the mutex, a hang here and not in cond-wait that a thread that waited on another stack was lost.

#include <errno.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>
#include <unistd.h>

#define TASKS 4
#define SWITCHES 250
#define STACK_SIZE (128 * 1024)

static ucontext_t contexts[TASKS], homes[TASKS];
static pthread_t threads[TASKS];
static pthread_mutex_t mutex;
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
away (int task)
{
  for (int i = 0; i < SWITCHES; i++)
    {
      if (pthread_mutex_lock (&mutex) != EDEADLK)
        fail ("pthread_mutex_lock did not see that this thread has the mutex already");
      number++;
      check (pthread_mutex_unlock (&mutex), "pthread_mutex_unlock on the other stack");
      check (pthread_mutex_lock (&mutex), "pthread_mutex_lock on the other stack");
      number++;
      check_errno (swapcontext (&contexts[task], &homes[task]), "swapcontext");
    }
}

/* Prepares the task's other stack, on which away (task) runs until it returns.  */
static char *
prepare (int task)
{
  char *stack = malloc (STACK_SIZE);
  if (stack == NULL)
    fail ("malloc failed: no memory for a stack");
  check_errno (getcontext (&contexts[task]), "getcontext");
  contexts[task].uc_stack.ss_sp = stack;
  contexts[task].uc_stack.ss_size = STACK_SIZE;
  contexts[task].uc_link = &homes[task];
  makecontext (&contexts[task], (void (*) (void)) away, 1, task);
  return stack;
}

static void
home (int task)
{
  char *stack = prepare (task);
  for (int i = 0; i < SWITCHES; i++)
    {
      check (pthread_mutex_lock (&mutex), "pthread_mutex_lock");
      check_errno (swapcontext (&homes[task], &contexts[task]), "swapcontext");
      check (pthread_mutex_unlock (&mutex), "pthread_mutex_unlock");
    }
  free (stack);
}

static void *
start (void *argument)
{
  home ((int) (intptr_t) argument);
  return NULL;
}

int
main (void)
{
  pthread_mutexattr_t attributes;
  check (pthread_mutexattr_init (&attributes), "pthread_mutexattr_init");
  check (pthread_mutexattr_settype (&attributes, PTHREAD_MUTEX_ERRORCHECK), "pthread_mutexattr_settype");
  check (pthread_mutex_init (&mutex, &attributes), "pthread_mutex_init");
  for (int i = 1; i < TASKS; i++)
    check (pthread_create (&threads[i], NULL, start, (void *) (intptr_t) i), "pthread_create");
  start (NULL);
  for (int i = 1; i < TASKS; i++)
    check (pthread_join (threads[i], NULL), "pthread_join");
  printf ("%d threads counted to %d\n", TASKS, number);
}
