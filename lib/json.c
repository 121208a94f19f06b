/* SPDX-License-Identifier: MIT */
#include "json.h"
#include "memory.h"
#include <jansson.h>
#include <string.h>

#define INT64_DIGITS 19

/* What jansson takes at most, on 64 bits with 32 bytes of overhead a block: the dearest value is an object with a table of
 * its own that is a member of another one. A byte may be in a token and in its copy. */
#define TEXT_BYTES 4096
#define BYTE_BYTES 4
#define VALUE_BYTES 576

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static size_t skip_digits(const char *text, size_t bytes, size_t at)
{
    while (at < bytes && is_digit(text[at]))
        at++;
    return at;
}

/* The number of four hex digits, or -1. */
static int hex4(const char *p)
{
    int value = 0;

    for (int i = 0; i < 4; i++) {
        int digit = is_digit(p[i])               ? p[i] - '0'
                    : p[i] >= 'a' && p[i] <= 'f' ? p[i] - 'a' + 10
                    : p[i] >= 'A' && p[i] <= 'F' ? p[i] - 'A' + 10
                                                 : -1;
        if (digit < 0)
            return -1;
        value = value * 16 + digit;
    }
    return value;
}

/* The UTF-16 unit that \uXXXX at `at` stands for, or -1 when there is none. */
static int escaped_unit(const char *text, size_t bytes, size_t at)
{
    if (bytes - at < 6 || text[at] != '\\' || text[at + 1] != 'u')
        return -1;
    return hex4(text + at + 2);
}

/* One backslash escape: returns where it ends, and repairs half a surrogate pair. */
static size_t clean_escape(char *text, size_t bytes, size_t at, int *repairs)
{
    int unit = escaped_unit(text, bytes, at);

    if (unit < 0)
        return bytes - at < 2 ? bytes : at + 2;
    if ((unit & 0xF800) != 0xD800)
        return at + 6;
    if ((unit & 0xFC00) == 0xD800) {
        int low = escaped_unit(text, bytes, at + 6);
        if (low >= 0 && (low & 0xFC00) == 0xDC00)
            return at + 12;
    }
    memcpy(text + at + 2, "FFFD", 4);
    ++*repairs;
    return at + 6;
}

/* One number: returns where it ends, and saturates an integer beyond int64. */
static size_t clean_number(char *text, size_t bytes, size_t at, int *repairs)
{
    bool negative = text[at] == '-';
    const char *limit = negative ? "9223372036854775808" : "9223372036854775807";
    size_t first = at + negative;
    size_t end = skip_digits(text, bytes, first);
    size_t digits = end - first;

    if (end < bytes && (text[end] == '.' || text[end] == 'e' || text[end] == 'E')) {
        while (end < bytes && (is_digit(text[end]) || strchr("+-.eE", text[end])) && text[end])
            end++;
        return end;
    }
    if (digits < INT64_DIGITS || text[first] == '0')
        return end;
    if (digits == INT64_DIGITS && memcmp(text + first, limit, INT64_DIGITS) <= 0)
        return end;
    memcpy(text + first, limit, INT64_DIGITS);
    memset(text + first + INT64_DIGITS, ' ', digits - INT64_DIGITS);
    ++*repairs;
    return end;
}

static size_t clean_string(char *text, size_t bytes, size_t at, int *repairs)
{
    at++;
    while (at < bytes && text[at] != '"') {
        if (text[at] == '\\')
            at = clean_escape(text, bytes, at, repairs);
        else
            at++;
    }
    return at < bytes ? at + 1 : bytes;
}

int migbuf__json_clean(char *text, size_t bytes)
{
    size_t depth = 0;
    int repairs = 0;

    for (size_t at = 0; at < bytes;) {
        char c = text[at];

        if (c == '"') {
            at = clean_string(text, bytes, at, &repairs);
            continue;
        }
        if (c == '-' || is_digit(c)) {
            at = clean_number(text, bytes, at, &repairs);
            continue;
        }
        if ((c == '{' || c == '[') && ++depth > MIGBUF__JSON_MAX_DEPTH)
            return MIGBUF_E_TOO_BIG;
        if ((c == '}' || c == ']') && depth > 0)
            depth--;
        at++;
    }
    return repairs;
}

static size_t skip_string(const char *text, size_t bytes, size_t at)
{
    for (at++; at < bytes && text[at] != '"'; at++)
        if (text[at] == '\\')
            at++;
    return at < bytes ? at + 1 : bytes;
}

size_t migbuf__json_values(const char *text, size_t bytes)
{
    size_t values = 1;

    for (size_t at = 0; at < bytes;) {
        char c = text[at];

        values += c == ',' || c == '{' || c == '[';
        at = c == '"' ? skip_string(text, bytes, at) : at + 1;
    }
    return values;
}

/*
 * jansson 2.14 has an assertion that fails when memory runs out within a token (lex_unget_unsave), and calls other such
 * failures syntax errors. So its allocator is asked first for all that the text can need at most.
 */
static bool has_memory(size_t bytes, size_t values)
{
    json_malloc_t take;
    json_free_t give;
    void *block;

    json_get_alloc_funcs(&take, &give);
    block = take(TEXT_BYTES + bytes * BYTE_BYTES + values * VALUE_BYTES);
    if (block)
        give(block);
    return block != NULL;
}

static int decode(const char *text, size_t bytes, size_t flags, struct migbuf__json **document)
{
    json_error_t error = { .text = "" };
    size_t values = migbuf__json_values(text, bytes);
    json_t *value;

    if (values > MIGBUF__JSON_MAX_VALUES(bytes))
        return MIGBUF_E_TOO_BIG;
    if (!has_memory(bytes, values))
        return MIGBUF_E_NOMEM;
    value = json_loadb(text, bytes, flags, &error);
    if (value) {
        *document = (struct migbuf__json *)value;
        return 0;
    }
    switch (json_error_code(&error)) {
    case json_error_unknown:
    case json_error_out_of_memory:
        return MIGBUF_E_NOMEM;
    case json_error_numeric_overflow:
        return MIGBUF_E_RANGE;
    default:
        return MIGBUF_E_PROTOCOL;
    }
}

int migbuf__json_decode(const char *text, size_t bytes, struct migbuf__json **document)
{
    return decode(text, bytes, JSON_ALLOW_NUL, document);
}

/* A cleaned copy in *copy, which the caller gives back; the number of repairs or an error. */
static int clean_copy(const struct migbuf_allocator *a, const char *text, size_t bytes, char **copy)
{
    int repairs;

    *copy = migbuf__resize(a, NULL, 0, bytes + 1, 1);
    if (!*copy)
        return MIGBUF_E_NOMEM;
    if (bytes)
        memcpy(*copy, text, bytes);
    repairs = migbuf__json_clean(*copy, bytes);
    if (repairs < 0)
        migbuf__free(a, *copy, bytes + 1);
    return repairs;
}

int migbuf__json_load(const struct migbuf_allocator *a, const char *text, size_t bytes, struct migbuf__json **document)
{
    char *copy;
    int rc = clean_copy(a, text, bytes, &copy);

    if (rc < 0)
        return rc;
    rc = migbuf__json_decode(copy, bytes, document);
    migbuf__free(a, copy, bytes + 1);
    return rc;
}

int migbuf__json_check_object(const struct migbuf_allocator *a, const char *text, size_t bytes)
{
    struct migbuf__json *document = NULL;
    char *copy;
    int rc = clean_copy(a, text, bytes, &copy);

    if (rc < 0)
        return rc;
    rc = rc > 0 ? MIGBUF_E_PROTOCOL : decode(copy, bytes, JSON_REJECT_DUPLICATES, &document);
    if (rc == 0 && !migbuf__json_is_object(document))
        rc = MIGBUF_E_PROTOCOL;
    migbuf__json_free(document);
    migbuf__free(a, copy, bytes + 1);
    return rc;
}

void migbuf__json_free(struct migbuf__json *document)
{
    json_decref((json_t *)document);
}

static size_t skip_blank(const char *text, size_t bytes, size_t at)
{
    while (at < bytes && (text[at] == ' ' || text[at] == '\t' || text[at] == '\r' || text[at] == '\n'))
        at++;
    return at;
}

/* The end of the value at `at`: of a string or a bracketed value its last character, of anything else a separator. */
static size_t skip_value(const char *text, size_t bytes, size_t at)
{
    size_t depth = 0;

    while (at < bytes) {
        char c = text[at];

        if (depth == 0 && (c == ',' || c == '}' || c == ']' || c == ' ' || c == '\t' || c == '\r' || c == '\n'))
            return at;
        if (c == '{' || c == '[')
            depth++;
        if (c == '}' || c == ']')
            depth--;
        at = c == '"' ? skip_string(text, bytes, at) : at + 1;
        if (depth == 0 && (c == '"' || c == '}' || c == ']'))
            return at;
    }
    return bytes;
}

bool migbuf__json_find(const char *text, size_t bytes, const char *key, struct migbuf__json_span *value)
{
    size_t key_bytes = strlen(key);
    size_t at = skip_blank(text, bytes, 0);
    bool found = false;

    while (at < bytes && (text[at] == '{' || text[at] == ',')) {
        size_t name = skip_blank(text, bytes, at + 1), start, end;

        if (name >= bytes || text[name] != '"')
            break;
        end = skip_string(text, bytes, name);
        at = skip_blank(text, bytes, end);
        if (at >= bytes || text[at] != ':')
            break;
        start = skip_blank(text, bytes, at + 1);
        at = skip_value(text, bytes, start);
        if (end - name == key_bytes + 2 && memcmp(text + name + 1, key, key_bytes) == 0) {
            *value = (struct migbuf__json_span){ .at = start, .bytes = at - start };
            found = true;
        }
        at = skip_blank(text, bytes, at);
    }
    return found;
}

static const json_t *unwrap(const struct migbuf__json *value)
{
    return (const json_t *)value;
}

const struct migbuf__json *migbuf__json_member(const struct migbuf__json *object, const char *key)
{
    return (const struct migbuf__json *)json_object_get(unwrap(object), key);
}

bool migbuf__json_each(const struct migbuf__json *object, void **cursor, const char **key,
                       const struct migbuf__json **value)
{
    json_t *o = (json_t *)unwrap(object);

    *cursor = *cursor ? json_object_iter_next(o, *cursor) : json_object_iter(o);
    if (!*cursor)
        return false;
    *key = json_object_iter_key(*cursor);
    *value = (const struct migbuf__json *)json_object_iter_value(*cursor);
    return true;
}

bool migbuf__json_is_object(const struct migbuf__json *value)
{
    return json_is_object(unwrap(value));
}

bool migbuf__json_is_null(const struct migbuf__json *value)
{
    return json_is_null(unwrap(value));
}

bool migbuf__json_is_array(const struct migbuf__json *value)
{
    return json_is_array(unwrap(value));
}

size_t migbuf__json_count(const struct migbuf__json *array)
{
    return json_array_size(unwrap(array));
}

const struct migbuf__json *migbuf__json_item(const struct migbuf__json *array, size_t index)
{
    return (const struct migbuf__json *)json_array_get(unwrap(array), index);
}

bool migbuf__json_integer(const struct migbuf__json *value, int64_t *number)
{
    if (!json_is_integer(unwrap(value)))
        return false;
    *number = json_integer_value(unwrap(value));
    return true;
}

bool migbuf__json_number(const struct migbuf__json *value, double *number)
{
    if (!json_is_number(unwrap(value)))
        return false;
    *number = json_number_value(unwrap(value));
    return true;
}

bool migbuf__json_boolean(const struct migbuf__json *value, bool *flag)
{
    if (!json_is_boolean(unwrap(value)))
        return false;
    *flag = json_is_true(unwrap(value));
    return true;
}

bool migbuf__json_string(const struct migbuf__json *value, const char **text, size_t *bytes)
{
    if (!json_is_string(unwrap(value)))
        return false;
    *text = json_string_value(unwrap(value));
    *bytes = json_string_length(unwrap(value));
    return true;
}
