/* The agent: runs one command at a time in a guest and reports what became of it. Plain POSIX, no library but libc.

   The harness talks to it over a line. A trial costs no new connection, a program gets a process group of its own, and
   its exact wait status is known (a shell cannot tell `exit 139` from SIGSEGV). The agent never looks at a clock to decide
   anything: the harness says when time is up, since a fragile guest's clock may not be trusted.

   Called without arguments, its line is its standard input and output, an SSH connection's. When its input ends, the
   harness is gone: it kills the command and leaves.
   `serve DEVICE SOCKET`: it stays in the background. Its lines are the channel, a serial port that is saved and restored
   with the machine, and whoever connected to the socket last. A line that ends changes nothing: the harness attaches by
   the other one and gets what it has not seen.
   `relay SOCKET`: passes its standard input and output on to an agent that serves; an SSH connection does that.
   `sum FILE...`: prints a line for each file, its CRC-32 in hexadecimal (that of zlib) and its size, and a dot on standard
   error for each MiB that it has read. So a file that came on a disk is known to be whole without a tool of the guest's.

   A message to the agent is a type byte, its number, how many messages of the agent's have been received, a length (four
   bytes each, big endian), and that many bytes. Numbers count from 1; one that has been obeyed is not obeyed again.
   'A' attach: the agent talks over this line from now on, beginning with the first message that was not received; with
   2^32-1 for that, with the next. 'L' the number of bytes to keep of each stream, in decimal. 'R' run: folder, count of
   environment entries in decimal, the entries, the arguments, each ended by a zero byte. 'P' tell the command's process
   id. 'Q' send SIGQUIT to the command's process group. 'K' kill the group. 'W' write an executable file: its path, a zero
   byte, and a piece of it; a piece of no bytes ends it, and only then is it there under its name. 'G' tell what is in files:
   their paths, each ended by a zero byte; `*` between two slashes, or at the end, stands for all names that begin with no
   dot. 'N' a word to remember. 'n' tell the word. 'r' run a shell command beside the other one; 'k' kill its group.

   A message of the agent's is a byte 0xa5, a type byte, its index, a length, a CRC-32 of all that but the first byte (four
   bytes each), and that many bytes. 'O' and 'E' a piece of the command's standard output and standard error. 'X' it ended:
   "exit N" or "signal N", then the bytes dropped of each stream. 'o', 'e' and 'x' the same of the shell command. 'P' the
   process id, in decimal; no answer if the command has ended. 'F' a command could not be started, or a file not be
   written: the reason. 'W' a file is there under its name. 'N' the word. 'G' a piece of a file: '.' if it is the last one,
   else '+', the file's name, a zero byte, and the piece; of a link, where it leads. A file that cannot be read to its end
   has no last piece. 'G' with nothing in it: these were all; with '!', a folder could not be read; no answer if the command
   has ended. What else went well gets no answer of its own.
   Some have no index, but 2^32-1: 'A' the answer to an attach, the number of the last message that was obeyed and the
   index that comes next; '+' the answer to a packet; '!' the agent has ended, in the words of 'X'.

   A serial port may lose what comes faster than the guest reads. So what comes by the channel is cut into packets: a byte
   0xa5, a kind byte, a sequence byte, a length byte, as many bytes, and a CRC-32 of all that but the first byte. Kind 'D' is
   data; 'S' is data, too, and begins a conversation. The agent answers with the sequence byte; what is not answered is
   sent again.

   It relies on no signal but SIGCHLD, which it sets up itself: an SSH server may leave any of them ignored or blocked,
   as one does that a boot script started in the background.

   What there is to tell goes out in one piece once there is nothing else to do: each write costs a packet, which the
   guest has to compress, encrypt and send.  */

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#define MESSAGE_MAX (1 << 20)
#define HEAD_IN 13
#define HEAD_OUT 14
#define MARK ((char) 0xa5)
#define INPUT_MAX (MESSAGE_MAX + HEAD_IN + 8)
#define NO_INDEX 0xffffffffU
/* Milliseconds in which nothing happens before output is passed on: most programs end right after their last words.  */
#define PAUSE 5
/* Bytes that wait to be passed on, after which there is no waiting for more.  */
#define ENOUGH 32768
/* Bytes of a stream in one message; an answer to a packet waits for one at most.  */
#define PIECE 8192
/* Bytes that are kept of each stream of a shell command.  */
#define KEPT_BESIDE (4UL << 20)

struct stream
{
  int fd; /* -1 when it has ended */
  char type;
  unsigned long kept, dropped, keep;
};

/* A command, and how its messages are called.  */
struct job
{
  pid_t child; /* -1 when there is none */
  struct stream out, err;
  char end_type;
};

struct line
{
  int in, out; /* -1 when there is none */
  int packets; /* whether what comes is cut into packets */
  unsigned char expected;
  char packet[512];
  size_t packet_size;
  char *input; /* INPUT_MAX bytes */
  size_t input_size;
  char urgent[512]; /* messages without an index, to be passed on first */
  size_t urgent_size;
  int urgent_begun; /* whether the first of them is on its way */
  size_t sent, whole; /* of `told`: where to go on, and the end of the message that this is in */
};

static unsigned long keep = 1 << 20;
static struct job command = { -1, { -1, 'O', 0, 0, 0 }, { -1, 'E', 0, 0, 0 }, 'X' };
static struct job beside = { -1, { -1, 'o', 0, 0, 0 }, { -1, 'e', 0, 0, 0 }, 'x' };
static int child_pipe[2];
static char inputs[2][INPUT_MAX];
static struct line channel = { .in = -1, .out = -1, .packets = 1, .input = inputs[0] };
static struct line connection = { .in = -1, .out = -1, .input = inputs[1] };
static struct line *current; /* where messages go, NULL if nobody is attached */
static int listener = -1, serving;
static char *told; /* the messages that were not received yet, as far as is known */
static size_t told_size, told_room;
static uint32_t first_index, next_index; /* of the first message in `told`, and of the next one to be told */
static uint32_t obeyed;
static int due; /* whether what is told goes out without waiting for more */
static char word[256];
static size_t word_size;
static uint32_t crc_table[256];

/* What runs ends with the agent.  */
static void
kill_commands (void)
{
  if (command.child > 0)
    kill (-command.child, SIGKILL);
  if (beside.child > 0)
    kill (-beside.child, SIGKILL);
}

static void
leave (int status)
{
  kill_commands ();
  exit (status);
}

static void
make_crc_table (void)
{
  for (uint32_t i = 0; i < 256; i++)
    {
      uint32_t crc = i;
      for (int bit = 0; bit < 8; bit++)
        crc = crc & 1 ? crc >> 1 ^ 0xedb88320 : crc >> 1;
      crc_table[i] = crc;
    }
}

static uint32_t
add_to_crc (uint32_t crc, const char *data, size_t size)
{
  for (size_t at = 0; at < size; at++)
    crc = crc >> 8 ^ crc_table[(crc ^ (unsigned char) data[at]) & 255];
  return crc;
}

static void
put_number (char *place, uint32_t number)
{
  for (int byte = 0; byte < 4; byte++)
    place[byte] = (char) (number >> (24 - 8 * byte));
}

static uint32_t
get_number (const char *place)
{
  const unsigned char *bytes = (const unsigned char *) place;
  return (uint32_t) bytes[0] << 24 | (uint32_t) bytes[1] << 16 | (uint32_t) bytes[2] << 8 | bytes[3];
}

static void
write_head (char *head, char type, uint32_t index, const char *data, size_t size)
{
  head[0] = MARK;
  head[1] = type;
  put_number (head + 2, index);
  put_number (head + 6, (uint32_t) size);
  put_number (head + 10, ~add_to_crc (add_to_crc (0xffffffff, head + 1, 9), data, size));
}

static size_t
message_size (const char *head)
{
  return HEAD_OUT + get_number (head + 6);
}

static void
tell (char type, const char *data, size_t size)
{
  if (told_size + HEAD_OUT + size > told_room)
    {
      told_room = 2 * (told_size + HEAD_OUT + size);
      told = realloc (told, told_room);
      if (told == NULL)
        leave (1);
    }
  write_head (told + told_size, type, next_index++, data, size);
  memcpy (told + told_size + HEAD_OUT, data, size);
  told_size += HEAD_OUT + size;
}

/* Tell over one line something that has no index. What does not fit is dropped: the harness asks again.  */
static void
tell_at_once (struct line *line, char type, const char *data, size_t size)
{
  if (line->urgent_size + HEAD_OUT + size > sizeof line->urgent)
    return;
  write_head (line->urgent + line->urgent_size, type, NO_INDEX, data, size);
  memcpy (line->urgent + line->urgent_size + HEAD_OUT, data, size);
  line->urgent_size += HEAD_OUT + size;
}

/* Forget the messages before INDEX.  */
static void
forget (uint32_t index)
{
  size_t size = 0;
  while (size < told_size && (int32_t) (index - first_index) > 0)
    {
      size += message_size (told + size);
      first_index++;
    }
  if (size == 0)
    return;
  memmove (told, told + size, told_size - size);
  told_size -= size;
  if (current != NULL)
    {
      current->sent = current->sent > size ? current->sent - size : 0;
      current->whole = current->whole > size ? current->whole - size : 0;
    }
}

static void
tell_failure (const char *what)
{
  char text[300];
  int size = snprintf (text, sizeof text, "%s: %s", what, strerror (errno));
  tell ('F', text, (size_t) size < sizeof text ? (size_t) size : sizeof text - 1);
  due = 1;
}

/* A line has ended. Without another one the harness is gone.  */
static void
end_line (struct line *line)
{
  if (!serving)
    leave (0);
  if (line->in >= 0)
    close (line->in);
  line->in = line->out = -1;
  line->input_size = line->packet_size = line->urgent_size = 0;
  line->urgent_begun = 0;
  line->sent = line->whole = 0;
  if (current == line)
    current = NULL;
}

/* What a line has to pass on now; 0 bytes if nothing.  */
static size_t
to_pass_on (struct line *line, const char **data)
{
  if (line->urgent_size > 0 && (line->urgent_begun || line->sent == line->whole))
    {
      *data = line->urgent;
      return line->urgent_size;
    }
  if (line != current || line->sent == told_size)
    return 0;
  if (!due && line->sent == line->whole && told_size - line->sent < ENOUGH)
    return 0;
  if (line->sent == line->whole)
    line->whole += message_size (told + line->whole);
  *data = told + line->sent;
  return line->whole - line->sent;
}

static void
pass_on (struct line *line)
{
  const char *data;
  size_t size = to_pass_on (line, &data);
  ssize_t done;

  if (size == 0)
    return;
  done = write (line->out, data, size);
  if (done < 0 && (errno == EINTR || errno == EAGAIN))
    return;
  if (done <= 0)
    {
      end_line (line);
      return;
    }
  if (data == line->urgent)
    {
      line->urgent_size -= (size_t) done;
      memmove (line->urgent, line->urgent + done, line->urgent_size);
      line->urgent_begun = line->urgent_size > 0;
      return;
    }
  line->sent += (size_t) done;
  if (line->sent == told_size)
    due = 0;
}

/* Told to end, by whatever signal: the commands end too, as they do when the harness is gone.  */
static void
on_end (int signal)
{
  kill_commands ();
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

/* Start a program in a folder, with more environment. What is kept of its streams is KEPT bytes each.  */
static void
start (struct job *job, const char *folder, char **variables, size_t count, char **argv, unsigned long kept)
{
  int outs[2], errs[2], failure[2];
  sigset_t ends, before;

  if (pipe (outs) < 0 || pipe (errs) < 0 || pipe (failure) < 0)
    leave (1);
  fcntl (failure[1], F_SETFD, FD_CLOEXEC);
  /* On a busy machine the command may run, and end us, before fork has told us its number: on_end comes after that.  */
  sigemptyset (&ends);
  sigaddset (&ends, SIGHUP);
  sigaddset (&ends, SIGINT);
  sigaddset (&ends, SIGTERM);
  sigprocmask (SIG_BLOCK, &ends, &before);
  job->child = fork ();
  if (job->child == 0)
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
      for (size_t i = 0; i < count; i++)
        putenv (variables[i]);
      if (chdir (folder) == 0)
        execvp (argv[0], argv);
      if (write (failure[1], &errno, sizeof errno) < 0)
        _exit (126);
      _exit (127);
    }
  close (outs[1]);
  close (errs[1]);
  close (failure[1]);
  int reason = errno;
  if (job->child > 0)
    setpgid (job->child, job->child); /* here too, so that it is done before a kill can come */
  sigprocmask (SIG_SETMASK, &before, NULL);
  if (job->child < 0 || read (failure[0], &reason, sizeof reason) > 0)
    {
      if (job->child > 0)
        waitpid (job->child, NULL, 0);
      job->child = -1;
      close (outs[0]);
      close (errs[0]);
      errno = reason;
      tell_failure (argv[0]);
    }
  else
    {
      job->out.fd = outs[0];
      job->err.fd = errs[0];
      job->out.keep = job->err.keep = kept;
      job->out.kept = job->out.dropped = job->err.kept = job->err.dropped = 0;
    }
  close (failure[0]);
}

/* Start what an 'R' message asks for.  */
static void
start_command (char *text, size_t size)
{
  size_t count;
  char **list = words (text, text + size, &count);
  size_t variables = count > 1 ? strtoul (list[1], NULL, 10) : 0;
  if (count < 3 || variables > count - 3)
    {
      errno = EINVAL;
      tell_failure ("run");
    }
  else
    start (&command, list[0], list + 2, variables, list + 2 + variables, keep);
  free (list);
}

/* Start what an 'r' message asks for.  */
static void
start_beside (char *text)
{
  char shell[] = "/bin/sh", option[] = "-c";
  char *argv[] = { shell, option, text, NULL };
  start (&beside, "/", NULL, 0, argv, KEPT_BESIDE);
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
  if (take > stream->keep - stream->kept)
    take = stream->keep - stream->kept;
  for (size_t at = 0; at < take; at += PIECE)
    tell (stream->type, data + at, take - at < PIECE ? take - at : PIECE);
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

/* See whether a command has ended; then report it, and kill what it leaves in its process group.  */
static void
look_after (struct job *job)
{
  char text[100];
  int status;

  if (job->child <= 0 || waitpid (job->child, &status, WNOHANG) != job->child)
    return;
  kill (-job->child, SIGKILL);
  drain (&job->out);
  drain (&job->err);
  job->child = -1;
  tell (job->end_type, text,
        (size_t) snprintf (text, sizeof text, "%s %d %lu %lu", WIFSIGNALED (status) ? "signal" : "exit",
                           WIFSIGNALED (status) ? WTERMSIG (status) : WEXITSTATUS (status), job->out.dropped,
                           job->err.dropped));
  due = 1;
}

/* Take one piece of a file, which grows beside its place until it is whole.  */
static void
take_file (char *path, char *end)
{
  static int fd = -1; /* -1 between files */
  static int failed;
  char beside_it[4096];
  char *data = path + strlen (path) + 1;
  int last = data >= end;

  if (snprintf (beside_it, sizeof beside_it, "%s.new", path) >= (int) sizeof beside_it)
    failed = ENAMETOOLONG;
  if (fd < 0 && !failed)
    {
      for (char *at = path + 1; (at = strchr (at, '/')) != NULL; at++)
        {
          *at = '\0';
          mkdir (path, 0755); /* mostly it is there; if not, open fails */
          *at = '/';
        }
      fd = open (beside_it, O_WRONLY | O_CREAT | O_TRUNC, 0755);
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
  if (!failed && rename (beside_it, path) < 0)
    failed = errno;
  errno = failed;
  if (failed)
    tell_failure (path);
  else
    {
      tell ('W', "", 0);
      due = 1;
    }
  fd = -1;
  failed = 0;
}

/* Whether an error says that something is gone, or never was there.  */
static int
is_gone (int error)
{
  return error == ENOENT || error == ENOTDIR || error == ESRCH;
}

static int
tell_file (const char *name)
{
  static char text[12288];
  size_t head = strlen (name) + 2, size = head;
  ssize_t got;
  int fd;

  text[0] = '.';
  memcpy (text + 1, name, head - 1);
  got = readlink (name, text + head, sizeof text - head);
  if (got >= 0)
    {
      tell ('G', text, head + (size_t) got);
      return 1;
    }
  if (errno != EINVAL) /* it may be a link to something that is changed, or waits, when it is opened */
    return is_gone (errno);
  fd = open (name, O_RDONLY | O_NONBLOCK);
  if (fd < 0)
    return 1;
  while ((got = read (fd, text + size, sizeof text - size)) > 0)
    {
      size += (size_t) got;
      if (size == sizeof text)
        {
          text[0] = '+';
          tell ('G', text, size);
          text[0] = '.';
          size = head;
        }
    }
  close (fd);
  if (got == 0)
    tell ('G', text, size);
  return 1;
}

/* Tell what is in all files that a path stands for. Returns whether all folders could be read.  */
static int
tell_files (const char *path)
{
  const char *star = strstr (path, "/*");
  char name[512];
  struct dirent *entry;
  DIR *folder;
  int whole;

  while (star != NULL && star[2] != '/' && star[2] != '\0')
    star = strstr (star + 1, "/*");
  if (star == NULL)
    return tell_file (path);
  if (snprintf (name, sizeof name, "%.*s", (int) (star - path), path) >= (int) sizeof name)
    return 0;
  folder = opendir (name);
  if (folder == NULL)
    return is_gone (errno);
  for (whole = 1; errno = 0, (entry = readdir (folder)) != NULL;)
    if (entry->d_name[0] != '.')
      {
        if (snprintf (name, sizeof name, "%.*s/%s%s", (int) (star - path), path, entry->d_name, star + 2)
                >= (int) sizeof name
            || !tell_files (name))
          whole = 0;
      }
  if (errno != 0 && !is_gone (errno))
    whole = 0;
  closedir (folder);
  return whole;
}

/* To the whole group, and to the command itself, which may have left its group.  */
static void
signal_command (int signal)
{
  kill (-command.child, signal);
  if (getpgid (command.child) != command.child)
    kill (command.child, signal);
}

/* Talk over a line from now on, beginning with the message of that index.  */
static void
attach (struct line *line, uint32_t received)
{
  char text[50];

  if (line == &channel && connection.in >= 0) /* what may still come that way is out of date */
    end_line (&connection);
  if (current != NULL)
    current->sent = current->whole = 0;
  forget (received == NO_INDEX ? next_index : received);
  current = line;
  line->sent = line->whole = 0;
  due = told_size > 0;
  tell_at_once (line, 'A', text,
                (size_t) snprintf (text, sizeof text, "%lu %lu", (unsigned long) obeyed, (unsigned long) first_index));
}

static void
obey (char type, char *data, size_t size)
{
  char number[24] = { 0 }, *end;
  int whole = 1;
  switch (type)
    {
    case 'L':
      memcpy (number, data, size < sizeof number ? size : sizeof number - 1);
      keep = strtoul (number, NULL, 10);
      break;
    case 'R':
      if (command.child < 0)
        start_command (data, size);
      break;
    case 'W':
      take_file (data, data + size);
      break;
    case 'G':
      if (command.child < 0)
        break;
      for (end = data + size; data < end; data += strlen (data) + 1)
        whole &= tell_files (data);
      tell ('G', "!", whole ? 0 : 1);
      due = 1;
      break;
    case 'P':
      if (command.child > 0)
        {
          tell ('P', number, (size_t) snprintf (number, sizeof number, "%ld", (long) command.child));
          due = 1;
        }
      break;
    case 'Q':
      if (command.child > 0)
        signal_command (SIGQUIT);
      break;
    case 'K':
      if (command.child > 0)
        signal_command (SIGKILL);
      break;
    case 'N':
      word_size = size < sizeof word ? size : sizeof word;
      memcpy (word, data, word_size);
      break;
    case 'n':
      tell ('N', word, word_size);
      due = 1;
      break;
    case 'r':
      if (beside.child < 0)
        start_beside (data);
      break;
    case 'k':
      if (beside.child > 0)
        kill (-beside.child, SIGKILL);
      break;
    }
}

/* Obey the messages that are there whole.  */
static void
obey_messages (struct line *line)
{
  size_t at = 0;
  while (line->input_size - at >= HEAD_IN)
    {
      char *head = line->input + at, after;
      uint32_t number = get_number (head + 1), received = get_number (head + 5);
      size_t size = get_number (head + 9);
      if (size > MESSAGE_MAX)
        {
          end_line (line);
          return;
        }
      if (line->input_size - at < HEAD_IN + size)
        break;
      at += HEAD_IN + size;
      if (head[0] == 'A')
        {
          attach (line, received);
          continue;
        }
      if ((int32_t) (number - obeyed) <= 0 || line != current)
        continue;
      obeyed = number;
      forget (received);
      after = head[HEAD_IN + size];
      head[HEAD_IN + size] = '\0'; /* so that the last word of a message ends, whatever it holds */
      obey (head[0], head + HEAD_IN, size);
      head[HEAD_IN + size] = after;
    }
  line->input_size -= at;
  memmove (line->input, line->input + at, line->input_size);
}

/* Take what is in the packets that are there whole; what is none is left out, byte by byte.  */
static void
unpack (struct line *line)
{
  size_t at = 0;
  while (line->packet_size - at >= 8)
    {
      char *packet = line->packet + at;
      size_t size = (unsigned char) packet[3];
      unsigned char sequence = (unsigned char) packet[2];
      if (packet[0] != MARK)
        {
          at++;
          continue;
        }
      if (line->packet_size - at < 8 + size)
        break;
      if (get_number (packet + 4 + size) != (uint32_t) ~add_to_crc (0xffffffff, packet + 1, 3 + size))
        {
          at++;
          continue;
        }
      at += 8 + size;
      if (packet[1] == 'S')
        {
          line->input_size = 0;
          line->expected = sequence;
        }
      if (sequence == line->expected && line->input_size + size < INPUT_MAX)
        {
          memcpy (line->input + line->input_size, packet + 4, size);
          line->input_size += size;
          line->expected++;
        }
      if (sequence == (unsigned char) (line->expected - 1))
        tell_at_once (line, '+', packet + 2, 1);
      obey_messages (line);
    }
  line->packet_size -= at;
  memmove (line->packet, line->packet + at, line->packet_size);
}

static void
listen_to (struct line *line)
{
  char *place = line->packets ? line->packet + line->packet_size : line->input + line->input_size;
  size_t room = line->packets ? sizeof line->packet - line->packet_size : INPUT_MAX - line->input_size - 1;
  ssize_t got = read (line->in, place, room);

  if (got < 0 && (errno == EINTR || errno == EAGAIN))
    return;
  if (got <= 0)
    {
      end_line (line);
      return;
    }
  if (line->packets)
    {
      line->packet_size += (size_t) got;
      unpack (line);
      return;
    }
  line->input_size += (size_t) got;
  obey_messages (line);
}

/* A new connection takes the place of the one before.  */
static void
take_connection (void)
{
  int fd = accept (listener, NULL, NULL);
  if (fd < 0)
    return;
  if (connection.in >= 0)
    end_line (&connection);
  fcntl (fd, F_SETFL, O_NONBLOCK);
  connection.in = connection.out = fd;
}

static int
print_checksums (char **files)
{
  static char data[MESSAGE_MAX];

  for (; *files != NULL; files++)
    {
      unsigned long size = 0, dots = 0;
      uint32_t crc = 0xffffffff;
      ssize_t got = -1;
      int fd = open (*files, O_RDONLY);
      while (fd >= 0 && (got = read (fd, data, sizeof data)) > 0)
        {
          crc = add_to_crc (crc, data, (size_t) got);
          for (size += (unsigned long) got; dots < size >> 20; dots++)
            fputc ('.', stderr);
        }
      if (got < 0)
        {
          fprintf (stderr, "%s: %s\n", *files, strerror (errno));
          return 1;
        }
      close (fd);
      printf ("%08lx %lu\n", (unsigned long) ~crc & 0xffffffff, size);
    }
  return fflush (stdout) != 0;
}

static int
failed (const char *what)
{
  fprintf (stderr, "%s: %s\n", what, strerror (errno));
  return 1;
}

/* The address of a socket by its path.  */
static struct sockaddr_un
address_of (const char *path)
{
  struct sockaddr_un address;
  memset (&address, 0, sizeof address);
  address.sun_family = AF_UNIX;
  strncpy (address.sun_path, path, sizeof address.sun_path - 1);
  return address;
}

/* Tell by the channel when the agent ends, as a connection would by its end.  */
static void
watch_over (pid_t server)
{
  char text[60];
  int status = 0;
  struct pollfd ready = { channel.out, POLLOUT, 0 };

  close (listener);
  while (waitpid (server, &status, 0) < 0 && errno == EINTR)
    ;
  tell_at_once (&channel, '!', text,
                (size_t) snprintf (text, sizeof text, "%s %d", WIFSIGNALED (status) ? "signal" : "exit",
                                   WIFSIGNALED (status) ? WTERMSIG (status) : WEXITSTATUS (status)));
  while (channel.urgent_size > 0 && poll (&ready, 1, -1) > 0)
    pass_on (&channel);
  _exit (0);
}

/* Open the channel and the socket, and go on in the background. Returns 0 there, else the exit status.  */
static int
begin_to_serve (const char *device, const char *path)
{
  struct sockaddr_un address = address_of (path);
  struct termios mode, faster;
  int fd = open (device, O_RDWR | O_NOCTTY | O_NONBLOCK), null = open ("/dev/null", O_RDWR);
  pid_t server;

  if (fd < 0)
    return failed (device);
  if (tcgetattr (fd, &mode) == 0)
    {
      cfmakeraw (&mode);
      mode.c_cflag |= CLOCAL | CREAD;
      faster = mode;
      cfsetispeed (&faster, B115200);
      cfsetospeed (&faster, B115200);
      if (tcsetattr (fd, TCSANOW, &faster) < 0 && tcsetattr (fd, TCSANOW, &mode) < 0)
        return failed (device);
      tcflush (fd, TCIOFLUSH);
    }
  channel.in = channel.out = fd;
  if (strlen (path) >= sizeof address.sun_path)
    {
      errno = ENAMETOOLONG;
      return failed (path);
    }
  unlink (path);
  listener = socket (AF_UNIX, SOCK_STREAM, 0);
  if (listener < 0 || bind (listener, (struct sockaddr *) &address, sizeof address) < 0 || listen (listener, 2) < 0)
    return failed (path);
  server = fork ();
  if (server < 0)
    return failed ("fork");
  if (server > 0)
    {
      printf ("%ld\n", (long) server);
      fflush (stdout);
      _exit (0);
    }
  setsid ();
  dup2 (null, 0);
  dup2 (null, 1);
  dup2 (null, 2);
  close (null);
  server = fork ();
  if (server > 0)
    watch_over (server);
  serving = 1;
  return 0;
}

/* Pass on what one file has to another. Returns whether there is more to come.  */
static int
pass (int from, int to)
{
  static char data[32768];
  ssize_t got = read (from, data, sizeof data), done;
  if (got < 0 && errno == EINTR)
    return 1;
  for (ssize_t at = 0; at < got; at += done)
    {
      done = write (to, data + at, (size_t) (got - at));
      if (done < 0 && errno == EINTR)
        done = 0;
      if (done < 0)
        return 0;
    }
  return got > 0;
}

static int
relay (const char *path)
{
  struct sockaddr_un address = address_of (path);
  int fd = socket (AF_UNIX, SOCK_STREAM, 0);
  if (fd < 0 || connect (fd, (struct sockaddr *) &address, sizeof address) < 0)
    return failed (path);
  for (;;)
    {
      struct pollfd ready[2] = { { 0, POLLIN, 0 }, { fd, POLLIN, 0 } };
      if (poll (ready, 2, -1) < 0 && errno != EINTR)
        return failed ("poll");
      if ((ready[0].revents && !pass (0, fd)) || (ready[1].revents && !pass (fd, 1)))
        return 0;
    }
}

static void
set_up_signals (void)
{
  struct sigaction action;
  sigset_t none;

  if (pipe (child_pipe) < 0)
    leave (1);
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
}

static void
wait_for_something (void)
{
  struct line *lines[2] = { &channel, &connection };
  struct stream *streams[4] = { &command.out, &command.err, &beside.out, &beside.err };
  struct pollfd ready[10];
  char drop[16];
  int got, waits = 0;
  const char *data;

  ready[0] = (struct pollfd) { child_pipe[0], POLLIN, 0 };
  ready[1] = (struct pollfd) { listener, POLLIN, 0 };
  for (int i = 0; i < 4; i++)
    ready[2 + i] = (struct pollfd) { streams[i]->fd, POLLIN, 0 };
  for (int i = 0; i < 2; i++)
    {
      struct line *line = lines[i];
      int writes = line->out >= 0 && to_pass_on (line, &data) > 0;
      ready[6 + i] = (struct pollfd) { line->in, POLLIN, 0 };
      ready[8 + i] = (struct pollfd) { writes ? line->out : -1, POLLOUT, 0 };
      waits |= line == current && !writes && line->sent < told_size;
    }
  got = poll (ready, 10, waits ? PAUSE : -1);
  if (got < 0)
    {
      if (errno != EINTR)
        leave (1);
      return;
    }
  if (got == 0)
    due = 1;
  for (int i = 0; i < 4; i++)
    if (ready[2 + i].revents)
      pump (streams[i]);
  while (read (child_pipe[0], drop, sizeof drop) > 0)
    ;
  look_after (&command);
  look_after (&beside);
  for (int i = 0; i < 2; i++)
    {
      if (lines[i]->in >= 0 && ready[6 + i].revents)
        listen_to (lines[i]);
      if (lines[i]->out >= 0 && ready[8 + i].revents)
        pass_on (lines[i]);
    }
  if (ready[1].revents)
    take_connection ();
}

int
main (int argc, char **argv)
{
  int status;

  make_crc_table ();
  if (argc > 1 && strcmp (argv[1], "sum") == 0)
    return print_checksums (argv + 2);
  if (argc == 3 && strcmp (argv[1], "relay") == 0)
    return relay (argv[2]);
  if (argc == 4 && strcmp (argv[1], "serve") == 0)
    {
      status = begin_to_serve (argv[2], argv[3]);
      if (status != 0)
        return status;
    }
  else
    {
      connection.in = 0;
      connection.out = 1;
      fcntl (0, F_SETFL, fcntl (0, F_GETFL) | O_NONBLOCK);
      fcntl (1, F_SETFL, fcntl (1, F_GETFL) | O_NONBLOCK);
    }
  set_up_signals ();
  for (;;)
    wait_for_something ();
}
