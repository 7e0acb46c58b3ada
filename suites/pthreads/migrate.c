// run

// One stack goes around four threads, as a goroutine that moves: begun by the first, gone on with by the next, a
// hundred moves. On it pthread_self, a thread-local variable, a key's value and errno must be those of the thread it is
// on now. Those of the thread before, here and not in self-context and tls-context, mean that a context takes its
// thread along: then goroutines that move crash.

#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>
#include <unistd.h>

#define THREADS 4
#define MOVES 100
#define STACK_SIZE (128 * 1024)

static ucontext_t traveller, homes[THREADS];
static sem_t turns[THREADS];
static pthread_t selves[THREADS];
static int *errno_places[THREADS];
static pthread_key_t key;
static __thread int variable;
static int host; /* the thread that the traveller is on */
static int moves;

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

/* pthread_self and errno's place are declared const, so that a compiler may keep them, and addresses of thread-local
   data, over a switch of context. It cannot where it does not see into the function.  */
static __attribute__ ((noipa)) void
expect_host (void)
{
  if (!pthread_equal (pthread_self (), selves[host]))
    fail ("pthread_self told of another thread");
  if (variable != host)
    fail ("the thread-local variable has another thread's number");
  if (pthread_getspecific (key) != &selves[host])
    fail ("pthread_getspecific gave another thread's value");
  if (&errno != errno_places[host])
    fail ("errno is another thread's");
  errno = 0;
  if (sem_trywait (&turns[host]) != -1 || errno != EAGAIN)
    fail ("sem_trywait's EAGAIN did not come");
}

static void
travel (void)
{
  while (moves < MOVES)
    {
      expect_host ();
      moves++;
      check_errno (swapcontext (&traveller, &homes[host]), "swapcontext");
    }
  check_errno (setcontext (&homes[host]), "setcontext");
}

static void *
lodge (void *argument)
{
  int me = (int) (intptr_t) argument;
  selves[me] = pthread_self ();
  errno_places[me] = &errno;
  variable = me;
  check (pthread_setspecific (key, &selves[me]), "pthread_setspecific");
  for (int i = 0; i < MOVES / THREADS; i++)
    {
      check_errno (sem_wait (&turns[me]), "sem_wait");
      host = me;
      check_errno (swapcontext (&homes[me], &traveller), "swapcontext");
      expect_host ();
      check_errno (sem_post (&turns[(me + 1) % THREADS]), "sem_post");
    }
  return NULL;
}

int
main (void)
{
  check (pthread_key_create (&key, NULL), "pthread_key_create");
  char *stack = malloc (STACK_SIZE);
  if (stack == NULL)
    fail ("malloc failed: no memory for a stack");
  check_errno (getcontext (&traveller), "getcontext");
  traveller.uc_stack.ss_sp = stack;
  traveller.uc_stack.ss_size = STACK_SIZE;
  makecontext (&traveller, travel, 0);
  for (int i = 0; i < THREADS; i++)
    check_errno (sem_init (&turns[i], 0, i == 0), "sem_init");
  pthread_t threads[THREADS];
  for (int i = 0; i < THREADS; i++)
    check (pthread_create (&threads[i], NULL, lodge, (void *) (intptr_t) i), "pthread_create");
  for (int i = 0; i < THREADS; i++)
    check (pthread_join (threads[i], NULL), "pthread_join");
  free (stack);
  printf ("%d moves, and every thread was itself\n", moves);
}
