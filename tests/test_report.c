/* SPDX-License-Identifier: MIT */
/* What QEMU's answers say. The texts are answers of QEMU 7.2.22, cut down to what matters. */
#include "migbuf/report.h"
#include "unit.h"
#include <stdio.h>
#include <string.h>

static const char blocks[] =
    "[{\"device\": \"emptycd\", \"locked\": false, \"removable\": true, \"type\": \"unknown\"}, "
    "{\"device\": \"\", \"inserted\": {\"node-name\": \"internal\"}, \"type\": \"unknown\"}, "
    "{\"io-status\": \"nospace\", \"device\": \"\", \"locked\": false, \"inserted\": {\"iops_rd\": 0, \"image\": "
    "{\"virtual-size\": 67108864, \"filename\": \"json:{\\\"driver\\\": \\\"null-co\\\"}\", \"actual-size\": 0}, "
    "\"iops_wr\": 15, \"group\": \"g1\", \"node-name\": \"n0\", \"iops_size\": 65536, \"iops\": 0, \"bps_wr\": "
    "1000000, "
    "\"bps\": 0, \"bps_rd\": 0, \"iops_wr_max_length\": 3, \"iops_wr_max\": 100}, \"qdev\": \"dev-x\", \"type\": "
    "\"unknown\"}]";

static const char stats[] =
    "[{\"device\": \"emptycd\", \"stats\": {\"wr_bytes\": 0, \"wr_operations\": 0}}, "
    "{\"device\": \"\", \"stats\": {\"wr_bytes\": 4096, \"wr_operations\": 1, \"wr_highest_offset\": 0}, "
    "\"node-name\": \"n0\", \"qdev\": \"dev-x\"}, "
    "{\"device\": \"\", \"parent\": {\"stats\": {\"wr_highest_offset\": 393216, \"wr_bytes\": 0}, \"node-name\": "
    "\"#block123\"}, "
    "\"stats\": {\"wr_bytes\": 18446744073709551615, \"wr_operations\": 2}, \"node-name\": \"o\", \"qdev\": "
    "\"dev-y\"}]";

static const char nodes[] =
    "[{\"image\": {\"virtual-size\": 67108864, \"format\": \"qcow2\", \"actual-size\": 200704}, \"node-name\": \"o\"}, "
    "{\"image\": {\"virtual-size\": 1, \"format\": \"file\"}, \"node-name\": \"p\"}, "
    "{\"image\": {\"format\": \"file\"}, \"node-name\": \"q\"}]";

static const char jobs[] =
    "[{\"auto-finalize\": true, \"io-status\": \"ok\", \"device\": \"j\", \"auto-dismiss\": true, \"busy\": false, "
    "\"len\": 26951680, \"offset\": 26947584, \"status\": \"ready\", \"paused\": false, \"speed\": 0, \"ready\": true, "
    "\"type\": \"mirror\"}]";

#define BYTES(text) text, strlen(text)

START_TEST(a_disk_by_its_node)
{
    struct migbuf_block_report r;

    ck_assert_int_eq(migbuf_report_block(BYTES(blocks), "n0", &r, NULL), 0);
    ck_assert_str_eq(r.node_name, "n0");
    ck_assert_str_eq(r.qdev, "dev-x");
    ck_assert_str_eq(r.throttle.group, "g1");
    ck_assert_uint_eq(r.throttle.bps_wr, 1000000);
    ck_assert_uint_eq(r.throttle.iops_wr, 15);
    ck_assert_uint_eq(r.throttle.iops_wr_max, 100);
    ck_assert_uint_eq(r.throttle.iops_wr_max_length, 3);
    ck_assert_uint_eq(r.throttle.iops_size, 65536);
    ck_assert_uint_eq(r.throttle.bps_wr_max, 0);
    ck_assert_int_eq(r.nospace, 1);
    ck_assert_int_eq(r.failed, 0);
}
END_TEST

/* Each of the nineteen numbers goes to its own field. */
START_TEST(every_limit_has_its_place)
{
    static const char *const names[] = {
        "bps",
        "bps_rd",
        "bps_wr",
        "iops",
        "iops_rd",
        "iops_wr",
        "bps_max",
        "bps_rd_max",
        "bps_wr_max",
        "iops_max",
        "iops_rd_max",
        "iops_wr_max",
        "bps_max_length",
        "bps_rd_max_length",
        "bps_wr_max_length",
        "iops_max_length",
        "iops_rd_max_length",
        "iops_wr_max_length",
        "iops_size",
    };
    char text[2048];
    size_t at = (size_t)snprintf(text, sizeof text, "[{\"qdev\": \"d\", \"inserted\": {\"node-name\": \"n\"");
    struct migbuf_block_report r;

    for (size_t i = 0; i < 19; i++)
        at += (size_t)snprintf(text + at, sizeof text - at, ", \"%s\": %zu", names[i], i + 1);
    snprintf(text + at, sizeof text - at, "}}]");
    ck_assert_int_eq(migbuf_report_block(BYTES(text), "n", &r, NULL), 0);
    const struct migbuf_throttle_config *t = &r.throttle;
    const uint64_t found[] = {
        t->bps,
        t->bps_rd,
        t->bps_wr,
        t->iops,
        t->iops_rd,
        t->iops_wr,
        t->bps_max,
        t->bps_rd_max,
        t->bps_wr_max,
        t->iops_max,
        t->iops_rd_max,
        t->iops_wr_max,
        t->bps_max_length,
        t->bps_rd_max_length,
        t->bps_wr_max_length,
        t->iops_max_length,
        t->iops_rd_max_length,
        t->iops_wr_max_length,
        t->iops_size,
    };
    for (size_t i = 0; i < 19; i++)
        ck_assert_uint_eq(found[i], i + 1);
    ck_assert_str_eq(t->group, "");
}
END_TEST

static void expect_block_error(const char *text, int code, const char *why)
{
    struct migbuf_block_report r, before;
    struct migbuf_error e;

    memset(&r, 0x5a, sizeof r);
    before = r;
    ck_assert_int_eq(migbuf_report_block(BYTES(text), "n", &r, &e), code);
    ck_assert_int_eq(e.code, code);
    ck_assert_str_eq(e.text, why);
    ck_assert_mem_eq(&r, &before, sizeof r);
}

#define ENTRY(qdev, more) "[{" qdev "\"inserted\": {\"node-name\": \"n\"" more "}}]"
#define REST ", \"bps_rd\": 0, \"bps_wr\": 0, \"iops\": 0, \"iops_rd\": 0, \"iops_wr\": 0"

START_TEST(what_is_missing_is_named_and_nothing_changes)
{
    char text[2000], long_name[600];

    expect_block_error("{", MIGBUF_E_PROTOCOL, "not JSON");
    expect_block_error("{}", MIGBUF_E_PROTOCOL, "a list was expected");
    expect_block_error("[]", MIGBUF_E_NOTFOUND, "no such entry in the list");
    expect_block_error("[1, {\"inserted\": 1}]", MIGBUF_E_NOTFOUND, "no such entry in the list");
    expect_block_error("[1e400]", MIGBUF_E_RANGE, "a number is beyond what a double holds");
    expect_block_error(ENTRY("", ", \"bps\": 0" REST), MIGBUF_E_PROTOCOL, "qdev is missing, or not what it should be");
    expect_block_error(ENTRY("\"qdev\": 1, ", ", \"bps\": 0" REST), MIGBUF_E_PROTOCOL,
                       "qdev is missing, or not what it should be");
    expect_block_error(ENTRY("\"qdev\": \"a\\u0000b\", ", ", \"bps\": 0" REST), MIGBUF_E_PROTOCOL,
                       "qdev is missing, or not what it should be");
    expect_block_error(ENTRY("\"qdev\": \"d\", ", REST), MIGBUF_E_PROTOCOL,
                       "inserted.bps is missing, or not what it should be");
    expect_block_error(ENTRY("\"qdev\": \"d\", ", ", \"bps\": \"0\"" REST), MIGBUF_E_PROTOCOL,
                       "inserted.bps is missing, or not what it should be");
    expect_block_error(ENTRY("\"qdev\": \"d\", ", ", \"bps\": 0.0" REST), MIGBUF_E_PROTOCOL,
                       "inserted.bps is missing, or not what it should be");
    expect_block_error(ENTRY("\"qdev\": \"d\", ", ", \"bps\": -1" REST), MIGBUF_E_RANGE,
                       "inserted.bps is missing, or not what it should be");
    memset(long_name, 'x', 512);
    long_name[512] = '\0';
    snprintf(text, sizeof text, "[{\"qdev\": \"%s\", \"inserted\": {\"node-name\": \"n\", \"bps\": 0" REST "}}]",
             long_name);
    expect_block_error(text, MIGBUF_E_TOO_BIG, "qdev is missing, or not what it should be");
    memset(long_name, '[', 300);
    long_name[300] = '\0';
    expect_block_error(long_name, MIGBUF_E_TOO_BIG,
                       "nested too deeply, or more values than QEMU writes in such a length");
}
END_TEST

/* 3 bytes for a value, where QEMU needs 13: a reader would take 75 times the text's length for it. */
START_TEST(a_text_of_too_many_values_is_refused)
{
    size_t bytes = 1 << 20, at = 1;
    char *text = malloc(bytes + 1);

    text[0] = '[';
    for (; at + 4 < bytes; at += 3)
        memcpy(text + at, "{},", 3);
    strcpy(text + at, "{}]");
    expect_block_error(text, MIGBUF_E_TOO_BIG, "nested too deeply, or more values than QEMU writes in such a length");
    free(text);
}
END_TEST

START_TEST(the_longest_device_fits)
{
    char text[2000], name[512];
    struct migbuf_block_report r;

    memset(name, 'x', 511);
    name[511] = '\0';
    snprintf(text, sizeof text, "[{\"qdev\": \"%s\", \"inserted\": {\"node-name\": \"n\", \"bps\": 0" REST "}}]", name);
    ck_assert_int_eq(migbuf_report_block(BYTES(text), "n", &r, NULL), 0);
    ck_assert_str_eq(r.qdev, name);
}
END_TEST

START_TEST(what_a_guest_wrote)
{
    struct migbuf_write_report r;

    ck_assert_int_eq(migbuf_report_writes(BYTES(stats), "dev-x", NULL, &r, NULL), 0);
    ck_assert_uint_eq(r.write_bytes, 4096);
    ck_assert_uint_eq(r.write_operations, 1);
    ck_assert_int_eq(r.has_parent, 0);
    ck_assert_str_eq(r.parent_node_name, "");
    ck_assert_int_eq(migbuf_report_writes(BYTES(stats), NULL, "o", &r, NULL), 0);
    ck_assert_uint_eq(r.write_bytes, INT64_MAX);
    ck_assert_int_eq(r.has_parent, 1);
    ck_assert_str_eq(r.parent_node_name, "#block123");
    ck_assert_uint_eq(r.file_highest_offset, 393216);
    ck_assert_int_eq(migbuf_report_writes(BYTES(stats), "dev-y", "o", &r, NULL), 0);
    ck_assert_int_eq(migbuf_report_writes(BYTES(stats), "dev-x", "o", &r, NULL), MIGBUF_E_NOTFOUND);
    ck_assert_int_eq(migbuf_report_writes(BYTES(stats), NULL, NULL, &r, NULL), MIGBUF_E_INVALID);
}
END_TEST

START_TEST(the_size_of_a_file)
{
    struct migbuf_node_report r;
    struct migbuf_error e;

    ck_assert_int_eq(migbuf_report_node(BYTES(nodes), "o", &r, NULL), 0);
    ck_assert_uint_eq(r.actual_bytes, 200704);
    ck_assert_uint_eq(r.virtual_bytes, 67108864);
    ck_assert_int_eq(migbuf_report_node(BYTES(nodes), "p", &r, NULL), 0); /* over NBD */
    ck_assert_uint_eq(r.actual_bytes, 0);
    ck_assert_uint_eq(r.virtual_bytes, 1);
    ck_assert_int_eq(migbuf_report_node(BYTES(nodes), "q", &r, &e), MIGBUF_E_PROTOCOL);
    ck_assert_str_eq(e.text, "image.virtual-size is missing, or not what it should be");
}
END_TEST

START_TEST(a_block_job)
{
    struct migbuf_job_report r;

    ck_assert_int_eq(migbuf_report_job(BYTES(jobs), "j", &r, NULL), 0);
    ck_assert_uint_eq(r.length, 26951680);
    ck_assert_uint_eq(r.offset, 26947584);
    ck_assert_int_eq(r.ready, 1);
    ck_assert_str_eq(r.status, "ready");
    ck_assert_str_eq(r.type, "mirror");
    ck_assert_int_eq(r.stopped, 0);
    ck_assert_int_eq(migbuf_report_job(BYTES("[{\"device\": \"j\", \"status\": \"ready\", \"type\": \"mirror\", \"len\""
                                             ": 1, \"offset\": 0, \"ready\": true, \"io-status\": \"nospace\"}]"),
                                       "j", &r, NULL),
                     0);
    ck_assert_int_eq(r.stopped, 1);
    r.stopped = 7;
    ck_assert_int_eq(migbuf_report_job(BYTES("[{\"device\": \"j\", \"status\": \"ready\", \"type\": \"mirror\", \"len\""
                                             ": 1, \"offset\": 0, \"ready\": true, \"io-status\": 7}]"),
                                       "j", &r, NULL),
                     MIGBUF_E_PROTOCOL);
    ck_assert_int_eq(r.stopped, 7);
    ck_assert_int_eq(migbuf_report_job("[]", 2, "j", &r, NULL), MIGBUF_E_NOTFOUND);
}
END_TEST

START_TEST(a_mirror_job)
{
    struct migbuf_mirror_report r;
    struct migbuf_error e;

    ck_assert_int_eq(migbuf_report_mirror(BYTES("[{\"device\": \"other\", \"type\": \"commit\", \"status\": \"ready\", \"len\": 1, "
                                                "\"offset\": 1, \"ready\": true}, {\"device\": \"j\", \"type\": \"mirror\", "
                                                "\"status\": \"running\", \"len\": 8, \"offset\": 6, \"ready\": false}]"),
                                          "j", &r, NULL),
                     0);
    ck_assert_int_eq(r.there, 1);
    ck_assert_uint_eq(r.length_bytes, 8);
    ck_assert_uint_eq(r.offset_bytes, 6);
    ck_assert_uint_eq(r.speed_bytes_per_s, 0);
    ck_assert_int_eq(r.ready | r.stopped | r.synced, 0);
    ck_assert_int_eq(migbuf_report_mirror(BYTES("[{\"device\": \"j\", \"type\": \"mirror\", \"status\": \"ready\", \"len\": 8, \"offset\": 8, "
                                                "\"ready\": true, \"speed\": 5, \"io-status\": \"failed\", \"actively-synced\": true}]"),
                                          "j", &r, NULL),
                     0);
    ck_assert_int_eq(r.ready & r.stopped & r.synced, 1);
    ck_assert_uint_eq(r.speed_bytes_per_s, 5);
    ck_assert_int_eq(migbuf_report_mirror(BYTES(jobs), "j", &r, NULL), 0);
    ck_assert_uint_eq(r.length_bytes - r.offset_bytes, 4096);
    ck_assert_int_eq(migbuf_report_mirror("[]", 2, "j", &r, NULL), 0);
    ck_assert_int_eq(r.there | r.ready, 0);
    ck_assert_uint_eq(r.length_bytes, 0);
    r.there = 7;
    ck_assert_int_eq(migbuf_report_mirror(BYTES("[{\"device\": \"j\", \"type\": \"commit\", \"status\": \"ready\", \"len\": 8, "
                                                "\"offset\": 8, \"ready\": true}]"),
                                          "j", &r, &e),
                     MIGBUF_E_PROTOCOL);
    ck_assert_int_eq(migbuf_report_mirror("[", 1, "j", &r, NULL), MIGBUF_E_PROTOCOL);
    ck_assert_int_eq(migbuf_report_mirror("[]", 2, NULL, &r, NULL), MIGBUF_E_INVALID);
    ck_assert_int_eq(migbuf_report_mirror("[]", 2, "j", NULL, NULL), MIGBUF_E_INVALID);
    ck_assert_int_eq(r.there, 7);
}
END_TEST

START_TEST(a_status)
{
    struct migbuf_status_report r;

    ck_assert_int_eq(
        migbuf_report_status(BYTES("{\"status\": \"prelaunch\", \"singlestep\": false, \"running\": false}"), &r, NULL),
        0);
    ck_assert_str_eq(r.status, "prelaunch");
    ck_assert_int_eq(r.running, 0);
    ck_assert_int_eq(migbuf_report_status(BYTES("{\"status\": \"running\", \"running\": true}"), &r, NULL), 0);
    ck_assert_int_eq(r.running, 1);
    ck_assert_int_eq(migbuf_report_status(BYTES("{\"status\": \"running\", \"running\": 1}"), &r, NULL),
                     MIGBUF_E_PROTOCOL);
    ck_assert_int_eq(migbuf_report_status(BYTES("[]"), &r, NULL), MIGBUF_E_PROTOCOL);
    ck_assert_int_eq(migbuf_report_status(NULL, 0, &r, NULL), MIGBUF_E_INVALID);
}
END_TEST

START_TEST(a_migration)
{
    struct migbuf_migrate_report r;
    static const char active[] = "{\"expected-downtime\": 300, \"status\": \"active\", \"setup-time\": 1, "
                                 "\"total-time\": 10, \"ram\": {\"total\": "
                                 "17580032, \"postcopy-requests\": 0, \"dirty-pages-rate\": 7, \"page-size\": 4096, "
                                 "\"remaining\": 1000, \"mbps\": "
                                 "12.5, \"transferred\": 2000}}";

    ck_assert_int_eq(migbuf_report_migrate("{}", 2, &r, NULL), 0);
    ck_assert_str_eq(r.status, "");
    ck_assert_int_eq(r.has_ram, 0);
    ck_assert_int_eq(migbuf_report_migrate(BYTES(active), &r, NULL), 0);
    ck_assert_str_eq(r.status, "active");
    ck_assert_int_eq(r.has_ram, 1);
    ck_assert_uint_eq(r.ram_transferred_bytes, 2000);
    ck_assert_uint_eq(r.ram_remaining_bytes, 1000);
    ck_assert_uint_eq(r.ram_total_bytes, 17580032);
    ck_assert_uint_eq(r.dirty_pages_per_s, 7);
    ck_assert_uint_eq(r.page_bytes, 4096);
    ck_assert_uint_eq(r.expected_downtime_ms, 300);
    ck_near(r.mbps, 12.5);
    ck_assert_int_eq(migbuf_report_migrate(BYTES("{\"ram\": {\"mbps\": 0}}"), &r, NULL), 0);
    ck_assert_int_eq(migbuf_report_migrate(BYTES("{\"ram\": 1}"), &r, NULL), MIGBUF_E_PROTOCOL);
}
END_TEST

START_TEST(a_descriptor_set)
{
    struct migbuf_fdset_report r;

    ck_assert_int_eq(migbuf_report_fdset(BYTES("{\"fd\": 20, \"fdset-id\": 0}"), &r, NULL), 0);
    ck_assert_uint_eq(r.fd, 20);
    ck_assert_uint_eq(r.fdset_id, 0);
    ck_assert_int_eq(migbuf_report_fdset(BYTES("{\"fd\": 20}"), &r, NULL), MIGBUF_E_PROTOCOL);
}
END_TEST

START_TEST(a_migration_in_full)
{
    struct migbuf_ram_report r;
    static const char first[] = "{\"status\": \"active\", \"expected-downtime\": 300, \"total-time\": 205, "
                                "\"ram\": {\"dirty-sync-count\": 1, \"remaining\": 4096}}";
    static const char second[] = "{\"status\": \"active\", \"expected-downtime\": 300, \"total-time\": 305, "
                                 "\"ram\": {\"dirty-sync-count\": 2, \"remaining\": 8192}}";

    ck_assert_int_eq(migbuf_report_ram(BYTES(first), &r, NULL), 0);
    ck_assert_int_eq(r.phase, MIGBUF_RAM_PHASE_ACTIVE);
    ck_assert(r.total_ms == 205 && r.sync_count == 1 && r.ram_remaining_bytes == 4096 && r.has_ram == 1);
    ck_assert_uint_eq(r.expected_downtime_ms, 0); /* before the second sync QEMU says its limit */
    ck_assert_int_eq(migbuf_report_ram(BYTES(second), &r, NULL), 0);
    ck_assert_uint_eq(r.expected_downtime_ms, 300);
    ck_assert_int_eq(migbuf_report_ram(BYTES("{\"status\": \"colo\"}"), &r, NULL), 0);
    ck_assert(r.phase == MIGBUF_RAM_PHASE_OTHER && !r.has_ram);
    ck_assert_int_eq(migbuf_report_ram("{}", 2, &r, NULL), 0);
    ck_assert(r.phase == MIGBUF_RAM_PHASE_NONE && !r.status[0]);
    r.phase = 77;
    ck_assert_int_eq(migbuf_report_ram(BYTES("{\"ram\": 1}"), &r, NULL), MIGBUF_E_PROTOCOL);
    ck_assert_int_eq(migbuf_report_ram(NULL, 2, &r, NULL), MIGBUF_E_INVALID);
    ck_assert_int_eq(r.phase, 77);
}
END_TEST

START_TEST(events_reach_a_machine)
{
    struct migbuf_agreement agreed;
    struct migbuf_ram_info info = { .size = sizeof info };
    struct migbuf_error e;
    struct migbuf_ram *ram;
    static const char active[] = "{\"status\": \"active\"}";

    ck_assert_int_eq(migbuf_agreement_init(&agreed, sizeof agreed), 0);
    ck_assert_int_eq(migbuf_ram_new(&agreed, NULL, NULL, &ram), 0);
    ck_assert_int_eq(migbuf_report_event_to_ram(ram, MIGBUF_RAM_SOURCE, "MIGRATION", BYTES(active), 5, &e), 1);
    ck_assert_int_eq(migbuf_report_event_to_ram(ram, MIGBUF_RAM_SOURCE, "MIGRATION_PASS", BYTES("{\"pass\": 2}"), 6, &e), 1);
    ck_assert_int_eq(migbuf_report_event_to_ram(ram, MIGBUF_RAM_SOURCE, "STOP", NULL, 0, 7, &e), 1);
    ck_assert_int_eq(migbuf_report_event_to_ram(ram, MIGBUF_RAM_TARGET, "RESUME", NULL, 0, 8, &e), 1);
    ck_assert_int_eq(migbuf_report_event_to_ram(ram, MIGBUF_RAM_SOURCE, "SHUTDOWN", BYTES("{\"guest\": true}"), 9, &e), 0);
    ck_assert_int_eq(migbuf_report_event_to_ram(ram, MIGBUF_RAM_SOURCE, "MIGRATION", NULL, 0, 9, &e), MIGBUF_E_INVALID);
    ck_assert_int_eq(migbuf_report_event_to_ram(ram, MIGBUF_RAM_SOURCE, "MIGRATION", "{}", 2, 9, &e), MIGBUF_E_PROTOCOL);
    ck_assert_int_eq(migbuf_report_event_to_ram(ram, 2, "STOP", NULL, 0, 9, &e), MIGBUF_E_INVALID);
    ck_assert_int_eq(migbuf_report_event_to_ram(ram, MIGBUF_RAM_SOURCE, "STOP", NULL, 0, 7, &e), MIGBUF_E_CLOCK);
    ck_assert_int_eq(migbuf_report_event_to_ram(NULL, MIGBUF_RAM_SOURCE, "STOP", NULL, 0, 9, &e), MIGBUF_E_INVALID);
    ck_assert_int_eq(migbuf_ram_info(ram, &info), 0);
    ck_assert_int_eq(info.state, MIGBUF_RAM_STATE_IDLE);
    migbuf_ram_free(ram);
}
END_TEST

START_TEST(reasons_against_a_migration)
{
    char why[40] = "as it was";

    ck_assert_int_eq(migbuf_report_blocked(BYTES("{}"), why, sizeof why, NULL), 0);
    ck_assert_str_eq(why, "");
    ck_assert_int_eq(migbuf_report_blocked(BYTES("{\"blocked-reasons\": []}"), why, sizeof why, NULL), 0);
    ck_assert_int_eq(migbuf_report_blocked(BYTES("{\"blocked-reasons\": [\"a nvme\", \"b\"]}"), why, sizeof why, NULL),
                     1);
    ck_assert_str_eq(why, "a nvme; b");
    ck_assert_int_eq(migbuf_report_blocked(BYTES("{\"blocked-reasons\": [\"a nvme\", \"b\"]}"), why, 5, NULL), 1);
    ck_assert_str_eq(why, "a nv");
    ck_assert_int_eq(migbuf_report_blocked(BYTES("{\"blocked-reasons\": [1]}"), why, sizeof why, NULL),
                     MIGBUF_E_PROTOCOL);
    ck_assert_int_eq(migbuf_report_blocked(BYTES("{\"blocked-reasons\": 1}"), why, sizeof why, NULL),
                     MIGBUF_E_PROTOCOL);
    ck_assert_int_eq(migbuf_report_blocked(BYTES("[]"), why, sizeof why, NULL), MIGBUF_E_PROTOCOL);
    ck_assert_int_eq(migbuf_report_blocked(BYTES("{}"), why, 1, NULL), MIGBUF_E_TOO_BIG);
    ck_assert_int_eq(migbuf_report_blocked(NULL, 0, why, sizeof why, NULL), MIGBUF_E_INVALID);
    ck_assert_str_eq(why, "a nv");
}
END_TEST

START_TEST(events)
{
    struct migbuf_io_error_report io;
    struct migbuf_job_event_report job;
    struct migbuf_job_error_report job_error;
    struct migbuf_threshold_report threshold;
    char status[16] = "untouched";
    char text[1024], reason[300];

    ck_assert_int_eq(
        migbuf_report_io_error(
            BYTES(
                "{\"device\": \"\", \"nospace\": true, \"node-name\": \"o\", \"reason\": \"No space left on device\", "
                "\"operation\": \"write\", \"action\": \"stop\"}"),
            &io, NULL),
        0);
    ck_assert_str_eq(io.node_name, "o");
    ck_assert_str_eq(io.action, "stop");
    ck_assert_str_eq(io.operation, "write");
    ck_assert_int_eq(io.nospace, 1);

    ck_assert_int_eq(
        migbuf_report_job_event(
            BYTES("{\"device\": \"j\", \"len\": 8, \"offset\": 4, \"speed\": 0, \"type\": \"mirror\"}"), &job, NULL),
        0);
    ck_assert_uint_eq(job.length, 8);
    ck_assert_uint_eq(job.offset, 4);
    ck_assert_str_eq(job.error, "");
    memset(reason, 'x', 254);
    memcpy(reason + 254, "\xc3\xa4", 3); /* does not fit whole, so it is left out whole */
    snprintf(text, sizeof text,
             "{\"device\": \"j\", \"len\": 8, \"offset\": 4, \"type\": \"mirror\", \"error\": \"%s\"}", reason);
    ck_assert_int_eq(migbuf_report_job_event(BYTES(text), &job, NULL), 0);
    ck_assert_uint_eq(strlen(job.error), 254);

    ck_assert_int_eq(
        migbuf_report_job_error(BYTES("{\"device\": \"j\", \"operation\": \"write\", \"action\": \"stop\"}"),
                                &job_error, NULL),
        0);
    ck_assert_str_eq(job_error.device, "j");
    ck_assert_str_eq(job_error.operation, "write");
    ck_assert_str_eq(job_error.action, "stop");
    ck_assert_int_eq(migbuf_report_job_error(BYTES("{\"device\": \"j\"}"), &job_error, NULL), MIGBUF_E_PROTOCOL);

    ck_assert_int_eq(
        migbuf_report_threshold(BYTES("{\"node-name\": \"f\", \"amount-exceeded\": 512, \"write-threshold\": 4096}"),
                                &threshold, NULL),
        0);
    ck_assert_str_eq(threshold.node_name, "f");
    ck_assert_uint_eq(threshold.threshold_bytes, 4096);
    ck_assert_uint_eq(threshold.exceeded_bytes, 512);

    ck_assert_int_eq(migbuf_report_migration_status(BYTES("{\"status\": \"pre-switchover\"}"), status, 10, NULL),
                     MIGBUF_E_TOO_BIG);
    ck_assert_str_eq(status, "untouched");
    ck_assert_int_eq(migbuf_report_migration_status(BYTES("{\"status\": \"pre-switchover\"}"), status, 15, NULL), 0);
    ck_assert_str_eq(status, "pre-switchover");
}
END_TEST

START_TEST(answers_reach_a_disk)
{
    struct migbuf_disk_command command;
    struct migbuf_error e;
    struct migbuf_disk_info info = { .size = sizeof info };
    struct migbuf_disk *disk;
    char text[2048];

    ck_assert_int_eq(migbuf_disk_new("g", NULL, &disk), 0);
    ck_assert_int_eq(migbuf_disk_watch(disk, "n0"), 0);
    ck_assert_int_eq(migbuf_disk_learn(disk), 0);
    ck_assert_int_eq(migbuf_disk_next(disk, &command), 1);
    ck_assert_int_eq(command.kind, MIGBUF_DISK_QUERY);
    ck_assert_int_eq(migbuf_report_to_disk(disk, command.kind, 0, "{}", 2, &e), MIGBUF_E_PROTOCOL);
    ck_assert_int_eq(migbuf_disk_next(disk, &command), 0); /* an answer that nobody can read is an unknown outcome */
    ck_assert_int_eq(migbuf_disk_learn(disk), 0);
    ck_assert_int_eq(migbuf_disk_next(disk, &command), 1);
    snprintf(text, sizeof text, "%.*s, {\"qdev\": \"d\", \"inserted\": {\"node-name\": \"n\"}}]",
             (int)strlen(blocks) - 1, blocks);
    ck_assert_int_eq(migbuf_report_to_disk(disk, command.kind, 0, BYTES(text), &e), MIGBUF_E_PROTOCOL);
    ck_assert_ptr_null(migbuf_disk_qdev(disk, "n0")); /* one bad entry: the disk was told of none */
    ck_assert_int_eq(migbuf_disk_learn(disk), 0);
    ck_assert_int_eq(migbuf_disk_next(disk, &command), 1);
    ck_assert_int_eq(migbuf_report_to_disk(disk, command.kind, 0, NULL, 0, &e), MIGBUF_E_INVALID);
    ck_assert_int_eq(migbuf_report_to_disk(disk, command.kind, 0, BYTES(blocks), &e), 0);
    ck_assert_str_eq(migbuf_disk_qdev(disk, "n0"), "dev-x");
    ck_assert_int_eq(migbuf_disk_next(disk, &command), 0);

    ck_assert_int_eq(migbuf_disk_learn(disk), 0);
    ck_assert_int_eq(migbuf_disk_next(disk, &command), 1);
    ck_assert_int_eq(migbuf_report_to_disk(NULL, command.kind, 0, "", 0, &e), MIGBUF_E_INVALID);
    ck_assert_int_eq(migbuf_report_to_disk(disk, command.kind, MIGBUF_E_PEER, NULL, 0, &e), MIGBUF_E_PEER);
    ck_assert_int_eq(migbuf_disk_info(disk, &info), 0);
    ck_assert(!info.unknown);
    for (int k = 0; k < 2; k++) { /* neither is a refusal: QEMU may carry it out */
        ck_assert_int_eq(migbuf_disk_learn(disk), 0);
        ck_assert_int_eq(migbuf_disk_next(disk, &command), 1);
        ck_assert_int_eq(migbuf_report_to_disk(disk, command.kind, k ? MIGBUF_E_TIMEOUT : MIGBUF_E_CLOSED, NULL, 0, &e),
                         MIGBUF_E_UNKNOWN);
        ck_assert_int_eq(migbuf_disk_next(disk, &command), 0);
    }
    migbuf_disk_free(disk);
}
END_TEST

START_TEST(many_nodes_in_one_pass)
{
#define NODE(name, size)                                                                                               \
    "{\"node-name\": \"" name "\", \"image\": {\"virtual-size\": 1000, \"actual-size\": " size "}}"
    static const char three[] = "[" NODE("a", "1") ", " NODE("b", "2") ", " NODE("c", "3") "]";
    static const char bad[] = "[" NODE("a", "1") ", " NODE("b", "\"2\"") "]";
    static const char writes[] = "[{\"node-name\": \"o\", \"stats\": {\"wr_bytes\": 4096, \"wr_operations\": 1}, "
                                 "\"parent\": {\"node-name\": \"f\", \"stats\": {\"wr_highest_offset\": 131072}}}]";
    struct migbuf_node_report n[3] = {
        { .node_name = "c" }, { .node_name = "x", .actual_bytes = 7 }, { .node_name = "a" }
    };
    struct migbuf_write_report w[2] = { { .node_name = "o" }, { .node_name = "p", .write_bytes = 7 } };
    struct migbuf_error e;

    ck_assert_int_eq(migbuf_report_nodes(three, sizeof three - 1, n, 3, &e), 2);
    ck_assert(n[0].actual_bytes == 3 && n[0].virtual_bytes == 1000 && n[2].actual_bytes == 1);
    ck_assert(!strcmp(n[1].node_name, "x") && !n[1].actual_bytes && !n[1].virtual_bytes);
    strcpy(n[1].node_name, "b");
    ck_assert_int_eq(migbuf_report_nodes(bad, sizeof bad - 1, n, 3, &e), MIGBUF_E_PROTOCOL);
    ck_assert(n[0].actual_bytes == 3 && n[2].actual_bytes == 1); /* all or none */
    ck_assert_int_eq(migbuf_report_nodes("{}", 2, n, 3, &e), MIGBUF_E_PROTOCOL);
    ck_assert_int_eq(migbuf_report_nodes("{", 1, n, 3, &e), MIGBUF_E_PROTOCOL); /* no JSON at all */
    ck_assert_int_eq(migbuf_report_nodes("[]", 2, n, 0, &e), 0);
    ck_assert_int_eq(migbuf_report_nodes(three, sizeof three - 1, NULL, 1, &e), MIGBUF_E_INVALID);
    ck_assert_int_eq(migbuf_report_all_writes(writes, sizeof writes - 1, w, 2, &e), 1);
    ck_assert(w[0].file_highest_offset == 131072 && w[0].has_parent && w[0].write_bytes == 4096 && !w[1].write_bytes);
    ck_assert_str_eq(w[0].parent_node_name, "f");
    ck_assert_str_eq(w[1].node_name, "p");
}
END_TEST

/* Answers of newer QEMUs, and numbers that make no sense. */
START_TEST(a_migration_of_another_qemu)
{
    static const struct {
        const char *text, *status;
        int rc;
        uint64_t remaining, downtime;
        double mbps;
    } given[] = {
        { "{\"status\": \"setup\", \"socket-address\": [{\"port\": \"0\", \"ipv4\": true, \"host\": \"::\", \"type\": "
          "\"inet\"}]}",
          "setup", 0, 0, 0, 0 },
        { "{\"status\": \"wait-unplug\", \"total-time\": 3}", "wait-unplug", 0, 0, 0, 0 },
        { "{\"status\": \"completed\", \"setup-time\": 2, \"downtime\": 12, \"total-time\": 124, \"ram\": {\"total\": "
          "67641344, "
          "\"postcopy-requests\": 0, \"dirty-sync-count\": 3, \"multifd-bytes\": 0, \"pages-per-second\": 122870, "
          "\"downtime-bytes\": 16423, \"page-size\": 4096, \"remaining\": 0, \"postcopy-bytes\": 0, \"mbps\": "
          "47.8152131147541, "
          "\"transferred\": 729182, \"dirty-sync-missed-zero-copy\": 0, \"precopy-bytes\": 636031, \"duplicate\": "
          "16395, "
          "\"dirty-pages-rate\": 0, \"normal-bytes\": 503808, \"normal\": 123}}",
          "completed", 0, 0, 0, 47.8152131147541 },
        { "{\"status\": \"postcopy-recover-setup\", \"ram\": {\"multifd-bytes\": 18446744073709551615, \"remaining\": "
          "18446744073709547520, \"mbps\": -1, \"transferred\": 5}}",
          "postcopy-recover-setup", 0, INT64_MAX, 0, 0 },
        { "{\"status\": \"active\", \"expected-downtime\": 9223372036854775808, \"ram\": {\"mbps\": 1.7e308, "
          "\"remaining\": 1}}",
          "active", 0, 1, INT64_MAX, 1.7e308 },
        { "{\"status\": \"failed\", \"error-desc\": \"x\", \"blocked-reasons\": [\"a\"]}", "failed", 0, 0, 0, 0 },
        { "{\"status\": \"active\", \"ram\": {\"mbps\": inf, \"transferred\": 1}}", NULL, MIGBUF_E_PROTOCOL, 0, 0, 0 },
        { "{\"status\": \"active\", \"ram\": {\"mbps\": 1e309, \"transferred\": 1}}", NULL, MIGBUF_E_RANGE, 0, 0, 0 },
        { "{\"status\": \"active\", \"ram\": {\"mbps\": 0,5, \"transferred\": 1}}", NULL, MIGBUF_E_PROTOCOL, 0, 0, 0 },
        { "{\"status\": \"active\", \"ram\": {\"mbps\": \"0\"}}", NULL, MIGBUF_E_PROTOCOL, 0, 0, 0 },
        { "{\"status\": \"active\", \"ram\": {\"remaining\": -1}}", NULL, MIGBUF_E_RANGE, 0, 0, 0 },
        { "{\"status\": \"active\", \"ram\": {\"remaining\": 1.5}}", NULL, MIGBUF_E_PROTOCOL, 0, 0, 0 },
    };

    for (size_t k = 0; k < sizeof given / sizeof *given; k++) {
        struct migbuf_migrate_report r, before;

        memset(&r, 0x5a, sizeof r);
        before = r;
        ck_assert_msg(migbuf_report_migrate(BYTES(given[k].text), &r, NULL) == given[k].rc, "%s", given[k].text);
        if (given[k].rc < 0) {
            ck_assert_mem_eq(&r, &before, sizeof r);
            continue;
        }
        ck_assert_str_eq(r.status, given[k].status);
        ck_assert_uint_eq(r.ram_remaining_bytes, given[k].remaining);
        ck_assert_uint_eq(r.expected_downtime_ms, given[k].downtime);
        ck_near(r.mbps, given[k].mbps);
    }
}
END_TEST

#define STATS(highest) "\"stats\": {\"wr_bytes\": 5, \"wr_operations\": 1, \"wr_highest_offset\": " highest "}"
#define A_FILE "{\"node-name\": \"file\", " STATS("9") "}"
#define FORMAT "{\"node-name\": \"format\", " STATS("42991616") ", \"parent\": " A_FILE "}"
#define FILTER(name, below)                                                                                            \
    "\"node-name\": \"" name "\", " STATS("42991616") ", \"parent\": " below ", \"backing\": " below

/* Cut down from QEMU 7.2 and 10.0; tests/test_report_qemu.c asks them. */
START_TEST(a_file_under_filters)
{
    static const char two[] = "[{\"qdev\": \"d\", " FILTER("top", "{" FILTER("middle", FORMAT) "}") "}]";
    static const char chain[] =
        "[{\"qdev\": \"d\", \"node-name\": \"top\", " STATS("1") ", \"parent\": " A_FILE ", \"backing\": " FORMAT "}]";
    static const char bad[] =
        "[{\"qdev\": \"d\", \"node-name\": \"top\", " STATS("1") ", \"parent\": {\"parent\": 1}}]";
    static const char *const names[] = { "top", "middle", "format" };
    struct migbuf_write_report r, all = { .node_name = "format" };
    struct migbuf_error e;

    for (size_t k = 0; k < 3; k++) {
        ck_assert_int_eq(migbuf_report_writes(BYTES(two), NULL, names[k], &r, NULL), 0);
        ck_assert_str_eq(r.node_name, "top");
        ck_assert_str_eq(r.parent_node_name, "file");
        ck_assert_uint_eq(r.file_highest_offset, 9);
        ck_assert_uint_eq(r.write_bytes, 5);
        ck_assert_int_eq(r.has_parent, 1);
    }
    ck_assert_int_eq(migbuf_report_all_writes(BYTES(two), &all, 1, NULL), 1);
    ck_assert_str_eq(all.node_name, "format");
    ck_assert_uint_eq(all.file_highest_offset, 9);
    ck_assert_int_eq(migbuf_report_writes(BYTES(two), NULL, "file", &r, NULL), MIGBUF_E_NOTFOUND); /* no disk's node */
    ck_assert_int_eq(migbuf_report_writes(BYTES(chain), NULL, "top", &r, NULL), 0);
    ck_assert_uint_eq(r.file_highest_offset, 9);
    ck_assert_int_eq(migbuf_report_writes(BYTES(chain), NULL, "format", &r, NULL),
                     MIGBUF_E_NOTFOUND); /* a backing file */
    ck_assert_int_eq(migbuf_report_writes(BYTES(bad), "d", NULL, &r, &e), MIGBUF_E_PROTOCOL);
}
END_TEST

/* Of entries of one name the first counts; a name may be asked for twice; one that fills its field is no other's. */
START_TEST(names_that_are_alike)
{
    struct migbuf_node_report n[4] = {
        { .node_name = "b" }, { .node_name = "a" }, { .node_name = "b" }, { .actual_bytes = 3 }
    };
    static const char text[] =
        "[" NODE("b\\u0000", "4") ", " NODE("b", "1") ", " NODE("b", "2") ", " NODE("", "3") ", "
                                                                                             "{\"node-name\": 7}, 8]";

    ck_assert_int_eq(migbuf_report_nodes(BYTES(text), n, 4, NULL), 3);
    ck_assert(n[0].actual_bytes == 1 && n[2].actual_bytes == 1 && n[1].actual_bytes == 0 && n[3].actual_bytes == 3);
    memset(n[0].node_name, 'b', sizeof n[0].node_name); /* no NUL: nothing behind it is read */
    n[0].actual_bytes = 0x6262626262626262;
    ck_assert_int_eq(migbuf_report_nodes(BYTES(text), n, 1, NULL), 0);
}
END_TEST

/* Names are compared by strncmp alone. */
int __real_strncmp(const char *a, const char *b, size_t bytes);
int __wrap_strncmp(const char *a, const char *b, size_t bytes);

static size_t compared;

int __wrap_strncmp(const char *a, const char *b, size_t bytes)
{
    compared++;
    return __real_strncmp(a, b, bytes);
}

/* As many records as nodes, named the other way round: sorted, and each looked for by halves, they take 2 n log n
 * comparisons. One by one it would be n n / 2. */
START_TEST(a_name_is_not_looked_for_among_all)
{
    enum { NODES = 4096, HALVES = 12 };
    char *text = malloc(120 * NODES + 9), *at = text;
    struct migbuf_node_report *r = calloc(NODES, sizeof *r);

    *at++ = '[';
    for (size_t i = 0; i < NODES; i++) {
        at += sprintf(at,
                      "{\"node-name\": \"n%zu\", \"drv\": \"qcow2\", \"image\": {\"virtual-size\": 67108864, "
                      "\"actual-size\": 200704}},",
                      i);
        sprintf(r[i].node_name, "n%zu", NODES - 1 - i);
    }
    at[-1] = ']';
    compared = 0;
    ck_assert_int_eq(migbuf_report_nodes(text, (size_t)(at - text), r, NODES, NULL), NODES);
    ck_assert_uint_gt(compared, NODES);
    ck_assert_uint_le(compared, NODES * (2 * HALVES + 4));
    free(text);
    free(r);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        many_nodes_in_one_pass,
        a_migration_of_another_qemu,
        a_file_under_filters,
        names_that_are_alike,
        a_name_is_not_looked_for_among_all,
        a_disk_by_its_node,
        every_limit_has_its_place,
        what_is_missing_is_named_and_nothing_changes,
        a_text_of_too_many_values_is_refused,
        the_longest_device_fits,
        what_a_guest_wrote,
        the_size_of_a_file,
        a_block_job,
        a_mirror_job,
        a_status,
        a_migration,
        a_migration_in_full,
        events_reach_a_machine,
        reasons_against_a_migration,
        a_descriptor_set,
        events,
        answers_reach_a_disk,
        NULL,
    };

    return unit_run("report", tests, 120);
}
