// SPDX-License-Identifier: MIT

// Package bench holds the C side of a comparison: what a tick costs from C, to set against the same tick from Go.
package bench

/*
#cgo pkg-config: migbuf
#include <migbuf/migbuf.h>
#include <stdlib.h>

// The loop of bench_test.go, in C: `ticks` times samples of all and a tick. 0, or the first error.
static int loop(uint64_t n, uint64_t ticks)
{
    struct migbuf_geometry disk = { .virtual_bytes = 20ull << 30, .cluster_bytes = 65536, .subcluster_bytes = 65536,
                                    .request_bytes = 65536, .queue_bytes = 4 << 20, .extra_bytes = MIGBUF_NONE,
                                    .flags = MIGBUF_GEOMETRY_ALIGNED };
    struct migbuf_sample *sample = calloc(n, sizeof *sample);
    struct migbuf_decision *decision = calloc(n, sizeof *decision);
    struct migbuf_buffer *b = NULL;
    int rc = sample && decision ? migbuf_buffer_new(n << 30, NULL, NULL, &b) : MIGBUF_E_NOMEM;

    for (uint64_t id = 0; id < n && rc == 0; id++) {
        struct migbuf_migration m;

        migbuf_migration_init(&m, sizeof m);
        m.id = id;
        rc = migbuf_buffer_add(b, &m, &disk, 1, NULL);
    }
    for (uint64_t t = 0; t < ticks && rc >= 0; t++) {
        for (uint64_t id = 0; id < n; id++)
            sample[id] = (struct migbuf_sample){ .id = id, .file_bytes = ((t + id) % 500) << 20 };
        rc = migbuf_buffer_sample(b, t * 1000, sample, n);
        if (rc == 0)
            rc = migbuf_buffer_tick(b, t * 1000, decision, n);
    }
    migbuf_buffer_free(b);
    free(sample);
    free(decision);
    return rc < 0 ? rc : 0;
}
*/
import "C"

// LoopInC runs so many ticks over n migrations without leaving C.
func LoopInC(n, ticks int) int { return int(C.loop(C.uint64_t(n), C.uint64_t(ticks))) }
