/* SPDX-License-Identifier: MIT */
/*
 * json: reading JSON that a peer wrote. Private. json_text.c looks at texts and needs no memory. json.c makes trees of
 * them: it is the only file that knows jansson, and none of its types leave it. jansson takes its memory from a
 * process-wide allocator (malloc, unless the host set another with json_set_alloc_funcs), not from a handle's struct
 * migbuf_allocator.
 *
 * What jansson would refuse although QEMU may send it is repaired first, in place and without changing the length:
 *   integers beyond int64    become INT64_MAX or INT64_MIN, filled up with spaces
 *   lone surrogates          become \uFFFD
 * and \u0000 is let through, but not in a key. What stays refused: bad syntax, raw control bytes, bad UTF-8, reals beyond
 * double (1e400), more than MIGBUF__JSON_MAX_DEPTH levels. Of duplicate keys the last one counts.
 */
#ifndef MIGBUF_LIB_JSON_H
#define MIGBUF_LIB_JSON_H
#include "migbuf/error.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Bounds the recursion of the parser; the deepest reply of QEMU 7.2 (a long backing chain apart) has about ten levels.
 */
#define MIGBUF__JSON_MAX_DEPTH 256

/* How many values a text of that length may hold at most. A peer may write one in two bytes and make us take 200 for it;
 * the densest answer of QEMU 7.2, query-qmp-schema, has 13 bytes for each. So a tree needs at most 10 MB and 40 times its
 * text's length. Who has less time than that takes (about 1 us a value) asks migbuf__json_values() first. */
#define MIGBUF__JSON_MAX_VALUES(bytes) (16384 + (bytes) / 16)

struct migbuf__json; /* a value; owned by its document, except the document itself */

/* Part of a text: where it starts and how long it is. */
struct migbuf__json_span {
    size_t at;
    size_t bytes;
};

/* Checks that a text is an object or array, and repairs it as said above: 1 when something was repaired, else 0.
 * MIGBUF_E_PROTOCOL, MIGBUF_E_RANGE (a real beyond double), MIGBUF_E_TOO_BIG (nested too deeply); what stood before that
 * place may have been repaired then. */
int migbuf__json_clean(char *text, size_t bytes);

/* Decodes a string of a clean text in place, its quotes at both ends, and ends it with a NUL: how long it is then. */
size_t migbuf__json_unquote(char *text, size_t bytes);

/* How many values, of objects and arrays at any depth, the text holds at most: counted without parsing, and the text need
 * not be valid. Example: {"a": [1, 2]} -> 4. */
size_t migbuf__json_values(const char *text, size_t bytes);

/* The most that jansson takes to make a tree of it, in bytes: likewise without parsing. */
size_t migbuf__json_tree_bytes(const char *text, size_t bytes);

/* The tree of a clean text. 0, MIGBUF_E_NOMEM, or MIGBUF_E_TOO_BIG for more than MIGBUF__JSON_MAX_VALUES values: nothing
 * was parsed then. MIGBUF_E_PROTOCOL or MIGBUF_E_RANGE where the text was not clean. */
int migbuf__json_decode(const char *text, size_t bytes, struct migbuf__json **document);

/* How much a text may cost: a `{}` of three bytes takes more than 200 of memory and 500 ns. */
struct migbuf__json_bounds {
    size_t max_values;           /* migbuf__json_values() before anything is parsed */
    bool (*late)(void *context); /* asked once per KiB while parsing; true ends it */
    void *context;
};

/* The same within bounds: also MIGBUF_E_TOO_BIG and MIGBUF_E_TIMEOUT, and then *document is untouched. */
int migbuf__json_decode_within(const char *text, size_t bytes, const struct migbuf__json_bounds *bounds,
                               struct migbuf__json **document);

/* Copy, clean and decode: for a text that must not be written to. The copy is gone when this returns. The codes of _clean
 * and _decode. */
int migbuf__json_load(const struct migbuf_allocator *a, const char *text, size_t bytes, struct migbuf__json **document);

/* 0 when text is one JSON object that QEMU's stricter reader takes as well: nothing to repair, no \u0000, no duplicate
 * key. Else the codes of _clean and _decode. */
int migbuf__json_check_object(const struct migbuf_allocator *a, const char *text, size_t bytes);

/* free(NULL) is fine. */
void migbuf__json_free(struct migbuf__json *document);

/* Where the members of the outermost object stand in a text, one by one: the key without its quotes, as it is written (one
 * with an escape in it is no other's). *at is 0 at first, false comes after the last. The text need not be valid, but then
 * the answer is a guess. */
bool migbuf__json_next(const char *text, size_t bytes, size_t *at, struct migbuf__json_span *key,
                       struct migbuf__json_span *value);
bool migbuf__json_is(const char *text, struct migbuf__json_span span, const char *wanted);

/* The value of one of them; of duplicates the last. */
bool migbuf__json_find(const char *text, size_t bytes, const char *name, struct migbuf__json_span *value);

/* All of these take NULL and values of another type, and then say NULL, 0 or false and leave the output alone. */
const struct migbuf__json *migbuf__json_member(const struct migbuf__json *object, const char *key);
bool migbuf__json_is_object(const struct migbuf__json *value);
bool migbuf__json_is_null(const struct migbuf__json *value);
bool migbuf__json_is_array(const struct migbuf__json *value);
size_t migbuf__json_count(const struct migbuf__json *array);
const struct migbuf__json *migbuf__json_item(const struct migbuf__json *array, size_t index);
bool migbuf__json_integer(const struct migbuf__json *value, int64_t *number);
bool migbuf__json_number(const struct migbuf__json *value, double *number);
bool migbuf__json_boolean(const struct migbuf__json *value, bool *flag);
/* The members of an object one by one, in no order: *cursor is NULL at first, false comes after the last. A key that holds a
 * NUL is cut there. */
bool migbuf__json_each(const struct migbuf__json *object, void **cursor, const char **key,
                       const struct migbuf__json **value);
/* NUL-terminated UTF-8; bytes tells a NUL inside apart. Lives as long as the document. */
bool migbuf__json_string(const struct migbuf__json *value, const char **text, size_t *bytes);
#endif
