/* SPDX-License-Identifier: MIT */
/* What one call of `buffer` costs at N migrations, N = 10 ... 100 000, and what one tick allocates once it is steady.
 * Ratios of one run count, not times: the last column is the cost against N log2 N, which should stay about level. */
#include "migbuf/buffer.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define GIB (UINT64_C(1) << 30)

static uint64_t allocations, bytes_held;

static void *counting(void *context, void *pointer, size_t old_bytes, size_t new_bytes)
{
    (void)context;
    bytes_held += new_bytes - old_bytes;
    if (!new_bytes) {
        free(pointer);
        return NULL;
    }
    allocations++;
    return realloc(pointer, new_bytes);
}

static double seconds(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static uint32_t next_random(uint32_t *state)
{
    *state = *state * 1664525 + 1013904223;
    return *state >> 8;
}

/* A host with n migrations; one in 16 is a hog whose file is many bins large, so that there are shards. */
static void sample_all(struct migbuf_sample *s, size_t n, uint64_t share, int round, uint32_t *seed)
{
    for (size_t i = 0; i < n; i++) {
        uint64_t most = i % 16 ? share / 2 : share * 4;

        s[i].id = i * 7919;
        s[i].file_bytes = most / 2 + next_random(seed) % 4096 + (uint64_t)round * 64;
    }
}

static const struct migbuf_geometry disk = { .virtual_bytes = 100 * GIB, .cluster_bytes = 65536, .subcluster_bytes = 65536,
                                             .block_bytes = 4096, .request_bytes = 65536, .queue_bytes = 1 << 20,
                                             .extra_bytes = MIGBUF_NONE };

/* A buffer with n migrations. One by one each costs O(N), which is minutes for 100 000; a saved text of one migration, its
 * lines repeated, is loaded at once. */
static int fill(size_t n, int32_t policy, uint64_t capacity, const struct migbuf_allocator *a, struct migbuf_buffer **b)
{
    struct migbuf_buffer_options o;
    uint64_t sum = UINT64_C(14695981039346656037);
    struct migbuf_migration m;
    struct migbuf_buffer *one;
    char line[4096], *text = NULL, *ledger, *migration, *link, *end;
    size_t length = 0;
    FILE *f = open_memstream(&text, &length);
    int rc;

    migbuf_migration_init(&m, sizeof m);
    migbuf_buffer_options_init(&o, sizeof o);
    o.policy = policy;
    if (!f || migbuf_buffer_new(capacity, &o, NULL, &one) || migbuf_buffer_add(one, &m, &disk, 1, NULL) ||
        migbuf_buffer_save(one, line, sizeof line, &length))
        return 1;
    migbuf_buffer_free(one);
    ledger = strstr(line, "ledger");
    migration = strstr(line, "migration ");
    link = strstr(line, "link");
    end = strstr(line, "end ");
    fprintf(f, "%.*sledger %llu %zu\n", (int)(ledger - line), line, (unsigned long long)capacity, n);
    for (size_t i = 0; i < n; i++)
        fprintf(f, "bin %zu 100 1\n%zu 0\n", i * 7919, i);
    fputs("ascending", f);
    for (size_t i = 0; i < n; i++)
        fprintf(f, " %zu", i);
    fputs("\n", f);
    for (size_t i = 0; i < n; i++)
        fwrite(migration, 1, (size_t)(link - migration), f);
    fwrite(link, 1, (size_t)(end - link), f);
    fflush(f);
    for (size_t i = 0; i < length; i++)
        sum = (sum ^ (unsigned char)text[i]) * UINT64_C(1099511628211);
    fprintf(f, "end %016llx\n", (unsigned long long)sum);
    fclose(f);
    rc = migbuf_buffer_load(text, length, 0, a, b);
    free(text);
    return rc;
}

static int measure(size_t n, int32_t policy)
{
    struct migbuf_allocator a = { .resize = counting };
    struct migbuf_buffer_stats stats = { .size = sizeof stats };
    uint64_t capacity = (uint64_t)n * GIB;
    struct migbuf_sample *s = calloc(n, sizeof *s);
    struct migbuf_decision *d = calloc(n, sizeof *d);
    struct migbuf_migration m;
    struct migbuf_buffer *b;
    uint32_t seed = 1;
    uint64_t before;
    double start, add, tick, remove;
    int rounds = n >= 10000 ? 5 : 50, few = n >= 10000 ? 20 : 5;

    if (!s || !d || fill(n - (size_t)few, policy, capacity, &a, &b))
        return 1;
    migbuf_migration_init(&m, sizeof m);
    n = migbuf_bins_count(migbuf_buffer_bins(b));
    start = seconds();
    for (int i = 0; i < few; i++) {
        m.id = (n + (size_t)i) * 7919;
        if (migbuf_buffer_add(b, &m, &disk, 1, NULL))
            return 1;
    }
    add = (seconds() - start) / few;
    n += (size_t)few;

    for (int round = 0; round < 3; round++) { /* until it is steady */
        sample_all(s, n, capacity / n, round, &seed);
        migbuf_buffer_sample(b, (uint64_t)round * 1000, s, n);
        if (migbuf_buffer_tick(b, (uint64_t)round * 1000, d, n) < 0)
            return 1;
    }
    before = allocations;
    start = seconds();
    for (int round = 3; round < 3 + rounds; round++) {
        sample_all(s, n, capacity / n, round, &seed);
        migbuf_buffer_sample(b, (uint64_t)round * 1000, s, n);
        migbuf_buffer_tick(b, (uint64_t)round * 1000, d, n);
    }
    tick = (seconds() - start) / rounds;
    before = allocations - before;
    migbuf_buffer_stats(b, &stats);

    printf("%-7s %7zu %9d %12.3f %12.3f %10.1f %11.1f %9llu %8.2f", policy == MIGBUF_POLICY_PAPER ? "paper" : "planner", n,
           migbuf_bins_shards(migbuf_buffer_bins(b), NULL, 0), add * 1e6, tick * 1e6, tick * 1e9 / (double)n,
           (double)bytes_held / (double)n, (unsigned long long)before, tick * 1e9 / ((double)n * log2((double)n)));
    start = seconds();
    for (int i = 0; i < few; i++)
        migbuf_buffer_remove(b, (uint64_t)i * 7919);
    remove = (seconds() - start) / few;
    printf(" %12.3f\n", remove * 1e6);
    fflush(stdout);
    migbuf_buffer_free(b);
    free(s);
    free(d);
    return before != 0 || bytes_held != 0;
}

int main(void)
{
    static const size_t sizes[] = { 10, 100, 1000, 10000, 100000 };

    printf("policy        N    shards    us per add  us per tick  ns/N tick    bytes/N  allocs in tick  ns/(N log2 N)  us per remove\n");
    for (int32_t policy = MIGBUF_POLICY_PAPER; policy <= MIGBUF_POLICY_PLANNER; policy += 2)
        for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++)
            if (measure(sizes[k], policy)) {
                printf("a steady tick allocated, something leaked, or a call failed\n");
                return 1;
            }
    return 0;
}
