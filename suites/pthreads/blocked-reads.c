// run

// Six threads block in read on pipes that are empty, while twenty others are made and joined; then each gets its byte.
// A hang before its end means that a thread which is blocked in a call keeps others from being made or woken, or that
// it does not come back from the call; a wrong byte, that two reads were mixed up.

#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define READERS 6
#define THREADS 20

static struct reader
{
  int pipe[2];
  char byte;
} readers[READERS];
static sem_t there;

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
read_byte (void *argument)
{
  struct reader *reader = argument;
  check_errno (sem_post (&there), "sem_post");
  ssize_t length = read (reader->pipe[0], &reader->byte, 1);
  check_errno ((int) length, "read");
  if (length != 1)
    fail ("read found the end of a pipe that is open");
  return NULL;
}

static void *
end (void *argument)
{
  return argument;
}

int
main (void)
{
  pthread_t threads[READERS];
  check_errno (sem_init (&there, 0, 0), "sem_init");
  for (int i = 0; i < READERS; i++)
    {
      check_errno (pipe (readers[i].pipe), "pipe");
      check (pthread_create (&threads[i], NULL, read_byte, &readers[i]), "pthread_create");
    }
  for (int i = 0; i < READERS; i++)
    check_errno (sem_wait (&there), "sem_wait");
  for (int i = 0; i < THREADS; i++)
    {
      pthread_t thread;
      check (pthread_create (&thread, NULL, end, NULL), "pthread_create");
      check (pthread_join (thread, NULL), "pthread_join");
    }
  for (int i = 0; i < READERS; i++)
    {
      char byte = (char) ('a' + i);
      check_errno ((int) write (readers[i].pipe[1], &byte, 1), "write");
      check (pthread_join (threads[i], NULL), "pthread_join");
      if (readers[i].byte != byte)
        fail ("a thread read another's byte");
    }
  printf ("%d threads made and joined beside %d that read\n", THREADS, READERS);
}
