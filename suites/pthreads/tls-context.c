// run

// Four threads keep numbers in a thread-local variable (__thread) and under a key (pthread_getspecific), and count them
// on while they switch between their own stack and another a hundred times. A wrong number of the variable means that a
// switch of context changes the base of thread-local storage, one of the key that libpthread finds a thread by its
// stack.

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>
#include <unistd.h>

#define TASKS 4
#define SWITCHES 100
#define STACK_SIZE (128 * 1024)

static ucontext_t contexts[TASKS], homes[TASKS];
static pthread_t threads[TASKS];
static pthread_key_t key;
static __thread intptr_t variable;

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

/* A compiler keeps the address of thread-local data over a switch of context, unless it does not see into the function
   that uses it.  */
static __attribute__ ((noipa)) intptr_t
count_on (void)
{
  return ++variable;
}

static void
expect (intptr_t number)
{
  if (count_on () != number)
    fail ("the thread-local variable has another's number");
  if ((intptr_t) pthread_getspecific (key) != number - 1)
    fail ("pthread_getspecific gave another's number");
  check (pthread_setspecific (key, (void *) number), "pthread_setspecific");
}

static intptr_t
first_number (int task)
{
  return task * 1000;
}

static void
away (int task)
{
  for (int i = 0; i < SWITCHES; i++)
    {
      expect (first_number (task) + 2 * i + 1);
      sched_yield ();
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
  variable = first_number (task);
  check (pthread_setspecific (key, (void *) variable), "pthread_setspecific");
  char *stack = prepare (task);
  for (int i = 0; i < SWITCHES; i++)
    {
      check_errno (swapcontext (&homes[task], &contexts[task]), "swapcontext");
      expect (first_number (task) + 2 * i + 2);
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
  check (pthread_key_create (&key, NULL), "pthread_key_create");
  for (int i = 1; i < TASKS; i++)
    check (pthread_create (&threads[i], NULL, start, (void *) (intptr_t) i), "pthread_create");
  start (NULL);
  for (int i = 1; i < TASKS; i++)
    check (pthread_join (threads[i], NULL), "pthread_join");
  printf ("%d threads kept their data on both stacks\n", TASKS);
}
