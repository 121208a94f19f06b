/* SPDX-License-Identifier: MIT */
/* Runs of the model on several processors: processes that take the next number, and leave their result in shared memory. */
#ifndef SIMULATE_WORKERS_H
#define SIMULATE_WORKERS_H
#include "fail.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct workers {
    void *of; /* results, in memory of workers_memory() */
    size_t count;
    bool (*is_done)(const void *of, size_t k); /* then it is not run */
    void (*run)(void *of, size_t k);           /* in another process */
    void (*ran)(void *of, size_t k);           /* here, after it */
};

/* Zeroed memory that children share; NULL when there is none. To be given back with munmap(). */
void *workers_memory(size_t bytes);
/* As many as there are processors. */
uint32_t workers_jobs(void);
/* 0 when all were run; -1: see error. */
int workers_run(const struct workers *w, uint32_t jobs, char error[FAIL_SIZE]);
/* A line on stderr, which the last call of all removes. */
void workers_progress(size_t done, size_t all);
#endif
