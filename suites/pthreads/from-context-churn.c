// run
// args: 500

// On a stack of its own the first thread makes as many detached threads as the argument says, at most eight alive at a
// time, so that some end while the next is made; each of them switches to a stack of its own, too. What fails here,
// and not in from-context, is used up or goes stale; what fails here, and not in churn, comes of the stacks.

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

#define ALIVE 8
#define STACK_SIZE (128 * 1024)

static int count;
static sem_t places;

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

/* Makes a detached thread. As libgo does, it tries again while the memory of threads that have just ended is not free
   yet.  */
static void
make_detached (void *(*function) (void *), void *argument)
{
  pthread_attr_t attributes;
  check (pthread_attr_init (&attributes), "pthread_attr_init");
  check (pthread_attr_setdetachstate (&attributes, PTHREAD_CREATE_DETACHED), "pthread_attr_setdetachstate");
  pthread_t thread;
  time_t start = time (NULL);
  int error;
  while ((error = pthread_create (&thread, &attributes, function, argument)) == EAGAIN && time (NULL) - start < 20)
    sched_yield ();
  check (error, "pthread_create");
  check (pthread_attr_destroy (&attributes), "pthread_attr_destroy");
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

static void
give_place (void)
{
  check_errno (sem_post (&places), "sem_post");
}

static void *
end (void *argument)
{
  call_on_own_stack (give_place);
  return argument;
}

static void
make_threads (void)
{
  for (int i = 0; i < count; i++)
    {
      check_errno (sem_wait (&places), "sem_wait");
      make_detached (end, NULL);
    }
  for (int i = 0; i < ALIVE; i++)
    check_errno (sem_wait (&places), "sem_wait");
}

int
main (int argc, char **argv)
{
  count = argc > 1 ? atoi (argv[1]) : 500;
  if (count < 1)
    {
      fprintf (stderr, "not a number of threads: %s\n", argv[1]);
      return 1;
    }
  check_errno (sem_init (&places, 0, ALIVE), "sem_init");
  call_on_own_stack (make_threads);
  printf ("%d threads ended\n", count);
}
