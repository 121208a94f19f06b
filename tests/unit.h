/* SPDX-License-Identifier: MIT */
/* unit: what every check suite here shares. Prints TAP, so that the count of tests is the count of what ran. */
#ifndef MIGBUF_TESTS_UNIT_H
#define MIGBUF_TESTS_UNIT_H
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

/* How long a test waits for what has to come. The machine may be as slow as it likes: this only ends a hang. */
#define PATIENCE_S 120
#define PATIENCE_MS (PATIENCE_S * 1000)
/* The same for a whole test, which may wait for several things. */
#define WATCHDOG_S 600

/* Equal to a relative 1e-6, as the golden values are given; infinities only to themselves. */
#define ck_near(value, expected)                                                                                        \
    do {                                                                                                                \
        double v_ = (value), e_ = (expected);                                                                           \
        ck_assert_msg(v_ == e_ || fabs(v_ - e_) <= 1e-6 * fabs(e_) + 1e-12, "%s is %.9g, not %.9g", #value, v_, e_);    \
    } while (0)

/* Rounds of a random test: all of them, or the part that MIGBUF_TEST_PERCENT says where each takes thirty times as long. */
static inline int unit_rounds(int all)
{
    const char *percent = getenv("MIGBUF_TEST_PERCENT");

    return percent && atoi(percent) > 0 ? all / 100 * atoi(percent) : all;
}

/* Runs what a suite holds, and frees it. */
static inline int unit_run_suite(Suite *suite, const char *name)
{
    SRunner *runner = srunner_create(suite);
    int failed;

    srunner_set_tap(runner, "-");
    srunner_run_all(runner, CK_SILENT);
    failed = srunner_ntests_failed(runner);
    if (srunner_ntests_run(runner) == 0) { /* CK_RUN_CASE names none of them */
        fprintf(stderr, "%s: no test was run\n", name);
        failed = 1;
    }
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

/* `seconds`: what a test may take, where that is more than WATCHDOG_S. */
static inline int unit_run(const char *name, const TTest *const *tests, int seconds)
{
    Suite *suite = suite_create(name);

    for (; *tests; tests++) {
        TCase *tcase = tcase_create((*tests)->name);

        tcase_set_timeout(tcase, seconds > WATCHDOG_S ? seconds : WATCHDOG_S);
        tcase_add_test(tcase, *tests);
        suite_add_tcase(suite, tcase);
    }
    return unit_run_suite(suite, name);
}

/* One test, once for each row of a table: the test has its number in _i. */
static inline int unit_run_rows(const char *name, const TTest *test, size_t rows, int seconds)
{
    Suite *suite = suite_create(name);
    TCase *tcase = tcase_create(test->name);

    tcase_set_timeout(tcase, seconds);
    tcase_add_loop_test(tcase, test, 0, (int)rows);
    suite_add_tcase(suite, tcase);
    return unit_run_suite(suite, name);
}
#endif
