/* The agent: runs one command at a time in a guest and reports what became of it. Plain POSIX, no library but libc.

   The harness starts it once over SSH and talks to it over its standard input and output, so that a trial costs no new
   connection, a program gets a process group of its own, and its exact wait status is known (a shell cannot tell
   `exit 139` from SIGSEGV). It never looks at a clock to decide anything: the harness says when time is up, since a
   fragile guest's clock may not be trusted. When its input ends, the harness is gone: it kills the command and leaves.

   Every message, in both directions, is one type byte, a length of four bytes (big endian), and that many bytes.
   In:   'L' the number of bytes to keep of each stream, in decimal. 'R' run: folder, count of environment entries in
         decimal, the entries, the arguments, each ended by a zero byte. 'P' tell the command's process id. 'Q' send
         SIGQUIT to the command's process group. 'K' kill the group. 'W' write an executable file: its path, a zero
         byte, and a piece of it; a piece of no bytes ends it, and only then is it there under its name.
   Out:  'O' and 'E' a piece of the command's standard output and standard error. 'X' it ended: "exit N" or "signal N",
         then the bytes dropped of each stream, then its user and system time in milliseconds. 'P' the process id, in
         decimal; no answer if the command has ended. 'F' a command could not be started, or a file not be written: the
         reason. 'W' a file is there under its name. What else went well gets no answer of its own.

   It relies on no signal but SIGCHLD, which it sets up itself: an SSH server may leave any of them ignored or blocked,
   as one does that a boot script started in the background.

   Called with names of files, it prints a line for each, its CRC-32 in hexadecimal (that of zlib) and its size, and a
   dot on standard error for each MiB that it has read; then it leaves. So a file that came to the guest on a disk is known
   to be whole without a tool of the guest's.

   What there is to tell goes out in one piece once there is nothing else to do: each write costs a packet, which the
   guest has to compress, encrypt and send.  */

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

#define MESSAGE_MAX (1 << 20)
/* Milliseconds in which nothing happens before output is passed on: most programs end right after their last words.  */
#define PAUSE 5

struct stream
{
  int fd; /* -1 when it has ended */
  char type;
  unsigned long kept, dropped;
};

static unsigned long keep = 1 << 20;
static pid_t child = -1;
static int child_pipe[2];
static char input[MESSAGE_MAX + 8];
static size_t input_size;
static char output[1 << 16]; /* what is still to be told */
static size_t output_size;

static void
leave (int status)
{
  if (child > 0)
    kill (-child, SIGKILL);
  exit (status);
}

static void
write_all (const char *data, size_t size)
{
  while (size > 0)
    {
      ssize_t done = write (1, data, size);
      if (done < 0 && errno == EINTR)
        continue;
      if (done <= 0)
        leave (1);
      data += done;
      size -= (size_t) done;
    }
}

static void
flush (void)
{
  write_all (output, output_size);
  output_size = 0;
}

/* SIZE is less than what `output` holds by some bytes.  */
static void
tell (char type, const char *data, size_t size)
{
  char head[5] = { type, (char) (size >> 24), (char) (size >> 16), (char) (size >> 8), (char) size };
  if (output_size + sizeof head + size > sizeof output)
    flush ();
  memcpy (output + output_size, head, sizeof head);
  memcpy (output + output_size + sizeof head, data, size);
  output_size += sizeof head + size;
}

static void
tell_failure (const char *what)
{
  char text[300];
  int size = snprintf (text, sizeof text, "%s: %s", what, strerror (errno));
  tell ('F', text, (size_t) size < sizeof text ? (size_t) size : sizeof text - 1);
  flush ();
}

/* Told to end, by whatever signal: the command ends too, as it does when the harness is gone.  */
static void
on_end (int signal)
{
  if (child > 0)
    kill (-child, SIGKILL);
  _exit (128 + signal);
}

/* A signal's arrival must end a poll that began before it: write to a pipe that the poll watches.  */
static void
on_child (int signal)
{
  int saved = errno;
  ssize_t done = write (child_pipe[1], "c", 1);
  (void) signal;
  (void) done;
  errno = saved;
}

/* The zero-ended words of a message as an array that ends with NULL.  */
static char **
words (char *text, char *end, size_t *count)
{
  char **list = NULL;
  size_t n = 0;
  for (char *at = text; at < end; at += strlen (at) + 1)
    {
      list = realloc (list, (n + 2) * sizeof *list);
      if (list == NULL)
        leave (1);
      list[n++] = at;
    }
  *count = n;
  if (list != NULL)
    list[n] = NULL;
  return list;
}

/* Programs begin as from a login: nothing ignored that a server, or the agent itself, has ignored.  */
static void
no_signal_ignored (void)
{
  for (int number = 1; number < NSIG; number++)
    signal (number, SIG_DFL);
}

/* Start what an 'R' message asks for; on success the pipes of its streams are in OUT and ERR.  */
static void
start (char *text, size_t size, struct stream *out, struct stream *err)
{
  size_t count, variables;
  int outs[2], errs[2], failure[2];
  sigset_t ends, before;
  char **list;

  list = words (text, text + size, &count);
  variables = count > 1 ? strtoul (list[1], NULL, 10) : 0;
  if (count < 3 || variables > count - 3)
    {
      errno = EINVAL;
      tell_failure ("run");
      free (list);
      return;
    }
  if (pipe (outs) < 0 || pipe (errs) < 0 || pipe (failure) < 0)
    leave (1);
  fcntl (failure[1], F_SETFD, FD_CLOEXEC);
  /* On a busy machine the command may run, and end us, before fork has told us its number: on_end comes after that.  */
  sigemptyset (&ends);
  sigaddset (&ends, SIGHUP);
  sigaddset (&ends, SIGINT);
  sigaddset (&ends, SIGTERM);
  sigprocmask (SIG_BLOCK, &ends, &before);
  child = fork ();
  if (child == 0)
    {
      int null = open ("/dev/null", O_RDONLY);
      no_signal_ignored ();
      sigprocmask (SIG_SETMASK, &before, NULL);
      setpgid (0, 0);
      dup2 (null, 0);
      dup2 (outs[1], 1);
      dup2 (errs[1], 2);
      for (int fd = 3; fd < 64; fd++)
        if (fd != failure[1])
          close (fd);
      for (size_t i = 0; i < variables; i++)
        putenv (list[2 + i]);
      if (chdir (list[0]) == 0)
        execvp (list[2 + variables], list + 2 + variables);
      if (write (failure[1], &errno, sizeof errno) < 0)
        _exit (126);
      _exit (127);
    }
  close (outs[1]);
  close (errs[1]);
  close (failure[1]);
  int reason = errno;
  if (child > 0)
    setpgid (child, child); /* here too, so that it is done before a kill can come */
  sigprocmask (SIG_SETMASK, &before, NULL);
  if (child < 0 || read (failure[0], &reason, sizeof reason) > 0)
    {
      if (child > 0)
        waitpid (child, NULL, 0);
      child = -1;
      close (outs[0]);
      close (errs[0]);
      errno = reason;
      tell_failure (list[2 + variables]);
    }
  else
    {
      *out = (struct stream) { outs[0], 'O', 0, 0 };
      *err = (struct stream) { errs[0], 'E', 0, 0 };
    }
  close (failure[0]);
  free (list);
}

/* Pass on what a stream has, up to what is kept of it. Returns whether anything, or the end, was read.  */
static int
pump (struct stream *stream)
{
  static char data[32768];
  ssize_t size = read (stream->fd, data, sizeof data);
  if (size < 0 && (errno == EINTR || errno == EAGAIN))
    return 0;
  if (size <= 0)
    {
      close (stream->fd);
      stream->fd = -1;
      return 1;
    }
  size_t take = (size_t) size;
  if (take > keep - stream->kept)
    take = keep - stream->kept;
  if (take > 0)
    tell (stream->type, data, take);
  stream->kept += take;
  stream->dropped += (size_t) size - take;
  return 1;
}

/* After the command has ended: what is still in its pipes, without waiting for others that hold them open, and no more
   than a pipe can hold, for such a one may go on writing.  */
static void
drain (struct stream *stream)
{
  for (int reads = 0; stream->fd >= 0 && reads < 64; reads++)
    {
      struct pollfd ready = { stream->fd, POLLIN, 0 };
      if (poll (&ready, 1, 0) <= 0)
        break;
      pump (stream);
    }
  if (stream->fd >= 0)
    close (stream->fd);
  stream->fd = -1;
}

static unsigned long
milliseconds (struct timeval time)
{
  return (unsigned long) time.tv_sec * 1000 + (unsigned long) time.tv_usec / 1000;
}

/* Report the end of the command, and kill what it leaves in its process group.  */
static void
finish (int status, struct stream *out, struct stream *err)
{
  static struct rusage before;
  struct rusage now;
  char text[200];
  int size;

  kill (-child, SIGKILL);
  drain (out);
  drain (err);
  memset (&now, 0, sizeof now);
  getrusage (RUSAGE_CHILDREN, &now);
  size = snprintf (text, sizeof text, "%s %d %lu %lu %lu %lu", WIFSIGNALED (status) ? "signal" : "exit",
                   WIFSIGNALED (status) ? WTERMSIG (status) : WEXITSTATUS (status), out->dropped, err->dropped,
                   milliseconds (now.ru_utime) - milliseconds (before.ru_utime),
                   milliseconds (now.ru_stime) - milliseconds (before.ru_stime));
  before = now;
  child = -1;
  tell ('X', text, (size_t) size);
  flush ();
}

/* Take one piece of a file, which grows beside its place until it is whole.  */
static void
take_file (char *path, char *end)
{
  static int fd = -1; /* -1 between files */
  static int failed;
  char beside[4096];
  char *data = path + strlen (path) + 1;
  int last = data >= end;

  if (snprintf (beside, sizeof beside, "%s.new", path) >= (int) sizeof beside)
    failed = ENAMETOOLONG;
  if (fd < 0 && !failed)
    {
      for (char *at = path + 1; (at = strchr (at, '/')) != NULL; at++)
        {
          *at = '\0';
          mkdir (path, 0755); /* mostly it is there; if not, open fails */
          *at = '/';
        }
      fd = open (beside, O_WRONLY | O_CREAT | O_TRUNC, 0755);
      if (fd < 0 || fchmod (fd, 0755) < 0)
        failed = errno;
    }
  while (!failed && data < end)
    {
      ssize_t done = write (fd, data, (size_t) (end - data));
      if (done >= 0)
        data += done;
      else if (errno != EINTR)
        failed = errno;
    }
  if (!last)
    return;
  if (fd >= 0 && close (fd) < 0 && !failed)
    failed = errno;
  if (!failed && rename (beside, path) < 0)
    failed = errno;
  errno = failed;
  if (failed)
    tell_failure (path);
  else
    {
      tell ('W', "", 0);
      flush ();
    }
  fd = -1;
  failed = 0;
}

/* To the whole group, and to the command itself, which may have left its group.  */
static void
signal_command (int signal)
{
  kill (-child, signal);
  if (getpgid (child) != child)
    kill (child, signal);
}

static void
obey (char type, char *data, size_t size, struct stream *out, struct stream *err)
{
  char number[24] = { 0 };
  switch (type)
    {
    case 'L':
      memcpy (number, data, size < sizeof number ? size : sizeof number - 1);
      keep = strtoul (number, NULL, 10);
      break;
    case 'R':
      if (child < 0)
        start (data, size, out, err);
      break;
    case 'W':
      take_file (data, data + size);
      break;
    case 'P':
      if (child > 0)
        {
          tell ('P', number, (size_t) snprintf (number, sizeof number, "%ld", (long) child));
          flush ();
        }
      break;
    case 'Q':
      if (child > 0)
        signal_command (SIGQUIT);
      break;
    case 'K':
      if (child > 0)
        signal_command (SIGKILL);
      break;
    }
}

static void
listen_to_harness (struct stream *out, struct stream *err)
{
  ssize_t got = read (0, input + input_size, sizeof input - input_size - 1);
  if (got < 0 && errno == EINTR)
    return;
  if (got <= 0)
    leave (0);
  input_size += (size_t) got;
  while (input_size >= 5)
    {
      unsigned char *head = (unsigned char *) input;
      size_t size = (size_t) head[1] << 24 | (size_t) head[2] << 16 | (size_t) head[3] << 8 | head[4];
      char after;
      if (size > MESSAGE_MAX)
        leave (1);
      if (input_size < 5 + size)
        break;
      after = input[5 + size];
      input[5 + size] = '\0'; /* so that the last word of a message ends, whatever it holds */
      obey (input[0], input + 5, size, out, err);
      input[5 + size] = after;
      input_size -= 5 + size;
      memmove (input, input + 5 + size, input_size);
    }
}

static int
print_checksums (char **files)
{
  unsigned int table[256], crc, i, bit;

  for (i = 0; i < 256; i++)
    {
      for (crc = i, bit = 0; bit < 8; bit++)
        crc = crc & 1 ? crc >> 1 ^ 0xedb88320 : crc >> 1;
      table[i] = crc;
    }
  for (; *files != NULL; files++)
    {
      unsigned long size = 0, dots = 0;
      ssize_t at, got = -1;
      int fd = open (*files, O_RDONLY);
      crc = 0xffffffff;
      while (fd >= 0 && (got = read (fd, input, MESSAGE_MAX)) > 0)
        {
          for (at = 0; at < got; at++)
            crc = crc >> 8 ^ table[(crc ^ (unsigned char) input[at]) & 255];
          for (size += (unsigned long) got; dots < size >> 20; dots++)
            fputc ('.', stderr);
        }
      if (got < 0)
        {
          fprintf (stderr, "%s: %s\n", *files, strerror (errno));
          return 1;
        }
      close (fd);
      printf ("%08x %lu\n", crc ^ 0xffffffff, size);
    }
  return fflush (stdout) != 0;
}

int
main (int argc, char **argv)
{
  struct stream out = { -1, 'O', 0, 0 }, err = { -1, 'E', 0, 0 };
  struct sigaction action;
  sigset_t none;

  if (argc > 1)
    return print_checksums (argv + 1);
  if (pipe (child_pipe) < 0)
    return 1;
  fcntl (child_pipe[0], F_SETFL, O_NONBLOCK);
  fcntl (child_pipe[1], F_SETFL, O_NONBLOCK);
  memset (&action, 0, sizeof action);
  no_signal_ignored ();
  action.sa_handler = on_child;
  sigaction (SIGCHLD, &action, NULL);
  action.sa_handler = on_end;
  sigaction (SIGHUP, &action, NULL);
  sigaction (SIGINT, &action, NULL);
  sigaction (SIGTERM, &action, NULL);
  signal (SIGPIPE, SIG_IGN);
  sigemptyset (&none);
  sigprocmask (SIG_SETMASK, &none, NULL);
  for (;;)
    {
      struct pollfd ready[4]
          = { { 0, POLLIN, 0 }, { child_pipe[0], POLLIN, 0 }, { out.fd, POLLIN, 0 }, { err.fd, POLLIN, 0 } };
      int status;
      char drop[16];
      int got = poll (ready, 4, output_size > 0 ? PAUSE : -1);
      if (got < 0 && errno != EINTR)
        leave (1);
      if (got == 0)
        flush ();
      if (out.fd >= 0 && ready[2].revents)
        pump (&out);
      if (err.fd >= 0 && ready[3].revents)
        pump (&err);
      while (read (child_pipe[0], drop, sizeof drop) > 0)
        ;
      if (child > 0 && waitpid (child, &status, WNOHANG) == child)
        finish (status, &out, &err);
      if (ready[0].revents)
        listen_to_harness (&out, &err);
    }
}
