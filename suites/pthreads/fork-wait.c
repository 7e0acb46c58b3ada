// run

// The first thread forks five children, one after the other, while two others work; each child ends at once, with a
// status of its own. A hang, or a wrong status, means that fork or waitpid does not work in a process with threads;
// status 100, that the child does not know its only thread.

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define THREADS 2
#define CHILDREN 5

static atomic_int over;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static int number;

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

int
main (void)
{
  pthread_t threads[THREADS];
  for (int i = 0; i < THREADS; i++)
    check (pthread_create (&threads[i], NULL, work, NULL), "pthread_create");
  fork_children ();
  over = 1;
  for (int i = 0; i < THREADS; i++)
    check (pthread_join (threads[i], NULL), "pthread_join");
  printf ("%d children ended\n", CHILDREN);
}
