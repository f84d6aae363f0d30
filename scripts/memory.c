// memcpy, memmove, memcmp and bcmp of the static binary, in the place of musl's.
//
// musl copies by `rep movsq`, behind up to seven single bytes, and compares byte by byte: some 60 cycles for the 20 bytes of a header line,
// of which an answer has a dozen, where these take 5. What is shorter than 65 bytes is loaded whole and then stored whole, by loads that
// overlap, so that no loop is needed and nothing depends on how the two places lie to each other. Plain C, without the instructions that
// not every processor of the architecture has. scripts/memory-test.c compares them with loops over bytes.

#include <stddef.h>
#include <stdint.h>

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "memcmp takes the first byte for the lowest"
#endif

// Numbers and vectors at any address, over memory of any type.
#define ANYWHERE aligned(1), may_alias
typedef uint16_t Two __attribute__((ANYWHERE));
typedef uint32_t Four __attribute__((ANYWHERE));
typedef uint64_t Eight __attribute__((ANYWHERE));
typedef uint64_t Sixteen __attribute__((vector_size(16), ANYWHERE));

#define AT(type, place) (*(type *)(place))

// Copies what is at least one and at most two of a type long.
#define MOVE_UP_TO_TWO(type)                            \
  do {                                                  \
    type first = AT(type, from);                        \
    type last = AT(type, from + bytes - sizeof(type));  \
    AT(type, to) = first;                               \
    AT(type, to + bytes - sizeof(type)) = last;         \
  } while (0)

struct SixtyFour {
  Sixteen part[4];
};

static inline struct SixtyFour load(const unsigned char *from) {
  return (struct SixtyFour){{AT(Sixteen, from), AT(Sixteen, from + 16), AT(Sixteen, from + 32), AT(Sixteen, from + 48)}};
}

static inline void store(unsigned char *to, struct SixtyFour bytes) {
  AT(Sixteen, to) = bytes.part[0];
  AT(Sixteen, to + 16) = bytes.part[1];
  AT(Sixteen, to + 32) = bytes.part[2];
  AT(Sixteen, to + 48) = bytes.part[3];
}

void *memmove(void *to_place, const void *from_place, size_t bytes) {
  unsigned char *to = to_place;
  unsigned char *from = (unsigned char *)from_place;
  if (bytes <= 16) {
    if (bytes >= 8) {
      MOVE_UP_TO_TWO(Eight);
    } else if (bytes >= 4) {
      MOVE_UP_TO_TWO(Four);
    } else if (bytes >= 2) {
      MOVE_UP_TO_TWO(Two);
    } else if (bytes == 1) {
      *to = *from;
    }
  } else if (bytes <= 32) {
    MOVE_UP_TO_TWO(Sixteen);
  } else if (bytes <= 64) {
    Sixteen second = AT(Sixteen, from + 16), last_but_one = AT(Sixteen, from + bytes - 32);
    MOVE_UP_TO_TWO(Sixteen);
    AT(Sixteen, to + 16) = second;
    AT(Sixteen, to + bytes - 32) = last_but_one;
  } else if ((size_t)(to - from) >= bytes) {
    // The target does not begin within the source: from the first byte on. The last ones are loaded before anything may have been
    // written over them.
    struct SixtyFour last = load(from + bytes - 64);
    for (size_t at = 0; at < bytes - 64; at += 64) store(to + at, load(from + at));
    store(to + bytes - 64, last);
  } else {
    struct SixtyFour first = load(from);
    for (size_t end = bytes; end > 64; end -= 64) store(to + end - 64, load(from + end - 64));
    store(to, first);
  }
  return to_place;
}

void *memcpy(void *to, const void *from, size_t bytes) __attribute__((alias("memmove")));

// Which of two different numbers of eight bytes comes first when the bytes are compared from the first on.
static inline int order(uint64_t one, uint64_t other) {
  return __builtin_bswap64(one) < __builtin_bswap64(other) ? -1 : 1;
}

int memcmp(const void *one_place, const void *other_place, size_t bytes) {
  unsigned char *one = (unsigned char *)one_place, *other = (unsigned char *)other_place;
  if (bytes >= 8) {
    for (size_t at = 0; at < bytes - 8; at += 8) {
      if (AT(Eight, one + at) != AT(Eight, other + at)) return order(AT(Eight, one + at), AT(Eight, other + at));
    }
    // Those of the last eight that were compared before are the same.
    Eight last = AT(Eight, one + bytes - 8), other_last = AT(Eight, other + bytes - 8);
    return last == other_last ? 0 : order(last, other_last);
  }
  if (bytes >= 4) {
    uint64_t first = AT(Four, one), other_first = AT(Four, other);
    if (first != other_first) return order(first, other_first);
    uint64_t last = AT(Four, one + bytes - 4), other_last = AT(Four, other + bytes - 4);
    return last == other_last ? 0 : order(last, other_last);
  }
  for (size_t at = 0; at < bytes; at++) {
    if (one[at] != other[at]) return one[at] - other[at];
  }
  return 0;
}

int bcmp(const void *one, const void *other, size_t bytes) __attribute__((alias("memcmp")));
