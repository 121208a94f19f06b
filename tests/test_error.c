/* SPDX-License-Identifier: MIT */
#include "unit.h"
#include "migbuf/migbuf.h"
#include <limits.h>
#include <stdio.h>
#include <string.h>

START_TEST(every_code_has_a_text_of_its_own)
{
    for (int code = MIGBUF_E_UNKNOWN; code < 0; code++) {
        ck_assert_str_ne(migbuf_strerror(code), "unknown error");
        for (int other = code + 1; other <= 0; other++)
            ck_assert_str_ne(migbuf_strerror(code), migbuf_strerror(other));
    }
    ck_assert_str_eq(migbuf_strerror(0), "success");
    ck_assert_str_eq(migbuf_strerror(12), "success");
    ck_assert_str_eq(migbuf_strerror(MIGBUF_E_CLOCK), "time went backwards");
    ck_assert_str_eq(migbuf_strerror(MIGBUF_E_UNKNOWN - 1), "unknown error");
    ck_assert_str_eq(migbuf_strerror(INT_MIN), "unknown error");
}
END_TEST

START_TEST(every_action_and_reason_has_a_text)
{
    for (int32_t a = MIGBUF_ACTION_KEEP; a <= MIGBUF_ACTION_WAIT; a++)
        ck_assert_str_ne(migbuf_action_text(a), "unknown");
    for (int32_t r = MIGBUF_REASON_RATE; r <= MIGBUF_REASON_TURN; r++)
        ck_assert_str_ne(migbuf_reason_text(r), "unknown");
    ck_assert_str_eq(migbuf_action_text(MIGBUF_ACTION_WAIT + 1), "unknown");
    ck_assert_str_eq(migbuf_reason_text(MIGBUF_REASON_TURN + 1), "unknown");
    ck_assert_str_eq(migbuf_action_text(0), "unknown");
    ck_assert_str_eq(migbuf_action_text(INT32_MAX), "unknown");
    ck_assert_str_eq(migbuf_reason_text(-1), "unknown");
}
END_TEST

START_TEST(versions_agree)
{
    char text[32];

    snprintf(text, sizeof text, "%d.%d.%d", MIGBUF_VERSION_MAJOR, MIGBUF_VERSION_MINOR, MIGBUF_VERSION_PATCH);
    ck_assert_str_eq(migbuf_version_text(), text);
    ck_assert_str_eq(migbuf_version_text(), MESON_VERSION);
    ck_assert_int_eq(migbuf_version(), MIGBUF_VERSION);
}
END_TEST

START_TEST(a_peers_text_becomes_printable)
{
    static const struct {
        const char *text, *printable;
    } given[] = {
        { "", "" },
        { "Storage pool \"a\\b\" nicht gefunden: \xc3\xb6, \xe2\x82\xac, \xf0\x9f\x90\xa7", NULL }, /* stays */
        { "\033[2J\n", "\\x1b[2J\\x0a" },
        { "\r\t\b\x7f", "\\x0d\\x09\\x08\\x7f" },
        { "a\xc2\x9b" "2Jb", "a\\xc2\\x9b2Jb" },         /* the escape sequence's beginning in one character */
        { "a\xe2\x80\xae" "b", "a\\xe2\\x80\\xae" "b" },   /* the rest would be read from the right */
        { "\xe2\x80\xa8", "\\xe2\\x80\\xa8" },           /* another way to end a line */
        { "\xe2\x80\x8b\xef\xbb\xbf", "\\xe2\\x80\\x8b\\xef\\xbb\\xbf" }, /* nothing to see */
        { "\xff\xc3", "\\xff\\xc3" },                      /* no UTF-8: alone, and cut */
        { "\xc0\x8a", "\\xc0\\x8a" },                      /* a newline in two bytes where one is enough */
        { "\xed\xa0\x80", "\\xed\\xa0\\x80" },            /* half a pair */
        { "\xf4\x90\x80\x80", "\\xf4\\x90\\x80\\x80" },  /* beyond the last one */
    };
    char out[128];

    for (size_t k = 0; k < sizeof given / sizeof *given; k++) {
        const char *expected = given[k].printable ? given[k].printable : given[k].text;

        ck_assert_uint_eq(migbuf_printable(given[k].text, NULL, 0), strlen(expected));
        ck_assert_uint_eq(migbuf_printable(given[k].text, out, sizeof out), strlen(expected));
        ck_assert_str_eq(out, expected);
        ck_assert(migbuf_printable(out, NULL, 0) == strlen(out)); /* twice is once */
        for (size_t room = 1; room <= strlen(expected); room++) { /* whole characters, whole escapes */
            memset(out, 'z', sizeof out);
            ck_assert_uint_eq(migbuf_printable(given[k].text, out, room), strlen(expected));
            ck_assert(strlen(out) < room && !strncmp(out, expected, strlen(out)) && out[room] == 'z');
            ck_assert(migbuf_printable(out, NULL, 0) == strlen(out));
        }
    }
    ck_assert_uint_eq(migbuf_printable(NULL, out, sizeof out), 0);
    ck_assert_str_eq(out, "");
    ck_assert_uint_eq(migbuf_printable("\033ab", out, 4), 6); /* nothing goes on behind what did not fit */
    ck_assert_str_eq(out, "");
}
END_TEST

int main(void)
{
    const TTest *const tests[] = { every_code_has_a_text_of_its_own, every_action_and_reason_has_a_text, versions_agree,
                                   a_peers_text_becomes_printable, NULL };

    return unit_run("error", tests, 10);
}
