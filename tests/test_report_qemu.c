/* SPDX-License-Identifier: MIT */
/* What the readers make of a real QEMU's answers where its block graph is not the plain one. MIGBUF_QEMU runs another.
 */
#include "migbuf/cow.h"
#include "migbuf/qmp_socket.h"
#include "migbuf/report.h"
#include "qmp_qemu.h"
#include "unit.h"
#include <stdarg.h>
#include <sys/stat.h>

#define MIB (UINT64_C(1) << 20)
#define WRITTEN_AT (40 * MIB) /* where each guest writes its 1 MiB */

static struct qemu qemu;
static struct migbuf_qmp_socket *monitor;

__attribute__((format(printf, 3, 4))) static struct migbuf_qmp_message ask(const char *name, int wanted,
                                                                           const char *format, ...)
{
    struct migbuf_qmp_message m = { .text = "" };
    struct migbuf_error e = { .text = "" };
    char arguments[2000];
    va_list args;
    int rc;

    va_start(args, format);
    vsnprintf(arguments, sizeof arguments, format, args);
    va_end(args);
    rc = migbuf_qmp_socket_call(monitor, name, *arguments ? arguments : NULL, 60000, &m, &e);
    ck_assert_msg(rc == wanted, "%s %s: %d, %s %s", name, arguments, rc, e.text, m.text);
    return m;
}

static void make_image(const char *name, const char *options)
{
    char command[400];

    snprintf(command, sizeof command, "qemu-img create -q -f %s %s/%s 64M", options, qemu.directory, name);
    ck_assert_msg(system(command) == 0, "%s", command);
}

static struct stat look_at(const char *name)
{
    char path[96];
    struct stat st;

    snprintf(path, sizeof path, "%s/%s", qemu.directory, name);
    ck_assert_int_eq(stat(path, &st), 0);
    return st;
}

/* What the test before left: its files, and a loop device. Its QEMU ended with it. */
static bool clean_up(void)
{
    char command[200];

    snprintf(command, sizeof command, "cd %s && { [ ! -s loop ] || losetup -d \"$(cat loop)\"; } && rm -f *",
             qemu.directory);
    return system(command) == 0;
}

/* Four disks: under a throttle filter, under two filters, with its data in a file of its own, and plain. */
static void start(void)
{
    static const char *const plain[] = { "under_throttle", "under_two", "plain", "overlay" };
    char text[5][400], data[120], *d = qemu.directory;

    ck_assert(clean_up());
    for (size_t i = 0; i < sizeof plain / sizeof *plain; i++)
        make_image(plain[i], "qcow2");
    snprintf(data, sizeof data, "qcow2 -o data_file=%s/data", d);
    make_image("with_data", data);
    snprintf(text[0], sizeof text[0],
             "throttle,node-name=throttle,throttle-group=tg,file.driver=qcow2,file.node-name=below,"
             "file.file.driver=file,file.file.node-name=below_file,file.file.filename=%s/under_throttle",
             d);
    snprintf(text[1], sizeof text[1],
             "copy-on-read,node-name=cor,file.driver=throttle,file.throttle-group=tg,file.node-name=middle,"
             "file.file.driver=qcow2,file.file.node-name=bottom,file.file.file.driver=file,file.file.file.node-name="
             "bottom_file,"
             "file.file.file.filename=%s/under_two",
             d);
    snprintf(text[2], sizeof text[2],
             "qcow2,node-name=split,file.driver=file,file.filename=%s/with_data,data-file.driver=file,"
             "data-file.node-name=split_data,data-file.filename=%s/data",
             d, d);
    snprintf(text[3], sizeof text[3],
             "qcow2,node-name=root,file.driver=file,file.node-name=root_file,file.filename=%s/plain", d);
    snprintf(text[4], sizeof text[4],
             "qcow2,node-name=overlay,file.driver=file,file.node-name=overlay_file,file.filename=%s/overlay", d);
    ck_assert_int_eq(1, qemu_start_with(&qemu, "pretty=off",
                              (const char *const[]){ "-M",
                                                     "q35",
                                                     "-m",
                                                     "32",
                                                     "-S",
                                                     "-device",
                                                     "virtio-scsi-pci,id=bus",
                                                     "-object",
                                                     "throttle-group,id=tg",
                                                     "-blockdev",
                                                     text[0],
                                                     "-device",
                                                     "scsi-hd,bus=bus.0,id=a,drive=throttle",
                                                     "-blockdev",
                                                     text[1],
                                                     "-device",
                                                     "scsi-hd,bus=bus.0,id=b,drive=cor",
                                                     "-blockdev",
                                                     text[2],
                                                     "-device",
                                                     "scsi-hd,bus=bus.0,id=c,drive=split",
                                                     "-blockdev",
                                                     text[3],
                                                     "-device",
                                                     "scsi-hd,bus=bus.0,id=d,drive=root",
                                                     "-blockdev",
                                                     text[4],
                                                     NULL }));
    ck_assert_int_eq(migbuf_qmp_socket_open(qemu.qmp, NULL, NULL, 60000, &monitor, NULL), 0);
    ask("blockdev-snapshot", 0, "{\"node\": \"root\", \"overlay\": \"overlay\"}");
    for (const char *device = "abcd"; *device; device++)
        ask("human-monitor-command", 0, "{\"command-line\": \"qemu-io -d %c \\\"write %llu 1M\\\"\"}", *device,
            (unsigned long long)WRITTEN_AT);
}

/* What is found by device and by node is the same, and its offset is the file's and not the guest's. */
static void expect_file(const char *qdev, const char *node, const char *top, const char *file, const char *name)
{
    struct migbuf_write_report by_device, by_node;
    struct migbuf_qmp_message m = ask("query-blockstats", 0, "%s", "");
    uint64_t length = (uint64_t)look_at(name).st_size;
    struct migbuf_error e;

    ck_assert_int_eq(migbuf_report_writes(m.text, m.text_bytes, qdev, NULL, &by_device, &e), 0);
    ck_assert_int_eq(migbuf_report_writes(m.text, m.text_bytes, NULL, node, &by_node, &e), 0);
    ck_assert_mem_eq(&by_device, &by_node, sizeof by_node);
    ck_assert_str_eq(by_node.node_name, top);
    ck_assert_str_eq(by_node.parent_node_name, file);
    ck_assert_int_eq(by_node.has_parent, 1);
    ck_assert_msg(by_node.file_highest_offset >= MIB && by_node.file_highest_offset <= length && length < WRITTEN_AT,
                  "%s: %llu of %llu", node, (unsigned long long)by_node.file_highest_offset,
                  (unsigned long long)length);
}

START_TEST(the_file_is_found_under_filters)
{
    start();
    expect_file("d", "overlay", "overlay", "overlay_file", "overlay");
    expect_file("a", "below", "throttle", "below_file", "under_throttle");
    expect_file("a", "throttle", "throttle", "below_file", "under_throttle");
    expect_file("b", "cor", "cor", "bottom_file", "under_two");
    expect_file("b", "middle", "cor", "bottom_file", "under_two");
    expect_file("b", "bottom", "cor", "bottom_file", "under_two");
    ask("block-set-write-threshold", 0, "{\"node-name\": \"bottom_file\", \"write-threshold\": 1}");
    migbuf_qmp_socket_free(monitor);
}
END_TEST

START_TEST(all_disks_are_found_under_filters)
{
    struct migbuf_write_report writes[] = { { .node_name = "bottom" },  { .node_name = "nobody" },
                                            { .node_name = "overlay" }, { .node_name = "below" },
                                            { .node_name = "root" },    { .node_name = "bottom" } };
    struct migbuf_qmp_message m;

    start();
    m = ask("query-blockstats", 0, "%s", "");
    ck_assert_int_eq(migbuf_report_all_writes(m.text, m.text_bytes, writes, 6, NULL), 4); /* no guest writes to root */
    for (size_t k = 0; k < 6; k++)
        ck_assert(k == 1 || k == 4 ? !writes[k].has_parent && !writes[k].file_highest_offset
                                   : writes[k].file_highest_offset > MIB && writes[k].file_highest_offset < WRITTEN_AT);
    ck_assert_str_eq(writes[0].parent_node_name, "bottom_file");
    ck_assert_str_eq(writes[5].parent_node_name, "bottom_file");
    ck_assert_str_eq(writes[2].parent_node_name, "overlay_file");
    ck_assert_str_eq(writes[3].parent_node_name, "below_file");
    migbuf_qmp_socket_free(monitor);
}
END_TEST

/* Its guest's data lie in that file where the guest wrote them: only the allocated bytes tell how much they are. */
START_TEST(an_overlay_with_its_data_elsewhere)
{
    struct migbuf_write_report w;
    struct migbuf_node_report n;
    struct migbuf_qmp_message m;
    uint64_t both;

    start();
    m = ask("query-blockstats", 0, "%s", "");
    ck_assert_int_eq(migbuf_report_writes(m.text, m.text_bytes, "c", "split", &w, NULL), 0);
    ck_assert_str_eq(w.parent_node_name, "split_data");
    ck_assert_uint_eq(w.file_highest_offset, WRITTEN_AT + MIB);
    both = (uint64_t)(look_at("with_data").st_blocks + look_at("data").st_blocks) * 512;
    m = ask("query-named-block-nodes", 0, "{\"flat\": true}");
    ck_assert_int_eq(migbuf_report_node(m.text, m.text_bytes, "split", &n, NULL), 0);
    ck_assert_uint_eq(n.actual_bytes, both);
    ck_assert(both > MIB && both < 4 * MIB);
    migbuf_qmp_socket_free(monitor);
}
END_TEST

static void wait_until_ready(const char *job)
{
    struct migbuf_job_report j = { .ready = 0 };

    while (!j.ready) {
        struct migbuf_qmp_message m = ask("query-block-jobs", 0, "%s", "");

        ck_assert_int_eq(migbuf_report_job(m.text, m.text_bytes, job, &j, NULL), 0);
        sleep_ms(10);
    }
}

/* Both with a filter node that has a name, which then is the disk's top node, and with one that QEMU keeps to itself.
 */
START_TEST(the_file_is_found_while_a_mirror_runs)
{
    start();
    ask("blockdev-add", 0, "{\"driver\": \"null-co\", \"node-name\": \"target\", \"size\": %llu}",
        (unsigned long long)(64 * MIB));
    ask("blockdev-mirror", 0,
        "{\"job-id\": \"named\", \"device\": \"overlay\", \"target\": \"target\", \"sync\": \"top\", "
        "\"copy-mode\": \"write-blocking\", \"filter-node-name\": \"filter\"}");
    wait_until_ready("named");
    expect_file("d", "overlay", "filter", "overlay_file", "overlay");
    expect_file("d", "filter", "filter", "overlay_file", "overlay");
    ask("block-job-cancel", 0, "{\"device\": \"named\", \"force\": true}");
    while (strstr(ask("query-block-jobs", 0, "%s", "").text, "named"))
        sleep_ms(10);
    ask("blockdev-mirror", 0,
        "{\"job-id\": \"plain\", \"device\": \"overlay\", \"target\": \"target\", \"sync\": \"top\", "
        "\"copy-mode\": \"write-blocking\"}");
    wait_until_ready("plain");
    expect_file("d", "overlay", "overlay", "overlay_file", "overlay");
    migbuf_qmp_socket_free(monitor);
}
END_TEST

/* It has no allocated bytes: only the highest offset tells how much of it is taken. */
START_TEST(an_overlay_on_a_block_device)
{
    struct migbuf_write_report w = { .node_name = "on_device" };
    struct migbuf_qmp_message m;
    struct migbuf_error e;
    char command[300], device[64] = "";
    uint64_t bytes = 7;
    FILE *f;
    int fd;

    start();
    snprintf(command, sizeof command,
             "cd %s && truncate -s 64M volume && losetup -f --show volume >loop 2>/dev/null && "
             "qemu-img create -q -f qcow2 \"$(cat loop)\" 64M",
             qemu.directory);
    if (system(command)) {
        printf("# no loop device here\n");
        return;
    }
    snprintf(command, sizeof command, "%s/loop", qemu.directory);
    f = fopen(command, "r");
    ck_assert(f && fscanf(f, "%63s", device) == 1);
    fclose(f);
    fd = open(device, O_RDONLY | O_CLOEXEC);
    ck_assert_int_eq(migbuf_cow_file_bytes(fd, &bytes, &e), MIGBUF_E_UNSUPPORTED);
    ck_assert_ptr_nonnull(strstr(e.text, "file_highest_offset"));
    ask("blockdev-add", 0,
        "{\"driver\": \"qcow2\", \"node-name\": \"on_device\", \"file\": {\"driver\": \"host_device\", "
        "\"filename\": \"%s\"}}",
        device);
    ask("blockdev-snapshot", 0, "{\"node\": \"overlay\", \"overlay\": \"on_device\"}");
    ask("human-monitor-command", 0, "{\"command-line\": \"qemu-io -d d \\\"write 20M 2M\\\"\"}");
    m = ask("query-blockstats", 0, "%s", "");
    ck_assert_int_eq(migbuf_report_all_writes(m.text, m.text_bytes, &w, 1, NULL), 1);
    ck_assert(w.file_highest_offset >= 2 * MIB && w.file_highest_offset < 4 * MIB);
    ck_assert_int_eq(migbuf_cow_file_bytes(fd, &bytes, &e), MIGBUF_E_UNSUPPORTED);
    ck_assert_uint_eq(bytes, 7);
    close(fd);
    migbuf_qmp_socket_free(monitor);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = { the_file_is_found_under_filters,    all_disks_are_found_under_filters,
                                   an_overlay_with_its_data_elsewhere, the_file_is_found_while_a_mirror_runs,
                                   an_overlay_on_a_block_device,       NULL };
    char command[400];
    int rc;

    snprintf(command, sizeof command, "%s --version >/dev/null 2>&1 && qemu-img --version >/dev/null 2>&1",
             qemu_program());
    if (system(command)) {
        printf("1..0 # SKIP no QEMU, or no qemu-img\n");
        return 0;
    }
    if (!qemu_make_directory(&qemu)) /* for all tests; their QEMUs end with them */
        return 1;
    fflush(stdout);
    rc = unit_run("report_qemu", tests, 300);
    return !clean_up() || rmdir(qemu.directory) || rc;
}
