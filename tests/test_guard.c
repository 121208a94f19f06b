/* SPDX-License-Identifier: MIT */
/*
 * examples/guard between a real Incus and a real QEMU: test_guard incus GUARD. The server has the VM's record and its
 * state volume, and a migration of it under way (of a stopped VM: it waits for the other side); QEMU runs beside it, with
 * a second monitor, a guest that writes as fast as it can, and an overlay made as the servers make theirs, in that
 * volume. `test_guard lxd GUARD`: LXD 5.0.2, which cannot move running VMs.
 */
#include "lxd_lab.h"
#include "migbuf/history.h"
#include "migbuf/qmp_socket.h"
#include "migbuf/report.h"
#include "vm.h"
#include <arpa/inet.h>
#include <curl/curl.h>
#include <fcntl.h>
#include <jansson.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define MIB (UINT64_C(1) << 20)
#define MS PATIENCE_MS
#define STATE_MIB 64
#define DISK_MIB 256
#define PORT 19077

static const char *program, *kernel;
static struct migbuf_lxd *lxd;
static struct migbuf_qmp_socket *qmp;
static struct vm vm;
static struct process guard;
static char state_dir[96], log_file[96], said[65536];

static void pause_ms(int ms)
{
    poll(NULL, 0, ms);
}

/* Waits until it is so, however slow the machine is. */
#define wait_until(condition)                                                                                           \
    do {                                                                                                                \
        uint64_t until_ = now_ns() + PATIENCE_MS * UINT64_C(1000000);                                                   \
                                                                                                                        \
        while (!(condition)) {                                                                                          \
            ck_assert_msg(now_ns() < until_, "never: %s; guard said\n%s", #condition, what_it_said());                  \
            pause_ms(20);                                                                                               \
        }                                                                                                               \
    } while (0)

static const char *what_it_said(void);

/* ---- the server's side ---- */

static void open_lxd(void)
{
    static const char pool[] = "{\"name\":\"b1\",\"driver\":\"btrfs\",\"config\":{\"size\":\"1GiB\"}}";
    struct migbuf_lxd_pool p;

    ck_assert_int_eq(migbuf_lxd_open(lxd_lab_daemon.socket, NULL, NULL, MS, &lxd, NULL), 0);
    if (migbuf_lxd_pool(lxd, "b1", MS, &p, NULL))
        ck_assert_int_eq(migbuf_lxd_call(lxd, "POST", "/1.0/storage-pools", pool, MS, NULL, NULL, NULL), 0);
}

static void make_record(void)
{
    char config[512], devices[256];

    open_lxd();
    snprintf(config, sizeof config,
             "{\"migration.stateful\":\"true\",\"raw.qemu\":\"-name x -qmp unix:%s/vm/qmp2,server=on,wait=off -m 64\"}",
             lxd_lab_directory());
    snprintf(devices, sizeof devices,
             "{\"root\":{\"type\":\"disk\",\"path\":\"/\",\"pool\":\"b1\",\"size\":\"48MiB\",\"size.state\":\"%dMiB\"}}", STATE_MIB);
    ck_assert_msg(!lxd_lab_make_vm(lxd, "vm1", config, devices), "%s", migbuf_lxd_said(lxd));
    ck_assert_msg(!lxd_lab_make_vm(lxd, "vm2", "{}", devices), "%s", migbuf_lxd_said(lxd));
}

/* A migration that waits for its other side; who asked for it has gone. */
static void begin_migration(const char *name)
{
    pid_t caller = lxd_lab_begin_migration(lxd, name);

    kill(caller, SIGKILL);
    ck_assert_int_eq(waitpid(caller, NULL, 0), caller);
}

static void cancel_all(void)
{
    struct migbuf_lxd_migration m[8];
    int n = migbuf_lxd_migrations(lxd, MS, m, 8, NULL);

    for (int k = 0; k < n; k++)
        ck_assert_int_eq(migbuf_lxd_cancel(lxd, m[k].id, MS, NULL), 0);
    wait_until(migbuf_lxd_migrations(lxd, MS, m, 8, NULL) == 0);
}

/* ---- QEMU's side ---- */

static struct migbuf_qmp_message call(const char *name, const char *arguments)
{
    struct migbuf_error e = { .text = "" };
    struct migbuf_qmp_message m = { .text = "" };
    int rc = migbuf_qmp_socket_call(qmp, name, arguments, MS, &m, &e);

    ck_assert_msg(!rc, "%s: %s %s", name, e.text, rc == MIGBUF_E_PEER ? m.text : "");
    return m;
}

static void start_vm(void)
{
    char directory[96], image[128], append[256], error[FAIL_SIZE];
    struct writer_params w;
    static const char *const port[] = { "-device", "pcie-root-port,id=root_port", NULL }; /* for another disk */
    struct vm_config c = { .directory = directory, .image = image, .kernel = kernel, .append = append, .second_monitor = true,
                           .extra = port };
    int fd;

    snprintf(directory, sizeof directory, "%s/vm", lxd_lab_directory());
    snprintf(image, sizeof image, "%s/disk.raw", lxd_lab_directory());
    writer_params_init(&w);
    w.sectors = 8, w.depth = 4, w.pace = 2000, w.random = 1, w.seed = 5, w.id = 1;
    w.window = (uint32_t)((DISK_MIB * MIB / 512 - w.start) / w.sectors);
    fd = open(image, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    ck_assert_msg(!writer_disk_make(fd, &w, DISK_MIB * MIB, error), "%s", error);
    close(fd);
    ck_assert_int_eq(writer_append(&w, append, sizeof append), 0);
    c.ram_mib = writer_ram_mib(&w);
    c.no_merging = true;
    ck_assert_msg(!vm_start(&vm, &c, error), "%s", error);
    wait_until(!migbuf_qmp_socket_open(vm.qmp, NULL, NULL, MS, &qmp, NULL));
    /* The administrator's own limit, which has to come back. */
    snprintf(append, sizeof append,
             "{\"id\":\"%s\",\"bps\":0,\"bps_rd\":0,\"bps_wr\":900000000,\"iops\":0,\"iops_rd\":0,\"iops_wr\":0}",
             vm_disk_qdev(VM_VIRTIO_BLK, 0));
    call("block_set_io_throttle", append);
}

/* The overlay in the VM's state volume, without a name, on top of its disk: as the servers do it. */
static int put_overlay(const char *name, const char *node, const char *overlay)
{
    char file[256], text[512];
    const char *argv[] = { "qemu-img", "create", "-q", "-f", "qcow2", file, "256M", NULL };
    int fd;

    snprintf(file, sizeof file, "%s/virtual-machines/%s/migration_snapshot.qcow2", lxd_lab_daemon.directory, name);
    ck_assert_int_eq(lxd_lab_run(argv, NULL, NULL), 0);
    fd = open(file, O_RDWR | O_CLOEXEC);
    ck_assert_int_ge(fd, 0);
    snprintf(text, sizeof text,
             "{\"driver\":\"qcow2\",\"node-name\":\"%s\",\"file\":{\"driver\":\"file\",\"filename\":\"%s\"}}", overlay, file);
    call("blockdev-add", text);
    ck_assert_int_eq(unlink(file), 0);
    snprintf(text, sizeof text, "{\"node\":\"%s\",\"overlay\":\"%s\"}", node, overlay);
    call("blockdev-snapshot", text);
    return fd;
}

static int look_at_job(struct migbuf_job_report *job)
{
    struct migbuf_qmp_message m = call("query-block-jobs", NULL);

    return migbuf_report_job(m.text, m.text_bytes, "c", job, NULL);
}

/* The migration was given up: what the guest wrote goes back to its disk. */
static void commit_overlay(const char *overlay)
{
    struct migbuf_job_report job;
    char text[128];

    snprintf(text, sizeof text, "{\"job-id\":\"c\",\"device\":\"%s\"}", overlay);
    call("block-commit", text);
    wait_until(!look_at_job(&job) && job.ready);
    call("block-job-complete", "{\"device\":\"c\"}");
    wait_until(look_at_job(&job) == MIGBUF_E_NOTFOUND);
    snprintf(text, sizeof text, "{\"node-name\":\"%s\"}", overlay);
    call("blockdev-del", text);
}

static struct migbuf_throttle_config in_force_on(const char *node, const char *overlay)
{
    struct migbuf_qmp_message m = call("query-block", NULL);
    struct migbuf_block_report b;

    if (migbuf_report_block(m.text, m.text_bytes, node, &b, NULL) &&
        migbuf_report_block(m.text, m.text_bytes, overlay, &b, NULL))
        ck_abort_msg("no disk");
    return b.throttle;
}

static struct migbuf_throttle_config in_force(void)
{
    return in_force_on("lxd_root", "lxd_root_snapshot");
}

static bool is_own(struct migbuf_throttle_config t)
{
    return t.bps_wr == 900000000 && !t.iops_wr && !t.iops_size && strcmp(t.group, "migbuf-guard");
}

/* ---- the program's side ---- */

static void start_guard_with(const char *const more[3])
{
    static char port[16];
    const char *argv[16] = { program, "--interval", "200", "--state-dir", state_dir, "--metrics", port, "--timeout", "120",
                             more[0], more[1], more[2] };
    char error[FAIL_SIZE];
    int fd;

    snprintf(port, sizeof port, "%d", PORT);
    fd = open(log_file, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    ck_assert_msg(!process_start(&guard, argv, fd, error), "%s", error);
    close(fd);
}

static void start_guard(const char *more)
{
    start_guard_with((const char *const[3]){ "--node", "lxd_root", more });
}

static const char *what_it_said(void)
{
    int fd = open(log_file, O_RDONLY | O_CLOEXEC);
    ssize_t n = read(fd, said, sizeof said - 1);

    said[n > 0 ? n : 0] = 0;
    close(fd);
    return said;
}

static void wait_for(const char *word)
{
    uint64_t until = now_ns() + PATIENCE_MS * UINT64_C(1000000);

    while (!strstr(what_it_said(), word)) {
        ck_assert_msg(process_runs(&guard), "guard has ended; it said\n%s", said);
        ck_assert_msg(now_ns() < until, "guard does not say \"%s\" but\n%s", word, said);
        pause_ms(20);
    }
}

static void get_metrics(char *text, size_t room)
{
    struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons(PORT), .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    size_t length = 0;
    ssize_t n;

    ck_assert(!connect(fd, (struct sockaddr *)&a, sizeof a) && write(fd, "GET /metrics HTTP/1.0\r\n\r\n", 25) == 25);
    while (length < room - 1 && (n = read(fd, text + length, room - 1 - length)) > 0)
        length += (size_t)n;
    text[length] = 0;
    close(fd);
}

static double metric(const char *text, const char *name)
{
    const char *at = strstr(text, name);

    ck_assert_msg(at != NULL, "no %s in\n%s", name, text);
    return strtod(at + strlen(name), NULL);
}

static uint64_t acknowledged(void)
{
    struct guest_status s;
    char error[FAIL_SIZE];

    ck_assert_int_eq(writer_status(vm.memory_fd, &s, error), 1);
    ck_assert_uint_eq(s.failed, 0);
    return s.acknowledged;
}

/* Every line of --json is an object with its time, event and text; the last migration was let go while it went on. */
static void check_json(void)
{
    json_t *o = NULL;

    what_it_said();
    for (char *line = said, *next; *line; line = next) {
        next = line + strcspn(line, "\n");
        *next++ = 0;
        json_decref(o);
        o = json_loads(line, 0, NULL);
        ck_assert_msg(json_is_object(o) && json_is_string(json_object_get(o, "time")) && json_is_string(json_object_get(o, "event")) &&
                          json_is_string(json_object_get(o, "text")),
                      "%s", line);
    }
    ck_assert_str_eq(json_string_value(json_object_get(o, "event")), "over");
    ck_assert_str_eq(json_string_value(json_object_get(o, "vm")), "vm1");
    ck_assert_str_eq(json_string_value(json_object_get(o, "outcome")), "unknown");
    ck_assert(json_is_true(json_object_get(o, "limits_given_back")) && json_integer_value(json_object_get(o, "decisions")) > 0);
    json_decref(o);
}

/* ---- the tests ---- */

START_TEST(a_migration_is_guarded)
{
    static char text[16384];
    struct stat st;
    uint64_t most = 0, before;
    double omega;
    int fd;

    make_record();
    start_vm();

    /* It looks, and changes nothing. */
    begin_migration("vm1");
    begin_migration("vm2");
    start_guard("--dry-run");
    wait_for("vm1: would be guarded: state volume 64 MiB");
    wait_for("vm2: not guarded: no second monitor in raw.qemu");
    wait_for("of growth");
    ck_assert(is_own(in_force()));
    process_end(&guard, PATIENCE_MS);
    ck_assert_int_eq(access(state_dir, F_OK), -1);

    /* The limit is there before the overlay is, and the file stays within the volume. */
    start_guard(NULL);
    wait_for("vm1: guarded: state volume 64 MiB");
    wait_for("of growth");
    ck_assert(in_force().iops_wr > 0 && !strcmp(in_force().group, "migbuf-guard"));
    fd = put_overlay("vm1", "lxd_root", "lxd_root_snapshot");
    before = acknowledged();
    for (uint64_t since = now_ns(); now_ns() - since < UINT64_C(6000000000) || most <= 4 * MIB;) {
        ck_assert_int_eq(fstat(fd, &st), 0);
        most = (uint64_t)st.st_blocks * 512 > most ? (uint64_t)st.st_blocks * 512 : most;
        ck_assert_msg(now_ns() - since < PATIENCE_MS * UINT64_C(1000000), "the overlay became only %llu bytes",
                      (unsigned long long)most);
        pause_ms(100);
    }
    wait_until((get_metrics(text, sizeof text),
                metric(text, "\nmigbuf_guard_overlay_bytes{project=\"default\",vm=\"vm1\"} ") > 4e6));
    omega = metric(text, "\nmigbuf_guard_buffer_bytes{project=\"default\",vm=\"vm1\"} ");
    ck_assert(omega > 32 * MIB && omega <= STATE_MIB * MIB);
    ck_assert_msg((double)most <= omega, "the overlay became %llu bytes", (unsigned long long)most);
    ck_assert(metric(text, "\nmigbuf_guard_server_up ") == 1 && metric(text, "\nmigbuf_guard_unguarded_migrations ") == 1);
    ck_assert_msg(acknowledged() > before, "the guest got nothing through");

    /* The server goes and comes back, without its operations. */
    lxd_lab_end();
    wait_for("VMs under guard stay so");
    ck_assert(in_force().iops_wr > 0 || strstr(what_it_said(), "pause"));
    ck_assert(lxd_lab_start());
    wait_for("the server answers");
    pause_ms(500);
    ck_assert(!strstr(what_it_said(), "vm1: over")); /* the overlay is still there */

    commit_overlay("lxd_root_snapshot");
    wait_for("vm1: over, its own limits are in force");
    ck_assert(is_own(in_force()));
    close(fd);

    /* Killed: its limits stay, and the next one takes them away. */
    begin_migration("vm1");
    wait_for("vm1: over"); /* (the first time) */
    wait_until(!is_own(in_force()));
    kill(guard.pid, SIGKILL);
    process_end(&guard, 0);
    ck_assert(!is_own(in_force()));
    cancel_all();
    start_guard("--json");
    wait_for("\"over, its own limits are in force");
    ck_assert(is_own(in_force()));

    /* Ended on request in the middle. */
    begin_migration("vm1");
    wait_until(!is_own(in_force()));
    process_end(&guard, PATIENCE_MS);
    ck_assert_msg(guard.status == 0, "%s", what_it_said());
    check_json();
    ck_assert(is_own(in_force()));
    acknowledged();

    migbuf_qmp_socket_free(qmp);
    vm_end(&vm, PATIENCE_MS);
    vm_release(&vm);
    migbuf_lxd_free(lxd);
}
END_TEST

/* A root disk that is not called root, as Incus names it for QEMU, under an overlay by a name nobody has told us. */
START_TEST(a_root_disk_and_an_overlay_of_other_names)
{
    static const char node[] = "incus_my--root--disk", overlay[] = "what_a_name";
    static char text[16384];
    char config[512], devices[256], history[128];
    struct migbuf_attempt a;
    int fd;

    open_lxd();
    snprintf(config, sizeof config, "{\"migration.stateful\":\"true\",\"raw.qemu\":\"-qmp unix:%s/vm/qmp2,server=on,wait=off\"}",
             lxd_lab_directory());
    snprintf(devices, sizeof devices,
             "{\"my-root-disk\":{\"type\":\"disk\",\"path\":\"/\",\"pool\":\"b1\",\"size\":\"48MiB\",\"size.state\":\"%dMiB\"}}",
             STATE_MIB);
    ck_assert_msg(!lxd_lab_make_vm(lxd, "vm3", config, devices), "%s", migbuf_lxd_said(lxd));
    start_vm();
    call("blockdev-add", "{\"driver\":\"null-co\",\"read-zeroes\":true,\"size\":268435456,\"node-name\":\"incus_my--root--disk\"}");
    call("device_add", "{\"driver\":\"virtio-blk-pci\",\"bus\":\"root_port\",\"id\":\"dev-incus_my--root--disk\","
                       "\"drive\":\"incus_my--root--disk\"}");

    begin_migration("vm3");
    snprintf(history, sizeof history, "%s/history", lxd_lab_directory());
    start_guard_with((const char *const[3]){ "--history", history, NULL });
    wait_for("vm3: guarded: state volume 64 MiB");
    wait_for("of growth");
    ck_assert(in_force_on(node, overlay).iops_wr > 0 && !strcmp(in_force_on(node, overlay).group, "migbuf-guard"));
    get_metrics(text, sizeof text);
    ck_assert(metric(text, "\nmigbuf_guard_overlay_bytes{project=\"default\",vm=\"vm3\"} ") == 0);
    fd = put_overlay("vm3", node, overlay);
    for (int k = 0; k < 500; k++) {
        get_metrics(text, sizeof text);
        if (metric(text, "\nmigbuf_guard_overlay_bytes{project=\"default\",vm=\"vm3\"} ") > 0)
            break;
        pause_ms(20);
    }
    ck_assert(metric(text, "\nmigbuf_guard_overlay_bytes{project=\"default\",vm=\"vm3\"} ") > 0);
    cancel_all();
    pause_ms(500);
    ck_assert(!strstr(what_it_said(), "vm3: over")); /* the overlay is still there */
    commit_overlay(overlay);
    wait_for("vm3: over, its own limits are in force");
    ck_assert(!in_force_on(node, overlay).iops_wr);
    close(fd);
    wait_until((fd = open(history, O_RDONLY | O_CLOEXEC)) >= 0); /* it is written when the limits are back */
    ck_assert_int_eq(migbuf_history_read(text, (size_t)read(fd, text, sizeof text), 0, &a), 1);
    ck_assert(!strcmp(a.id, "vm3") && a.number == 1 && a.outcome == MIGBUF_ATTEMPT_FAILED && a.phase == MIGBUF_ATTEMPT_BASE);
    ck_assert(a.peak_bytes > 0 && a.peak_bytes < MIB && a.disk_bytes == 256 * MIB);
    close(fd);
    get_metrics(text, sizeof text);
    ck_assert(metric(text, "\nmigbuf_guard_migrations_total{outcome=\"stayed\"} ") == 1);
    process_end(&guard, 5000);
    ck_assert_int_eq(rmdir(state_dir), 0); /* nothing is left in it */
    migbuf_qmp_socket_free(qmp);
    vm_end(&vm, 3000);
    vm_release(&vm);
    migbuf_lxd_free(lxd);
}
END_TEST

/* A move is a copy, and its client deletes the source after that: between the two the server has a VM that does not run. */
START_TEST(one_whose_qemu_has_ended_may_have_moved)
{
    static char text[16384];
    char config[512], devices[256], history[128];
    struct migbuf_attempt a;
    int fd;

    open_lxd();
    snprintf(config, sizeof config, "{\"migration.stateful\":\"true\",\"raw.qemu\":\"-qmp unix:%s/vm/qmp2,server=on,wait=off\"}",
             lxd_lab_directory());
    snprintf(devices, sizeof devices,
             "{\"root\":{\"type\":\"disk\",\"path\":\"/\",\"pool\":\"b1\",\"size\":\"48MiB\",\"size.state\":\"%dMiB\"}}", STATE_MIB);
    ck_assert_msg(!lxd_lab_make_vm(lxd, "vm4", config, devices), "%s", migbuf_lxd_said(lxd));
    start_vm();
    begin_migration("vm4");
    snprintf(history, sizeof history, "%s/moved", lxd_lab_directory());
    start_guard_with((const char *const[3]){ "--node=lxd_root", "--history", history });
    wait_for("of growth");
    fd = put_overlay("vm4", "lxd_root", "lxd_root_snapshot");
    wait_until((get_metrics(text, sizeof text),
                metric(text, "\nmigbuf_guard_overlay_bytes{project=\"default\",vm=\"vm4\"} ") > 0));
    close(fd);
    migbuf_qmp_socket_free(qmp);
    vm_end(&vm, PATIENCE_MS);
    vm_release(&vm);
    cancel_all();
    pause_ms(1000); /* several looks */
    get_metrics(text, sizeof text);
    ck_assert_msg(!strstr(what_it_said(), "its QEMU has ended") && strstr(text, "vm=\"vm4\""), "%s\n%s", said, text);
    ck_assert_int_eq(migbuf_lxd_call(lxd, "DELETE", "/1.0/instances/vm4", NULL, MS, NULL, NULL, NULL), 0);
    wait_for("vm4: it has moved");
    wait_until((fd = open(history, O_RDONLY | O_CLOEXEC)) >= 0);
    ck_assert_int_eq(migbuf_history_read(text, (size_t)read(fd, text, sizeof text), 0, &a), 1);
    ck_assert(!strcmp(a.id, "vm4") && a.outcome == MIGBUF_ATTEMPT_MOVED && a.why == MIGBUF_ATTEMPT_DONE);
    close(fd);
    wait_until((get_metrics(text, sizeof text), metric(text, "\nmigbuf_guard_migrations_total{outcome=\"moved\"} ") == 1));
    process_end(&guard, PATIENCE_MS);
    ck_assert_int_eq(rmdir(state_dir), 0);
    migbuf_lxd_free(lxd);
}
END_TEST

START_TEST(wrong_options)
{
    static const struct {
        const char *words[4];
        int status;
        const char *word;
    } given[] = { { { "--help" }, 0, "raw.qemu=" },
                  { { "--interval", "5" }, 2, "100 to 10000" },
                  { { "--metrics", "x" }, 2, "a port" },
                  { { "-h" }, 0, "Usage: migbuf-guard" },
                  { { "-h" }, 0, "Incus (local)\n  --project NAME   VMs of this project alone (all)\n" },
                  { { "--version" }, 0, "migbuf-guard " MESON_VERSION },
                  { { "--what" }, 2, "no option" },
                  { { "-w" }, 2, "-w is no option" },
                  { { "--once=2" }, 2, "--once takes no value" },
                  { { "--state-dir", "/etc/passwd" }, 1, "--state-dir /etc/passwd: Not a directory" },
                  { { "more" }, 2, "options only" },
                  { { "--server", "/nowhere" }, 1, "No such file" } };

    for (size_t k = 0; k < sizeof given / sizeof *given; k++) {
        const char *argv[6] = { program, given[k].words[0], given[k].words[1], NULL }, *text;

        ck_assert_msg(lxd_lab_run(argv, NULL, &text) == given[k].status && strstr(text, given[k].word), "%s: %s",
                      given[k].words[0], text);
    }
}
END_TEST

START_TEST(a_server_that_cannot)
{
    const char *argv[] = { program, "--once", "--state-dir", state_dir, NULL }, *text;

    ck_assert_int_eq(lxd_lab_run(argv, NULL, &text), 1);
    ck_assert_msg(strstr(text, "not supported: this server cannot move running VMs"), "%s", text);
}
END_TEST

int main(int argc, char **argv)
{
    const TTest *const incus[] = { wrong_options, a_root_disk_and_an_overlay_of_other_names, one_whose_qemu_has_ended_may_have_moved, a_migration_is_guarded, NULL };
    const TTest *const old[] = { wrong_options, a_server_that_cannot, NULL };
    int status;

    kernel = getenv("EVACUATE_GUEST");
    if (argc != 3 || !kernel) {
        fprintf(stderr, "usage: EVACUATE_GUEST=guest.elf test_guard lxd | incus GUARD\n");
        return 2;
    }
    program = argv[2];
    curl_global_init(CURL_GLOBAL_DEFAULT);
    if (!lxd_lab_open(argv[1]))
        return EXIT_SUCCESS;
    snprintf(state_dir, sizeof state_dir, "%s/guard", lxd_lab_directory());
    snprintf(log_file, sizeof log_file, "%s/guard.log", lxd_lab_directory());
    status = lxd_lab_start() ? unit_run("guard", lxd_lab_is_incus() ? incus : old, WATCHDOG_S) : EXIT_FAILURE;
    lxd_lab_close();
    curl_global_cleanup();
    return status;
}
