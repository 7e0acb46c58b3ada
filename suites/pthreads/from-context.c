// run

// The first thread, and then three others at once, switch to a stack of their own, as to a goroutine's, make five
// threads there and join them. It is the smallest program that has what failed in 2013. A failed assertion in
// pt-create.c, or any failure here and not in create-join, means that libpthread finds a thread by its stack.

#include <errno.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>
#include <unistd.h>

#define TASKS 4
#define THREADS 5
#define STACK_SIZE (128 * 1024)

static ucontext_t contexts[TASKS], homes[TASKS];
static int joined[TASKS];

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

static void *
twice (void *argument)
{
  int *number = argument;
  *number *= 2;
  return number;
}

static void
make_threads (int task)
{
  pthread_t threads[THREADS];
  int numbers[THREADS];
  for (int i = 0; i < THREADS; i++)
    {
      numbers[i] = i;
      check (pthread_create (&threads[i], NULL, twice, &numbers[i]), "pthread_create");
    }
  for (int i = 0; i < THREADS; i++)
    {
      void *result;
      check (pthread_join (threads[i], &result), "pthread_join");
      if (result != &numbers[i] || numbers[i] != 2 * i)
        fail ("a thread got another's argument or result");
      joined[task]++;
    }
}

static void *
start (void *argument)
{
  call_on_own_stack (make_threads, (int) (intptr_t) argument);
  return NULL;
}

int
main (void)
{
  pthread_t threads[TASKS];
  start (NULL);
  for (int i = 1; i < TASKS; i++)
    check (pthread_create (&threads[i], NULL, start, (void *) (intptr_t) i), "pthread_create");
  for (int i = 1; i < TASKS; i++)
    check (pthread_join (threads[i], NULL), "pthread_join");
  int all = 0;
  for (int i = 0; i < TASKS; i++)
    all += joined[i];
  printf ("%d threads made and joined on other stacks\n", all);
}
