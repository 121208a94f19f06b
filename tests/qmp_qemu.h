/* SPDX-License-Identifier: MIT */
/* qmp_qemu: a QEMU in a directory of its own, for tests and measurements of the QMP adapter: without a machine, or with
 * what the test says. It ends with the process that started it, whatever happens there. Environment: MIGBUF_QEMU, another
 * QEMU than the one in PATH. */
#ifndef MIGBUF_TESTS_QMP_QEMU_H
#define MIGBUF_TESTS_QMP_QEMU_H
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define QEMU_MISSING 127 /* how its process ends when there is no such program */

struct qemu {
    pid_t pid;
    char directory[32];
    char qmp[48];    /* a monitor */
    char second[48]; /* another one, as `second_mode` says */
};

static inline void sleep_ms(int ms)
{
    nanosleep(&(struct timespec){ .tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000L }, NULL);
}

#define QEMU_ARGUMENTS 64

static inline const char *qemu_program(void)
{
    return getenv("MIGBUF_QEMU") ? getenv("MIGBUF_QEMU") : "qemu-system-x86_64";
}

static inline void qemu_run(const struct qemu *q, const char *second_mode, const char *const *machine, pid_t parent)
{
    const char *argv[QEMU_ARGUMENTS + 16] = { "qemu-system-x86_64", "-nodefaults", "-display", "none", "-accel", "tcg" };
    size_t n = 6;
    char first[96], second[96], monitor[64];

    snprintf(first, sizeof first, "unix:%s,server=on,wait=off", q->qmp);
    snprintf(second, sizeof second, "socket,id=second,path=%s,server=on,wait=off", q->second);
    snprintf(monitor, sizeof monitor, "chardev=second,mode=control,%s", second_mode);
    for (const char *const *more = (const char *const[]){ "-qmp", first, "-chardev", second, "-mon", monitor, NULL }; *more; more++)
        argv[n++] = *more;
    for (; *machine && n < QEMU_ARGUMENTS; machine++)
        argv[n++] = *machine;
    dup2(open("/dev/null", O_WRONLY | O_CLOEXEC), STDOUT_FILENO); /* the test's is TAP */
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() == parent && !*machine)
        execvp(qemu_program(), (char *const *)(uintptr_t)argv);
    _exit(QEMU_MISSING);
}

static inline void qemu_stop(struct qemu *q)
{
    if (q->pid > 0) {
        kill(q->pid, SIGKILL);
        waitpid(q->pid, NULL, 0);
    }
    q->pid = 0;
    unlink(q->qmp);
    unlink(q->second);
    rmdir(q->directory);
}

/* A socket has its name a moment before anybody listens. */
static inline bool qemu_listens(const char *path)
{
    FILE *f = fopen("/proc/net/unix", "re");
    char line[256];
    bool found = false;

    while (f && !found && fgets(line, sizeof line, f))
        found = strstr(line, " 00010000 ") && strstr(line, path) && !strcmp(strstr(line, path) + strlen(path), "\n");
    if (f)
        fclose(f);
    return found;
}

/* Waits until it is stopped indeed: a signal takes its time. */
static inline void qemu_freeze(const struct qemu *q)
{
    char path[32], line[64] = "";

    kill(q->pid, SIGSTOP);
    snprintf(path, sizeof path, "/proc/%d/status", (int)q->pid);
    while (strncmp(line, "State:\tT", 8)) {
        FILE *f = fopen(path, "re");

        while (f && fgets(line, sizeof line, f) && strncmp(line, "State:", 6))
            ;
        if (f)
            fclose(f);
        sleep_ms(1);
    }
}

static inline bool qemu_make_directory(struct qemu *q)
{
    memset(q, 0, sizeof *q);
    strcpy(q->directory, "/tmp/migbuf-qemu-XXXXXX");
    return mkdtemp(q->directory) != NULL;
}

/* With these arguments, the last one NULL, in the directory that was made. 1; 0: there is no QEMU here; -1: it does not
 * start. second_mode: "pretty=on" or "pretty=off". */
static inline int qemu_start_with(struct qemu *q, const char *second_mode, const char *const *machine)
{
    pid_t parent = getpid();
    int status = 0;

    snprintf(q->qmp, sizeof q->qmp, "%s/qmp", q->directory);
    snprintf(q->second, sizeof q->second, "%s/second", q->directory);
    q->pid = fork();
    if (q->pid == 0)
        qemu_run(q, second_mode, machine, parent);
    while (q->pid > 0) { /* both listen, or it has ended */
        if (qemu_listens(q->qmp) && qemu_listens(q->second))
            return 1;
        if (waitpid(q->pid, &status, WNOHANG) == q->pid)
            q->pid = 0;
        sleep_ms(10);
    }
    qemu_stop(q);
    return WIFEXITED(status) && WEXITSTATUS(status) == QEMU_MISSING ? 0 : -1;
}

/* Without a machine. */
static inline int qemu_start(struct qemu *q, const char *second_mode)
{
    return qemu_make_directory(q) ? qemu_start_with(q, second_mode, (const char *const[]){ "-M", "none", NULL }) : -1;
}
#endif
