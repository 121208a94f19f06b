/* SPDX-License-Identifier: MIT */
/* Numbers go out through one pipe, whoever is free takes the next, and come back through another. See workers.h. */
#include "workers.h"
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

void *workers_memory(size_t bytes)
{
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    return p == MAP_FAILED ? NULL : p;
}

uint32_t workers_jobs(void)
{
    long processors = sysconf(_SC_NPROCESSORS_ONLN);

    return processors > 0 ? (uint32_t)processors : 1;
}

static void work(const struct workers *w, int tasks, int finished)
{
    uint32_t k;

    while (read(tasks, &k, sizeof k) == (ssize_t)sizeof k) {
        w->run(w->of, k);
        if (write(finished, &k, sizeof k) != (ssize_t)sizeof k)
            break;
    }
    _exit(0);
}

static uint32_t start_workers(const struct workers *w, uint32_t jobs, pid_t *pids, const int tasks[2], const int finished[2])
{
    uint32_t started = 0;

    fflush(NULL);
    for (; started < jobs; started++) {
        pid_t pid = fork();

        if (pid == 0) {
            close(tasks[1]);
            close(finished[0]);
            work(w, tasks[0], finished[1]);
        }
        if (pid < 0)
            break;
        pids[started] = pid;
    }
    return started;
}

/* Nobody ends by himself while there may be more to do. */
static bool one_is_gone(pid_t *pids, uint32_t started)
{
    for (uint32_t k = 0; k < started; k++)
        if (waitpid(pids[k], NULL, WNOHANG) == pids[k]) {
            pids[k] = pids[started - 1];
            pids[started - 1] = 0;
            return true;
        }
    return false;
}

/* A number that is finished. The others hold the pipe open, and may fill it without end: who has died is asked for. */
static int take(pid_t *pids, uint32_t started, int finished, uint32_t *k, char error[FAIL_SIZE])
{
    struct pollfd p = { .fd = finished, .events = POLLIN };

    do {
        if (one_is_gone(pids, started))
            return fail(error, "a worker is gone: its run is not finished");
    } while (poll(&p, 1, 500) == 0);
    return read(finished, k, sizeof *k) == (ssize_t)sizeof *k ? 0 : fail(error, "a worker is gone: its run is not finished");
}

/* One more than there are workers is on its way, so that nobody waits for us. */
static int feed(const struct workers *w, pid_t *pids, uint32_t started, int tasks, int finished, char error[FAIL_SIZE])
{
    size_t next = 0, out = 0;
    uint32_t k;

    for (;;) {
        for (; out < started + 1 && next < w->count; next++)
            if (!w->is_done(w->of, next)) {
                k = (uint32_t)next;
                if (write(tasks, &k, sizeof k) != (ssize_t)sizeof k)
                    return fail(error, "a worker is gone: %s", strerror(errno));
                out++;
            }
        if (!out)
            return 0;
        if (take(pids, started, finished, &k, error))
            return -1;
        out--;
        w->ran(w->of, k);
    }
}

int workers_run(const struct workers *w, uint32_t jobs, char error[FAIL_SIZE])
{
    int tasks[2], finished[2], rc;
    pid_t *pids = calloc(jobs ? jobs : 1, sizeof *pids);
    void (*pipe_before)(int);
    uint32_t started;

    if (!pids || pipe(tasks) || pipe(finished)) {
        free(pids);
        return fail(error, "no pipe, or no memory: %s", strerror(errno));
    }
    started = start_workers(w, jobs, pids, tasks, finished);
    close(tasks[0]);
    close(finished[1]);
    pipe_before = signal(SIGPIPE, SIG_IGN); /* all of them may be gone */
    rc = started ? feed(w, pids, started, tasks[1], finished[0], error) : fail(error, "no process: %s", strerror(errno));
    close(tasks[1]);
    close(finished[0]);
    signal(SIGPIPE, pipe_before);
    for (uint32_t k = 0; k < started; k++)
        if (pids[k] > 0)
            waitpid(pids[k], NULL, 0);
    free(pids);
    return rc;
}

void workers_progress(size_t done, size_t all)
{
    int width = (int)(40 * done / all);

    fprintf(stderr, "\r[%.*s%*s] %zu of %zu runs ", width, "########################################", 40 - width, "",
            done, all);
    if (done == all)
        fputs("\r\033[K", stderr);
}
