// run

// Three threads make twenty others each, one after the other. Each of these sets up a stack for signals, takes three
// signals on it, takes it down and ends, while the others' come and go, as libgo does when it makes and ends a thread.
// A signal that comes on another stack, or a crash, means that a thread got what belonged to one that ended; a hang,
// that a signal to a thread was lost.

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define MAKERS 3
#define THREADS 20
#define SIGNALS 3
#define STACK_SIZE (64 * 1024)

static struct maker
{
  sem_t there, handled, leave, left;
  pthread_t thread; /* the one that it has made */
} makers[MAKERS];
static __thread struct maker *my_maker;
static __thread char *my_stack;

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

/* sem_wait where signals may interrupt it.  */
static void
wait_for (sem_t *semaphore)
{
  while (sem_wait (semaphore) == -1)
    if (errno != EINTR)
      check_errno (-1, "sem_wait");
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
  uintptr_t here = (uintptr_t) &signal_number, stack = (uintptr_t) my_stack;
  if (here < stack || here >= stack + STACK_SIZE)
    fail_in_handler ("a signal was handled on another stack than the thread's for signals\n");
  int error = errno;
  if (sem_post (&my_maker->handled) == -1)
    fail_in_handler ("sem_post failed in a handler\n");
  errno = error;
}

static void *
take_signals (void *argument)
{
  my_maker = argument;
  my_stack = malloc (STACK_SIZE);
  if (my_stack == NULL)
    fail ("malloc failed: no memory for a stack");
  stack_t stack = { .ss_sp = my_stack, .ss_size = STACK_SIZE };
  check_errno (sigaltstack (&stack, NULL), "sigaltstack");
  my_maker->thread = pthread_self ();
  check_errno (sem_post (&my_maker->there), "sem_post");
  wait_for (&my_maker->leave);
  stack.ss_flags = SS_DISABLE;
  check_errno (sigaltstack (&stack, NULL), "sigaltstack");
  free (my_stack);
  check_errno (sem_post (&my_maker->left), "sem_post");
  return NULL;
}

static void *
make_threads (void *argument)
{
  struct maker *maker = argument;
  for (int i = 0; i < THREADS; i++)
    {
      make_detached (take_signals, maker);
      wait_for (&maker->there);
      for (int j = 0; j < SIGNALS; j++)
        {
          check (pthread_kill (maker->thread, SIGUSR1), "pthread_kill");
          wait_for (&maker->handled); /* a second signal of a kind that is still to come would be lost */
        }
      check_errno (sem_post (&maker->leave), "sem_post");
      wait_for (&maker->left);
    }
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
  pthread_t threads[MAKERS];
  for (int i = 0; i < MAKERS; i++)
    {
      check_errno (sem_init (&makers[i].there, 0, 0), "sem_init");
      check_errno (sem_init (&makers[i].handled, 0, 0), "sem_init");
      check_errno (sem_init (&makers[i].leave, 0, 0), "sem_init");
      check_errno (sem_init (&makers[i].left, 0, 0), "sem_init");
      check (pthread_create (&threads[i], NULL, make_threads, &makers[i]), "pthread_create");
    }
  for (int i = 0; i < MAKERS; i++)
    check (pthread_join (threads[i], NULL), "pthread_join");
  printf ("%d threads took %d signals each and ended\n", MAKERS * THREADS, SIGNALS);
}
