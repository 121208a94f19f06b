/* SPDX-License-Identifier: MIT */
/* examples/loop.c at work, as README shows it: a real guest that writes, with limits of its host's own. */
#include "qemu_lab.h"
#include "process.h"
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* A guest whose host limits it to 400 writes/s, and a second monitor for the program. */
static void begin(struct lab_vm *v, const char *name, const char *monitor)
{
    char server[256];
    const char *const extra[] = { "-qmp", server, NULL };
    struct lab_wish wish = lab_wish();

    snprintf(server, sizeof server, "unix:%s,server=on,wait=off", monitor);
    wish.disk_bytes = 128 * MIB;
    wish.guest.window = 64 * MIB / 4096;
    wish.guest.depth = 4;
    wish.extra = extra;
    lab_start(v, name, &wish);
    lab_wait_acknowledged(v, 1);
    lab_call(v, "block_set_io_throttle",
             "{\"id\": \"/machine/peripheral/dev-lxd_root/virtio-backend\", \"bps\": 0, \"bps_rd\": 0, \"bps_wr\": 0, "
             "\"iops\": 0, \"iops_rd\": 0, \"iops_wr\": 400, \"iops_wr_max\": 500}");
}

static int run_loop(const char *monitor, const char *node, const char *seconds, char error[FAIL_SIZE])
{
    const char *const argv[] = { LOOP, monitor, node, lab_directory(), seconds, NULL };

    return process_run(argv, PATIENCE_MS, error);
}

START_TEST(one_guest_one_disk_one_buffer)
{
    char monitor[192], error[FAIL_SIZE], overlay[192];
    struct migbuf_block_report before, after;
    struct lab_vm v;
    uint32_t acknowledged;

    snprintf(monitor, sizeof monitor, "%s/second.qmp", lab_directory());
    snprintf(overlay, sizeof overlay, "%s/migbuf-overlay.qcow2", lab_directory());
    begin(&v, "first", monitor);
    before = lab_block(&v, "");
    ck_assert_uint_eq(before.throttle.iops_wr, 400);
    acknowledged = lab_status(&v).acknowledged;
    ck_assert_msg(!run_loop(monitor, VM_DISK_NODE, "3", error), "%s", error);
    after = lab_block(&v, "");
    ck_assert_int_eq(memcmp(&before.throttle, &after.throttle, sizeof before.throttle), 0);
    ck_assert_str_eq(before.node_name, after.node_name); /* the base is on top again */
    ck_assert_int_ne(access(overlay, F_OK), 0);
    ck_assert_uint_gt(lab_status(&v).acknowledged, acknowledged);
    acknowledged = lab_status(&v).acknowledged;
    lab_wait_acknowledged(&v, acknowledged + 10); /* it runs */
    lab_make_overlay(&v); /* lab_check_writes wants one, though nothing is in it */
    lab_check_writes(&v);
    lab_end(&v);
}
END_TEST

static int lines_of(int file)
{
    char text[4096];
    ssize_t n;
    int lines = 0;

    for (off_t at = 0; (n = pread(file, text, sizeof text, at)) > 0; at += n)
        for (ssize_t k = 0; k < n; k++)
            lines += text[k] == '\n';
    return lines;
}

static bool commits(struct lab_vm *v)
{
    lab_call(v, "query-block-jobs", NULL);
    return strstr(v->answer.text, "\"device\": \"commit\"") != NULL;
}

/* A program whose merge goes so slowly that a test can come in between. */
static void begin_slow_merge(struct lab_vm *v, struct process *loop, const char *name, int *out)
{
    char monitor[192], said[192], error[FAIL_SIZE];
    const char *const argv[] = { LOOP, monitor, VM_DISK_NODE, lab_directory(), "2", "4096", "4", NULL };

    snprintf(monitor, sizeof monitor, "%s/%s.qmp", lab_directory(), name);
    snprintf(said, sizeof said, "%s/%s.said", lab_directory(), name);
    begin(v, name, monitor);
    *out = open(said, O_CREAT | O_TRUNC | O_RDWR, 0600);
    ck_assert_msg(!process_start(loop, argv, *out, error), "%s", error);
    lab_wait_until(v, commits(v));
    lab_call(v, "block-job-set-speed", "{\"device\": \"commit\", \"speed\": 65536}");
}

/* The guest writes to its overlay until that is merged, however long it takes. */
START_TEST(seconds_go_on_while_the_overlay_is_merged)
{
    struct process loop;
    struct lab_vm v;
    int out, lines;

    begin_slow_merge(&v, &loop, "third", &out);
    lines = lines_of(out);
    lab_wait_until(&v, lines_of(out) > lines + 3);
    ck_assert(commits(&v)); /* still */
    lab_call(&v, "block-job-set-speed", "{\"device\": \"commit\", \"speed\": 0}");
    lab_wait_until(&v, !process_runs(&loop));
    ck_assert_int_eq(loop.status, 0);
    close(out);
    lab_end(&v);
}
END_TEST

/* What is not merged is not deleted, and its limits stay: nobody ticks any more. */
START_TEST(a_merge_that_is_cancelled_loses_nothing)
{
    struct migbuf_block_report block;
    struct process loop;
    char overlay[192];
    struct lab_vm v;
    int out;

    snprintf(overlay, sizeof overlay, "%s/migbuf-overlay.qcow2", lab_directory());
    begin_slow_merge(&v, &loop, "fourth", &out);
    lab_call(&v, "block-job-cancel", "{\"device\": \"commit\"}");
    lab_wait_until(&v, !process_runs(&loop));
    ck_assert(WIFEXITED(loop.status));
    ck_assert_int_eq(WEXITSTATUS(loop.status), 1);
    ck_assert_int_eq(access(overlay, F_OK), 0);
    block = lab_block(&v, "migbuf-overlay"); /* is on top still */
    ck_assert_str_eq(block.throttle.group, "migbuf-loop"); /* our limits */
    close(out);
    unlink(overlay);
    lab_end(&v);
}
END_TEST

/* Whoever has stopped it before, alone lets it run. */
START_TEST(a_guest_that_stands_still_stands)
{
    char monitor[192], error[FAIL_SIZE];
    struct migbuf_status_report status;
    struct lab_vm v;

    snprintf(monitor, sizeof monitor, "%s/fifth.qmp", lab_directory());
    begin(&v, "fifth", monitor);
    lab_call(&v, "stop", NULL);
    ck_assert_msg(!run_loop(monitor, VM_DISK_NODE, "1", error), "%s", error);
    lab_call(&v, "query-status", NULL);
    ck_assert_int_eq(migbuf_report_status(v.answer.text, v.answer.text_bytes, &status, NULL), 0);
    ck_assert(!status.running);
    lab_end(&v);
}
END_TEST

START_TEST(what_is_not_there_changes_nothing)
{
    char monitor[192], error[FAIL_SIZE] = "";
    struct migbuf_block_report before, after;
    struct lab_vm v;

    snprintf(monitor, sizeof monitor, "%s/third.qmp", lab_directory());
    begin(&v, "second", monitor);
    before = lab_block(&v, "");
    ck_assert_int_ne(run_loop(monitor, "no-such-node", "1", error), 0);
    ck_assert_int_ne(run_loop("/no/such/monitor", VM_DISK_NODE, "1", error), 0);
    after = lab_block(&v, "");
    ck_assert_int_eq(memcmp(&before.throttle, &after.throttle, sizeof before.throttle), 0);
    lab_end(&v);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = { one_guest_one_disk_one_buffer, seconds_go_on_while_the_overlay_is_merged,
                                   a_merge_that_is_cancelled_loses_nothing, a_guest_that_stands_still_stands,
                                   what_is_not_there_changes_nothing, NULL };

    return lab_run("loop", tests, 0);
}
