/* SPDX-License-Identifier: MIT */
/* qmp_qemu: a QEMU without a machine in a directory of its own, for tests and measurements of the QMP adapter. It ends
 * with the process that started it, whatever happens there. */
#ifndef MIGBUF_TESTS_QMP_QEMU_H
#define MIGBUF_TESTS_QMP_QEMU_H
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

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

static inline void qemu_run(const struct qemu *q, const char *second_mode, pid_t parent)
{
    char first[96], second[96], monitor[64];

    snprintf(first, sizeof first, "unix:%s,server=on,wait=off", q->qmp);
    snprintf(second, sizeof second, "socket,id=second,path=%s,server=on,wait=off", q->second);
    snprintf(monitor, sizeof monitor, "chardev=second,mode=control,%s", second_mode);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() == parent)
        execlp("qemu-system-x86_64", "qemu-system-x86_64", "-M", "none", "-nodefaults", "-display", "none", "-accel",
               "tcg", "-qmp", first, "-chardev", second, "-mon", monitor, (char *)NULL);
    _exit(127);
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

/* False when there is no QEMU here, or when it does not start within 20 s. second_mode: "pretty=on" or "pretty=off". */
static inline bool qemu_start(struct qemu *q, const char *second_mode)
{
    pid_t parent = getpid();

    memset(q, 0, sizeof *q);
    strcpy(q->directory, "/tmp/migbuf-qemu-XXXXXX");
    if (!mkdtemp(q->directory))
        return false;
    snprintf(q->qmp, sizeof q->qmp, "%s/qmp", q->directory);
    snprintf(q->second, sizeof q->second, "%s/second", q->directory);
    q->pid = fork();
    if (q->pid == 0)
        qemu_run(q, second_mode, parent);
    for (int i = 0; i < 2000 && q->pid > 0; i++) {
        if (access(q->qmp, F_OK) == 0 && access(q->second, F_OK) == 0)
            return true;
        if (waitpid(q->pid, NULL, WNOHANG) == q->pid)
            q->pid = 0;
        sleep_ms(10);
    }
    qemu_stop(q);
    return false;
}
#endif
