// run

// fork-wait, but the first thread forks on a stack of its own, as a goroutine does. A failure here, and not in
// fork-wait, means that fork finds the calling thread by its stack, or does not take that stack into the child.

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

#define THREADS 2
#define CHILDREN 5
#define STACK_SIZE (128 * 1024)

static atomic_int over;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
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

static void *
work (void *argument)
{
  while (!over)
    {
      check (pthread_mutex_lock (&mutex), "pthread_mutex_lock");
      number++;
      check (pthread_mutex_unlock (&mutex), "pthread_mutex_unlock");
      sched_yield ();
    }
  return argument;
}

/* pthread_self is declared const, so that a compiler may keep its value over fork. It cannot where it does not see into
   the function.  */
static __attribute__ ((noipa)) pthread_t
self (void)
{
  return pthread_self ();
}

static void
fork_children (void)
{
  pthread_t parent = self ();
  for (int i = 0; i < CHILDREN; i++)
    {
      pid_t child = fork ();
      check_errno ((int) child, "fork");
      if (child == 0)
        _exit (pthread_equal (self (), parent) ? i : 100);
      int status;
      check_errno ((int) waitpid (child, &status, 0), "waitpid");
      if (!WIFEXITED (status) || WEXITSTATUS (status) != i)
        {
          fprintf (stderr, "child %d ended with the wait status %#x\n", i, (unsigned) status);
          _exit (1);
        }
    }
}

static void
call_on_own_stack (void (*body) (void))
{
  ucontext_t context, home;
  char *stack = malloc (STACK_SIZE);
  if (stack == NULL)
    fail ("malloc failed: no memory for a stack");
  check_errno (getcontext (&context), "getcontext");
  context.uc_stack.ss_sp = stack;
  context.uc_stack.ss_size = STACK_SIZE;
  context.uc_link = &home;
  makecontext (&context, body, 0);
  check_errno (swapcontext (&home, &context), "swapcontext");
  free (stack);
}

int
main (void)
{
  pthread_t threads[THREADS];
  for (int i = 0; i < THREADS; i++)
    check (pthread_create (&threads[i], NULL, work, NULL), "pthread_create");
  call_on_own_stack (fork_children);
  over = 1;
  for (int i = 0; i < THREADS; i++)
    check (pthread_join (threads[i], NULL), "pthread_join");
  printf ("%d children ended\n", CHILDREN);
}
