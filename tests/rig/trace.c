/* SPDX-License-Identifier: MIT */
/*
 * The decision log and its replay. What a struct looks like in the log stands once, in the tables of fields below;
 * writing, reading and comparing go through them.
 */
#include "trace.h"
#include "migbuf/version.h"
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define TRACE_FORMAT 1

/* ---- Fields --------------------------------------------------------------------------------------------------------
 */

enum kind { KIND_U64, KIND_U32, KIND_I32 };

struct field {
    const char *name;
    size_t offset;
    enum kind kind;
};

/* A struct of the library; `sized` ones begin with their size and may grow. */
struct layout {
    const char *name;
    const struct field *field;
    size_t count, bytes;
    bool sized;
};

#define FIELD(type, member, kind)                                                                                      \
    {                                                                                                                  \
#member, offsetof(type, member), kind                                                                          \
    }
#define LAYOUT(type, fields, sized)                                                                                    \
    {                                                                                                                  \
#type, fields, sizeof fields / sizeof *fields, sizeof(struct type), sized                                      \
    }

static const struct field option_fields[] = {
    FIELD(struct migbuf_buffer_options, size, KIND_U64),
    FIELD(struct migbuf_buffer_options, policy, KIND_I32),
    FIELD(struct migbuf_buffer_options, interval_ms, KIND_U32),
    FIELD(struct migbuf_buffer_options, late_factor_percent, KIND_U32),
    FIELD(struct migbuf_buffer_options, lag_ms, KIND_U32),
    FIELD(struct migbuf_buffer_options, hysteresis_percent, KIND_U32),
    FIELD(struct migbuf_buffer_options, min_pause_ms, KIND_U32),
    FIELD(struct migbuf_buffer_options, max_stall_ms, KIND_U32),
    FIELD(struct migbuf_buffer_options, reserved, KIND_U32),
    FIELD(struct migbuf_buffer_options, floor_bytes_per_s, KIND_U64),
    FIELD(struct migbuf_buffer_options, epsilon_bytes, KIND_U64),
    FIELD(struct migbuf_buffer_options, epsilon_bytes_per_s, KIND_U64),
    FIELD(struct migbuf_buffer_options, tau_ms, KIND_U64),
};

static const struct field migration_fields[] = {
    FIELD(struct migbuf_migration, size, KIND_U64),
    FIELD(struct migbuf_migration, id, KIND_U64),
    FIELD(struct migbuf_migration, link, KIND_U64),
    FIELD(struct migbuf_migration, flow_bytes_per_s, KIND_U64),
    FIELD(struct migbuf_migration, device_write_bytes_per_s, KIND_U64),
    FIELD(struct migbuf_migration, file_bytes, KIND_U64),
    FIELD(struct migbuf_migration, weight, KIND_U32),
    FIELD(struct migbuf_migration, drains_ahead, KIND_U32),
    FIELD(struct migbuf_migration, rate_bytes_per_s, KIND_U64),
};

static const struct field geometry_fields[] = {
    FIELD(struct migbuf_geometry, virtual_bytes, KIND_U64),    FIELD(struct migbuf_geometry, cluster_bytes, KIND_U64),
    FIELD(struct migbuf_geometry, subcluster_bytes, KIND_U64), FIELD(struct migbuf_geometry, block_bytes, KIND_U64),
    FIELD(struct migbuf_geometry, request_bytes, KIND_U64),    FIELD(struct migbuf_geometry, queue_bytes, KIND_U64),
    FIELD(struct migbuf_geometry, extra_bytes, KIND_U64),      FIELD(struct migbuf_geometry, flags, KIND_U32),
    FIELD(struct migbuf_geometry, reserved, KIND_U32),
};

static const struct field sample_fields[] = {
    FIELD(struct migbuf_sample, id, KIND_U64),
    FIELD(struct migbuf_sample, disk, KIND_U32),
    FIELD(struct migbuf_sample, reserved, KIND_U32),
    FIELD(struct migbuf_sample, file_bytes, KIND_U64),
    FIELD(struct migbuf_sample, written_bytes, KIND_U64),
    FIELD(struct migbuf_sample, writes, KIND_U64),
    FIELD(struct migbuf_sample, remaining_bytes, KIND_U64),
};

static const struct field limit_fields[] = {
    FIELD(struct migbuf_limits, iops_wr, KIND_U64),
    FIELD(struct migbuf_limits, iops_size, KIND_U64),
    FIELD(struct migbuf_limits, bps_wr, KIND_U64),
};

static const struct field decision_fields[] = {
    FIELD(struct migbuf_decision, id, KIND_U64),
    FIELD(struct migbuf_decision, action, KIND_I32),
    FIELD(struct migbuf_decision, reason, KIND_I32),
    FIELD(struct migbuf_decision, growth_bytes_per_s, KIND_U64),
    FIELD(struct migbuf_decision, limits.iops_wr, KIND_U64),
    FIELD(struct migbuf_decision, limits.iops_size, KIND_U64),
    FIELD(struct migbuf_decision, limits.bps_wr, KIND_U64),
};

static const struct layout layout_options = LAYOUT(migbuf_buffer_options, option_fields, true);
static const struct layout layout_migration = LAYOUT(migbuf_migration, migration_fields, true);
static const struct layout layout_geometry = LAYOUT(migbuf_geometry, geometry_fields, false);
static const struct layout layout_sample = LAYOUT(migbuf_sample, sample_fields, false);
static const struct layout layout_limits = LAYOUT(migbuf_limits, limit_fields, false);
static const struct layout layout_decision = LAYOUT(migbuf_decision, decision_fields, false);

/* A new member of one of these is an input or a result that the log must have: add it to its table. */
_Static_assert(sizeof(struct migbuf_buffer_options) == 72 && sizeof(struct migbuf_migration) == 64, "tables of fields");
_Static_assert(sizeof(struct migbuf_geometry) == 64 && sizeof(struct migbuf_sample) == 48, "tables of fields");
_Static_assert(sizeof(struct migbuf_decision) == 48 && sizeof(struct migbuf_limits) == 24, "tables of fields");

/* Fields are reached by memcpy: a table cannot keep the types. Numbers travel as 64 bits, I32 sign-extended. */
static uint64_t field_get(const void *record, const struct field *f)
{
    uint64_t value;
    uint32_t half;
    int32_t number;

    if (f->kind == KIND_U64) {
        memcpy(&value, (const char *)record + f->offset, sizeof value);
        return value;
    }
    if (f->kind == KIND_U32) {
        memcpy(&half, (const char *)record + f->offset, sizeof half);
        return half;
    }
    memcpy(&number, (const char *)record + f->offset, sizeof number);
    return (uint64_t)(int64_t)number;
}

static void field_set(void *record, const struct field *f, uint64_t value)
{
    uint32_t half = (uint32_t)value;

    if (f->kind == KIND_U64)
        memcpy((char *)record + f->offset, &value, sizeof value);
    else
        memcpy((char *)record + f->offset, &half, sizeof half);
}

static bool field_holds(const struct field *f, uint64_t value)
{
    if (f->kind == KIND_I32)
        return (int64_t)value >= INT32_MIN && (int64_t)value <= INT32_MAX;
    return f->kind == KIND_U64 || value <= UINT32_MAX;
}

/* ---- Writing -------------------------------------------------------------------------------------------------------
 */

struct trace {
    FILE *file;  /* NULL: nothing is written */
    int failure; /* errno of the first line that got lost */
};

/* jansson's integers are signed. */
static json_t *number_json(uint64_t value)
{
    char text[24];

    if (value <= INT64_MAX)
        return json_integer((json_int_t)value);
    snprintf(text, sizeof text, "%" PRIu64, value);
    return json_string(text);
}

static void put(json_t *line, const char *name, uint64_t value)
{
    json_object_set_new(line, name, number_json(value));
}

static json_t *record_json(const struct layout *layout, const void *record)
{
    uint64_t bytes = layout->bytes;
    json_t *object = json_object();

    /* A struct of an older version ends earlier. */
    if (layout->sized && field_get(record, &layout->field[0]) < bytes)
        bytes = field_get(record, &layout->field[0]);
    for (size_t i = 0; i < layout->count; i++) {
        const struct field *f = &layout->field[i];
        size_t width = f->kind == KIND_U64 ? 8 : 4;

        if (i && f->offset + width > bytes)
            break;
        if (f->kind == KIND_I32)
            json_object_set_new(object, f->name, json_integer((json_int_t)field_get(record, f)));
        else
            put(object, f->name, field_get(record, f));
    }
    return object;
}

static json_t *array_json(const struct layout *layout, const void *records, size_t count)
{
    json_t *array = json_array();

    for (size_t i = 0; i < count; i++)
        json_array_append_new(array, record_json(layout, (const char *)records + i * layout->bytes));
    return array;
}

static json_t *begin(const struct trace *t, const char *call)
{
    json_t *line = t && t->file ? json_object() : NULL;

    json_object_set_new(line, "call", json_string(call));
    return line;
}

static void write_line(struct trace *t, json_t *line)
{
    char *text;

    if (!t || !t->file)
        return;
    text = json_dumps(line, JSON_COMPACT);
    errno = text ? 0 : ENOMEM;
    if (!text || fputs(text, t->file) < 0 || fputc('\n', t->file) < 0 || fflush(t->file)) {
        if (!t->failure)
            t->failure = errno ? errno : EIO;
    }
    free(text);
    json_decref(line);
}

static int end(struct trace *t, json_t *line, int rc)
{
    json_object_set_new(line, "rc", json_integer(rc));
    write_line(t, line);
    return rc;
}

/* For the calls that tell need and have. */
static int end_detailed(struct trace *t, json_t *line, int rc, const struct migbuf_error *detail,
                        struct migbuf_error *out)
{
    if (rc < 0 && detail->code) {
        put(line, "need", detail->need);
        put(line, "have", detail->have);
        json_object_set_new(line, "text", json_string(detail->text ? detail->text : ""));
        if (out)
            *out = *detail;
    }
    return end(t, line, rc);
}

int trace_open(const char *path, struct trace **trace, char error[FAIL_SIZE])
{
    struct trace *t = calloc(1, sizeof *t);
    json_t *line;

    if (!t)
        return fail(error, "no memory for the decision log");
    if (path && !(t->file = fopen(path, "we"))) {
        fail(error, "cannot write the decision log %s: %s", path, strerror(errno));
        free(t);
        return -1;
    }
    line = begin(t, "open");
    put(line, "trace", TRACE_FORMAT);
    json_object_set_new(line, "migbuf", json_string(migbuf_version_text()));
    write_line(t, line);
    *trace = t;
    return 0;
}

int trace_close(struct trace *t, char error[FAIL_SIZE])
{
    int failure;

    if (!t)
        return 0;
    failure = t->failure;
    errno = 0;
    if (t->file && fclose(t->file) && !failure)
        failure = errno ? errno : EIO;
    free(t);
    return failure ? fail(error, "the decision log is not complete: %s", strerror(failure)) : 0;
}

/*
 * Calls with NULL where something is needed are passed on without a line: they are refused and leave no trace in the
 * buffer either.
 */
int trace_new(struct trace *t, uint64_t capacity_bytes, const struct migbuf_buffer_options *options,
              struct migbuf_buffer **out)
{
    json_t *line = begin(t, "new");

    put(line, "capacity_bytes", capacity_bytes);
    json_object_set_new(line, "options", options && line ? record_json(&layout_options, options) : json_null());
    return end(t, line, migbuf_buffer_new(capacity_bytes, options, NULL, out));
}

int trace_load(struct trace *t, const char *text, size_t length, uint64_t now_ms, struct migbuf_buffer **out)
{
    json_t *string = text ? json_stringn(text, length) : NULL, *line;

    if (!string) /* not even UTF-8: it is refused */
        return migbuf_buffer_load(text, length, now_ms, NULL, out);
    line = begin(t, "load");
    put(line, "now_ms", now_ms);
    json_object_set_new(line, "text", string);
    return end(t, line, migbuf_buffer_load(text, length, now_ms, NULL, out));
}

int trace_add(struct trace *t, struct migbuf_buffer *b, const struct migbuf_migration *m,
              const struct migbuf_geometry *disks, size_t disk_count, struct migbuf_error *error)
{
    struct migbuf_error detail = { 0 };
    json_t *line;

    if (!b || !m || !disks)
        return migbuf_buffer_add(b, m, disks, disk_count, error);
    line = begin(t, "add");
    if (line) {
        json_object_set_new(line, "migration", record_json(&layout_migration, m));
        json_object_set_new(line, "disks", array_json(&layout_geometry, disks, disk_count));
    }
    return end_detailed(t, line, migbuf_buffer_add(b, m, disks, disk_count, &detail), &detail, error);
}

int trace_phase(struct trace *t, struct migbuf_buffer *b, uint64_t id, int32_t phase, uint32_t drains_ahead)
{
    json_t *line = begin(t, "phase");

    put(line, "id", id);
    json_object_set_new(line, "phase", json_integer(phase));
    put(line, "drains_ahead", drains_ahead);
    return end(t, line, migbuf_buffer_phase(b, id, phase, drains_ahead));
}

int trace_weight(struct trace *t, struct migbuf_buffer *b, uint64_t id, uint32_t weight)
{
    json_t *line = begin(t, "weight");

    put(line, "id", id);
    put(line, "weight", weight);
    return end(t, line, migbuf_buffer_weight(b, id, weight));
}

int trace_sample(struct trace *t, struct migbuf_buffer *b, uint64_t now_ms, const struct migbuf_sample *samples,
                 size_t count)
{
    json_t *line;

    if (!b || !samples)
        return migbuf_buffer_sample(b, now_ms, samples, count);
    line = begin(t, "sample");
    put(line, "now_ms", now_ms);
    if (line)
        json_object_set_new(line, "samples", array_json(&layout_sample, samples, count));
    return end(t, line, migbuf_buffer_sample(b, now_ms, samples, count));
}

int trace_link(struct trace *t, struct migbuf_buffer *b, uint64_t link, uint64_t bytes_per_s)
{
    json_t *line = begin(t, "link");

    put(line, "link", link);
    put(line, "bytes_per_s", bytes_per_s);
    return end(t, line, migbuf_buffer_link(b, link, bytes_per_s));
}

int trace_tick(struct trace *t, struct migbuf_buffer *b, uint64_t now_ms, struct migbuf_decision *out, size_t capacity)
{
    json_t *line;
    int rc;

    if (!b || !out)
        return migbuf_buffer_tick(b, now_ms, out, capacity);
    line = begin(t, "tick");
    put(line, "now_ms", now_ms);
    put(line, "capacity", capacity);
    rc = migbuf_buffer_tick(b, now_ms, out, capacity);
    if (line && rc >= 0)
        json_object_set_new(line, "decisions", array_json(&layout_decision, out, (size_t)rc));
    return end(t, line, rc);
}

int trace_outcome(struct trace *t, struct migbuf_buffer *b, uint64_t id, int32_t outcome)
{
    json_t *line = begin(t, "outcome");

    put(line, "id", id);
    json_object_set_new(line, "outcome", json_integer(outcome));
    return end(t, line, migbuf_buffer_outcome(b, id, outcome));
}

int trace_found(struct trace *t, struct migbuf_buffer *b, uint64_t id, const struct migbuf_limits *limits,
                int32_t running)
{
    json_t *line = begin(t, "found");

    put(line, "id", id);
    json_object_set_new(line, "limits", limits && line ? record_json(&layout_limits, limits) : json_null());
    json_object_set_new(line, "running", json_integer(running));
    return end(t, line, migbuf_buffer_resync(b, id, limits, running));
}

int trace_remove(struct trace *t, struct migbuf_buffer *b, uint64_t id)
{
    json_t *line = begin(t, "remove");

    put(line, "id", id);
    return end(t, line, migbuf_buffer_remove(b, id));
}

int trace_resize(struct trace *t, struct migbuf_buffer *b, uint64_t capacity_bytes, struct migbuf_error *error)
{
    struct migbuf_error detail = { 0 };
    json_t *line = begin(t, "resize");

    put(line, "capacity_bytes", capacity_bytes);
    return end_detailed(t, line, migbuf_buffer_resize(b, capacity_bytes, &detail), &detail, error);
}

/* ---- Replay --------------------------------------------------------------------------------------------------------
 */

enum verdict { SAME = 0, DIFFERENT = 1, BROKEN = -1 };

struct replay {
    struct migbuf_buffer *buffer;
    uint64_t calls, decisions;
    char what[256]; /* the difference, or what is wrong with the line */
};

__attribute__((format(printf, 3, 4))) static enum verdict say(struct replay *r, enum verdict verdict,
                                                              const char *format, ...)
{
    va_list args;

    va_start(args, format);
    vsnprintf(r->what, sizeof r->what, format, args);
    va_end(args);
    return verdict;
}

static bool json_number_exact(const json_t *value, bool is_signed, uint64_t *number)
{
    const char *text = json_string_value(value);
    char *rest;

    if (json_is_integer(value)) {
        *number = (uint64_t)json_integer_value(value);
        return is_signed || json_integer_value(value) >= 0;
    }
    if (!text || *text < '0' || *text > '9' || is_signed)
        return false;
    errno = 0;
    *number = strtoull(text, &rest, 10);
    return !errno && !*rest;
}

static enum verdict take(struct replay *r, const json_t *object, const struct field *f, uint64_t *value)
{
    const json_t *member = json_object_get(object, f->name);

    if (!member)
        return say(r, BROKEN, "no \"%s\"", f->name);
    if (!json_number_exact(member, f->kind == KIND_I32, value) || !field_holds(f, *value))
        return say(r, BROKEN, "\"%s\" is no number that fits", f->name);
    return SAME;
}

static enum verdict take_u64(struct replay *r, const json_t *line, const char *name, uint64_t *value)
{
    return take(r, line, &(struct field){ name, 0, KIND_U64 }, value);
}

static enum verdict take_record(struct replay *r, const struct layout *layout, const json_t *object, void *record)
{
    uint64_t bytes = layout->bytes, value;
    size_t known = 0;

    if (!json_is_object(object))
        return say(r, BROKEN, "no %s where one should be", layout->name);
    memset(record, 0, layout->bytes);
    for (size_t i = 0; i < layout->count; i++) {
        const struct field *f = &layout->field[i];

        if (i && f->offset + (f->kind == KIND_U64 ? 8 : 4) > bytes)
            break;
        if (take(r, object, f, &value))
            return BROKEN;
        if (!i && layout->sized && value > bytes)
            return say(r, BROKEN, "%s has %" PRIu64 " bytes, this program knows %" PRIu64, layout->name, value, bytes);
        if (!i && layout->sized)
            bytes = value;
        field_set(record, f, value);
        known++;
    }
    if (known != json_object_size(object))
        return say(r, BROKEN, "%s has members this program does not know", layout->name);
    return SAME;
}

/* The caller frees *records; never NULL on success. */
static enum verdict take_array(struct replay *r, const struct layout *layout, const json_t *line, const char *name,
                               void **records, size_t *count)
{
    const json_t *array = json_object_get(line, name);

    if (!json_is_array(array))
        return say(r, BROKEN, "no \"%s\"", name);
    *count = json_array_size(array);
    *records = calloc(*count + 1, layout->bytes);
    if (!*records)
        return say(r, BROKEN, "no memory for %zu %s", *count, name);
    for (size_t i = 0; i < *count; i++) {
        if (take_record(r, layout, json_array_get(array, i), (char *)*records + i * layout->bytes)) {
            free(*records);
            return BROKEN;
        }
    }
    return SAME;
}

static enum verdict same_rc(struct replay *r, const json_t *line, int rc)
{
    static const struct field field = { "rc", 0, KIND_I32 };
    uint64_t value;
    int recorded;

    if (take(r, line, &field, &value))
        return BROKEN;
    recorded = (int)(int64_t)value;
    if (recorded == rc)
        return SAME;
    return say(r, DIFFERENT, "%s: returned %d (%s) was recorded, now it is %d (%s)",
               json_string_value(json_object_get(line, "call")), recorded, migbuf_strerror(recorded), rc,
               migbuf_strerror(rc));
}

static enum verdict same_detail(struct replay *r, const json_t *line, int rc, const struct migbuf_error *detail)
{
    const uint64_t now[] = { detail->need, detail->have };
    static const char *const name[] = { "need", "have" };
    enum verdict verdict = same_rc(r, line, rc);

    for (size_t i = 0; !verdict && rc < 0 && detail->code && i < 2; i++) {
        uint64_t recorded;

        if (take_u64(r, line, name[i], &recorded))
            return BROKEN;
        if (recorded != now[i])
            verdict = say(r, DIFFERENT, "%s: %s %" PRIu64 " was recorded, now it is %" PRIu64,
                          json_string_value(json_object_get(line, "call")), name[i], recorded, now[i]);
    }
    return verdict;
}

static enum verdict replay_open(struct replay *r, const json_t *line)
{
    uint64_t format;

    if (take_u64(r, line, "trace", &format))
        return BROKEN;
    return format == TRACE_FORMAT ? SAME : say(r, BROKEN, "format %" PRIu64 ", this program reads 1", format);
}

static void adopt(struct replay *r, struct migbuf_buffer *fresh)
{
    migbuf_buffer_free(r->buffer);
    r->buffer = fresh;
}

static enum verdict replay_new(struct replay *r, const json_t *line)
{
    const json_t *object = json_object_get(line, "options");
    struct migbuf_buffer *fresh = NULL;
    struct migbuf_buffer_options options;
    uint64_t capacity;
    int rc;

    if (take_u64(r, line, "capacity_bytes", &capacity))
        return BROKEN;
    if (!json_is_null(object) && take_record(r, &layout_options, object, &options))
        return BROKEN;
    rc = migbuf_buffer_new(capacity, json_is_null(object) ? NULL : &options, NULL, &fresh);
    if (!rc)
        adopt(r, fresh);
    return same_rc(r, line, rc);
}

static enum verdict replay_load(struct replay *r, const json_t *line)
{
    const json_t *text = json_object_get(line, "text");
    struct migbuf_buffer *fresh = NULL;
    uint64_t now_ms;
    int rc;

    if (take_u64(r, line, "now_ms", &now_ms))
        return BROKEN;
    if (!json_is_string(text))
        return say(r, BROKEN, "no \"text\"");
    rc = migbuf_buffer_load(json_string_value(text), json_string_length(text), now_ms, NULL, &fresh);
    if (!rc)
        adopt(r, fresh);
    return same_rc(r, line, rc);
}

static enum verdict replay_add(struct replay *r, const json_t *line)
{
    struct migbuf_error detail = { 0 };
    struct migbuf_migration m;
    enum verdict verdict;
    void *disks;
    size_t count;

    if (take_record(r, &layout_migration, json_object_get(line, "migration"), &m) ||
        take_array(r, &layout_geometry, line, "disks", &disks, &count))
        return BROKEN;
    verdict = same_detail(r, line, migbuf_buffer_add(r->buffer, &m, disks, count, &detail), &detail);
    free(disks);
    return verdict;
}

static enum verdict replay_phase(struct replay *r, const json_t *line)
{
    static const struct field phase_field = { "phase", 0, KIND_I32 }, drains_field = { "drains_ahead", 0, KIND_U32 };
    uint64_t id, phase, drains;

    if (take_u64(r, line, "id", &id) || take(r, line, &phase_field, &phase) || take(r, line, &drains_field, &drains))
        return BROKEN;
    return same_rc(r, line, migbuf_buffer_phase(r->buffer, id, (int32_t)(int64_t)phase, (uint32_t)drains));
}

static enum verdict replay_weight(struct replay *r, const json_t *line)
{
    static const struct field weight_field = { "weight", 0, KIND_U32 };
    uint64_t id, weight;

    if (take_u64(r, line, "id", &id) || take(r, line, &weight_field, &weight))
        return BROKEN;
    return same_rc(r, line, migbuf_buffer_weight(r->buffer, id, (uint32_t)weight));
}

static enum verdict replay_sample(struct replay *r, const json_t *line)
{
    enum verdict verdict;
    uint64_t now_ms;
    void *samples;
    size_t count;

    if (take_u64(r, line, "now_ms", &now_ms) || take_array(r, &layout_sample, line, "samples", &samples, &count))
        return BROKEN;
    verdict = same_rc(r, line, migbuf_buffer_sample(r->buffer, now_ms, samples, count));
    free(samples);
    return verdict;
}

static enum verdict replay_link(struct replay *r, const json_t *line)
{
    uint64_t link, rate;

    if (take_u64(r, line, "link", &link) || take_u64(r, line, "bytes_per_s", &rate))
        return BROKEN;
    return same_rc(r, line, migbuf_buffer_link(r->buffer, link, rate));
}

static enum verdict replay_id(struct replay *r, const json_t *line, int (*call)(struct migbuf_buffer *, uint64_t))
{
    uint64_t id;

    if (take_u64(r, line, "id", &id))
        return BROKEN;
    return same_rc(r, line, call(r->buffer, id));
}

static enum verdict replay_outcome(struct replay *r, const json_t *line)
{
    static const struct field outcome_field = { "outcome", 0, KIND_I32 };
    uint64_t id, outcome;

    if (take_u64(r, line, "id", &id) || take(r, line, &outcome_field, &outcome))
        return BROKEN;
    return same_rc(r, line, migbuf_buffer_outcome(r->buffer, id, (int32_t)(int64_t)outcome));
}

static enum verdict replay_found(struct replay *r, const json_t *line)
{
    static const struct field running_field = { "running", 0, KIND_I32 };
    const json_t *object = json_object_get(line, "limits");
    struct migbuf_limits limits;
    uint64_t id, running;

    if (take_u64(r, line, "id", &id) || take(r, line, &running_field, &running))
        return BROKEN;
    if (!json_is_null(object) && take_record(r, &layout_limits, object, &limits))
        return BROKEN;
    return same_rc(
        r, line, migbuf_buffer_resync(r->buffer, id, json_is_null(object) ? NULL : &limits, (int32_t)(int64_t)running));
}

static enum verdict replay_remove(struct replay *r, const json_t *line)
{
    return replay_id(r, line, migbuf_buffer_remove);
}

static enum verdict replay_resize(struct replay *r, const json_t *line)
{
    struct migbuf_error detail = { 0 };
    uint64_t capacity;

    if (take_u64(r, line, "capacity_bytes", &capacity))
        return BROKEN;
    return same_detail(r, line, migbuf_buffer_resize(r->buffer, capacity, &detail), &detail);
}

static enum verdict same_decision(struct replay *r, uint64_t now_ms, const struct migbuf_decision *now,
                                  const struct migbuf_decision *recorded)
{
    for (size_t i = 0; i < layout_decision.count; i++) {
        const struct field *f = &decision_fields[i];
        uint64_t new_value = field_get(now, f), old_value = field_get(recorded, f);

        if (new_value == old_value)
            continue;
        if (f->offset == offsetof(struct migbuf_decision, action))
            return say(r, DIFFERENT,
                       "tick at %" PRIu64 " ms, id %" PRIu64 ": action %s (%d) was recorded, now it is %s (%d)", now_ms,
                       now->id, migbuf_action_text(recorded->action), recorded->action, migbuf_action_text(now->action),
                       now->action);
        return say(r, DIFFERENT,
                   "tick at %" PRIu64 " ms, id %" PRIu64 ": %s %" PRIu64 " was recorded, now it is %" PRIu64, now_ms,
                   now->id, f->name, old_value, new_value);
    }
    r->decisions++;
    return SAME;
}

static enum verdict same_decisions(struct replay *r, const json_t *line, uint64_t now_ms,
                                   const struct migbuf_decision *now, size_t count)
{
    enum verdict verdict = SAME;
    size_t recorded_count;
    void *recorded;

    if (take_array(r, &layout_decision, line, "decisions", &recorded, &recorded_count))
        return BROKEN;
    if (recorded_count != count)
        verdict = say(r, BROKEN, "rc says %zu decisions, %zu are there", count, recorded_count);
    for (size_t i = 0; i < count && !verdict; i++)
        verdict = same_decision(r, now_ms, &now[i], (const struct migbuf_decision *)recorded + i);
    free(recorded);
    return verdict;
}

static enum verdict replay_tick(struct replay *r, const json_t *line)
{
    size_t migrations = migbuf_bins_count(migbuf_buffer_bins(r->buffer));
    struct migbuf_decision *out;
    enum verdict verdict;
    uint64_t now_ms, capacity;
    int rc;

    if (take_u64(r, line, "now_ms", &now_ms) || take_u64(r, line, "capacity", &capacity))
        return BROKEN;
    /* No more than `migrations` are ever written, so that a wild capacity costs nothing. */
    out = calloc(migrations + 1, sizeof *out);
    if (!out)
        return say(r, BROKEN, "no memory for %zu decisions", migrations);
    rc = migbuf_buffer_tick(r->buffer, now_ms, out, (size_t)capacity);
    verdict = same_rc(r, line, rc);
    if (!verdict && rc >= 0)
        verdict = same_decisions(r, line, now_ms, out, (size_t)rc);
    free(out);
    return verdict;
}

static enum verdict replay_call(struct replay *r, const json_t *line)
{
    static const struct {
        const char *name;
        enum verdict (*replay)(struct replay *r, const json_t *line);
    } calls[] = {
        { "new", replay_new },         { "load", replay_load },     { "found", replay_found },
        { "add", replay_add },         { "phase", replay_phase },   { "weight", replay_weight },
        { "sample", replay_sample },   { "link", replay_link },     { "tick", replay_tick },
        { "outcome", replay_outcome }, { "remove", replay_remove }, { "resize", replay_resize },
    };
    const char *name = json_string_value(json_object_get(line, "call"));

    for (size_t i = 0; name && i < sizeof calls / sizeof *calls; i++) {
        if (strcmp(name, calls[i].name))
            continue;
        if (i > 1 && !r->buffer)
            return say(r, BROKEN, "\"%s\" before a \"new\" that worked", name);
        r->calls++;
        return calls[i].replay(r, line);
    }
    return name ? say(r, BROKEN, "unknown call \"%.40s\"", name) : say(r, BROKEN, "no \"call\"");
}

static enum verdict replay_line(struct replay *r, const char *text, size_t bytes, size_t number)
{
    enum verdict verdict;
    json_error_t error;
    const char *call;
    json_t *line;

    if (!bytes || text[bytes - 1] != '\n')
        return say(r, BROKEN, "cut off: the line has no end");
    line = json_loadb(text, bytes, JSON_REJECT_DUPLICATES, &error);
    if (!line)
        return say(r, BROKEN, "not JSON: %s", error.text);
    call = json_string_value(json_object_get(line, "call"));
    if (number == 1 && (!call || strcmp(call, "open")))
        verdict = say(r, BROKEN, "not a decision log: it does not begin with an \"open\"");
    else
        verdict = number == 1 ? replay_open(r, line) : replay_call(r, line);
    json_decref(line);
    return verdict;
}

static void report(const struct replay *r, enum verdict verdict, const char *path, size_t number, FILE *out)
{
    fprintf(out, "%s: ", path);
    if (verdict == SAME)
        fprintf(out, "%" PRIu64 " calls, %" PRIu64 " decisions, identical\n", r->calls, r->decisions);
    else if (verdict == DIFFERENT)
        fprintf(out, "%" PRIu64 " calls, %" PRIu64 " decisions alike, first difference at line %zu: %s\n", r->calls - 1,
                r->decisions, number, r->what);
    else if (number)
        fprintf(out, "line %zu: %s\n", number, r->what);
    else
        fprintf(out, "%s\n", r->what);
}

int trace_replay(const char *path, FILE *out)
{
    FILE *file = fopen(path, "re");
    enum verdict verdict = SAME;
    struct replay r = { 0 };
    size_t room = 0, number = 0;
    char *text = NULL;
    ssize_t bytes;

    if (!file) {
        fprintf(out, "%s: cannot be read: %s\n", path, strerror(errno));
        return BROKEN;
    }
    errno = 0;
    while (!verdict && (bytes = getline(&text, &room, file)) >= 0)
        verdict = replay_line(&r, text, (size_t)bytes, ++number);
    if (!verdict && (ferror(file) || !feof(file)))
        verdict = say(&r, BROKEN, "cannot be read: %s", strerror(errno));
    else if (!verdict && !number)
        verdict = say(&r, BROKEN, "the file is empty");
    report(&r, verdict, path, number, out);
    migbuf_buffer_free(r.buffer);
    free(text);
    fclose(file);
    return (int)verdict;
}
