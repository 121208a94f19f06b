/* SPDX-License-Identifier: MIT */
/* The history of attempts, kept in a file by past.h: read, told, and a line added for each VM. */
#include "attempts.h"
#include "past.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static const char *name_of(uint32_t index, char name[16])
{
    snprintf(name, 16, "vm%u", index + 1);
    return name;
}

int attempts_tell(const char *path, uint32_t vms, struct picture *picture, char error[FAIL_SIZE])
{
    char name[16], line[256], *lines;
    struct past past;
    size_t length;

    if (past_read(&past, path, error))
        return -1;
    for (uint32_t i = 0; i < vms && (lines = past_own(&past, name_of(i, name), &length)); i++) {
        if (migbuf_history_describe(lines, length, name, line, sizeof line, &length) > 0)
            picture_say(picture, line);
        free(lines);
    }
    past_free(&past);
    return 0;
}

int attempts_believe(const char *path, uint32_t index, uint64_t ram_bytes, struct migbuf_prior *prior, char error[FAIL_SIZE])
{
    struct migbuf_prior usual;
    struct past past;
    char name[16], *lines;
    size_t length;

    migbuf_prior_init(&usual, sizeof usual, ram_bytes);
    *prior = usual;
    if (!path)
        return 0;
    if (past_read(&past, path, error))
        return -1;
    lines = past_own(&past, name_of(index, name), &length);
    past_free(&past);
    if (lines)
        migbuf_history_prior(lines, length, (uint64_t)time(NULL), &usual, prior);
    free(lines);
    return lines ? 0 : fail(error, "out of memory");
}

/* What its guest wrote to its disks while it moved, and what its files held of that at most. */
static void add_writing(const struct migration *m, struct migbuf_attempt *a)
{
    uint64_t until_ns = m->outcome == OUTCOME_MOVED ? m->arrived_ns : m->ended_ns, wanted, written = migration_delivered_bytes(m, &wanted);

    if (m->load->writer.count || until_ns < m->begun_ns + UINT64_C(1000000000) || !written)
        return; /* one that stops writing tells nothing */
    a->write_bytes_per_s = (uint64_t)((double)written * 1e9 / (double)(until_ns - m->begun_ns));
    if (m->overlay_peak_bytes)
        a->growth_ppm = (uint64_t)fmin(1e6 * (double)m->overlay_peak_bytes / (double)written, 1e6);
}

/* One attempt: what the machine for memory knows, and what it does not. */
static struct migbuf_attempt attempt_of(const struct run *r, uint32_t i)
{
    static const int32_t phase[] = { [PHASE_WAITING] = MIGBUF_ATTEMPT_ADMISSION, [PHASE_BASE] = MIGBUF_ATTEMPT_BASE,
                                     [PHASE_MIRROR] = MIGBUF_ATTEMPT_MIRROR, [PHASE_RAM] = MIGBUF_ATTEMPT_RAM };
    const struct migration *m = &r->vm[i];
    struct migbuf_attempt a = m->memory.attempt;
    bool moved = m->outcome == OUTCOME_MOVED, memory = m->ram_result.state >= MIGBUF_RAM_STATE_MOVED && a.number == MIGBUF_ATTEMPT_UNKNOWN;

    if (!memory)
        migbuf_attempt_init(&a);
    name_of(i, a.id);
    snprintf(a.qemu, sizeof a.qemu, "%s", m->place[m->home].monitor.facts.version);
    a.at_s = r->ended_at_s;
    a.outcome = moved                         ? MIGBUF_ATTEMPT_MOVED
                : m->outcome == OUTCOME_LOST  ? MIGBUF_ATTEMPT_LOST
                : m->blocked                  ? MIGBUF_ATTEMPT_REFUSED
                : r->interrupted              ? MIGBUF_ATTEMPT_BACK
                                              : MIGBUF_ATTEMPT_FAILED;
    a.phase = moved ? MIGBUF_ATTEMPT_TARGET : m->turned_at <= PHASE_RAM ? phase[m->turned_at] : MIGBUF_ATTEMPT_TARGET;
    if (moved)
        a.why = MIGBUF_ATTEMPT_DONE;
    else if (m->blocked)
        a.why = MIGBUF_ATTEMPT_BLOCKED;
    else if (r->interrupted)
        a.why = MIGBUF_ATTEMPT_CANCELLED;
    else if (m->peer_gone)
        a.why = MIGBUF_ATTEMPT_PEER_GONE;
    else if (!memory || a.why == MIGBUF_ATTEMPT_CANCELLED)
        a.why = MIGBUF_ATTEMPT_NOBODY_KNOWS;
    if (moved && m->downtime_ms)
        a.downtime_ms = m->downtime_ms;
    a.disk_bytes = m->load->disks * m->site->disk_bytes;
    a.peak_bytes = m->overlay_peak_bytes;
    add_writing(m, &a);
    return a;
}

/* By a program that was killed then: 1, 0, or -1. */
static int is_told(const struct past *past, const char *id, uint64_t at_s, char error[FAIL_SIZE])
{
    struct migbuf_attempt a;
    size_t length;
    char *lines = past_own(past, id, &length);
    int told = lines && migbuf_history_read(lines, length, 0, &a) == 1 && a.at_s == at_s;

    free(lines);
    return lines ? told : fail(error, "out of memory");
}

int attempts_append(const char *path, const struct run *r, char error[FAIL_SIZE])
{
    struct past past;
    int rc = past_begin(&past, path, error);

    if (rc)
        return -1;
    for (uint32_t i = 0; i < r->vms && rc >= 0; i++) {
        struct migbuf_attempt a = attempt_of(r, i);

        rc = is_told(&past, a.id, r->ended_at_s, error);
        if (!rc && (r->vm[i].begun_ns || r->vm[i].blocked)) /* else it was no attempt */
            rc = past_add(&past, &a, error);
    }
    if (rc >= 0)
        return past_write(&past, error);
    past_free(&past);
    return -1;
}
