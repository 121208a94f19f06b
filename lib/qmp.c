/* SPDX-License-Identifier: MIT */
/*
 * qmp: the protocol engine. No system call here, no clock. What a peer sent is looked at without a tree, so that it
 * costs its length and no more (json.h); jansson checks a caller's arguments only.
 *
 * Everything a call may fail at (allocation) is done on the side first; what then changes the engine cannot fail. So
 * MIGBUF_E_NOMEM leaves it as it was, and a host may feed the same bytes again.
 */
#include "migbuf/qmp.h"
#include "json.h"
#include "memory.h"
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define MIN_MESSAGE_BYTES 1024
#define MAX_MESSAGE_BYTES (UINT64_C(1) << 30)
#define MAX_EVENTS 1000000
#define MIN_EVENT_BYTES 1024
#define MAX_EVENT_BYTES (UINT64_C(1) << 40)
#define MAX_NAME_BYTES 128
#define COMMAND_EXTRA_BYTES 64 /* the fixed parts of a command and 20 digits of id */

static const char hello[] = "{\"execute\":\"qmp_capabilities\",\"id\":0}\n";

enum state { WAITING, NEGOTIATING, READY };

/* Where in the structure of a message the next byte stands. */
struct frame {
    size_t depth;
    bool in_string;
    bool escaped;
};

/* A message that waits to be taken; its line stands behind it. */
struct node {
    struct node *before, *after;
    uint64_t arrival; /* counts up */
    struct migbuf_qmp_message message;
    size_t line_bytes;
    bool unsolicited; /* no command's answer: counts against max_events and max_event_bytes */
};

struct list {
    struct node *first, *last;
};

/* A command whose answer was not taken yet. */
enum waiting { WAITS, FORGOTTEN, ANSWERED, TAKEN };
struct waiter {
    uint64_t id;
    struct node *answer; /* when ANSWERED */
    enum waiting state;
};

struct buffer {
    char *bytes;
    size_t used;
    size_t capacity;
};

struct migbuf_qmp {
    struct migbuf_allocator allocator;
    struct migbuf_qmp_options options;
    enum state state;
    int broken; /* the code that broke the engine, or 0 */

    struct buffer in; /* the beginning of a message whose end has not come */
    struct frame frame;

    struct buffer out;
    size_t out_sent;
    size_t hello_left; /* unsent bytes of the negotiation, which stands first in `out` */

    struct list answers, unsolicited; /* each in the order of arrival; the greeting is among the answers */
    struct node *taken;               /* keeps the texts of the message handed out last */
    uint64_t arrivals;
    uint64_t unsolicited_count, unsolicited_bytes;
    uint64_t lost;

    struct waiter *waiters; /* [waiters_first, waiters_end), in the order of sending, hence of ids */
    size_t waiters_first;
    size_t waiters_end;
    size_t waiters_capacity;
    size_t oldest;    /* nobody before that one is without an answer */
    uint64_t pending; /* how many are without an answer */
    uint64_t next_id;
};

/* ---- one message ---- */

static void invalid(struct migbuf_qmp_message *m, const char *why)
{
    m->kind = MIGBUF_QMP_INVALID;
    m->name = "";
    m->text = why;
    m->text_bytes = strlen(why);
}

/* The members that count: the kinds of messages first. */
enum member { QMP, RETURN, ERROR, EVENT, KINDS, DATA = KINDS, TIMESTAMP, ID, MEMBERS };

/* Where they stand in a line; 0 bytes for one that is not there. */
struct members {
    struct migbuf__json_span at[MEMBERS];
};

static struct members find_members(const char *line, size_t bytes)
{
    static const char *const names[MEMBERS] = { "QMP", "return", "error", "event", "data", "timestamp", "id" };
    struct members found = { .at = { { 0, 0 } } };
    struct migbuf__json_span key, value;
    size_t at = 0;

    while (migbuf__json_next(line, bytes, &at, &key, &value))
        for (int i = 0; i < MEMBERS; i++)
            if (migbuf__json_is(line, key, names[i]))
                found.at[i] = value;
    return found;
}

static void read_id(const char *line, struct migbuf__json_span id, struct migbuf_qmp_message *m)
{
    if (id.bytes == 0)
        return;
    m->id_kind = MIGBUF_QMP_ID_OTHER;
    if (id.bytes > 19) /* 19 digits fit */
        return;
    for (size_t i = 0; i < id.bytes; i++)
        if (line[id.at + i] < '0' || line[id.at + i] > '9')
            return;
    m->id_kind = MIGBUF_QMP_ID_NUMBER;
    for (size_t i = 0; i < id.bytes; i++)
        m->id = m->id * 10 + (uint64_t)(line[id.at + i] - '0');
}

/* Ends the part of the line that is handed out as it stands. A member always has something behind it. */
static void place_text(char *line, struct migbuf__json_span span, struct migbuf_qmp_message *m)
{
    line[span.at + span.bytes] = '\0';
    m->text = line + span.at;
    m->text_bytes = span.bytes;
}

/* Decodes a string over its JSON form, which is longer by the quotes at least. False when it is none. */
static bool place_string(char *line, struct migbuf__json_span span, const char **text, uint64_t *text_bytes)
{
    if (line[span.at] != '"')
        return false;
    *text_bytes = migbuf__json_unquote(line + span.at, span.bytes);
    *text = line + span.at;
    return true;
}

/* The integer that a member of an object is, where it is one. */
static void read_integer(const char *object, size_t bytes, const char *key, int64_t *number)
{
    struct migbuf__json_span span;
    int64_t negated = 0;
    size_t i;

    if (!migbuf__json_find(object, bytes, key, &span))
        return;
    for (i = object[span.at] == '-'; i < span.bytes; i++) {
        char c = object[span.at + i];

        if (c < '0' || c > '9')
            return;
        negated = 10 * negated - (c - '0'); /* a clean text has none beyond int64 */
    }
    *number = object[span.at] == '-' ? negated : -negated;
}

/* The readers of a clean line fill *m and return NULL, or why it is no message. */

static const char *read_event(char *line, const struct members *found, struct migbuf_qmp_message *m)
{
    struct migbuf__json_span data = found->at[DATA], stamp = found->at[TIMESTAMP];
    uint64_t name_bytes;

    if (data.bytes && line[data.at] != '{')
        return "the data of an event is not an object";
    read_integer(line + stamp.at, stamp.bytes, "seconds", &m->seconds);
    read_integer(line + stamp.at, stamp.bytes, "microseconds", &m->microseconds);
    if (!place_string(line, found->at[EVENT], &m->name, &name_bytes))
        return "the name of an event is not a string";
    m->text = "{}";
    m->text_bytes = 2;
    if (data.bytes)
        place_text(line, data, m);
    m->kind = MIGBUF_QMP_EVENT;
    return NULL;
}

static const char *read_error(char *line, struct migbuf__json_span span, struct migbuf_qmp_message *m)
{
    char *object = line + span.at;
    struct migbuf__json_span name, description;
    uint64_t name_bytes;

    if (!migbuf__json_find(object, span.bytes, "class", &name) ||
        !migbuf__json_find(object, span.bytes, "desc", &description) ||
        !place_string(object, name, &m->name, &name_bytes) ||
        !place_string(object, description, &m->text, &m->text_bytes))
        return "an error without a class and a description";
    m->kind = MIGBUF_QMP_ERROR;
    return NULL;
}

static const char *read_members(char *line, const struct members *found, struct migbuf_qmp_message *m)
{
    static const int32_t kind[KINDS] = { MIGBUF_QMP_GREETING, MIGBUF_QMP_RETURN, MIGBUF_QMP_ERROR, MIGBUF_QMP_EVENT };
    int which = KINDS;

    for (int i = 0; i < KINDS; i++) {
        if (found->at[i].bytes == 0)
            continue;
        if (which != KINDS)
            return "more than one of QMP, return, error and event in one message";
        which = i;
    }
    if (which == KINDS)
        return "neither a greeting nor a return, an error or an event";
    if (which == EVENT)
        return read_event(line, found, m);
    if (which == ERROR)
        return read_error(line, found->at[ERROR], m);
    m->kind = kind[which];
    place_text(line, found->at[which], m);
    return NULL;
}

/* Says MIGBUF_QMP_INVALID of whatever is no message. */
static void parse(char *line, size_t bytes, struct migbuf_qmp_message *m)
{
    int rc = migbuf__json_clean(line, bytes);
    const struct members found = find_members(line, bytes);
    const char *why = rc == MIGBUF_E_TOO_BIG ? "nested too deeply"
                      : rc == MIGBUF_E_RANGE ? "a number is too large"
                      : rc < 0               ? "not JSON"
                                             : NULL;

    read_id(line, found.at[ID], m);
    if (!why)
        why = read_members(line, &found, m);
    if (why)
        invalid(m, why);
}

int migbuf_qmp_parse(char *line, uint64_t line_bytes, struct migbuf_qmp_message *message)
{
    struct migbuf_qmp_message m = { .name = "", .text = "", .seconds = -1, .microseconds = -1 };

    if (!line || !message || line_bytes > SIZE_MAX)
        return MIGBUF_E_INVALID;
    parse(line, (size_t)line_bytes, &m);
    *message = m;
    return 0;
}

/* ---- memory ---- */

static int reserve(struct migbuf_qmp *q, struct buffer *b, size_t more)
{
    size_t want = b->used + more;
    size_t capacity = b->capacity ? b->capacity : 256;
    char *bytes;

    if (want <= b->capacity)
        return 0;
    while (capacity < want)
        capacity *= 2;
    bytes = migbuf__resize(&q->allocator, b->bytes, b->capacity, capacity, 1);
    if (!bytes)
        return MIGBUF_E_NOMEM;
    b->bytes = bytes;
    b->capacity = capacity;
    return 0;
}

static void append(struct buffer *b, const char *bytes, size_t count)
{
    if (count)
        memcpy(b->bytes + b->used, bytes, count);
    b->used += count;
}

static size_t node_bytes(const struct node *node)
{
    return sizeof *node + node->line_bytes;
}

static void free_node(struct migbuf_qmp *q, struct node *node)
{
    if (node)
        migbuf__free(&q->allocator, node, node_bytes(node));
}

static void put_last(struct list *list, struct node *node)
{
    node->before = list->last;
    node->after = NULL;
    if (list->last)
        list->last->after = node;
    else
        list->first = node;
    list->last = node;
}

static struct node *take_out(struct list *list, struct node *node)
{
    if (node->before)
        node->before->after = node->after;
    else
        list->first = node->after;
    if (node->after)
        node->after->before = node->before;
    else
        list->last = node->before;
    node->before = node->after = NULL;
    return node;
}

static void free_list(struct migbuf_qmp *q, struct list *list)
{
    while (list->first)
        free_node(q, take_out(list, list->first));
}

/* A parsed message out of what was kept from earlier portions and what has come now; NULL without memory. */
static struct node *make_node(struct migbuf_qmp *q, size_t kept, const char *bytes, size_t count)
{
    struct node *node = migbuf__resize(&q->allocator, NULL, 0, sizeof *node + kept + count, 1);
    char *line;

    if (!node)
        return NULL;
    *node = (struct node){ .line_bytes = kept + count };
    line = (char *)(node + 1);
    if (kept)
        memcpy(line, q->in.bytes, kept);
    memcpy(line + kept, bytes, count);
    migbuf_qmp_parse(line, node->line_bytes, &node->message);
    return node;
}

/* ---- who waits for what ---- */

static bool has_no_answer(const struct waiter *w)
{
    return w->state == WAITS || w->state == FORGOTTEN;
}

/* The command of that id, unless its answer was taken. */
static struct waiter *find_waiter(const struct migbuf_qmp *q, uint64_t id)
{
    size_t low = q->waiters_first, high = q->waiters_end;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (q->waiters[middle].id < id)
            low = middle + 1;
        else
            high = middle;
    }
    if (low == q->waiters_end || q->waiters[low].id != id || q->waiters[low].state == TAKEN)
        return NULL;
    return &q->waiters[low];
}

/* The command that has waited longest; there is one. */
static struct waiter *oldest_waiter(struct migbuf_qmp *q)
{
    if (q->oldest < q->waiters_first)
        q->oldest = q->waiters_first;
    while (!has_no_answer(&q->waiters[q->oldest]))
        q->oldest++;
    return &q->waiters[q->oldest];
}

/* Nobody asks for w again. Answers come in the order of the commands, so w is the first in all but odd cases. */
static void remove_waiter(struct migbuf_qmp *q, struct waiter *w)
{
    w->state = TAKEN;
    while (q->waiters_first < q->waiters_end && q->waiters[q->waiters_first].state == TAKEN)
        q->waiters_first++;
}

/* Makes room for one more. Where half of the places are free by then they are used, so that each is moved rarely. */
static int reserve_waiter(struct migbuf_qmp *q)
{
    size_t capacity = q->waiters_capacity ? 2 * q->waiters_capacity : 16, kept = 0;
    struct waiter *waiters;

    if (q->waiters_end < q->waiters_capacity)
        return 0;
    for (size_t i = q->waiters_first; i < q->waiters_end; i++)
        kept += q->waiters[i].state != TAKEN;
    if (kept > q->waiters_capacity / 2 || q->waiters_capacity == 0) {
        waiters = migbuf__resize(&q->allocator, q->waiters, q->waiters_capacity, capacity, sizeof *waiters);
        if (!waiters)
            return MIGBUF_E_NOMEM;
        q->waiters = waiters;
        q->waiters_capacity = capacity;
    }
    kept = 0;
    for (size_t i = q->waiters_first; i < q->waiters_end; i++)
        if (q->waiters[i].state != TAKEN)
            q->waiters[kept++] = q->waiters[i];
    q->waiters_first = q->oldest = 0;
    q->waiters_end = kept;
    return 0;
}

/* ---- the queues ---- */

static struct node *take_unsolicited(struct migbuf_qmp *q, struct node *node)
{
    q->unsolicited_count--;
    q->unsolicited_bytes -= node_bytes(node);
    return take_out(&q->unsolicited, node);
}

/* The newest is kept, however long: max_message_bytes bounds it. */
static void put_unsolicited(struct migbuf_qmp *q, struct node *node)
{
    uint64_t bytes = node_bytes(node);

    while (q->unsolicited.first && (q->unsolicited_count >= q->options.max_events ||
                                    q->unsolicited_bytes + bytes > q->options.max_event_bytes)) {
        free_node(q, take_unsolicited(q, q->unsolicited.first));
        q->lost++;
    }
    q->unsolicited_count++;
    q->unsolicited_bytes += bytes;
    node->unsolicited = true;
    put_last(&q->unsolicited, node);
}

static struct node *take_answer(struct migbuf_qmp *q, struct node *node)
{
    struct waiter *w = find_waiter(q, node->message.id);

    if (w)
        remove_waiter(q, w);
    return take_out(&q->answers, node);
}

static void release_taken(struct migbuf_qmp *q)
{
    free_node(q, q->taken);
    q->taken = NULL;
}

static int hand_out(struct migbuf_qmp *q, struct node *node, struct migbuf_qmp_message *message)
{
    q->taken = node->unsolicited ? take_unsolicited(q, node) : take_answer(q, node);
    if (q->taken->message.kind == MIGBUF_QMP_EVENT) {
        q->taken->message.lost_events = q->lost;
        q->lost = 0;
    }
    *message = q->taken->message;
    return 1;
}

/* ---- what a message means; nothing below can run out of memory ---- */

/* The command that an answer belongs to. QEMU leaves the id out of an error only when it could not parse a command, and
 * it reads commands in order: then it is the oldest. */
static struct waiter *answered(struct migbuf_qmp *q, const struct migbuf_qmp_message *m)
{
    struct waiter *w = NULL;

    if (m->id_kind == MIGBUF_QMP_ID_NUMBER)
        w = find_waiter(q, m->id);
    else if (m->kind == MIGBUF_QMP_ERROR && m->id_kind == MIGBUF_QMP_ID_NONE && q->pending)
        w = oldest_waiter(q);
    return w && has_no_answer(w) ? w : NULL;
}

static void dispatch_answer(struct migbuf_qmp *q, struct node *node)
{
    struct migbuf_qmp_message *m = &node->message;
    struct waiter *w = answered(q, m);

    if (!w) {
        if (m->kind == MIGBUF_QMP_RETURN || m->id_kind != MIGBUF_QMP_ID_NONE)
            invalid(m, "an answer that nobody waits for");
        m->id = 0;
        put_unsolicited(q, node);
        return;
    }
    m->id = w->id;
    q->pending--;
    if (w->state == FORGOTTEN) {
        remove_waiter(q, w);
        free_node(q, node);
        return;
    }
    w->state = ANSWERED;
    w->answer = node;
    put_last(&q->answers, node);
}

static int dispatch(struct migbuf_qmp *q, struct node *node)
{
    const struct migbuf_qmp_message *m = &node->message;

    node->arrival = q->arrivals++;
    if (m->kind == MIGBUF_QMP_EVENT) {
        node->message.id = 0;
        put_unsolicited(q, node);
        return 0;
    }
    if (q->state == READY && m->kind != MIGBUF_QMP_GREETING) {
        dispatch_answer(q, node);
        return 0;
    }
    if (q->state == WAITING && m->kind == MIGBUF_QMP_GREETING) {
        q->state = NEGOTIATING;
        node->message.id = 0;
        put_last(&q->answers, node);
        return 0;
    }
    if (q->state == NEGOTIATING && m->kind == MIGBUF_QMP_RETURN && m->id_kind == MIGBUF_QMP_ID_NUMBER && m->id == 0) {
        q->state = READY;
        free_node(q, node);
        return 0;
    }
    free_node(q, node);
    return MIGBUF_E_PROTOCOL;
}

/* ---- bytes in ---- */

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

/* Reads on in a message. Returns where it stopped: behind the message when f->depth is 0, else at `end`. */
static const char *scan(struct frame *f, const char *p, const char *end)
{
    while (p < end) {
        char c = *p++;

        if (f->escaped)
            f->escaped = false;
        else if (f->in_string && c == '\\')
            f->escaped = true;
        else if (c == '"')
            f->in_string = !f->in_string;
        else if (f->in_string)
            continue;
        else if (c == '{' || c == '[')
            f->depth++;
        else if ((c == '}' || c == ']') && --f->depth == 0)
            break;
    }
    return p;
}

/* What one feed has found, before the engine is changed. */
struct intake {
    struct list list;
    struct frame frame;
    size_t kept;      /* how much of q->in still belongs to the message being read */
    const char *rest; /* the part of that message that came now */
    int broken;
};

static int take_in(struct migbuf_qmp *q, const char *p, const char *end, struct intake *in)
{
    while (p < end) {
        const char *start = p;
        struct node *node;

        if (in->frame.depth == 0 && is_blank(*p)) {
            in->rest = ++p;
            continue;
        }
        if (in->frame.depth == 0 && *p != '{') {
            in->broken = MIGBUF_E_PROTOCOL;
            return 0;
        }
        p = scan(&in->frame, p, end);
        if (in->kept + (size_t)(p - start) > q->options.max_message_bytes) {
            in->broken = MIGBUF_E_TOO_BIG;
            return 0;
        }
        if (in->frame.depth)
            break;
        node = make_node(q, in->kept, start, (size_t)(p - start));
        if (!node)
            return MIGBUF_E_NOMEM;
        put_last(&in->list, node);
        in->kept = 0;
        in->rest = p;
    }
    return reserve(q, &q->in, (size_t)(end - in->rest));
}

static void commit(struct migbuf_qmp *q, struct intake *in, const char *end)
{
    q->frame = in->frame;
    q->in.used = in->kept;
    if (!in->broken)
        append(&q->in, in->rest, (size_t)(end - in->rest));
    while (in->list.first && !q->broken)
        q->broken = dispatch(q, take_out(&in->list, in->list.first));
    free_list(q, &in->list);
    if (!q->broken)
        q->broken = in->broken;
}

int migbuf_qmp_feed(struct migbuf_qmp *engine, const char *bytes, uint64_t bytes_count)
{
    struct migbuf_qmp *q = engine;
    struct intake in;
    int rc;

    if (!q || (!bytes && bytes_count) || bytes_count > SIZE_MAX / 4)
        return MIGBUF_E_INVALID;
    if (q->broken || bytes_count == 0)
        return q->broken;
    in = (struct intake){ .frame = q->frame, .kept = q->in.used, .rest = bytes };
    rc = take_in(q, bytes, bytes + bytes_count, &in);
    if (rc < 0) {
        free_list(q, &in.list);
        return rc;
    }
    commit(q, &in, bytes + bytes_count);
    return q->broken;
}

/* ---- messages out ---- */

int migbuf_qmp_next(struct migbuf_qmp *engine, struct migbuf_qmp_message *message)
{
    struct node *answer, *other;

    if (!engine || !message)
        return MIGBUF_E_INVALID;
    release_taken(engine);
    answer = engine->answers.first;
    other = engine->unsolicited.first;
    if (!answer && !other)
        return engine->broken;
    return hand_out(engine, !other || (answer && answer->arrival < other->arrival) ? answer : other, message);
}

int migbuf_qmp_reply(struct migbuf_qmp *engine, uint64_t id, struct migbuf_qmp_message *message)
{
    const struct waiter *w;

    if (!engine || !message)
        return MIGBUF_E_INVALID;
    release_taken(engine);
    w = find_waiter(engine, id);
    if (!w || w->state == FORGOTTEN)
        return MIGBUF_E_NOTFOUND;
    return w->state == ANSWERED ? hand_out(engine, w->answer, message) : engine->broken;
}

int migbuf_qmp_event(struct migbuf_qmp *engine, struct migbuf_qmp_message *message)
{
    if (!engine || !message)
        return MIGBUF_E_INVALID;
    release_taken(engine);
    for (struct node *node = engine->unsolicited.first; node; node = node->after)
        if (node->message.kind == MIGBUF_QMP_EVENT)
            return hand_out(engine, node, message);
    return engine->broken;
}

int migbuf_qmp_forget(struct migbuf_qmp *engine, uint64_t id)
{
    struct waiter *w;

    if (!engine)
        return MIGBUF_E_INVALID;
    w = find_waiter(engine, id);
    if (!w || w->state == FORGOTTEN)
        return MIGBUF_E_NOTFOUND;
    if (w->state == ANSWERED)
        free_node(engine, take_answer(engine, w->answer));
    else
        w->state = FORGOTTEN;
    return 0;
}

int migbuf_qmp_is_ready(const struct migbuf_qmp *engine)
{
    if (!engine)
        return MIGBUF_E_INVALID;
    return engine->broken ? engine->broken : engine->state == READY;
}

uint64_t migbuf_qmp_pending(const struct migbuf_qmp *engine)
{
    return engine ? engine->pending : 0;
}

/* ---- commands ---- */

static bool is_command_name(const char *name)
{
    size_t bytes = strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-");

    return bytes > 0 && bytes <= MAX_NAME_BYTES && name[bytes] == '\0';
}

static int check_arguments(const struct migbuf_qmp *q, const char *arguments, size_t bytes)
{
    int rc;

    if (bytes > q->options.max_message_bytes)
        return MIGBUF_E_TOO_BIG;
    rc = migbuf__json_check_object(&q->allocator, arguments, bytes);
    return rc == MIGBUF_E_PROTOCOL || rc == MIGBUF_E_RANGE ? MIGBUF_E_INVALID : rc;
}

static int reserve_output(struct migbuf_qmp *q, size_t more)
{
    if (q->out_sent) {
        memmove(q->out.bytes, q->out.bytes + q->out_sent, q->out.used - q->out_sent);
        q->out.used -= q->out_sent;
        q->out_sent = 0;
    }
    return reserve(q, &q->out, more);
}

static void append_text(struct buffer *b, const char *text)
{
    append(b, text, strlen(text));
}

static void write_command(struct migbuf_qmp *q, const char *name, const char *arguments, uint64_t id)
{
    char end[32];

    append_text(&q->out, "{\"execute\":\"");
    append_text(&q->out, name);
    append_text(&q->out, "\"");
    if (arguments) {
        append_text(&q->out, ",\"arguments\":");
        append_text(&q->out, arguments);
    }
    snprintf(end, sizeof end, ",\"id\":%" PRIu64 "}\n", id);
    append_text(&q->out, end);
}

int migbuf_qmp_command(struct migbuf_qmp *engine, const char *name, const char *arguments, uint64_t *id)
{
    size_t bytes = arguments ? strlen(arguments) : 0;
    int rc;

    if (!engine || !name || !id || !is_command_name(name))
        return MIGBUF_E_INVALID;
    if (engine->broken)
        return engine->broken;
    rc = arguments ? check_arguments(engine, arguments, bytes) : 0;
    if (rc < 0)
        return rc;
    if (reserve_waiter(engine) < 0 || reserve_output(engine, strlen(name) + bytes + COMMAND_EXTRA_BYTES) < 0)
        return MIGBUF_E_NOMEM;
    *id = engine->next_id++;
    engine->waiters[engine->waiters_end++] = (struct waiter){ .id = *id };
    engine->pending++;
    write_command(engine, name, arguments, *id);
    return 0;
}

static size_t sendable(const struct migbuf_qmp *q)
{
    if (q->state == WAITING)
        return 0;
    return q->state == NEGOTIATING ? q->hello_left : q->out.used - q->out_sent;
}

int migbuf_qmp_output(const struct migbuf_qmp *engine, const char **bytes, uint64_t *bytes_count)
{
    if (!engine || !bytes || !bytes_count)
        return MIGBUF_E_INVALID;
    if (engine->broken)
        return engine->broken;
    *bytes = engine->out.bytes + engine->out_sent;
    *bytes_count = sendable(engine);
    return 0;
}

int migbuf_qmp_sent(struct migbuf_qmp *engine, uint64_t bytes_count)
{
    if (!engine)
        return MIGBUF_E_INVALID;
    if (bytes_count > sendable(engine))
        return MIGBUF_E_RANGE;
    engine->out_sent += (size_t)bytes_count;
    engine->hello_left -= bytes_count < engine->hello_left ? (size_t)bytes_count : engine->hello_left;
    return 0;
}

/* ---- the handle ---- */

#define OPTIONS_FIRST MIGBUF__FIRST(struct migbuf_qmp_options, max_events)

static const struct migbuf_qmp_options defaults = {
    .max_message_bytes = UINT64_C(1) << 20,
    .max_events = 256,
    .max_event_bytes = UINT64_C(4) << 20,
};

int migbuf_qmp_options_init(struct migbuf_qmp_options *options, uint64_t size)
{
    return migbuf__struct_init(options, size, &defaults, sizeof defaults, OPTIONS_FIRST);
}

static int check_options(const struct migbuf_qmp_options *o)
{
    if (o->max_message_bytes < MIN_MESSAGE_BYTES || o->max_message_bytes > MAX_MESSAGE_BYTES)
        return MIGBUF_E_RANGE;
    if (o->max_event_bytes < MIN_EVENT_BYTES || o->max_event_bytes > MAX_EVENT_BYTES)
        return MIGBUF_E_RANGE;
    return o->max_events < 1 || o->max_events > MAX_EVENTS ? MIGBUF_E_RANGE : 0;
}

int migbuf_qmp_new(const struct migbuf_qmp_options *options, const struct migbuf_allocator *allocator,
                   struct migbuf_qmp **engine)
{
    struct migbuf_qmp_options o = defaults;
    struct migbuf_allocator a = migbuf__allocator(allocator);
    struct migbuf_qmp *q;
    int rc;

    if (!engine)
        return MIGBUF_E_INVALID;
    rc = options ? migbuf__struct_take(&o, sizeof o, options, OPTIONS_FIRST) : 0;
    if (rc == 0)
        rc = check_options(&o);
    if (rc < 0)
        return rc;
    q = migbuf__resize(&a, NULL, 0, 1, sizeof *q);
    if (!q)
        return MIGBUF_E_NOMEM;
    *q = (struct migbuf_qmp){ .allocator = a, .options = o, .next_id = 1, .hello_left = sizeof hello - 1 };
    if (reserve(q, &q->out, sizeof hello) < 0) {
        migbuf_qmp_free(q);
        return MIGBUF_E_NOMEM;
    }
    append(&q->out, hello, sizeof hello - 1);
    *engine = q;
    return 0;
}

void migbuf_qmp_free(struct migbuf_qmp *engine)
{
    struct migbuf_allocator a;

    if (!engine)
        return;
    a = engine->allocator;
    free_list(engine, &engine->answers);
    free_list(engine, &engine->unsolicited);
    free_node(engine, engine->taken);
    migbuf__free(&a, engine->in.bytes, engine->in.capacity);
    migbuf__free(&a, engine->out.bytes, engine->out.capacity);
    migbuf__free(&a, engine->waiters, engine->waiters_capacity * sizeof *engine->waiters);
    migbuf__free(&a, engine, sizeof *engine);
}
