/* SPDX-License-Identifier: MIT */
/*
 * Memory runs out: in a story per handle every allocation is made to fail, one after the other, once alone and once with
 * all that follow. Each time the call has to say MIGBUF_E_NOMEM, the handle has to be what it was before the call, the same
 * call has to succeed when there is memory again, the story has to end as it does without failures, and nothing may leak.
 *
 * Counted and failed are the handle's allocator and malloc where there is no handle (the linker gives us realloc). jansson's
 * allocator is the host's to set, and here we are the host: it has a budget instead, from nothing to enough, because
 * jansson itself does not survive every single failure; the library asks for all of it first. libcurl's allocations fail
 * one by one too; it does not always say that memory was the reason.
 */
#include "unit.h"
#include "migbuf/migbuf.h"
#include "migbuf/ram.h"
#include <inttypes.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#ifdef WITH_LXD
#include "migbuf/lxd.h"
#include <curl/curl.h>
#endif
#ifdef WITH_QMP
#include "migbuf/qmp.h"
#include "migbuf/qmp_socket.h"
#include "migbuf/report.h"
#include <jansson.h>
#include <malloc.h>
#include <poll.h>
#include <pthread.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#endif

/* Memory */

static struct {
    uint64_t made;    /* allocations since the last look */
    uint64_t fail_at; /* the n-th from now fails; 0: none */
    bool for_ever;    /* and all after it */
    bool failed;      /* one did */
    bool in_curl;     /* it is libcurl's that are counted and fail */
    size_t budget;    /* jansson's, in bytes with what malloc adds; 0: none set */
    size_t used;      /* by jansson */
    int64_t blocks, bytes;
} memory;

void *__real_realloc(void *pointer, size_t bytes);
void *__wrap_realloc(void *pointer, size_t bytes);
static bool watch_malloc;

static bool refuse(void)
{
    memory.made++;
    if (!memory.fail_at || memory.made < memory.fail_at || (memory.made > memory.fail_at && !memory.for_ever))
        return false;
    memory.failed = true;
    return true;
}

/* Every block knows its size, so that a wrong old_bytes is seen. */
static void *take(void *context, void *pointer, size_t old_bytes, size_t new_bytes)
{
    size_t *block = pointer ? (size_t *)pointer - 2 : NULL;

    ck_assert_ptr_eq(context, &memory);
    ck_assert_uint_eq(block ? block[0] : 0, old_bytes);
    if (new_bytes == 0) {
        memory.blocks -= block != NULL;
        memory.bytes -= (int64_t)old_bytes;
        free(block);
        return NULL;
    }
    if (!memory.in_curl && refuse())
        return NULL;
    block = __real_realloc(block, new_bytes + 2 * sizeof *block);
    memory.blocks += !pointer;
    memory.bytes += (int64_t)new_bytes - (int64_t)old_bytes;
    block[0] = new_bytes;
    return block + 2;
}

static const struct migbuf_allocator allocator = { .context = &memory, .resize = take };

void *__wrap_realloc(void *pointer, size_t bytes)
{
    if (watch_malloc && refuse())
        return NULL;
    return __real_realloc(pointer, bytes);
}

#ifdef WITH_QMP
#define OVERHEAD 32

static void *json_take(size_t bytes)
{
    void *p;

    if (memory.budget && memory.used + bytes + OVERHEAD > memory.budget) {
        memory.failed = true;
        return NULL;
    }
    p = malloc(bytes);
    memory.blocks += p != NULL;
    memory.used += p ? malloc_usable_size(p) + OVERHEAD - 16 : 0;
    return p;
}

static void json_give(void *p)
{
    memory.blocks -= p != NULL;
    memory.used -= p ? malloc_usable_size(p) + OVERHEAD - 16 : 0;
    free(p);
}
#endif

#ifdef WITH_LXD
static void *curl_take(size_t bytes)
{
    return memory.in_curl && refuse() ? NULL : malloc(bytes);
}
static void *curl_move(void *pointer, size_t bytes)
{
    return memory.in_curl && refuse() ? NULL : __real_realloc(pointer, bytes);
}
static char *curl_copy(const char *text)
{
    return memory.in_curl && refuse() ? NULL : strdup(text);
}
static void *curl_clear(size_t count, size_t bytes)
{
    return memory.in_curl && refuse() ? NULL : calloc(count, bytes);
}
#endif

/* A story: steps on one handle, and a text that says all that can be seen of it. */

struct text {
    char *bytes;
    size_t used, room;
};

static void say(struct text *t, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void say(struct text *t, const char *format, ...)
{
    va_list args;
    int n;

    va_start(args, format);
    n = vsnprintf(NULL, 0, format, args);
    va_end(args);
    if (t->used + (size_t)n + 1 > t->room) {
        t->room = 2 * (t->used + (size_t)n + 1);
        t->bytes = __real_realloc(t->bytes, t->room);
    }
    va_start(args, format);
    t->used += (size_t)vsnprintf(t->bytes + t->used, (size_t)n + 1, format, args);
    va_end(args);
}

struct step {
    const char *function; /* of the interface */
    int (*run)(void);     /* the call and nothing else that allocates; below 0: its error */
};

struct story {
    const struct step *steps;
    size_t count;
    void (*look)(struct text *t); /* may be asked at any time */
    void (*begin)(void), (*end)(void);
};

static char *seen(const struct story *s)
{
    struct text t = { 0 };

    say(&t, "-");
    s->look(&t);
    return t.bytes;
}

enum mode { ONE_FAILS, ALL_FAIL, BUDGET, CURL_FAILS };
static size_t budget_step = 61;

/* Runs a story with allocation `k` of step `i` failing; before[] is what each step has to leave. False: there is no k-th. */
static bool run_failing(const struct story *s, char **before, size_t i, uint64_t k, enum mode mode)
{
    char *now;
    int rc;

    s->begin();
    for (size_t n = 0; n < i; n++)
        ck_assert_msg(s->steps[n].run() >= 0, "%s", s->steps[n].function);
    memory.made = 0, memory.failed = false, memory.for_ever = mode == ALL_FAIL;
    memory.fail_at = mode == BUDGET ? 0 : k;
    memory.budget = mode == BUDGET ? memory.used + k * budget_step : 0;
    memory.in_curl = mode == CURL_FAILS;
    rc = s->steps[i].run();
    memory.fail_at = memory.budget = 0, memory.in_curl = false;
    if (!memory.failed) {
        s->end();
        return false;
    }
    now = seen(s);
    if (rc >= 0) { /* it did without: then all is as if nothing had failed */
        ck_assert_msg(!strcmp(now, before[i + 1]), "%s forgave allocation %d:\n%s\nnot\n%s", s->steps[i].function, (int)k, now,
                      before[i + 1]);
    } else {
        ck_assert_msg(rc == MIGBUF_E_NOMEM || mode == CURL_FAILS, "%s, allocation %d: %d", s->steps[i].function, (int)k, rc);
        ck_assert_msg(!strcmp(now, before[i]), "%s failed at allocation %d and left\n%s\nnot\n%s", s->steps[i].function, (int)k,
                      now, before[i]);
        ck_assert_msg(s->steps[i].run() >= 0, "%s, again", s->steps[i].function);
    }
    free(now);
    for (size_t n = i + 1; n < s->count; n++)
        ck_assert_msg(s->steps[n].run() >= 0, "%s, after %s had failed", s->steps[n].function, s->steps[i].function);
    now = seen(s);
    ck_assert_msg(!strcmp(now, before[s->count]), "after %s had failed the story ends\n%s\nnot\n%s", s->steps[i].function, now,
                  before[s->count]);
    free(now);
    s->end();
    ck_assert_msg(memory.blocks == 0 && memory.bytes == 0, "%s leaks %d blocks", s->steps[i].function, (int)memory.blocks);
    return true;
}

static void tell(const struct story *s)
{
    char *before[64];
    uint64_t failures = 0;

    ck_assert(s->count < 64);
    s->begin();
    before[0] = seen(s);
    for (size_t n = 0; n < s->count; n++) {
        int rc = s->steps[n].run();

        ck_assert_msg(rc >= 0, "%s: %d", s->steps[n].function, rc);
        before[n + 1] = seen(s);
    }
    s->end();
    ck_assert(memory.blocks == 0 && memory.bytes == 0);
    for (size_t i = 0; i < s->count; i++)
        for (enum mode mode = ONE_FAILS; mode <= CURL_FAILS; mode++)
            for (uint64_t k = 1; run_failing(s, before, i, k, mode); k++)
                failures++;
    ck_assert(failures > 0);
    printf("# %d calls, %d failures\n", (int)s->count, (int)failures);
    for (size_t n = 0; n <= s->count; n++)
        free(before[n]);
}

/* The ledger */

static struct migbuf_bins *bins;

static void look_bins(struct text *t)
{
    struct migbuf_shard shard[64];
    struct migbuf_bin bin[16];
    int n;

    if (!bins)
        return;
    n = migbuf_bins_list(bins, bin, 16);
    for (int i = 0; i < n; i++)
        say(t, "%" PRIu64 ": %" PRIu64 " of %" PRIu64 ", %u\n", bin[i].id, bin[i].used_bytes, bin[i].share_bytes, bin[i].shards);
    n = migbuf_bins_shards(bins, shard, 64);
    for (int i = 0; i < n; i++)
        say(t, "%" PRIu64 "/%" PRIu64 " %" PRIu64 "\n", shard[i].bin, shard[i].id, shard[i].bytes);
}

static int bins_new(void)
{
    return migbuf_bins_new(300, &allocator, &bins);
}
static int bins_start0(void)
{
    return migbuf_bins_start(bins, 0, 1, 130);
}
static int bins_start1(void)
{
    return migbuf_bins_start(bins, 1, 1, 40);
}
static int bins_start2(void)
{
    return migbuf_bins_start(bins, 2, 1, 0);
}
static int bins_grow(void)
{
    return migbuf_bins_set(bins, 1, 120);
}
static int bins_shrink(void)
{
    return migbuf_bins_set(bins, 0, 90);
}
static int bins_resize(void)
{
    return migbuf_bins_resize(bins, 260);
}
static int bins_end(void)
{
    return migbuf_bins_end(bins, 0);
}
static void free_bins(void)
{
    migbuf_bins_free(bins);
    bins = NULL;
}
static void nothing(void)
{
}

static const struct step bins_steps[] = {
    { "migbuf_bins_new", bins_new },     { "migbuf_bins_start", bins_start0 },  { "migbuf_bins_start", bins_start1 },
    { "migbuf_bins_start", bins_start2 }, { "migbuf_bins_set", bins_grow },     { "migbuf_bins_set", bins_shrink },
    { "migbuf_bins_resize", bins_resize }, { "migbuf_bins_end", bins_end },
};
static const struct story bins_story = { bins_steps, sizeof bins_steps / sizeof *bins_steps, look_bins, nothing, free_bins };

START_TEST(the_ledger)
{
    tell(&bins_story);
}
END_TEST

/* The buffer */

#define GIB (UINT64_C(1) << 30)

static struct migbuf_buffer *buffer;
static uint64_t next_id, now_ms;
static struct migbuf_decision decision[16];
static int decisions;

static void look_buffer(struct text *t)
{
    struct migbuf_buffer_stats stats = { .size = sizeof stats };
    char text[16384] = "";
    size_t length;

    if (!buffer)
        return;
    ck_assert_int_eq(migbuf_buffer_save(buffer, text, sizeof text, &length), 0);
    ck_assert_int_eq(migbuf_buffer_stats(buffer, &stats), 0);
    say(t, "%s %" PRIu64 " %" PRIu64 " %g\n", text, stats.ticks, stats.pending_bytes, stats.level);
    for (int i = 0; i < decisions; i++)
        say(t, "%" PRIu64 " %d %d %" PRIu64 "\n", decision[i].id, decision[i].action, decision[i].reason,
            decision[i].growth_bytes_per_s);
    {
        struct migbuf_bins *kept = bins;

        bins = (struct migbuf_bins *)(uintptr_t)migbuf_buffer_bins(buffer);
        look_bins(t);
        bins = kept;
    }
}

static int32_t policy;

static int buffer_new(void)
{
    struct migbuf_buffer_options o;

    migbuf_buffer_options_init(&o, sizeof o);
    o.policy = policy;
    return migbuf_buffer_new(10 * GIB, &o, &allocator, &buffer);
}
static int buffer_add(void)
{
    static const struct migbuf_geometry disks[2] = {
        { .virtual_bytes = 20 * GIB, .cluster_bytes = 65536, .subcluster_bytes = 65536, .block_bytes = 4096,
          .request_bytes = 65536, .queue_bytes = MIGBUF_NONE, .extra_bytes = MIGBUF_NONE },
        { .virtual_bytes = GIB, .cluster_bytes = 131072, .subcluster_bytes = 4096, .block_bytes = 4096,
          .request_bytes = 4096, .queue_bytes = MIGBUF_NONE, .extra_bytes = MIGBUF_NONE },
    };
    struct migbuf_migration m;
    int rc;

    migbuf_migration_init(&m, sizeof m);
    m.id = next_id;
    m.link = next_id % 2;
    rc = migbuf_buffer_add(buffer, &m, disks, 2, NULL);
    next_id += rc == 0;
    return rc;
}
static int buffer_sample(void)
{
    const struct migbuf_sample s[] = { { .id = 0, .file_bytes = 5 * GIB }, { .id = 1, .disk = 1, .file_bytes = GIB } };

    return migbuf_buffer_sample(buffer, now_ms + 1000, s, 2);
}
static int buffer_sample_more(void)
{
    const struct migbuf_sample s[] = { { .id = 3, .file_bytes = 2 * GIB }, { .id = 2, .file_bytes = GIB / 2 } };

    return migbuf_buffer_sample(buffer, now_ms + 1000, s, 2);
}
static int buffer_link(void)
{
    return migbuf_buffer_link(buffer, 1, 1000000);
}
static int buffer_other_link(void)
{
    return migbuf_buffer_link(buffer, 0, 1000000);
}
static int buffer_phase(void)
{
    return migbuf_buffer_phase(buffer, 1, MIGBUF_PHASE_MIRROR, 2);
}
static int buffer_weight(void)
{
    return migbuf_buffer_weight(buffer, 2, 300);
}
static int buffer_tick(void)
{
    struct migbuf_decision d[16];
    int rc = migbuf_buffer_tick(buffer, now_ms + 1000, d, 16);

    if (rc < 0)
        return rc;
    now_ms += 1000;
    memcpy(decision, d, sizeof d);
    return decisions = rc;
}
static int buffer_outcome(void)
{
    return migbuf_buffer_outcome(buffer, 3, MIGBUF_OUTCOME_UNKNOWN);
}
static int buffer_resync(void)
{
    const struct migbuf_limits limits = { .iops_wr = 10, .iops_size = 131072 };

    return migbuf_buffer_resync(buffer, 2, &limits, 1);
}
static int buffer_resize(void)
{
    return migbuf_buffer_resize(buffer, 200 * GIB, NULL);
}
static int buffer_remove(void)
{
    return migbuf_buffer_remove(buffer, 0);
}
static int buffer_load(void)
{
    static char text[16384];
    struct migbuf_buffer *loaded = NULL;
    size_t length;
    int rc = migbuf_buffer_save(buffer, text, sizeof text, &length);

    if (rc == 0)
        rc = migbuf_buffer_load(text, length, now_ms, &allocator, &loaded);
    if (rc == 0) {
        migbuf_buffer_free(buffer);
        buffer = loaded;
    }
    return rc;
}
static void begin_buffer(int32_t of)
{
    policy = of;
    next_id = now_ms = 0;
    decisions = 0;
}
static void begin_paper(void)
{
    begin_buffer(MIGBUF_POLICY_PAPER);
}
static void begin_plan(void)
{
    begin_buffer(MIGBUF_POLICY_PLANNER);
}
static void free_buffer(void)
{
    migbuf_buffer_free(buffer);
    buffer = NULL;
}

/* Asking leaves nothing behind, and changes nothing. */
static int buffer_turns(void)
{
    struct migbuf_admission_turn turns[2];
    const struct migbuf_waiting w[2] = {
        { .id = 8, .link = 1, .flow_bytes_per_s = 1e8, .disk_bytes = 1e9, .unit_bytes = 65536, .weight = 100 },
        { .id = 9, .link = 7, .flow_bytes_per_s = 1e8, .disk_bytes = 1e9, .unit_bytes = 65536, .weight = 100 },
    };

    return migbuf_admission_turns(buffer, MIGBUF_ADMISSION_SHORTEST, w, 2, turns);
}
static int buffer_outlook(void)
{
    struct migbuf_outlook o = { .size = sizeof o };

    return migbuf_outlook_running(buffer, 1, &o);
}
static int buffer_outlook_waiting(void)
{
    const struct migbuf_waiting w = { .id = 8, .link = 1, .flow_bytes_per_s = 1e8, .disk_bytes = 1e9,
                                      .unit_bytes = 65536, .weight = 100 };
    struct migbuf_outlook o = { .size = sizeof o };

    return migbuf_outlook_waiting(buffer, &w, 10, &o);
}

static const struct step buffer_steps[] = {
    { "migbuf_buffer_new", buffer_new },       { "migbuf_buffer_add", buffer_add },
    { "migbuf_buffer_add", buffer_add },       { "migbuf_buffer_add", buffer_add },
    { "migbuf_buffer_link", buffer_link },     { "migbuf_buffer_link", buffer_other_link },
    { "migbuf_buffer_tick", buffer_tick },
    { "migbuf_buffer_sample", buffer_sample }, { "migbuf_buffer_tick", buffer_tick },
    { "migbuf_buffer_add", buffer_add },       { "migbuf_buffer_sample", buffer_sample_more },
    { "migbuf_buffer_phase", buffer_phase },   { "migbuf_buffer_weight", buffer_weight },
    { "migbuf_admission_turns", buffer_turns }, { "migbuf_outlook_running", buffer_outlook },
    { "migbuf_outlook_waiting", buffer_outlook_waiting },
    { "migbuf_buffer_tick", buffer_tick },     { "migbuf_buffer_outcome", buffer_outcome },
    { "migbuf_buffer_resync", buffer_resync },   { "migbuf_buffer_resize", buffer_resize },
    { "migbuf_buffer_load", buffer_load },     { "migbuf_buffer_tick", buffer_tick },
    { "migbuf_buffer_remove", buffer_remove }, { "migbuf_buffer_tick", buffer_tick },
};
/* The planner gives all away that is free: nobody comes later. */
static const struct step plan_steps[] = {
    { "migbuf_buffer_new", buffer_new },       { "migbuf_buffer_add", buffer_add },
    { "migbuf_buffer_add", buffer_add },       { "migbuf_buffer_add", buffer_add },
    { "migbuf_buffer_add", buffer_add },       { "migbuf_buffer_link", buffer_link },
    { "migbuf_buffer_tick", buffer_tick },     { "migbuf_buffer_sample", buffer_sample },
    { "migbuf_buffer_tick", buffer_tick },     { "migbuf_buffer_sample", buffer_sample_more },
    { "migbuf_buffer_tick", buffer_tick },     { "migbuf_buffer_outcome", buffer_outcome },
    { "migbuf_buffer_resync", buffer_resync },   { "migbuf_buffer_load", buffer_load },
    { "migbuf_buffer_tick", buffer_tick },     { "migbuf_buffer_remove", buffer_remove },
    { "migbuf_buffer_tick", buffer_tick },
};
static const struct story paper_story = { buffer_steps, sizeof buffer_steps / sizeof *buffer_steps, look_buffer,
                                          begin_paper, free_buffer };
static const struct story plan_story = { plan_steps, sizeof plan_steps / sizeof *plan_steps, look_buffer, begin_plan,
                                         free_buffer };

START_TEST(the_buffer)
{
    tell(&paper_story);
    tell(&plan_story);
}
END_TEST

/* A throttle */

static struct migbuf_disk *disk;

static void look_disk(struct text *t)
{
    struct migbuf_disk_info info = { .size = sizeof info };
    char text[16384] = "";
    size_t length = 0;

    if (!disk)
        return;
    ck_assert_int_eq(migbuf_disk_info(disk, &info), 0);
    say(t, "%d %d %d %d %d %" PRIu64 " %" PRIu64 "\n", info.learnt, info.throttled, info.restored, info.plain, info.failed,
        info.commands_sent, info.limits.iops_wr);
    say(t, "%d ", migbuf_disk_save(disk, text, sizeof text, &length));
    say(t, "%s\n", text);
}

static int disk_new(void)
{
    return migbuf_disk_new("migbuf-vm1", &allocator, &disk);
}
static int disk_watch0(void)
{
    return migbuf_disk_watch(disk, "lxd_root");
}
static int disk_watch1(void)
{
    return migbuf_disk_watch(disk, "lxd_data");
}
static int disk_learn(void)
{
    return migbuf_disk_learn(disk);
}
static int disk_next(void)
{
    struct migbuf_disk_command command;

    return migbuf_disk_next(disk, &command);
}
static int disk_found0(void)
{
    const struct migbuf_throttle_config host = { .iops_wr = 500, .iops_rd = 700, .group = "dev-lxd_root" };

    return migbuf_disk_found(disk, "lxd_root", "/machine/peripheral/dev-lxd_root/virtio-backend", &host);
}
static int disk_found1(void)
{
    const struct migbuf_throttle_config host = { .group = "" };

    return migbuf_disk_found(disk, "lxd_data", "dev-lxd_data", &host);
}
static int disk_done(void)
{
    return migbuf_disk_answered(disk, MIGBUF_OUTCOME_DONE);
}
static int disk_failed(void)
{
    return migbuf_disk_answered(disk, MIGBUF_OUTCOME_REFUSED);
}
static int disk_tell_host_limits(void)
{
    const struct migbuf_throttle_config host = { .iops_wr = 600, .group = "" };

    return migbuf_disk_tell_host_limits(disk, "lxd_data", &host);
}
static int disk_pause(void)
{
    const struct migbuf_decision pause = { .action = MIGBUF_ACTION_PAUSE };

    return migbuf_disk_apply(disk, &pause);
}
static int disk_status(void)
{
    return migbuf_disk_status(disk, "running", 1);
}
static int disk_set(void)
{
    const struct migbuf_limits limits = { .iops_wr = 20, .iops_size = 65536 };

    return migbuf_disk_set(disk, &limits);
}
static int disk_again(void)
{
    return migbuf_disk_rearm(disk);
}
static int disk_restore(void)
{
    return migbuf_disk_restore(disk);
}
static int disk_load(void)
{
    static char text[16384];
    struct migbuf_disk *loaded = NULL;
    size_t length;
    int rc = migbuf_disk_save(disk, text, sizeof text, &length);

    if (rc == 0)
        rc = migbuf_disk_load(text, length, &allocator, &loaded);
    if (rc == 0) {
        migbuf_disk_free(disk);
        disk = loaded;
    }
    return rc;
}
static int disk_six_rates(void)
{
    return migbuf_disk_six_rates(disk);
}
static void free_disk(void)
{
    migbuf_disk_free(disk);
    disk = NULL;
}

static const struct step disk_steps[] = {
    { "migbuf_disk_new", disk_new },       { "migbuf_disk_watch", disk_watch0 }, { "migbuf_disk_watch", disk_watch1 },
    { "migbuf_disk_learn", disk_learn },   { "migbuf_disk_next", disk_next },    { "migbuf_disk_found", disk_found0 },
    { "migbuf_disk_found", disk_found1 },  { "migbuf_disk_answered", disk_done },    { "migbuf_disk_set", disk_set },
    { "migbuf_disk_next", disk_next },     { "migbuf_disk_answered", disk_failed }, { "migbuf_disk_next", disk_next },
    { "migbuf_disk_answered", disk_done },     { "migbuf_disk_rearm", disk_again },  { "migbuf_disk_restore", disk_restore }, { "migbuf_disk_next", disk_next },
    { "migbuf_disk_load", disk_load },     { "migbuf_disk_next", disk_next },
};
static const struct story disk_story = { disk_steps, sizeof disk_steps / sizeof *disk_steps, look_disk, nothing, free_disk };

/* A guest is stopped. */
static const struct step stop_steps[] = {
    { "migbuf_disk_new", disk_new },     { "migbuf_disk_watch", disk_watch0 },      { "migbuf_disk_watch", disk_watch1 },
    { "migbuf_disk_learn", disk_learn }, { "migbuf_disk_next", disk_next },         { "migbuf_disk_found", disk_found0 },
    { "migbuf_disk_found", disk_found1 }, { "migbuf_disk_answered", disk_done },    { "migbuf_disk_tell_host_limits", disk_tell_host_limits },
    { "migbuf_disk_apply", disk_pause }, { "migbuf_disk_next", disk_next },         { "migbuf_disk_status", disk_status },
    { "migbuf_disk_answered", disk_done }, { "migbuf_disk_next", disk_next },       { "migbuf_disk_answered", disk_done },
    { "migbuf_disk_load", disk_load },   { "migbuf_disk_next", disk_next },
};
static const struct story stop_story = { stop_steps, sizeof stop_steps / sizeof *stop_steps, look_disk, nothing, free_disk };

static const struct step six_rates_steps[] = { { "migbuf_disk_new", disk_new }, { "migbuf_disk_six_rates", disk_six_rates } };
static const struct story typed_story = { six_rates_steps, sizeof six_rates_steps / sizeof *six_rates_steps, look_disk, nothing, free_disk };

/* The memory phase: one block, made with it. */
static struct migbuf_ram *ram;

static void look_ram(struct text *t)
{
    struct migbuf_ram_info info = { .size = sizeof info };
    char text[8200] = "";
    size_t length = 0;

    if (!ram)
        return;
    ck_assert_int_eq(migbuf_ram_info(ram, &info), 0);
    say(t, "%d %d %d %" PRIu64 "\n", info.state, info.learnt, info.restored, info.text_revision);
    say(t, "%d ", migbuf_ram_save(ram, text, sizeof text, &length));
    say(t, "%s\n", text);
}
static int ram_new(void)
{
    struct migbuf_agreement agreed;

    ck_assert_int_eq(migbuf_agreement_init(&agreed, sizeof agreed), 0);
    return migbuf_ram_new(&agreed, NULL, &allocator, &ram);
}
static int ram_learn(void)
{
    return migbuf_ram_learn(ram);
}
static int ram_next(void)
{
    struct migbuf_ram_command command;

    return migbuf_ram_next(ram, &command);
}
static int ram_load(void)
{
    struct migbuf_ram *earlier = ram;
    char text[8200];
    size_t length;
    int rc;

    ck_assert_int_eq(migbuf_ram_save(ram, text, sizeof text, &length), 0);
    rc = migbuf_ram_load(text, length, &allocator, &ram);
    if (rc == 0)
        migbuf_ram_free(earlier);
    return rc;
}
static void free_ram(void)
{
    migbuf_ram_free(ram);
    ram = NULL;
}

static const struct step ram_steps[] = { { "migbuf_ram_new", ram_new },
                                         { "migbuf_ram_learn", ram_learn },
                                         { "migbuf_ram_next", ram_next },
                                         { "migbuf_ram_load", ram_load },
                                         { "migbuf_ram_next", ram_next } };
static const struct story ram_story = { ram_steps, sizeof ram_steps / sizeof *ram_steps, look_ram, nothing, free_ram };

START_TEST(a_memory_phase)
{
    tell(&ram_story);
}
END_TEST

START_TEST(a_throttle)
{
    tell(&disk_story);
    tell(&stop_story);
    tell(&typed_story);
}
END_TEST

#ifdef WITH_QMP

/* The QMP engine */

#define GREETING "{\"QMP\": {\"version\": {\"qemu\": {\"micro\": 22, \"minor\": 2, \"major\": 7}}, \"capabilities\": []}}\r\n"
#define NEGOTIATED "{\"return\": {}, \"id\": 0}\r\n"
#define EVENT "{\"timestamp\": {\"seconds\": 5, \"microseconds\": 7}, \"event\": \"STOP\"}\r\n"

static struct migbuf_qmp *engine;
static struct text taken; /* what was handed out */

static void look_engine(struct text *t)
{
    const char *bytes = "";
    uint64_t count = 0;

    if (!engine)
        return;
    say(t, "%d %d %" PRIu64 " ", migbuf_qmp_is_ready(engine), migbuf_qmp_output(engine, &bytes, &count),
        migbuf_qmp_pending(engine));
    say(t, "%.*s\n%s", (int)count, bytes, taken.bytes ? taken.bytes : "");
}

static int took(int rc, const struct migbuf_qmp_message *m)
{
    if (rc == 1)
        say(&taken, "%d %" PRIu64 " %s %s\n", m->kind, m->id, m->name, m->text);
    return rc;
}
static int feed(const char *text)
{
    return migbuf_qmp_feed(engine, text, strlen(text));
}
static int qmp_new(void)
{
    return migbuf_qmp_new(NULL, &allocator, &engine);
}
static int qmp_command(void)
{
    uint64_t id;

    return migbuf_qmp_command(engine, "query-block", "{\"a\": [1, \"long enough to be a string of its own\"]}", &id);
}
static int qmp_greeting(void)
{
    return feed(GREETING "{\"return\": {}, ");
}
static int qmp_sent(void)
{
    const char *bytes;
    uint64_t count;
    int rc = migbuf_qmp_output(engine, &bytes, &count);

    return rc < 0 ? rc : migbuf_qmp_sent(engine, count);
}
static int qmp_negotiated(void)
{
    return feed("\"id\": 0}\r\n" EVENT);
}
static int qmp_many(void)
{
    char text[2000] = "";

    for (int i = 0; i < 20; i++)
        strcat(text, EVENT);
    return feed(strcat(text, "{\"return\": {\"x\": 18446744073709551615}, \"id\": 1}{\"return\": {"));
}
static int qmp_rest(void)
{
    return feed("}, \"id\": 2}{\"return\": 3, \"id\": 3}");
}
static int qmp_next(void)
{
    struct migbuf_qmp_message m;

    return took(migbuf_qmp_next(engine, &m), &m);
}
static int qmp_reply(void)
{
    struct migbuf_qmp_message m;

    return took(migbuf_qmp_reply(engine, 1, &m), &m);
}
static int qmp_event(void)
{
    struct migbuf_qmp_message m;

    return took(migbuf_qmp_event(engine, &m), &m);
}
static int qmp_forget(void)
{
    return migbuf_qmp_forget(engine, 3);
}
static int qmp_parse(void)
{
    struct migbuf_qmp_message m;
    char line[] = "{\"return\": [{\"a\": 1.5}], \"id\": 4}";
    int rc = migbuf_qmp_parse(line, sizeof line - 1, &m);

    return rc < 0 ? rc : took(1, &m);
}
static void begin_engine(void)
{
    taken.used = 0;
    say(&taken, "-");
}
static void free_engine(void)
{
    migbuf_qmp_free(engine);
    engine = NULL;
}

static const struct step qmp_steps[] = {
    { "migbuf_qmp_new", qmp_new },         { "migbuf_qmp_command", qmp_command }, { "migbuf_qmp_feed", qmp_greeting },
    { "migbuf_qmp_sent", qmp_sent },       { "migbuf_qmp_feed", qmp_negotiated }, { "migbuf_qmp_command", qmp_command },
    { "migbuf_qmp_command", qmp_command }, { "migbuf_qmp_sent", qmp_sent },       { "migbuf_qmp_feed", qmp_many },
    { "migbuf_qmp_next", qmp_next },       { "migbuf_qmp_reply", qmp_reply },     { "migbuf_qmp_event", qmp_event },
    { "migbuf_qmp_feed", qmp_rest },       { "migbuf_qmp_forget", qmp_forget },   { "migbuf_qmp_parse", qmp_parse },
    { "migbuf_qmp_next", qmp_next },
};
static const struct story qmp_story = { qmp_steps, sizeof qmp_steps / sizeof *qmp_steps, look_engine, begin_engine, free_engine };

START_TEST(the_qmp_engine)
{
    json_set_alloc_funcs(json_take, json_give);
    tell(&qmp_story);
    free(taken.bytes);
    taken = (struct text){ 0 };
}
END_TEST

/* What jansson may need at most is asked for before it starts: texts made of what costs it most. */
START_TEST(jansson_never_starves)
{
    static const char *const item[] = { "{},",           "[],",          "\"\",",  "0,", "{\"\":{}},", "[[]],",
                                        "{\"a\":1,\"b\":2},", "\"\\u00e9\",", "1.5,", "[{}],",      "[0,1,2,3,4,5,6,7,8]," };
    static char text[20000]; /* within what a text of its length may hold */

    json_set_alloc_funcs(json_take, json_give);
    for (size_t k = 0; k < sizeof item / sizeof *item; k++) {
        struct migbuf_migrate_report report;
        size_t used = (size_t)snprintf(text, sizeof text, "{\"x\":["), failures = 0;
        int rc = MIGBUF_E_NOMEM;

        while (used + 40 < (k % 2 ? 1000 : sizeof text))
            used += (size_t)snprintf(text + used, sizeof text - used, "%s", item[k]);
        used += (size_t)snprintf(text + used, sizeof text - used, "0]}");
        for (memory.budget = 1000; rc == MIGBUF_E_NOMEM; memory.budget += memory.budget / 16, failures++) {
            rc = migbuf_report_migrate(text, used, &report, NULL);
            ck_assert_msg(rc == 0 || rc == MIGBUF_E_NOMEM, "%s: %d", item[k], rc);
        }
        memory.budget = 0;
        ck_assert_msg(rc == 0 && failures > 5, "%s: %d", item[k], rc);
        ck_assert_int_eq(memory.blocks, 0);
    }
}
END_TEST

/* A monitor's socket. After a failed call the command may have been sent: what is seen is that the next call is answered. */

static struct migbuf_qmp_socket *monitor;
static char monitor_path[64];
static bool command_queued;
static uint64_t command_id;
static int listener;

static bool send_all(int fd, const char *text)
{
    return send(fd, text, strlen(text), MSG_NOSIGNAL) == (ssize_t)strlen(text);
}

/* Greets, and answers each line with {} and its id, and an event before each. */
static void serve(int fd)
{
    char line[512], reply[600];
    size_t used = 0;

    if (!send_all(fd, GREETING))
        return;
    while (used < sizeof line - 1 && recv(fd, line + used, 1, 0) == 1) {
        const char *id;

        if (line[used++] != '\n')
            continue;
        line[used] = 0;
        used = 0;
        id = strstr(line, "\"id\":");
        snprintf(reply, sizeof reply, EVENT "{\"return\": {\"a\": 1}, \"id\": %d}\r\n", id ? atoi(id + 5) : -1);
        if (!send_all(fd, reply))
            return;
    }
}

static void *server(void *unused)
{
    int fd;

    while ((fd = accept(listener, NULL, NULL)) >= 0) {
        serve(fd);
        close(fd);
    }
    return unused;
}

static void look_monitor(struct text *t)
{
    say(t, "%s", taken.bytes ? taken.bytes : "");
}
static int socket_open(void)
{
    return migbuf_qmp_socket_open(monitor_path, NULL, &allocator, 10000, &monitor, NULL);
}
static int socket_call(void)
{
    struct migbuf_qmp_message m;
    int rc = migbuf_qmp_socket_call(monitor, "query-status", "{\"x\": 1}", 10000, &m, NULL);

    if (rc == 0)
        say(&taken, "%d %s\n", m.kind, m.text);
    return rc;
}
static int socket_call_fd(void)
{
    struct migbuf_qmp_message m;
    int rc = migbuf_qmp_socket_call_fd(monitor, "add-fd", NULL, listener, 10000, &m, NULL);

    if (rc == 0)
        say(&taken, "%d %s\n", m.kind, m.text);
    return rc;
}
static int socket_event(void)
{
    struct migbuf_qmp_message m;
    int rc = migbuf_qmp_socket_event(monitor, 10000, &m, NULL);

    if (rc == 1)
        say(&taken, "%s\n", m.name);
    return rc;
}
static int socket_step(void)
{
    struct migbuf_qmp *inside = migbuf_qmp_socket_engine(monitor);
    uint64_t id;
    int rc = migbuf_qmp_command(inside, "query-status", NULL, &id);

    for (int i = 0; rc == 0 && migbuf_qmp_pending(inside) && i < 1000; i++) {
        struct pollfd p = { .fd = migbuf_qmp_socket_fd(monitor), .events = (short)migbuf_qmp_socket_wanted(monitor) };

        rc = migbuf_qmp_socket_step(monitor, NULL);
        if (rc == 0 && migbuf_qmp_pending(inside))
            poll(&p, 1, 1000);
    }
    return rc;
}
/* Where it was queued already, a second attempt goes on with the same one. */
static int socket_command_fd(void)
{
    struct migbuf_qmp *inside = migbuf_qmp_socket_engine(monitor);
    struct migbuf_qmp_message m;
    int rc = 0;

    if (!command_queued) {
        rc = migbuf_qmp_socket_command_fd(monitor, "add-fd", NULL, listener, &command_id, NULL);
        command_queued = rc == 0;
    }
    for (int i = 0; rc == 0 && migbuf_qmp_pending(inside) && i < 1000; i++) {
        struct pollfd p = { .fd = migbuf_qmp_socket_fd(monitor), .events = (short)migbuf_qmp_socket_wanted(monitor) };

        rc = migbuf_qmp_socket_step(monitor, NULL); /* first: what could not be taken in before waits inside */
        if (rc == 0 && migbuf_qmp_pending(inside))
            poll(&p, 1, 1000);
    }
    if (rc == 0 && (rc = migbuf_qmp_reply(inside, command_id, &m)) == 1) {
        say(&taken, "%d %s\n", m.kind, m.text);
        command_queued = false;
    }
    return rc;
}
static int socket_adopt(void)
{
    struct migbuf_qmp_socket *made;
    int pair[2], rc;

    if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) < 0)
        return MIGBUF_E_SYSTEM;
    rc = migbuf_qmp_socket_adopt(pair[0], NULL, &allocator, &made, NULL);
    if (rc == 0)
        migbuf_qmp_socket_free(made);
    else
        close(pair[0]);
    close(pair[1]);
    return rc;
}
static void free_monitor(void)
{
    migbuf_qmp_socket_free(monitor);
    monitor = NULL;
    command_queued = false;
}

static const struct step socket_steps[] = {
    { "migbuf_qmp_socket_open", socket_open },       { "migbuf_qmp_socket_command_fd", socket_command_fd },
    { "migbuf_qmp_socket_call", socket_call },
    { "migbuf_qmp_socket_event", socket_event },     { "migbuf_qmp_socket_call_fd", socket_call_fd },
    { "migbuf_qmp_socket_call", socket_call },       { "migbuf_qmp_socket_step", socket_step },
    { "migbuf_qmp_socket_adopt", socket_adopt },
};
static const struct story socket_story = { socket_steps, sizeof socket_steps / sizeof *socket_steps, look_monitor, begin_engine,
                                           free_monitor };

START_TEST(a_monitors_socket)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    pthread_t thread;

    json_set_alloc_funcs(json_take, json_give);
    snprintf(address.sun_path, sizeof address.sun_path, "%s", monitor_path);
    listener = socket(AF_UNIX, SOCK_STREAM, 0);
    ck_assert_int_eq(bind(listener, (struct sockaddr *)&address, sizeof address), 0);
    ck_assert_int_eq(listen(listener, 8), 0);
    ck_assert_int_eq(pthread_create(&thread, NULL, server, NULL), 0);
    tell(&socket_story);
    shutdown(listener, SHUT_RDWR);
    pthread_join(thread, NULL);
    close(listener);
    free(taken.bytes);
    taken = (struct text){ 0 };
}
END_TEST

/* Readers of replies: no handle, so memory comes from malloc and jansson. */

#define READER(what, type, said, call)                                                                                  \
    static int report_##what(void)                                                                                      \
    {                                                                                                                   \
        static const char text[] = said;                                                                                \
        type out = { 0 };                                                                                               \
        struct migbuf_error e;                                                                                          \
        int rc = call;                                                                                                  \
                                                                                                                        \
        if (rc == 0)                                                                                                    \
            for (size_t i = 0; i < sizeof out; i++)                                                                     \
                say(&taken, "%02x", ((const unsigned char *)&out)[i]);                                                  \
        return rc;                                                                                                      \
    }
#define READ(what, said) READER(what, struct migbuf_##what##_report, said, migbuf_report_##what(text, sizeof text - 1, &out, &e))
#define READ_OF(what, record, said, ...)                                                                                \
    READER(what, struct migbuf_##record##_report, said, migbuf_report_##what(text, sizeof text - 1, __VA_ARGS__, &out, &e))

#define BLOCK                                                                                                           \
    "[{\"qdev\": \"dev-x\", \"inserted\": {\"node-name\": \"n0\", \"bps\": 0, \"bps_rd\": 0, \"bps_wr\": 5, \"iops\": 0, "    \
    "\"iops_rd\": 0, \"iops_wr\": 0, \"group\": \"g1\"}}]"

READ_OF(block, block, BLOCK, "n0")
READ_OF(writes, write, "[{\"qdev\": \"q\", \"node-name\": \"n0\", \"stats\": {\"wr_bytes\": 4096, \"wr_operations\": 1}}]", "q", NULL)
READ_OF(mirror, mirror, "[{\"device\": \"j\", \"type\": \"mirror\", \"status\": \"running\", \"len\": 8, \"offset\": 6, \"ready\": false}]", "j")
READ_OF(node, node, "[{\"node-name\": \"n0\", \"image\": {\"actual-size\": 4096, \"virtual-size\": 8192}}]", "n0")
READ_OF(job, job,
        "[{\"device\": \"j\", \"status\": \"ready\", \"type\": \"mirror\", \"len\": 8, \"offset\": 4, \"ready\": true}]", "j")
#define READ_ALL(what, record, said)                                                                                     \
    static int report_##what(void)                                                                                      \
    {                                                                                                                   \
        static const char text[] = said;                                                                                \
        struct migbuf_##record##_report out[2] = { { .node_name = "n0" }, { .node_name = "n1" } };                      \
        int rc = migbuf_report_##what(text, sizeof text - 1, out, 2, NULL);                                             \
                                                                                                                        \
        for (size_t i = 0; rc >= 0 && i < sizeof out; i++)                                                              \
            say(&taken, "%02x", ((const unsigned char *)out)[i]);                                                       \
        return rc;                                                                                                      \
    }
READ_ALL(nodes, node, "[{\"node-name\": \"n0\", \"image\": {\"actual-size\": 4096, \"virtual-size\": 8192}}]")
READ_ALL(all_writes, write,
         "[{\"qdev\": \"q\", \"node-name\": \"n0\", \"stats\": {\"wr_bytes\": 4096, \"wr_operations\": 1}}]")
READ(status, "{\"status\": \"prelaunch\", \"singlestep\": false, \"running\": false}")
READ(migrate, "{\"status\": \"active\", \"ram\": {\"transferred\": 1, \"remaining\": 2, \"total\": 3, \"mbps\": 1.5}}")
READ(ram, "{\"status\": \"active\", \"ram\": {\"transferred\": 1, \"remaining\": 2, \"total\": 3, \"mbps\": 1.5}}")
READ(fdset, "{\"fd\": 20, \"fdset-id\": 0}")
READ(io_error, "{\"device\": \"\", \"nospace\": true, \"node-name\": \"o\", \"operation\": \"write\", \"action\": \"stop\"}")
READ(job_error, "{\"device\": \"j\", \"operation\": \"write\", \"action\": \"stop\"}")
READ(job_event, "{\"device\": \"j\", \"len\": 8, \"offset\": 4, \"speed\": 0, \"type\": \"mirror\"}")
READ(threshold, "{\"node-name\": \"f\", \"amount-exceeded\": 512, \"write-threshold\": 4096}")

static int report_migration_status(void)
{
    char status[32];
    int rc = migbuf_report_migration_status("{\"status\": \"active\"}", 20, status, sizeof status, NULL);

    if (rc == 0)
        say(&taken, "%s", status);
    return rc;
}
static int report_blocked(void)
{
    static const char text[] = "{\"blocked-reasons\": [\"non-migratable device: nvme\"]}";
    char reasons[64];
    int rc = migbuf_report_blocked(text, sizeof text - 1, reasons, sizeof reasons, NULL);

    if (rc >= 0)
        say(&taken, "%s", reasons);
    return rc;
}
static int report_to_disk(void)
{
    return migbuf_report_to_disk(disk, MIGBUF_DISK_QUERY, 0, BLOCK, sizeof BLOCK - 1, NULL);
}
static int learn_ram(void)
{
    struct migbuf_ram_command command;
    int rc = migbuf_ram_learn(ram);

    return rc < 0 ? rc : migbuf_ram_next(ram, &command);
}
static int report_to_ram(void)
{
    static const char text[] = "[{\"capability\": \"events\", \"state\": true}]";

    return migbuf_report_to_ram(ram, MIGBUF_RAM_GET_CAPABILITIES, 0, text, sizeof text - 1, NULL);
}
static int report_event_to_ram(void)
{
    static const char text[] = "{\"status\": \"active\"}";

    return migbuf_report_event_to_ram(ram, MIGBUF_RAM_SOURCE, "MIGRATION", text, sizeof text - 1, 5, NULL);
}
static int watch_n0(void)
{
    int rc = migbuf_disk_watch(disk, "n0");

    return rc < 0 ? rc : migbuf_disk_learn(disk);
}
static void look_reports(struct text *t)
{
    look_disk(t);
    look_ram(t);
    look_monitor(t);
}
static void begin_reports(void)
{
    begin_engine();
    watch_malloc = true;
}
static void end_reports(void)
{
    free_disk();
    free_ram();
    watch_malloc = false;
}

static const struct step report_steps[] = {
    { "migbuf_report_block", report_block },
    { "migbuf_report_writes", report_writes },
    { "migbuf_report_node", report_node },
    { "migbuf_report_nodes", report_nodes },
    { "migbuf_report_all_writes", report_all_writes },
    { "migbuf_report_blocked", report_blocked },
    { "migbuf_report_job", report_job },
    { "migbuf_report_mirror", report_mirror },
    { "migbuf_report_status", report_status },
    { "migbuf_report_migrate", report_migrate },
    { "migbuf_report_ram", report_ram },
    { "migbuf_report_fdset", report_fdset },
    { "migbuf_report_io_error", report_io_error },
    { "migbuf_report_job_error", report_job_error },
    { "migbuf_report_job_event", report_job_event },
    { "migbuf_report_threshold", report_threshold },
    { "migbuf_report_migration_status", report_migration_status },
    { "migbuf_disk_new", disk_new },
    { "migbuf_disk_watch", watch_n0 },
    { "migbuf_disk_next", disk_next },
    { "migbuf_report_to_disk", report_to_disk },
    { "migbuf_disk_set", disk_set },
    { "migbuf_disk_next", disk_next },
    { "migbuf_ram_new", ram_new },
    { "migbuf_ram_learn", learn_ram },
    { "migbuf_report_to_ram", report_to_ram },
    { "migbuf_report_event_to_ram", report_event_to_ram },
    { "migbuf_ram_next", ram_next },
};
static const struct story report_story = { report_steps, sizeof report_steps / sizeof *report_steps, look_reports, begin_reports,
                                           end_reports };

START_TEST(the_readers)
{
    json_set_alloc_funcs(json_take, json_give);
    tell(&report_story);
    free(taken.bytes);
    taken = (struct text){ 0 };
}
END_TEST
/* A server's REST. What it was asked to change may have happened when the reply found no memory; the handle is what is seen. */

#ifdef WITH_LXD
static struct migbuf_lxd *lxd;
static char server_path[64];

#define OPERATION "{\"id\":\"11-22\",\"status_code\":200}"
#define VM                                                                                                             \
    "{\"name\":\"v\",\"type\":\"virtual-machine\",\"status\":\"Running\",\"expanded_config\":{\"raw.qemu\":\"-S\"},"     \
    "\"expanded_devices\":{\"root\":{\"type\":\"disk\",\"path\":\"/\",\"pool\":\"p\",\"size\":\"10GiB\"}}}"
#define POOL "{\"name\":\"p\",\"driver\":\"lvm\",\"status\":\"Created\"}"

#define METRICS                                                                                                         \
    "incus_disk_written_bytes_total{device=\"d\",name=\"v\",project=\"default\",type=\"virtual-machine\"} 8192\n"

/* The first that a request begins with. Changes are answered with an operation, whose end has to be asked for. */
static const struct {
    const char *request, *metadata;
} rest[] = {
    { "GET /1.0 ",
      "{\"auth\":\"trusted\",\"api_extensions\":[\"migration_vm_live\",\"metrics\"],\"config\":{\"user.a\":\"b\"},\"environment\":"
      "{\"server\":\"incus\",\"server_version\":\"6.14\",\"server_name\":\"h\"}}" },
    { "PATCH /1.0 ", "{}" },
    { "GET /1.0/storage-pools?", "[" POOL "]" },
    { "GET /1.0/storage-pools/p ", POOL },
    { "GET /1.0/storage-pools/p/resources", "{\"space\":{\"total\":90000,\"used\":5000}}" },
    { "GET /1.0/storage-pools/p/volumes/custom/o/state", "{\"usage\":{\"used\":4096}}" },
    { "GET /1.0/storage-pools/p/volumes/custom/o", "{\"config\":{\"size\":\"8192\"},\"content_type\":\"filesystem\"}" },
    { "GET /1.0/instances?", "[" VM "]" },
    { "GET /1.0/instances/v", VM },
    { "GET /1.0/operations?", "{\"running\":[{\"id\":\"7\",\"description\":\"Live-migrating instance\",\"resources\":"
                              "{\"instances\":[\"/1.0/instances/v\"]},\"metadata\":{\"fs_progress\":\"1GB (1MB/s)\"}}]}" },
    { "GET /1.0/operations/11-22/wait", OPERATION },
    { "GET /1.0/networks", "[\"/1.0/networks/lo\"]" },
    { "GET /1.0/metrics", METRICS },
    { "", NULL },
};

/* Each reply on a connection is longer than the one before, so that the handle needs more room. */
static void serve_rest(int fd)
{
    static char request[4096], reply[100000];
    size_t used = 0, begun = 0, bytes;

    for (size_t pad = 2000; used < sizeof request - 1; pad += 3500) {
        const char *end = NULL, *length = NULL;
        size_t i = 0;

        while (!end || used < (size_t)(end + 4 - request) + (length ? strtoul(length + 16, NULL, 10) : 0)) {
            ssize_t n = recv(fd, request + used, sizeof request - 1 - used, 0);

            if (n <= 0)
                return;
            request[used += (size_t)n] = 0;
            end = strstr(request, "\r\n\r\n"), length = strstr(request, "Content-Length: ");
        }
        used = 0;
        while (strncmp(request, rest[i].request, strlen(rest[i].request)))
            i++;
        begun = (size_t)snprintf(reply, sizeof reply, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", (int)pad);
        bytes = begun + pad;
        if (rest[i].metadata && !strcmp(rest[i].metadata, METRICS))
            begun += (size_t)snprintf(reply + begun, sizeof reply - begun, METRICS); /* it is no JSON */
        else if (rest[i].metadata)
            begun += (size_t)snprintf(reply + begun, sizeof reply - begun, "{\"type\":\"sync\",\"metadata\":%s}", rest[i].metadata);
        else
            begun += (size_t)snprintf(reply + begun, sizeof reply - begun,
                                      "{\"type\":\"async\",\"operation\":\"/1.0/operations/11-22\",\"metadata\":{\"status_code\":103}}");
        if (bytes > sizeof reply - 1 || begun > bytes)
            return;
        memset(reply + begun, ' ', bytes - begun);
        reply[bytes] = 0;
        if (!send_all(fd, reply))
            return;
    }
}

static void *rest_server(void *unused)
{
    int fd;

    while ((fd = accept(listener, NULL, NULL)) >= 0) {
        serve_rest(fd);
        close(fd);
    }
    return unused;
}

static void look_lxd(struct text *t)
{
    look_monitor(t);
    say(t, "%d %d", lxd != NULL, migbuf_lxd_has(lxd, "migration_vm_live"));
}

static int lxd_open(void)
{
    return migbuf_lxd_open(server_path, NULL, &allocator, 10000, &lxd, NULL);
}
#define LXD_CALL(what, declaration, call, ...)                                                                          \
    static int lxd_##what(void)                                                                                         \
    {                                                                                                                   \
        declaration;                                                                                                    \
        int rc = migbuf_lxd_##what call;                                                                                \
                                                                                                                        \
        if (rc >= 0)                                                                                                    \
            say(&taken, __VA_ARGS__);                                                                                   \
        return rc;                                                                                                      \
    }
LXD_CALL(server, struct migbuf_lxd_server server = { .size = sizeof server }, (lxd, 10000, &server, NULL), "%s", server.name)
LXD_CALL(key, char value[64] = "", (lxd, "user.a", 10000, value, sizeof value, NULL), "%s", value)
LXD_CALL(set_key, , (lxd, "user.a", "c", 10000, NULL), "set")
LXD_CALL(pools, struct migbuf_lxd_pool pool[4], (lxd, 10000, pool, 4, NULL), "%d %s", rc, pool[0].name)
LXD_CALL(pool, struct migbuf_lxd_pool pool, (lxd, "p", 10000, &pool, NULL), "%" PRIu64, pool.free_bytes)
LXD_CALL(volume, struct migbuf_lxd_volume v, (lxd, "p", "o", 10000, &v, NULL), "%" PRIu64 " %" PRIu64, v.size_bytes, v.used_bytes)
LXD_CALL(volume_create, , (lxd, "p", "n", 8192, 10000, NULL), "made")
LXD_CALL(volume_resize, , (lxd, "p", "o", 16384, 10000, NULL), "grown")
LXD_CALL(volume_delete, , (lxd, "p", "o", 10000, NULL), "gone")
LXD_CALL(vms, struct migbuf_lxd_vm vm[4], (lxd, 10000, vm, 4, NULL), "%d %s", rc, vm[0].name)
LXD_CALL(vm, struct migbuf_lxd_vm vm, (lxd, NULL, "v", 10000, &vm, NULL), "%s %s", vm.root, vm.pool)
LXD_CALL(vm_key, char value[64] = "", (lxd, NULL, "v", "raw.qemu", 10000, value, sizeof value, NULL), "%s", value)
LXD_CALL(disks, struct migbuf_lxd_disk d[4], (lxd, NULL, "v", 10000, d, 4, NULL), "%d %" PRIu64, rc, d[0].size_bytes)
LXD_CALL(vm_set_state_bytes, , (lxd, NULL, "v", 1 << 30, 10000, NULL), "set")
LXD_CALL(migrations, struct migbuf_lxd_migration m[4], (lxd, 10000, m, 4, NULL), "%d %s %" PRIu64, rc, m[0].instance, m[0].processed_bytes)
LXD_CALL(written, struct migbuf_lxd_written w[4], (lxd, 10000, w, 4, NULL), "%d %s %" PRIu64, rc, w[0].device, w[0].bytes)
LXD_CALL(cancel, , (lxd, "11-22", 10000, NULL), "cancelled")
LXD_CALL(call, const char *text = NULL, (lxd, "GET", "/1.0/networks", NULL, 10000, &text, NULL, NULL), "%s", text)

static const struct step lxd_steps[] = {
    { "migbuf_lxd_open", lxd_open },
    { "migbuf_lxd_server", lxd_server },
    { "migbuf_lxd_key", lxd_key },
    { "migbuf_lxd_set_key", lxd_set_key },
    { "migbuf_lxd_pools", lxd_pools },
    { "migbuf_lxd_pool", lxd_pool },
    { "migbuf_lxd_volume", lxd_volume },
    { "migbuf_lxd_volume_create", lxd_volume_create },
    { "migbuf_lxd_volume_resize", lxd_volume_resize },
    { "migbuf_lxd_volume_delete", lxd_volume_delete },
    { "migbuf_lxd_vms", lxd_vms },
    { "migbuf_lxd_vm", lxd_vm },
    { "migbuf_lxd_vm_key", lxd_vm_key },
    { "migbuf_lxd_disks", lxd_disks },
    { "migbuf_lxd_vm_set_state_bytes", lxd_vm_set_state_bytes },
    { "migbuf_lxd_migrations", lxd_migrations },
    { "migbuf_lxd_written", lxd_written },
    { "migbuf_lxd_cancel", lxd_cancel },
    { "migbuf_lxd_call", lxd_call },
};
static void free_lxd(void)
{
    migbuf_lxd_free(lxd);
    lxd = NULL;
}
static const struct story lxd_story = { lxd_steps, sizeof lxd_steps / sizeof *lxd_steps, look_lxd, begin_engine, free_lxd };

/* A story for each call: the handle keeps its room, so a second one after the first would need none. */
START_TEST(a_servers_rest)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    pthread_t thread;

    budget_step = 509; /* long replies */
    curl_global_init_mem(CURL_GLOBAL_DEFAULT, curl_take, free, curl_move, curl_copy, curl_clear);
    json_set_alloc_funcs(json_take, json_give);
    snprintf(address.sun_path, sizeof address.sun_path, "%s", server_path);
    listener = socket(AF_UNIX, SOCK_STREAM, 0);
    ck_assert_int_eq(bind(listener, (struct sockaddr *)&address, sizeof address), 0);
    ck_assert_int_eq(listen(listener, 8), 0);
    ck_assert_int_eq(pthread_create(&thread, NULL, rest_server, NULL), 0);
    for (size_t i = 1; i < lxd_story.count; i++) {
        const struct step steps[] = { lxd_steps[0], lxd_steps[i] };
        struct story s = lxd_story;

        s.steps = steps, s.count = 2;
        tell(&s);
    }
    shutdown(listener, SHUT_RDWR);
    pthread_join(thread, NULL);
    close(listener);
    free(taken.bytes);
    taken = (struct text){ 0 };
    curl_global_cleanup();
}
END_TEST
#endif
#endif

/* NULL means malloc: the same, once, with its realloc failing. */
START_TEST(malloc_fails)
{
    struct migbuf_buffer *b = NULL;
    int rc;

    for (uint64_t k = 1;; k++) {
        memory.made = 0, memory.failed = false, memory.fail_at = k, memory.for_ever = false;
        watch_malloc = true;
        rc = migbuf_buffer_new(GIB, NULL, NULL, &b);
        watch_malloc = false;
        memory.fail_at = 0;
        if (rc == 0)
            break;
        ck_assert(rc == MIGBUF_E_NOMEM && !b);
    }
    ck_assert(memory.made > 1);
    migbuf_buffer_free(b);
}
END_TEST

/* Everything that could allocate stands in a story: functions that take an allocator or a handle they may change, those
 * whose words name MIGBUF_E_NOMEM, and the readers. Those that end handles are in all of them. */

static const struct story *const stories[] = {
    &bins_story, &paper_story, &plan_story, &disk_story, &stop_story, &typed_story, &ram_story,
#ifdef WITH_QMP
    &qmp_story,  &socket_story, &report_story,
#endif
#ifdef WITH_LXD
    &lxd_story,
#endif
};

static bool told(const char *function)
{
    for (size_t i = 0; i < sizeof stories / sizeof *stories; i++)
        for (size_t k = 0; k < stories[i]->count; k++)
            if (!strcmp(stories[i]->steps[k].function, function))
                return true;
    return false;
}

static bool could_allocate(const char *name, const char *declaration, const char *comment)
{
    static const char *const handle[] = { "(struct migbuf_bins *",  "(struct migbuf_buffer *", "(struct migbuf_disk *",
                                          "(struct migbuf_qmp *",  "(struct migbuf_qmp_socket *", "(struct migbuf_lxd *" };

    if (strstr(name, "_free") || !strcmp(name, "migbuf_qmp_socket_engine"))
        return false;
    if (strstr(comment, "NOMEM") || strstr(declaration, "struct migbuf_allocator *") || !strncmp(name, "migbuf_report_", 14))
        return true;
    for (size_t i = 0; i < sizeof handle / sizeof *handle; i++)
        if (strstr(declaration, handle[i]))
            return true;
    return false;
}

/* Looks through one header; returns how many functions it found that could allocate. */
static int look_through(const char *header)
{
    static char text[200000];
    char path[500], name[80];
    int found = 0;
    FILE *f;

    snprintf(path, sizeof path, "%s/migbuf/%s", MIGBUF_INCLUDE, header);
    f = fopen(path, "r");
    ck_assert_msg(f != NULL, "%s", path);
    text[fread(text, 1, sizeof text - 1, f)] = 0;
    fclose(f);
    for (char *at = strstr(text, "\nMIGBUF_API"), *end; at; at = strstr(end, "\nMIGBUF_API")) {
        char *open = strchr(at, '('), *first, *comment = at;

        end = strchr(at, ';');
        ck_assert(open && end && open < end);
        *end++ = 0;
        for (first = open; first[-1] == '_' || (first[-1] >= 'a' && first[-1] <= 'z'); first--)
            ;
        snprintf(name, sizeof name, "%.*s", (int)(open - first), first);
        while (comment > text && comment[-1] && strncmp(comment, "\n/*", 3)) /* its own, if it has one */
            comment--;
        *at = 0; /* its comment ends here */
        if (!could_allocate(name, open, comment))
            continue;
        found++;
        ck_assert_msg(told(name), "%s could allocate and stands in no story", name);
    }
    return found;
}

START_TEST(nothing_is_left_out)
{
    int found = 0;

    for (const char *const *h = (const char *const[]){ "bins.h", "buffer.h", "admission.h", "disk.h", "ram.h", NULL }; *h; h++)
        found += look_through(*h);
#ifdef WITH_QMP
    for (const char *const *h = (const char *const[]){ "qmp.h", "qmp_socket.h", "report.h", NULL }; *h; h++)
        found += look_through(*h);
#endif
#ifdef WITH_LXD
    found += look_through("lxd.h");
#endif
    ck_assert_int_gt(found, 20);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        the_ledger,      the_buffer,         a_throttle, a_memory_phase, malloc_fails, nothing_is_left_out,
#ifdef WITH_QMP
        the_qmp_engine, jansson_never_starves, a_monitors_socket, the_readers,
#endif
#ifdef WITH_LXD
        a_servers_rest,
#endif
        NULL,
    };
    int status;
#ifdef WITH_QMP
    char directory[] = "/tmp/migbuf-oom-XXXXXX";

    if (!mkdtemp(directory))
        return EXIT_FAILURE;
    snprintf(monitor_path, sizeof monitor_path, "%s/qmp", directory);
#endif
#ifdef WITH_LXD
    snprintf(server_path, sizeof server_path, "%s/rest", directory);
#endif
    setvbuf(stdout, NULL, _IOLBF, 0);
    status = unit_run("oom", tests, 60);
#ifdef WITH_LXD
    unlink(server_path);
#endif
#ifdef WITH_QMP
    unlink(monitor_path);
    rmdir(directory);
#endif
    return status;
}
