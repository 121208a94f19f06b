/* SPDX-License-Identifier: MIT */
/*
 * One disk that is mirrored while its guest writes: the library's machine (migbuf/mirror.h) says which command comes next,
 * and this carries it to the source's monitor, and the answer back. Knows no step of a migration, and decides nothing.
 */
#ifndef EVACUATE_MIRRORING_H
#define EVACUATE_MIRRORING_H
#include "migbuf/mirror.h"
#include "monitor.h"

struct mirroring {
    struct migbuf_mirror *machine; /* NULL: nothing was begun, or it is over */
    char name[64];                 /* the job's */
    int32_t kind;                  /* of the command under way; 0: none */
    uint64_t looked_ns;
    uint64_t slept_ns; /* in which nobody looked: it is no time for the machine, to which the copy would seem stuck */
    bool ready_told, stopped_told, blocking_told;
    struct migbuf_mirror_info info; /* stays when the machine is gone */
    char refusal[200];              /* what QEMU said last when it refused something */
};

/* A machine for one job, which is started by the next drives. */
int mirroring_new(struct mirroring *x, const char *job, const char *node, const char *target,
                  const struct migbuf_mirror_options *options, const struct migbuf_mirror_load *load, char error[FAIL_SIZE]);

/* Moves on as far as it can without waiting, and looks at the job from time to time: `job` is what events told of it. True:
 * it waits for an answer; else `info` is of now. Fine without a machine. */
bool mirroring_drive(struct mirroring *x, struct monitor *monitor, const struct job *job, const struct migbuf_mirror_load *load,
                     uint64_t now);

/* The machine is no longer needed. Nothing is sent. */
void mirroring_end(struct mirroring *x, struct monitor *monitor);
#endif
