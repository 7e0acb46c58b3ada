// run

// Ten threads are made, double a number each, and are joined: the plainest there is. A failure here means that no other
// result of this suite counts; a wrong number, that a thread got another's argument or result.

#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define THREADS 10

/* Ends the program when a call fails that returns its error.  */
static void
check (int error, const char *call)
{
  if (error == 0)
    return;
  fprintf (stderr, "%s failed: %s\n", call, strerror (error));
  _exit (1);
}

static void *
twice (void *argument)
{
  int *number = argument;
  *number *= 2;
  return number;
}

int
main (void)
{
  pthread_t threads[THREADS];
  int numbers[THREADS];
  for (int i = 0; i < THREADS; i++)
    {
      numbers[i] = i;
      check (pthread_create (&threads[i], NULL, twice, &numbers[i]), "pthread_create");
    }
  for (int i = 0; i < THREADS; i++)
    {
      void *result;
      check (pthread_join (threads[i], &result), "pthread_join");
      if (result != &numbers[i] || numbers[i] != 2 * i)
        {
          fprintf (stderr, "thread %d made %d of %d\n", i, numbers[i], i);
          return 1;
        }
    }
  printf ("%d threads joined\n", THREADS);
}
