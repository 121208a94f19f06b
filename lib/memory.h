/* SPDX-License-Identifier: MIT */
/* memory: every allocation of a handle goes through its allocator, by these three functions. Private. */
#ifndef MIGBUF_LIB_MEMORY_H
#define MIGBUF_LIB_MEMORY_H
#include "migbuf/error.h"

/* A copy of *given, or malloc's where given is NULL. */
struct migbuf_allocator migbuf__allocator(const struct migbuf_allocator *given);

/* As realloc of an array: NULL on overflow or when there is no memory, and then the old array is intact. */
void *migbuf__resize(const struct migbuf_allocator *a, void *pointer, size_t old_count, size_t new_count, size_t item);

/* free(NULL) is fine; bytes is what was asked for. */
void migbuf__free(const struct migbuf_allocator *a, void *pointer, size_t bytes);

/* Fills *e where the caller wants it, and returns code. */
int migbuf__fail(struct migbuf_error *e, int code, const char *text);
int migbuf__fail_numbers(struct migbuf_error *e, int code, const char *text, uint64_t need, uint64_t have);
int migbuf__fail_errno(struct migbuf_error *e, int code, const char *text, int os_errno);

/* Rules of a growing struct (size field first): 0, or MIGBUF_E_STRUCT when `size` is below `least`, or when a byte
 * beyond `known` is not zero. */
int migbuf__struct_check(const void *p, uint64_t size, size_t least, size_t known);
#endif
