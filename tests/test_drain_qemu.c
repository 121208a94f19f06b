/* SPDX-License-Identifier: MIT */
/*
 * What goes past the limits of real VMs, and who else has a hand in them: drains, full disks and quotas, other hands,
 * kinds of devices. MIGBUF_QEMU runs another QEMU.
 */
#include "qemu_lab.h"
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

/* Drains pour the whole queue */

static struct lab_wish deep(uint32_t sectors, uint32_t start, uint64_t window_bytes)
{
    struct lab_wish wish = lab_wish();

    wish.disk_bytes = window_bytes + 4 * MIB;
    wish.guest.sectors = sectors;
    wish.guest.start = start;
    wish.guest.window = (uint32_t)(window_bytes / 512 / sectors);
    wish.guest.depth = 32;
    wish.no_merging = true;
    return wish;
}

static uint64_t drain_bound(const struct lab_vm *v, uint64_t in_flight)
{
    uint64_t bytes;

    ck_assert_int_eq(migbuf_limits_drain(&v->geometry, in_flight, v->geometry.request_bytes, &bytes), 0);
    return bytes;
}

/* After 32 requests at once the bucket owes half a minute at the floor: nothing but the queue comes through. Returns the
 * part of one drain's bound. */
static double leak(struct lab_vm *v, const char *what, uint32_t drains)
{
    uint64_t grown, bound = drain_bound(v, 32);

    lab_sleep(0.3);
    grown = lab_grown(v) - v->mark;
    v->mark += grown;
    printf("# %s, %s: leak %llu, bound of one drain %llu (%.2f of it), drains %u\n", v->name, what,
           (unsigned long long)grown, (unsigned long long)bound, (double)grown / (double)bound, drains);
    ck_assert_msg(grown <= drains * bound, "%s, %s: %llu of %u times %llu", v->name, what, (unsigned long long)grown, drains,
                  (unsigned long long)bound);
    return (double)grown / (double)bound;
}

static void start_mirror(struct lab_vm *v)
{
    char target[sizeof v->directory + 8];
    int fd;

    snprintf(target, sizeof target, "%s.target", v->directory);
    fd = open(target, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    ck_assert(fd >= 0 && !ftruncate(fd, (off_t)v->wish.disk_bytes));
    close(fd);
    lab_call(v, "blockdev-add",
             "{\"driver\": \"raw\", \"node-name\": \"target\", \"file\": {\"driver\": \"file\", \"filename\": \"%s\", "
             "\"locking\": \"off\"}}",
             target);
    lab_call(
        v, "blockdev-mirror",
        "{\"job-id\": \"mirror\", \"device\": \"overlay\", \"target\": \"target\", \"sync\": \"top\", \"copy-mode\": "
        "\"write-blocking\"}");
    ck_assert(lab_event(v, "BLOCK_JOB_READY", PATIENCE_MS));
}

static void cancel_mirror(struct lab_vm *v)
{
    lab_call(v, "block-job-cancel", "{\"device\": \"mirror\"}");
    ck_assert(lab_event(v, "BLOCK_JOB_COMPLETED", PATIENCE_MS));
}

/* What the library keeps free in Ω for this VM's drains. */
static uint64_t reserve_of(const struct lab_vm *v)
{
    struct migbuf_buffer_view view = { .size = sizeof view };
    struct migbuf_decision decision;
    struct migbuf_migration m;
    struct migbuf_buffer *b;

    migbuf_migration_init(&m, sizeof m);
    ck_assert_int_eq(migbuf_buffer_new(GIB, NULL, NULL, &b), 0);
    ck_assert_int_eq(migbuf_buffer_add(b, &m, &v->geometry, 1, NULL), 0);
    ck_assert_int_eq(migbuf_buffer_tick(b, 0, &decision, 1), 1);
    ck_assert_int_eq(migbuf_buffer_view(b, 0, &view), 0);
    migbuf_buffer_free(b);
    return view.reserve_bytes;
}

/* The drains of a whole migration, the queue full before each. Newer QEMUs drain twice when a mirror starts. */
static void drain_all(const char *name, const struct lab_wish *wish, double least_part)
{
    double stop;
    struct lab_vm v;
    uint64_t reserve;

    lab_start(&v, name, wish);
    lab_wait_acknowledged(&v, 1);
    lab_learn(&v);
    lab_units(&v, 1);
    lab_wait_in_flight(&v, 32);
    lab_overlay(&v);
    leak(&v, "snapshot", 1);
    lab_wait_in_flight(&v, 32);
    start_mirror(&v);
    leak(&v, "mirror start", lab_version(&v) < 8 ? 1 : 2);
    lab_wait_in_flight(&v, 32);
    cancel_mirror(&v);
    leak(&v, "job cancel", 1);
    lab_wait_in_flight(&v, 32);
    lab_call(&v, "stop", NULL);
    stop = leak(&v, "stop", 1);
    reserve = reserve_of(&v);
    printf("# %s, overlay by %s: leaks of all drains %llu, reserve %llu\n", name, wish->by_fd ? "fd" : "name",
           (unsigned long long)lab_grown(&v), (unsigned long long)reserve);
    ck_assert_uint_le(lab_grown(&v), reserve);
    for (int again = 0; again < 9 && stop < least_part; again++) { /* a slow guest had not filled its queue again in time */
        lab_call(&v, "cont", NULL);
        lab_wait_in_flight(&v, 32);
        lab_call(&v, "stop", NULL);
        stop = leak(&v, "stop once more", 1);
    }
    ck_assert_double_ge(stop, least_part); /* a bound twice too large would be none */
    lab_end(&v);
}

START_TEST(a_drain_pours_the_queue_and_no_more)
{
    struct lab_wish far = deep(1, 2048, 128 * GIB), small = deep(8, 2048, GIB), straddling = deep(128, 2049, GIB);

    small.by_fd = true;
    drain_all("far-512", &far, 0.7); /* needs nearly all of the bound, tables included */
    drain_all("near-4096", &small, 0.45); /* half of it is tables, which these do not need */
    drain_all("straddling-65536", &straddling, 0.45); /* likewise */
}
END_TEST

/* The way back: an overlay that is committed into its base while its guest writes */

static void begin_commit(struct lab_vm *v)
{
    lab_call(v, "block-commit", "{\"job-id\": \"commit\", \"device\": \"overlay\"}");
    ck_assert(lab_event(v, "BLOCK_JOB_READY", 60000));
}

/* What the file grows by from block-job-complete on, until the job has ended or it has grown by `enough`. */
static uint64_t complete_commit(struct lab_vm *v, uint64_t enough, bool *ended)
{
    uint64_t before = lab_grown(v);
    double until = lab_now() + 60;

    lab_call(v, "block-job-complete", "{\"device\": \"commit\"}");
    do
        *ended = lab_event(v, "BLOCK_JOB_COMPLETED", 20);
    while (!*ended && lab_grown(v) - before < enough && lab_now() < until);
    return lab_grown(v) - before;
}

/* At one unit a second, so that all that comes are drains. Completing stops the guest for a moment (a drain), copies what
 * that poured, and begins again while anything is dirty: a guest with a deep queue fills the file without end, past every
 * limit. After `stop` one queue has been poured and no more comes. */
static void commit_back(const char *name, uint32_t sectors, uint32_t depth, bool first)
{
    struct lab_wish wish = deep(sectors, 2048, 4 * GIB);
    uint64_t before, stopped, poured, bound;
    struct lab_vm v;
    bool ended;

    wish.guest.depth = depth;
    lab_start(&v, name, &wish);
    lab_wait_acknowledged(&v, 1);
    lab_learn(&v);
    lab_units(&v, 1);
    lab_wait_in_flight(&v, depth);
    lab_overlay(&v);
    begin_commit(&v);
    lab_wait_in_flight(&v, depth);
    bound = drain_bound(&v, depth);
    before = lab_grown(&v);
    if (first)
        lab_call(&v, "stop", NULL);
    stopped = lab_grown(&v);
    poured = complete_commit(&v, 8 * bound, &ended);
    printf("# %s, %s: %llu bytes before, %llu when complete is sent, %llu afterwards%s; one drain %llu\n", name,
           first ? "stopped first" : "running", (unsigned long long)before, (unsigned long long)stopped,
           (unsigned long long)(stopped + poured), ended ? "" : " and not over", (unsigned long long)bound);
    lab_end(&v);
    if (first) {
        ck_assert_msg(ended, "%s: the job does not end", name);
        ck_assert_uint_eq(poured, 0);
        ck_assert_uint_le(stopped - before, bound);
    }
}

START_TEST(a_commit_is_completed_under_a_guest_that_stands)
{
    static const struct {
        const char *name;
        uint32_t sectors, depth;
    } load[] = { { "64KiB-32", 128, 32 }, { "4KiB-8", 8, 8 }, { "4KiB-32", 8, 32 } };

    for (size_t k = 0; k < sizeof load / sizeof *load; k++) {
        commit_back(load[k].name, load[k].sectors, load[k].depth, true);
        commit_back(load[k].name, load[k].sectors, load[k].depth, false);
    }
}
END_TEST

/* Ω holds: a tmpfs of exactly that size, filled by a guest that writes as much as it is let */

static bool must_mount(void)
{
    if (!lab_can_mount())
        printf("# not tested: mounts are not possible here\n");
    return lab_can_mount();
}

#define LATE_PERCENT 500

struct full {
    struct lab_vm v;
    struct lab_loop loop;
    struct lab_wish wish;
    const char *name;
    uint64_t omega, most;
    bool full;
    char directory[160];
};

static void start_full(struct full *f)
{
    char size[48];

    snprintf(f->directory, sizeof f->directory, "%s/omega-%s", lab_directory(), f->name);
    snprintf(size, sizeof size, "size=%llu", (unsigned long long)f->omega);
    ck_assert_int_eq(mkdir(f->directory, 0700), 0);
    ck_assert_int_eq(mount("none", f->directory, "tmpfs", 0, size), 0);
    f->wish.omega = f->directory;
    lab_start(&f->v, f->name, &f->wish);
    lab_wait_in_flight(&f->v, f->wish.guest.depth);
    lab_learn(&f->v);
}

/* When all VMs run: the first limit lasts no longer than any other, and its age counts as a tick's. */
static void begin_full(struct full *f)
{
    lab_loop_begin(&f->loop, &f->v, f->omega, 0, 0.25, LATE_PERCENT, 0);
    f->loop.next_s = f->loop.last_s + f->loop.tick_s;
    lab_overlay(&f->v);
    ck_assert_int_eq(migbuf_buffer_phase(f->loop.buffer, 1, MIGBUF_PHASE_BASE, 3), 0);
}

static void go_on(struct full *f, size_t n, double seconds)
{
    double until = lab_now() + seconds;

    do {
        for (size_t k = 0; k < n; k++) {
            if (lab_loop_step(&f[k].loop))
                f[k].full = f[k].full || lab_block(&f[k].v, "").nospace;
            f[k].most = lab_grown(&f[k].v) > f[k].most ? lab_grown(&f[k].v) : f[k].most;
        }
        lab_sleep(0.01);
    } while (lab_now() < until);
}

static bool used(const struct full *f)
{
    return (double)f->most > 0.3 * (double)f->omega;
}

/* What the reserve leaves is used: there is a good deal in the file, or the library had to stop the guest. */
static bool full_up(const struct full *f)
{
    return used(f) || f->loop.pauses;
}

/* A drain is over: it was one of those ahead. */
static void drained(struct full *f, int32_t phase, uint32_t ahead)
{
    ck_assert_int_eq(migbuf_buffer_phase(f->loop.buffer, 1, phase, ahead), 0);
}

static void judge_full(struct full *f)
{
    ck_assert_uint_le(f->most + f->v.overlay_bytes, f->omega);
    ck_assert_msg(!f->full && !lab_block(&f->v, "").nospace, "%s: the disk was full", f->name);
    ck_assert_uint_eq(lab_status(&f->v).failed, 0);
    ck_assert_msg(used(f), "%s: hardly used", f->name); /* else this test could not tell */
}

static void end_full(struct full *f)
{
    struct migbuf_buffer_view view = lab_loop_view(&f->loop);

    f->full = f->full || lab_block(&f->v, "").nospace;
    if (!f->loop.paused)
        lab_call(&f->v, "stop", NULL);
    lab_sleep(0.2);
    f->most = lab_grown(&f->v) > f->most ? lab_grown(&f->v) : f->most;
    printf("# %s: %llu of %llu bytes used (%.2f), reserve at the end %llu, %u sets, %u pauses, longest tick %.2f s\n", f->name,
           (unsigned long long)(f->most + f->v.overlay_bytes), (unsigned long long)f->omega,
           (double)(f->most + f->v.overlay_bytes) / (double)f->omega, (unsigned long long)view.reserve_bytes, f->v.sets,
           f->loop.pauses, f->loop.longest_s);
    if (f->loop.longest_s > f->loop.tick_s * LATE_PERCENT / 100) /* nothing is promised then */
        printf("# %s: not judged, a tick came later than late_factor intervals after the one before\n", f->name);
    else
        judge_full(f);
    lab_loop_end(&f->loop);
    lab_end(&f->v);
    umount2(f->directory, MNT_DETACH);
}

START_TEST(files_stay_within_a_small_buffer)
{
    struct full f[3] = {
        { .name = "adjacent", .wish = deep(128, 2048, GIB), .omega = 64 * MIB },
        { .name = "far", .wish = deep(1, 2048, 128 * GIB), .omega = 48 * MIB },
        { .name = "large", .wish = deep(512, 2048, 2 * GIB), .omega = 64 * MIB }, /* a drain pours 8 MiB */
    };

    if (!must_mount())
        return;
    f[0].wish.no_merging = false;
    f[0].wish.guest.random = 0;
    f[1].wish.by_fd = true;
    for (size_t k = 0; k < 3; k++)
        start_full(&f[k]);
    for (size_t k = 0; k < 3; k++) {
        begin_full(&f[k]);
        go_on(f, k + 1, 0);
    }
    go_on(f, 3, 6); /* until hardly more than the reserve is left */
    for (int k = 0; k < PATIENCE_S && !(full_up(&f[0]) && full_up(&f[1]) && full_up(&f[2])); k++)
        go_on(f, 3, 1); /* a busy host's guests are slow */
    for (size_t k = 0; k < 3; k++) {
        start_mirror(&f[k].v);
        drained(&f[k], MIGBUF_PHASE_MIRROR, 1); /* QEMU 7 has drained once; a later one twice, of which one counts as cancel's */
    }
    go_on(f, 3, 1);
    for (size_t k = 0; k < 3; k++) {
        cancel_mirror(&f[k].v);
        drained(&f[k], MIGBUF_PHASE_MIRROR, 0);
    }
    go_on(f, 3, 1);
    for (size_t k = 0; k < 3; k++)
        end_full(&f[k]);
}
END_TEST

/* A full disk */

static void expect_io_error(struct lab_vm *v, const char *action, int32_t nospace)
{
    struct migbuf_io_error_report report;
    uint64_t seen = 0;

    while (!lab_event(v, "BLOCK_IO_ERROR", PATIENCE_MS)) { /* as long as the guest still comes nearer to it */
        uint64_t grown = lab_grown(v);

        ck_assert_msg(grown > seen, "%s: no BLOCK_IO_ERROR after %llu bytes", v->name, (unsigned long long)grown);
        seen = grown;
    }
    ck_assert_int_eq(migbuf_report_io_error(v->answer.text, v->answer.text_bytes, &report, NULL), 0);
    printf("# %s: BLOCK_IO_ERROR, node %s, action %s, nospace %d, after %llu bytes\n", v->name, report.node_name,
           report.action, report.nospace, (unsigned long long)lab_grown(v));
    ck_assert_str_eq(report.action, action);
    ck_assert_int_eq(report.nospace, nospace);
    ck_assert_str_eq(report.operation, "write");
}

static void expect_status(struct lab_vm *v, const char *status)
{
    struct migbuf_status_report report;

    lab_call(v, "query-status", NULL);
    ck_assert_int_eq(migbuf_report_status(v->answer.text, v->answer.text_bytes, &report, NULL), 0);
    ck_assert_str_eq(report.status, status);
}

static void start_on(struct lab_vm *v, const char *name, const char *omega, uint64_t units)
{
    struct lab_wish wish = lab_wish();

    wish.disk_bytes = 68 * MIB;
    wish.guest.window = 64 * MIB / 4096;
    wish.guest.depth = 4;
    wish.omega = omega;
    lab_start(v, name, &wish);
    lab_wait_acknowledged(v, 1);
    lab_learn(v);
    lab_units(v, units);
    lab_overlay(v);
}

START_TEST(a_full_disk_pauses_the_guest_and_loses_nothing)
{
    struct migbuf_block_report block;
    char omega[160];
    struct lab_vm v;
    uint32_t before;

    if (!must_mount())
        return;
    snprintf(omega, sizeof omega, "%s/omega", lab_directory());
    ck_assert_int_eq(mkdir(omega, 0700), 0);
    ck_assert_int_eq(mount("none", omega, "tmpfs", 0, "size=12m"), 0);
    start_on(&v, "full", omega, 100);
    expect_io_error(&v, "stop", 1);
    ck_assert(lab_event(&v, "STOP", PATIENCE_MS));
    expect_status(&v, "io-error");
    block = lab_block(&v, "");
    ck_assert_int_eq(block.nospace, 1);
    before = lab_status(&v).acknowledged;
    lab_call(&v, "cont", NULL); /* still full: stops again */
    ck_assert(lab_event(&v, "STOP", PATIENCE_MS));
    ck_assert_int_eq(mount("none", omega, "tmpfs", MS_REMOUNT, "size=96m"), 0);
    lab_call(&v, "cont", NULL);
    lab_wait_acknowledged(&v, before + 200);
    expect_status(&v, "running");
    ck_assert_uint_eq(lab_status(&v).failed, 0);
    lab_check_writes(&v);
    lab_end(&v);
    umount2(omega, MNT_DETACH);
}
END_TEST

/* A quota */

#define QUOTA (24 * MIB)

static bool run_tool(const char *const argv[])
{
    char error[FAIL_SIZE];

    if (!process_run(argv, PATIENCE_MS, error))
        return true;
    printf("# %s\n", error);
    return false;
}

#define TOOL(...) run_tool((const char *const[]){ __VA_ARGS__, NULL })

/* A btrfs on a loop file, with a quota group on what is below `sub`. */
static bool make_quota(const char *image, const char *volume, const char *sub, const char *limit)
{
    int fd = open(image, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    bool made = fd >= 0 && !ftruncate(fd, 512 * MIB) && !mkdir(volume, 0700);

    close(fd);
    return made && TOOL("mkfs.btrfs", "-q", "-f", image) && TOOL("mount", "-o", "loop", image, volume) &&
           TOOL("btrfs", "quota", "enable", volume) && TOOL("btrfs", "subvolume", "create", sub) &&
           TOOL("btrfs", "qgroup", "limit", limit, sub);
}

static void without_us(const char *sub)
{
    struct lab_vm v;

    start_on(&v, "alone", sub, 200);
    expect_io_error(&v, "report", 0);
    lab_wait_until(&v, lab_status(&v).failed);
    expect_status(&v, "running");
    printf("# alone: the guest saw %u failed writes\n", lab_status(&v).failed);
    ck_assert_uint_gt(lab_status(&v).failed, 0);
    lab_end(&v);
}

/* A quota is an Ω like any other, when it is known: the library slows the guest and pauses it before it is reached. What the filesystem
 * itself needs counts too. */
static void with_us(const char *sub)
{
    struct lab_wish wish = lab_wish();
    struct lab_loop loop;
    struct lab_vm v;
    uint32_t before;
    double until;

    wish.disk_bytes = 68 * MIB;
    wish.guest.window = 64 * MIB / 4096;
    wish.guest.depth = 4;
    wish.omega = sub;
    lab_start(&v, "ours", &wish);
    lab_wait_acknowledged(&v, 1);
    lab_learn(&v);
    lab_loop_begin(&loop, &v, QUOTA - 2 * MIB, 0, 0.1, 1000, 0);
    lab_overlay(&v);
    ck_assert_int_eq(migbuf_buffer_phase(loop.buffer, 1, MIGBUF_PHASE_BASE, 0), 0);
    until = lab_now() + 8;
    /* A busy host's guest is slow. */
    while (!loop.paused && lab_now() < (lab_grown(&v) > QUOTA / 2 ? until : until + PATIENCE_S)) {
        lab_loop_step(&loop);
        lab_sleep(0.01);
    }
    lab_sleep(0.3);
    printf("# ours: %s at %llu bytes of a quota of %llu, %u writes failed\n", loop.paused ? "paused" : "running",
           (unsigned long long)lab_grown(&v), (unsigned long long)QUOTA, lab_status(&v).failed);
    ck_assert_uint_eq(lab_status(&v).failed, 0);
    ck_assert_uint_gt(lab_grown(&v), QUOTA / 2);
    before = lab_status(&v).acknowledged;
    ck_assert(TOOL("btrfs", "qgroup", "limit", "200M", sub));
    ck_assert_int_eq(migbuf_buffer_resize(loop.buffer, 198 * MIB, NULL), 0);
    for (until = lab_now() + PATIENCE_S; lab_status(&v).acknowledged < before + 200 && lab_now() < until; lab_sleep(0.01))
        lab_loop_step(&loop);
    ck_assert_uint_ge(lab_status(&v).acknowledged, before + 200);
    ck_assert_uint_eq(lab_status(&v).failed, 0);
    ck_assert(!lab_event(&v, "BLOCK_IO_ERROR", 0));
    lab_loop_end(&loop);
    lab_check_writes(&v);
    lab_end(&v);
}

static void recognise(const char *directory, int32_t kind, uint64_t least, uint64_t most)
{
    int fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    struct migbuf_full full;

    ck_assert_int_eq(migbuf_cow_when_full(fd, &full, NULL), 0);
    printf("# %s: full means %d, room %llu\n", directory, full.kind, (unsigned long long)full.free_bytes);
    ck_assert_int_eq(full.kind, kind);
    ck_assert(full.free_bytes >= least && full.free_bytes <= most);
    close(fd);
}

START_TEST(a_quota_is_no_full_disk)
{
    char image[160], volume[160], sub[160], limit[32];

    if (!must_mount())
        return;
    snprintf(image, sizeof image, "%s/btrfs.img", lab_directory());
    snprintf(volume, sizeof volume, "%s/btrfs", lab_directory());
    snprintf(sub, sizeof sub, "%s/btrfs/sub", lab_directory());
    snprintf(limit, sizeof limit, "%llu", (unsigned long long)QUOTA);
    if (make_quota(image, volume, sub, limit)) {
        recognise(volume, MIGBUF_FULL_STOPS, 64 * MIB, 512 * MIB);
        recognise(sub, MIGBUF_FULL_FAILS, QUOTA / 2, QUOTA);
        without_us(sub);
        with_us(sub);
    } else {
        printf("# not tested: no btrfs with quotas here\n");
    }
    umount2(volume, MNT_DETACH);
}
END_TEST

/* Another hand */

static void set_by_hand(struct lab_vm *v, const char *qdev, const char *rest)
{
    lab_call(v, "block_set_io_throttle", "{\"id\": \"%s\", %s}", qdev, rest);
}

static bool same_config(const struct migbuf_throttle_config *a, const struct migbuf_throttle_config *b)
{
    return !memcmp(a, b, offsetof(struct migbuf_throttle_config, group)) && !strcmp(a->group, b->group);
}

#define OFF "\"bps\": 0, \"bps_rd\": 0, \"bps_wr\": 0, \"iops\": 0, \"iops_rd\": 0, \"iops_wr\": 0"
#define HOST "\"bps\": 0, \"bps_rd\": 40000000, \"bps_wr\": 50000000, \"iops\": 0, \"iops_rd\": 0, \"iops_wr\": 0"
#define OTHER "\"bps\": 0, \"bps_rd\": 0, \"bps_wr\": 7000000, \"iops\": 0, \"iops_rd\": 0, \"iops_wr\": 900"

/* The other hand does `rest` in mid-run; two ticks later ours holds again, and restore brings what the other hand set.
 */
static bool interfere(const char *name, const char *rest, const char *group)
{
    struct lab_wish wish = lab_wish();
    struct migbuf_block_report block;
    struct migbuf_throttle_config wanted = { 0 };
    struct lab_vm v;
    uint64_t before, grown;
    double bound, since;
    bool restored;

    wish.guest.depth = 4;
    wish.by_fd = group != NULL;
    lab_start(&v, name, &wish);
    lab_wait_acknowledged(&v, 1);
    set_by_hand(&v, lab_block(&v, "").qdev, HOST);
    lab_learn(&v);
    lab_units(&v, 10);
    lab_overlay(&v);
    lab_sleep(0.5);
    set_by_hand(&v, migbuf_disk_qdev(v.disk, VM_DISK_NODE), rest);
    block = lab_block(&v, "");
    wanted = block.throttle;
    if (group) /* a disk that stays in a group it was put into by us came from the group it had */
        snprintf(wanted.group, sizeof wanted.group, "%s", group);
    lab_sleep(0.5);
    lab_learn(&v); /* the next tick */
    lab_sleep(0.5);
    block = lab_block(&v, "");
    ck_assert_uint_eq(block.throttle.iops_wr, 10);
    ck_assert_uint_eq(block.throttle.iops_size, 65536);
    ck_assert_int_eq(lab_info(&v).throttled, 1);
    ck_assert_int_eq(lab_info(&v).taken_over, 1);
    since = lab_now();
    before = lab_grown(&v);
    lab_sleep(1.5);
    grown = lab_grown(&v) - before;
    since = lab_now() - since;
    ck_assert_int_eq(migbuf_limits_worst_growth(&v.geometry, &v.limits, since, &bound), 0);
    printf("# %s: grown %llu in the %.2f s after the next tick, bound %.0f\n", name, (unsigned long long)grown, since, bound);
    ck_assert_double_le((double)grown, bound);
    lab_restore(&v);
    block = lab_block(&v, "");
    restored = same_config(&block.throttle, &wanted);
    printf("# %s: restored bps_rd %llu bps_wr %llu iops_wr %llu group \"%s\"%s\n", name,
           (unsigned long long)block.throttle.bps_rd, (unsigned long long)block.throttle.bps_wr,
           (unsigned long long)block.throttle.iops_wr, block.throttle.group,
           restored ? "" : ", NOT what the other hand set");
    lab_end(&v);
    return restored;
}

START_TEST(limits_wiped_by_another_hand_come_back)
{
    ck_assert(interfere("wiped", OFF, NULL));
}
END_TEST

START_TEST(limits_moved_to_another_group_come_back)
{
    ck_assert(interfere("moved", OTHER ", \"group\": \"theirs\"", NULL));
}
END_TEST

/* QEMU leaves the disk in our group when no group is named, as hosts do. */
START_TEST(limits_changed_by_another_hand_come_back)
{
    ck_assert(interfere("changed", OTHER, "/machine/peripheral/dev-lxd_root/virtio-backend"));
}
END_TEST

/* Kinds of devices */

struct device {
    const char *node, *group, *qdev, *host;
};

static const struct device devices[] = {
    { VM_DISK_NODE, "migbuf-blk", "virtio-backend",
      HOST ", \"bps_wr_max\": 80000000, \"bps_wr_max_length\": 2, \"bps_rd_max\": 90000000, \"group\": \"host-blk\"" },
    { "s", "migbuf-scsi", "dev-s",
      "\"bps\": 30000000, \"bps_rd\": 0, \"bps_wr\": 0, \"iops\": 900, \"iops_rd\": 0, \"iops_wr\": 0, \"bps_max\": "
      "60000000, "
      "\"bps_max_length\": 3, \"iops_max\": 1800, \"iops_max_length\": 4, \"iops_size\": 8192, \"group\": "
      "\"host-total\"" },
    { "n", "migbuf-nvme", "dev-n",
      "\"bps\": 0, \"bps_rd\": 0, \"bps_wr\": 0, \"iops\": 0, \"iops_rd\": 700, \"iops_wr\": 300, \"iops_wr_max\": "
      "600, "
      "\"iops_wr_max_length\": 5" },
};

static void make_extra(char text[2][512], const char *const *node)
{
    char path[160];

    for (int k = 0; k < 2; k++) {
        int fd;

        snprintf(path, sizeof path, "%s/%s.raw", lab_directory(), node[k]);
        fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
        ck_assert(fd >= 0 && !ftruncate(fd, (off_t)GIB));
        close(fd);
        snprintf(text[k], 512,
                 "{\"node-name\":\"%s\",\"driver\":\"raw\",\"file\":{\"driver\":\"file\",\"filename\":\"%s\","
                 "\"locking\":\"off\"}}",
                 node[k], path);
    }
}

static uint64_t allocated(const char *node, const struct lab_vm *v)
{
    char path[192];
    struct stat s;

    snprintf(path, sizeof path, "%s/%s.raw", lab_directory(), node);
    ck_assert_int_eq(stat(strcmp(node, VM_DISK_NODE) ? path : v->image, &s), 0);
    return (uint64_t)s.st_blocks * 512;
}

/* 40 writes of 64 KiB through the device's backend, 5 units a second, until ten of them came through. */
static void throttle_device(struct lab_vm *v, const struct device *d)
{
    struct migbuf_block_report before, during, after;
    uint64_t bytes;
    char write[64];
    double start, t;

    migbuf_disk_free(v->disk);
    ck_assert_int_eq(migbuf_disk_new(d->group, NULL, &v->disk), 0);
    ck_assert_int_eq(migbuf_disk_watch(v->disk, d->node), 0);
    set_by_hand(v, lab_block(v, d->node).qdev, d->host);
    before = lab_block(v, d->node);
    lab_learn(v);
    ck_assert_str_eq(migbuf_disk_qdev(v->disk, d->node), before.qdev);
    ck_assert_msg(strstr(before.qdev, d->qdev), "%s", before.qdev);
    lab_units(v, 5);
    during = lab_block(v, d->node);
    ck_assert_str_eq(during.throttle.group, d->group);
    bytes = allocated(d->node, v);
    start = lab_now();
    for (int k = 0; k < 40; k++) {
        snprintf(write, sizeof write, "aio_write -P 1 %dM 64k", 256 + k);
        lab_io(v, before.qdev, write);
    }
    while (allocated(d->node, v) < bytes + 10 * 65536) {
        ck_assert_msg(lab_now() < start + PATIENCE_S, "%s: only %llu bytes", d->node,
                      (unsigned long long)(allocated(d->node, v) - bytes));
        lab_sleep(0.05);
    }
    bytes = allocated(d->node, v) - bytes;
    t = lab_now() - start;
    lab_restore(v);
    after = lab_block(v, d->node);
    printf("# %s (%s): %.1f units in %.1f s at 5 units/s; group before \"%s\", after \"%s\"\n", d->node, before.qdev,
           (double)bytes / 65536, t, before.throttle.group, after.throttle.group);
    ck_assert_double_le((double)bytes, (5 * (t + 0.1) + 1) * 65536);
    ck_assert(same_config(&before.throttle, &after.throttle));
    ck_assert(before.throttle.group[0] != 0);
}

START_TEST(every_kind_of_device_is_throttled_and_restored)
{
    static const char *const nodes[] = { "s", "n" };
    struct lab_wish wish = lab_wish();
    char node[2][512];
    const char *const extra[] = { "-blockdev", node[0],
                                  "-device",   "virtio-scsi-pci,id=scsi",
                                  "-device",   "scsi-hd,id=dev-s,drive=s,bus=scsi.0",
                                  "-blockdev", node[1],
                                  "-device",   "nvme,id=dev-n,drive=n,serial=1",
                                  NULL };
    struct lab_vm v;

    make_extra(node, nodes);
    wish.guest.count = 1;
    wish.extra = extra;
    lab_start(&v, "devices", &wish);
    lab_wait_acknowledged(&v, 1);
    for (size_t k = 0; k < sizeof devices / sizeof *devices; k++)
        throttle_device(&v, &devices[k]);
    lab_end(&v);
}
END_TEST

/* A host with typed calls only: each set empties the bucket and wakes a request, also a lower one. Returns the part of what
 * was let through that the guest used. */
static double lower_five_times(void)
{
    struct lab_wish wish = lab_wish();
    struct migbuf_block_report before, during, after;
    struct migbuf_limits limits = { 0 };
    double bound, growth = 0, grown = 0, since;
    struct lab_vm v;

    wish.guest.depth = 32;
    wish.no_merging = true;
    lab_start(&v, "typed", &wish);
    lab_wait_acknowledged(&v, 1);
    set_by_hand(&v, lab_block(&v, "").qdev, HOST);
    before = lab_block(&v, "");
    ck_assert_int_eq(migbuf_disk_six_rates(v.disk), 0);
    v.geometry.flags |= MIGBUF_GEOMETRY_NO_IOPS_SIZE;
    lab_learn(&v);
    ck_assert_int_eq(migbuf_limits_from_budget(&v.geometry, 1, 20 * 131072, &limits), 1);
    lab_limit(&v, &limits);
    lab_overlay(&v);
    lab_sleep(0.5);
    v.mark = lab_grown(&v);
    for (uint64_t units = 20; units; units -= 4) { /* lower and lower, half a second each */
        ck_assert_int_eq(migbuf_limits_from_budget(&v.geometry, 1, units * 131072, &limits), 1);
        since = lab_now();
        lab_limit(&v, &limits);
        lab_sleep(0.5);
        grown = (double)(lab_grown(&v) - v.mark);
        ck_assert_int_eq(migbuf_limits_worst_growth(&v.geometry, &limits, lab_now() - since, &bound), 0);
        growth += bound;
    }
    during = lab_block(&v, "");
    printf("# typed: grown %.0f in five sets, bound %.0f; group \"%s\"\n", grown, growth, during.throttle.group);
    ck_assert_double_le(grown, growth);
    ck_assert_uint_eq(during.throttle.iops_wr, 4);
    ck_assert_uint_eq(during.throttle.bps_wr, 4 * 65536);
    ck_assert_uint_eq(during.throttle.bps_rd, before.throttle.bps_rd);
    ck_assert_str_eq(during.throttle.group, before.throttle.group);
    lab_restore(&v);
    after = lab_block(&v, "");
    ck_assert(same_config(&before.throttle, &after.throttle));
    lab_end(&v);
    return grown / ((20 + 16 + 12 + 8 + 4) * 0.5 * 65536);
}

START_TEST(typed_calls_cost_what_they_are_said_to)
{
    double used = 0;

    for (int k = 0; k < 5 && used < 0.8; k++) { /* a host that does not let the guest run says nothing about QEMU */
        used = lower_five_times();
        printf("# %.2f of that was used\n", used);
    }
    ck_assert_double_ge(used, 0.8);
}
END_TEST

/* Two disks of one VM in one group */

#define LARGE "1M" /* 16 units */

static void queue_writes(struct lab_vm *v, const char *qdev, int first_mib, int count)
{
    char write[64];

    for (int k = 0; k < count; k++) {
        snprintf(write, sizeof write, "aio_write -P 1 %dM " LARGE, first_mib + k);
        lab_io(v, qdev, write);
    }
}

/* Whoever of the group waits has the one timer: a raise must reach it wherever that is. Returns whether all that waited was
 * through within a second. */
static bool raise_while(struct lab_vm *v, bool first_waits, bool second_waits)
{
    const char *const node[] = { VM_DISK_NODE, "s" };
    const bool waits[] = { first_waits, second_waits };
    uint64_t before[2], waiting[2], after[2], all = (first_waits + second_waits) * 6 * MIB;
    static int at_mib = 128;
    double start, waited, took;

    lab_units(v, 1);
    for (int k = 0; k < 2; k++)
        before[k] = allocated(node[k], v);
    start = lab_now();
    for (int k = 0; k < 2; k++)
        if (waits[k])
            queue_writes(v, migbuf_disk_qdev(v->disk, node[k]), at_mib, 6);
    at_mib += 6;
    lab_sleep(1);
    for (int k = 0; k < 2; k++)
        waiting[k] = allocated(node[k], v);
    waited = lab_now() - start;
    lab_units(v, 1000);
    start = lab_now();
    do { /* a timer that the raise does not reach goes off in 15 s, when the first 16 units are paid for */
        lab_sleep(0.1);
        for (int k = 0; k < 2; k++)
            after[k] = allocated(node[k], v);
        took = lab_now() - start;
    } while (after[0] + after[1] < before[0] + before[1] + all && took < PATIENCE_S);
    printf("# %s%s waits at 1 unit/s: %.1f units in %.1f s; after the raise %.1f and %.1f units in %.1f s\n",
           first_waits ? "first" : "", second_waits ? "second" : "",
           (double)(waiting[0] - before[0] + waiting[1] - before[1]) / 65536, waited,
           (double)(after[0] - waiting[0]) / 65536, (double)(after[1] - waiting[1]) / 65536, took);
    ck_assert_double_le((double)(waiting[0] - before[0] + waiting[1] - before[1]), (1 * (waited + 0.1) + 16) * 65536);
    for (int k = 0; k < 2; k++)
        ck_assert_uint_eq(after[k] - before[k], waits[k] ? 6 * MIB : 0);
    return took <= 1;
}

/* A host that lets nobody run for a second says nothing about QEMU. */
static void raise_is_felt_while(struct lab_vm *v, bool first_waits, bool second_waits)
{
    bool felt = false;

    for (int k = 0; k < 4 && !felt; k++)
        felt = raise_while(v, first_waits, second_waits);
    ck_assert(felt);
}

START_TEST(two_disks_are_one_bucket_and_both_feel_a_raise)
{
    static const char *const nodes[] = { "s", "n" };
    struct lab_wish wish = lab_wish();
    char node[2][512];
    const char *const extra[] = { "-blockdev", node[0],
                                  "-device",   "virtio-scsi-pci,id=scsi",
                                  "-device",   "scsi-hd,id=dev-s,drive=s,bus=scsi.0",
                                  NULL };
    struct lab_vm v;

    make_extra(node, nodes);
    wish.guest.count = 1;
    wish.extra = extra;
    lab_start(&v, "group", &wish);
    lab_wait_acknowledged(&v, 1);
    ck_assert_int_eq(migbuf_disk_watch(v.disk, "s"), 0);
    lab_learn(&v);
    raise_is_felt_while(&v, true, false);
    raise_is_felt_while(&v, false, true);
    raise_is_felt_while(&v, true, true);
    lab_restore(&v);
    lab_end(&v);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        a_drain_pours_the_queue_and_no_more,
        a_commit_is_completed_under_a_guest_that_stands,
        files_stay_within_a_small_buffer,
        a_full_disk_pauses_the_guest_and_loses_nothing,
        a_quota_is_no_full_disk,
        limits_wiped_by_another_hand_come_back,
        limits_moved_to_another_group_come_back,
        limits_changed_by_another_hand_come_back,
        every_kind_of_device_is_throttled_and_restored,
        two_disks_are_one_bucket_and_both_feel_a_raise,
        typed_calls_cost_what_they_are_said_to,
        NULL,
    };

    return lab_run("drain_qemu", tests, WATCHDOG_S);
}
