/* SPDX-License-Identifier: MIT */
/* The throttle machine against a real QEMU, in the accidents that hosts have: answers that come too late, disks that are
 * unplugged, groups that are shared, limits of different kinds. MIGBUF_QEMU names another QEMU than the one in PATH. */
#include "migbuf/disk.h"
#include "migbuf/qmp_socket.h"
#include "migbuf/report.h"
#include "unit.h"
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define DISKS 3

/* A QEMU with three disks that hold nothing, which runs no program. */
static struct vm {
    pid_t pid;
    char directory[40], path[64];
    struct migbuf_qmp_socket *qmp;
    struct migbuf_qmp_message answer;
    struct migbuf_disk *disk;
} vm;

static const char *const arguments[] = {
    "-M", "q35", "-accel", "tcg", "-m", "16M", "-nodefaults", "-display", "none", "-S",
    "-device", "virtio-scsi-pci,id=s",
    "-blockdev", "driver=null-co,node-name=root0,size=1073741824,read-zeroes=on",
    "-blockdev", "driver=null-co,node-name=root1,size=1073741824,read-zeroes=on",
    "-blockdev", "driver=null-co,node-name=root2,size=1073741824,read-zeroes=on",
    "-device", "scsi-hd,drive=root0,id=dev-root0,bus=s.0,share-rw=on",
    "-device", "scsi-hd,drive=root1,id=dev-root1,bus=s.0",
    "-device", "virtio-blk-pci,drive=root2,id=dev-root2",
};

static void pause_ms(long ms)
{
    nanosleep(&(struct timespec){ .tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000L }, NULL);
}

static void run_qemu(const char *program, pid_t parent)
{
    const char *argv[64] = { program };
    char monitor[96];
    size_t n = 1;

    for (size_t k = 0; k < sizeof arguments / sizeof *arguments; k++)
        argv[n++] = arguments[k];
    snprintf(monitor, sizeof monitor, "unix:%s,server=on,wait=off", vm.path);
    argv[n++] = "-qmp";
    argv[n++] = monitor;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() == parent)
        execvp(program, (char **)argv);
    _exit(127);
}

static void end_vm(void)
{
    migbuf_disk_free(vm.disk);
    migbuf_qmp_socket_free(vm.qmp);
    if (vm.pid > 0) {
        kill(vm.pid, SIGKILL);
        waitpid(vm.pid, NULL, 0);
    }
    if (vm.directory[0]) {
        unlink(vm.path);
        rmdir(vm.directory);
    }
    memset(&vm, 0, sizeof vm);
}

/* The answer stays in vm.answer. */
static int try_call(const char *name, const char *text, uint32_t timeout_ms)
{
    return migbuf_qmp_socket_call(vm.qmp, name, text, timeout_ms, &vm.answer, NULL);
}

static void call(const char *name, const char *text)
{
    int rc = try_call(name, text, 60000);

    ck_assert_msg(rc == 0, "%s %s: %s %s", name, text, migbuf_strerror(rc), rc == MIGBUF_E_PEER ? vm.answer.text : "");
}

static void begin_vm(void)
{
    const char *program = getenv("MIGBUF_QEMU") ? getenv("MIGBUF_QEMU") : "qemu-system-x86_64";
    pid_t parent = getpid();
    struct migbuf_error e = { .text = "" };
    int rc = MIGBUF_E_SYSTEM;

    strcpy(vm.directory, "/tmp/migbuf-disk-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(vm.directory));
    snprintf(vm.path, sizeof vm.path, "%s/qmp", vm.directory);
    vm.pid = fork();
    if (vm.pid == 0)
        run_qemu(program, parent);
    while (rc == MIGBUF_E_SYSTEM && waitpid(vm.pid, NULL, WNOHANG) == 0) {
        rc = migbuf_qmp_socket_open(vm.path, NULL, NULL, 60000, &vm.qmp, &e);
        if (rc)
            pause_ms(20);
    }
    ck_assert_msg(rc == 0, "QEMU's monitor: %s", e.text);
}

static void watch(int disks)
{
    char name[8];

    ck_assert_int_eq(migbuf_disk_new("migbuf-vm1", NULL, &vm.disk), 0);
    for (int k = 0; k < disks; k++) {
        snprintf(name, sizeof name, "root%d", k);
        ck_assert_int_eq(migbuf_disk_watch(vm.disk, name), 0);
    }
}

/* As a host does it, with so long a deadline for each command. */
static int pump(uint32_t timeout_ms)
{
    struct migbuf_disk_command c;
    int rc = 0;

    while (rc >= 0 && migbuf_disk_next(vm.disk, &c) == 1) {
        int result = try_call(c.name, c.arguments, timeout_ms);

        rc = migbuf_report_to_disk(vm.disk, c.kind, result, vm.answer.text, vm.answer.text_bytes, NULL);
    }
    return rc;
}

static void learn(void)
{
    ck_assert_int_eq(migbuf_disk_learn(vm.disk), 0);
    ck_assert_int_eq(pump(60000), 0);
}

static void set(uint64_t iops)
{
    struct migbuf_limits limits = { .iops_wr = iops, .iops_size = 65536 };

    ck_assert_int_eq(migbuf_disk_set(vm.disk, &limits), 0);
    ck_assert_int_eq(pump(60000), 0);
    ck_assert_int_eq(migbuf_disk_outcome(vm.disk), MIGBUF_OUTCOME_DONE);
}

static struct migbuf_disk_info info(void)
{
    struct migbuf_disk_info i = { .size = sizeof i };

    ck_assert_int_eq(migbuf_disk_info(vm.disk, &i), 0);
    return i;
}

static void restore(void)
{
    ck_assert_int_eq(migbuf_disk_restore(vm.disk), 0);
    ck_assert_int_eq(pump(60000), 0);
    ck_assert(info().restored);
    ck_assert_int_eq(try_call("qom-get", "{\"path\":\"/objects/migbuf-vm1\",\"property\":\"type\"}", 60000), MIGBUF_E_PEER);
}

static int runs(void)
{
    struct migbuf_status_report status;

    call("query-status", NULL);
    ck_assert_int_eq(migbuf_report_status(vm.answer.text, vm.answer.text_bytes, &status, NULL), 0);
    return status.running;
}

static struct migbuf_throttle_config limits_of(const char *node)
{
    struct migbuf_block_report b;

    call("query-block", NULL);
    ck_assert_int_eq(migbuf_report_block(vm.answer.text, vm.answer.text_bytes, node, &b, NULL), 0);
    return b.throttle;
}

static void set_by_hand(const char *id, const char *rates, const char *group)
{
    char text[512];

    snprintf(text, sizeof text, "{\"id\":\"%s\",%s%s%s%s}", id, rates, group ? ",\"group\":\"" : "", group ? group : "",
             group ? "\"" : "");
    call("block_set_io_throttle", text);
}

#define NO_RATES "\"bps\":0,\"bps_rd\":0,\"bps_wr\":0,\"iops\":0,\"iops_rd\":0,\"iops_wr\":0"
#define WRITES(n) "\"bps\":0,\"bps_rd\":0,\"bps_wr\":" n ",\"iops\":0,\"iops_rd\":0,\"iops_wr\":0"

/* A QEMU that hangs while the limit is lowered, and lowers it afterwards. */
START_TEST(what_came_too_late_is_still_ours)
{
    struct migbuf_limits slow = { .iops_wr = 5, .iops_size = 65536 }, bytes = { .iops_wr = 5, .bps_wr = 327680 };

    for (int typed = 0; typed < 2; typed++) {
        begin_vm();
        watch(1);
        if (typed)
            ck_assert_int_eq(migbuf_disk_six_rates(vm.disk), 0);
        learn();
        if (typed) {
            ck_assert_int_eq(migbuf_disk_set(vm.disk, &(struct migbuf_limits){ .iops_wr = 100, .bps_wr = 6553600 }), 0);
            ck_assert_int_eq(pump(60000), 0);
        } else {
            set(100);
        }
        kill(vm.pid, SIGSTOP);
        ck_assert_int_eq(migbuf_disk_set(vm.disk, typed ? &bytes : &slow), 0);
        ck_assert_int_eq(pump(100), MIGBUF_E_UNKNOWN);
        ck_assert(info().unknown);
        ck_assert_int_eq(migbuf_disk_outcome(vm.disk), MIGBUF_OUTCOME_UNKNOWN);
        kill(vm.pid, SIGCONT);
        learn();
        ck_assert(!info().unknown && info().throttled && info().limits.iops_wr == 5 && !info().taken_over);
        ck_assert(limits_of("root0").iops_wr == 5);
        restore();
        ck_assert(limits_of("root0").iops_wr == 0 && limits_of("root0").bps_wr == 0 && !limits_of("root0").group[0]);
        end_vm();
    }
}
END_TEST

START_TEST(a_guest_whose_stop_came_too_late_runs_again)
{
    struct migbuf_decision pause = { .action = MIGBUF_ACTION_PAUSE };
    struct migbuf_decision go_on = { .action = MIGBUF_ACTION_RESUME, .limits = { .iops_wr = 5, .iops_size = 65536 } };
    struct migbuf_disk_command c;

    begin_vm();
    watch(1);
    call("cont", NULL);
    learn();
    set(5);
    ck_assert_int_eq(migbuf_disk_apply(vm.disk, &pause), 0);
    ck_assert_int_eq(migbuf_disk_next(vm.disk, &c), 1);
    ck_assert_int_eq(c.kind, MIGBUF_DISK_STATUS);
    call(c.name, NULL);
    ck_assert_int_eq(migbuf_report_to_disk(vm.disk, c.kind, 0, vm.answer.text, vm.answer.text_bytes, NULL), 0);
    kill(vm.pid, SIGSTOP);
    ck_assert_int_eq(pump(100), MIGBUF_E_UNKNOWN);
    kill(vm.pid, SIGCONT);
    ck_assert_int_eq(migbuf_disk_apply(vm.disk, &go_on), 0);
    ck_assert_int_eq(pump(60000), 0);
    ck_assert_int_eq(migbuf_disk_outcome(vm.disk), MIGBUF_OUTCOME_DONE);
    ck_assert(runs());
    end_vm();
}
END_TEST

/* The host dies while the buffer has the guest stand. The next one asks and sets limits, and only then decides. */
START_TEST(a_loaded_guest_stands_until_somebody_decides)
{
    struct migbuf_decision pause = { .action = MIGBUF_ACTION_PAUSE };
    char text[8192];
    size_t length;

    begin_vm();
    watch(1);
    call("cont", NULL);
    learn();
    set(5);
    ck_assert_int_eq(migbuf_disk_apply(vm.disk, &pause), 0);
    ck_assert_int_eq(pump(60000), 0);
    ck_assert(!runs());
    ck_assert_int_eq(migbuf_disk_save(vm.disk, text, sizeof text, &length), 0);
    migbuf_disk_free(vm.disk);
    ck_assert_int_eq(migbuf_disk_load(text, length, NULL, &vm.disk), 0);
    ck_assert_int_eq(pump(60000), 0);
    ck_assert(!runs() && info().stopped && info().limits.iops_wr == 5);
    set(7);
    ck_assert(!runs() && info().stopped && info().limits.iops_wr == 7);
    restore();
    ck_assert(runs() && !info().stopped);
    end_vm();
}
END_TEST

START_TEST(limits_of_different_kinds_are_merged)
{
    begin_vm();
    set_by_hand("dev-root0", "\"bps\":10000000,\"bps_rd\":0,\"bps_wr\":0,\"iops\":0,\"iops_rd\":0,\"iops_wr\":0", NULL);
    set_by_hand("dev-root1", "\"bps\":0,\"bps_rd\":3000000,\"bps_wr\":0,\"iops\":500,\"iops_rd\":0,\"iops_wr\":0", NULL);
    set_by_hand("/machine/peripheral/dev-root2/virtio-backend",
                "\"bps\":0,\"bps_rd\":0,\"bps_wr\":0,\"iops\":0,\"iops_rd\":20,\"iops_wr\":0", NULL);
    watch(3);
    learn();
    set(100);
    ck_assert(info().throttled && !info().plain);
    for (int k = 0; k < 2; k++) {
        struct migbuf_throttle_config c = limits_of(k ? "root1" : "root0");

        ck_assert(c.iops_wr == 100 && c.iops_rd == 20 && c.bps_rd == 3000000 && c.bps_wr == 5000000 && !c.bps && !c.iops);
    }
    restore();
    ck_assert(limits_of("root0").bps == 10000000 && limits_of("root1").bps_rd == 3000000 && limits_of("root1").iops == 500 &&
              limits_of("root2").iops_rd == 20);
    end_vm();
}
END_TEST

/* The devices are there until QEMU has let them go. */
static void unplug(const char *device)
{
    char text[64];

    snprintf(text, sizeof text, "{\"id\":\"%s\"}", device);
    call("device_del", text);
    do {
        pause_ms(5);
        call("query-block", NULL);
    } while (strstr(vm.answer.text, device));
}

START_TEST(the_disks_that_are_left_are_served)
{
    begin_vm();
    set_by_hand("dev-root1", WRITES("7000000"), NULL);
    watch(2);
    learn();
    set(100);
    unplug("dev-root0");
    set(400); /* told to both: the one that is gone is left out */
    ck_assert(info().gone == 1 && limits_of("root1").iops_wr == 400);
    call("device_add", "{\"driver\":\"scsi-hd\",\"drive\":\"root0\",\"id\":\"dev-root0\",\"bus\":\"s.0\"}");
    learn(); /* there again, and without a limit */
    ck_assert(info().gone == 0 && limits_of("root0").iops_wr == 400);
    unplug("dev-root0");
    restore();
    ck_assert(limits_of("root1").bps_wr == 7000000 && limits_of("root1").iops_wr == 0);
    end_vm();
}
END_TEST

START_TEST(a_shared_group_keeps_what_was_set_meanwhile)
{
    begin_vm();
    set_by_hand("dev-root0", WRITES("5000000"), "host");
    set_by_hand("dev-root1", WRITES("5000000"), "host");
    watch(1);
    learn();
    set(100);
    set_by_hand("dev-root1", WRITES("50000000"), "host");
    restore();
    ck_assert(limits_of("root0").bps_wr == 50000000 && limits_of("root1").bps_wr == 50000000);
    ck_assert_str_eq(limits_of("root0").group, "host");
    end_vm();
}
END_TEST

START_TEST(a_group_without_limits_is_gone_back_to)
{
    begin_vm();
    call("object-add", "{\"qom-type\":\"throttle-group\",\"id\":\"open\",\"limits\":{\"bps-write\":77}}");
    set_by_hand("dev-root0", WRITES("77"), "open");
    set_by_hand("dev-root1", WRITES("77"), "open");
    call("qom-set", "{\"path\":\"/objects/open\",\"property\":\"limits\",\"value\":{\"bps-write\":0}}");
    ck_assert_str_eq(limits_of("root0").group, "open");
    watch(1);
    learn();
    set(100);
    restore();
    ck_assert_str_eq(limits_of("root0").group, "open");
    ck_assert(!limits_of("root0").bps_wr && !limits_of("root0").iops && !limits_of("root1").iops && !info().taken_over);
    ck_assert_str_eq(limits_of("root1").group, "open");
    end_vm();
}
END_TEST

START_TEST(two_devices_of_one_node_are_refused)
{
    begin_vm();
    call("device_add", "{\"driver\":\"scsi-hd\",\"drive\":\"root0\",\"id\":\"dev-again\",\"bus\":\"s.0\",\"share-rw\":true}");
    watch(1);
    ck_assert_int_eq(migbuf_disk_learn(vm.disk), 0);
    ck_assert_int_eq(pump(60000), MIGBUF_E_UNSUPPORTED);
    end_vm();
}
END_TEST

/* The host's own update of a device sends its limits, or none, while ours are in force; and dies with them in force. */
START_TEST(another_hand_and_a_death)
{
    char text[8192];
    size_t length;

    begin_vm();
    set_by_hand("dev-root0", WRITES("9000000"), NULL);
    watch(1);
    learn();
    set(100);
    set_by_hand("dev-root0", NO_RATES, NULL);
    learn();
    ck_assert(info().taken_over == 1 && limits_of("root0").iops_wr == 100 && !limits_of("root0").bps_wr);
    set_by_hand("dev-root0", WRITES("8000000"), NULL);
    learn();
    ck_assert(info().taken_over == 2 && limits_of("root0").iops_wr == 100 && limits_of("root0").bps_wr == 8000000);
    ck_assert_int_eq(migbuf_disk_save(vm.disk, text, sizeof text, &length), 0);
    set(50);
    migbuf_disk_free(vm.disk);
    ck_assert_int_eq(migbuf_disk_load(text, length, NULL, &vm.disk), 0);
    ck_assert_int_eq(pump(60000), 0);
    ck_assert(info().limits.iops_wr == 50);
    set_by_hand("dev-root0", WRITES("6000000"), NULL); /* into our group, which it is in */
    restore();
    ck_assert(limits_of("root0").bps_wr == 6000000 && !limits_of("root0").iops_wr);
    ck_assert_str_eq(limits_of("root0").group, "dev-root0");
    end_vm();
}
END_TEST

int main(void)
{
    const TTest *const tests[] = { what_came_too_late_is_still_ours, a_guest_whose_stop_came_too_late_runs_again,
                                   a_loaded_guest_stands_until_somebody_decides,
                                   limits_of_different_kinds_are_merged, the_disks_that_are_left_are_served,
                                   a_shared_group_keeps_what_was_set_meanwhile, a_group_without_limits_is_gone_back_to,
                                   two_devices_of_one_node_are_refused, another_hand_and_a_death, NULL };

    if (!getenv("MIGBUF_QEMU") && system("command -v qemu-system-x86_64 >/dev/null")) {
        puts("1..0 # SKIP no qemu-system-x86_64");
        return 0;
    }
    return unit_run("disk_qemu", tests, 300);
}
