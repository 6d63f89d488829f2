/* One request after the other on an open connection: sends each frame of FILE, of the wrapper or of HDLC (with a
   server address of four octets), and awaits one frame back.
   Usage: dlms_load FD FILE REPEAT. Prints requests per second; fails on an exception response. */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

static unsigned char requests[1 << 26], reply[8 + 65535];

static size_t frame_size(const unsigned char *frame) {
  if (frame[0] == 0x7e) return 2 + ((frame[1] & 7) << 8 | frame[2]);
  return 8 + (frame[6] << 8 | frame[7]);
}

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec + t.tv_nsec / 1e9;
}

int main(int count, char **arguments) {
  if (count != 4) return 1;
  int fd = atoi(arguments[1]), repeat = atoi(arguments[3]);
  FILE *file = fopen(arguments[2], "rb");
  size_t size = file ? fread(requests, 1, sizeof requests, file) : 0;
  long done = 0;
  double start = now();
  for (int round = 0; round < repeat; round++)
    for (size_t at = 0; at < size; done++) {
      size_t length = frame_size(requests + at), got = 0, want = 8;
      if (write(fd, requests + at, length) != (ssize_t)length) return 2;
      at += length;
      while (got < want) {
        ssize_t more = read(fd, reply + got, sizeof reply - got);
        if (more <= 0) return 3;
        got += more;
        if (got >= 8) want = frame_size(reply);
      }
      if (reply[0] == 0x7e ? want < 16 || reply[14] == 0xd8 : want > 8 && reply[8] == 0xd8) return 4;
    }
  printf("%.0f\n", done / (now() - start));
  return 0;
}
