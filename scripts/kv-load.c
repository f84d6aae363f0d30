/* A closed-loop client for scripts/bench-kv: one epoll thread, so many connections, one request at a time on each, every request drawn at
 * random from a file of requests of one length. The same client for every server that is compared.
 *
 * usage: kv-load PROTOCOL ADDRESS FILE LENGTH CONNECTIONS SECONDS
 *   PROTOCOL  http, or grpc: then a request is a HEADERS frame and a DATA frame, whose stream is filled in here
 *   ADDRESS   127.0.0.1:PORT, or the path of a Unix socket
 * prints: requests/s, latency in microseconds at p50, p99, p99.9 and the longest, answers that were no 2xx, and all answers */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum { BUFFER_BYTES = 1 << 16, EVENTS = 256, LATENCY_MAX_US = 5000000, FRAME_HEAD = 9 };
enum { DATA = 0, HEADERS = 1, SETTINGS = 4, PING = 6, GOAWAY = 7, END_STREAM = 1, ACK = 1 };

/* The first words on a connection: windows so wide that they never have to be widened. */
static const char preface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
                              "\0\0\6\4\0\0\0\0\0\0\4\x7f\xff\xff\xff"
                              "\0\0\4\x8\0\0\0\0\0\x7f\xfe\xff\xff";

struct connection {
  int fd, length, has_data;
  unsigned stream;
  long sent_ns;
  char buffer[BUFFER_BYTES];
};

static char *requests;
static int is_grpc;
static long request_count, request_length, random_state = 88172645463325252L;
static unsigned latencies[LATENCY_MAX_US];

static void fail(const char *what) {
  fprintf(stderr, "kv-load: %s: %s\n", what, strerror(errno));
  exit(1);
}

static long now_ns(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * 1000000000L + now.tv_nsec;
}

static int dial(const char *address) {
  const char *colon = strrchr(address, ':');
  int fd, one = 1;
  if (address[0] != '/' && colon) {
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(atoi(colon + 1)), .sin_addr = {htonl(INADDR_LOOPBACK)}};
    fd = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(fd, (void *)&to, sizeof to)) fail(address);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  } else {
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    strncpy(to.sun_path, address, sizeof to.sun_path - 1);
    fd = socket(AF_UNIX, SOCK_STREAM, 0);
    if (connect(fd, (void *)&to, sizeof to)) fail(address);
  }
  fcntl(fd, F_SETFL, O_NONBLOCK);
  if (is_grpc && write(fd, preface, sizeof preface - 1) != sizeof preface - 1) fail("write");
  return fd;
}

static void put_stream(char *frame, unsigned stream) {
  for (int at = 0; at < 4; at++) frame[5 + at] = stream >> (24 - 8 * at);
}

static int frame_bytes(const char *frame) {
  const unsigned char *bytes = (const void *)frame;
  return FRAME_HEAD + (bytes[0] << 16 | bytes[1] << 8 | bytes[2]);
}

static void ask(struct connection *connection) {
  random_state ^= random_state << 13;
  random_state ^= (unsigned long)random_state >> 7;
  random_state ^= random_state << 17;
  char *request = requests + (unsigned long)random_state % request_count * request_length;
  if (is_grpc) {
    connection->stream = connection->stream ? connection->stream + 2 : 1;
    connection->has_data = 0;
    put_stream(request, connection->stream);
    put_stream(request + frame_bytes(request), connection->stream);
  }
  connection->sent_ns = now_ns();
  /* One request in flight: a socket's buffer has room for it. */
  if (write(connection->fd, request, request_length) != request_length) fail("write");
}

/* Whether a whole answer is in the buffer; its status. An answer has a length. */
static int whole_answer(const struct connection *connection, int *status) {
  const char *from = connection->buffer, *head_end = memmem(from, connection->length, "\r\n\r\n", 4);
  if (!head_end) return 0;
  long body = 0;
  for (const char *line = from; line < head_end; line = (char *)memchr(line, '\n', head_end + 2 - line) + 1)
    if (!strncasecmp(line, "content-length:", 15)) body = atol(line + 15);
  *status = atoi(from + 9);
  return head_end + 4 - from + body <= connection->length;
}

/* Takes whole frames out of the buffer. Whether one of them was the end of the answer; it is a good one if it has a message. */
static int take_frames(struct connection *connection, int *status) {
  int taken = 0, is_over = 0;
  while (connection->length - taken >= FRAME_HEAD) {
    char *frame = connection->buffer + taken;
    int bytes = frame_bytes(frame), kind = frame[3], flags = frame[4];
    if (connection->length - taken < bytes) break;
    taken += bytes;
    if ((kind == SETTINGS || kind == PING) && !(flags & ACK)) {
      frame[4] = ACK;
      if (kind == SETTINGS) frame[0] = frame[1] = frame[2] = 0;
      if (write(connection->fd, frame, kind == PING ? bytes : FRAME_HEAD) < 0) fail("write");
    }
    if (kind == GOAWAY) fail("the server goes away");
    connection->has_data |= kind == DATA;
    is_over |= (kind == DATA || kind == HEADERS) && (flags & END_STREAM);
  }
  memmove(connection->buffer, connection->buffer + taken, connection->length - taken);
  connection->length -= taken;
  *status = connection->has_data ? 200 : 500;
  return is_over;
}

int main(int count, char **arguments) {
  if (count != 7) {
    fprintf(stderr, "usage: kv-load http|grpc ADDRESS FILE LENGTH CONNECTIONS SECONDS\n");
    return 2;
  }
  is_grpc = !strcmp(arguments[1], "grpc");
  arguments++;
  FILE *file = fopen(arguments[2], "rb");
  if (!file) fail(arguments[2]);
  fseek(file, 0, SEEK_END);
  long size = ftell(file);
  rewind(file);
  requests = malloc(size);
  if (fread(requests, 1, size, file) != (size_t)size) fail(arguments[2]);
  request_length = atol(arguments[3]);
  request_count = size / request_length;
  int connections = atoi(arguments[4]), poll = epoll_create1(0);
  struct connection *all = calloc(connections, sizeof *all);
  for (int at = 0; at < connections; at++) {
    all[at].fd = dial(arguments[1]);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = &all[at]};
    epoll_ctl(poll, EPOLL_CTL_ADD, all[at].fd, &event);
  }
  long begun = now_ns(), end = begun + (long)(atof(arguments[5]) * 1e9), now = begun, answered = 0, refused = 0;
  for (int at = 0; at < connections; at++) ask(&all[at]);
  while (now < end) {
    struct epoll_event events[EVENTS];
    int found = epoll_wait(poll, events, EVENTS, 5000);
    if (found == 0) {
      fprintf(stderr, "kv-load: nothing was answered for 5 s\n");
      return 1;
    }
    for (int at = 0; at < found; at++) {
      struct connection *connection = events[at].data.ptr;
      long got = read(connection->fd, connection->buffer + connection->length, BUFFER_BYTES - connection->length);
      int status = 0;
      if (got <= 0) fail("the server closed a connection");
      connection->length += got;
      now = now_ns();
      if (is_grpc ? !take_frames(connection, &status) : !whole_answer(connection, &status)) continue;
      if ((status < 200 || status > 299) && refused++ == 0) fprintf(stderr, "%.*s\n", connection->length, connection->buffer);
      long latency = (now - connection->sent_ns) / 1000;
      latencies[latency < LATENCY_MAX_US ? latency : LATENCY_MAX_US - 1]++;
      answered++;
      if (!is_grpc) connection->length = 0;
      ask(connection);
    }
  }
  long found = 0, quantiles[4] = {0}, places[4] = {answered / 2, answered * 99 / 100, answered * 999 / 1000, answered - 1};
  for (int latency = 0, at = 0; latency < LATENCY_MAX_US && at < 4; latency++)
    for (found += latencies[latency]; at < 4 && found > places[at]; at++) quantiles[at] = latency;
  printf("%.0f req/s  p50 %ld us  p99 %ld us  p99.9 %ld us  max %ld us  not-ok %ld of %ld\n", answered / ((now - begun) / 1e9),
         quantiles[0], quantiles[1], quantiles[2], quantiles[3], refused, answered);
  return 0;
}
