/* SPDX-License-Identifier: MIT */
/* trees: how many bytes jansson holds, and held at most. json_set_alloc_funcs(tree_malloc, tree_free) begins it. For each thread. */
#ifndef MIGBUF_TESTS_TREES_H
#define MIGBUF_TESTS_TREES_H
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

static _Thread_local uint64_t trees_bytes, most_trees_bytes;

static void *tree_malloc(size_t bytes)
{
    size_t *block = malloc(sizeof(max_align_t) + bytes);

    if (!block)
        return NULL;
    *block = bytes;
    trees_bytes += bytes;
    most_trees_bytes = trees_bytes > most_trees_bytes ? trees_bytes : most_trees_bytes;
    return (char *)block + sizeof(max_align_t);
}

static void tree_free(void *pointer)
{
    size_t *block = pointer ? (size_t *)((char *)pointer - sizeof(max_align_t)) : NULL;

    trees_bytes -= block ? *block : 0;
    free(block);
}
#endif
