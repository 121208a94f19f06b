/* SPDX-License-Identifier: MIT */
/*
 * What examples/evacuate shows and logs: the record, the terminal picture, the SVGs, the decision log. Driven by a
 * model of a host in virtual time that uses the real library, so that what is drawn could have happened.
 * EVACUATE_VIEW_KEEP names a directory where pictures are left for somebody to look at.
 */
#include "picture.h"
#include "record.h"
#include "svg.h"
#include "trace.h"
#include "unit.h"
#include <check.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MB UINT64_C(1000000)
#define CLUSTER UINT64_C(65536)
#define MODEL_VMS 16

/* ---- The model: guests grow by min(limit, wish), the link is shared evenly
 * ------------------------------------------- */

struct model_vm {
    uint64_t wish, limit; /* growth bytes/s */
    uint64_t base, left;  /* bytes of the base image; bytes of the phase still to send */
    uint64_t overlay, acked, start_ms;
    int32_t phase, paused, action, reason;
    uint32_t drains;
};

struct model {
    struct record *record;
    struct migbuf_buffer *buffer; /* NULL: nobody throttles */
    struct trace *trace;
    uint64_t omega, link, now_ms, reserve, random;
    uint32_t tick_ms, count;
    struct model_vm vm[MODEL_VMS];
};

static const char *const model_names[MODEL_VMS] = { "web-1",  "web-2",  "db-main", "mail",  "build-7", "cache",
                                                    "git",    "queue",  "db-copy", "wiki",  "logs",    "vpn",
                                                    "mon-01", "mon-02", "proxy",   "backup" };

static uint64_t model_random(struct model *m, uint64_t below)
{
    m->random = m->random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (m->random >> 33) % below;
}

static void model_new(struct model *m, uint32_t count, uint64_t omega, uint64_t link, bool throttle, const char *log)
{
    struct record_setup setup = { .omega_bytes = omega,
                                  .link_bytes_per_s = link,
                                  .seed = 7,
                                  .vm_count = count,
                                  .tick_ms = 500,
                                  .names = model_names,
                                  .policy = throttle ? "paper" : "none" };
    struct migbuf_buffer_options options;
    char error[FAIL_SIZE] = "";

    *m = (struct model){ .omega = omega, .link = link, .tick_ms = 500, .count = count, .random = 7 };
    m->record = record_new(&setup);
    ck_assert_ptr_nonnull(m->record);
    ck_assert_msg(!trace_open(log, &m->trace, error), "%s", error);
    if (throttle) {
        ck_assert_int_eq(migbuf_buffer_options_init(&options, sizeof options), 0);
        options.interval_ms = m->tick_ms;
        ck_assert_int_eq(trace_new(m->trace, omega, &options, &m->buffer), 0);
    }
    for (uint32_t i = 0; i < count; i++) {
        m->vm[i] = (struct model_vm){ .limit = MIGBUF_UNLIMITED,
                                      .base = omega / 2 + model_random(m, omega),
                                      .start_ms = i < 3 ? 1000 * i : 4000 + model_random(m, 1500) * i,
                                      .drains = 4,
                                      .wish = link / count / 2 + model_random(m, 2 * link / count) };
    }
}

static void model_free(struct model *m)
{
    char error[FAIL_SIZE] = "";

    migbuf_buffer_free(m->buffer);
    ck_assert_msg(!trace_close(m->trace, error), "%s", error);
    record_free(m->record);
}

static uint64_t model_used(const struct model *m)
{
    uint64_t used = 0;

    for (uint32_t i = 0; i < m->count; i++)
        used += m->vm[i].overlay;
    return used;
}

static bool model_active(const struct model_vm *vm)
{
    return vm->phase >= PHASE_BASE && vm->phase <= PHASE_RAM;
}

static void model_start(struct model *m, uint32_t i)
{
    const struct migbuf_geometry disk = { .virtual_bytes = 20 * m->omega,
                                          .cluster_bytes = CLUSTER,
                                          .subcluster_bytes = CLUSTER,
                                          .request_bytes = 65536,
                                          .queue_bytes = m->omega / 400 / m->count,
                                          .flags = MIGBUF_GEOMETRY_ALIGNED };
    struct model_vm *vm = &m->vm[i];
    struct migbuf_migration migration;

    if (m->buffer) {
        ck_assert_int_eq(migbuf_migration_init(&migration, sizeof migration), 0);
        migration.id = i;
        migration.link = 1;
        if (trace_add(m->trace, m->buffer, &migration, &disk, 1, NULL))
            return; /* not admitted yet */
        trace_link(m->trace, m->buffer, 1, m->link);
    }
    vm->phase = PHASE_BASE;
    vm->left = vm->base;
    vm->overlay = 4 * CLUSTER;
    record_event(m->record, m->now_ms, i, "started");
}

static void model_end(struct model *m, uint32_t i, int32_t phase, const char *text)
{
    struct model_vm *vm = &m->vm[i];

    vm->phase = phase;
    vm->overlay = 0;
    vm->paused = 0;
    vm->limit = MIGBUF_UNLIMITED;
    record_event(m->record, m->now_ms, i, "%s", text);
    if (m->buffer)
        ck_assert_int_eq(trace_remove(m->trace, m->buffer, i), 0);
}

static void model_next_phase(struct model *m, uint32_t i)
{
    struct model_vm *vm = &m->vm[i];

    if (vm->phase == PHASE_RAM) {
        model_end(m, i, PHASE_TARGET, "runs at the target");
        return;
    }
    vm->phase++;
    vm->drains--;
    vm->left = vm->phase == PHASE_MIRROR ? vm->overlay : m->omega / 8;
    record_event(m->record, m->now_ms, i, vm->phase == PHASE_MIRROR ? "mirror starts" : "mirror ready");
    if (m->buffer)
        trace_phase(m->trace, m->buffer, i, MIGBUF_PHASE_MIRROR, vm->drains);
}

/* Guests write in spells: full speed for some seconds, then a tenth. */
static uint64_t model_wish(const struct model *m, uint32_t i)
{
    uint64_t period = 9000 + 2500 * (uint64_t)i;

    return (m->now_ms + 3000 * (uint64_t)i) % period < period * 3 / 5 ? m->vm[i].wish : m->vm[i].wish / 10;
}

static uint64_t model_write(struct model *m, uint32_t i)
{
    struct model_vm *vm = &m->vm[i];
    uint64_t wish = model_wish(m, i), rate = vm->paused ? 0 : wish < vm->limit ? wish : vm->limit;
    uint64_t bytes = rate * m->tick_ms / 1000 / CLUSTER * CLUSTER, room = m->omega - model_used(m);

    if (!model_active(vm))
        return 0;
    if (bytes > room) { /* without the library: the guest gets ENOSPC */
        ck_assert_ptr_null(m->buffer);
        model_end(m, i, PHASE_FAILED, "Ω full: guest stopped");
        return 0;
    }
    vm->overlay += bytes;
    vm->acked += bytes / 4096;
    if (vm->phase != PHASE_BASE)
        vm->left += bytes;
    return rate;
}

static void model_send(struct model *m, uint32_t active)
{
    for (uint32_t i = 0; i < m->count; i++) {
        struct model_vm *vm = &m->vm[i];
        uint64_t bytes = m->link / (active ? active : 1) * m->tick_ms / 1000;

        if (!model_active(vm))
            continue;
        vm->left -= bytes < vm->left ? bytes : vm->left;
        if (!vm->left)
            model_next_phase(m, i);
    }
}

static void model_decide(struct model *m)
{
    struct migbuf_decision decision[MODEL_VMS];
    struct migbuf_buffer_stats stats = { .size = sizeof stats };
    int count;

    for (uint32_t i = 0; i < m->count; i++) {
        struct migbuf_sample s = { .id = i, .file_bytes = m->vm[i].overlay, .remaining_bytes = m->vm[i].left };

        if (model_active(&m->vm[i]))
            ck_assert_int_eq(trace_sample(m->trace, m->buffer, m->now_ms, &s, 1), 0);
    }
    count = trace_tick(m->trace, m->buffer, m->now_ms, decision, MODEL_VMS);
    ck_assert_int_ge(count, 0);
    for (int k = 0; k < count; k++) {
        struct model_vm *vm = &m->vm[decision[k].id];
        int32_t paused = decision[k].action == MIGBUF_ACTION_PAUSE || decision[k].action == MIGBUF_ACTION_CANNOT_FIT ||
                         (decision[k].action == MIGBUF_ACTION_KEEP && vm->paused);

        if (paused != vm->paused)
            record_event(m->record, m->now_ms, (uint32_t)decision[k].id, paused ? "paused" : "goes on");
        vm->paused = paused;
        vm->limit = decision[k].growth_bytes_per_s;
        vm->action = decision[k].action;
        vm->reason = decision[k].reason;
    }
    ck_assert_int_eq(migbuf_buffer_stats(m->buffer, &stats), 0);
    m->reserve = stats.reserve_bytes;
}

static uint32_t model_progress(const struct model *m, const struct model_vm *vm)
{
    uint64_t whole = vm->phase == PHASE_BASE ? vm->base : vm->phase == PHASE_MIRROR ? vm->overlay : m->omega / 8;

    if (!model_active(vm))
        return vm->phase == PHASE_TARGET ? 1000 : 0;
    return whole > vm->left ? (uint32_t)((whole - vm->left) * 1000 / whole) : 0;
}

/* One tick. Returns false when everybody has ended. */
static bool model_step(struct model *m)
{
    struct frame_vm vms[MODEL_VMS];
    struct frame frame = { .t_ms = m->now_ms, .link_bytes_per_s = m->link, .vm = vms };
    uint32_t active = 0, ended = 0;
    uint64_t rate[MODEL_VMS];

    for (uint32_t i = 0; i < m->count; i++) {
        if (m->vm[i].phase == PHASE_WAITING && m->now_ms >= m->vm[i].start_ms)
            model_start(m, i);
    }
    if (m->buffer)
        model_decide(m);
    for (uint32_t i = 0; i < m->count; i++) {
        rate[i] = model_write(m, i);
        active += model_active(&m->vm[i]);
        ended += m->vm[i].phase > PHASE_RAM;
    }
    for (uint32_t i = 0; i < m->count; i++) {
        const struct model_vm *vm = &m->vm[i];

        vms[i] = (struct frame_vm){ .overlay_bytes = vm->overlay,
                                    .limit_bytes_per_s = vm->limit,
                                    .guest_bytes_per_s = rate[i],
                                    .acked = vm->acked,
                                    .progress_permille = model_progress(m, vm),
                                    .phase = vm->phase,
                                    .paused = vm->paused,
                                    .action = vm->action,
                                    .reason = vm->reason };
    }
    frame.used_bytes = model_used(m);
    frame.reserve_bytes = m->reserve;
    ck_assert_uint_le(frame.used_bytes, m->omega);
    ck_assert_int_eq(record_add(m->record, &frame), 0);
    model_send(m, active);
    m->now_ms += m->tick_ms;
    return ended < m->count && m->record->frame_count < 20000;
}

static void model_run(struct model *m)
{
    while (model_step(m))
        ;
}

/* ---- Help
 * ------------------------------------------------------------------------------------------------------------ */

static char directory[64];

static void setup(void)
{
    snprintf(directory, sizeof directory, "/tmp/migbuf-view-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(directory));
}

static const char *log_path(void)
{
    static char path[96];

    snprintf(path, sizeof path, "%s/run.jsonl", directory);
    return path;
}

static void teardown(void)
{
    unlink(log_path());
    rmdir(directory);
}

static char *read_all(const char *path)
{
    FILE *file = fopen(path, "r");
    char *text = NULL;
    size_t room = 0;

    ck_assert_ptr_nonnull(file);
    ck_assert_int_gt(getdelim(&text, &room, 0, file), 0);
    fclose(file);
    return text;
}

static void write_all(const char *path, const char *text, size_t bytes)
{
    FILE *file = fopen(path, "w");

    ck_assert_ptr_nonnull(file);
    ck_assert_uint_eq(fwrite(text, 1, bytes, file), bytes);
    ck_assert_int_eq(fclose(file), 0);
}

/* What trace_replay() says about a log; the caller frees it. */
static char *replay_says(int expected)
{
    char *text = NULL;
    size_t bytes = 0;
    FILE *out = open_memstream(&text, &bytes);
    int verdict = trace_replay(log_path(), out);

    fclose(out);
    ck_assert_msg(verdict == expected, "%d: %s", verdict, text);
    ck_assert_msg(strchr(text, '\n') == text + bytes - 1, "one line: %s", text);
    return text;
}

static void ck_says(int expected, const char *part)
{
    char *text = replay_says(expected);

    ck_assert_msg(strstr(text, part) != NULL, "no \"%s\" in: %s", part, text);
    free(text);
}

/* Where line `number` (from 1) begins. */
static char *line_at(char *text, size_t number)
{
    while (--number) {
        text = strchr(text, '\n');
        ck_assert_ptr_nonnull(text);
        text++;
    }
    return text;
}

static size_t line_of(const char *text, const char *at)
{
    size_t number = 1;

    for (; text < at; text++)
        number += *text == '\n';
    return number;
}

/* ---- The decision log
 * ------------------------------------------------------------------------------------------------- */

/* 4 VMs, from the first to the last. */
static void record_run(void)
{
    struct model m;

    model_new(&m, 4, 400 * MB, 40 * MB, true, log_path());
    model_run(&m);
    ck_assert_uint_gt(m.record->frame_count, 50);
    model_free(&m);
}

START_TEST(replay_of_a_run_is_identical)
{
    char *text;

    record_run();
    text = replay_says(0);
    ck_assert_msg(strstr(text, "identical") != NULL, "%s", text);
    free(text);
}
END_TEST

START_TEST(calls_the_library_refuses_are_replayed_too)
{
    const struct migbuf_geometry disk = { .virtual_bytes = 1 << 30,
                                          .cluster_bytes = CLUSTER,
                                          .subcluster_bytes = CLUSTER,
                                          .block_bytes = 4096,
                                          .request_bytes = CLUSTER,
                                          .queue_bytes = MIGBUF_NONE,
                                          .extra_bytes = MIGBUF_NONE };
    struct migbuf_migration m;
    struct migbuf_decision decision[2];
    struct migbuf_sample sample = { .id = UINT64_MAX, .file_bytes = UINT64_MAX };
    struct migbuf_error detail = { 0 };
    struct migbuf_buffer *b;
    struct trace *t;
    char error[FAIL_SIZE] = "";

    ck_assert_int_eq(trace_open(log_path(), &t, error), 0);
    ck_assert_int_eq(trace_new(t, UINT64_MAX, NULL, &b), MIGBUF_E_RANGE);
    ck_assert_int_eq(trace_new(t, 100 * MB, NULL, &b), 0);
    migbuf_migration_init(&m, sizeof m);
    m.id = UINT64_MAX;
    m.link = UINT64_C(0x8000000000000001);
    ck_assert_int_eq(trace_add(t, b, &m, &disk, 1, &detail), 0);
    ck_assert_int_eq(trace_add(t, b, &m, &disk, 1, &detail), MIGBUF_E_EXISTS);
    m.id = 5;
    m.file_bytes = 200 * MB;
    ck_assert_int_eq(trace_add(t, b, &m, &disk, 1, &detail), MIGBUF_E_NOSPACE);
    ck_assert_uint_gt(detail.need, detail.have);
    ck_assert_int_lt(trace_sample(t, b, 0, &sample, 1), 0);
    sample.file_bytes = 10 * MB;
    ck_assert_int_eq(trace_sample(t, b, 0, &sample, 1), 0);
    ck_assert_int_eq(trace_link(t, b, m.link, 12345), 0);
    ck_assert_int_eq(trace_link(t, b, 3, 12345), MIGBUF_E_NOTFOUND);
    ck_assert_int_eq(trace_tick(t, b, 1000, decision, 0), MIGBUF_E_RANGE);
    ck_assert_int_eq(trace_tick(t, b, 1000, decision, 2), 1);
    ck_assert_int_eq(trace_outcome(t, b, UINT64_MAX, MIGBUF_OUTCOME_REFUSED), 1);
    ck_assert_int_eq(trace_tick(t, b, 999, decision, 2), MIGBUF_E_CLOCK);
    ck_assert_int_eq(trace_tick(t, b, 1001, decision, SIZE_MAX), 1);
    ck_assert_int_eq(trace_weight(t, b, UINT64_MAX, 0), MIGBUF_E_RANGE);
    ck_assert_int_eq(trace_weight(t, b, UINT64_MAX, 7), 0);
    ck_assert_int_eq(trace_phase(t, b, UINT64_MAX, -7, 1), MIGBUF_E_INVALID);
    ck_assert_int_eq(trace_phase(t, b, UINT64_MAX, MIGBUF_PHASE_MIRROR, 1), 0);
    ck_assert_int_eq(trace_resize(t, b, 1, &detail), MIGBUF_E_IN_USE);
    ck_assert_int_eq(trace_resize(t, b, 2000 * MB, &detail), 0);
    ck_assert_int_eq(trace_tick(t, b, 1, NULL, 2), MIGBUF_E_INVALID); /* passed on, not logged */
    ck_assert_int_eq(trace_remove(t, b, 77), MIGBUF_E_NOTFOUND);
    ck_assert_int_eq(trace_remove(t, b, UINT64_MAX), 0);
    migbuf_buffer_free(b);
    ck_assert_msg(!trace_close(t, error), "%s", error);
    ck_says(0, "22 calls, 2 decisions, identical");
}
END_TEST

/* Puts `digit` where the last digit of `name`'s number stands, in the first line from the middle on that has it. */
static size_t tamper(char *text, const char *name)
{
    char *at = strstr(text + strlen(text) / 2, name);

    ck_assert_ptr_nonnull(at);
    at += strlen(name);
    while (at[1] >= '0' && at[1] <= '9')
        at++;
    *at = *at == '9' ? '1' : (char)(*at + 1);
    return line_of(text, at);
}

START_TEST(tampered_decision_is_named)
{
    static const char *const names[] = { "\"growth_bytes_per_s\":", "\"reason\":", "\"action\":", "\"limits.iops_wr\":",
                                         "\"rc\":" };
    char expected[64], *text;
    size_t number;

    record_run();
    text = read_all(log_path());
    number = tamper(text, names[_i]);
    write_all(log_path(), text, strlen(text));
    free(text);
    snprintf(expected, sizeof expected, "first difference at line %zu: ", number);
    ck_says(1, expected);
    if (_i < 4) { /* its name without the quotes */
        snprintf(expected, sizeof expected, "%.*s", (int)strlen(names[_i]) - 3, names[_i] + 1);
        ck_says(1, expected);
        ck_says(1, "tick at ");
        ck_says(1, ", id ");
    }
}
END_TEST

START_TEST(missing_call_is_a_difference)
{
    char *text, *line;

    record_run();
    text = read_all(log_path());
    line = strstr(text, "{\"call\":\"add\"");
    ck_assert_ptr_nonnull(line);
    memmove(line, strchr(line, '\n') + 1, strlen(strchr(line, '\n') + 1) + 1);
    write_all(log_path(), text, strlen(text));
    free(text);
    ck_says(1,
            "1 calls, 0 decisions alike, first difference at line 3: link: returned 0 (success) was recorded, now it "
            "is -5 (");
}
END_TEST

/* A buffer saved by one process and loaded by the next goes on in a log of its own. */
START_TEST(restart_is_replayed)
{
    const struct migbuf_limits limits = { .iops_wr = 3, .iops_size = CLUSTER };
    struct migbuf_decision decision[MODEL_VMS];
    struct migbuf_buffer *b;
    struct model m;
    struct trace *t;
    char saved[8192], error[FAIL_SIZE] = "";
    size_t length;

    model_new(&m, 4, 400 * MB, 40 * MB, true, NULL);
    for (int i = 0; i < 40; i++)
        ck_assert(model_step(&m));
    ck_assert_int_eq(migbuf_buffer_save(m.buffer, saved, sizeof saved, &length), 0);
    model_free(&m);
    ck_assert_int_eq(trace_open(log_path(), &t, error), 0);
    ck_assert_int_eq(trace_load(t, "\xff", 1, 0, &b), MIGBUF_E_PROTOCOL);
    ck_assert_int_eq(trace_load(t, saved, length, 100, &b), 0);
    ck_assert_int_eq(trace_found(t, b, 0, NULL, 1), 0);
    ck_assert_int_eq(trace_found(t, b, 1, &limits, 0), 0);
    ck_assert_int_eq(trace_found(t, b, 99, &limits, 0), MIGBUF_E_NOTFOUND);
    ck_assert_int_gt(trace_tick(t, b, 100, decision, MODEL_VMS), 1);
    migbuf_buffer_free(b);
    ck_assert_int_eq(trace_close(t, error), 0);
    ck_says(0, "identical");
}
END_TEST

START_TEST(bad_files_are_refused_with_a_line_number)
{
    static const struct {
        const char *line, *says;
    } bad[] = {
        { "garbage\n", "line 3: not JSON: " },
        { "\n", "line 3: not JSON: " },
        { "[1,2]\n", "line 3: no \"call\"" },
        { "\xff\xfe\n", "line 3: not JSON: " },
        { "{\"call\":\"dance\",\"rc\":0}\n", "line 3: unknown call \"dance\"" },
        { "{\"call\":\"remove\",\"rc\":0}\n", "line 3: no \"id\"" },
        { "{\"call\":\"remove\",\"id\":-1,\"rc\":0}\n", "line 3: \"id\" is no number that fits" },
        { "{\"call\":\"remove\",\"id\":1.5,\"rc\":0}\n", "line 3: \"id\" is no number that fits" },
        { "{\"call\":\"remove\",\"id\":\"18446744073709551616\",\"rc\":0}\n", "line 3: \"id\" is no number that fits" },
        { "{\"call\":\"remove\",\"id\":1}\n", "line 3: no \"rc\"" },
        { "{\"call\":\"weight\",\"id\":0,\"weight\":4294967296,\"rc\":0}\n",
          "line 3: \"weight\" is no number that fits" },
        { "{\"call\":\"add\",\"rc\":0}\n", "line 3: no migbuf_migration where one should be" },
        { "{\"call\":\"sample\",\"now_ms\":0,\"rc\":0}\n", "line 3: no \"samples\"" },
        { "{\"call\":\"sample\",\"now_ms\":0,\"samples\":[{}],\"rc\":0}\n", "line 3: no \"id\"" },
        { "{\"call\":\"tick\",\"now_ms\":0,\"capacity\":9,\"decisions\":[1],\"rc\":0}\n",
          "line 3: no migbuf_decision where one should be" },
        { "{\"call\":\"tick\",\"now_ms\":0,\"capacity\":9,\"rc\":0}\n", "line 3: no \"decisions\"" },
    };
    static const char start[] = "{\"call\":\"open\",\"trace\":1,\"migbuf\":\"0.1.0\"}\n"
                                "{\"call\":\"new\",\"capacity_bytes\":1000000,\"options\":null,\"rc\":0}\n";
    char text[512];
    int bytes = snprintf(text, sizeof text, "%s%s", start, bad[_i].line);

    write_all(log_path(), text, (size_t)bytes);
    ck_says(-1, bad[_i].says);
    write_all(log_path(), start, strlen(start));
    ck_says(0, "1 calls, 0 decisions, identical");
}
END_TEST

START_TEST(files_that_are_no_log_are_refused)
{
    static const char before[] = "{\"call\":\"open\",\"trace\":1}\n{\"call\":\"remove\",\"id\":1,\"rc\":0}\n";

    ck_says(-1, "cannot be read: No such file");
    write_all(log_path(), "", 0);
    ck_says(-1, "the file is empty");
    write_all(log_path(), "{\"a\":1}\n", 8);
    ck_says(-1, "line 1: not a decision log");
    write_all(log_path(), "{\"call\":\"open\",\"trace\":2}\n", 26);
    ck_says(-1, "line 1: format 2, this program reads 1");
    write_all(log_path(), before, sizeof before - 1);
    ck_says(-1, "line 2: \"remove\" before a \"new\" that worked");
    unlink(log_path());
    ck_assert_int_eq(mkdir(log_path(), 0700), 0);
    ck_says(-1, "cannot be read");
    rmdir(log_path());
}
END_TEST

/* Cut anywhere, a log is never taken for another run and never read beyond its end. */
START_TEST(cut_log_is_refused)
{
    char *text, *line, expected[48];
    size_t end;

    record_run();
    text = read_all(log_path());
    line = line_at(text, 12);
    end = (size_t)(strchr(line, '\n') - text);
    for (size_t cut = (size_t)(line - text) + 1; cut <= end; cut++) {
        write_all(log_path(), text, cut);
        snprintf(expected, sizeof expected, "line 12: cut off");
        ck_says(-1, expected);
    }
    write_all(log_path(), text, end + 1);
    ck_says(0, "11 calls");
    free(text);
}
END_TEST

/* One byte changed anywhere: another verdict or none, but never a crash. */
START_TEST(changed_bytes_do_no_harm)
{
    char *text, *copy;
    size_t bytes;

    record_run();
    text = read_all(log_path());
    bytes = (size_t)(line_at(text, 20) - text);
    copy = malloc(bytes);
    ck_assert_ptr_nonnull(copy);
    for (size_t i = 0; i < bytes; i += 7) {
        char *says = NULL;
        size_t room = 0;
        FILE *out = open_memstream(&says, &room);

        memcpy(copy, text, bytes);
        copy[i] = (char)(copy[i] ^ (1 << (i % 7)));
        write_all(log_path(), copy, bytes);
        ck_assert_int_ge(trace_replay(log_path(), out), -1);
        fclose(out);
        ck_assert_uint_gt(room, 0);
        free(says);
    }
    free(copy);
    free(text);
}
END_TEST

START_TEST(log_that_cannot_be_written_tells_at_the_end)
{
    struct migbuf_buffer *b;
    struct trace *t;
    char error[FAIL_SIZE] = "";

    ck_assert_int_eq(trace_open("/nowhere/at/all", &t, error), -1);
    ck_assert_msg(strstr(error, "/nowhere/at/all") != NULL, "%s", error);
    ck_assert_int_eq(trace_open("/dev/full", &t, error), 0);
    ck_assert_int_eq(trace_new(t, 100 * MB, NULL, &b), 0);
    migbuf_buffer_free(b);
    ck_assert_int_eq(trace_close(t, error), -1);
    ck_assert_msg(strstr(error, "No space left") != NULL, "%s", error);
    ck_assert_int_eq(trace_close(NULL, error), 0);
}
END_TEST

/* ---- The record
 * ------------------------------------------------------------------------------------------------------- */

START_TEST(record_keeps_what_it_is_told)
{
    struct record_setup setup = { .omega_bytes = 10, .vm_count = 2 };
    struct frame_vm vms[2] = { { .overlay_bytes = 1 }, { .overlay_bytes = 2 } };
    struct frame frame = { .t_ms = 5, .used_bytes = 3, .vm = vms };
    struct record *r = record_new(&setup);

    ck_assert_str_eq(r->names[1], "vm1");
    ck_assert_ptr_null(record_last(r));
    ck_assert_ptr_null(record_peak(r));
    ck_assert_int_eq(record_left_ms(r, 0), -1);
    for (uint64_t i = 0; i < 1000; i++) {
        frame.t_ms = i * 10;
        frame.used_bytes = i == 500 ? 9 : i % 3;
        ck_assert_int_eq(record_add(r, &frame), 0);
        ck_assert_int_eq(record_event(r, i, (uint32_t)(i % 3), "event %d", (int)i), 0);
    }
    frame.t_ms = 3; /* backwards: counts as now */
    vms[1].overlay_bytes = 77;
    ck_assert_int_eq(record_add(r, &frame), 0);
    ck_assert_uint_eq(record_last(r)->t_ms, 9990);
    ck_assert_uint_eq(record_last(r)->vm[1].overlay_bytes, 77);
    ck_assert_uint_eq(r->frames[0].vm[1].overlay_bytes, 2);
    ck_assert_uint_eq(record_peak(r)->t_ms, 5000);
    ck_assert_str_eq(r->events[999].text, "event 999");
    record_free(r);
    record_free(NULL);
    setup.vm_count = 0;
    ck_assert_ptr_null(record_new(&setup));
}
END_TEST

START_TEST(time_left_follows_the_last_seconds_of_the_phase)
{
    struct record_setup setup = { .omega_bytes = 10, .vm_count = 1 };
    struct frame_vm vm = { .phase = PHASE_BASE };
    struct frame frame = { .vm = &vm };
    struct record *r = record_new(&setup);

    for (uint64_t s = 0; s <= 60; s++) { /* 1 % a second, after 30 s 0.5 % */
        frame.t_ms = s * 1000;
        vm.progress_permille = s < 30 ? (uint32_t)s * 10 : 300 + (uint32_t)(s - 30) * 5;
        record_add(r, &frame);
    }
    ck_assert_int_eq(record_left_ms(r, 0), (1000 - 450) / 5 * 1000);
    vm.phase = PHASE_MIRROR;
    frame.t_ms += 1000;
    record_add(r, &frame);
    ck_assert_int_eq(record_left_ms(r, 0), -1);
    record_free(r);
}
END_TEST

START_TEST(numbers_are_readable)
{
    char text[HUMAN_SIZE];

    ck_assert_str_eq(human_bytes(0, text), "0 B");
    ck_assert_str_eq(human_bytes(999, text), "999 B");
    ck_assert_str_eq(human_bytes(1000, text), "1.00 kB");
    ck_assert_str_eq(human_bytes(9994, text), "9.99 kB");
    ck_assert_str_eq(human_bytes(9996, text), "10.0 kB");
    ck_assert_str_eq(human_bytes(999499, text), "999 kB");
    ck_assert_str_eq(human_bytes(999500, text), "1.00 MB");
    ck_assert_str_eq(human_bytes(UINT64_MAX, text), "18.4 EB");
    ck_assert_str_eq(human_rate(12500000, text), "12.5 MB/s");
    ck_assert_str_eq(human_rate(UINT64_MAX, text), "none");
    ck_assert_str_eq(human_rate(UINT64_MAX - 1, text), "18.4 EB/s");
    ck_assert_str_eq(human_time(-1, text), "-");
    ck_assert_str_eq(human_time(61499, text), "1:01");
    ck_assert_str_eq(human_time(3723000, text), "1:02:03");
    ck_assert_int_eq(vm_letter(25), 'Z');
    ck_assert_int_eq(vm_letter(26), 'a');
    ck_assert_int_eq(vm_letter(1000), '+');
    ck_assert_str_eq(phase_text(-1), "unknown");
    ck_assert_str_eq(reason_word(99), "unknown");
}
END_TEST

/* Whatever the library may decide for is told, in ten letters or in its own words; and every phase has a name. */
START_TEST(every_reason_has_a_word)
{
    int32_t reason = 1;

    ck_assert_str_eq(reason_word(0), "");
    for (; strcmp(migbuf_reason_text(reason), "unknown"); reason++)
        ck_assert_msg(strcmp(reason_word(reason), "unknown") && *reason_word(reason), "reason %d", reason);
    ck_assert_int_gt(reason, MIGBUF_REASON_FREE);
    for (int32_t phase = 0; phase < PHASE_COUNT; phase++)
        ck_assert_str_ne(phase_text(phase), "unknown");
    ck_assert(phase_is_active(PHASE_BASE) && phase_is_active(PHASE_BACK) && !phase_is_active(PHASE_WAITING) &&
              !phase_is_active(PHASE_TARGET) && !phase_is_active(PHASE_REVERTED));
}
END_TEST

/* ---- Pictures
 * --------------------------------------------------------------------------------------------------------- */

/* Every element closed by its own name, in order; no "nan" or "inf" as a number; less than 200 kB. */
static void ck_svg(const char *svg)
{
    char stack[32][16];
    size_t depth = 0;

    ck_assert_msg(!strncmp(svg, "<svg ", 5), "%.40s", svg);
    for (const char *at = svg; (at = strchr(at, '<')); at++) {
        size_t name = strcspn(at + 1, " />\n"), end = strcspn(at, ">");

        ck_assert_int_eq(at[end], '>');
        ck_assert_msg(!memchr(at + 1, '<', end - 1), "unescaped <: %.60s", at);
        if (at[1] == '/') {
            ck_assert_uint_gt(depth, 0);
            depth--;
            ck_assert_msg(!strncmp(stack[depth], at + 2, strlen(stack[depth])), "%s ended by %.20s", stack[depth], at);
        } else if (at[end - 1] != '/') {
            ck_assert_uint_lt(depth, 32);
            snprintf(stack[depth++], sizeof *stack, "%.*s", (int)name, at + 1);
        }
    }
    ck_assert_uint_eq(depth, 0);
    ck_assert_ptr_null(strcasestr(svg, "\"nan"));
    ck_assert_ptr_null(strcasestr(svg, "\"inf"));
    ck_assert_ptr_null(strcasestr(svg, " nan"));
    ck_assert_ptr_null(strcasestr(svg, "-nan"));
    ck_assert_ptr_null(strcasestr(svg, " inf "));
    ck_assert_ptr_null(strcasestr(svg, "-inf"));
    ck_assert_msg(strlen(svg) < 200000, "%zu bytes", strlen(svg));
}

struct label {
    char text[80];
    double left, right, top, bottom;
};

static double attribute(const char *tag, const char *name, double otherwise)
{
    char wanted[32];
    const char *at;

    snprintf(wanted, sizeof wanted, " %s=\"", name);
    at = strstr(tag, wanted);
    return at && at < strchr(tag, '>') ? strtod(at + strlen(wanted), NULL) : otherwise;
}

/* The words of an element without what marks them up, and about how wide they are: more than half their height each. */
static struct label read_label(const char *tag)
{
    const char *anchor = strstr(tag, "text-anchor=\""), *end = strstr(tag, "</text>");
    double x = attribute(tag, "x", 0), y = attribute(tag, "y", 0), size = attribute(tag, "font-size", 0), width = 0;
    struct label l = { .text = "" };
    size_t n = 0;

    ck_assert(end && size > 0);
    for (const char *at = strchr(tag, '>'); at < end; at++) {
        if (*at == '>')
            at += strcspn(at + 1, "<") ? 0 : strcspn(at + 1, ">");
        else if (*at == '<')
            at += strcspn(at, ">") - 1;
        else if (n + 1 < sizeof l.text)
            l.text[n++] = *at;
        width += *at != '>' && ((unsigned char)*at & 0xc0) != 0x80 ? 0.55 * size : 0;
    }
    if (anchor && anchor < strchr(tag, '>') && anchor[13] == 'e')
        x -= width;
    else if (anchor && anchor < strchr(tag, '>') && anchor[13] == 'm')
        x -= width / 2;
    l.left = x, l.right = x + width, l.top = y - 0.72 * size, l.bottom = y + 0.1 * size;
    return l;
}

/* No words lie on others, or outside the picture. */
static void ck_labels(const char *svg)
{
    static struct label label[2000];
    size_t count = 0;

    for (const char *at = svg; (at = strstr(at, "<text ")) && count < sizeof label / sizeof *label; at++)
        label[count++] = read_label(at);
    for (size_t i = 0; i < count; i++) {
        const struct label *a = &label[i];

        ck_assert_msg(a->left > -1 && a->right < 831, "\"%s\" ends at %.0f", a->text, a->right);
        for (const struct label *b = label; b < a; b++)
            ck_assert_msg(a->right <= b->left || b->right <= a->left || a->bottom <= b->top || b->bottom <= a->top,
                          "\"%s\" lies on \"%s\", at %.0f %.0f", a->text, b->text, a->left, a->bottom);
    }
}

static void keep(const char *name, const char *text)
{
    const char *where = getenv("EVACUATE_VIEW_KEEP");
    char path[256];

    if (!where)
        return;
    snprintf(path, sizeof path, "%s/%s", where, name);
    write_all(path, text, strlen(text));
}

static char *timeline_of(const struct record *record, const struct record *other)
{
    char *text = NULL;
    size_t bytes = 0;
    FILE *out = open_memstream(&text, &bytes);

    ck_assert_int_eq(other ? svg_contrast(record, other, out) : svg_timeline(record, out), 0);
    fclose(out);
    ck_svg(text);
    ck_labels(text);
    return text;
}

static char *sheet_of(const struct model *m, struct picture_style style)
{
    struct migbuf_shard shards[MODEL_VMS * MODEL_VMS];
    struct migbuf_bin bins[MODEL_VMS];
    const struct migbuf_bins *ledger = m->buffer ? migbuf_buffer_bins(m->buffer) : NULL;
    int bin_count = ledger ? migbuf_bins_list(ledger, bins, MODEL_VMS) : 0;
    int shard_count = ledger ? migbuf_bins_shards(ledger, shards, MODEL_VMS * MODEL_VMS) : 0;
    char *text = NULL;
    size_t bytes = 0;
    FILE *out = open_memstream(&text, &bytes);
    uint32_t lines;

    ck_assert_int_ge(bin_count, 0);
    ck_assert_int_le(shard_count, MODEL_VMS * MODEL_VMS);
    lines = picture_write(out, &style, m->record, bins, (size_t)bin_count, shards, (size_t)shard_count);
    fclose(out);
    ck_assert_uint_lt(lines, style.rows);
    return text;
}

/* Columns of one line: characters, escape sequences left out. */
static void ck_width(const char *text, uint32_t columns, bool colour, bool utf8)
{
    uint32_t width = 0;

    for (const char *at = text; *at; at++) {
        if (*at == '\n') {
            ck_assert_uint_le(width, columns);
            width = 0;
        } else if (*at == '\033') {
            ck_assert(colour);
            at = strchr(at, 'm');
            ck_assert_ptr_nonnull(at);
        } else {
            ck_assert(utf8 || (unsigned char)*at < 0x80);
            width += ((unsigned char)*at & 0xc0) != 0x80;
        }
    }
    ck_assert_uint_eq(width, 0);
}

static void ck_sheet(const struct model *m, struct picture_style style)
{
    char *text = sheet_of(m, style);

    ck_width(text, style.columns, style.colour, style.utf8);
    free(text);
}

START_TEST(picture_fits_every_terminal)
{
    static const uint32_t counts[] = { 1, 4, 8, 16 };
    struct model m;

    model_new(&m, counts[_i / 2], 400 * MB, 40 * MB, _i % 2, NULL);
    do {
        for (uint32_t columns = 60; columns <= 160; columns += 17)
            for (uint32_t rows = 8; rows <= 50; rows += 7)
                ck_sheet(&m, (struct picture_style){ columns, rows, rows % 3, columns % 2 });
        for (int k = 0; k < 40 && model_step(&m); k++)
            ;
    } while (model_step(&m));
    model_free(&m);
}
END_TEST

START_TEST(picture_shows_everybody_without_colour)
{
    struct model m;
    char *text, row[32];

    model_new(&m, 16, 400 * MB, 100 * MB, true, NULL);
    for (int k = 0; k < 60; k++)
        ck_assert(model_step(&m));
    text = sheet_of(&m, (struct picture_style){ 80, 24, false, false });
    for (uint32_t i = 0; i < 16; i++) {
        snprintf(row, sizeof row, "\n%c %s", vm_letter(i), m.record->names[i]);
        ck_assert_msg(strstr(text, row) != NULL, "no line of %s in\n%s", m.record->names[i], text);
    }
    keep("picture-16.txt", text);
    free(text);
    text = sheet_of(&m, (struct picture_style){ 80, 16, false, false });
    ck_assert_msg(strstr(text, " more: ") != NULL, "%s", text);
    free(text);
    model_free(&m);
}
END_TEST

START_TEST(pipe_gets_plain_lines)
{
    char *text = NULL, *lines, line_start[] = "\n0:03  used ";
    size_t bytes = 0, count = 0;
    FILE *out = tmpfile();
    struct picture *p = picture_new(out);
    struct model m;

    model_new(&m, 2, 400 * MB, 40 * MB, true, NULL);
    picture_draw(p, m.record, NULL, true); /* nothing yet: nothing */
    for (int k = 0; k < 20; k++) {
        model_step(&m);
        picture_draw(p, m.record, migbuf_buffer_bins(m.buffer), false);
    }
    picture_say(p, "a word");
    picture_end();
    picture_free(p);
    rewind(out);
    ck_assert_int_gt(getdelim(&text, &bytes, 0, out), 0);
    ck_assert_ptr_null(strchr(text, '\033'));
    ck_assert_ptr_nonnull(strstr(text, "0:01  B web-2: started\n"));
    ck_assert_ptr_nonnull(strstr(text, "A web-1: phase base copy\n"));
    ck_assert_ptr_nonnull(strstr(text, "\na word\n"));
    ck_assert_ptr_nonnull(strstr(text, line_start));
    for (lines = text; (lines = strstr(lines, "  used ")); lines++)
        count++;
    ck_assert_uint_eq(count, 10); /* 20 ticks of half a second */
    fclose(out);
    free(text);
    model_free(&m);
}
END_TEST

/* Somebody's memory is sent: pictures tell what is left, how fast it goes, and what was done to the guest for it. */
START_TEST(memory_on_its_way_is_seen)
{
    static const char told[] = "12.5 MB of memory left, 8.00 MB/s, throttle 80 %, stop up to 500 ms";
    char *text = NULL;
    size_t bytes = 0;
    FILE *out = tmpfile();
    struct picture *p;
    struct model m;

    model_new(&m, 4, 400 * MB, 100 * MB, true, NULL);
    for (int k = 0; k < 40; k++) {
        struct frame_vm *vm;

        model_step(&m);
        vm = m.record->frames[m.record->frame_count - 1].vm;
        if (k >= 30)
            vm[1].ram = k < 35 ? FRAME_RAM_RUNS : FRAME_RAM_THERE, vm[1].ram_left_bytes = 12500000, vm[1].ram_bytes_per_s = 8000000,
            vm[1].ram_throttle_percent = 80, vm[1].ram_limit_ms = 500, vm[1].phase = PHASE_RAM;
    }
    p = picture_new(out);
    picture_draw(p, m.record, NULL, true);
    picture_free(p);
    rewind(out);
    ck_assert_int_gt(getdelim(&text, &bytes, 0, out), 0);
    ck_assert_msg(strstr(text, "| B RAM") && strstr(text, told) && strstr(text, ", the guest is there"), "%s", text);
    fclose(out);
    free(text);
    text = sheet_of(&m, (struct picture_style){ 80, 24, false, false });
    ck_assert_msg(strstr(text, told) != NULL && strstr(text, "\n    12.5 MB") > strstr(text, "\nB web-2"), "%s", text);
    free(text);
    for (uint32_t rows = 8; rows < 20; rows++)
        ck_sheet(&m, (struct picture_style){ 60, rows, true, true });
    text = timeline_of(m.record, NULL);
    ck_assert(strstr(text, ">Memory still to be sent<") && strstr(text, ">Memory sent<") && strstr(text, ">CPU throttle of each guest<") &&
              strstr(text, ">Longest stop that is allowed<"));
    keep("memory.svg", text);
    free(text);

    /* All of it within one look: four panels would be empty. */
    for (size_t i = 0; i < m.record->frame_count; i++)
        if (i != 32)
            m.record->frames[i].vm[1].ram = 0;
    text = timeline_of(m.record, NULL);
    ck_assert(!strstr(text, "Memory still to be sent"));
    free(text);
    for (size_t i = 0; i < m.record->frame_count; i++)
        m.record->frames[i].vm[1].ram = FRAME_RAM_NONE;
    text = timeline_of(m.record, NULL); /* nothing of it where there is none */
    ck_assert_ptr_null(strstr(text, "Memory"));
    free(text);
    model_free(&m);
}
END_TEST

/* Ω far too small for so many: the library pauses guests. Nobody is lost all the same. */
START_TEST(timeline_with_pauses)
{
    struct model m;
    char *text;
    uint32_t paused = 0;

    model_new(&m, 16, 60 * MB, 10 * MB, true, NULL);
    model_run(&m);
    for (size_t i = 0; i < m.record->frame_count; i++)
        for (uint32_t k = 0; k < 16; k++)
            paused += m.record->frames[i].vm[k].paused != 0;
    ck_assert_uint_gt(paused, 0);
    text = timeline_of(m.record, NULL);
    ck_assert_ptr_nonnull(strstr(text, ">paused</text>"));
    keep("pauses-16.svg", text);
    free(text);
    model_free(&m);
}
END_TEST

START_TEST(timeline_of_a_run)
{
    static const uint32_t counts[] = { 1, 4, 16 };
    struct model with, without;
    char *text, name[32];

    model_new(&with, counts[_i], 2000 * MB, 120 * MB, true, NULL);
    model_new(&without, counts[_i], 2000 * MB, 120 * MB, false, NULL);
    model_run(&with);
    model_run(&without);
    text = timeline_of(with.record, NULL);
    ck_assert_ptr_nonnull(strstr(text, "prefers-color-scheme"));
    ck_assert_ptr_nonnull(strstr(text, "web-1"));
    ck_assert_ptr_nonnull(strstr(text, "peak "));
    snprintf(name, sizeof name, "timeline-%u.svg", counts[_i]);
    keep(name, text);
    free(text);
    text = timeline_of(with.record, without.record);
    snprintf(name, sizeof name, "contrast-%u.svg", counts[_i]);
    keep(name, text);
    free(text);
    model_free(&without);
    model_free(&with);
}
END_TEST

/* All guests end with the same limit, at the same time and in the last frames; and they go back. */
START_TEST(timeline_of_equals)
{
    struct record_setup setup = { .omega_bytes = 100 * MB, .vm_count = (uint32_t)_i + 1 };
    struct frame_vm vms[8];
    struct frame frame = { .used_bytes = 60 * MB, .vm = vms };
    struct record *r = record_new(&setup);
    char *text;

    for (uint64_t s = 0; s < 60; s++) {
        for (uint32_t k = 0; k < 8; k++)
            vms[k] = (struct frame_vm){ .overlay_bytes = 6 * MB,
                                        .limit_bytes_per_s = s < 40 ? MB + s : 100 * MB,
                                        .phase = s < 50 ? PHASE_BASE : s < 58 ? PHASE_BACK : PHASE_REVERTED };
        frame.t_ms = s * 1000 + 20000;
        ck_assert_int_eq(record_add(r, &frame), 0);
    }
    text = timeline_of(r, NULL);
    ck_assert(strstr(text, ">way back<") && strstr(text, ">reverted<") && !strstr(text, ">failed<"));
    ck_assert_ptr_nonnull(strstr(text, ">before the restart<"));
    for (char letter = 'A'; letter <= 'A' + _i; letter++) { /* each at its line's end, besides at its band and area */
        char tag[16];
        int found = 0;

        snprintf(tag, sizeof tag, ">%c</text>", letter);
        for (const char *at = text; (at = strstr(at, tag)); at++)
            found++;
        ck_assert_int_eq(found, 3);
    }
    keep("equals.svg", text);
    free(text);
    record_free(r);
}
END_TEST

/* The worst for the size: everything of everybody changes at every tick, for hours, under the wildest names. */
START_TEST(timeline_stays_small_and_valid)
{
    static const char *const names[MODEL_VMS] = { "<a&b>",    "\"quoted\"", "\x01\x1b[31m",
                                                  "\xff\xfe", "näme",       "日本語日本語" };
    struct record_setup setup = { .omega_bytes = 1000 * MB, .vm_count = MODEL_VMS, .names = names, .policy = "<&>" };
    struct record *r = record_new(&setup);
    struct model m = { .random = 3 };
    char *text;

    for (uint64_t i = 0; i < 20000; i++) {
        struct frame_vm vms[MODEL_VMS];
        struct frame frame = {
            .t_ms = i * 500, .used_bytes = 900 * MB, .reserve_bytes = model_random(&m, 50 * MB), .vm = vms
        };

        for (uint32_t k = 0; k < MODEL_VMS; k++)
            vms[k] = (struct frame_vm){ .overlay_bytes = model_random(&m, 56 * MB),
                                        .limit_bytes_per_s = (uint64_t)1 << model_random(&m, 63),
                                        .guest_bytes_per_s = model_random(&m, 56 * MB),
                                        .phase = (int32_t)model_random(&m, PHASE_RAM) + 1,
                                        .paused = !model_random(&m, 3) };
        ck_assert_int_eq(record_add(r, &frame), 0);
        record_event(r, i * 500, (uint32_t)(i % 20), "event <%d> & \"more\" \x02\xc3", (int)i);
    }
    text = timeline_of(r, r);
    ck_assert_ptr_nonnull(strstr(text, "&lt;a&amp;b&gt;"));
    ck_assert_ptr_null(strchr(text, '\x1b'));
    ck_assert_ptr_null(strchr(text, '\x01'));
    ck_assert_ptr_null(strchr(text, '\xff'));
    keep("worst.svg", text);
    free(text);
    record_free(r);
}
END_TEST

START_TEST(timeline_of_next_to_nothing)
{
    struct record_setup setup = { .omega_bytes = 0, .vm_count = 3 };
    struct frame_vm vms[3] = { { .phase = 77 }, { .limit_bytes_per_s = UINT64_MAX, .phase = PHASE_BASE } };
    struct frame frame = { .vm = vms };
    struct record *r = record_new(&setup);

    for (int frames = 0; frames < 4; frames++) {
        free(timeline_of(r, NULL));
        free(timeline_of(r, r));
        vms[2].limit_bytes_per_s = vms[2].overlay_bytes = (uint64_t)frames;
        vms[2].phase = PHASE_RAM;
        frame.t_ms = frames > 1 ? (uint64_t)frames : 0;
        ck_assert_int_eq(record_add(r, &frame), 0);
    }
    frame.t_ms = UINT64_C(1) << 40; /* 35 years */
    record_add(r, &frame);
    free(timeline_of(r, NULL));
    record_free(r);
}
END_TEST

START_TEST(curves_show_the_papers_figures)
{
    char *text = NULL;
    size_t bytes = 0;
    FILE *out = open_memstream(&text, &bytes);

    ck_assert_int_eq(svg_curves(out), 0);
    fclose(out);
    ck_svg(text);
    ck_assert_ptr_nonnull(strstr(text, "knee at 69.7 %"));
    ck_assert_ptr_nonnull(strstr(text, "40.9 %: priority 2 has half"));
    ck_assert_ptr_nonnull(strstr(text, "pole at 100.01 %"));
    keep("curves.svg", text);
    free(text);
}
END_TEST

START_TEST(full_disk_is_reported)
{
    FILE *out = fopen("/dev/full", "w");

    ck_assert_ptr_nonnull(out);
    setvbuf(out, NULL, _IONBF, 0);
    ck_assert_int_eq(svg_curves(out), -1);
    fclose(out);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("evacuate view");
    TCase *log = tcase_create("log"), *record = tcase_create("record"), *picture = tcase_create("picture");

    tcase_add_checked_fixture(log, setup, teardown);
    tcase_set_timeout(log, WATCHDOG_S);
    tcase_add_test(log, replay_of_a_run_is_identical);
    tcase_add_test(log, calls_the_library_refuses_are_replayed_too);
    tcase_add_loop_test(log, tampered_decision_is_named, 0, 5);
    tcase_add_test(log, missing_call_is_a_difference);
    tcase_add_test(log, restart_is_replayed);
    tcase_add_loop_test(log, bad_files_are_refused_with_a_line_number, 0, 16);
    tcase_add_test(log, files_that_are_no_log_are_refused);
    tcase_add_test(log, cut_log_is_refused);
    tcase_add_test(log, changed_bytes_do_no_harm);
    tcase_add_test(log, log_that_cannot_be_written_tells_at_the_end);
    suite_add_tcase(suite, log);
    tcase_add_test(record, record_keeps_what_it_is_told);
    tcase_add_test(record, time_left_follows_the_last_seconds_of_the_phase);
    tcase_add_test(record, numbers_are_readable);
    tcase_add_test(record, every_reason_has_a_word);
    suite_add_tcase(suite, record);
    tcase_set_timeout(picture, WATCHDOG_S);
    tcase_add_loop_test(picture, picture_fits_every_terminal, 0, 8);
    tcase_add_test(picture, picture_shows_everybody_without_colour);
    tcase_add_test(picture, pipe_gets_plain_lines);
    tcase_add_test(picture, memory_on_its_way_is_seen);
    tcase_add_loop_test(picture, timeline_of_a_run, 0, 3);
    tcase_add_test(picture, timeline_with_pauses);
    tcase_add_loop_test(picture, timeline_of_equals, 0, 8);
    tcase_add_test(picture, timeline_stays_small_and_valid);
    tcase_add_test(picture, timeline_of_next_to_nothing);
    tcase_add_test(picture, curves_show_the_papers_figures);
    tcase_add_test(picture, full_disk_is_reported);
    suite_add_tcase(suite, picture);
    return unit_run_suite(suite, "evacuate_view");
}
