/* SPDX-License-Identifier: MIT */
/* memory: every allocation of a handle goes through its allocator, by these three functions. Private. */
#ifndef MIGBUF_LIB_MEMORY_H
#define MIGBUF_LIB_MEMORY_H
#include "migbuf/error.h"

/* Of a function that is called seldom: to be small rather than fast, with all that only it calls. */
#define MIGBUF__SELDOM __attribute__((cold))

/* A copy of *given, or malloc's where given is NULL. */
struct migbuf_allocator migbuf__allocator(const struct migbuf_allocator *given);

/* As realloc of an array: NULL on overflow or when there is no memory, and then the old array is intact. */
void *migbuf__resize(const struct migbuf_allocator *a, void *pointer, size_t old_count, size_t new_count, size_t item);

/* free(NULL) is fine; bytes is what was asked for. */
void migbuf__free(const struct migbuf_allocator *a, void *pointer, size_t bytes);

/* Fills *e where the caller wants it, and returns code. */
int migbuf__fail(struct migbuf_error *e, int code, const char *text);
int migbuf__fail_numbers(struct migbuf_error *e, int code, const char *text, uint64_t need, uint64_t have);
int migbuf__fail_caution(struct migbuf_error *e, int code, const char *text, uint64_t need, uint64_t have,
                         uint64_t caution);
int migbuf__fail_errno(struct migbuf_error *e, int code, const char *text, int os_errno);

/* Growing structs: those whose first field is `uint64_t size`. `known` is their size in this library, `least` that of
 * their first version, MIGBUF__FIRST(type, its last field then): a program compiled with that one is served for ever.
 * All return 0 or MIGBUF_E_STRUCT, and then nothing is written. */
#define MIGBUF__FIRST(type, last) (offsetof(type, last) + sizeof(((type *)0)->last))

/* An _init: as much of *defaults as `size` holds, zeros beyond what is known. MIGBUF_E_INVALID for NULL. */
int migbuf__struct_init(void *out, uint64_t size, const void *defaults, size_t known, size_t least);
/* A parameter: what *given has goes into *out, which holds the defaults; a byte beyond what is known must be 0. */
int migbuf__struct_take(void *out, size_t known, const void *given, size_t least);
/* A result: as much of *result as the caller's out->size holds, zeros beyond what is known; size stays. */
int migbuf__struct_give(void *out, const void *result, size_t known, size_t least);
#endif
