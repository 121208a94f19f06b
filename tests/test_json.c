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
    static const char *const item[] = { "{},",
                                        "[],",
                                        "\"\",",
                                        "0,",
                                        "{\"\":{}},",
                                        "{\"\":0},",
                                        "[[]],",
                                        "\"\\u00e9\",",
                                        "1.5,",
                                        "{\"\":{\"\":{\"\":[]}}},",
                                        "[0,1,2,3,4,5,6,7,8],",
                                        "{\"a\":1,\"b\":2,\"c\":3,\"d\":4,\"e\":5,\"f\":6},",
                                        "true," };

    json_set_alloc_funcs(take, give);
    for (size_t bytes = MIB; bytes <= 2 * MIB; bytes *= 2)
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
        { "{\"a\": [1, 2]}", 4 },
        { "", 1 },
        { "{}", 2 },
        { "[1,2,3]", 4 },
        { "\"a,b,[{\\\",\"", 1 },
        { "[\"\\\\\",1]", 3 },
        { "{\"a\":{\"b\":{}}}", 4 },
        { "[\",", 2 },
    };

    for (size_t k = 0; k < sizeof given / sizeof *given; k++)
        ck_assert_msg(migbuf__json_values(given[k].text, strlen(given[k].text)) == given[k].values, "%s",
                      given[k].text);
}
END_TEST

/* ---- checked by hand, and by jansson ---- */

/* What jansson says of a text as the code of the library. */
static int by_jansson(const char *text, size_t bytes)
{
    json_error_t error;
    json_t *value = json_loadb(text, bytes, JSON_ALLOW_NUL, &error);

    json_decref(value);
    if (value)
        return 0;
    return json_error_code(&error) == json_error_numeric_overflow ? MIGBUF_E_RANGE : MIGBUF_E_PROTOCOL;
}

/* A text that is clean afterwards is one that jansson takes, and the other way round. (An assertion costs a system
 * call.) */
static void expect_the_same(const char *given, size_t bytes)
{
    char text[512], again[512];
    int rc, other;

    if (bytes >= sizeof text)
        ck_abort_msg("too long");
    memcpy(text, given, bytes);
    rc = migbuf__json_clean(text, bytes);
    other = by_jansson(text, bytes);
    /* With two faults in it, either may be met first: what jansson reads was repaired before ours only. */
    if ((rc >= 0) != (other >= 0) || (rc < 0 && rc != other && rc != MIGBUF_E_RANGE && other != MIGBUF_E_RANGE))
        ck_abort_msg("'%.*s' -> '%.*s': %d, jansson %d", (int)bytes, given, (int)bytes, text, rc, other);
    memcpy(again, text, bytes);
    if (rc >= 0 && (rc != (memcmp(text, given, bytes) != 0) || migbuf__json_clean(again, bytes) != 0))
        ck_abort_msg("'%.*s' -> '%.*s': repaired, or not", (int)bytes, given, (int)bytes, text);
}

/* All texts of up to five signs, in an array and as a member. */
START_TEST(every_short_text)
{
    static const char *const signs[] = { "{", "}", "[", "]", "\"", ":", ",",    "0", "1",
                                         "-", ".", "e", "+", "\\", "u", "true", " ", "\"\"" };
    const size_t count = sizeof signs / sizeof *signs, longest = unit_rounds(100) < 100 ? 4 : 5;
    uint64_t all = 0;

    for (size_t length = 0, texts = 1; length <= longest; length++, texts *= count)
        for (size_t n = 0; n < texts; n++) {
            char text[64], *end = text + 1;

            text[0] = '[';
            for (size_t k = 0, rest = n; k < length; k++, rest /= count)
                end = stpcpy(end, signs[rest % count]);
            *end++ = ']';
            expect_the_same(text + 1, (size_t)(end - text - 2));
            expect_the_same(text, (size_t)(end - text));
            all += 2;
        }
    printf("# %llu texts\n", (unsigned long long)all);
}
END_TEST

START_TEST(texts_that_are_nearly_right)
{
    static const char *const texts[] = {
        "{\"a\":1,\"b\":[true,false,null],\"c\":{\"d\":\"e\"}}",
        "[-0, 0.5, -1e5, 1E+5, 1.25e-30, 9223372036854775807]",
        "[18446744073709551615, -9223372036854775808, -9223372036854775809, 00]",
        "[\"\\u0000\\ud83d\\ude00\\ud83d\\ude00\"]",
        "[\"\\ud83d\", \"\\ude00\\ud83d\", \"\\ud83d\\u0041\", \"\\uD83\", \"\\n\\t\\\\\\/\\\"\\b\\f\\r\"]",
        "{\"\\u0000\":1}",
        "{\"a\\u0000\":1}",
        "[\"\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80\", \"\xed\x9f\xbf\", \"\xf4\x8f\xbf\xbf\"]",
        "[\"\xc0\x80\"]",
        "[\"\xe0\x80\x80\"]",
        "[\"\xed\xa0\x80\"]",
        "[\"\xf4\x90\x80\x80\"]",
        "[\"\xf8\x88\x80\x80\x80\"]",
        "[\"\xff\"]",
        "[\"\xc3\"]",
        "\xef\xbb\xbf{}",
        "[1e308, 1e309, -1e309]",
        "[1.7976931348623157e308]",
        "[1.7976931348623159e308]",
        "[0.00001e313]",
        "[0.00001e314]",
        "[1797693134862315700000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000"
        "00000000000000000"
        "00000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000"
        "00000000000000"
        "000000000000000000000000000000000000000000000000000000000000000000.0]",
        "[0e999999999999999999999, 1e-999999999999999999999, 0.0e400]",
        "[1e99999999999999999999]",
        "[true1]",
        "[truefalse]",
        "[nul]",
        "",
        " ",
        "1",
        "\"a\"",
        "{} {}",
        "{\"a\" : 1 , \"a\" : 2}",
        "[\"\t\"]",
        "[\"\x7f\"]",
        "{\"a\":1,}",
        "[1,]",
        "[,1]",
        "{1:2}",
        "{\"a\"1}",
    };
    static const char meaningful[] = "{}[]\",:\\u0d89e-+.E tfn\xff\xc3\xa4\xed\xa0\n";
    const char *from = getenv("MIGBUF_TEST_SEED");
    uint64_t seed = from ? strtoull(from, NULL, 10) : 20261121, state = seed | 1;
    int rounds = unit_rounds(400000);

    printf("# seed %llu\n", (unsigned long long)seed);
    for (size_t k = 0; k < sizeof texts / sizeof *texts; k++)
        expect_the_same(texts[k], strlen(texts[k]));
    for (int n = 0; n < rounds; n++) {
        const char *text = texts[(size_t)n % (sizeof texts / sizeof *texts)];
        size_t bytes = strlen(text);
        char changed[512];

        memcpy(changed, text, bytes);
        for (int change = 0; change < 3 && bytes > 1; change++) {
            size_t at;
            char sign;

            state ^= state << 13, state ^= state >> 7, state ^= state << 17;
            at = (size_t)(state >> 40) % bytes;
            sign = meaningful[(state >> 20) % (sizeof meaningful - 1)];
            if (state >> 63) {
                changed[at] = sign;
            } else if ((state >> 62) & 1 && bytes + 1 < sizeof changed) {
                memmove(changed + at + 1, changed + at, bytes++ - at);
                changed[at] = sign;
            } else {
                memmove(changed + at, changed + at + 1, --bytes - at);
            }
        }
        expect_the_same(changed, bytes);
    }
}
END_TEST

START_TEST(strings_are_decoded_as_jansson_does)
{
    static const char *const strings[] = {
        "\"\"",
        "\"a\"",
        "\"\\n\\t\\\\\\/\\\"\\b\\f\\r\"",
        "\"\\u0000\\u0041\\u00e4\\u20ac\\ud83d\\ude00\"",
        "\"\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80\"",
        "\"\\uDBFF\\uDFFF\\ud800\\udc00\"",
        "\"\\u007f\\u0080\\u07ff\\u0800\\uffff\"",
        "\"x\\u0000\"",
    };

    for (size_t k = 0; k < sizeof strings / sizeof *strings; k++) {
        json_t *value = json_loads(strings[k], JSON_ALLOW_NUL | JSON_DECODE_ANY, NULL);
        char text[128];
        size_t bytes;

        ck_assert_ptr_nonnull(value);
        strcpy(text, strings[k]);
        bytes = migbuf__json_unquote(text, strlen(text));
        ck_assert_uint_eq(bytes, json_string_length(value));
        ck_assert_mem_eq(text, json_string_value(value), bytes + 1);
        json_decref(value);
    }
}
END_TEST

START_TEST(depth_is_bounded)
{
    for (size_t levels = MIGBUF__JSON_MAX_DEPTH; levels <= MIGBUF__JSON_MAX_DEPTH + 1; levels++) {
        char text[2 * MIGBUF__JSON_MAX_DEPTH + 3];

        memset(text, '[', levels);
        memset(text + levels, ']', levels);
        ck_assert_int_eq(migbuf__json_clean(text, 2 * levels), levels > MIGBUF__JSON_MAX_DEPTH ? MIGBUF_E_TOO_BIG : 0);
    }
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
        every_short_text,
        texts_that_are_nearly_right,
        strings_are_decoded_as_jansson_does,
        depth_is_bounded,
        members_are_found_where_the_parser_finds_them,
        NULL,
    };

    return unit_run("json", tests, 120);
}
