// Compares the functions of scripts/memory.c, which are linked with it in the place of the C library's, with loops over bytes: every length up to a few
// loops, every way in which source and target may overlap, every place of a difference. Says nothing and ends with 0 if all is well.

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { LENGTH_MAX = 300, SPACE = 1024, MIDDLE = 400 };

static void fail(const char *what, size_t bytes, int shift) {
  fprintf(stderr, "scripts/memory.c: %s of %zu bytes, shifted by %d, is wrong\n", what, bytes, shift);
  exit(1);
}

static void test_moves(size_t bytes, int shift) {
  unsigned char before[SPACE], ours[SPACE], expected[SPACE];
  for (int at = 0; at < SPACE; at++) before[at] = ours[at] = expected[at] = (unsigned char)(at * 37 + at / 256 + bytes);
  for (size_t at = 0; at < bytes; at++) expected[MIDDLE + shift + at] = before[MIDDLE + at];
  if (memmove(ours + MIDDLE + shift, ours + MIDDLE, bytes) != ours + MIDDLE + shift) fail("what memmove gives", bytes, shift);
  for (int at = 0; at < SPACE; at++) {
    if (ours[at] != expected[at]) fail("memmove", bytes, shift);
  }
  if (memcpy(ours, before, SPACE) != ours) fail("what memcpy gives", bytes, shift);
  for (int at = 0; at < SPACE; at++) {
    if (ours[at] != before[at]) fail("memcpy", SPACE, shift);
  }
}

static void test_comparisons(size_t bytes, int shift) {
  unsigned char one[SPACE], other[SPACE];
  for (size_t at = 0; at < bytes; at++) one[at] = other[at + shift] = (unsigned char)(at * 91 + bytes);
  // What stands behind does not count.
  one[bytes] = 1, other[bytes + shift] = 2;
  if (memcmp(one, other + shift, bytes) != 0 || bcmp(one, other + shift, bytes) != 0) fail("memcmp of the same", bytes, shift);
  for (size_t at = 0; at < bytes; at++) {
    unsigned char kept = one[at];
    unsigned char changed[] = {kept + 1, kept - 1, kept ^ 0x80};
    for (int which = 0; which < 3; which++) {
      // A later difference, the other way, must not count.
      unsigned char last = one[bytes - 1];
      one[bytes - 1] = changed[which] < kept ? 255 : 0;
      one[at] = changed[which];
      int sign = memcmp(one, other + shift, bytes);
      if (changed[which] < kept ? sign >= 0 : sign <= 0) fail("memcmp", bytes, shift);
      if (bcmp(one, other + shift, bytes) == 0) fail("bcmp", bytes, shift);
      one[bytes - 1] = last;
      one[at] = kept;
    }
  }
}

int main(void) {
  for (size_t bytes = 0; bytes <= LENGTH_MAX; bytes++) {
    for (int shift = -LENGTH_MAX - 1; shift <= LENGTH_MAX + 1; shift++) test_moves(bytes, shift);
    for (int shift = 0; shift < 9; shift++) test_comparisons(bytes, shift);
  }
  return 0;
}
