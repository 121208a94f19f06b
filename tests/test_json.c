/* SPDX-License-Identifier: MIT */
/* Reading what a peer wrote: what it may cost, and where things stand in it. */
#include "json.h"
#include "unit.h"
#include <jansson.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- what jansson takes ---- */

static size_t used, peak;

/* As the rest of malloc sees it: a block and what stands before it. */
static size_t cost(void *p)
{
    return p ? malloc_usable_size(p) + 2 * sizeof(size_t) : 0;
}

static void *take(size_t bytes)
{
    void *p = malloc(bytes);

    used += cost(p);
    peak = used > peak ? used : peak;
    return p;
}

static void give(void *p)
{
    used -= cost(p);
    free(p);
}

#define MIB ((size_t)1 << 20)

/* An array of exactly `values` values (as they are counted) that is `bytes` long: as many items as fit, numbers and
 * spaces after them. */
static char *dense(const char *item, size_t values, size_t bytes)
{
    char *text = malloc(bytes + 1);
    size_t length = strlen(item), each = migbuf__json_values(item, length) - 1, count = 2, used_bytes = 1;

    ck_assert_ptr_nonnull(text);
    memset(text, ' ', bytes);
    text[0] = '[';
    for (; count + each <= values; count += each, used_bytes += length)
        memcpy(text + used_bytes, item, length);
    for (; count < values; count++, used_bytes += 2)
        memcpy(text + used_bytes, "0,", 2);
    ck_assert_uint_lt(used_bytes + 1, bytes);
    text[used_bytes] = '0';
    text[bytes - 1] = ']';
    text[bytes] = '\0';
    ck_assert_uint_eq(migbuf__json_values(text, bytes), values);
    return text;
}

/* However a text is made of what costs jansson most, its tree is bounded by the text's length. */
START_TEST(a_tree_costs_no_more_than_said)
{
    static const char *const item[] = { "{},",         "[],",   "\"\",",           "0,",           "{\"\":{}},",
                                        "{\"\":0},", "[[]],", "\"\\u00e9\",", "1.5,",         "{\"\":{\"\":{\"\":[]}}},",
                                        "[0,1,2,3,4,5,6,7,8],", "{\"a\":1,\"b\":2,\"c\":3,\"d\":4,\"e\":5,\"f\":6},", "true," };

    json_set_alloc_funcs(take, give);
    for (size_t bytes = MIB; bytes <= 4 * MIB; bytes *= 4)
        for (size_t k = 0; k < sizeof item / sizeof *item; k++) {
            const size_t most = MIGBUF__JSON_MAX_VALUES(bytes);
            struct migbuf__json *document = NULL;
            char *text;

            peak = used = 0;
            text = dense(item[k], most, bytes);
            ck_assert_int_eq(migbuf__json_decode(text, bytes, &document), 0);
            ck_assert_uint_gt(peak, 0);
            ck_assert_msg(peak <= 10 * MIB + 40 * bytes, "%s: %zu of %zu bytes", item[k], peak, bytes);
            migbuf__json_free(document);
            ck_assert_uint_eq(used, 0);
            free(text);

            document = NULL;
            peak = 0;
            text = dense(item[k], most + 1, bytes);
            ck_assert_int_eq(migbuf__json_decode(text, bytes, &document), MIGBUF_E_TOO_BIG);
            ck_assert_ptr_null(document);
            ck_assert_uint_eq(peak, 0); /* refused before anything was taken */
            free(text);
        }
}
END_TEST

START_TEST(values_are_counted)
{
    static const struct {
        const char *text;
        size_t values;
    } given[] = {
        { "{\"a\": [1, 2]}", 4 },       { "", 1 },        { "{}", 2 },          { "[1,2,3]", 4 },
        { "\"a,b,[{\\\",\"", 1 },       { "[\"\\\\\",1]", 3 }, { "{\"a\":{\"b\":{}}}", 4 }, { "[\",", 2 },
    };

    for (size_t k = 0; k < sizeof given / sizeof *given; k++)
        ck_assert_msg(migbuf__json_values(given[k].text, strlen(given[k].text)) == given[k].values, "%s", given[k].text);
}
END_TEST

/* ---- where things stand ---- */

/* What the library's own splitting finds is what the JSON parser finds. */
START_TEST(members_are_found_where_the_parser_finds_them)
{
    static const char text[] = " { \"a\" : 1 , \"b\":[{\"c\":\"]\"},2],\"c\" : \"x\\\"y\", \"d\":{} ,\"a\":-2.5e1}";
    const char *keys[] = { "a", "b", "c", "d" }, *values[] = { "-2.5e1", "[{\"c\":\"]\"},2]", "\"x\\\"y\"", "{}" };
    struct migbuf__json_span span;

    for (size_t i = 0; i < 4; i++) {
        ck_assert(migbuf__json_find(text, sizeof text - 1, keys[i], &span));
        ck_assert_uint_eq(span.bytes, strlen(values[i]));
        ck_assert_mem_eq(text + span.at, values[i], span.bytes);
    }
    ck_assert(!migbuf__json_find(text, sizeof text - 1, "e", &span));
    for (size_t bytes = 0; bytes < sizeof text - 1; bytes++) /* cut short: an answer or none, but no harm */
        for (size_t i = 0; i < 4; i++)
            if (migbuf__json_find(text, bytes, keys[i], &span))
                ck_assert_uint_le(span.at + span.bytes, bytes);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        a_tree_costs_no_more_than_said,
        values_are_counted,
        members_are_found_where_the_parser_finds_them,
        NULL,
    };

    return unit_run("json", tests, 120);
}
