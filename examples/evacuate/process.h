/* SPDX-License-Identifier: MIT */
/*
 * Processes we start with only the descriptors they are given and end by pid with a deadline. Mostly children that cannot
 * outlive us: killed by the kernel when the thread that started them ends, always reaped. Or ones that shall outlive us,
 * and that whoever comes after us finds again by a file. Knows nothing of QEMU.
 */
#ifndef EVACUATE_PROCESS_H
#define EVACUATE_PROCESS_H
#include "fail.h"
#include <stdbool.h>
#include <sys/types.h>

struct process {
    pid_t pid;           /* 0 once it is reaped or was never started */
    int pidfd;           /* readable (POLLIN) when it has ended; -1 on kernels without pidfd_open */
    int status;          /* as waitpid gives it, valid when pid is 0 again */
    uint64_t kill_at_ns; /* when SIGTERM becomes SIGKILL; 0 while nobody wants it to end */
    int life_fd;         /* adopted: of the file it holds locked as long as it lives. Else 0: it is our child */
};

/*
 * Starts argv[0] (looked up in PATH) with stdin from /dev/null, stdout and stderr to output_fd, nothing else inherited,
 * in its own process group so that a terminal's Ctrl-C reaches only us. A program that cannot be executed is a failure
 * here. The calling thread must live as long as the child is wanted: PR_SET_PDEATHSIG looks at the thread, not the
 * process.
 */
int process_start(struct process *process, const char *const argv[], int output_fd, char error[FAIL_SIZE]);

/*
 * The same, but it outlives us, in a session of its own. It holds `life`, a file made for it, locked (flock) until it
 * ends, however that happens: the lock and not the number in it says whether it lives, so neither a pid that was given
 * to somebody else nor our death between fork and exec can mislead. Fails when the last one still lives.
 */
int process_start_outliving(struct process *process, const char *const argv[], int output_fd, const char *life,
                            char error[FAIL_SIZE]);

/* Finds it again. 1: it lives and *process is it (its exit status nobody will know), 0: it does not, -1: failed. */
int process_adopt(struct process *process, const char *life, char error[FAIL_SIZE]);

/* Does it still run? Reaps it when it does not. Never blocks. */
bool process_runs(struct process *process);

/* SIGTERM now and SIGKILL after grace_ms; process_step() does the waiting, call it from the loop until it says false.
 */
void process_end_begin(struct process *process, uint64_t now, uint32_t grace_ms);
bool process_step(struct process *process, uint64_t now);

/* Nobody looked for so long, and it may have been stopped as long: SIGKILL comes so much later. */
void process_slept(struct process *process, uint64_t ns);

/* The same, waiting: at most grace_ms, then until the kernel has let the killed process go. Fine when it is gone. */
void process_end(struct process *process, uint32_t grace_ms);

/* "ended with status 1", "was killed by signal 9": for messages. `text` is what is returned. */
const char *process_describe(const struct process *process, char text[64]);

/* Runs a short program to its end; fails, with the last of its output, when it exits other than 0 or takes too long. */
int process_run(const char *const argv[], uint32_t timeout_ms, char error[FAIL_SIZE]);

/* The last of what is in a file, as text without its final newline, for messages. Empty when there is nothing. */
void process_tail(int fd, char *text, size_t size);
#endif
