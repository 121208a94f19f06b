/* SPDX-License-Identifier: MIT */
#include "qemu_lab.h"
#include "volume.h"
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define CALL_MS PATIENCE_MS

static char directory[96], kernel[PATH_MAX], program[256], image_tool[256];
static bool mounted;

double lab_now(void)
{
    return (double)now_ns() / 1e9;
}

void lab_sleep_until(double when_s)
{
    double left = when_s - lab_now();

    while (left > 0) {
        nanosleep(&(struct timespec){ .tv_sec = (time_t)left, .tv_nsec = (long)(fmod(left, 1) * 1e9) }, NULL);
        left = when_s - lab_now();
    }
}

/* The lab */

static bool runs(const char *file)
{
    const char *const argv[] = { file, "--version", NULL };
    char error[FAIL_SIZE];

    return !process_run(argv, PATIENCE_MS, error);
}

/* The tools that belong to a QEMU stand beside it. */
static const char *find_programs(void)
{
    const char *aside = getenv("MIGBUF_QEMU");

    snprintf(program, sizeof program, "%s", aside ? aside : "qemu-system-x86_64");
    snprintf(image_tool, sizeof image_tool, "qemu-img");
    if (!runs(program))
        return aside ? "the QEMU unpacked aside does not run" : "no qemu-system-x86_64";
    if (aside && strrchr(program, '/')) {
        snprintf(image_tool, sizeof image_tool, "%.*s/qemu-img", (int)(strrchr(program, '/') - program), program);
        if (!runs(image_tool))
            snprintf(image_tool, sizeof image_tool, "qemu-img");
    }
    return runs(image_tool) ? NULL : "no qemu-img";
}

static const char *find_all(void)
{
    const char *guest = getenv("EVACUATE_GUEST"), *temporary = getenv("TMPDIR"), *missing = find_programs();
    char error[FAIL_SIZE];

    if (missing)
        return missing;
    if (!guest || access(guest, R_OK) || !realpath(guest, kernel))
        return "EVACUATE_GUEST does not name the guest program";
    mounted = !volume_private_mounts(error);
    snprintf(directory, sizeof directory, "%.64s/migbuf-lab-XXXXXX", temporary ? temporary : "/tmp");
    if (!mkdtemp(directory))
        return "no temporary directory";
    if (mounted)
        mounted = !mount("none", directory, "tmpfs", MS_NODEV | MS_NOSUID, "size=8g,mode=700");
    return NULL;
}

bool lab_open(void)
{
    const char *missing = find_all();

    if (missing)
        printf("1..0 # SKIP %s\n", missing);
    fflush(stdout);
    return !missing;
}

void lab_close(void)
{
    const char *const argv[] = { "rm", "-rf", "--one-file-system", directory, NULL };
    char error[FAIL_SIZE];

    if (mounted) /* and whatever a failed test has mounted in it */
        umount2(directory, MNT_DETACH | UMOUNT_NOFOLLOW);
    process_run(argv, PATIENCE_MS, error);
}

int lab_run(const char *name, const TTest *const *tests, int seconds)
{
    int rc;

    setvbuf(stdout, NULL, _IOLBF, 0); /* what a failing test measured is not lost */
    if (!lab_open())
        return 0;
    rc = unit_run(name, tests, seconds);
    lab_close();
    return rc;
}

const char *lab_directory(void)
{
    return directory;
}

bool lab_can_mount(void)
{
    return mounted;
}

/* A VM */

struct lab_wish lab_wish(void)
{
    struct lab_wish wish = { .disk_bytes = GIB };

    writer_params_init(&wish.guest);
    wish.guest = (struct writer_params){ .sectors = 8,
                                         .window = (uint32_t)(GIB / 8 / 512 / 2),
                                         .start = 2048,
                                         .random = 1,
                                         .seed = 1,
                                         .depth = 1,
                                         .id = 1 };
    return wish;
}

/* The socket has its name a moment before QEMU listens on it. */
static void connect_monitor(struct lab_vm *v)
{
    double until = lab_now() + CALL_MS / 1e3;
    struct migbuf_error e;
    char error[FAIL_SIZE];
    int rc;

    do {
        ck_assert_msg(vm_runs(&v->vm, error), "%s: %s", v->name, error);
        lab_sleep(0.005);
        rc = migbuf_qmp_socket_open(v->vm.qmp, NULL, NULL, CALL_MS, &v->qmp, &e);
    } while (rc == MIGBUF_E_SYSTEM && lab_now() < until);
    ck_assert_msg(rc == 0, "%s: %d, %s", v->name, rc, rc ? e.text : "");
}

static void make_image(const struct lab_vm *v)
{
    int fd = open(v->image, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    char error[FAIL_SIZE];

    ck_assert_int_ge(fd, 0);
    ck_assert_msg(!writer_disk_make(fd, &v->wish.guest, v->wish.disk_bytes, error), "%s", error);
    close(fd);
}

static struct migbuf_geometry geometry_of(const struct lab_wish *wish)
{
    uint64_t cluster = wish->cluster_bytes, unit = wish->extended ? cluster / 32 : cluster;
    uint64_t request = wish->guest.sectors * 512u;
    bool aligned = wish->guest.start * UINT64_C(512) % unit == 0 && (request % unit == 0 || unit % request == 0);
    struct migbuf_geometry g = {
        .virtual_bytes = wish->disk_bytes,
        .cluster_bytes = cluster,
        .subcluster_bytes = unit,
        .block_bytes = 4096, /* every file system a lab's overlay lies on */
        .extra_bytes = MIGBUF_NONE,
        .request_bytes = request * (wish->no_merging || wish->guest.random ? 1 : wish->guest.depth),
        .flags = aligned ? MIGBUF_GEOMETRY_ALIGNED : 0,
    };
    ck_assert_int_eq(migbuf_limits_drain(&g, wish->guest.depth, request, &g.queue_bytes), 0);
    return g;
}

static void new_disk(struct lab_vm *v)
{
    char group[48];

    snprintf(group, sizeof group, "migbuf-%s", v->name);
    ck_assert_int_eq(migbuf_disk_new(group, NULL, &v->disk), 0);
    ck_assert_int_eq(migbuf_disk_watch(v->disk, VM_DISK_NODE), 0);
}

void lab_start(struct lab_vm *v, const char *name, const struct lab_wish *wish)
{
    char append[256], error[FAIL_SIZE];
    struct vm_config config = { .kernel = kernel, .append = append, .program = program };

    *v = (struct lab_vm){ .wish = *wish, .overlay = -1 };
    if (!v->wish.cluster_bytes)
        v->wish.cluster_bytes = 64 * KIB;
    v->geometry = geometry_of(&v->wish);
    ck_assert_int_eq(migbuf_geometry_check(&v->geometry), 0);
    snprintf(v->name, sizeof v->name, "%s", name);
    snprintf(v->directory, sizeof v->directory, "%s/%s", directory, name);
    snprintf(v->image, sizeof v->image, "%s.raw", v->directory);
    snprintf(v->node, sizeof v->node, VM_DISK_NODE);
    make_image(v);
    ck_assert_int_eq(writer_append(&wish->guest, append, sizeof append), 0);
    config.directory = v->directory;
    config.image = v->image;
    config.ram_mib = writer_ram_mib(&wish->guest);
    config.no_merging = wish->no_merging;
    config.extra = wish->extra;
    ck_assert_msg(!vm_start(&v->vm, &config, error), "%s", error);
    connect_monitor(v);
    new_disk(v);
}

void lab_end(struct lab_vm *v)
{
    migbuf_disk_free(v->disk);
    migbuf_qmp_socket_free(v->qmp);
    vm_end(&v->vm, 0);
    if (v->overlay >= 0)
        close(v->overlay);
    unlink(v->image);
    unlink(v->file);
    *v = (struct lab_vm){ .overlay = -1, .vm = { .process = { .pidfd = -1 }, .log_fd = -1, .memory_fd = -1 } };
}

/* Talking to it */

static void call(struct lab_vm *v, const char *name, const char *arguments, int fd)
{
    struct migbuf_error e;
    int rc;

    if (fd >= 0)
        rc = migbuf_qmp_socket_call_fd(v->qmp, name, arguments, fd, CALL_MS, &v->answer, &e);
    else
        rc = migbuf_qmp_socket_call(v->qmp, name, arguments, CALL_MS, &v->answer, &e);
    ck_assert_msg(rc == 0, "%s: %s %s: %d, %s", v->name, name, arguments ? arguments : "", rc, rc ? e.text : "");
}

void lab_call(struct lab_vm *v, const char *name, const char *arguments, ...)
{
    char text[2048];
    va_list args;

    va_start(args, arguments);
    vsnprintf(text, sizeof text, arguments ? arguments : "{}", args);
    va_end(args);
    call(v, name, text, -1);
}

int lab_version(struct lab_vm *v)
{
    const char *major;

    lab_call(v, "query-version", NULL);
    major = strstr(v->answer.text, "\"major\": ");
    ck_assert_ptr_nonnull(major);
    return atoi(major + 9);
}

bool lab_event(struct lab_vm *v, const char *name, uint32_t timeout_ms)
{
    double until = lab_now() + timeout_ms / 1e3;

    for (;;) {
        double left = fmax(until - lab_now(), 0);

        if (migbuf_qmp_socket_event(v->qmp, (uint32_t)(left * 1e3), &v->answer, NULL) != 1)
            return false;
        if (!strcmp(v->answer.name, name))
            return true;
    }
}

void lab_io(struct lab_vm *v, const char *qdev, const char *command)
{
    lab_call(v, "human-monitor-command", "{\"command-line\": \"qemu-io -d %s \\\"%s\\\"\"}", qdev, command);
    ck_assert_msg(!strstr(v->answer.text, "rror"), "qemu-io %s: %s", command, v->answer.text);
}

void lab_pump(struct lab_vm *v)
{
    struct migbuf_disk_command command;
    struct migbuf_error e;

    while (migbuf_disk_next(v->disk, &command) == 1) {
        int rc = migbuf_qmp_socket_call(v->qmp, command.name, command.arguments, CALL_MS, &v->answer, &e);
        ck_assert_msg(rc == 0 || rc == MIGBUF_E_PEER, "%s: %d, %s", command.name, rc, rc ? e.text : "");
        if (rc)
            printf("# %s: QEMU refused %s: %s\n", v->name, command.name, e.text);
        ck_assert_int_eq(migbuf_report_to_disk(v->disk, command.kind, rc, v->answer.text, v->answer.text_bytes, NULL), 0);
    }
}

void lab_learn(struct lab_vm *v)
{
    ck_assert_int_eq(migbuf_disk_learn(v->disk), 0);
    lab_pump(v);
}

void lab_limit(struct lab_vm *v, const struct migbuf_limits *limits)
{
    ck_assert_int_eq(migbuf_disk_set(v->disk, limits), 0);
    v->limits = *limits;
    v->set_s = lab_now();
    v->sets++;
    lab_pump(v);
}

void lab_again(struct lab_vm *v)
{
    ck_assert_int_eq(migbuf_disk_rearm(v->disk), 0);
    v->sets++;
    v->again++;
    lab_pump(v);
}

void lab_units(struct lab_vm *v, uint64_t units_per_s)
{
    lab_limit(v, &(struct migbuf_limits){ .iops_wr = units_per_s, .iops_size = v->geometry.subcluster_bytes });
}

void lab_restore(struct lab_vm *v)
{
    ck_assert_int_eq(migbuf_disk_restore(v->disk), 0);
    lab_pump(v);
    ck_assert_int_eq(lab_info(v).restored, 1);
}

struct migbuf_disk_info lab_info(const struct lab_vm *v)
{
    struct migbuf_disk_info info = { .size = sizeof info };

    ck_assert_int_eq(migbuf_disk_info(v->disk, &info), 0);
    return info;
}

struct migbuf_block_report lab_block(struct lab_vm *v, const char *node)
{
    struct migbuf_block_report block;

    lab_call(v, "query-block", NULL);
    ck_assert_int_eq(migbuf_report_block(v->answer.text, v->answer.text_bytes, *node ? node : v->node, &block, NULL),
                     0);
    return block;
}

/* Its overlay */

static void run_tool(const char *const argv[])
{
    char error[FAIL_SIZE];

    ck_assert_msg(!process_run(argv, PATIENCE_MS, error), "%s", error);
}

void lab_make_overlay(struct lab_vm *v)
{
    char options[96], size[32];
    const char *const argv[] = { image_tool, "create", "-q", "-f", "qcow2", "-o", options, v->file, size, NULL };

    snprintf(v->file, sizeof v->file, "%s/%s.qcow2", v->wish.omega ? v->wish.omega : directory, v->name);
    snprintf(options, sizeof options, "cluster_size=%llu%s", (unsigned long long)v->wish.cluster_bytes,
             v->wish.extended ? ",extended_l2=on" : "");
    snprintf(size, sizeof size, "%llu", (unsigned long long)v->wish.disk_bytes);
    run_tool(argv);
    v->overlay = open(v->file, O_RDWR | O_CLOEXEC);
    ck_assert_int_ge(v->overlay, 0);
    ck_assert_int_eq(migbuf_cow_file_bytes(v->overlay, &v->overlay_bytes, NULL), 0);
}

static void name_for_qemu(struct lab_vm *v, char *name, size_t size)
{
    struct migbuf_fdset_report set;

    snprintf(name, size, "%s", v->file);
    if (!v->wish.by_fd)
        return;
    unlink(v->file);
    call(v, "add-fd", NULL, v->overlay);
    ck_assert_int_eq(migbuf_report_fdset(v->answer.text, v->answer.text_bytes, &set, NULL), 0);
    snprintf(name, size, "/dev/fdset/%d", (int)set.fdset_id);
}

void lab_overlay(struct lab_vm *v)
{
    char name[256];

    if (v->overlay < 0)
        lab_make_overlay(v);
    name_for_qemu(v, name, sizeof name);
    lab_call(v, "blockdev-add",
             "{\"driver\": \"qcow2\", \"node-name\": \"overlay\", \"detect-zeroes\": \"%s\", \"file\": {\"driver\": "
             "\"file\", \"node-name\": "
             "\"overlay-file\", \"filename\": \"%s\", \"locking\": \"off\"}}",
             v->wish.zeroes ? "on" : "off", name);
    v->overlay_s = lab_now();
    lab_call(v, "blockdev-snapshot", "{\"node\": \"" VM_DISK_NODE "\", \"overlay\": \"overlay\"}");
    snprintf(v->node, sizeof v->node, "overlay");
}

/* Looking */

uint64_t lab_grown(const struct lab_vm *v)
{
    uint64_t bytes;

    ck_assert_int_eq(migbuf_cow_file_bytes(v->overlay, &bytes, NULL), 0);
    return bytes > v->overlay_bytes ? bytes - v->overlay_bytes : 0;
}

void lab_counters(struct lab_vm *v, uint64_t *writes, uint64_t *bytes)
{
    struct migbuf_write_report report;

    lab_call(v, "query-blockstats", NULL);
    ck_assert_int_eq(migbuf_report_writes(v->answer.text, v->answer.text_bytes, NULL, v->node, &report, NULL), 0);
    *writes = report.write_operations;
    *bytes = report.write_bytes;
}

struct guest_status lab_status(const struct lab_vm *v)
{
    struct guest_status status = { 0 };
    char error[FAIL_SIZE];
    int rc = writer_status(v->vm.memory_fd, &status, error);

    ck_assert_msg(rc >= 0, "%s: %s", v->name, error);
    return status;
}

void lab_wait_acknowledged(const struct lab_vm *v, uint32_t writes)
{
    double until = lab_now() + PATIENCE_S;

    while (lab_status(v).acknowledged < writes) {
        ck_assert_msg(lab_now() < until, "%s: %u writes, %u wanted", v->name, lab_status(v).acknowledged, writes);
        lab_sleep(0.002);
    }
}

static uint32_t in_flight(const struct lab_vm *v)
{
    struct guest_status status = lab_status(v);
    uint32_t n = 0;

    for (uint32_t k = 0; k < v->wish.guest.depth; k++)
        n += status.in_flight[k] != 0;
    return n;
}

void lab_wait_in_flight(const struct lab_vm *v, uint32_t writes)
{
    double until = lab_now() + PATIENCE_S;

    while (in_flight(v) < writes) {
        ck_assert_msg(lab_now() < until, "%s: %u writes in flight, %u wanted", v->name, in_flight(v), writes);
        lab_sleep(0.002);
    }
}

/* The library's loop */

static void carry_out(struct lab_loop *l, const struct migbuf_decision *d)
{
    bool pause = d->action == MIGBUF_ACTION_PAUSE || d->action == MIGBUF_ACTION_CANNOT_FIT;

    if (d->action == MIGBUF_ACTION_KEEP)
        return;
    if (d->action == MIGBUF_ACTION_REARM)
        lab_again(l->v);
    else if (!pause)
        lab_limit(l->v, &d->limits);
    if (pause == l->paused)
        return;
    lab_call(l->v, pause ? "stop" : "cont", NULL);
    l->paused = pause;
    l->pauses += pause;
}

static void loop_tick(struct lab_loop *l)
{
    struct migbuf_sample sample = { .id = 1 };
    uint64_t now_ms = (uint64_t)(lab_now() * 1e3);
    struct migbuf_decision decision;

    if (l->v->overlay_s) { /* until then nobody writes to it, and what goes to the base does not count */
        sample.file_bytes = l->v->overlay_bytes + lab_grown(l->v);
        lab_counters(l->v, &sample.writes, &sample.written_bytes);
    }
    ck_assert_int_eq(migbuf_buffer_sample(l->buffer, now_ms, &sample, 1), 0);
    ck_assert_int_eq(migbuf_buffer_tick(l->buffer, now_ms, &decision, 1), 1);
    carry_out(l, &decision);
}

void lab_loop_begin(struct lab_loop *l, struct lab_vm *v, uint64_t omega_bytes, uint64_t growth_bytes_per_s, double tick_s,
                    uint32_t late_percent, uint32_t max_stall_ms)
{
    struct migbuf_migration m;
    struct migbuf_buffer_options options;
    struct migbuf_error e;

    *l = (struct lab_loop){ .v = v, .tick_s = tick_s };
    if (v->overlay < 0)
        lab_make_overlay(v);
    migbuf_buffer_options_init(&options, sizeof options);
    options.policy = MIGBUF_POLICY_PAPER; /* whose share of a link is a budget that a test can set */
    options.interval_ms = (uint32_t)(tick_s * 1e3);
    options.late_factor_percent = late_percent;
    options.floor_bytes_per_s = 0;
    options.max_stall_ms = max_stall_ms;
    ck_assert_int_eq(migbuf_buffer_new(omega_bytes, &options, NULL, &l->buffer), 0);
    migbuf_migration_init(&m, sizeof m);
    m.id = m.link = 1;
    m.file_bytes = v->overlay_s ? v->overlay_bytes : 0;
    ck_assert_msg(migbuf_buffer_add(l->buffer, &m, &v->geometry, 1, &e) == 0, "%s: %s, %llu needed, %llu there", v->name,
                  e.text, (unsigned long long)e.need, (unsigned long long)e.have);
    if (growth_bytes_per_s)
        ck_assert_int_eq(migbuf_buffer_link(l->buffer, 1, growth_bytes_per_s), 0);
    l->last_s = lab_now();
    loop_tick(l);
}

bool lab_loop_step(struct lab_loop *l)
{
    double now = lab_now();

    if (now < l->next_s)
        return false;
    loop_tick(l);
    if (l->next_s)
        l->longest_s = fmax(l->longest_s, now - l->last_s);
    l->last_s = now;
    l->next_s = now + l->tick_s;
    return true;
}

struct migbuf_buffer_view lab_loop_view(const struct lab_loop *l)
{
    struct migbuf_buffer_view view = { .size = sizeof view };

    ck_assert_int_eq(migbuf_buffer_view(l->buffer, 1, &view), 0);
    return view;
}

void lab_loop_end(struct lab_loop *l)
{
    if (l->paused)
        lab_call(l->v, "cont", NULL);
    migbuf_buffer_free(l->buffer);
    *l = (struct lab_loop){ 0 };
}

void lab_check_writes(struct lab_vm *v)
{
    const char *const rebase[] = { image_tool, "rebase", "-u", "-b", v->image, "-F", "raw", v->file, NULL };
    const char *const commit[] = { image_tool, "commit", "-q", v->file, NULL };
    struct guest_status status;
    struct writer_result result;
    char error[FAIL_SIZE];
    int fd;

    lab_call(v, "stop", NULL);
    status = lab_status(v);
    lab_call(v, "quit", NULL);
    vm_end(&v->vm, PATIENCE_MS);
    run_tool(rebase);
    run_tool(commit);
    fd = open(v->image, O_RDONLY | O_CLOEXEC);
    ck_assert_int_ge(fd, 0);
    ck_assert_msg(!writer_check(fd, &v->wish.guest, &status, &result, error), "%s", error);
    close(fd);
    printf("# %s: %u writes acknowledged, %u refused; %llu sectors looked at\n", v->name, status.acknowledged,
           status.failed, (unsigned long long)result.sectors);
    ck_assert_msg(writer_good(&result), "%s: %s", v->name, result.first_bad);
    ck_assert_uint_gt(result.slots, 0);
}
