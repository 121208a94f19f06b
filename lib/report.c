/* SPDX-License-Identifier: MIT */
/*
 * report: tables that say which member of an answer goes to which field of a record, and one walk that follows them.
 * Reads text, fills records, decides nothing.
 */
#include "migbuf/report.h"
#include "json.h"
#include "memory.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_KEY_BYTES 64

enum field_type { U64, RATE, BOOLEAN, TEXT, CUT_TEXT, OBJECT, IS_NOSPACE, IS_FAILED, IS_NOT_OK };

/* One member: where it is ("a.b" is member b of member a), where it goes, and what to say when it is not right. */
struct field {
    const char *path;
    enum field_type type;
    bool needed;
    size_t offset;
    size_t bytes; /* room for a string */
    const char *trouble;
};

#define FIELD(record, member, path, type, needed)                                                                      \
    {                                                                                                                  \
        path, type, needed, offsetof(struct record, member), sizeof(((struct record *)0)->member),                     \
            path " is missing, or not what it should be"                                                               \
    }
#define NEED(record, member, path, type) FIELD(record, member, path, type, true)
#define MAY(record, member, path, type) FIELD(record, member, path, type, false)
#define COUNT(array) (sizeof(array) / sizeof *(array))

/* ---- the walk ---- */

static const struct migbuf__json *at_path(const struct migbuf__json *value, const char *path)
{
    char key[MAX_KEY_BYTES];

    while (value && *path) {
        size_t bytes = strcspn(path, ".");

        memcpy(key, path, bytes);
        key[bytes] = '\0';
        value = migbuf__json_member(value, key);
        path += bytes + (path[bytes] == '.');
    }
    return value;
}

static int put_text(const struct migbuf__json *value, const struct field *f, char *out)
{
    const char *text;
    size_t bytes;

    if (!migbuf__json_string(value, &text, &bytes) || strlen(text) != bytes)
        return MIGBUF_E_PROTOCOL;
    if (bytes >= f->bytes) {
        if (f->type != CUT_TEXT)
            return MIGBUF_E_TOO_BIG;
        bytes = f->bytes - 1;
        while (bytes && ((unsigned char)text[bytes] & 0xC0) == 0x80) /* not in the middle of a character */
            bytes--;
    }
    memcpy(out, text, bytes);
    return 0;
}

static int put_u64(const struct migbuf__json *value, void *out)
{
    int64_t number;

    if (!migbuf__json_integer(value, &number))
        return MIGBUF_E_PROTOCOL;
    if (number < 0)
        return MIGBUF_E_RANGE;
    memcpy(out, &(uint64_t){ (uint64_t)number }, sizeof(uint64_t));
    return 0;
}

static int put_flag(bool valid, bool flag, void *out)
{
    if (valid)
        memcpy(out, &(int32_t){ flag }, sizeof(int32_t));
    return valid ? 0 : MIGBUF_E_PROTOCOL;
}

/* A rate, 0 where QEMU has none: some versions say -1 then. */
static int put_rate(const struct migbuf__json *value, void *out)
{
    double number;

    if (!migbuf__json_number(value, &number))
        return MIGBUF_E_PROTOCOL;
    if (number > 0)
        memcpy(out, &number, sizeof number);
    return 0;
}

static bool is_text(const struct migbuf__json *value, const char *wanted)
{
    const char *text;
    size_t bytes;

    return migbuf__json_string(value, &text, &bytes) && bytes == strlen(wanted) && memcmp(text, wanted, bytes) == 0;
}

static bool is_string(const struct migbuf__json *value)
{
    const char *text;
    size_t bytes;

    return migbuf__json_string(value, &text, &bytes);
}

static int put(const struct migbuf__json *value, const struct field *f, char *record)
{
    char *out = record + f->offset;
    bool flag = false;

    switch (f->type) {
    case U64:
        return put_u64(value, out);
    case RATE:
        return put_rate(value, out);
    case BOOLEAN: {
        bool valid = migbuf__json_boolean(value, &flag);
        return put_flag(valid, flag, out);
    }
    case OBJECT:
        return put_flag(migbuf__json_is_object(value), true, out);
    case IS_NOSPACE:
        return put_flag(is_string(value), is_text(value, "nospace"), out);
    case IS_FAILED:
        return put_flag(is_string(value), is_text(value, "failed"), out);
    case IS_NOT_OK:
        return put_flag(is_string(value), !is_text(value, "ok"), out);
    default:
        return put_text(value, f, out);
    }
}

/* Fills a zeroed record from one object. */
static int fill(const struct migbuf__json *object, const struct field *fields, size_t count, void *record,
                struct migbuf_error *error)
{
    if (!migbuf__json_is_object(object))
        return migbuf__fail(error, MIGBUF_E_PROTOCOL, "an object was expected");
    for (size_t i = 0; i < count; i++) {
        const struct migbuf__json *value = at_path(object, fields[i].path);
        int rc = value ? put(value, &fields[i], record) : fields[i].needed ? MIGBUF_E_PROTOCOL : 0;

        if (rc < 0)
            return migbuf__fail(error, rc, fields[i].trouble);
    }
    return 0;
}

static int load(const char *text, uint64_t bytes, struct migbuf__json **document, struct migbuf_error *error)
{
    const struct migbuf_allocator a = migbuf__allocator(NULL);
    int rc = bytes >= SIZE_MAX ? MIGBUF_E_TOO_BIG : migbuf__json_load(&a, text, (size_t)bytes, document);

    switch (rc) {
    case 0:
        return 0;
    case MIGBUF_E_PROTOCOL:
        return migbuf__fail(error, rc, "not JSON");
    case MIGBUF_E_RANGE:
        return migbuf__fail(error, rc, "a number is beyond what a double holds");
    case MIGBUF_E_TOO_BIG:
        return migbuf__fail(error, rc, "nested too deeply, or more values than QEMU writes in such a length");
    default:
        return migbuf__fail(error, rc, migbuf_strerror(rc));
    }
}

/* The node under a filter, NULL where this is none. QEMU shows a filter's child twice, as its file and as its backing.
 */
static const struct migbuf__json *under_filter(const struct migbuf__json *node)
{
    const struct migbuf__json *child = migbuf__json_member(node, "parent");
    const char *name;
    size_t bytes;

    if (!migbuf__json_string(migbuf__json_member(child, "node-name"), &name, &bytes))
        return NULL;
    return is_text(at_path(node, "backing.node-name"), name) ? child : NULL;
}

/* Which entry of a list is meant: `path` is the string `text`; text NULL holds always. With `filters` a node that lies
 * under filters counts as well. */
struct condition {
    const char *path;
    const char *text;
    bool filters;
};

static bool fits(const struct migbuf__json *entry, const struct condition *wanted)
{
    bool found = !wanted->text;

    for (; entry && !found; entry = wanted->filters ? under_filter(entry) : NULL)
        found = is_text(at_path(entry, wanted->path), wanted->text);
    return found;
}

static int find(const struct migbuf__json *list, const struct condition *wanted, size_t conditions,
                const struct migbuf__json **entry, struct migbuf_error *error)
{
    if (!migbuf__json_is_array(list))
        return migbuf__fail(error, MIGBUF_E_PROTOCOL, "a list was expected");
    for (size_t i = 0; i < migbuf__json_count(list); i++) {
        size_t j = 0;

        *entry = migbuf__json_item(list, i);
        while (j < conditions && fits(*entry, &wanted[j]))
            j++;
        if (j == conditions)
            return 0;
    }
    return migbuf__fail(error, MIGBUF_E_NOTFOUND, "no such entry in the list");
}

static int fail_null(struct migbuf_error *error)
{
    return migbuf__fail(error, MIGBUF_E_INVALID, "a pointer that must not be NULL is");
}

/* Fills a zeroed record of one kind from one entry. */
typedef int filler(const struct migbuf__json *entry, void *record, struct migbuf_error *error);

/* What every reader does: parse, find the entry where a list is expected, fill, and only then touch *out. */
static int read_entry(const char *text, uint64_t bytes, const struct condition *wanted, size_t conditions,
                      filler *fill_it, void *record, struct migbuf_error *error)
{
    struct migbuf__json *list;
    const struct migbuf__json *entry = NULL;
    int rc = load(text, bytes, &list, error);

    if (rc < 0)
        return rc;
    rc = find(list, wanted, conditions, &entry, error);
    if (rc == 0)
        rc = fill_it(entry, record, error);
    migbuf__json_free(list);
    return rc;
}

static int read_object(const char *text, uint64_t bytes, const struct field *fields, size_t count, void *record,
                       struct migbuf_error *error)
{
    struct migbuf__json *document;
    int rc = load(text, bytes, &document, error);

    if (rc < 0)
        return rc;
    rc = fill(document, fields, count, record, error);
    migbuf__json_free(document);
    return rc;
}

/* A whole reader of one object: *out is untouched where anything is wrong. */
static int give_object(const char *text, uint64_t bytes, const struct field *fields, size_t count, void *record,
                       size_t record_bytes, void *out, struct migbuf_error *error)
{
    int rc = text && out ? read_object(text, bytes, fields, count, record, error) : fail_null(error);

    if (rc == 0)
        memcpy(out, record, record_bytes);
    return rc;
}

#define READ_OBJECT(fields) read_object(text, text_bytes, fields, COUNT(fields), &r, error)
#define GIVE_OBJECT(fields) give_object(text, text_bytes, fields, COUNT(fields), &r, sizeof r, out, error)
#define READ_ENTRY(wanted, fill_it) read_entry(text, text_bytes, wanted, COUNT(wanted), fill_it, &r, error)

/* ---- lists ---- */

#define THROTTLE(need, name) need(migbuf_block_report, throttle.name, "inserted." #name, U64)

static const struct field block_fields[] = {
    NEED(migbuf_block_report, node_name, "inserted.node-name", TEXT),
    NEED(migbuf_block_report, qdev, "qdev", TEXT),
    THROTTLE(NEED, bps),
    THROTTLE(NEED, bps_rd),
    THROTTLE(NEED, bps_wr),
    THROTTLE(NEED, iops),
    THROTTLE(NEED, iops_rd),
    THROTTLE(NEED, iops_wr),
    THROTTLE(MAY, bps_max),
    THROTTLE(MAY, bps_rd_max),
    THROTTLE(MAY, bps_wr_max),
    THROTTLE(MAY, iops_max),
    THROTTLE(MAY, iops_rd_max),
    THROTTLE(MAY, iops_wr_max),
    THROTTLE(MAY, bps_max_length),
    THROTTLE(MAY, bps_rd_max_length),
    THROTTLE(MAY, bps_wr_max_length),
    THROTTLE(MAY, iops_max_length),
    THROTTLE(MAY, iops_rd_max_length),
    THROTTLE(MAY, iops_wr_max_length),
    THROTTLE(MAY, iops_size),
    MAY(migbuf_block_report, throttle.group, "inserted.group", TEXT),
    MAY(migbuf_block_report, nospace, "io-status", IS_NOSPACE),
    MAY(migbuf_block_report, failed, "io-status", IS_FAILED),
};

static int fill_block(const struct migbuf__json *entry, void *record, struct migbuf_error *error)
{
    return fill(entry, block_fields, COUNT(block_fields), record, error);
}

int migbuf_report_block(const char *text, uint64_t text_bytes, const char *node_name, struct migbuf_block_report *out,
                        struct migbuf_error *error)
{
    const struct condition wanted[] = { { "inserted.node-name", node_name, false } };
    struct migbuf_block_report r = { .nospace = 0 };
    int rc;

    if (!text || !node_name || !out)
        return fail_null(error);
    rc = READ_ENTRY(wanted, fill_block);
    if (rc == 0)
        *out = r;
    return rc;
}

/* Drives of other programs and empty trays have no qdev or no medium: they are nobody's disk. */
static bool is_guest_disk(const struct migbuf__json *entry)
{
    return at_path(entry, "qdev") && at_path(entry, "inserted.node-name");
}

/* With disk NULL only checks, so that an answer with one bad entry tells the disk nothing. */
static int pass_blocks(const struct migbuf__json *list, struct migbuf_disk *disk, struct migbuf_error *error)
{
    for (size_t i = 0; i < migbuf__json_count(list); i++) {
        const struct migbuf__json *entry = migbuf__json_item(list, i);
        struct migbuf_block_report r = { .nospace = 0 };
        int rc;

        if (!is_guest_disk(entry))
            continue;
        rc = fill_block(entry, &r, error);
        if (rc == 0 && disk)
            rc = migbuf_disk_found(disk, r.node_name, r.qdev, &r.throttle);
        if (rc < 0)
            return disk ? migbuf__fail(error, rc, "the disk does not take this answer") : rc;
    }
    return 0;
}

static int pass_query(struct migbuf_disk *disk, const char *text, uint64_t text_bytes, struct migbuf_error *error)
{
    struct migbuf__json *list;
    int rc = load(text, text_bytes, &list, error);

    if (rc < 0)
        return rc;
    if (!migbuf__json_is_array(list))
        rc = migbuf__fail(error, MIGBUF_E_PROTOCOL, "a list was expected");
    if (rc == 0)
        rc = pass_blocks(list, NULL, error);
    if (rc == 0)
        rc = pass_blocks(list, disk, error);
    migbuf__json_free(list);
    return rc;
}

static int pass_status(struct migbuf_disk *disk, const char *text, uint64_t text_bytes, struct migbuf_error *error)
{
    struct migbuf_status_report status;
    int rc = migbuf_report_status(text, text_bytes, &status, error);

    return rc < 0 ? rc : migbuf_disk_status(disk, status.status, status.running);
}

/* The answer came, but it cannot be read: whatever was asked is as unknown as before. Without memory it may be said again. */
static int unreadable(struct migbuf_disk *disk, int rc)
{
    if (rc != MIGBUF_E_NOMEM)
        migbuf_disk_answered(disk, MIGBUF_OUTCOME_UNKNOWN);
    return rc;
}

int migbuf_report_to_disk(struct migbuf_disk *disk, int32_t command_kind, int result, const char *text,
                          uint64_t text_bytes, struct migbuf_error *error)
{
    int rc = 0;

    if (!disk || (result >= 0 && !text))
        return fail_null(error);
    if (result >= 0 && command_kind == MIGBUF_DISK_QUERY)
        rc = pass_query(disk, text, text_bytes, error);
    else if (result >= 0 && command_kind == MIGBUF_DISK_STATUS)
        rc = pass_status(disk, text, text_bytes, error);
    if (rc < 0)
        return unreadable(disk, rc);
    rc = migbuf_disk_answered(disk, result >= 0                ? MIGBUF_OUTCOME_DONE
                                    : result == MIGBUF_E_PEER ? MIGBUF_OUTCOME_REFUSED
                                                              : MIGBUF_OUTCOME_UNKNOWN);
    return rc < 0 ? migbuf__fail(error, rc, migbuf_strerror(rc)) : rc;
}

static const struct field write_fields[] = {
    MAY(migbuf_write_report, node_name, "node-name", TEXT),
    NEED(migbuf_write_report, write_bytes, "stats.wr_bytes", U64),
    NEED(migbuf_write_report, write_operations, "stats.wr_operations", U64),
    MAY(migbuf_write_report, has_parent, "parent", OBJECT),
};

static const struct field file_fields[] = {
    MAY(migbuf_write_report, parent_node_name, "node-name", TEXT),
    MAY(migbuf_write_report, file_highest_offset, "stats.wr_highest_offset", U64),
};

/* A format and each filter on top of it have a child; the file has none. Above it, offsets are the guest's. */
static int fill_writes(const struct migbuf__json *entry, void *record, struct migbuf_error *error)
{
    const struct migbuf__json *file = migbuf__json_member(entry, "parent"), *child;
    int rc = fill(entry, write_fields, COUNT(write_fields), record, error);

    if (rc < 0 || !file)
        return rc;
    while ((child = migbuf__json_member(file, "parent")) != NULL)
        file = child;
    return fill(file, file_fields, COUNT(file_fields), record, error);
}

int migbuf_report_writes(const char *text, uint64_t text_bytes, const char *qdev, const char *node_name,
                         struct migbuf_write_report *out, struct migbuf_error *error)
{
    const struct condition wanted[] = { { "qdev", qdev, false }, { "node-name", node_name, true } };
    struct migbuf_write_report r = { .has_parent = 0 };
    int rc;

    if (!text || (!qdev && !node_name) || !out)
        return fail_null(error);
    rc = READ_ENTRY(wanted, fill_writes);
    if (rc == 0)
        *out = r;
    return rc;
}

static const struct field node_fields[] = {
    NEED(migbuf_node_report, node_name, "node-name", TEXT),
    MAY(migbuf_node_report, actual_bytes, "image.actual-size", U64),
    NEED(migbuf_node_report, virtual_bytes, "image.virtual-size", U64),
};

static int fill_node(const struct migbuf__json *entry, void *record, struct migbuf_error *error)
{
    return fill(entry, node_fields, COUNT(node_fields), record, error);
}

int migbuf_report_node(const char *text, uint64_t text_bytes, const char *node_name, struct migbuf_node_report *out,
                       struct migbuf_error *error)
{
    const struct condition wanted[] = { { "node-name", node_name, false } };
    struct migbuf_node_report r = { .actual_bytes = 0 };
    int rc;

    if (!text || !node_name || !out)
        return fail_null(error);
    rc = READ_ENTRY(wanted, fill_node);
    if (rc == 0)
        *out = r;
    return rc;
}

/* A caller's record, which begins with the node's name, and the entry of that name once it is found. */
struct asked {
    char *record;
    const struct migbuf__json *entry;
};

#define NAME_BYTES sizeof(((struct migbuf_node_report *)0)->node_name)

static int by_name(const void *a, const void *b)
{
    return strncmp(((const struct asked *)a)->record, ((const struct asked *)b)->record, NAME_BYTES);
}

/* Of entries of one name the first counts; several records may ask for it. The records are sorted. */
static void note(struct asked *asked, size_t count, const struct migbuf__json *named, const struct migbuf__json *entry)
{
    size_t low = 0, high = count, bytes;
    const char *name;

    if (!migbuf__json_string(migbuf__json_member(named, "node-name"), &name, &bytes) || strlen(name) != bytes)
        return;
    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (strncmp(asked[middle].record, name, NAME_BYTES) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    for (; low < count && !asked[low].entry && strncmp(asked[low].record, name, NAME_BYTES) == 0; low++)
        asked[low].entry = entry;
}

/* Fills all that are there; those that are not become 0. At first only checks, so that a bad entry changes nothing. */
static int fill_asked(const struct asked *asked, size_t count, filler *fill_it, size_t record_bytes, bool only_check,
                      struct migbuf_error *error)
{
    struct migbuf_write_report room; /* the larger of the two kinds */
    int found = 0;

    for (size_t k = 0; k < count; k++) {
        int rc;

        memset(&room, 0, sizeof room);
        rc = asked[k].entry ? fill_it(asked[k].entry, &room, error) : 0;
        if (rc < 0)
            return rc;
        found += asked[k].entry != NULL;
        memcpy(&room, asked[k].record, NAME_BYTES);
        if (!only_check)
            memcpy(asked[k].record, &room, record_bytes);
    }
    return found;
}

/* All records out of one answer, each found by its name without a look at all others. */
static int read_nodes(const char *text, uint64_t bytes, filler *fill_it, void *records, size_t record_bytes,
                      size_t count, struct migbuf_error *error)
{
    const struct migbuf_allocator a = migbuf__allocator(NULL);
    struct migbuf__json *list;
    struct asked *asked;
    int rc = load(text, bytes, &list, error);

    if (rc < 0)
        return rc;
    if (!migbuf__json_is_array(list)) {
        migbuf__json_free(list);
        return migbuf__fail(error, MIGBUF_E_PROTOCOL, "a list was expected");
    }
    asked = migbuf__resize(&a, NULL, 0, count + 1, sizeof *asked);
    if (!asked) {
        migbuf__json_free(list);
        return migbuf__fail(error, MIGBUF_E_NOMEM, migbuf_strerror(MIGBUF_E_NOMEM));
    }
    for (size_t k = 0; k < count; k++)
        asked[k] = (struct asked){ .record = (char *)records + k * record_bytes };
    qsort(asked, count, sizeof *asked, by_name);
    for (size_t i = 0; i < migbuf__json_count(list); i++)
        for (const struct migbuf__json *entry = migbuf__json_item(list, i), *e = entry; e; e = under_filter(e))
            note(asked, count, e, entry);
    rc = fill_asked(asked, count, fill_it, record_bytes, true, error);
    if (rc >= 0)
        rc = fill_asked(asked, count, fill_it, record_bytes, false, error);
    migbuf__free(&a, asked, (count + 1) * sizeof *asked);
    migbuf__json_free(list);
    return rc;
}

int migbuf_report_nodes(const char *text, uint64_t text_bytes, struct migbuf_node_report *nodes, size_t count,
                        struct migbuf_error *error)
{
    if (!text || (!nodes && count))
        return fail_null(error);
    return read_nodes(text, text_bytes, fill_node, nodes, sizeof *nodes, count, error);
}

int migbuf_report_all_writes(const char *text, uint64_t text_bytes, struct migbuf_write_report *writes, size_t count,
                             struct migbuf_error *error)
{
    if (!text || (!writes && count))
        return fail_null(error);
    return read_nodes(text, text_bytes, fill_writes, writes, sizeof *writes, count, error);
}

static const struct field job_fields[] = {
    NEED(migbuf_job_report, device, "device", TEXT),
    NEED(migbuf_job_report, status, "status", TEXT),
    NEED(migbuf_job_report, type, "type", TEXT),
    NEED(migbuf_job_report, length, "len", U64),
    NEED(migbuf_job_report, offset, "offset", U64),
    NEED(migbuf_job_report, ready, "ready", BOOLEAN),
    MAY(migbuf_job_report, stopped, "io-status", IS_NOT_OK),
};

static int fill_job(const struct migbuf__json *entry, void *record, struct migbuf_error *error)
{
    return fill(entry, job_fields, COUNT(job_fields), record, error);
}

int migbuf_report_job(const char *text, uint64_t text_bytes, const char *device, struct migbuf_job_report *out,
                      struct migbuf_error *error)
{
    const struct condition wanted[] = { { "device", device, false } };
    struct migbuf_job_report r = { .length = 0 };
    int rc;

    if (!text || !device || !out)
        return fail_null(error);
    rc = READ_ENTRY(wanted, fill_job);
    if (rc == 0)
        *out = r;
    return rc;
}

static const struct field mirror_fields[] = {
    NEED(migbuf_mirror_report, length_bytes, "len", U64),
    NEED(migbuf_mirror_report, offset_bytes, "offset", U64),
    NEED(migbuf_mirror_report, ready, "ready", BOOLEAN),
    MAY(migbuf_mirror_report, speed_bytes_per_s, "speed", U64),
    MAY(migbuf_mirror_report, stopped, "io-status", IS_NOT_OK),
    MAY(migbuf_mirror_report, synced, "actively-synced", BOOLEAN),
};

static int fill_mirror(const struct migbuf__json *entry, void *record, struct migbuf_error *error)
{
    struct migbuf_job_report job = { .length = 0 };
    int rc = fill_job(entry, &job, error);

    if (!rc && strcmp(job.type, "mirror"))
        return migbuf__fail(error, MIGBUF_E_PROTOCOL, "a job of this id is no mirror");
    return rc ? rc : fill(entry, mirror_fields, COUNT(mirror_fields), record, error);
}

int migbuf_report_mirror(const char *text, uint64_t text_bytes, const char *device, struct migbuf_mirror_report *out,
                         struct migbuf_error *error)
{
    const struct condition wanted[] = { { "device", device, false } };
    struct migbuf_mirror_report r = { .there = 0 };
    int rc;

    if (!text || !device || !out)
        return fail_null(error);
    rc = READ_ENTRY(wanted, fill_mirror);
    if (rc != 0 && rc != MIGBUF_E_NOTFOUND)
        return rc;
    r.there = rc == 0;
    *out = r;
    return 0;
}

/* ---- objects ---- */

int migbuf_report_status(const char *text, uint64_t text_bytes, struct migbuf_status_report *out,
                         struct migbuf_error *error)
{
    static const struct field fields[] = {
        NEED(migbuf_status_report, status, "status", TEXT),
        NEED(migbuf_status_report, running, "running", BOOLEAN),
    };
    struct migbuf_status_report r = { .running = 0 };

    return GIVE_OBJECT(fields);
}

int migbuf_report_migrate(const char *text, uint64_t text_bytes, struct migbuf_migrate_report *out,
                          struct migbuf_error *error)
{
    static const struct field fields[] = {
        MAY(migbuf_migrate_report, status, "status", TEXT),
        MAY(migbuf_migrate_report, has_ram, "ram", OBJECT),
        MAY(migbuf_migrate_report, ram_transferred_bytes, "ram.transferred", U64),
        MAY(migbuf_migrate_report, ram_remaining_bytes, "ram.remaining", U64),
        MAY(migbuf_migrate_report, ram_total_bytes, "ram.total", U64),
        MAY(migbuf_migrate_report, page_bytes, "ram.page-size", U64),
        MAY(migbuf_migrate_report, dirty_pages_per_s, "ram.dirty-pages-rate", U64),
        MAY(migbuf_migrate_report, expected_downtime_ms, "expected-downtime", U64),
        MAY(migbuf_migrate_report, cpu_throttle_percent, "cpu-throttle-percentage", U64),
        MAY(migbuf_migrate_report, mbps, "ram.mbps", RATE),
    };
    struct migbuf_migrate_report r = { .mbps = 0 };

    return GIVE_OBJECT(fields);
}

static int put_reasons(const struct migbuf__json *object, char *reasons, size_t bytes, struct migbuf_error *error)
{
    const struct migbuf__json *list = migbuf__json_is_object(object) ? at_path(object, "blocked-reasons") : NULL;
    size_t used = 0, length;
    const char *text;

    if (!migbuf__json_is_object(object) || (list && !migbuf__json_is_array(list)))
        return migbuf__fail(error, MIGBUF_E_PROTOCOL, "an object was expected, with a list of blocked-reasons in it");
    for (size_t i = 0; list && i < migbuf__json_count(list); i++)
        if (!migbuf__json_string(migbuf__json_item(list, i), &text, &length))
            return migbuf__fail(error, MIGBUF_E_PROTOCOL, "one of the blocked-reasons is no string");
    reasons[0] = '\0';
    for (size_t i = 0; list && i < migbuf__json_count(list) && used < bytes; i++) {
        migbuf__json_string(migbuf__json_item(list, i), &text, &length);
        used += (size_t)snprintf(reasons + used, bytes - used, "%s%s", i ? "; " : "", text);
    }
    return list && migbuf__json_count(list);
}

int migbuf_report_blocked(const char *text, uint64_t text_bytes, char *reasons, size_t reasons_bytes,
                          struct migbuf_error *error)
{
    struct migbuf__json *document;
    int rc;

    if (!text || !reasons)
        return fail_null(error);
    if (reasons_bytes < 2 || reasons_bytes > SIZE_MAX)
        return migbuf__fail(error, MIGBUF_E_TOO_BIG, "no room for a reason");
    rc = load(text, text_bytes, &document, error);
    if (rc < 0)
        return rc;
    rc = put_reasons(document, reasons, (size_t)reasons_bytes, error);
    migbuf__json_free(document);
    return rc;
}

int migbuf_report_fdset(const char *text, uint64_t text_bytes, struct migbuf_fdset_report *out,
                        struct migbuf_error *error)
{
    static const struct field fields[] = {
        NEED(migbuf_fdset_report, fdset_id, "fdset-id", U64),
        NEED(migbuf_fdset_report, fd, "fd", U64),
    };
    struct migbuf_fdset_report r = { .fd = 0 };

    return GIVE_OBJECT(fields);
}

/* ---- events ---- */

int migbuf_report_io_error(const char *text, uint64_t text_bytes, struct migbuf_io_error_report *out,
                           struct migbuf_error *error)
{
    static const struct field fields[] = {
        MAY(migbuf_io_error_report, node_name, "node-name", TEXT),
        NEED(migbuf_io_error_report, operation, "operation", TEXT),
        NEED(migbuf_io_error_report, action, "action", TEXT),
        MAY(migbuf_io_error_report, nospace, "nospace", BOOLEAN),
    };
    struct migbuf_io_error_report r = { .nospace = 0 };

    return GIVE_OBJECT(fields);
}

int migbuf_report_migration_status(const char *text, uint64_t text_bytes, char *status, size_t status_bytes,
                                   struct migbuf_error *error)
{
    static const struct field fields[] = { NEED(migbuf_status_report, status, "status", TEXT) };
    struct migbuf_status_report r = { .running = 0 };
    int rc;

    if (!text || !status)
        return fail_null(error);
    rc = READ_OBJECT(fields);
    if (rc == 0 && strlen(r.status) >= status_bytes)
        rc = migbuf__fail(error, MIGBUF_E_TOO_BIG, fields[0].trouble);
    if (rc == 0)
        memcpy(status, r.status, strlen(r.status) + 1);
    return rc;
}

int migbuf_report_job_event(const char *text, uint64_t text_bytes, struct migbuf_job_event_report *out,
                            struct migbuf_error *error)
{
    static const struct field fields[] = {
        NEED(migbuf_job_event_report, device, "device", TEXT),  NEED(migbuf_job_event_report, type, "type", TEXT),
        NEED(migbuf_job_event_report, length, "len", U64),      NEED(migbuf_job_event_report, offset, "offset", U64),
        MAY(migbuf_job_event_report, error, "error", CUT_TEXT),
    };
    struct migbuf_job_event_report r = { .length = 0 };

    return GIVE_OBJECT(fields);
}

int migbuf_report_job_error(const char *text, uint64_t text_bytes, struct migbuf_job_error_report *out,
                            struct migbuf_error *error)
{
    static const struct field fields[] = {
        NEED(migbuf_job_error_report, device, "device", TEXT),
        NEED(migbuf_job_error_report, operation, "operation", TEXT),
        NEED(migbuf_job_error_report, action, "action", TEXT),
    };
    struct migbuf_job_error_report r = { .device = "" };

    return GIVE_OBJECT(fields);
}

int migbuf_report_threshold(const char *text, uint64_t text_bytes, struct migbuf_threshold_report *out,
                            struct migbuf_error *error)
{
    static const struct field fields[] = {
        NEED(migbuf_threshold_report, node_name, "node-name", TEXT),
        NEED(migbuf_threshold_report, threshold_bytes, "write-threshold", U64),
        NEED(migbuf_threshold_report, exceeded_bytes, "amount-exceeded", U64),
    };
    struct migbuf_threshold_report r = { .threshold_bytes = 0 };

    return GIVE_OBJECT(fields);
}

/* ---- memory ---- */

static const struct field ram_fields[] = {
    MAY(migbuf_ram_report, status, "status", TEXT),
    MAY(migbuf_ram_report, error, "error-desc", CUT_TEXT),
    MAY(migbuf_ram_report, has_ram, "ram", OBJECT),
    MAY(migbuf_ram_report, has_xbzrle, "xbzrle-cache", OBJECT),
    MAY(migbuf_ram_report, ram_transferred_bytes, "ram.transferred", U64),
    MAY(migbuf_ram_report, ram_remaining_bytes, "ram.remaining", U64),
    MAY(migbuf_ram_report, ram_total_bytes, "ram.total", U64),
    MAY(migbuf_ram_report, ram_normal_bytes, "ram.normal-bytes", U64),
    MAY(migbuf_ram_report, ram_precopy_bytes, "ram.precopy-bytes", U64),
    MAY(migbuf_ram_report, ram_downtime_bytes, "ram.downtime-bytes", U64),
    MAY(migbuf_ram_report, ram_postcopy_bytes, "ram.postcopy-bytes", U64),
    MAY(migbuf_ram_report, ram_multifd_bytes, "ram.multifd-bytes", U64),
    MAY(migbuf_ram_report, duplicate_pages, "ram.duplicate", U64),
    MAY(migbuf_ram_report, normal_pages, "ram.normal", U64),
    MAY(migbuf_ram_report, sync_count, "ram.dirty-sync-count", U64),
    MAY(migbuf_ram_report, postcopy_requests, "ram.postcopy-requests", U64),
    MAY(migbuf_ram_report, page_bytes, "ram.page-size", U64),
    MAY(migbuf_ram_report, dirty_pages_per_s, "ram.dirty-pages-rate", U64),
    MAY(migbuf_ram_report, pages_per_s, "ram.pages-per-second", U64),
    MAY(migbuf_ram_report, mbps, "ram.mbps", RATE),
    MAY(migbuf_ram_report, total_ms, "total-time", U64),
    MAY(migbuf_ram_report, setup_ms, "setup-time", U64),
    MAY(migbuf_ram_report, downtime_ms, "downtime", U64),
    MAY(migbuf_ram_report, expected_downtime_ms, "expected-downtime", U64),
    MAY(migbuf_ram_report, cpu_throttle_percent, "cpu-throttle-percentage", U64),
    MAY(migbuf_ram_report, xbzrle_bytes, "xbzrle-cache.bytes", U64),
    MAY(migbuf_ram_report, xbzrle_pages, "xbzrle-cache.pages", U64),
    MAY(migbuf_ram_report, xbzrle_cache_bytes, "xbzrle-cache.cache-size", U64),
    MAY(migbuf_ram_report, xbzrle_cache_misses, "xbzrle-cache.cache-miss", U64),
    MAY(migbuf_ram_report, xbzrle_overflows, "xbzrle-cache.overflow", U64),
    MAY(migbuf_ram_report, blocktime_ms, "postcopy-blocktime", U64),
};

/* Of all its CPUs; "postcopy-blocktime" is the time when none ran. */
static void read_blocktime(const struct migbuf__json *document, struct migbuf_ram_report *r)
{
    const struct migbuf__json *list = at_path(document, "postcopy-vcpu-blocktime");
    size_t count = migbuf__json_count(list);
    double sum = 0, ms;

    for (size_t i = 0; i < count; i++) {
        if (!migbuf__json_number(migbuf__json_item(list, i), &ms) || ms < 0)
            return;
        sum += ms;
    }
    if (count && sum < 1e18)
        r->blocktime_ms = (uint64_t)(sum / (double)count);
}

int migbuf_report_ram(const char *text, uint64_t text_bytes, struct migbuf_ram_report *out, struct migbuf_error *error)
{
    struct migbuf_ram_report r = { .mbps = 0 };
    struct migbuf__json *document;
    int rc;

    if (!text || !out)
        return fail_null(error);
    rc = load(text, text_bytes, &document, error);
    if (rc < 0)
        return rc;
    rc = fill(document, ram_fields, COUNT(ram_fields), &r, error);
    if (rc == 0) {
        r.phase = migbuf_ram_phase(r.status);
        r.has_downtime = at_path(document, "downtime") != NULL;
        if (r.sync_count < 2 || (r.phase >= MIGBUF_RAM_PHASE_POSTCOPY && r.phase <= MIGBUF_RAM_PHASE_RECOVER))
            r.expected_downtime_ms = 0; /* QEMU says its limit then, or what was */
        read_blocktime(document, &r);
        *out = r;
    }
    migbuf__json_free(document);
    return rc;
}

/* With ram NULL only checks, so that an answer with one bad entry tells the machine nothing. */
static int pass_capabilities(const struct migbuf__json *list, struct migbuf_ram *ram, struct migbuf_error *error)
{
    if (!migbuf__json_is_array(list))
        return migbuf__fail(error, MIGBUF_E_PROTOCOL, "a list was expected");
    for (size_t i = 0; i < migbuf__json_count(list); i++) {
        const struct migbuf__json *entry = migbuf__json_item(list, i);
        const char *name;
        size_t bytes;
        bool state;

        if (!migbuf__json_string(at_path(entry, "capability"), &name, &bytes) ||
            !migbuf__json_boolean(at_path(entry, "state"), &state))
            return migbuf__fail(error, MIGBUF_E_PROTOCOL, "an entry without capability or state");
        if (ram)
            migbuf_ram_found_capability(ram, name, state);
    }
    return 0;
}

/* What is beyond int64 was cut by jansson; QEMU writes 2^64 - 1 for "no bound". */
static uint64_t whole_number(const char *text, size_t bytes, const char *key, int64_t number)
{
    struct migbuf__json_span at;
    uint64_t x = 0;

    if (number < INT64_MAX || !migbuf__json_find(text, bytes, key, &at))
        return (uint64_t)number;
    for (size_t i = 0; i < at.bytes && text[at.at + i] >= '0' && text[at.at + i] <= '9'; i++) {
        uint64_t digit = (uint64_t)(text[at.at + i] - '0');

        if (x > (UINT64_MAX - digit) / 10)
            return UINT64_MAX;
        x = x * 10 + digit;
    }
    return x;
}

static int pass_parameters(const struct migbuf__json *object, struct migbuf_ram *ram, const char *text, size_t bytes,
                           struct migbuf_error *error)
{
    const struct migbuf__json *value;
    const char *key;
    void *cursor = NULL;

    if (!migbuf__json_is_object(object))
        return migbuf__fail(error, MIGBUF_E_PROTOCOL, "an object was expected");
    while (migbuf__json_each(object, &cursor, &key, &value)) {
        int64_t number;
        bool flag;

        if (migbuf__json_integer(value, &number) && number >= 0)
            migbuf_ram_found_parameter(ram, key, whole_number(text, bytes, key, number));
        else if (migbuf__json_boolean(value, &flag))
            migbuf_ram_found_parameter(ram, key, flag);
    }
    return 0;
}

static int pass_to_ram(struct migbuf_ram *ram, int32_t kind, const char *text, uint64_t bytes, struct migbuf_error *error)
{
    struct migbuf_status_report status;
    struct migbuf_ram_report report;
    struct migbuf__json *document;
    int rc;

    switch (kind) {
    case MIGBUF_RAM_GET_MIGRATION:
        rc = migbuf_report_ram(text, bytes, &report, error);
        return rc < 0 ? rc : migbuf_ram_found(ram, &report);
    case MIGBUF_RAM_GET_STATUS:
        rc = migbuf_report_status(text, bytes, &status, error);
        return rc < 0 ? rc : migbuf_ram_status(ram, status.status, status.running);
    case MIGBUF_RAM_GET_CAPABILITIES:
    case MIGBUF_RAM_GET_PARAMETERS:
        break;
    default:
        return 0;
    }
    rc = load(text, bytes, &document, error);
    if (rc < 0)
        return rc;
    if (kind == MIGBUF_RAM_GET_PARAMETERS)
        rc = pass_parameters(document, ram, text, (size_t)bytes, error);
    else {
        rc = pass_capabilities(document, NULL, error);
        if (rc == 0)
            rc = pass_capabilities(document, ram, error);
    }
    migbuf__json_free(document);
    return rc;
}

int migbuf_report_to_ram(struct migbuf_ram *ram, int32_t command_kind, int result, const char *text, uint64_t text_bytes,
                         struct migbuf_error *error)
{
    int rc;

    if (!ram || (result >= 0 && !text))
        return fail_null(error);
    rc = result >= 0 ? pass_to_ram(ram, command_kind, text, text_bytes, error) : 0;
    if (rc < 0) { /* as for a disk: without memory it may be said again */
        if (rc != MIGBUF_E_NOMEM)
            migbuf_ram_answered(ram, MIGBUF_OUTCOME_UNKNOWN);
        return rc;
    }
    rc = migbuf_ram_answered(ram, result >= 0               ? MIGBUF_OUTCOME_DONE
                                  : result == MIGBUF_E_PEER ? MIGBUF_OUTCOME_REFUSED
                                                            : MIGBUF_OUTCOME_UNKNOWN);
    return rc < 0 ? migbuf__fail(error, rc, migbuf_strerror(rc)) : rc;
}

int migbuf_report_event_to_ram(struct migbuf_ram *ram, int32_t side, const char *name, const char *text, uint64_t text_bytes,
                               uint64_t now_ms, struct migbuf_error *error)
{
    static const char *const known[] = { "MIGRATION", "MIGRATION_PASS", "STOP", "RESUME" };
    char status[32] = "";
    int32_t event = 0;
    int rc = 0;

    if (!ram || !name)
        return fail_null(error);
    for (int32_t k = 0; k < (int32_t)COUNT(known); k++)
        if (!strcmp(name, known[k]))
            event = k + 1;
    if (!event)
        return 0;
    if (event == MIGBUF_RAM_EVENT_MIGRATION)
        rc = text ? migbuf_report_migration_status(text, text_bytes, status, sizeof status, error) : fail_null(error);
    if (rc == 0)
        rc = migbuf_ram_event(ram, side, event, event == MIGBUF_RAM_EVENT_MIGRATION ? migbuf_ram_phase(status) : 0, now_ms);
    return rc < 0 ? rc : 1;
}
