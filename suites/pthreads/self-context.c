// run

// Four threads, the first one among them, switch between their own stack and another a hundred times and ask who they
// are. Another answer than before, or a crash in pthread_self, is the cause of 2013's failures as such: the thread is
// looked for at the stack pointer. Then expect failures in all programs whose names end in -context.

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
static pthread_t threads[TASKS], selves[TASKS];

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

/* pthread_self is declared const, so that a compiler may keep its value, and the address of thread-local data, over a
   switch of context. It cannot where it does not see into the function.  */
static __attribute__ ((noipa)) pthread_t
self (void)
{
  return pthread_self ();
}

static void
away (int task)
{
  for (int i = 0; i < SWITCHES; i++)
    {
      if (!pthread_equal (self (), selves[task]))
        fail ("pthread_self told of another thread on the other stack");
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
  selves[task] = self ();
  char *stack = prepare (task);
  for (int i = 0; i <= SWITCHES; i++) /* the last time the other side returns */
    {
      check_errno (swapcontext (&homes[task], &contexts[task]), "swapcontext");
      if (!pthread_equal (self (), selves[task]))
        fail ("pthread_self told of another thread back on the thread's own stack");
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
  for (int i = 1; i < TASKS; i++)
    check (pthread_create (&threads[i], NULL, start, (void *) (intptr_t) i), "pthread_create");
  start (NULL);
  for (int i = 1; i < TASKS; i++)
    check (pthread_join (threads[i], NULL), "pthread_join");
  for (int i = 1; i < TASKS; i++)
    if (!pthread_equal (threads[i], selves[i]))
      fail ("pthread_self is not what pthread_create gave");
  printf ("%d threads were themselves on both stacks\n", TASKS);
}
