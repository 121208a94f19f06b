/* SPDX-License-Identifier: MIT */
/*
 * cage PROGRAM [ARGUMENT...]: runs it as if the kernel had a vhost-vsock and let it lock memory. Three system calls are
 * answered otherwise, everything else is the kernel's:
 *
 *   ioctl(VHOST_VSOCK_SET_GUEST_CID)    "done", whatever the file is
 *   a new RLIMIT_MEMLOCK                "done"; Incus wants it without limit, which only the passing of devices needs
 *   bind(AF_VSOCK, the host's CID)      binds to any CID instead: there is no host's side here
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <linux/vm_sockets.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#define SET_GUEST_CID 0x4008af60 /* VHOST_VSOCK_SET_GUEST_CID of linux/vhost.h */

#define LOAD(offset) { BPF_LD | BPF_W | BPF_ABS, 0, 0, offset }
#define LOAD_NUMBER LOAD(offsetof(struct seccomp_data, nr))
#define LOAD_ARGUMENT(i) LOAD(offsetof(struct seccomp_data, args) + 8 * (i))
#define IF(value, yes, no) { BPF_JMP | BPF_JEQ | BPF_K, yes, no, value }
#define ANSWER(action) { BPF_RET | BPF_K, 0, 0, action }

/* Which calls are answered how; jumps count the lines to leave out. */
static struct sock_filter lines[] = {
    /*  0 */ LOAD_NUMBER,
    /*  1 */ IF(SYS_ioctl, 4, 0),
    /*  2 */ IF(SYS_prlimit64, 6, 0),
    /*  3 */ IF(SYS_setrlimit, 9, 0),
    /*  4 */ IF(SYS_bind, 10, 0),
    /*  5 */ ANSWER(SECCOMP_RET_ALLOW),
    /*  6 */ LOAD_ARGUMENT(1), /* of ioctl: the request */
    /*  7 */ IF(SET_GUEST_CID, 10, 0),
    /*  8 */ ANSWER(SECCOMP_RET_ALLOW),
    /*  9 */ LOAD_ARGUMENT(2), /* of prlimit64: a new limit, or NULL */
    /* 10 */ IF(0, 6, 0),
    /* 11 */ LOAD_ARGUMENT(1),
    /* 12 */ IF(RLIMIT_MEMLOCK, 5, 4),
    /* 13 */ LOAD_ARGUMENT(0), /* of setrlimit */
    /* 14 */ IF(RLIMIT_MEMLOCK, 3, 2),
    /* 15 */ LOAD_ARGUMENT(2), /* of bind: only addresses as long as that of a vsock are looked at */
    /* 16 */ IF(sizeof(struct sockaddr_vm), 2, 0),
    /* 17 */ ANSWER(SECCOMP_RET_ALLOW),
    /* 18 */ ANSWER(SECCOMP_RET_ERRNO), /* errno 0: success */
    /* 19 */ ANSWER(SECCOMP_RET_USER_NOTIF),
};

/* The process of a thread: only it has a pidfd. */
static int process_of(int thread)
{
    char path[64], line[128];
    int process = thread;
    FILE *f;

    snprintf(path, sizeof path, "/proc/%d/status", thread);
    f = fopen(path, "r");
    while (f && fgets(line, sizeof line, f))
        if (sscanf(line, "Tgid: %d", &process) == 1)
            break;
    if (f)
        fclose(f);
    return process;
}

/* A descriptor of another process as one of ours; -1 with errno. */
static int descriptor_of(int process, int number)
{
    int pidfd = (int)syscall(SYS_pidfd_open, process, 0), fd, failed;

    if (pidfd < 0)
        return -1;
    fd = (int)syscall(SYS_pidfd_getfd, pidfd, number, 0);
    failed = errno;
    close(pidfd);
    errno = failed;
    return fd;
}

/* 1: a bind to the host's CID, carried out to any, with what it returned in *result. 0: another one. */
static int bind_for(const struct seccomp_notif *call, int *result)
{
    union {
        struct sockaddr_vm vm;
        char room[64]; /* longer than a vsock's, so that whoever is caged with us is not asked about it */
    } a = { .room = "" };
    char path[64];
    int memory, fd;
    ssize_t n;

    snprintf(path, sizeof path, "/proc/%d/mem", (int)call->pid);
    memory = open(path, O_RDONLY | O_CLOEXEC);
    if (memory < 0)
        return 0;
    n = pread(memory, &a.vm, sizeof a.vm, (off_t)call->data.args[1]);
    close(memory);
    if (n != sizeof a.vm || a.vm.svm_family != AF_VSOCK || a.vm.svm_cid != VMADDR_CID_HOST)
        return 0;
    a.vm.svm_cid = VMADDR_CID_ANY;
    fd = descriptor_of(process_of((int)call->pid), (int)call->data.args[0]);
    *result = fd < 0 || bind(fd, (struct sockaddr *)&a, sizeof a) ? -errno : 0;
    if (fd >= 0)
        close(fd);
    return 1;
}

/* Until nobody is caged any more. */
static void answer_all(int listener)
{
    struct pollfd p = { .fd = listener, .events = POLLIN };

    while (poll(&p, 1, -1) < 0 || !(p.revents & (POLLHUP | POLLERR | POLLNVAL))) {
        struct seccomp_notif call = { .id = 0 };
        struct seccomp_notif_resp answer = { .id = 0 };
        int result = 0;

        if (ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, &call))
            continue;
        answer.id = call.id;
        if (bind_for(&call, &result))
            answer.error = result;
        else
            answer.flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE;
        ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &answer);
    }
}

/* The child: not under the filter itself, so that it ends when nobody is any more. */
static int supervise(pid_t caged, int from)
{
    int listener;

    setsid();
    if (read(from, &listener, sizeof listener) != sizeof listener)
        return 1;
    close(from);
    listener = descriptor_of(caged, listener);
    kill(caged, SIGCONT); /* it may close its own now */
    if (listener < 0)
        return 1;
    answer_all(listener);
    return 0;
}

int main(int argc, char **argv)
{
    struct sock_fprog program = { .len = sizeof lines / sizeof *lines, .filter = lines };
    int listener, pair[2], got;
    pid_t self = getpid(), child;
    sigset_t taken;

    if (argc < 2) {
        fputs("usage: cage PROGRAM [ARGUMENT...]\n", stderr);
        return 2;
    }
    sigemptyset(&taken);
    sigaddset(&taken, SIGCONT);
    sigprocmask(SIG_BLOCK, &taken, NULL);
    if (pipe(pair) || (child = fork()) < 0) {
        perror("cage");
        return 1;
    }
    if (!child) {
        close(pair[1]);
        return supervise(self, pair[0]);
    }
    listener = (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER, &program);
    if (listener < 0 || write(pair[1], &listener, sizeof listener) != sizeof listener) {
        perror("cage: seccomp");
        return 1;
    }
    sigwait(&taken, &got);
    sigprocmask(SIG_UNBLOCK, &taken, NULL);
    close(listener);
    close(pair[0]);
    close(pair[1]);
    execvp(argv[1], argv + 1);
    perror(argv[1]);
    return 127;
}
