// run

// Twenty threads, four at a time, leave through pthread_exit two calls deep. Their cleanup handlers have to run, last
// one first, and then the destructor of their key's value; the code after the call must not run. Another order, or a
// letter that is missing, means that pthread_exit unwinds the thread's stack wrongly; a crash here and not in
// create-join, that it cannot unwind it.

#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define ROUNDS 5
#define THREADS 4

struct trace
{
  char text[8];
  int length;
};

static pthread_key_t key;

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

static void
add (struct trace *trace, char letter)
{
  if (trace->length + 1 < (int) sizeof trace->text)
    trace->text[trace->length++] = letter;
}

static void
add_a (void *trace)
{
  add (trace, 'a');
}

static void
add_b (void *trace)
{
  add (trace, 'b');
}

static void
add_c (void *trace)
{
  add (trace, 'c');
}

static void
add_key (void *trace)
{
  add (trace, 'k');
}

static __attribute__ ((noinline)) void
leave (struct trace *trace)
{
  pthread_cleanup_push (add_c, trace);
  pthread_exit (trace);
  pthread_cleanup_pop (0);
}

static __attribute__ ((noinline)) void
go_deeper (struct trace *trace)
{
  pthread_cleanup_push (add_b, trace);
  leave (trace);
  add (trace, 'x');
  pthread_cleanup_pop (0);
}

static void *
start (void *argument)
{
  struct trace *trace = argument;
  check (pthread_setspecific (key, trace), "pthread_setspecific");
  pthread_cleanup_push (add_a, trace);
  go_deeper (trace);
  add (trace, 'x');
  pthread_cleanup_pop (0);
  return NULL;
}

int
main (void)
{
  check (pthread_key_create (&key, add_key), "pthread_key_create");
  for (int round = 0; round < ROUNDS; round++)
    {
      pthread_t threads[THREADS];
      struct trace traces[THREADS];
      memset (traces, 0, sizeof traces);
      for (int i = 0; i < THREADS; i++)
        check (pthread_create (&threads[i], NULL, start, &traces[i]), "pthread_create");
      for (int i = 0; i < THREADS; i++)
        {
          void *result;
          check (pthread_join (threads[i], &result), "pthread_join");
          if (result != &traces[i])
            fail ("pthread_join did not give what pthread_exit was given");
          if (strcmp (traces[i].text, "cbak") != 0)
            {
              fprintf (stderr, "a thread ended in the order %s instead of cbak\n", traces[i].text);
              return 1;
            }
        }
    }
  printf ("%d threads ended in order\n", ROUNDS * THREADS);
}
