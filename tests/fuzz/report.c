/* SPDX-License-Identifier: MIT */
/* Every reader of QEMU's answers and events on one text, and the JSON below them. What a reader refuses leaves its record as
 * it was; what it takes is a whole record. An input is a byte that says which machine hears of it, and texts with the byte 0x01 between them. The readers get the first;
 * the machines get them in turn. */
#include "fuzz.h"
#include "json.h"
#include "migbuf/report.h"

/* A record before a reader saw it. */
#define UNTOUCHED 0x5a

static int is_refusal(int rc)
{
    return rc == MIGBUF_E_PROTOCOL || rc == MIGBUF_E_RANGE || rc == MIGBUF_E_TOO_BIG || rc == MIGBUF_E_NOTFOUND;
}

static int is_untouched(const void *record, size_t bytes)
{
    const unsigned char *u = record;

    for (size_t k = 0; k < bytes; k++)
        if (u[k] != UNTOUCHED)
            return 0;
    return 1;
}

static int has_end(const char *text, size_t size)
{
    return memchr(text, 0, size) != NULL;
}

#define STRING(field) fuzz_check(has_end(field, sizeof field), "no end")
#define FLAG(field) fuzz_check((field) == 0 || (field) == 1, "%d", (int)(field))

/* Twice the same text is twice the same answer. */
#define READ(record, ...)                                                                                              \
    memset(&record, UNTOUCHED, sizeof record);                                                                         \
    rc = __VA_ARGS__;                                                                                                  \
    fuzz_check(rc == 0 || is_refusal(rc), "%d", rc);                                                                   \
    fuzz_check(rc == 0 || is_untouched(&record, sizeof record), "refused, and changed");                               \
    if (rc)                                                                                                            \
        fuzz_check(e.code == rc && e.text && *e.text, "no reason");                                          \
    if (rc == 0)

static void read_records(const char *text, size_t bytes)
{
    struct migbuf_block_report block;
    struct migbuf_write_report writes, all_writes[2];
    struct migbuf_node_report node, nodes[2];
    struct migbuf_job_report job;
    struct migbuf_status_report status;
    struct migbuf_migrate_report migrate;
    struct migbuf_fdset_report fdset;
    struct migbuf_io_error_report io;
    struct migbuf_job_event_report event;
    struct migbuf_job_error_report job_error;
    struct migbuf_threshold_report threshold;
    struct migbuf_ram_report ram;
    struct migbuf_error e = { 0 };
    char reasons[40], name[32];
    int rc;

    READ(block, migbuf_report_block(text, bytes, "n0", &block, &e)) {
        STRING(block.node_name);
        STRING(block.qdev);
        STRING(block.throttle.group);
        FLAG(block.nospace);
        FLAG(block.failed);
        fuzz_check(!strcmp(block.node_name, "n0"), "another's");
        for (const uint64_t *x = &block.throttle.bps; x <= &block.throttle.iops_size; x++)
            fuzz_check(*x <= INT64_MAX, "a negative limit");
    }
    READ(writes, migbuf_report_writes(text, bytes, "dev-x", NULL, &writes, &e)) {
        STRING(writes.node_name);
        STRING(writes.parent_node_name);
        FLAG(writes.has_parent);
        fuzz_check(writes.write_bytes <= INT64_MAX && writes.write_operations <= INT64_MAX, "negative");
    }
    READ(writes, migbuf_report_writes(text, bytes, NULL, "n0", &writes, &e))
        STRING(writes.node_name);
    READ(node, migbuf_report_node(text, bytes, "n0", &node, &e)) {
        STRING(node.node_name);
        fuzz_check(node.actual_bytes <= INT64_MAX && node.virtual_bytes <= INT64_MAX, "negative");
    }
    memset(nodes, 0, sizeof nodes);
    strcpy(nodes[0].node_name, "n0");
    strcpy(nodes[1].node_name, "o");
    rc = migbuf_report_nodes(text, bytes, nodes, 2, &e);
    fuzz_check((rc >= 0 && rc <= 2) || is_refusal(rc), "%d", rc);
    fuzz_check(!strcmp(nodes[0].node_name, "n0") && !strcmp(nodes[1].node_name, "o"), "a name is gone");
    memset(all_writes, 0, sizeof all_writes);
    strcpy(all_writes[0].node_name, "n0");
    strcpy(all_writes[1].node_name, "o");
    rc = migbuf_report_all_writes(text, bytes, all_writes, 2, &e);
    fuzz_check((rc >= 0 && rc <= 2) || is_refusal(rc), "%d", rc);
    fuzz_check(!strcmp(all_writes[0].node_name, "n0") && !strcmp(all_writes[1].node_name, "o"), "a name is gone");
    READ(job, migbuf_report_job(text, bytes, "j", &job, &e)) {
        STRING(job.device);
        STRING(job.status);
        STRING(job.type);
        FLAG(job.ready);
        FLAG(job.stopped);
    }
    READ(status, migbuf_report_status(text, bytes, &status, &e)) {
        STRING(status.status);
        FLAG(status.running);
    }
    READ(migrate, migbuf_report_migrate(text, bytes, &migrate, &e)) {
        STRING(migrate.status);
        FLAG(migrate.has_ram);
        fuzz_check(migrate.mbps >= 0 && migrate.mbps < 1.0 / 0.0, "%g", migrate.mbps);
    }
    memset(reasons, UNTOUCHED, sizeof reasons);
    rc = migbuf_report_blocked(text, bytes, reasons, 2 + bytes % 38, &e);
    fuzz_check(rc == 0 || rc == 1 || is_refusal(rc), "%d", rc);
    fuzz_check(rc < 0 ? is_untouched(reasons, sizeof reasons) : has_end(reasons, 2 + bytes % 38), "reasons");
    READ(fdset, migbuf_report_fdset(text, bytes, &fdset, &e)) { }
    READ(io, migbuf_report_io_error(text, bytes, &io, &e)) {
        STRING(io.node_name);
        STRING(io.operation);
        STRING(io.action);
        FLAG(io.nospace);
    }
    READ(name, migbuf_report_migration_status(text, bytes, name, sizeof name, &e))
        STRING(name);
    READ(event, migbuf_report_job_event(text, bytes, &event, &e)) {
        STRING(event.device);
        STRING(event.type);
        STRING(event.error);
    }
    READ(job_error, migbuf_report_job_error(text, bytes, &job_error, &e)) {
        STRING(job_error.device);
        STRING(job_error.operation);
        STRING(job_error.action);
    }
    READ(threshold, migbuf_report_threshold(text, bytes, &threshold, &e))
        STRING(threshold.node_name);
    READ(ram, migbuf_report_ram(text, bytes, &ram, &e)) { }
}

/* Nothing of what a peer said makes us send what is no JSON. */
static void check_arguments(const char *arguments)
{
    char *copy;

    if (!arguments)
        return;
    copy = exact_copy(arguments, strlen(arguments));
    fuzz_check(migbuf__json_clean(copy, strlen(arguments)) >= 0, "no JSON: %s", arguments);
    free(copy);
}

/* The next of several texts, from the first again after the last. */
struct texts {
    const char *text, *end, *at;
};

static const char *next_text(struct texts *t, size_t *bytes)
{
    const char *begin = t->at, *end = memchr(begin, 1, (size_t)(t->end - begin));

    *bytes = (size_t)((end ? end : t->end) - begin);
    t->at = end ? end + 1 : t->text;
    return begin;
}

/* A machine that is told the texts as the answers to the questions it has, until it has none. */
static void tell_disk(struct texts t)
{
    const char *text;
    size_t bytes;
    struct migbuf_disk *d;
    struct migbuf_disk_command c;
    struct migbuf_decision decision = { .action = MIGBUF_ACTION_LOWER, .limits = { .iops_wr = 10, .iops_size = 65536 } };

    fuzz_check(migbuf_disk_new("g", NULL, &d) == 0, "new");
    fuzz_check(migbuf_disk_watch(d, "n0") == 0 && migbuf_disk_watch(d, "o") == 0, "watch");
    fuzz_check(migbuf_disk_learn(d) == 0, "learn");
    for (int k = 0; k < 40; k++) {
        if (migbuf_disk_next(d, &c) != 1) {
            if (k < 20 && migbuf_disk_apply(d, &decision) == 0)
                k = 20;
            else if (k < 39 && migbuf_disk_restore(d) == 0)
                k = 39;
            if (migbuf_disk_next(d, &c) != 1)
                break;
        }
        check_arguments(c.arguments);
        text = next_text(&t, &bytes);
        migbuf_report_to_disk(d, c.kind, k % 7 == 6 ? MIGBUF_E_PEER : k % 13 == 12 ? MIGBUF_E_TIMEOUT : 0, text, bytes, NULL);
    }
    migbuf_disk_free(d);
}

static void tell_ram(struct texts t)
{
    const char *text;
    size_t bytes;
    static const char *const events[] = { "MIGRATION", "MIGRATION_PASS", "STOP", "RESUME", "SHUTDOWN" };
    struct migbuf_agreement a;
    struct migbuf_ram *r;
    struct migbuf_ram_command c;

    migbuf_agreement_init(&a, sizeof a);
    a.want_ms = a.most_ms = 300;
    fuzz_check(migbuf_ram_new(&a, NULL, NULL, &r) == 0, "new");
    fuzz_check(migbuf_ram_learn(r) == 0, "learn");
    for (uint64_t k = 0; k < 60; k++) {
        if (migbuf_ram_next(r, &c) != 1) {
            migbuf_ram_start(r, "unix:s", "unix:t");
            migbuf_ram_look(r, 1000 * k);
            if (migbuf_ram_next(r, &c) != 1)
                break;
        }
        check_arguments(c.arguments);
        text = next_text(&t, &bytes);
        migbuf_report_to_ram(r, c.kind, k % 11 == 10 ? MIGBUF_E_PEER : 0, text, bytes, NULL);
        migbuf_report_event_to_ram(r, (int32_t)(k & 1), events[k % 5], k & 2 ? text : NULL, k & 2 ? bytes : 0, 1000 * k, NULL);
    }
    migbuf_ram_free(r);
}

/* What is clean is valid, stays as it is, and says itself how large it is. */
static void check_json(const char *text, size_t bytes)
{
    char *line = exact_copy(text, bytes), *again;
    struct migbuf__json *document = NULL;
    struct migbuf__json_span key, value;
    size_t at = 0, members = 0;
    int rc = migbuf__json_clean(line, bytes);

    fuzz_check(rc == 0 || rc == 1 || is_refusal(rc), "%d", rc);
    while (migbuf__json_next(text, bytes, &at, &key, &value)) {
        fuzz_check(key.at + key.bytes <= bytes && value.at + value.bytes <= bytes && at <= bytes, "beyond the end");
        fuzz_check(members++ <= bytes, "no end of members");
    }
    if (rc >= 0) {
        again = exact_copy(line, bytes);
        fuzz_check(migbuf__json_clean(again, bytes) == 0 && !memcmp(line, again, bytes), "not clean: %.*s", (int)bytes, line);
        free(again);
        rc = migbuf__json_decode(line, bytes, &document);
        fuzz_check(rc == 0 || rc == MIGBUF_E_TOO_BIG, "clean, and %d: %.*s", rc, (int)bytes, line);
        fuzz_check(rc || migbuf__json_values(line, bytes) >= migbuf__json_count(document), "more values than counted");
        migbuf__json_free(document);
    }
    free(line);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct texts all;
    size_t bytes;
    char *text;

    if (!size)
        return 0;
    all = (struct texts){ (const char *)data + 1, (const char *)data + size, (const char *)data + 1 };
    next_text(&all, &bytes);
    text = exact_copy(data + 1, bytes);
    check_json(text, bytes);
    read_records(text, bytes);
    free(text);
    all.at = all.text;
    if (data[0] & 1)
        tell_disk(all);
    if (data[0] & 2)
        tell_ram(all);
    return 0;
}
