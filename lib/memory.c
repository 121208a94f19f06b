/* SPDX-License-Identifier: MIT */
/* memory: every allocation of a handle, structs that may grow, and how a failure is told. The only file that calls malloc
 * and free, and only where a caller brought no allocator. */
#include "memory.h"
#include <stdlib.h>
#include <string.h>

static void *resize_by_malloc(void *context, void *pointer, size_t old_bytes, size_t new_bytes)
{
    (void)context;
    (void)old_bytes;
    if (new_bytes == 0) {
        free(pointer);
        return NULL;
    }
    return realloc(pointer, new_bytes);
}

struct migbuf_allocator migbuf__allocator(const struct migbuf_allocator *given)
{
    if (given)
        return *given;
    return (struct migbuf_allocator){ .resize = resize_by_malloc };
}

void *migbuf__resize(const struct migbuf_allocator *a, void *pointer, size_t old_count, size_t new_count, size_t item)
{
    if (new_count > SIZE_MAX / item)
        return NULL;
    return a->resize(a->context, pointer, old_count * item, new_count * item);
}

void migbuf__free(const struct migbuf_allocator *a, void *pointer, size_t bytes)
{
    if (pointer)
        a->resize(a->context, pointer, bytes, 0);
}

int migbuf__fail(struct migbuf_error *e, int code, const char *text)
{
    return migbuf__fail_numbers(e, code, text, 0, 0);
}

int migbuf__fail_numbers(struct migbuf_error *e, int code, const char *text, uint64_t need, uint64_t have)
{
    return migbuf__fail_caution(e, code, text, need, have, 0);
}

int migbuf__fail_caution(struct migbuf_error *e, int code, const char *text, uint64_t need, uint64_t have,
                         uint64_t caution)
{
    if (e)
        *e = (struct migbuf_error){ .code = code, .text = text, .need = need, .have = have, .caution = caution };
    return code;
}

int migbuf__fail_errno(struct migbuf_error *e, int code, const char *text, int os_errno)
{
    if (e)
        *e = (struct migbuf_error){ .code = code, .text = text, .os_errno = os_errno };
    return code;
}

#define MAX_STRUCT_BYTES 65536

static int write_struct(void *out, uint64_t size, const void *from, size_t known, size_t least)
{
    if (size < least || size > MAX_STRUCT_BYTES)
        return MIGBUF_E_STRUCT;
    memset(out, 0, (size_t)size);
    memcpy(out, from, size < known ? (size_t)size : known);
    memcpy(out, &size, sizeof size);
    return 0;
}

int migbuf__struct_init(void *out, uint64_t size, const void *defaults, size_t known, size_t least)
{
    return out ? write_struct(out, size, defaults, known, least) : MIGBUF_E_INVALID;
}

int migbuf__struct_give(void *out, const void *result, size_t known, size_t least)
{
    uint64_t size;

    memcpy(&size, out, sizeof size);
    return write_struct(out, size, result, known, least);
}

int migbuf__struct_take(void *out, size_t known, const void *given, size_t least)
{
    const unsigned char *bytes = given;
    uint64_t size, ours = known;

    memcpy(&size, given, sizeof size);
    if (size < least || size > MAX_STRUCT_BYTES)
        return MIGBUF_E_STRUCT;
    for (uint64_t i = known; i < size; i++)
        if (bytes[i])
            return MIGBUF_E_STRUCT;
    memcpy(out, given, size < known ? (size_t)size : known);
    memcpy(out, &ours, sizeof ours);
    return 0;
}
