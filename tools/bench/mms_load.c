/* Pollers: on each open connection one request after the other, each with another invoke identifier, awaiting the
   whole answer (TPKTs up to one with the end mark).
   Usage: mms_load SECONDS FILE OFFSET FD... FILE holds the request's frame, OFFSET is where the two octets of its
   invoke identifier stand. Prints requests per second, and the median and 99th percentile of the answers' times in
   microseconds. */
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { MOST = 1024, TIMES = 1 << 22 };
static unsigned char request[1 << 16], replies[MOST][1 << 17];
static size_t got[MOST];
static double begun[MOST];
static float times[TIMES];
static struct pollfd polls[MOST];

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec + t.tv_nsec / 1e9;
}

static int compare(const void *a, const void *b) {
  float x = *(const float *)a, y = *(const float *)b;
  return x < y ? -1 : x > y;
}

/* Whether octets hold a whole answer: 1 yes, 0 not yet. */
static int whole(const unsigned char *reply, size_t size) {
  size_t at = 0;
  while (size - at >= 7) {
    size_t length = reply[at + 2] << 8 | reply[at + 3];
    if (size - at < length) return 0;
    if (reply[at + 6] & 0x80) return 1;
    at += length;
  }
  return 0;
}

int main(int count, char **arguments) {
  if (count < 5) return 1;
  double seconds = atof(arguments[1]);
  FILE *file = fopen(arguments[2], "rb");
  size_t size = file ? fread(request, 1, sizeof request, file) : 0, offset = atoi(arguments[3]);
  int clients = count - 4, number = 0;
  long done = 0;
  double start = now(), end = start + seconds, time = start;
  for (int i = 0; i < clients; i++) {
    polls[i].fd = atoi(arguments[4 + i]);
    polls[i].events = POLLIN;
    got[i] = 0;
    begun[i] = now();
    if (write(polls[i].fd, request, size) != (ssize_t)size) return 2;
  }
  int left = clients;
  while (left) {
    if (poll(polls, clients, 5000) <= 0) return 3;
    for (int i = 0; i < clients; i++) {
      if (!(polls[i].revents & POLLIN)) continue;
      ssize_t more = read(polls[i].fd, replies[i] + got[i], sizeof replies[i] - got[i]);
      if (more <= 0) return 4;
      got[i] += more;
      if (!whole(replies[i], got[i])) continue;
      time = now();
      if (done < TIMES) times[done] = (time - begun[i]) * 1e6;
      done++;
      got[i] = 0;
      if (time >= end) {
        polls[i].fd = -1;
        left--;
        continue;
      }
      number = (number + 1) & 0x7fff;
      request[offset] = number >> 8;
      request[offset + 1] = number;
      begun[i] = time;
      if (write(polls[i].fd, request, size) != (ssize_t)size) return 2;
    }
  }
  long kept = done < TIMES ? done : TIMES;
  qsort(times, kept, sizeof *times, compare);
  printf("%.0f %.0f %.0f\n", done / (time - start), times[kept / 2], times[kept * 99 / 100]);
  return 0;
}
