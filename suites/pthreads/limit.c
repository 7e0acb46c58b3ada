// run

// Makes threads, with stacks of 64 MiB in 1 GiB of address space, until pthread_create says EAGAIN; all end, and as
// many must be possible again, four times more. Where the limit is not heeded, 3 GB of a 32-bit system are the limit.
// Another error, or a crash, means that pthread_create does not survive that there is no room; fewer threads than
// before, here and not in churn, that it leaves something behind when it fails.

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#define ROUNDS 5
#define MOST 1000
#define STACK_SIZE (64 * 1024 * 1024)
#define ADDRESS_SPACE (1024 * 1024 * 1024)

static sem_t leave;
static pthread_attr_t attributes;
static pthread_t threads[MOST];

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
wait_for_end (void *argument)
{
  check_errno (sem_wait (&leave), "sem_wait");
  return argument;
}

static int
make_as_many_as_possible (void)
{
  for (int i = 0; i < MOST; i++)
    {
      int error = pthread_create (&threads[i], &attributes, wait_for_end, NULL);
      if (error == EAGAIN)
        return i;
      check (error, "pthread_create at the limit");
    }
  fail ("pthread_create never said EAGAIN");
}

/* A thread's stack may be freed a little after pthread_join has returned.  */
static int
make_again (int count)
{
  time_t start = time (NULL);
  for (int i = 0; i < count; i++)
    {
      int error;
      while ((error = pthread_create (&threads[i], &attributes, wait_for_end, NULL)) == EAGAIN)
        {
          if (time (NULL) - start >= 20)
            return i;
          sched_yield ();
        }
      check (error, "pthread_create near the limit");
    }
  return count;
}

static void
end_all (int count)
{
  for (int i = 0; i < count; i++)
    check_errno (sem_post (&leave), "sem_post");
  for (int i = 0; i < count; i++)
    check (pthread_join (threads[i], NULL), "pthread_join");
}

int
main (void)
{
  struct rlimit limit;
  check_errno (getrlimit (RLIMIT_AS, &limit), "getrlimit");
  if (limit.rlim_cur > ADDRESS_SPACE)
    limit.rlim_cur = ADDRESS_SPACE;
  check_errno (setrlimit (RLIMIT_AS, &limit), "setrlimit");
  check_errno (sem_init (&leave, 0, 0), "sem_init");
  check (pthread_attr_init (&attributes), "pthread_attr_init");
  check (pthread_attr_setstacksize (&attributes, STACK_SIZE), "pthread_attr_setstacksize");
  int count = make_as_many_as_possible ();
  end_all (count);
  if (count < 2)
    fail ("there is room for less than two threads");
  for (int round = 1; round < ROUNDS; round++)
    {
      /* One less: what else the program has mapped by now may be in the last one's place.  */
      int again = make_again (count - 1);
      end_all (again);
      if (again < count - 1)
        {
          fprintf (stderr, "%d threads were made at first, but only %d in round %d\n", count, again, round + 1);
          return 1;
        }
    }
  printf ("%d times as many threads as there is room for\n", ROUNDS);
}
