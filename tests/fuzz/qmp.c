/* SPDX-License-Identifier: MIT */
/* The QMP engine: a peer may send anything, in any portions, and memory may run out at any point. What comes out is the same
 * as of the whole.
 *
 * An input is a head of four bytes (bounds, portions, which allocation fails, what is called) and the stream. The byte 0x01,
 * which no JSON holds, stands for a call of the host between two bytes; the byte after it says which. */
#include "fuzz.h"
#include "json.h"
#include "migbuf/qmp.h"
#include <stdarg.h>

#define STORY_BYTES (1u << 16)
#define FAILURES 12

/* All that a host can see of a life of the engine, as text. */
struct story {
    char text[STORY_BYTES];
    size_t length;
};

static void tell(struct story *s, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void tell(struct story *s, const char *format, ...)
{
    va_list args;
    int n;

    va_start(args, format);
    n = vsnprintf(s->text + s->length, sizeof s->text - s->length, format, args);
    va_end(args);
    if (n > 0)
        s->length = s->length + (size_t)n < sizeof s->text ? s->length + (size_t)n : sizeof s->text - 1;
}

static uint32_t sum(const char *text, size_t bytes)
{
    uint32_t x = 2166136261u;

    while (bytes--)
        x = (x ^ (uint8_t)*text++) * 16777619u;
    return x;
}

static void tell_message(struct story *s, const char *call, int rc, const struct migbuf_qmp_message *m)
{
    tell(s, "%s %d", call, rc);
    if (rc == 1) {
        fuzz_check(m->kind >= MIGBUF_QMP_GREETING && m->kind <= MIGBUF_QMP_INVALID, "kind %d", m->kind);
        fuzz_check(m->text[m->text_bytes] == 0, "no end");
        fuzz_check(m->kind == MIGBUF_QMP_EVENT || !m->lost_events, "lost %llu", (unsigned long long)m->lost_events);
        fuzz_check(m->microseconds >= -1 && m->microseconds <= 999999 && m->seconds >= -1, "time");
        tell(s, " kind %d id %d %llu name %.40s text %zu %08x time %lld.%lld lost %llu", m->kind, m->id_kind,
             (unsigned long long)m->id, m->name, (size_t)m->text_bytes, sum(m->text, m->text_bytes), (long long)m->seconds,
             (long long)m->microseconds, (unsigned long long)m->lost_events);
    }
    tell(s, "\n");
}

/* A call of the host; without memory it changes nothing, so it is made again. */
static void call(struct migbuf_qmp *q, struct story *s, uint8_t which)
{
    static const char *const arguments[] = { NULL, "{}", "{\"a\": [1, {\"b\": \"\\u00e4\"}]}", "{\"a\": 1, \"a\": 2}" };
    struct migbuf_qmp_message m;
    const char *bytes;
    uint64_t id = 0, count;
    int rc, tries = 0;

    switch (which & 7) {
    case 0:
    case 1:
        do
            rc = migbuf_qmp_command(q, which & 8 ? "stop" : "query-status", arguments[which >> 4 & 3], &id);
        while (rc == MIGBUF_E_NOMEM && tries++ < FAILURES);
        tell(s, "command %d id %llu\n", rc, (unsigned long long)id);
        break;
    case 2:
        tell_message(s, "next", migbuf_qmp_next(q, &m), &m);
        break;
    case 3:
        tell_message(s, "event", migbuf_qmp_event(q, &m), &m);
        break;
    case 4:
        tell_message(s, "reply", migbuf_qmp_reply(q, which >> 3, &m), &m);
        break;
    case 5:
        tell(s, "forget %d\n", migbuf_qmp_forget(q, which >> 3));
        break;
    case 6: /* some of it leaves */
        rc = migbuf_qmp_output(q, &bytes, &count);
        tell(s, "output %d", rc);
        if (!rc) {
            tell(s, " %llu %08x", (unsigned long long)count, sum(bytes, count));
            tell(s, " sent %d", migbuf_qmp_sent(q, count < which >> 3u ? count : which >> 3));
            fuzz_check(migbuf_qmp_sent(q, UINT64_MAX) == MIGBUF_E_RANGE, "more was sent than there was");
        }
        tell(s, "\n");
        break;
    default:
        tell(s, "ready %d pending %llu\n", migbuf_qmp_is_ready(q), (unsigned long long)migbuf_qmp_pending(q));
    }
}

static int feed(struct migbuf_qmp *q, const uint8_t *bytes, size_t count)
{
    char *exact = exact_copy(bytes, count); /* it keeps no pointer */
    int rc, tries = 0;

    do
        rc = migbuf_qmp_feed(q, exact, count);
    while (rc == MIGBUF_E_NOMEM && tries++ < FAILURES);
    free(exact);
    return rc;
}

/* portion 0: all that is there. */
static void live(struct story *s, const uint8_t *data, size_t size, size_t portion, struct failing *memory)
{
    struct migbuf_allocator allocator = { memory, failing_resize };
    struct migbuf_qmp_options o;
    struct migbuf_qmp_message m;
    struct migbuf_qmp *q = NULL;
    size_t begin = 0, end;
    int rc, tries = 0, broken = 0;

    s->length = 0;
    migbuf_qmp_options_init(&o, sizeof o);
    o.max_message_bytes = 1024;
    if (size > 4 && data[0] & 1)
        o.max_events = 1 + (data[0] >> 1 & 3);
    if (size > 4 && data[0] & 8)
        o.max_event_bytes = 1024;
    do
        rc = migbuf_qmp_new(&o, &allocator, &q);
    while (rc == MIGBUF_E_NOMEM && tries++ < FAILURES);
    fuzz_check(rc == 0, "new: %d", rc);
    for (uint8_t k = 0; size > 4 && k < (data[3] & 7); k++)
        call(q, s, 0);
    for (begin = size < 4 ? size : 4; begin < size; begin = end) {
        if (data[begin] == 1 && begin + 1 < size) {
            call(q, s, data[begin + 1]);
            end = begin + 2;
            continue;
        }
        for (end = begin + 1; end < size && data[end] != 1; end++)
            ;
        for (size_t at = begin, n; at < end; at += n) {
            n = portion && portion < end - at ? portion : end - at;
            rc = feed(q, data + at, n);
            fuzz_check(!broken || rc == broken, "broken by %d, and then %d", broken, rc);
            broken = rc < 0 ? rc : 0;
        }
        tell(s, "fed %d\n", broken);
    }
    for (uint64_t id = 1; id < 3; id++)
        tell_message(s, "reply", migbuf_qmp_reply(q, id, &m), &m);
    do {
        rc = migbuf_qmp_next(q, &m);
        tell_message(s, "next", rc, &m);
    } while (rc == 1);
    fuzz_check(rc == broken, "the last next says %d, feed said %d", rc, broken);
    for (uint8_t k = 6; k < 8; k++)
        call(q, s, (uint8_t)(0xf8 | k));
    migbuf_qmp_free(q);
    fuzz_check(memory->held == 0, "%lld bytes are not given back", (long long)memory->held);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct story whole, cut;
    struct migbuf_qmp_message m;
    struct failing memory = { 0 };
    char *line;

    live(&whole, data, size, 0, &memory);
    live(&cut, data, size, 1 + (size > 4 ? data[1] % 64u : 0), &memory);
    fuzz_check(!strcmp(whole.text, cut.text), "cut:\n%s\nwhole:\n%s", cut.text, whole.text);
    memory = (struct failing){ .every = 1 + (size > 4 ? data[2] % 16u : 0), .left = FAILURES };
    live(&cut, data, size, 1 + (size > 4 ? data[1] % 64u : 0), &memory);
    fuzz_check(!strcmp(whole.text, cut.text), "without memory:\n%s\nwhole:\n%s", cut.text, whole.text);
    if (size > 4) {
        line = exact_copy(data + 4, size - 4);
        fuzz_check(migbuf_qmp_parse(line, size - 4, &m) == 0, "parse");
        tell_message(&whole, "parse", 1, &m);
        free(line);
    }
    return 0;
}
