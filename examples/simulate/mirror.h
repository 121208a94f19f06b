/* SPDX-License-Identifier: MIT */
/*
 * A disk that QEMU mirrors while its guest writes, step by step: who gets what of the link, what is dirty, when it ends.
 * The law is what was measured on QEMU 7.2 and 10.0; it stands in migbuf/outlook.h.
 *
 * Background: writes pass as without a mirror, and make granules dirty that the pass has been over. Once everything was
 * sent, a mirror that gains next to nothing for 5 s holds its guest until the rest fits into a moment's pause: to what makes
 * half of the link dirty. The part of its writes that finds clean ground is measured each second; at first it is small.
 * Write-blocking: what the law leaves to the guest; the copy has the rest.
 */
#ifndef SIMULATE_MIRROR_H
#define SIMULATE_MIRROR_H
#include <stdbool.h>

enum mirror_way {
    MIRROR_BACKGROUND,
    MIRROR_BLOCKING, /* write-blocking from the start, QEMU's own buffer */
    MIRROR_PACED,    /* the same with a buffer of one granule, and a copy that takes what the guest leaves */
    MIRROR_WAYS,     /* so many to choose from */
    MIRROR_SWITCHED = MIRROR_WAYS /* background in granules of 64 KiB until nothing is dirty, then write-blocking; held is nobody */
};

extern const char *const mirror_names[MIRROR_WAYS];

#define MIRROR_CLASSES 2

struct mirror {
    /* Given */
    enum mirror_way way;
    double all;                                      /* bytes that there are to send at first */
    double set[MIRROR_CLASSES], part[MIRROR_CLASSES]; /* bytes that are written at random; which part of the writes is there */
    double request, depth;
    /* Now */
    double passed, dirty[MIRROR_CLASSES]; /* of `all`, in its first round; dirty behind that */
    double speed, written, paced_s, begun_s; /* of the copy; since it was set */
    double watched_bytes, watched_s;
    double dirtied, wrote, hold; /* since the last second; what it is held to, bytes/s */
    double seen_s;
    bool holds;
};

double mirror_granule(enum mirror_way way, double request);
double mirror_buffer(enum mirror_way way);
/* Of what is given. `share`: bytes/s of the link for copy and guest. */
void mirror_begin(struct mirror *m, double now_s, double share);
double mirror_left(const struct mirror *m);
/* Most that its guest may write now, bytes/s: INFINITY, as much as it wants. */
double mirror_lets(const struct mirror *m, double share, double latency_s);
/* So many requests were written. Returns bytes of them that crossed the link. */
double mirror_write(struct mirror *m, double requests);
/* A step of the copy; `budget` bytes are left of the link. Returns bytes sent. */
double mirror_copy(struct mirror *m, double now_s, double step_s, double share, double budget);
#endif
