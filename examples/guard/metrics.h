/* SPDX-License-Identifier: MIT */
/* Prometheus text on request: a listener on the loopback that answers every GET. Never waits for a client. */
#ifndef GUARD_METRICS_H
#define GUARD_METRICS_H
#include "fail.h"
#include "told.h"

/* What was done with migrations that are over, since the program began. */
struct totals {
    uint64_t ended[FATES], pauses, paused_ms, not_given_back;
};

/* Listens on 127.0.0.1:port. The descriptor, or -1. */
int metrics_listen(uint16_t port, char error[FAIL_SIZE]);

/* Answers one client, if there is one; a slow one is let go. */
void metrics_answer(int listener, const struct guarded *const *vms, size_t count, bool server_up, uint64_t unguarded,
                    const struct totals *totals);

/* The text itself, as far as there is room; its whole length. */
size_t metrics_text(char *text, size_t room, const struct guarded *const *vms, size_t count, bool server_up,
                    uint64_t unguarded, const struct totals *totals);
#endif
