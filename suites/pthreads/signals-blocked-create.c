// run

// A hundred detached threads are made with all signals blocked, as libgo makes its threads; each must have inherited
// that, sets the mask back, blocks all again and ends. Before each of them another thread sends the process a signal,
// and waits for it. A wrong mask means that pthread_create does not hand it on; a hang, that a signal went to a thread
// which blocked it, was just made or was ending.

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define THREADS 100

static sem_t sent, handled, ended;
static sigset_t all_signals, usual_signals;

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
  (void) signal_number;
  int error = errno;
  if (sem_post (&handled) == -1)
    fail_in_handler ("sem_post failed in a handler\n");
  errno = error;
}

static void *
send_signals (void *argument)
{
  for (int i = 0; i < THREADS; i++)
    {
      check_errno (sem_post (&sent), "sem_post");
      check_errno (kill (getpid (), SIGUSR1), "kill");
      wait_for (&handled);
    }
  return argument;
}

static void *
change_mask_and_end (void *argument)
{
  sigset_t inherited;
  check (pthread_sigmask (SIG_SETMASK, &usual_signals, &inherited), "pthread_sigmask");
  if (sigismember (&inherited, SIGUSR1) != 1 || sigismember (&inherited, SIGTERM) != 1)
    fail ("a thread was not made with the signals blocked that its maker had blocked");
  sched_yield ();
  check (pthread_sigmask (SIG_SETMASK, &all_signals, NULL), "pthread_sigmask");
  check_errno (sem_post (&ended), "sem_post");
  return argument;
}

int
main (void)
{
  check_errno (sem_init (&sent, 0, 0), "sem_init");
  check_errno (sem_init (&handled, 0, 0), "sem_init");
  check_errno (sem_init (&ended, 0, 0), "sem_init");
  struct sigaction action = { .sa_handler = handle, .sa_flags = SA_RESTART };
  check_errno (sigaction (SIGUSR1, &action, NULL), "sigaction");
  check_errno (sigfillset (&all_signals), "sigfillset");
  /* Whoever started this program may have blocked the signal.  */
  check_errno (sigemptyset (&usual_signals), "sigemptyset");
  check (pthread_sigmask (SIG_SETMASK, &usual_signals, NULL), "pthread_sigmask");
  pthread_t sender;
  check (pthread_create (&sender, NULL, send_signals, NULL), "pthread_create");
  for (int i = 0; i < THREADS; i++)
    {
      wait_for (&sent);
      check (pthread_sigmask (SIG_SETMASK, &all_signals, NULL), "pthread_sigmask");
      make_detached (change_mask_and_end, NULL);
      check (pthread_sigmask (SIG_SETMASK, &usual_signals, NULL), "pthread_sigmask");
    }
  for (int i = 0; i < THREADS; i++)
    wait_for (&ended);
  check (pthread_join (sender, NULL), "pthread_join");
  printf ("%d threads and %d signals\n", THREADS, THREADS);
}
