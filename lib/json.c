/* SPDX-License-Identifier: MIT */
#include "json.h"
#include "memory.h"
#include <jansson.h>
#include <string.h>

/*
 * jansson 2.14 has an assertion that fails when memory runs out within a token (lex_unget_unsave), and calls other such
 * failures syntax errors. So its allocator is asked first for all that the text can need at most.
 */
static bool has_memory(const char *text, size_t bytes)
{
    json_malloc_t take;
    json_free_t give;
    void *block;

    json_get_alloc_funcs(&take, &give);
    block = take(migbuf__json_tree_bytes(text, bytes));
    if (block)
        give(block);
    return block != NULL;
}

static int finish(json_t *value, const json_error_t *error, struct migbuf__json **document)
{
    if (value) {
        *document = (struct migbuf__json *)value;
        return 0;
    }
    switch (json_error_code(error)) {
    case json_error_unknown:
    case json_error_out_of_memory:
        return MIGBUF_E_NOMEM;
    case json_error_numeric_overflow:
        return MIGBUF_E_RANGE;
    default:
        return MIGBUF_E_PROTOCOL;
    }
}

static int decode(const char *text, size_t bytes, size_t flags, struct migbuf__json **document)
{
    json_error_t error = { .text = "" };

    if (migbuf__json_values(text, bytes) > MIGBUF__JSON_MAX_VALUES(bytes))
        return MIGBUF_E_TOO_BIG;
    if (!has_memory(text, bytes))
        return MIGBUF_E_NOMEM;
    return finish(json_loadb(text, bytes, flags, &error), &error, document);
}

int migbuf__json_decode(const char *text, size_t bytes, struct migbuf__json **document)
{
    return decode(text, bytes, JSON_ALLOW_NUL, document);
}

/* jansson takes the text in pieces of its own size (1 KiB): where we stand, and whether it became too late. */
struct piecewise {
    const char *text;
    size_t bytes, at;
    const struct migbuf__json_bounds *bounds;
    bool late;
};

static size_t next_piece(void *buffer, size_t room, void *context)
{
    struct piecewise *p = context;
    size_t n = p->bytes - p->at < room ? p->bytes - p->at : room;

    p->late = p->late || p->bounds->late(p->bounds->context);
    if (p->late)
        return (size_t)-1;
    memcpy(buffer, p->text + p->at, n);
    p->at += n;
    return n;
}

int migbuf__json_decode_within(const char *text, size_t bytes, const struct migbuf__json_bounds *bounds,
                               struct migbuf__json **document)
{
    struct piecewise p = { .text = text, .bytes = bytes, .bounds = bounds };
    json_error_t error = { .text = "" };
    json_t *value;

    if (migbuf__json_values(text, bytes) > bounds->max_values)
        return MIGBUF_E_TOO_BIG;
    if (!has_memory(text, bytes))
        return MIGBUF_E_NOMEM;
    value = json_load_callback(next_piece, &p, JSON_ALLOW_NUL, &error);
    return !value && p.late ? MIGBUF_E_TIMEOUT : finish(value, &error, document);
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
