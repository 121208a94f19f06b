/* SPDX-License-Identifier: MIT */
/*
 * The QMP engine: bytes in, messages out. Nothing here opens a socket. tests/fuzz/qmp.c sends it anything.
 */
#include "migbuf/qmp.h"
#include "json.h"
#include "unit.h"
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define GREETING                                                                                                       \
    "{\"QMP\": {\"version\": {\"qemu\": {\"micro\": 22, \"minor\": 2, \"major\": 7}, \"package\": \"\"}, "             \
    "\"capabilities\": [\"oob\"]}}\r\n"
#define NEGOTIATED "{\"return\": {}, \"id\": 0}\r\n"
#define STOP_EVENT "{\"timestamp\": {\"seconds\": 5, \"microseconds\": 7}, \"event\": \"STOP\"}\r\n"

static uint64_t random_state;

static uint32_t random_below(uint32_t n)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return (uint32_t)(random_state >> 32) % n;
}

static uint64_t from_environment(const char *name, uint64_t otherwise)
{
    const char *text = getenv(name);

    return text ? strtoull(text, NULL, 10) : otherwise;
}

/* ---- what the tests below share ---- */

static struct migbuf_qmp *new_engine(void)
{
    struct migbuf_qmp *q;

    ck_assert_int_eq(migbuf_qmp_new(NULL, NULL, &q), 0);
    return q;
}

static int feed(struct migbuf_qmp *q, const char *text)
{
    return migbuf_qmp_feed(q, text, strlen(text));
}

static uint64_t command(struct migbuf_qmp *q, const char *name, const char *arguments)
{
    uint64_t id = 0;

    ck_assert_int_eq(migbuf_qmp_command(q, name, arguments, &id), 0);
    return id;
}

/* Checks what is to be sent, and says that it was. */
static void sends(struct migbuf_qmp *q, const char *expected)
{
    const char *bytes;
    uint64_t count;
    char text[4096];

    ck_assert_int_eq(migbuf_qmp_output(q, &bytes, &count), 0);
    ck_assert_uint_lt(count, sizeof text);
    memcpy(text, bytes, count);
    text[count] = '\0';
    ck_assert_str_eq(text, expected);
    ck_assert_int_eq(migbuf_qmp_sent(q, count), 0);
}

/* An engine behind its negotiation, with `commands` commands sent (ids 1, 2, …). */
static struct migbuf_qmp *new_ready(int commands)
{
    struct migbuf_qmp *q = new_engine();
    struct migbuf_qmp_message m;
    const char *bytes;
    uint64_t count;

    ck_assert_int_eq(feed(q, GREETING), 0);
    ck_assert_int_eq(feed(q, NEGOTIATED), 0);
    ck_assert_int_eq(migbuf_qmp_next(q, &m), 1);
    ck_assert_int_eq(m.kind, MIGBUF_QMP_GREETING);
    for (int i = 0; i < commands; i++)
        command(q, "query-status", NULL);
    migbuf_qmp_output(q, &bytes, &count);
    migbuf_qmp_sent(q, migbuf_qmp_is_ready(q) == 1 ? count : 0);
    return q;
}

/* Every message that is there, as one text: "kind:id:name:text;" */
static void drain(struct migbuf_qmp *q, char *text, size_t room)
{
    struct migbuf_qmp_message m;
    size_t at = 0;

    text[0] = '\0';
    while (migbuf_qmp_next(q, &m) == 1) {
        ck_assert(m.text[m.text_bytes] == '\0');
        at += (size_t)snprintf(text + at, room - at, "%d:%" PRIu64 ":%s:%s;", m.kind, m.id, m.name, m.text);
        ck_assert_uint_lt(at, room);
    }
}

static void expect_messages(struct migbuf_qmp *q, const char *expected)
{
    char text[8192];

    drain(q, text, sizeof text);
    ck_assert_str_eq(text, expected);
}

/* What one answer to command 1 comes out as. */
static void expect_answer(const char *answer, const char *expected)
{
    struct migbuf_qmp *q = new_ready(1);

    ck_assert_int_eq(feed(q, answer), 0);
    expect_messages(q, expected);
    migbuf_qmp_free(q);
}

/* ---- the examples of the header ---- */

START_TEST(negotiation_comes_first_and_commands_wait_for_it)
{
    struct migbuf_qmp *q = new_engine();

    ck_assert_uint_eq(command(q, "stop", NULL), 1);
    sends(q, "");
    ck_assert_int_eq(feed(q, GREETING), 0);
    ck_assert_int_eq(migbuf_qmp_is_ready(q), 0);
    sends(q, "{\"execute\":\"qmp_capabilities\",\"id\":0}\n");
    sends(q, "");
    ck_assert_uint_eq(command(q, "add-fd", "{\"opaque\": \"x\"}"), 2);
    sends(q, "");
    ck_assert_int_eq(feed(q, NEGOTIATED), 0);
    ck_assert_int_eq(migbuf_qmp_is_ready(q), 1);
    sends(q, "{\"execute\":\"stop\",\"id\":1}\n{\"execute\":\"add-fd\",\"arguments\":{\"opaque\": \"x\"},\"id\":2}\n");
    ck_assert_uint_eq(migbuf_qmp_pending(q), 2);
    migbuf_qmp_free(q);
}
END_TEST

START_TEST(messages_come_in_the_order_of_arrival)
{
    struct migbuf_qmp *q = new_engine();

    command(q, "stop", NULL);
    ck_assert_int_eq(feed(q, GREETING NEGOTIATED STOP_EVENT "{\"return\": {}, \"id\": 1}\r\n"), 0);
    expect_messages(q, "1:0::{\"version\": {\"qemu\": {\"micro\": 22, \"minor\": 2, \"major\": 7}, \"package\": \"\"}, "
                       "\"capabilities\": [\"oob\"]};4:0:STOP:{};2:1::{};");
    ck_assert_uint_eq(migbuf_qmp_pending(q), 0);
    migbuf_qmp_free(q);
}
END_TEST

START_TEST(one_line_of_a_hosts_own_monitor)
{
    char line[] = "{\"timestamp\":{\"seconds\":5,\"microseconds\":7},\"event\":\"STOP\"}";
    char error[] = "{\"id\": \"x\", \"error\": {\"class\": \"GenericError\", \"desc\": \"a\\nb \\u00e4\"}}\r\n";
    char broken[] = "{\"return\": {\"a\": }, \"id\": 77}";
    struct migbuf_qmp_message m, before;

    ck_assert_int_eq(migbuf_qmp_parse(line, sizeof line - 1, &m), 0);
    ck_assert_int_eq(m.kind, MIGBUF_QMP_EVENT);
    ck_assert_int_eq(m.id_kind, MIGBUF_QMP_ID_NONE);
    ck_assert_str_eq(m.name, "STOP");
    ck_assert_str_eq(m.text, "{}");
    ck_assert_uint_eq(m.text_bytes, 2);
    ck_assert_int_eq(m.seconds, 5);
    ck_assert_int_eq(m.microseconds, 7);

    ck_assert_int_eq(migbuf_qmp_parse(error, sizeof error - 1, &m), 0);
    ck_assert_int_eq(m.kind, MIGBUF_QMP_ERROR);
    ck_assert_int_eq(m.id_kind, MIGBUF_QMP_ID_OTHER);
    ck_assert_str_eq(m.name, "GenericError");
    ck_assert_str_eq(m.text, "a\nb \xc3\xa4");
    ck_assert_int_eq(m.seconds, -1);

    ck_assert_int_eq(migbuf_qmp_parse(broken, sizeof broken - 1, &m), 0);
    ck_assert_int_eq(m.kind, MIGBUF_QMP_INVALID);
    ck_assert_uint_eq(m.id, 77);
    ck_assert_str_eq(m.text, "not JSON");

    memset(&m, 0x5a, sizeof m);
    before = m;
    ck_assert_int_eq(migbuf_qmp_parse(NULL, 0, &m), MIGBUF_E_INVALID);
    ck_assert_mem_eq(&m, &before, sizeof m);
}
END_TEST

/* ---- what breaks clients ---- */

START_TEST(numbers_beyond_int64_are_saturated)
{
    expect_answer("{\"return\": [18446744073709551615, 9223372036854775808, 9223372036854775807], \"id\": 1}",
                  "2:1::[9223372036854775807 , 9223372036854775807, 9223372036854775807];");
    expect_answer("{\"return\": [-9223372036854775809, -9223372036854775808, 0.25e2], \"id\": 1}",
                  "2:1::[-9223372036854775808, -9223372036854775808, 0.25e2];");
    expect_answer("{\"return\": \"18446744073709551615\", \"id\": 1}", "2:1::\"18446744073709551615\";");
}
END_TEST

START_TEST(odd_strings_are_let_through_or_repaired)
{
    expect_answer("{\"return\": \"a\\u0000b\", \"id\": 1}", "2:1::\"a\\u0000b\";");
    expect_answer("{\"return\": \"\\ud834\\udd1e\", \"id\": 1}", "2:1::\"\\ud834\\udd1e\";");
    expect_answer("{\"return\": \"\\ud834\", \"id\": 1}", "2:1::\"\\uFFFD\";");
    expect_answer("{\"return\": \"\\udd1e\\ud834x\", \"id\": 1}", "2:1::\"\\uFFFD\\uFFFDx\";");
    expect_answer("{\"return\": \"\\ud834\\ud834\\udd1e\", \"id\": 1}", "2:1::\"\\uFFFD\\ud834\\udd1e\";");
    expect_answer("{\"return\": \"\\\\ud834 \\\" }\", \"id\": 1}", "2:1::\"\\\\ud834 \\\" }\";");
}
END_TEST

START_TEST(a_nul_in_a_description_is_counted)
{
    struct migbuf_qmp *q = new_ready(1);
    struct migbuf_qmp_message m;

    feed(q, "{\"error\": {\"class\": \"GenericError\", \"desc\": \"a\\u0000b\"}, \"id\": 1}");
    ck_assert_int_eq(migbuf_qmp_next(q, &m), 1);
    ck_assert_uint_eq(m.text_bytes, 3);
    ck_assert_mem_eq(m.text, "a\0b", 4);
    migbuf_qmp_free(q);
}
END_TEST

START_TEST(what_is_no_json_fails_its_command_and_no_other)
{
    const char *bad[] = {
        "{\"return\": {\"a\": 1e400}, \"id\": 1}",
        "{\"return\": \"\001\", \"id\": 1}",
        "{\"return\": \"\xc3(\", \"id\": 1}",
        "{\"return\": 01, \"id\": 1}",
        "{\"return\": [}, \"id\": 1}",
        "{\"return\": 1, \"error\": {}, \"id\": 1}",
        "{\"error\": {\"desc\": \"\"}, \"id\": 1}",
        "{\"id\": 1}",
    };
    const char *why[] = {
        "a number is too large",
        "not JSON",
        "not JSON",
        "not JSON",
        "not JSON",
        "more than one of QMP, return, error and event in one message",
        "an error without a class and a description",
        "neither a greeting nor a return, an error or an event",
    };

    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct migbuf_qmp *q = new_ready(2);
        char expected[256];

        snprintf(expected, sizeof expected, "5:1::%s;2:2::{};", why[i]);
        ck_assert_int_eq(feed(q, bad[i]), 0);
        ck_assert_int_eq(feed(q, "{\"return\": {}, \"id\": 2}"), 0);
        expect_messages(q, expected);
        ck_assert_uint_eq(migbuf_qmp_pending(q), 0);
        migbuf_qmp_free(q);
    }
}
END_TEST

START_TEST(nesting_is_bounded)
{
    struct migbuf_qmp *q = new_ready(2);
    char text[2048];

    for (int levels = MIGBUF__JSON_MAX_DEPTH - 1; levels <= MIGBUF__JSON_MAX_DEPTH; levels++) {
        size_t at = (size_t)snprintf(text, sizeof text, "{\"return\": ");

        memset(text + at, '[', (size_t)levels);
        memset(text + at + levels, ']', (size_t)levels);
        snprintf(text + at + 2 * levels, 32, ", \"id\": %d}", levels == MIGBUF__JSON_MAX_DEPTH ? 2 : 1);
        ck_assert_int_eq(feed(q, text), 0);
    }
    drain(q, text, sizeof text);
    ck_assert_mem_eq(text, "2:1::[[", 7);
    ck_assert_str_eq(strchr(text, ';'), ";5:2::nested too deeply;");
    migbuf_qmp_free(q);
}
END_TEST

START_TEST(an_error_without_id_fails_the_oldest)
{
    struct migbuf_qmp *q = new_ready(2);

    feed(q, "{\"error\": {\"class\": \"GenericError\", \"desc\": \"JSON parse error\"}}");
    feed(q, "{\"return\": {}, \"id\": 2}");
    feed(q, "{\"error\": {\"class\": \"GenericError\", \"desc\": \"late\"}}");
    expect_messages(q, "3:1:GenericError:JSON parse error;2:2::{};3:0:GenericError:late;");
    migbuf_qmp_free(q);
}
END_TEST

START_TEST(answers_nobody_waits_for)
{
    expect_answer("{\"return\": {}, \"id\": 9}{\"return\": {}, \"id\": \"1\"}{\"return\": {}}{\"return\": 1, \"id\": 1}"
                  "{\"return\": 2, \"id\": 1}",
                  "5:0::an answer that nobody waits for;5:0::an answer that nobody waits for;"
                  "5:0::an answer that nobody waits for;2:1::1;5:0::an answer that nobody waits for;");
}
END_TEST

START_TEST(duplicate_keys_the_last_counts)
{
    expect_answer("{\"return\": 1, \"id\": 5, \"return\": {\"a\": [1, \"}\"]}, \"id\": 1}",
                  "2:1::{\"a\": [1, \"}\"]};");
    expect_answer("{\"event\": \"A\", \"\\u0065vent\": \"B\"}", "4:0:A:{};"); /* written so, it is another key */
}
END_TEST

START_TEST(events_before_anything_else)
{
    struct migbuf_qmp *q = new_engine();

    ck_assert_int_eq(feed(q, STOP_EVENT GREETING STOP_EVENT NEGOTIATED), 0);
    ck_assert_int_eq(migbuf_qmp_is_ready(q), 1);
    migbuf_qmp_free(q);
}
END_TEST

START_TEST(an_event_with_the_id_of_a_command_answers_nothing)
{
    struct migbuf_qmp *q = new_ready(1);

    feed(q, "{\"event\": \"STOP\", \"id\": 1}");
    expect_messages(q, "4:0:STOP:{};");
    ck_assert_uint_eq(migbuf_qmp_pending(q), 1);
    migbuf_qmp_free(q);
}
END_TEST

static const char transcript[] = GREETING STOP_EVENT NEGOTIATED
    "{\n    \"return\": {\n        \"a\\\\\": \"}\\\"{\"\n    },\n    \"id\": 1\n}\n" STOP_EVENT
    "{\"error\": {\"class\": \"GenericError\", \"desc\": \"n\\u00e4\"}, \"id\": 2}\r\n{\"return\": [], \"id\": 3}";

START_TEST(cut_at_every_byte_and_glued)
{
    size_t bytes = sizeof transcript - 1;
    char whole[4096], cut[4096];

    for (size_t portion = 0; portion <= bytes; portion++) {
        struct migbuf_qmp *q = new_engine();

        for (int i = 0; i < 3; i++)
            command(q, "query-status", NULL);
        if (portion == 0) { /* byte by byte */
            for (size_t at = 0; at < bytes; at++)
                ck_assert_int_eq(migbuf_qmp_feed(q, transcript + at, 1), 0);
        } else {
            ck_assert_int_eq(migbuf_qmp_feed(q, transcript, portion), 0);
            ck_assert_int_eq(migbuf_qmp_feed(q, transcript + portion, bytes - portion), 0);
        }
        drain(q, portion ? cut : whole, sizeof whole);
        if (portion)
            ck_assert_str_eq(whole, cut);
        migbuf_qmp_free(q);
    }
    ck_assert_ptr_nonnull(strstr(whole, "4:0:STOP:{};2:1::{\n        \"a\\\\\": \"}\\\"{\"\n    };4:0:STOP:{};"));
    ck_assert_ptr_nonnull(strstr(whole, "3:2:GenericError:n\xc3\xa4;2:3::[];"));
}
END_TEST

/* ---- ends ---- */

static void expect_broken(const char *text, int code)
{
    struct migbuf_qmp *q = new_engine();
    struct migbuf_qmp_message m;
    const char *bytes;
    uint64_t count, id = 99;

    command(q, "stop", NULL);
    ck_assert_int_eq(feed(q, text), code);
    while (migbuf_qmp_next(q, &m) == 1)
        ck_assert_int_ne(m.kind, MIGBUF_QMP_RETURN);
    for (int i = 0; i < 2; i++) {
        ck_assert_int_eq(feed(q, GREETING), code);
        ck_assert_int_eq(migbuf_qmp_next(q, &m), code);
        ck_assert_int_eq(migbuf_qmp_event(q, &m), code);
        ck_assert_int_eq(migbuf_qmp_reply(q, 1, &m), code);
        ck_assert_int_eq(migbuf_qmp_is_ready(q), code);
        ck_assert_int_eq(migbuf_qmp_output(q, &bytes, &count), code);
        ck_assert_int_eq(migbuf_qmp_command(q, "stop", NULL, &id), code);
        ck_assert_uint_eq(id, 99);
    }
    migbuf_qmp_free(q);
}

START_TEST(a_stream_that_makes_no_sense_breaks_the_engine)
{
    expect_broken("SSH-2.0-OpenSSH\r\n", MIGBUF_E_PROTOCOL);
    expect_broken("\xff", MIGBUF_E_PROTOCOL);
    expect_broken(NEGOTIATED, MIGBUF_E_PROTOCOL);
    expect_broken(GREETING GREETING, MIGBUF_E_PROTOCOL);
    expect_broken(GREETING NEGOTIATED GREETING, MIGBUF_E_PROTOCOL);
    expect_broken(GREETING "{\"error\": {\"class\": \"CommandNotFound\", \"desc\": \"\"}, \"id\": 0}",
                  MIGBUF_E_PROTOCOL);
    expect_broken(GREETING "{\"error\": {\"class\": \"CommandNotFound\", \"desc\": \"\"}}", MIGBUF_E_PROTOCOL);
    expect_broken(GREETING NEGOTIATED "]", MIGBUF_E_PROTOCOL);
    expect_broken(GREETING NEGOTIATED STOP_EVENT "x", MIGBUF_E_PROTOCOL);
}
END_TEST

START_TEST(what_came_before_the_break_is_handed_out)
{
    struct migbuf_qmp *q = new_ready(1);

    ck_assert_int_eq(feed(q, "{\"return\": {}, \"id\": 1}" STOP_EVENT "x" STOP_EVENT), MIGBUF_E_PROTOCOL);
    expect_messages(q, "2:1::{};4:0:STOP:{};");
    migbuf_qmp_free(q);
}
END_TEST

START_TEST(a_message_may_have_max_message_bytes_and_not_one_more)
{
    struct migbuf_qmp_options o;
    char text[1100];

    migbuf_qmp_options_init(&o, sizeof o);
    o.max_message_bytes = 1024;
    for (size_t bytes = 1024; bytes <= 1025; bytes++) {
        for (size_t portion = 1; portion <= bytes; portion += bytes - 1) {
            struct migbuf_qmp *q;
            int rc = 0;

            ck_assert_int_eq(migbuf_qmp_new(&o, NULL, &q), 0);
            ck_assert_int_eq(feed(q, GREETING NEGOTIATED), 0);
            memset(text, ' ', sizeof text);
            memcpy(text, "{\"event\": \"E\"", 13);
            text[bytes - 1] = '}';
            for (size_t at = 0; at < bytes; at += portion)
                rc = migbuf_qmp_feed(q, text + at, portion);
            ck_assert_int_eq(rc, bytes == 1024 ? 0 : MIGBUF_E_TOO_BIG);
            migbuf_qmp_free(q);
        }
    }
}
END_TEST

START_TEST(old_events_make_room_and_are_counted)
{
    struct migbuf_qmp_options o;
    struct migbuf_qmp_message m;
    struct migbuf_qmp *q;
    uint64_t id;
    char text[64];

    migbuf_qmp_options_init(&o, sizeof o);
    o.max_events = 2;
    ck_assert_int_eq(migbuf_qmp_new(&o, NULL, &q), 0);
    id = command(q, "stop", NULL);
    feed(q, GREETING NEGOTIATED);
    for (int i = 0; i < 5; i++) {
        snprintf(text, sizeof text, "{\"event\": \"E%d\"}", i);
        ck_assert_int_eq(feed(q, text), 0);
        if (i == 2)
            feed(q, "{\"return\": {}, \"id\": 1}");
    }
    ck_assert_int_eq(migbuf_qmp_event(q, &m), 1);
    ck_assert_str_eq(m.name, "E3");
    ck_assert_uint_eq(m.lost_events, 3);
    ck_assert_int_eq(migbuf_qmp_reply(q, id, &m), 1);
    ck_assert_int_eq(migbuf_qmp_event(q, &m), 1);
    ck_assert_str_eq(m.name, "E4");
    ck_assert_uint_eq(m.lost_events, 0);
    ck_assert_int_eq(migbuf_qmp_event(q, &m), 0);
    feed(q, STOP_EVENT);
    expect_messages(q, "1:0::{\"version\": {\"qemu\": {\"micro\": 22, \"minor\": 2, \"major\": 7}, \"package\": \"\"}, "
                       "\"capabilities\": [\"oob\"]};4:0:STOP:{};");
    migbuf_qmp_free(q);
}
END_TEST

START_TEST(a_forgotten_answer_is_nobodys)
{
    struct migbuf_qmp *q = new_ready(3);
    struct migbuf_qmp_message m;

    ck_assert_int_eq(migbuf_qmp_forget(q, 1), 0);
    ck_assert_int_eq(migbuf_qmp_forget(q, 1), MIGBUF_E_NOTFOUND);
    ck_assert_int_eq(migbuf_qmp_reply(q, 1, &m), MIGBUF_E_NOTFOUND);
    ck_assert_int_eq(migbuf_qmp_reply(q, 2, &m), 0);
    feed(q, "{\"return\": 1, \"id\": 1}{\"return\": 2, \"id\": 2}{\"return\": 3, \"id\": 3}");
    ck_assert_int_eq(migbuf_qmp_forget(q, 2), 0);
    ck_assert_int_eq(migbuf_qmp_reply(q, 2, &m), MIGBUF_E_NOTFOUND);
    expect_messages(q, "2:3::3;");
    ck_assert_uint_eq(migbuf_qmp_pending(q), 0);
    migbuf_qmp_free(q);
}
END_TEST

START_TEST(a_wrong_command_changes_nothing)
{
    const char *names[] = { "", "a b", "a\"", "\xc3\xa4", "a\n" };
    const char *arguments[] = { "",
                                "[]",
                                "1",
                                "{",
                                "{}{}",
                                "{\"a\": 1, \"a\": 2}",
                                "{\"a\": \"\\u0000\"}",
                                "{\"a\": \"\\ud800\"}",
                                "{\"a\": 18446744073709551615}",
                                "{\"a\": 1e400}",
                                "{\"a\": \"\n\"}" };
    struct migbuf_qmp_options o;
    struct migbuf_qmp *q;
    uint64_t id = 99;
    char *deep = calloc(1, 4096), name[130];

    migbuf_qmp_options_init(&o, sizeof o);
    o.max_message_bytes = 1024;
    ck_assert_int_eq(migbuf_qmp_new(&o, NULL, &q), 0);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        ck_assert_int_eq(migbuf_qmp_command(q, names[i], NULL, &id), MIGBUF_E_INVALID);
    for (size_t i = 0; i < sizeof arguments / sizeof *arguments; i++)
        ck_assert_int_eq(migbuf_qmp_command(q, "stop", arguments[i], &id), MIGBUF_E_INVALID);
    memset(name, 'a', 129);
    name[129] = '\0';
    ck_assert_int_eq(migbuf_qmp_command(q, name, NULL, &id), MIGBUF_E_INVALID);
    memset(deep, '[', 300);
    memcpy(deep, "{\"a\":", 5);
    ck_assert_int_eq(migbuf_qmp_command(q, "stop", deep, &id), MIGBUF_E_TOO_BIG);
    memset(deep, ' ', 1030);
    memcpy(deep, "{}", 2);
    ck_assert_int_eq(migbuf_qmp_command(q, "stop", deep, &id), MIGBUF_E_TOO_BIG);
    ck_assert_int_eq(migbuf_qmp_command(NULL, "stop", NULL, &id), MIGBUF_E_INVALID);
    ck_assert_int_eq(migbuf_qmp_sent(q, 1), MIGBUF_E_RANGE);
    ck_assert_uint_eq(id, 99);
    ck_assert_uint_eq(migbuf_qmp_pending(q), 0);
    ck_assert_uint_eq(command(q, name + 1, NULL), 1);
    free(deep);
    migbuf_qmp_free(q);
}
END_TEST

START_TEST(options_are_checked)
{
    struct {
        struct migbuf_qmp_options o;
        uint64_t later;
    } grown;
    struct migbuf_qmp_options o;
    struct migbuf_qmp *q = NULL;

    ck_assert_int_eq(migbuf_qmp_options_init(&o, sizeof o), 0);
    ck_assert_uint_eq(o.max_message_bytes, 1048576);
    ck_assert_uint_eq(o.max_events, 256);
    ck_assert_uint_eq(o.max_event_bytes, 4194304);
    ck_assert_int_eq(migbuf_qmp_options_init(&o, 23), MIGBUF_E_STRUCT); /* the first version had 24 bytes */
    ck_assert_int_eq(migbuf_qmp_options_init(NULL, sizeof o), MIGBUF_E_INVALID);
    o.max_message_bytes = 1023;
    ck_assert_int_eq(migbuf_qmp_new(&o, NULL, &q), MIGBUF_E_RANGE);
    o.max_message_bytes = 1024;
    o.max_events = 0;
    ck_assert_int_eq(migbuf_qmp_new(&o, NULL, &q), MIGBUF_E_RANGE);
    o.max_events = 1;
    o.max_event_bytes = 1023;
    ck_assert_int_eq(migbuf_qmp_new(&o, NULL, &q), MIGBUF_E_RANGE);
    o.max_event_bytes = (UINT64_C(1) << 40) + 1;
    ck_assert_int_eq(migbuf_qmp_new(&o, NULL, &q), MIGBUF_E_RANGE);
    o.size = 8;
    ck_assert_int_eq(migbuf_qmp_new(&o, NULL, &q), MIGBUF_E_STRUCT);
    ck_assert_int_eq(migbuf_qmp_options_init(&grown.o, sizeof grown), 0);
    grown.later = 1;
    ck_assert_int_eq(migbuf_qmp_new(&grown.o, NULL, &q), MIGBUF_E_STRUCT);
    ck_assert_ptr_null(q);
    grown.later = 0;
    ck_assert_int_eq(migbuf_qmp_new(&grown.o, NULL, &q), 0);
    migbuf_qmp_free(q);
    migbuf_qmp_free(NULL);
}
END_TEST

/* ---- memory ---- */

struct failing {
    int64_t left; /* allocations that still work */
    int64_t held; /* bytes not given back */
};

static void *resize_or_fail(void *context, void *pointer, size_t old_bytes, size_t new_bytes)
{
    struct failing *f = context;
    void *moved;

    if (new_bytes == 0) {
        f->held -= (int64_t)old_bytes;
        free(pointer);
        return NULL;
    }
    if (f->left-- <= 0)
        return NULL;
    moved = realloc(pointer, new_bytes);
    f->held += (int64_t)new_bytes - (int64_t)old_bytes;
    return moved;
}

/* Each allocation fails once; what failed is done again, and the outcome is the same as if nothing had been. */
static void run_with_allocations(int allocations)
{
    struct failing f = { .left = allocations };
    struct migbuf_allocator a = { .context = &f, .resize = resize_or_fail };
    struct migbuf_qmp *q;
    uint64_t id = 0;
    char text[4096];
    int rc;

    rc = migbuf_qmp_new(NULL, &a, &q);
    if (rc < 0) {
        ck_assert_int_eq(rc, MIGBUF_E_NOMEM);
        ck_assert_int_eq(f.held, 0);
        f.left = 1000;
        ck_assert_int_eq(migbuf_qmp_new(NULL, &a, &q), 0);
    }
    for (int i = 0; i < 40; i++) {
        rc = migbuf_qmp_command(q, "query-status", "{\"a\": [1]}", &id);
        if (rc < 0) {
            ck_assert_int_eq(rc, MIGBUF_E_NOMEM);
            ck_assert_uint_eq(migbuf_qmp_pending(q), (uint64_t)i);
            f.left = 1000;
            ck_assert_int_eq(migbuf_qmp_command(q, "query-status", "{\"a\": [1]}", &id), 0);
        }
        ck_assert_uint_eq(id, (uint64_t)i + 1);
    }
    for (size_t at = 0; at < sizeof transcript - 1; at += 70) {
        size_t bytes = sizeof transcript - 1 - at < 70 ? sizeof transcript - 1 - at : 70;

        rc = migbuf_qmp_feed(q, transcript + at, bytes);
        if (rc < 0) {
            ck_assert_int_eq(rc, MIGBUF_E_NOMEM);
            f.left = 1000;
            ck_assert_int_eq(migbuf_qmp_feed(q, transcript + at, bytes), 0);
        }
    }
    drain(q, text, sizeof text);
    ck_assert_ptr_nonnull(strstr(text, "3:2:GenericError:n\xc3\xa4;2:3::[];"));
    ck_assert_uint_eq(migbuf_qmp_pending(q), 37);
    migbuf_qmp_free(q);
    ck_assert_int_eq(f.held, 0);
}

START_TEST(every_allocation_fails_once)
{
    for (int i = 0; i < 60; i++)
        run_with_allocations(i);
}
END_TEST

START_TEST(many_commands_and_answers_in_any_order)
{
    struct migbuf_qmp *q = new_ready(0);
    struct migbuf_qmp_message m;
    char text[64];

    for (uint64_t i = 1; i <= 2000; i++)
        ck_assert_uint_eq(command(q, "stop", NULL), i);
    for (uint64_t i = 2000; i >= 1; i--) {
        snprintf(text, sizeof text, "{\"return\": %" PRIu64 ", \"id\": %" PRIu64 "}", i, i);
        ck_assert_int_eq(feed(q, text), 0);
    }
    for (uint64_t i = 1; i <= 2000; i++) {
        ck_assert_int_eq(migbuf_qmp_reply(q, i, &m), 1);
        ck_assert_uint_eq(strtoull(m.text, NULL, 10), i);
    }
    ck_assert_uint_eq(migbuf_qmp_pending(q), 0);
    ck_assert_int_eq(migbuf_qmp_next(q, &m), 0);
    migbuf_qmp_free(q);
}
END_TEST

/* ---- bounds ---- */

struct counted {
    uint64_t held, peak;
};

static void *resize_and_count(void *context, void *pointer, size_t old_bytes, size_t new_bytes)
{
    struct counted *c = context;

    c->held += new_bytes - old_bytes;
    c->peak = c->held > c->peak ? c->held : c->peak;
    if (new_bytes)
        return realloc(pointer, new_bytes);
    free(pointer);
    return NULL;
}

static void feed_event(struct migbuf_qmp *q, int number, size_t bytes)
{
    char *text = malloc(bytes + 1);
    int used = snprintf(text, bytes, "{\"event\": \"E%d\", \"data\": {\"x\": \"", number);

    memset(text + used, 'x', bytes - (size_t)used);
    memcpy(text + bytes - 3, "\"}}", 4);
    ck_assert_int_eq(migbuf_qmp_feed(q, text, bytes), 0);
    free(text);
}

static struct migbuf_qmp *new_bounded(uint64_t max_events, uint64_t max_event_bytes, struct counted *c)
{
    struct migbuf_allocator a = { .context = c, .resize = resize_and_count };
    struct migbuf_qmp_options o;
    struct migbuf_qmp_message m;
    struct migbuf_qmp *q;

    ck_assert_int_eq(migbuf_qmp_options_init(&o, sizeof o), 0);
    o.max_events = max_events;
    o.max_event_bytes = max_event_bytes;
    ck_assert_int_eq(migbuf_qmp_new(&o, &a, &q), 0);
    ck_assert_int_eq(feed(q, GREETING NEGOTIATED), 0);
    ck_assert_int_eq(migbuf_qmp_next(q, &m), 1);
    ck_assert_int_eq(migbuf_qmp_next(q, &m), 0);
    return q;
}

/* 256 events of 1 MiB each would be 256 MiB. */
START_TEST(events_are_bounded_in_bytes_too)
{
    struct counted c = { 0 };
    struct migbuf_qmp *q = new_bounded(256, 64 << 10, &c);
    struct migbuf_qmp_message m;
    uint64_t before = c.held, lost = 0;
    int events = 0;

    c.peak = 0;
    for (int i = 0; i < 100; i++)
        feed_event(q, i, 10000);
    ck_assert_uint_le(c.held - before, 64 << 10);
    ck_assert_uint_le(c.peak - before, (64 << 10) + 3 * 10000); /* and the one that comes */
    for (; migbuf_qmp_event(q, &m) == 1; events++) {
        char name[16];

        snprintf(name, sizeof name, "E%d", 100 - 6 + events); /* six of 10000 and their bookkeeping fit 65536 */
        ck_assert_str_eq(m.name, name);
        lost += m.lost_events;
    }
    ck_assert_int_eq(events, 6);
    ck_assert_uint_eq(lost, 94);

    feed_event(q, 100, 1000);
    feed_event(q, 101, 200000); /* longer than all may be together: it is kept alone */
    ck_assert_int_eq(migbuf_qmp_event(q, &m), 1);
    ck_assert_str_eq(m.name, "E101");
    ck_assert_uint_eq(m.lost_events, 1);
    ck_assert_int_eq(migbuf_qmp_event(q, &m), 0);
    for (int i = 0; i < 100; i++) /* what nobody waits for counts as well */
        ck_assert_int_eq(feed(q, "{\"return\": {}, \"id\": 7}"), 0);
    feed_event(q, 102, 65530);
    ck_assert_int_eq(migbuf_qmp_next(q, &m), 1);
    ck_assert_str_eq(m.name, "E102");
    ck_assert_uint_eq(m.lost_events, 100);
    migbuf_qmp_free(q);
    ck_assert_uint_eq(c.held, 0);
}
END_TEST

/* An answer is never dropped for events, and events do not hold it up. */
START_TEST(an_answer_outlives_any_flood_of_events)
{
    struct counted c = { 0 };
    struct migbuf_qmp *q = new_bounded(3, 1024, &c);
    struct migbuf_qmp_message m;
    uint64_t id = command(q, "stop", NULL);

    for (int i = 0; i < 50; i++) {
        feed_event(q, i, 500);
        if (i == 20)
            ck_assert_int_eq(feed(q, "{\"return\": {\"a\": 1}, \"id\": 1}"), 0);
    }
    ck_assert_int_eq(migbuf_qmp_reply(q, id, &m), 1);
    ck_assert_str_eq(m.text, "{\"a\": 1}");
    migbuf_qmp_free(q);
}
END_TEST

static void take_all(struct migbuf_qmp *q, char *text, size_t room)
{
    struct migbuf_qmp_message m;
    size_t at = 0;

    text[0] = '\0';
    while (migbuf_qmp_next(q, &m) == 1)
        at += (size_t)snprintf(text + at, room - at, "%d:%" PRIu64 ":%s:%s:%" PRIu64 ";", m.kind, m.id, m.name, m.text,
                               m.lost_events);
    ck_assert_uint_lt(at, room);
}

/* However a stream is cut, and whatever the host says in between, the same messages come out, and the same are dropped.
 */
START_TEST(any_cut_is_the_whole)
{
    static const char stream[] = STOP_EVENT
        "{\"return\": 1, \"id\": 1}\r\n{\"event\": \"A\"}{\"error\": {\"class\": \"GenericError\", \"desc\": "
        "\"x\"}}\r\n{\"event\":\"B\",\"data\":{\"long\":\"0123456789012345678901234567890123456789\"}}{\"return\": [], "
        "\"id\": "
        "3}{\"return\": {}, \"id\": 77}  {\n\"event\": \"C\"\n}\n{\"error\": {\"class\": \"GenericError\", \"desc\": "
        "\"late\"}}"
        "{\"event\": \"D\", \"data\": {\"bad\": 1e400}}" STOP_EVENT "{\"return\": \"}]\\\"\", \"id\": 5}";
    const size_t bytes = sizeof stream - 1;
    uint64_t seed = from_environment("MIGBUF_TEST_SEED", 20261121);
    char whole[4096], cut[4096];

    random_state = seed ? seed : 1;
    for (int round = 0; round < 2000; round++) {
        uint64_t max_events = 1 + random_below(8), max_event_bytes = 1024 + random_below(600);
        struct counted c = { 0 };
        struct migbuf_qmp *q;
        uint64_t id;

        for (int pieces = 0; pieces < 2; pieces++) {
            q = new_bounded(max_events, max_event_bytes, &c);
            for (int i = 0; i < 6; i++)
                command(q, "query-status", NULL);
            ck_assert_int_eq(migbuf_qmp_forget(q, 3), 0);
            for (size_t at = 0, count; at < bytes; at += count) {
                count = pieces ? 1 + random_below(round % 2 ? 3 : 60) : bytes;
                count = count < bytes - at ? count : bytes - at;
                ck_assert_int_eq(migbuf_qmp_feed(q, stream + at, count), 0);
                if (pieces && random_below(4) == 0)
                    ck_assert_int_eq(migbuf_qmp_command(q, "stop", "{}", &id), 0);
                if (pieces && random_below(4) == 0) {
                    const char *out;
                    uint64_t left;

                    ck_assert_int_eq(migbuf_qmp_output(q, &out, &left), 0);
                    ck_assert_int_eq(migbuf_qmp_sent(q, left ? 1 + random_below((uint32_t)left) : 0), 0);
                }
            }
            take_all(q, pieces ? cut : whole, sizeof whole);
            migbuf_qmp_free(q);
            ck_assert_uint_eq(c.held, 0);
        }
        ck_assert_str_eq(whole, cut);
    }
}
END_TEST

/* ---- who waits, against a list that is kept by hand ---- */

enum { NEVER, WAITS, FORGOTTEN, ANSWERED, TAKEN };

#define MOST 1200

static int state_of[MOST];
static uint64_t arrived[8 * MOST]; /* ids in the order of arrival, 0 for what answered nobody */
static size_t first_arrived, all_arrived, last_id;

static uint64_t oldest_without_answer(void)
{
    for (uint64_t id = 1; id <= last_id; id++)
        if (state_of[id] == WAITS || state_of[id] == FORGOTTEN)
            return id;
    return 0;
}

static void take_by_hand(uint64_t id)
{
    size_t k = first_arrived;

    while (arrived[k] != id)
        k++;
    memmove(arrived + first_arrived + 1, arrived + first_arrived, (k - first_arrived) * sizeof *arrived);
    first_arrived++;
    state_of[id] = TAKEN;
}

static void answer_by_hand(uint64_t id)
{
    if (state_of[id] == WAITS || id == 0)
        arrived[all_arrived++] = id;
    state_of[id] = state_of[id] == WAITS ? ANSWERED : TAKEN;
}

START_TEST(answers_find_who_waits)
{
    uint64_t seed = from_environment("MIGBUF_TEST_SEED", 20261121);
    struct migbuf_qmp *q = new_ready(0);
    struct migbuf_qmp_message m;

    printf("# seed %" PRIu64 "\n", seed);
    random_state = seed ? seed : 1;
    for (int step = 0; step < 4 * MOST; step++) {
        uint64_t id = random_below(3) ? last_id - random_below(last_id < 20 ? (uint32_t)last_id + 1 : 20)
                                      : random_below((uint32_t)last_id + 2);
        uint64_t waiting = 0;
        char text[64];
        int rc;

        switch (random_below(7)) {
        case 0:
        case 1:
            if (last_id + 2 < MOST) {
                ck_assert_uint_eq(command(q, "stop", NULL), ++last_id);
                state_of[last_id] = WAITS;
            }
            break;
        case 2:
            snprintf(text, sizeof text, "{\"return\": %" PRIu64 ", \"id\": %" PRIu64 "}", id, id);
            ck_assert_int_eq(feed(q, text), 0);
            answer_by_hand(state_of[id] == WAITS || state_of[id] == FORGOTTEN ? id : 0);
            break;
        case 3:
            ck_assert_int_eq(feed(q, "{\"error\": {\"class\": \"c\", \"desc\": \"d\"}}"), 0);
            answer_by_hand(oldest_without_answer());
            break;
        case 4:
            rc = migbuf_qmp_forget(q, id);
            ck_assert_int_eq(rc, state_of[id] == WAITS || state_of[id] == ANSWERED ? 0 : MIGBUF_E_NOTFOUND);
            if (state_of[id] == ANSWERED)
                take_by_hand(id);
            else if (rc == 0)
                state_of[id] = FORGOTTEN;
            break;
        case 5:
            rc = migbuf_qmp_reply(q, id, &m);
            ck_assert_int_eq(rc, state_of[id] == ANSWERED ? 1 : state_of[id] == WAITS ? 0 : MIGBUF_E_NOTFOUND);
            if (rc == 1) {
                ck_assert_uint_eq(m.id, id);
                take_by_hand(id);
            }
            break;
        default:
            while ((rc = migbuf_qmp_next(q, &m)) == 1) { /* all: what nobody waits for must not become too much */
                ck_assert_uint_lt(first_arrived, all_arrived);
                ck_assert_uint_eq(m.id, arrived[first_arrived]);
                take_by_hand(m.id);
                if (step % 3)
                    break;
            }
            ck_assert(rc == 1 || (rc == 0 && first_arrived == all_arrived));
        }
        state_of[0] = NEVER;
        for (uint64_t k = 1; k <= last_id; k++)
            waiting += state_of[k] == WAITS || state_of[k] == FORGOTTEN;
        ck_assert_uint_eq(migbuf_qmp_pending(q), waiting);
    }
    ck_assert_uint_gt(last_id, MOST / 2);
    migbuf_qmp_free(q);
}
END_TEST

/* ---- time against size ---- */

static double cpu_s(void)
{
    struct timespec t;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* n commands, answered from the last to the first, with as many events behind them; taken from the first to the last. */
static double answered_in_reverse(uint64_t n)
{
    struct migbuf_qmp *q = new_ready(0);
    struct migbuf_qmp_message m;
    double start = cpu_s();
    uint64_t id;
    char text[64];

    for (uint64_t i = 1; i <= n; i++) /* no assertions: each is a system call */
        migbuf_qmp_command(q, "stop", NULL, &id);
    for (uint64_t i = n; i >= 1; i--) {
        snprintf(text, sizeof text, "{\"return\": {}, \"id\": %" PRIu64 "}", i);
        feed(q, text);
    }
    for (uint64_t i = 0; i < n; i++)
        feed(q, STOP_EVENT);
    for (uint64_t i = 1; i <= n; i++)
        if (migbuf_qmp_reply(q, i, &m) != 1)
            return INFINITY;
    start = cpu_s() - start;
    migbuf_qmp_free(q);
    return start;
}

/* Thirty-two times as much takes as many times as long, and some more for memory that is farther away. The square would be
 * 1024 times: a busy machine can make that of one comparison, and work that grows so makes it of each. */
START_TEST(time_grows_with_the_number_of_answers)
{
    double few = INFINITY, many = INFINITY;

    for (int i = 0; i < 3; i++)
        few = fmin(few, answered_in_reverse(2000));
    for (int i = 0; i < 10 && many >= 120 * few; i++)
        many = fmin(many, answered_in_reverse(64000));
    ck_assert_msg(many < 120 * few, "%.6f s for 2000, %.6f s for 64000", few, many);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        negotiation_comes_first_and_commands_wait_for_it,
        messages_come_in_the_order_of_arrival,
        one_line_of_a_hosts_own_monitor,
        numbers_beyond_int64_are_saturated,
        odd_strings_are_let_through_or_repaired,
        a_nul_in_a_description_is_counted,
        what_is_no_json_fails_its_command_and_no_other,
        nesting_is_bounded,
        an_error_without_id_fails_the_oldest,
        answers_nobody_waits_for,
        duplicate_keys_the_last_counts,
        events_before_anything_else,
        an_event_with_the_id_of_a_command_answers_nothing,
        cut_at_every_byte_and_glued,
        a_stream_that_makes_no_sense_breaks_the_engine,
        what_came_before_the_break_is_handed_out,
        a_message_may_have_max_message_bytes_and_not_one_more,
        old_events_make_room_and_are_counted,
        a_forgotten_answer_is_nobodys,
        a_wrong_command_changes_nothing,
        options_are_checked,
        events_are_bounded_in_bytes_too,
        an_answer_outlives_any_flood_of_events,
        any_cut_is_the_whole,
        answers_find_who_waits,
        time_grows_with_the_number_of_answers,
        every_allocation_fails_once,
        many_commands_and_answers_in_any_order,
        NULL,
    };

    return unit_run("qmp", tests, 120);
}
