/* SPDX-License-Identifier: MIT */
/*
 * The network between the two hosts, as one token bucket that everything crossing it shares: copies of base images, and
 * proxies of the unix sockets that would be connections (the mirror's NBD, the stream of guest memory).
 * Single-threaded, never blocks on a socket, allocates only when a flow is added. Files are read and written plainly:
 * images in the page cache, as fresh ones are, cost memory copies; a disk that has to be waited for holds up the
 * caller's loop.
 *
 *     while (...) {
 *         int timeout_ms = 1000;
 *         size_t n = link_poll_prepare(link, fds, capacity, now_ns(), &timeout_ms);
 *         poll(fds, n, timeout_ms);
 *         link_run(link, now_ns());
 *     }
 *
 * What is counted, for the bucket and in every number below: bytes of file data handed to the target, and bytes from
 * the connecting side of a proxy. Not counted: the way back (replies), headers a real network would add. Fair: flows
 * with something to send take turns of 64 KiB (smaller at rates below 6.4 MB/s), whatever their kind.
 */
#ifndef EVACUATE_LINK_H
#define EVACUATE_LINK_H
#include "fail.h"
#include <poll.h>
#include <stdbool.h>

struct link_config {
    uint64_t bytes_per_s; /* 0: as fast as it goes */
    uint64_t burst_bytes; /* what an idle link saves up; 0: 20 ms of the rate */
    bool count_holes; /* holes and zero blocks of copied files cost their length too, as with a copy that knows no holes
                       */
};

enum link_phase {
    LINK_WAITING, /* a proxy nobody has connected to yet */
    LINK_ACTIVE,
    LINK_DONE,
    LINK_FAILED
};

struct link_flow_state {
    enum link_phase phase;
    uint64_t sent_bytes;    /* over the link */
    uint64_t back_bytes;    /* proxy: the other way */
    uint64_t skipped_bytes; /* copy: holes and zero blocks passed by */
    uint64_t
        remaining_bytes; /* copy: data not yet sent; exact but for zero blocks among the data, which count until met */
    const char *error;   /* "" or one sentence; a proxy can be LINK_DONE with one (a side hung up early) */
};

struct link;

/* NULL: out of memory. */
struct link *link_new(const struct link_config *config);

/* Removes all flows. NULL is fine. */
void link_free(struct link *link);

/* From now on; 0 is unlimited. What was saved up is cut to the new burst (config's burst_bytes, or 20 ms). */
void link_set_rate(struct link *link, uint64_t bytes_per_s);

/*
 * Adds a copy of all of source_fd to target_fd, which is emptied first and so needs no zeros written. Neither may
 * change meanwhile. Returns the flow's id (>= 0); both descriptors belong to the link then. On failure (-1) they are
 * the caller's.
 */
int link_add_copy(struct link *link, int source_fd, int target_fd, char error[FAIL_SIZE]);

/*
 * Adds a proxy: listens on one path, and when the first client comes (the only one; the name is then gone) connects to
 * the other, where somebody must listen by that time. Client to server is shaped, server to client is not. Each
 * direction buffers 128 KiB at most and is closed on its own. LINK_DONE when both are.
 */
int link_add_proxy(struct link *link, const char *listen_path, const char *connect_path, char error[FAIL_SIZE]);

/* Any time; an unfinished flow is cut off (sockets closed, the target file left as it is). Ids are used again. */
void link_remove(struct link *link, int flow);

struct link_flow_state link_flow(const struct link *link, int flow);

/* Over all flows there ever were, and how long some flow has waited for the bucket: with none waiting, it was idle. */
uint64_t link_sent_bytes(const struct link *link);
uint64_t link_waited_ns(const struct link *link);

/* Most entries link_poll_prepare() can need now: two for each proxy. */
size_t link_poll_max(const struct link *link);

/*
 * Writes what to poll for, returns how many, and lowers *timeout_ms (-1: for ever) to when the bucket allows more:
 * never a busy loop, 0 only when there is work that needs no waiting. Too little capacity is made up for by a short
 * timeout.
 */
size_t link_poll_prepare(const struct link *link, struct pollfd *fds, size_t capacity, uint64_t now, int *timeout_ms);

/* Moves what can be moved, at most about 8 MiB. Looks at no revents: call it after every poll. */
void link_run(struct link *link, uint64_t now);
#endif
