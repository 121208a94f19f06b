/* SPDX-License-Identifier: MIT */
/*
 * Peers of a QMP socket that lie, each a row of a table: what it says, what two calls of migbuf_qmp_socket must make of it, and
 * how much memory that may cost. Programs that hold a monitor are tested with the same rows.
 */
#ifndef MIGBUF_TESTS_QMP_LIAR_H
#define MIGBUF_TESTS_QMP_LIAR_H
#include "migbuf/qmp_socket.h"
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>

#define KIB ((uint64_t)1 << 10)
#define MIB ((uint64_t)1 << 20)
#define TIMEOUT MIGBUF_E_TIMEOUT
#define CLOSED MIGBUF_E_CLOSED
#define BAD MIGBUF_E_PROTOCOL
#define LONG (4 * MIB) /* one message of 1 MiB, in pieces, then whole */

struct peer {
    int listener, fd, over, end; /* over: readable once the test has seen enough, and has closed `end` */
    const struct lie *lie;
    pthread_t thread;
};

struct lie {
    const char *name;
    void (*tell)(struct peer *p);
    const char *text;        /* the answer to the first command, where `tell` gives one of a row's own */
    int open, calls[2];      /* what must be returned */
    uint64_t memory;         /* bytes of the handle's allocator at most; 0: 100 KiB */
    const char *error;       /* a part of the first error's text */
    uint32_t argument_bytes; /* of the second command */
};

extern const struct lie lies[];
extern const size_t lies_count;

/* It answers the first command with talk that never ends. */
bool liar_floods(const struct lie *lie);

/* Listens at `path` and lies to the first client, until liar_end(). */
void liar_start(struct peer *p, const struct lie *lie, const char *path);
void liar_end(struct peer *p);

/* A text that begins and ends so, with as many items in between as make it that long. The caller frees it. */
char *line_of(const char *begin, const char *item, const char *end, size_t bytes);
#endif
