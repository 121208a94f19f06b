/* SPDX-License-Identifier: MIT */
/* The history of attempts in a file: read, told, and a line added for each VM. */
#include "attempts.h"
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

struct text {
    char *bytes;
    size_t length;
};

/* The whole file; one that is not there is empty. */
static int read_file(const char *path, struct text *t, char error[FAIL_SIZE])
{
    FILE *file = fopen(path, "r");
    char *more;
    size_t n;

    *t = (struct text){ .length = 0 };
    if (!file)
        return errno == ENOENT ? 0 : fail(error, "--history %s: %s", path, strerror(errno));
    do {
        more = realloc(t->bytes, t->length + 4096);
        n = more ? fread(more + t->length, 1, 4096, file) : 0;
        t->bytes = more ? more : t->bytes;
        t->length += n;
    } while (n);
    n = !more || ferror(file);
    fclose(file);
    return n ? fail(error, "--history %s: it cannot be read", path) : 0;
}

static const char *name_of(uint32_t index, char name[16])
{
    snprintf(name, 16, "vm%u", index + 1);
    return name;
}

/* The lines of one VM; what is damaged is nobody's. */
static size_t lines_of(const struct text *all, uint32_t index, char *out)
{
    struct migbuf_attempt a;
    char name[16];
    size_t length = 0;

    name_of(index, name);
    for (size_t at = 0, end; at < all->length; at = end) {
        const char *newline = memchr(all->bytes + at, '\n', all->length - at);

        end = newline ? (size_t)(newline - all->bytes) + 1 : all->length;
        if (migbuf_history_read(all->bytes + at, end - at, 0, &a) != 1 || strcmp(a.id, name))
            continue;
        memcpy(out + length, all->bytes + at, end - at);
        length += end - at;
    }
    return length;
}

int attempts_tell(const char *path, uint32_t vms, struct picture *picture, char error[FAIL_SIZE])
{
    struct text all;
    char name[16], line[256], *lines;
    size_t length;

    if (read_file(path, &all, error))
        return free(all.bytes), -1;
    lines = malloc(all.length + 1);
    for (uint32_t i = 0; i < vms && lines; i++) {
        size_t n = lines_of(&all, i, lines);
        int known = migbuf_history_describe(lines, n, name_of(i, name), line, sizeof line, &length);

        if (known > 0)
            picture_say(picture, line);
    }
    free(lines);
    free(all.bytes);
    return 0;
}

int attempts_believe(const char *path, uint32_t index, uint64_t ram_bytes, struct migbuf_prior *prior, char error[FAIL_SIZE])
{
    struct migbuf_prior usual;
    struct text all = { .length = 0 };
    char *lines;

    migbuf_prior_init(&usual, sizeof usual, ram_bytes);
    *prior = usual;
    if (!path)
        return 0;
    if (read_file(path, &all, error))
        return free(all.bytes), -1;
    lines = malloc(all.length + 1);
    if (lines)
        migbuf_history_prior(lines, lines_of(&all, index, lines), (uint64_t)time(NULL), &usual, prior);
    free(lines);
    free(all.bytes);
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

/* What another VM's lines are stays; the VM's own are those before, and one more. */
static int write_all(FILE *out, const struct text *all, const struct run *r)
{
    char name[16], grown[MIGBUF_HISTORY_BYTES + 1], *lines = malloc(all->length + 1);
    struct migbuf_attempt a;
    int rc = lines ? 0 : -1;
    size_t length;

    for (size_t at = 0, end; at < all->length && !rc; at = end) {
        const char *newline = memchr(all->bytes + at, '\n', all->length - at);
        bool ours = false;

        end = newline ? (size_t)(newline - all->bytes) + 1 : all->length;
        if (migbuf_history_read(all->bytes + at, end - at, 0, &a) == 1)
            for (uint32_t i = 0; i < r->vms && !ours; i++)
                ours = !strcmp(a.id, name_of(i, name));
        if (!ours && (fwrite(all->bytes + at, 1, end - at, out) != end - at || (!newline && fputc('\n', out) == EOF)))
            rc = -1; /* a line that was cut may not swallow the next */
    }
    for (uint32_t i = 0; i < r->vms && !rc; i++) {
        size_t n = lines_of(all, i, lines);
        bool told;

        told = migbuf_history_read(lines, n, 0, &a) == 1 && a.at_s == r->ended_at_s; /* by a program that was killed then */
        a = attempt_of(r, i);
        if (told || (!r->vm[i].begun_ns && !r->vm[i].blocked)) { /* or it was no attempt */
            rc = fwrite(lines, 1, n, out) == n ? 0 : -1;
            continue;
        }
        rc = migbuf_history_append(lines, n, &a, grown, sizeof grown, &length);
        rc = rc >= 0 && fwrite(grown, 1, length, out) == length ? 0 : -1;
    }
    free(lines);
    return rc;
}

int attempts_append(const char *path, const struct run *r, char error[FAIL_SIZE])
{
    char fresh[400];
    struct text all;
    FILE *out;
    int rc;

    if (read_file(path, &all, error))
        return free(all.bytes), -1;
    snprintf(fresh, sizeof fresh, "%s.new", path);
    out = strlen(path) + 5 < sizeof fresh ? fopen(fresh, "w") : NULL;
    rc = out ? write_all(out, &all, r) : -1;
    if (out && (fclose(out) || rc || rename(fresh, path)))
        rc = -1;
    if (rc && out)
        unlink(fresh);
    free(all.bytes);
    return rc ? fail(error, "--history %s: it cannot be written", path) : 0;
}
