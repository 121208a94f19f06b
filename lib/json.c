/* SPDX-License-Identifier: MIT */
#include "json.h"
#include "memory.h"
#include <jansson.h>
#include <string.h>

/* What jansson takes at most, on 64 bits with 32 bytes of overhead a block: the dearest value is an object with a table
 * of its own that is a member of another one. A byte may be in a token and in its copy. */
#define TEXT_BYTES 4096
#define BYTE_BYTES 4
#define VALUE_BYTES 576

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
