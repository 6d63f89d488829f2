/* Requests on open connections, on each one after the other: sends each frame of FILE, of the wrapper or of HDLC
   (with a server address of four octets), and awaits one frame back.
   Usage: dlms_load REPEAT FD FILE [FD FILE ...]. Prints requests per second of all connections together; fails on an
   exception response. */
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

enum { MOST = 1024 };

static struct connection {
  unsigned char *requests, reply[8 + 65535];
  size_t size, at, got;
  int left;
} all[MOST];
static struct pollfd polled[MOST];

static size_t frame_size(const unsigned char *frame) {
  if (frame[0] == 0x7e) return 2 + ((frame[1] & 7) << 8 | frame[2]);
  return 8 + (frame[6] << 8 | frame[7]);
}

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec + t.tv_nsec / 1e9;
}

static void load(struct connection *one, const char *path, int repeat) {
  FILE *file = fopen(path, "rb");
  if (!file || fseek(file, 0, SEEK_END)) exit(1);
  one->size = ftell(file), one->left = repeat;
  one->requests = malloc(one->size);
  rewind(file);
  if (!one->size || fread(one->requests, 1, one->size, file) != one->size) exit(1);
  fclose(file);
}

static void request(struct connection *one, int fd) {
  size_t length = frame_size(one->requests + one->at);
  if (write(fd, one->requests + one->at, length) != (ssize_t)length) exit(2);
  one->at += length, one->got = 0;
  if (one->at == one->size) one->at = 0, one->left--;
}

/* Whether the reply has come whole. */
static int reply(struct connection *one, int fd) {
  ssize_t more = read(fd, one->reply + one->got, sizeof one->reply - one->got);
  if (more <= 0) exit(3);
  one->got += more;
  if (one->got < 8 || one->got < frame_size(one->reply)) return 0;
  if (one->reply[0] == 0x7e ? one->got < 16 || one->reply[14] == 0xd8 : one->got > 8 && one->reply[8] == 0xd8) exit(4);
  return 1;
}

int main(int count, char **arguments) {
  int connections = (count - 2) / 2, open = connections;
  long done = 0;
  if (connections < 1 || connections > MOST) return 1;
  for (int i = 0; i < connections; i++) {
    polled[i].fd = atoi(arguments[2 + 2 * i]), polled[i].events = POLLIN;
    load(&all[i], arguments[3 + 2 * i], atoi(arguments[1]));
  }
  double start = now();
  for (int i = 0; i < connections; i++) request(&all[i], polled[i].fd);
  while (open) {
    if (poll(polled, connections, 10000) <= 0) return 5;
    for (int i = 0; i < connections; i++) {
      if (!polled[i].revents || !reply(&all[i], polled[i].fd)) continue;
      done++;
      if (all[i].left) request(&all[i], polled[i].fd);
      else polled[i].fd = -1 - polled[i].fd, open--;
    }
  }
  printf("%.0f\n", done / (now() - start));
  return 0;
}
