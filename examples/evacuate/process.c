/* SPDX-License-Identifier: MIT */
/* Children, and how those that outlive us are found again. Between fork and exec only async-signal-safe calls are made. */
#include "process.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* Marks every descriptor above stderr close-on-exec, also those a library opened without asking us. */
static void close_on_exec(void)
{
#ifdef SYS_close_range
    if (!syscall(SYS_close_range, 3u, ~0u, 4u /* CLOSE_RANGE_CLOEXEC */))
        return;
#endif
    for (int fd = 3; fd < 4096; fd++) {
        int flags = fcntl(fd, F_GETFD);

        if (flags >= 0)
            fcntl(fd, F_SETFD, flags | FD_CLOEXEC);
    }
}

/* Our number into the file that we keep locked; without stdio, which is not for the time between fork and exec. */
static void sign(int life_fd)
{
    char digits[24];
    size_t at = sizeof digits;

    digits[--at] = '\n';
    for (pid_t pid = getpid(); pid; pid /= 10)
        digits[--at] = (char)('0' + pid % 10);
    if (ftruncate(life_fd, 0) || pwrite(life_fd, digits + at, sizeof digits - at, 0) < 0)
        _exit(126);
}

/* life_fd -1: ends with its parent. */
_Noreturn static void child(const char *const argv[], int output_fd, int report_fd, pid_t parent, int life_fd)
{
    sigset_t none;
    int reason, null;

    if (life_fd >= 0) {
        setsid();
        sign(life_fd);
    } else {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != parent) /* it ended before the line above */
            _exit(127);
        setpgid(0, 0);
    }
    for (int i = 1; i < NSIG; i++) /* our handlers must not run here, and an ignored signal stays ignored over exec */
        signal(i, SIG_DFL);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    null = open("/dev/null", O_RDONLY | O_CLOEXEC);
    if (null < 0 || dup2(null, 0) < 0 || dup2(output_fd, 1) < 0 || dup2(output_fd, 2) < 0)
        goto out;
    close_on_exec();
    if (life_fd >= 0)
        fcntl(life_fd, F_SETFD, 0);
    execvp(argv[0], (char *const *)argv);
out:
    reason = errno;
    if (write(report_fd, &reason, sizeof reason) < 0)
        _exit(126);
    _exit(127);
}

static int start(struct process *process, const char *const argv[], int output_fd, int life_fd, char error[FAIL_SIZE])
{
    int report[2], reason = 0;
    pid_t self = getpid();
    sigset_t all, before;
    ssize_t n;

    *process = (struct process){ .pidfd = -1 };
    if (pipe2(report, O_CLOEXEC))
        return fail(error, "pipe: %s", strerror(errno));
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, &before);
    process->pid = fork();
    if (!process->pid)
        child(argv, output_fd, report[1], self, life_fd);
    reason = errno;
    sigprocmask(SIG_SETMASK, &before, NULL);
    if (process->pid < 0) {
        process->pid = 0;
        close(report[0]), close(report[1]);
        return fail(error, "fork: %s", strerror(reason));
    }
    close(report[1]);
    do /* ends at the exec, which closes the other side */
        n = read(report[0], &reason, sizeof reason);
    while (n < 0 && errno == EINTR);
    close(report[0]);
    if (n > 0) {
        process_end(process, 0);
        return fail(error, "cannot run %s: %s", argv[0], strerror(reason));
    }
#ifdef SYS_pidfd_open
    process->pidfd = (int)syscall(SYS_pidfd_open, process->pid, 0); /* close-on-exec by itself */
#endif
    return 0;
}

int process_start(struct process *process, const char *const argv[], int output_fd, char error[FAIL_SIZE])
{
    return start(process, argv, output_fd, -1, error);
}

int process_start_outliving(struct process *process, const char *const argv[], int output_fd, const char *life,
                            char error[FAIL_SIZE])
{
    int fd = open(life, O_RDWR | O_CREAT | O_CLOEXEC, 0600), rc;

    *process = (struct process){ .pidfd = -1 };
    if (fd < 0)
        return fail(error, "%s: %s", life, strerror(errno));
    if (flock(fd, LOCK_EX | LOCK_NB))
        rc = fail(error, "%s: %s", life, errno == EWOULDBLOCK ? "the one before still runs" : strerror(errno));
    else if (ftruncate(fd, 0)) /* the number of the one before */
        rc = fail(error, "%s: %s", life, strerror(errno));
    else
        rc = start(process, argv, output_fd, fd, error);
    close(fd); /* the child's copy keeps the lock */
    return rc;
}

#define SIGN_MS 5000 /* from being started until it has written its number: one fork on a busy machine */

/* The lock is held: by a process that has written its number or is about to. 0 when it has ended instead, -1 when the
 * number does not come. */
static pid_t read_number(int fd)
{
    for (int ms = 0; ms < SIGN_MS; ms++) {
        char text[24] = "";
        ssize_t n = pread(fd, text, sizeof text - 1, 0);

        if (n > 0 && text[n - 1] == '\n')
            return (pid_t)atol(text);
        if (!flock(fd, LOCK_EX | LOCK_NB))
            return 0;
        poll(NULL, 0, 1);
    }
    return -1;
}

int process_adopt(struct process *process, const char *life, char error[FAIL_SIZE])
{
    int fd = open(life, O_RDWR | O_CLOEXEC);
    pid_t pid = 0;

    *process = (struct process){ .pidfd = -1 };
    if (fd < 0)
        return errno == ENOENT ? 0 : fail(error, "%s: %s", life, strerror(errno));
    if (flock(fd, LOCK_EX | LOCK_NB))
        pid = read_number(fd);
    if (pid <= 0) {
        close(fd);
        return pid ? fail(error, "%s: it is held by a process that does not say which it is", life) : 0;
    }
    *process = (struct process){ .pid = pid, .pidfd = -1, .life_fd = fd };
#ifdef SYS_pidfd_open
    process->pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
#endif
    return process_runs(process); /* asked after pidfd_open: then that is the one, and stays it */
}

#define NOBODY_KNOWS (-1) /* how it ended */

/* Our own wait status where the real one is lost, because the host program ignores SIGCHLD. */
static void forget(struct process *process, int status)
{
    if (process->pidfd >= 0)
        close(process->pidfd);
    if (process->life_fd)
        close(process->life_fd);
    *process = (struct process){ .pidfd = -1, .status = status };
}

bool process_runs(struct process *process)
{
    int status = 0;
    pid_t got;

    if (!process->pid)
        return false;
    if (process->life_fd) {
        if (flock(process->life_fd, LOCK_EX | LOCK_NB))
            return true;
        forget(process, NOBODY_KNOWS);
        return false;
    }
    do
        got = waitpid(process->pid, &status, WNOHANG);
    while (got < 0 && errno == EINTR);
    if (!got)
        return true;
    forget(process, got < 0 ? 0 : status);
    return false;
}

/* An adopted one is reaped by somebody else, and its number may be given to another at any time: not so the pidfd. */
static void send_signal(const struct process *process, int number)
{
#ifdef SYS_pidfd_send_signal
    if (process->pidfd >= 0 && !syscall(SYS_pidfd_send_signal, process->pidfd, number, NULL, 0))
        return;
#endif
    if (process->pidfd < 0 || !process->life_fd)
        kill(process->pid, number);
}

void process_end_begin(struct process *process, uint64_t now, uint32_t grace_ms)
{
    if (!process->pid || process->kill_at_ns)
        return;
    send_signal(process, SIGTERM);
    send_signal(process, SIGCONT); /* a stopped process cannot act on SIGTERM */
    process->kill_at_ns = now + grace_ms * UINT64_C(1000000);
}

void process_slept(struct process *process, uint64_t ns)
{
    process->kill_at_ns += process->kill_at_ns ? ns : 0;
}

bool process_step(struct process *process, uint64_t now)
{
    if (!process_runs(process))
        return false;
    if (process->kill_at_ns && now >= process->kill_at_ns)
        send_signal(process, SIGKILL);
    return true;
}

void process_end(struct process *process, uint32_t grace_ms)
{
    process_end_begin(process, now_ns(), grace_ms);
    while (process_step(process, now_ns())) {
        struct pollfd ended = { .fd = process->pidfd, .events = POLLIN };

        poll(&ended, 1, process->pidfd >= 0 ? 20 : 2); /* with fd -1 it is a plain pause */
    }
}

const char *process_describe(const struct process *process, char text[64])
{
    if (process->pid)
        snprintf(text, 64, "still runs");
    else if (process->status == NOBODY_KNOWS)
        snprintf(text, 64, "has ended");
    else if (WIFSIGNALED(process->status))
        snprintf(text, 64, "was killed by signal %d", WTERMSIG(process->status));
    else
        snprintf(text, 64, "ended with status %d", WEXITSTATUS(process->status));
    return text;
}

void process_tail(int fd, char *text, size_t size)
{
    struct stat s;
    ssize_t n = 0;

    if (!size)
        return;
    if (!fstat(fd, &s)) {
        off_t from = s.st_size < (off_t)size ? 0 : s.st_size - (off_t)size + 1;

        n = pread(fd, text, size - 1, from);
    }
    if (n < 0)
        n = 0;
    while (n > 0 && text[n - 1] == '\n')
        n--;
    text[n] = 0;
}

int process_run(const char *const argv[], uint32_t timeout_ms, char error[FAIL_SIZE])
{
    char tail[512], how[64];
    struct process process;
    uint64_t deadline = now_ns() + timeout_ms * UINT64_C(1000000);
    int output = memfd_create("output", MFD_CLOEXEC);
    bool late = false;

    if (output < 0)
        return fail(error, "memfd_create: %s", strerror(errno));
    if (process_start(&process, argv, output, error)) {
        close(output);
        return -1;
    }
    while (process_runs(&process) && !late) {
        struct pollfd ended = { .fd = process.pidfd, .events = POLLIN };

        late = now_ns() >= deadline;
        poll(&ended, 1, process.pidfd >= 0 ? 20 : 2);
    }
    process_end(&process, 0);
    process_tail(output, tail, sizeof tail);
    close(output);
    if (late)
        return fail(error, "%s took more than %u ms: %s", argv[0], timeout_ms, tail);
    if (process.status)
        return fail(error, "%s %s: %s", argv[0], process_describe(&process, how), tail);
    return 0;
}
