// run

// Three threads take stacks from one queue, run each until it gives its turn away, and put it back: libgo's scheduler
// in its smallest form, with twenty stacks of fifty turns. A wrong sum means that a stack was run by two threads at
// once or lost what was on it. A failure here, and not in migrate, comes of several stacks moving at the same time; a
// hang, that a thread was not woken for the queue.

#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>
#include <unistd.h>

#define THREADS 3
#define TASKS 20
#define TURNS 50
#define STACK_SIZE (128 * 1024)

static struct
{
  ucontext_t context;
  char *stack;
  int over;
} tasks[TASKS];
static ucontext_t homes[THREADS];
static pthread_t selves[THREADS];
static pthread_key_t key;

static sem_t waiting; /* how many are in the queue, and one for each thread when all is over */
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static int queue[TASKS];
static int queue_start, queue_length;
static int over, turns;

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

/* pthread_self is declared const: a compiler may keep its value over a switch of context, unless it does not see into
   the function.  */
static __attribute__ ((noipa)) int
this_thread (void)
{
  int thread = (int) ((pthread_t *) pthread_getspecific (key) - selves);
  if (thread < 0 || thread >= THREADS || !pthread_equal (selves[thread], pthread_self ()))
    fail ("pthread_getspecific gave another thread's value");
  return thread;
}

static void
run_task (int task)
{
  int numbers[TURNS];
  for (int i = 0; i < TURNS; i++)
    {
      numbers[i] = task + i;
      check (pthread_mutex_lock (&mutex), "pthread_mutex_lock");
      turns++;
      check (pthread_mutex_unlock (&mutex), "pthread_mutex_unlock");
      check_errno (swapcontext (&tasks[task].context, &homes[this_thread ()]), "swapcontext");
    }
  for (int i = 0; i < TURNS; i++)
    if (numbers[i] != task + i)
      fail ("a stack did not keep its numbers");
  tasks[task].over = 1;
  check_errno (setcontext (&homes[this_thread ()]), "setcontext");
}

static void
put (int task)
{
  check (pthread_mutex_lock (&mutex), "pthread_mutex_lock");
  queue[(queue_start + queue_length++) % TASKS] = task;
  check (pthread_mutex_unlock (&mutex), "pthread_mutex_unlock");
  check_errno (sem_post (&waiting), "sem_post");
}

/* Waits for a task; -1 when there will be none.  */
static int
take (void)
{
  check_errno (sem_wait (&waiting), "sem_wait");
  int task = -1;
  check (pthread_mutex_lock (&mutex), "pthread_mutex_lock");
  if (queue_length > 0)
    {
      task = queue[queue_start];
      queue_start = (queue_start + 1) % TASKS;
      queue_length--;
    }
  check (pthread_mutex_unlock (&mutex), "pthread_mutex_unlock");
  return task;
}

static void
end (int task)
{
  free (tasks[task].stack);
  check (pthread_mutex_lock (&mutex), "pthread_mutex_lock");
  int all = ++over == TASKS;
  check (pthread_mutex_unlock (&mutex), "pthread_mutex_unlock");
  for (int i = 0; all && i < THREADS; i++)
    check_errno (sem_post (&waiting), "sem_post");
}

static void *
run_tasks (void *argument)
{
  int me = (int) (intptr_t) argument;
  selves[me] = pthread_self ();
  check (pthread_setspecific (key, &selves[me]), "pthread_setspecific");
  int task;
  while ((task = take ()) != -1)
    {
      check_errno (swapcontext (&homes[me], &tasks[task].context), "swapcontext");
      if (tasks[task].over)
        end (task);
      else
        put (task); /* not before: another thread could run it while its context is not yet saved */
    }
  return NULL;
}

int
main (void)
{
  check (pthread_key_create (&key, NULL), "pthread_key_create");
  check_errno (sem_init (&waiting, 0, 0), "sem_init");
  for (int i = 0; i < TASKS; i++)
    {
      if ((tasks[i].stack = malloc (STACK_SIZE)) == NULL)
        fail ("malloc failed: no memory for a stack");
      check_errno (getcontext (&tasks[i].context), "getcontext");
      tasks[i].context.uc_stack.ss_sp = tasks[i].stack;
      tasks[i].context.uc_stack.ss_size = STACK_SIZE;
      makecontext (&tasks[i].context, (void (*) (void)) run_task, 1, i);
      put (i);
    }
  pthread_t threads[THREADS];
  for (int i = 0; i < THREADS; i++)
    check (pthread_create (&threads[i], NULL, run_tasks, (void *) (intptr_t) i), "pthread_create");
  for (int i = 0; i < THREADS; i++)
    check (pthread_join (threads[i], NULL), "pthread_join");
  printf ("%d stacks took %d turns each on %d threads\n", over, turns / TASKS, THREADS);
}
