// run

// The first thread leaves through pthread_exit; five others wait until it is as good as gone, make and join a thread
// each, and end. The last one must end the process, with status 0 and its output written. No output means that the
// process ended with its first thread, a hang that it did not end with its last one. libgo never lets its first thread
// end.

#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define THREADS 5

static sem_t gone;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static int went_on;

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
let_go_on (void *value)
{
  (void) value;
  for (int i = 0; i < THREADS; i++)
    check_errno (sem_post (&gone), "sem_post");
}

static void *
count (void *argument)
{
  check (pthread_mutex_lock (&mutex), "pthread_mutex_lock");
  int last = ++went_on == THREADS;
  check (pthread_mutex_unlock (&mutex), "pthread_mutex_unlock");
  if (last)
    printf ("%d threads went on without the first\n", went_on);
  return argument;
}

static void *
go_on (void *argument)
{
  check_errno (sem_wait (&gone), "sem_wait");
  pthread_t thread;
  check (pthread_create (&thread, NULL, count, NULL), "pthread_create");
  check (pthread_join (thread, NULL), "pthread_join");
  return argument;
}

int
main (void)
{
  check_errno (sem_init (&gone, 0, 0), "sem_init");
  /* The destructor of a key's value is the last of this program's own code that a thread runs.  */
  pthread_key_t key;
  check (pthread_key_create (&key, let_go_on), "pthread_key_create");
  check (pthread_setspecific (key, &gone), "pthread_setspecific");
  for (int i = 0; i < THREADS; i++)
    {
      pthread_t thread;
      check (pthread_create (&thread, NULL, go_on, NULL), "pthread_create");
      check (pthread_detach (thread), "pthread_detach");
    }
  pthread_exit (NULL);
}
