// run

// Four threads run on a stack of their own, and each sends itself a signal there, fifty times, with a switch of context
// in between. The handler must run on the thread's stack for signals and find the thread that it interrupted. A failure
// here, and not in sigaltstack-exit, means that the handler, or the return from it, looks for the thread at the stack.

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>
#include <unistd.h>

#define TASKS 4
#define SIGNALS 50
#define STACK_SIZE (128 * 1024)

static ucontext_t contexts[TASKS], homes[TASKS];
static pthread_t selves[TASKS];
static char *signal_stacks[TASKS];
static atomic_int handled[TASKS];
static __thread int me;

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

/* For a handler, where stdio must not be used.  */
static _Noreturn void
fail_in_handler (const char *what)
{
  _exit (write (STDERR_FILENO, what, strlen (what)) == -1 ? 2 : 1);
}

static void
handle (int signal_number)
{
  if (!pthread_equal (self (), selves[me]))
    fail_in_handler ("pthread_self told of another thread in a handler\n");
  uintptr_t here = (uintptr_t) &signal_number, stack = (uintptr_t) signal_stacks[me];
  if (here < stack || here >= stack + STACK_SIZE)
    fail_in_handler ("a signal was handled on another stack than the thread's for signals\n");
  handled[me]++;
}

static void
away (int task)
{
  for (int i = 0; i < SIGNALS; i++)
    {
      check (pthread_kill (selves[task], SIGUSR1), "pthread_kill");
      while (handled[task] <= i)
        sched_yield ();
      if (!pthread_equal (self (), selves[task]))
        fail ("pthread_self told of another thread after a signal");
      check_errno (swapcontext (&contexts[task], &homes[task]), "swapcontext");
    }
}

static void *
home (void *argument)
{
  int task = me = (int) (intptr_t) argument;
  selves[task] = pthread_self ();
  char *stack = malloc (STACK_SIZE);
  signal_stacks[task] = malloc (STACK_SIZE);
  if (stack == NULL || signal_stacks[task] == NULL)
    fail ("malloc failed: no memory for a stack");
  stack_t signal_stack = { .ss_sp = signal_stacks[task], .ss_size = STACK_SIZE };
  check_errno (sigaltstack (&signal_stack, NULL), "sigaltstack");
  check_errno (getcontext (&contexts[task]), "getcontext");
  contexts[task].uc_stack.ss_sp = stack;
  contexts[task].uc_stack.ss_size = STACK_SIZE;
  contexts[task].uc_link = &homes[task];
  makecontext (&contexts[task], (void (*) (void)) away, 1, task);
  for (int i = 0; i <= SIGNALS; i++) /* the last time the other side returns */
    check_errno (swapcontext (&homes[task], &contexts[task]), "swapcontext");
  signal_stack.ss_flags = SS_DISABLE;
  check_errno (sigaltstack (&signal_stack, NULL), "sigaltstack");
  free (signal_stacks[task]);
  free (stack);
  return NULL;
}

int
main (void)
{
  struct sigaction action = { .sa_handler = handle, .sa_flags = SA_ONSTACK | SA_RESTART };
  check_errno (sigfillset (&action.sa_mask), "sigfillset");
  check_errno (sigaction (SIGUSR1, &action, NULL), "sigaction");
  /* Whoever started this program may have blocked the signal.  */
  sigset_t usual_signals;
  check_errno (sigemptyset (&usual_signals), "sigemptyset");
  check (pthread_sigmask (SIG_SETMASK, &usual_signals, NULL), "pthread_sigmask");
  pthread_t threads[TASKS];
  for (int i = 1; i < TASKS; i++)
    check (pthread_create (&threads[i], NULL, home, (void *) (intptr_t) i), "pthread_create");
  home (NULL);
  for (int i = 1; i < TASKS; i++)
    check (pthread_join (threads[i], NULL), "pthread_join");
  printf ("%d threads took %d signals each on their stacks for signals\n", TASKS, SIGNALS);
}
