// run

// Four threads make calls that fail, each in another way, on a stack of their own, let others run, and switch back; a
// hundred times. A wrong number means that errno is looked for at the stack pointer, or is one for all threads: libgo
// would take another thread's error for its own.

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>
#include <unistd.h>

#define TASKS 4
#define SWITCHES 100
#define STACK_SIZE (128 * 1024)

static const int errors[TASKS] = { EBADF, ENOENT, EAGAIN, ETIMEDOUT };
static ucontext_t contexts[TASKS], homes[TASKS];
static pthread_t threads[TASKS];
static int *places[TASKS];
static sem_t closed;

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
call_in_vain (int task)
{
  static const struct timespec past = { 1, 0 };
  int result = -1;
  switch (errors[task])
    {
    case EBADF:
      result = close (-1);
      break;
    case ENOENT:
      result = open ("", O_RDONLY);
      break;
    case EAGAIN:
      result = sem_trywait (&closed);
      break;
    case ETIMEDOUT:
      result = sem_timedwait (&closed, &past);
      break;
    }
  if (result != -1)
    fail ("a call that has to fail did not");
}

/* errno's place is declared constant, so that a compiler may keep it over a switch of context, unless it does not see
   into the function.  */
static __attribute__ ((noipa)) void
expect_errno (int task, const int *place, const char *when)
{
  if (&errno == place && errno == errors[task])
    return;
  fprintf (stderr, "errno of thread %d %s: %d instead of %d, at %s place\n", task, when, errno, errors[task],
           &errno == place ? "the same" : "another");
  _exit (1);
}

static void
away (int task)
{
  for (int i = 0; i < SWITCHES; i++)
    {
      call_in_vain (task);
      expect_errno (task, places[task], "after the call");
      sched_yield ();
      expect_errno (task, places[task], "after a turn of others");
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
  places[task] = &errno;
  char *stack = prepare (task);
  for (int i = 0; i < SWITCHES; i++)
    {
      errno = 0;
      check_errno (swapcontext (&homes[task], &contexts[task]), "swapcontext");
      expect_errno (task, places[task], "back on its own stack");
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
  check_errno (sem_init (&closed, 0, 0), "sem_init");
  for (int i = 1; i < TASKS; i++)
    check (pthread_create (&threads[i], NULL, start, (void *) (intptr_t) i), "pthread_create");
  start (NULL);
  for (int i = 1; i < TASKS; i++)
    check (pthread_join (threads[i], NULL), "pthread_join");
  printf ("%d threads had their own errno on both stacks\n", TASKS);
}
