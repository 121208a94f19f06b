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
    for (int32_t r = MIGBUF_REASON_RATE; r <= MIGBUF_REASON_UNSEEN; r++)
        ck_assert_str_ne(migbuf_reason_text(r), "unknown");
    ck_assert_str_eq(migbuf_action_text(MIGBUF_ACTION_WAIT + 1), "unknown");
    ck_assert_str_eq(migbuf_reason_text(MIGBUF_REASON_UNSEEN + 1), "unknown");
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

int main(void)
{
    const TTest *const tests[] = { every_code_has_a_text_of_its_own, every_action_and_reason_has_a_text, versions_agree,
                                   NULL };

    return unit_run("error", tests, 10);
}
