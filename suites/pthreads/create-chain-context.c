// run

// create-chain, but each thread makes the next one on a stack of its own, and frees that stack while the next one
// starts. A failure here, and not in create-chain, means that libpthread finds the making thread by its stack, as in
// 2013 (an assertion in pt-create.c); one in both, that threads cannot be made while others end.

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

#define CHAINS 2
#define LENGTH 40
#define STACK_SIZE (128 * 1024)

static sem_t ended;
/* Each chain has its own: the threads of the first may still be leaving their contexts.  */
static int numbers[CHAINS * LENGTH];
static ucontext_t contexts[CHAINS * LENGTH], homes[CHAINS * LENGTH];

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

static void *start (void *argument);

static void
make_next (int task)
{
  if ((task + 1) % LENGTH != 0)
    {
      numbers[task + 1] = numbers[task] + 1;
      make_detached (start, (void *) (intptr_t) (task + 1));
    }
  else
    check_errno (sem_post (&ended), "sem_post");
}

static void *
start (void *argument)
{
  call_on_own_stack (make_next, (int) (intptr_t) argument);
  return NULL;
}

int
main (void)
{
  check_errno (sem_init (&ended, 0, 0), "sem_init");
  for (int chain = 0; chain < CHAINS; chain++)
    {
      make_detached (start, (void *) (intptr_t) (chain * LENGTH));
      check_errno (sem_wait (&ended), "sem_wait");
      int last = numbers[(chain + 1) * LENGTH - 1];
      if (last != LENGTH - 1)
        {
          fprintf (stderr, "the last thread got the number %d\n", last);
          return 1;
        }
    }
  printf ("%d chains of %d threads\n", CHAINS, LENGTH);
}
